"""A canned MCP server of both eras, cheap enough that what stands before it is what is measured.

It listens on one port and is as many servers as there are paths: ``/s/<name>/mcp`` speaks both eras, ``/legacy/...``
only the versions of 2025, ``/modern/...`` only 2026-07-28. It holds no state; a session id is the same for everyone.

Tools:
    ``echo`` and ``tool_<i>`` return their argument ``text``.
    ``large`` returns one megabyte, ``events`` a thousand progress notifications and then the result, at once.
    ``drip`` and ``drip_events`` take a second for the same, in 20 parts; each says when it was sent (``sent=<ns>;``,
    of CLOCK_MONOTONIC, which all processes of a machine share).
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Coroutine
from typing import Any, cast

import httptools
import orjson
import uvloop

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
LEGACY_VERSIONS = (LEGACY, "2025-06-18", "2025-03-26")
META = "io.modelcontextprotocol/"
LARGE_BYTES = 1_000_000
EVENTS = 1_000
PARTS = 20
DRIP_SECONDS = 1.0

JSON_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
SESSION_HEAD = JSON_HEAD[:-2] + b"mcp-session-id: canned\r\n\r\n"
SSE_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
ACCEPTED = b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
NO_STREAM = b"HTTP/1.1 405 Method Not Allowed\r\nallow: POST, DELETE\r\ncontent-length: 0\r\n\r\n"
REFUSED = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"

TAIL = {False: b'}],"isError":false}}', True: b'}],"isError":false,"resultType":"complete"}}'}
FILLING = b"x" * LARGE_BYTES


def tools(count: int) -> list[dict[str, Any]]:
    """So many tool definitions of a usual size (some 600 bytes each)."""
    names = ["echo", "large", "events", "drip", "drip_events"]
    names += [f"tool_{index}" for index in range(count - len(names))]
    schema = {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "What to return, as it is, in the result's only content block."},
            "limit": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "How many at most; not used."},
        },
        "required": ["text"],
    }
    text = "Returns its argument. The description is as long as those of real servers are: a sentence or two on when "
    text += "to use the tool, what it needs and what comes back, so that lists have a realistic size."
    return [{"name": name, "title": name, "description": text, "inputSchema": schema} for name in names[:count]]


class Answers:
    """Results by method, encoded once."""

    def __init__(self, count: int) -> None:
        info = {"name": "canned", "version": "1"}
        capabilities: dict[str, Any] = {"tools": {}}
        listed = {"tools": tools(count)}
        cached = {"resultType": "complete", "ttlMs": 600_000, "cacheScope": "public"}
        discovered = {
            "supportedVersions": [MODERN],
            "capabilities": capabilities,
            "serverInfo": info,
            "_meta": {f"{META}serverInfo": info},
        }
        self.hello = {"capabilities": capabilities, "serverInfo": info}
        self.fixed: dict[tuple[str, bool], bytes] = {
            ("tools/list", False): orjson.dumps(listed),
            ("tools/list", True): orjson.dumps({**listed, **cached}),
            ("server/discover", True): orjson.dumps({**discovered, **cached}),
            ("ping", False): b"{}",
            ("ping", True): b'{"resultType":"complete"}',
        }


class Connection(asyncio.Protocol):
    """One client's connection; requests on it come one after the other."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._parser = httptools.HttpRequestParser(self)
        self._transport = cast(asyncio.Transport, None)
        self._url = b""
        self._body: list[bytes] = []
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url = url

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        if self._parser.get_method() != b"POST":
            self._transport.write(NO_STREAM)
            return
        message = orjson.loads(body)
        identity = message.get("id")
        if identity is None:
            self._transport.write(ACCEPTED)
            return
        method, params = message["method"], message.get("params") or {}
        modern = f"{META}protocolVersion" in params.get("_meta", ()) or method == "server/discover"
        start = b'{"jsonrpc":"2.0","id":%b,' % orjson.dumps(identity)
        if self._url.startswith(b"/legacy/" if modern else b"/modern/"):
            text = start + b'"error":{"code":-32600,"message":"another version of the protocol is spoken here"}}'
            self._transport.write(REFUSED % len(text) + text)
        elif method == "tools/call":
            self._call(start, identity, params, modern)
        elif method == "initialize" and not modern:
            asked = params.get("protocolVersion")
            hello = {"protocolVersion": asked if asked in LEGACY_VERSIONS else LEGACY, **self._answers.hello}
            text = b'%b"result":%b}' % (start, orjson.dumps(hello))
            self._transport.write(SESSION_HEAD % len(text) + text)
        elif (fixed := self._answers.fixed.get((method, modern))) is not None:
            self._json(b'%b"result":%b}' % (start, fixed))
        else:
            self._json(start + b'"error":{"code":-32601,"message":"Method not found"}}')

    def _json(self, text: bytes) -> None:
        self._transport.write(JSON_HEAD % len(text) + text)

    def _call(self, start: bytes, identity: Any, params: dict[str, Any], modern: bool) -> None:
        name, arguments = params["name"], params.get("arguments") or {}
        opening = start + b'"result":{"content":[{"type":"text","text":'
        text = orjson.dumps(arguments.get("text", ""))
        if name == "large":
            self._json(b"%b%b%b%b" % (opening, text[:-1] + FILLING, b'"', TAIL[modern]))
        elif name == "drip":
            self._later(self._drip(opening, text, TAIL[modern]))
        elif name in ("events", "drip_events"):
            token = (params.get("_meta") or {}).get("progressToken", identity)
            seconds = DRIP_SECONDS if name == "drip_events" else 0.0
            self._later(self._events(opening + text + TAIL[modern], token, seconds))
        else:
            self._json(opening + text + TAIL[modern])

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.ensure_future(work)

    async def _drip(self, opening: bytes, text: bytes, tail: bytes) -> None:
        """One large JSON answer in parts."""
        opening += text[:-1]
        self._transport.write(JSON_HEAD % (len(opening) + LARGE_BYTES + 1 + len(tail)) + opening)
        for _ in range(PARTS):
            stamp = b"sent=%020d;" % time.monotonic_ns()
            self._transport.write(stamp + FILLING[: LARGE_BYTES // PARTS - len(stamp)])
            await asyncio.sleep(DRIP_SECONDS / PARTS)
        self._transport.write(b'"' + tail)

    async def _events(self, response: bytes, token: Any, seconds: float) -> None:
        """Notifications, then the response; with ``seconds`` in bursts, else as fast as they are taken."""
        self._transport.write(SSE_HEAD)
        size = EVENTS // PARTS
        for part in range(PARTS):
            stamp = f"sent={time.monotonic_ns():020d};"
            burst = []
            for index in range(part * size, (part + 1) * size):
                progress = {"progressToken": token, "progress": index + 1, "total": EVENTS, "message": stamp}
                message = {"jsonrpc": "2.0", "method": "notifications/progress", "params": progress}
                burst.append(b"event: message\ndata: %b\n\n" % orjson.dumps(message))
            data = b"".join(burst)
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))
            if seconds:
                await asyncio.sleep(seconds / PARTS)
        last = b"event: message\ndata: %b\n\n" % response
        self._transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last))


async def serve(port: int, count: int) -> None:
    """Serve for ever on loopback."""
    answers = Answers(count)
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(answers), "127.0.0.1", port, backlog=2048
    )
    async with server:
        await server.serve_forever()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tools", type=int, default=10, help="how many tools each server offers")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments.port, arguments.tools))


if __name__ == "__main__":
    main()
