"""Calls a server by one of several HTTP clients, 16 at a time, and prints the microseconds of processor time of each.

Usage: clients.py raw|aiohttp|httpx2 URL COUNT
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import cast
from urllib.parse import urlsplit

import aiohttp
import httptools
import httpx2
import orjson
import uvloop

WIDTH = 16
BODY = orjson.dumps(
    {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo", "arguments": {"text": "y" * 100}}}
)
HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


class Raw(asyncio.Protocol):
    """One connection on asyncio's transport and llhttp, one exchange at a time."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.transport = cast(asyncio.Transport, None)
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.waiter.set_result(self.body)

    async def post(self, request: bytes) -> bytes:
        self.headers: dict[str, str] = {}
        self.body = b""
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return cast(bytes, await self.waiter)


async def measure(post: Callable[[], Awaitable[bytes]], count: int) -> float:
    """Microseconds of processor time per exchange."""

    async def worker() -> None:
        for _ in range(count // WIDTH):
            assert b"yyyy" in await post()

    began = time.process_time()
    await asyncio.gather(*(worker() for _ in range(WIDTH)))
    return (time.process_time() - began) / count * 1e6


async def run(kind: str, url: str, count: int) -> float:
    """Measure one client."""
    if kind == "raw":
        parts = urlsplit(url)
        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        start = f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n{head}content-length: {len(BODY)}\r\n\r\n"
        request = start.encode() + BODY
        loop = asyncio.get_running_loop()
        idle = [(await loop.create_connection(Raw, parts.hostname, parts.port))[1] for _ in range(WIDTH)]

        async def raw() -> bytes:
            connection = idle.pop()
            try:
                return await connection.post(request)
            finally:
                idle.append(connection)

        return await measure(raw, count)
    if kind == "aiohttp":
        async with aiohttp.ClientSession() as session:

            async def by_aiohttp() -> bytes:
                async with session.post(url, data=BODY, headers=HEADERS) as answer:
                    return await answer.read()

            return await measure(by_aiohttp, count)
    async with httpx2.AsyncClient(timeout=30) as client:

        async def by_httpx2() -> bytes:
            return cast(bytes, (await client.post(url, content=BODY, headers=HEADERS)).content)

        return await measure(by_httpx2, count)


if __name__ == "__main__":
    print(uvloop.run(run(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
