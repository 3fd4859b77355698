"""Microseconds of processor time that parts of a data path take, as JSON; runs in an environment that has them all."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp.http_parser
import h11
import httptools
import msgspec
import orjson
import uvloop

from mcp_gateway.net import heads

BODY = json.dumps(
    {
        "jsonrpc": "2.0",
        "id": 1000000000,
        "method": "tools/call",
        "params": {
            "name": "canned__echo",
            "arguments": {"text": "y" * 100},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    },
    separators=(",", ":"),
).encode()
REQUEST = (
    b"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:8080\r\ncontent-type: application/json\r\n"
    b"accept: application/json, text/event-stream\r\ncontent-length: %d\r\nmcp-protocol-version: 2026-07-28\r\n"
    b"mcp-method: tools/call\r\nmcp-name: canned__echo\r\nauthorization: Bearer 0123456789abcdef\r\n\r\n%b"
) % (len(BODY), BODY)
REPEATS = 7
ROUND_SECONDS = 0.05


def cost(work: Callable[[], Any]) -> float:
    """Microseconds per call: the best of some rounds, which is the one that was disturbed least."""
    work()
    count, best = 1, float("inf")
    while True:
        start = time.process_time()
        for _ in range(count):
            work()
        if (took := time.process_time() - start) >= ROUND_SECONDS:
            break
        count *= 2
    for _ in range(REPEATS):
        start = time.process_time()
        for _ in range(count):
            work()
        best = min(best, (time.process_time() - start) / count, took / count)
    return best * 1e6


_secrets: dict[bytes, tuple[str, str]] = {}


class _Collecting:
    """Takes what a request consists of, as a server must."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.body = data

    def on_message_complete(self) -> None:
        self.headers = {}


def _h11() -> Callable[[], None]:
    def work() -> None:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(REQUEST)
        while not isinstance(connection.next_event(), h11.EndOfMessage):
            pass

    return work


def _known_lines() -> None:
    end = REQUEST.find(b"\r\n\r\n")
    first = REQUEST.find(b"\r\n")
    if heads.fields(REQUEST[first + 2 : end].split(b"\r\n"), _secrets) is None:
        raise ValueError("the request is not of the usual form")


def _httptools() -> Callable[[], None]:
    parser = httptools.HttpRequestParser(_Collecting())
    return lambda: parser.feed_data(REQUEST)


def _aiohttp() -> Callable[[], None]:
    loop = asyncio.new_event_loop()

    class Protocol(aiohttp.base_protocol.BaseProtocol):
        pass

    parser = aiohttp.http_parser.HttpRequestParser(Protocol(loop), loop, 2**16)

    def work() -> None:
        parser.feed_data(REQUEST)

    return work


async def _leaf() -> None:
    """A request that is waited for once, as each call to a server is."""
    waiter = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(waiter.set_result, None)
    await waiter


async def _many(start: Callable[[], Awaitable[None]], count: int) -> float:
    began = time.process_time()
    for _ in range(count // 16):
        await asyncio.gather(*(start() for _ in range(16)))
    return (time.process_time() - began) / count * 1e6


async def _plain(count: int) -> float:
    began = time.process_time()
    for _ in range(count):
        await _leaf()
    return (time.process_time() - began) / count * 1e6


def tasks() -> dict[str, float]:
    """What one task per request adds to a coroutine that waits once."""
    count = 32_000

    def lazy() -> Awaitable[None]:
        return asyncio.Task(_leaf())

    def eager() -> Awaitable[None]:
        return asyncio.Task(_leaf(), loop=asyncio.get_running_loop(), eager_start=True)

    found = {}
    for name, run in (
        ("no task: awaited in the task that is there", lambda: _plain(count)),
        ("a task", lambda: _many(lazy, count)),
        ("a task that starts eagerly", lambda: _many(eager, count)),
    ):
        found[name] = min(uvloop.run(run()) for _ in range(3))
    return found


def main() -> None:
    """Measure and print."""
    decoded = orjson.loads(BODY)
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder()
    print(
        json.dumps(
            {
                "parse a request of 8 headers": {
                    "lines known from before, no parser (`net/heads.py`)": cost(_known_lines),
                    "httptools": cost(_httptools()),
                    "aiohttp's parser": cost(_aiohttp()),
                    "h11": cost(_h11()),
                },
                "decode and encode a call": {
                    "orjson": cost(lambda: orjson.dumps(orjson.loads(BODY))),
                    "msgspec": cost(lambda: encoder.encode(decoder.decode(BODY))),
                    "json": cost(lambda: json.dumps(json.loads(BODY)).encode()),
                },
                "encode it only": {
                    "orjson": cost(lambda: orjson.dumps(decoded)),
                    "msgspec": cost(lambda: encoder.encode(decoded)),
                    "json": cost(lambda: json.dumps(decoded).encode()),
                },
                "run a request that waits once (uvloop)": tasks(),
            }
        )
    )


if __name__ == "__main__":
    main()
