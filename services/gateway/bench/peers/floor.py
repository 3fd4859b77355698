"""The least that a gateway in Python can do for a call of 2026-07-28: no tasks, no coroutines.

It checks the credential by its digest, the routing headers and the tool's policy, counts calls in flight, rewrites name
and id, forwards on pooled connections, restores the id, counts and times by outcome, and writes an audit line. It has
no errors, no retries, no second era, no streams: it is a measure, not a gateway. Usage: floor.py URL KEY PORT
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from bisect import bisect
from typing import Any, cast
from urllib.parse import urlsplit

import httptools
import orjson
import uvloop

VERSION = "io.modelcontextprotocol/protocolVersion"
MODERN = "2026-07-28"
WANTED = {
    name: name.decode()
    for name in (b"host", b"origin", b"authorization", b"accept", b"mcp-protocol-version", b"mcp-method", b"mcp-name")
}
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Floor:
    """What all connections share."""

    def __init__(self, url: str, key: str) -> None:
        self.target = urlsplit(url)
        self.principals = {hashlib.sha256(key.encode()).hexdigest(): "bench"}
        self.credentials: dict[str, str] = {}  # by the header's whole value: found once, known from then on
        self.tools = {"canned__echo": "echo"}
        self.idle: list[Back] = []
        self.inflight = 0
        self.ids = 0
        self.outcomes = [0, 0]
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.audit: list[bytes] = []
        self.head = (
            f"POST {self.target.path} HTTP/1.1\r\nhost: {self.target.netloc}\r\ncontent-type: application/json\r\n"
            f"accept: application/json, text/event-stream\r\nmcp-protocol-version: {MODERN}\r\n"
            "mcp-method: tools/call\r\n"
        ).encode()

    def principal(self, credential: str) -> str:
        """Whose credential it is."""
        name = self.credentials.get(credential)
        if name is None:
            token = credential.removeprefix("Bearer ")
            name = self.credentials[credential] = self.principals[hashlib.sha256(token.encode()).hexdigest()]
        return name

    async def flush(self) -> None:
        """Write the audit lines that came together."""
        while True:
            await asyncio.sleep(0.2)
            lines, self.audit = self.audit, []
            sys.stderr.buffer.write(b"".join(lines))
            sys.stderr.buffer.flush()


class Front(asyncio.Protocol):
    """A client's connection."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.parser = httptools.HttpRequestParser(self)
        self.transport = cast(asyncio.Transport, None)
        self.headers: dict[str, bytes] = {}
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.path = url

    def on_header(self, name: bytes, value: bytes) -> None:
        key = WANTED.get(name) or WANTED.get(name.lower())
        if key:
            self.headers[key] = value

    def on_body(self, data: bytes) -> None:
        self.body = self.body + data if self.body else data

    def on_message_complete(self) -> None:
        self.started = time.perf_counter()
        floor, headers = self.floor, self.headers
        if self.path != b"/mcp" or headers["host"].partition(b":")[0] != b"127.0.0.1" or "origin" in headers:
            raise ValueError
        self.principal = floor.principal(headers["authorization"].decode("latin-1"))
        message = orjson.loads(self.body)
        params = message["params"]
        self.name = name = params["name"]
        if headers["mcp-protocol-version"] != MODERN.encode() or params["_meta"][VERSION] != MODERN:
            raise ValueError
        if headers["mcp-method"].decode() != message["method"] or headers["mcp-name"].decode() != name:
            raise ValueError
        params["name"] = tool = floor.tools[name]
        if floor.inflight >= 256:
            raise ValueError
        floor.inflight += 1
        self.identity = message["id"]
        floor.ids += 1
        message["id"] = floor.ids
        self.headers, self.body = {}, b""
        data = orjson.dumps(message)
        request = b"%bmcp-name: %b\r\ncontent-length: %d\r\n\r\n%b" % (floor.head, tool.encode(), len(data), data)
        if floor.idle:
            floor.idle.pop().send(request, self, floor.ids)
        else:
            self.task = asyncio.ensure_future(self.connect(request, floor.ids))

    async def connect(self, request: bytes, identity: int) -> None:
        """Open one more connection to the server."""
        target = self.floor.target
        loop = asyncio.get_running_loop()
        _, back = await loop.create_connection(lambda: Back(self.floor), target.hostname, target.port)
        back.send(request, self, identity)

    def answered(self, status: int, message: dict[str, Any]) -> None:
        """Answer the client."""
        floor = self.floor
        floor.inflight -= 1
        message["id"] = self.identity
        data = orjson.dumps(message)
        self.transport.write(
            b"HTTP/1.1 %d OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (status, len(data), data)
        )
        seconds = time.perf_counter() - self.started
        floor.outcomes["error" in message] += 1
        floor.buckets[bisect(BUCKETS, seconds)] += 1
        line = {"principal": self.principal, "target": self.name, "outcome": "ok", "ms": round(seconds * 1000, 1)}
        floor.audit.append(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


class Back(asyncio.Protocol):
    """A connection to the server."""

    def __init__(self, floor: Floor) -> None:
        self.floor = floor
        self.parser = httptools.HttpResponseParser(self)
        self.transport = cast(asyncio.Transport, None)
        self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, front: Front, identity: int) -> None:
        self.front, self.identity = front, identity
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type" and not value.startswith(b"application/json"):
            raise ValueError

    def on_body(self, data: bytes) -> None:
        self.body = self.body + data if self.body else data

    def on_message_complete(self) -> None:
        message = orjson.loads(self.body)
        self.body = b""
        if message["id"] != self.identity:
            raise ValueError
        self.floor.idle.append(self)
        self.front.answered(self.parser.get_status_code(), message)


async def main(url: str, key: str, port: int) -> None:
    """Serve for ever."""
    floor = Floor(url, key)
    server = await asyncio.get_running_loop().create_server(lambda: Front(floor), "127.0.0.1", port, backlog=1024)
    flushing = asyncio.ensure_future(floor.flush())
    await server.serve_forever()
    await flushing


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
