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
    data: list[bytes] = []
    size = 0
    line: list[bytes] = []  # parts of one whose end has not come yet
    partial = 0
    first, after_cr = True, False
    async for chunk in chunks:
        if after_cr:
            chunk = chunk.removeprefix(b"\n")  # the CR before it was the line's end already
        if not chunk:
            after_cr = False
            continue
        after_cr = chunk.endswith(b"\r")
        *ended, rest = _LINE_END.split(chunk)
        for part in ended:
            whole = b"".join((*line, part)) if line else part
            line.clear()
            if first:
                whole, first = whole.removeprefix(b"\xef\xbb\xbf"), False
            if not whole:
                if data:
                    yield b"\n".join(data)
                data, size = [], 0
                continue
            size += len(whole) + 1
            if whole.startswith(b"data:"):
                data.append(whole[5:].removeprefix(b" "))
            elif whole == b"data":
                data.append(b"")
            elif not data:
                size = 0  # comments and other fields are not kept
        partial = len(rest) if ended else partial + len(rest)
        if rest:
            line.append(rest)
        if size + partial > limit:
            raise TooLarge(f"an event of the server is larger than {limit} bytes")


def event(payload: bytes) -> bytes:
    """One message event; JSON has no raw line breaks, so one data line holds it."""
    return b"event: message\ndata: " + payload + b"\n\n"


def sole_event(body: bytes) -> bytes | None:
    """The data of a whole stream with one event; None for any other."""
    data: list[bytes] = []
    ended = False
    for line in _LINE_END.split(body.removeprefix(b"\xef\xbb\xbf")):
        if not line:
            ended = ended or bool(data)
        elif line.startswith(b"data:"):
            if ended:
                return None
            data.append(line[5:].removeprefix(b" "))
        elif line == b"data":
            return None
    return b"\n".join(data) if ended else None
