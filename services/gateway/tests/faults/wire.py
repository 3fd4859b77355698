"""What the misbehaving server writes and reads: one HTTP exchange, as raw as the faults need it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
REASONS = {200: "OK", 202: "Accepted", 204: "No Content", 400: "Bad Request", 404: "Not Found"}


@dataclass(eq=False)
class Site:
    """One port of the server: an MCP server of its own.

    Attributes:
        era: ``modern`` (2026-07-28) or ``legacy`` (2025-11-25 with sessions).
        on: which fault to commit by JSON-RPC method; all others are answered as they should be.
        sent: how often each ``nonce`` argument of a ``tools/call`` arrived: whoever repeats a call is seen.
        ran: how often each was executed; a server that refuses to (a session it does not know) has it sent again.
        hits: what else is worth counting, by name; ``held`` are the requests whose fault goes on.
        sessions: the ids given out and not ended.
    """

    name: str
    era: str = "modern"
    on: dict[str, str] = field(default_factory=dict)
    port: int = 0
    sent: Counter[str] = field(default_factory=Counter)
    ran: Counter[str] = field(default_factory=Counter)
    hits: Counter[str] = field(default_factory=Counter)
    sessions: set[str] = field(default_factory=set)
    answers: dict[Any, asyncio.Future[Json]] = field(default_factory=dict)  # to requests of the server's own

    def report(self) -> Json:
        return {
            "port": self.port,
            "sent": self.sent,
            "ran": self.ran,
            "hits": self.hits,
            "sessions": len(self.sessions),
        }


@dataclass
class Exchange:
    """A request that was read, and the connection to answer it on (or not).

    Attributes:
        number: how many requests came on this connection before.
        keep: whether the connection is read from again afterwards.
    """

    site: Site
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    verb: str
    path: str
    headers: dict[str, str]
    message: Json
    number: int
    keep: bool = True

    @property
    def id(self) -> Any:
        return self.message.get("id")

    @property
    def params(self) -> Json:
        params = self.message.get("params")
        return params if isinstance(params, dict) else {}

    @property
    def nonce(self) -> str:
        """What tells this ``tools/call`` from all others."""
        arguments = self.params.get("arguments")
        return str(arguments.get("nonce") if isinstance(arguments, dict) else None)

    def result(self, text: str = "fine", **more: Any) -> Json:
        """A good result of ``tools/call``."""
        value: Json = {"content": [{"type": "text", "text": text}], "isError": False, **more}
        if self.site.era == "modern":
            value["resultType"] = "complete"
        return value

    def response(self, value: Json | None = None) -> Json:
        return {"jsonrpc": "2.0", "id": self.id, "result": self.result() if value is None else value}

    # -- writing ---------------------------------------------------------------------------------

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int = 200, kind: str = "application/json", *extra: str, length: int | None) -> None:
        """Status line and headers; without a length the body is chunked."""
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}", *extra]
        if kind:
            lines.append(f"Content-Type: {kind}")
        lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
        await self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")

    async def body(self, data: bytes, status: int = 200, kind: str = "application/json", *extra: str) -> None:
        await self.head(status, kind, *extra, length=len(data))
        await self.raw(data)

    async def json(self, value: Any, status: int = 200, *extra: str) -> None:
        await self.body(json.dumps(value).encode(), status, "application/json", *extra)

    async def error(self, status: int, code: int, text: str, data: Any = None) -> None:
        failure = {"code": code, "message": text} | ({} if data is None else {"data": data})
        await self.json({"jsonrpc": "2.0", "id": self.id, "error": failure}, status)

    async def chunk(self, data: bytes) -> None:
        await self.raw(b"%x\r\n%b\r\n" % (len(data), data))

    async def stream(self) -> None:
        await self.head(200, "text/event-stream", length=None)

    async def event(self, value: Any) -> None:
        await self.chunk(b"event: message\ndata: " + json.dumps(value).encode() + b"\n\n")

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    # -- breaking off ----------------------------------------------------------------------------

    async def hang(self) -> None:
        """Hold the connection and say nothing, until the other side gives up."""
        self.keep = False
        with contextlib.suppress(OSError):
            while await self.reader.read(65536):
                pass

    def close(self) -> None:
        self.keep = False
        self.writer.close()

    def reset(self) -> None:
        """RST instead of FIN."""
        self.keep = False
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
