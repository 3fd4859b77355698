"""ASGI, in the few forms that the gateway needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson

from mcp_gateway.downstream import Reply

MAX_BODY_BYTES = 4 * 1024 * 1024

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


def headers(scope: Scope) -> dict[str, str]:
    return {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}


async def read(receive: Receive) -> bytes | None:
    """The request's body, or None where it is too large."""
    parts: list[bytes] = []
    size = 0
    while True:
        part_of = await receive()
        if part_of["type"] == "http.disconnect":
            return b""
        part = part_of.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            return None
        parts.append(part)
        if not part_of.get("more_body"):
            return b"".join(parts)


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def start(
    send: Send, status: int, kind: str, extra: Mapping[str, str] | None = None, length: int | None = None
) -> None:
    pairs = [(b"content-type", kind.encode())]
    if length is not None:
        pairs.append((b"content-length", str(length).encode()))
    pairs += [(key.lower().encode(), value.encode()) for key, value in (extra or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})


async def chunk(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def body(send: Send, status: int, data: bytes, kind: str, extra: Mapping[str, str] | None = None) -> None:
    await start(send, status, kind, extra, len(data))
    await send({"type": "http.response.body", "body": data})


async def text(send: Send, status: int, text: str) -> None:
    await body(send, status, text.encode(), "text/plain; charset=utf-8")


async def message(send: Send, reply: Reply) -> None:
    data = b"" if reply.message is None else orjson.dumps(reply.message)
    await body(send, reply.status, data, "application/json", reply.headers)
