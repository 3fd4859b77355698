"""Server-sent events (WHATWG HTML, section 9.2): parsing from upstream, writing to clients."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

KEEPALIVE = b": keep-alive\n\n"


class TooLarge(Exception):
    """One event is larger than allowed."""


_LINE_END = re.compile(rb"\r\n|\n|\r")


async def events(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """The data of each event; ``limit`` bounds one event in bytes.

    Raises:
        TooLarge: an event exceeds ``limit``.
    """
    buffer = b""
    data: list[bytes] = []
    size = 0
    partial = 0
    first = True
    parts: list[bytes] = []  # of a line whose end has not come yet
    async for chunk in chunks:
        if b"\n" not in chunk and b"\r" not in chunk:
            parts.append(chunk)
            partial += len(chunk)
            if size + partial > limit:
                raise TooLarge(f"an event of the server is larger than {limit} bytes")
            continue
        buffer = b"".join((*parts, chunk))
        parts.clear()
        if first:
            buffer, first = buffer.removeprefix(b"\xef\xbb\xbf"), False
        # A CR at the end may be half of a CR LF.
        held = b"\r" if buffer.endswith(b"\r") else b""
        *lines, rest = _LINE_END.split(buffer.removesuffix(b"\r") if held else buffer)
        for line in lines:
            if not line:
                if data:
                    yield b"\n".join(data)
                data, size = [], 0
            elif line.startswith(b"data:"):
                size += len(line)
                data.append(line[5:].removeprefix(b" "))
            elif line == b"data":
                data.append(b"")
        if rest or held:
            parts.append(rest + held)
        partial = len(rest)
        if size + partial > limit:
            raise TooLarge(f"an event of the server is larger than {limit} bytes")


def event(payload: bytes) -> bytes:
    """One message event; JSON has no raw line breaks, so one data line holds it."""
    return b"event: message\ndata: " + payload + b"\n\n"
