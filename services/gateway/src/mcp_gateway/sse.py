"""Server-sent events (WHATWG HTML, section 9.2): parsing from upstream, writing to clients."""

from __future__ import annotations

from collections.abc import AsyncIterator

KEEPALIVE = b": keep-alive\n\n"


class TooLarge(Exception):
    """One event is larger than allowed."""


async def events(chunks: AsyncIterator[bytes], limit: int) -> AsyncIterator[bytes]:
    """The data of each event; ``limit`` bounds one event in bytes.

    Raises:
        TooLarge: an event exceeds ``limit``.
    """
    buffer = bytearray()
    data: list[bytes] = []
    size = 0
    async for chunk in chunks:
        seen = len(buffer)  # no line end in there: look at what is new only
        buffer += chunk
        start = 0
        while (end := buffer.find(b"\n", max(start, seen))) >= 0:
            line = bytes(buffer[start:end]).removesuffix(b"\r")
            start = end + 1
            if not line:
                if data:
                    yield b"\n".join(data)
                data, size = [], 0
            elif line.startswith(b"data:"):
                size += len(line)
                data.append(line[5:].removeprefix(b" "))
        del buffer[:start]
        if size + len(buffer) > limit:
            raise TooLarge(f"an event of the server is larger than {limit} bytes")


def event(payload: bytes) -> bytes:
    """One message event; JSON has no raw line breaks, so one data line holds it."""
    return b"event: message\ndata: " + payload + b"\n\n"
