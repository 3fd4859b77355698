"""A small real HTTP server around the console, with a fleet that is canned or that is an official MCP server."""

# ruff: noqa: E501 (tables of cases, one a line)

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import struct
import threading
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import httptools
from mcp.client import Client
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError

from mcp_gateway.console import Backend, Console
from mcp_gateway.net.messages import Request, Response
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import INVALID_PARAMS, UNAVAILABLE, Json, RpcError

KEY = "key-of-alice-0123456789"
OTHER_KEY = "key-of-bob-0123456789"
SEALING_KEY = b"0123456789abcdef0123456789abcdef"
SCRIPT = "<script>window.hacked=1</script>"
IMAGE = '"><img src=x onerror="window.hacked=2">'


def png(size: int = 24) -> str:
    """A picture, in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((x * 10 % 256, y * 10 % 256, 160)[k] for x in range(size) for k in range(3)) for y in range(size))  # fmt: skip
    head = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    raw = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return base64.b64encode(raw).decode()


def _replica(address: str, state: str = "healthy", inflight: int = 0, latency: float = 4.2, breaker: str = "closed") -> Json:  # fmt: skip
    return {"address": address, "state": state, "healthy": state == "healthy", "inflight": inflight, "latency_ms": latency, "breaker": breaker}  # fmt: skip


def _server(name: str, replicas: list[Json], **rest: Any) -> Json:
    return {
        "name": name,
        "era": "2026-07-28",
        "replicas": replicas,
        "tools": 4,
        "prompts": 0,
        "resources": 2,
        "queue": {"running": 1, "places": 16, "waiting": 0, "limit": 128},
        "latency_ms": {"p50": 4.21, "p95": 12.04, "p99": 31.5},
        "requests": 18234,
        "errors": 0,
        "sessions": 3,
        "pool": None,
        "pins": None,
        "last_error": "",
        **rest,
    }


STATUS: Json = {
    "version": "0.2.0",
    "uptime_seconds": 187_345.2,
    "draining": False,
    "inflight": 7,
    "principal_count": 4,
    "servers": [
        _server("time", [_replica("10.0.1.11:8000", inflight=1), _replica("10.0.1.12:8000", latency=3.9)]),
        _server(
            "ai_memory",
            [
                _replica("10.0.1.21:8000", inflight=5, latency=41),
                _replica("10.0.1.22:8000", "probation", latency=180.4, breaker="half-open"),
                _replica("10.0.1.23:8000", "ejected", latency=12_400, breaker="open"),
            ],
            era="2025-11-25",
            queue={"running": 16, "places": 16, "waiting": 9, "limit": 128},
            latency_ms={"p50": 40.2, "p95": 310.0, "p99": 12_050},
            errors=37,
            last_error="10.0.1.23:8000 answered 502 to initialize; set aside for 8 s",
        ),
        _server("diffusion", [_replica("10.0.2.5:8000", "draining", latency=9)], pool="gpu", sessions=None, tools=1),
        _server(
            "notion",
            [_replica("10.0.1.41:8000", "ejected", latency=0.0, breaker="open")],
            era=None,
            tools=None,
            prompts=None,
            resources=None,
            latency_ms=None,
            errors=212,
            pins={"changed": ["create_page"]},
            last_error="connection refused",
        ),
        {"name": "spare"},
        _server("ocr", [], asleep=True),
        _server(IMAGE, [_replica(SCRIPT)], last_error=SCRIPT + IMAGE, pool=IMAGE, pins={"changed": [SCRIPT]}),
    ],
    "recent_errors": [
        {"time": "2026-11-23T20:31:07.120Z", "principal": "alice", "server": "notion", "method": "tools/call", "target": "create_page", "code": -31001, "message": "no replica of notion answers: connection refused", "replica": "10.0.1.41:8000"},
        {"time": "2026-11-23T20:30:59Z", "principal": IMAGE, "server": SCRIPT, "method": "tools/call", "target": IMAGE, "code": -32603, "message": SCRIPT + IMAGE, "replica": None},
        {"time": "2026-11-23T20:12:44Z", "principal": "ci", "server": "ai_memory", "method": "tools/call", "target": "search", "code": -31003, "message": "no answer within 60 s; the call may have run", "replica": "10.0.1.23:8000"},
    ],
}  # fmt: skip

TOOLS: list[Json] = [
    {
        "name": "time__get_time",
        "description": "The current time in a time zone.\nAnswers in ISO 8601.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "timezone": {"type": "string", "description": "IANA name, such as Europe/Zurich", "minLength": 1},
                "digits": {"type": "integer", "minimum": 0, "maximum": 9, "default": 0},
                "offset": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None},
                "style": {"enum": ["short", "long"]},
                "utc": {"type": "boolean", "description": "Also in UTC"},
                "labels": {"type": "array", "items": {"type": "string"}},
                "more": {"$ref": "#/$defs/More"},
            },
            "required": ["timezone"],
            "$defs": {"More": {"type": "object", "properties": {"x": {"type": "integer"}}}},
        },
        "annotations": {"readOnlyHint": True, "idempotentHint": True},
    },
    {"name": "time__picture", "description": "A clock.", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {"name": "ai_memory__wipe", "description": "Forget everything.", "inputSchema": {"type": "object", "properties": {}}, "annotations": {"destructiveHint": True}},
    {"name": "ai_memory__fail", "description": "Reports an error.", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    {"name": "notion__create_page", "description": "Its server is down.", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True, "openWorldHint": True}},
    {
        "name": f"time__{SCRIPT}",
        "title": IMAGE,
        "description": SCRIPT + IMAGE,
        "inputSchema": {"type": "object", "properties": {IMAGE: {"type": "string", "description": SCRIPT, "default": IMAGE}}},
        "annotations": {"readOnlyHint": True},
    },
]  # fmt: skip


class Canned:
    """A fleet that never changes unless a test changes ``state``; ``calls`` is what was asked of it."""

    def __init__(self, keys: dict[str, str] | None = None) -> None:
        self.keys = {KEY: "alice", OTHER_KEY: "bob"} if keys is None else keys
        self.state = copy.deepcopy(STATUS)
        self.tools = copy.deepcopy(TOOLS)
        self.calls: list[tuple[str, Json]] = []

    def status(self) -> Json:
        return self.state

    async def authenticate(self, credential: str) -> Principal | None:
        if not self.keys:
            return Principal("anonymous")
        name = self.keys.get(credential)
        return Principal(name) if name else None

    async def request(self, principal: Principal, method: str, params: Json) -> Json:
        if method == "tools/list":
            start = int(params.get("cursor", "0"))
            more = {"nextCursor": str(start + 4)} if start + 4 < len(self.tools) else {}
            return {"tools": self.tools[start : start + 4], **more}
        self.calls.append((principal.name, params))
        match params["name"]:
            case "time__get_time":
                text = {"type": "text", "text": "2026-11-23T21:00:00+01:00"}
                return {"content": [text], "structuredContent": {"asked": params["arguments"]}}
            case "time__picture":
                return {"content": [{"type": "image", "data": png(), "mimeType": "image/png"}]}
            case "ai_memory__wipe":
                return {"content": [{"type": "text", "text": "all forgotten"}]}
            case "ai_memory__fail":
                return {"content": [{"type": "text", "text": "the store is read-only"}], "isError": True}
            case "notion__create_page":
                raise RpcError(UNAVAILABLE, "no replica of notion answers", {"retryAfterMs": 800})
            case name if SCRIPT in name:
                evil = {"type": "image", "data": IMAGE, "mimeType": "image/png"}
                return {
                    "content": [{"type": "text", "text": SCRIPT + IMAGE}, evil],
                    "structuredContent": {IMAGE: SCRIPT},
                }
            case name:
                raise RpcError(INVALID_PARAMS, f"no tool is named {name}")


def official() -> MCPServer:
    """A server made with the official SDK."""
    server = MCPServer("official")

    @server.tool()
    def add(a: int, b: int = 2) -> int:
        """Add two integers."""
        return a + b

    @server.tool()
    def divide(a: float, b: float) -> float:
        """Divide; fails for zero."""
        return a / b

    return server


class Official(Canned):
    """The same, its tools those of an official MCP server in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.server = official()
        self.state["servers"] = self.state["servers"][:1]

    async def request(self, principal: Principal, method: str, params: Json) -> Json:
        async with Client(self.server) as client:
            try:
                if method == "tools/list":
                    listed = await client.list_tools()
                    return listed.model_dump(by_alias=True, mode="json", exclude_none=True)
                called = await client.call_tool(params["name"], params["arguments"])
                return called.model_dump(by_alias=True, mode="json", exclude_none=True)
            except MCPError as failure:
                raise RpcError(failure.error.code, failure.error.message) from None


class _Connection(asyncio.Protocol):
    """HTTP/1.1, one request at a time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._parser = httptools.HttpRequestParser(self)
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._request = Request("", "")

    def on_url(self, url: bytes) -> None:
        path, _, self._request.query = url.decode().partition("?")
        self._request.path = unquote(path).rstrip("/") or "/"

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._request.body += body

    def on_message_complete(self) -> None:
        self._request.method = self._parser.get_method().decode()
        task = asyncio.ensure_future(self._answer(self._request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request) -> None:
        answer = await self._console.handle(request) or Response(404, b"{}")
        lines = [f"HTTP/1.1 {answer.status} X", f"Content-Type: {answer.content_type}", f"Content-Length: {len(answer.body)}"]  # fmt: skip
        lines += [f"{name}: {value}" for name, value in answer.headers]
        self._transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + answer.body)


@contextlib.contextmanager
def serve(backend: Backend) -> Iterator[str]:
    """Serves the console on loopback in a thread of its own; gives the base URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[asyncio.Server, str]:
        consoles: list[Console] = []
        listener = await loop.create_server(lambda: _Connection(consoles[0]), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        consoles.append(Console(backend, SEALING_KEY, url))
        return listener, url

    listener, url = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(listener.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
