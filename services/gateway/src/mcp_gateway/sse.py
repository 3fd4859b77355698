"""Server-sent events (WHATWG HTML, section 9.2): parsing from upstream, writing to clients."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Protocol

KEEPALIVE = b": keep-alive\n\n"
EVENT, EVENT_END = b"event: message\ndata: ", b"\n\n"


class TooLarge(Exception):
    """One event is larger than allowed."""


_LINE_END = re.compile(rb"\r\n|\n|\r")


class Early(Protocol):
    """Takes the data of an event whose first line has not ended yet."""

    @property
    def begun(self) -> bool:
        """Whether it keeps what it took: the event will be empty."""

    async def take(self, part: bytes) -> bool:
        """Take the next part; returns whether more of this event is wanted."""


async def events(chunks: AsyncIterator[bytes], limit: int, early: Early | None = None) -> AsyncIterator[bytes]:
    """The data of each event; ``limit`` bounds one event in bytes.

    Args:
        early: gets an event that is long or slow while it comes.

    Raises:
        TooLarge: an event exceeds ``limit``.
    """
    data: list[bytes] = []
    size = 0
    wanted = early is not None  # more of this event
    told = False  # early has a part of it
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
                wanted, told = early is not None, False
                continue
            size += len(whole) + 1
            if whole.startswith(b"data:"):
                text = whole[5:].removeprefix(b" ")
                if early and told and wanted:
                    wanted = await early.take(b"\n" + text if data else part)
                data.append(b"" if early and told and early.begun else text)
            elif whole == b"data":
                data.append(b"")
            elif not data:
                size = 0  # comments and other fields are not kept
        partial = len(rest) if ended else partial + len(rest)
        if rest:
            line.append(rest)
            if early and wanted and not data:
                if told:
                    wanted = await early.take(rest)
                elif len(start := b"".join(line)) > len(b"data: ") and start.startswith(b"data:"):
                    told, wanted = True, await early.take(start[5:].removeprefix(b" "))
                if told and early.begun:
                    line[:] = [b"data:"]
        if size + partial > limit:
            raise TooLarge(f"an event of the server is larger than {limit} bytes")


def event(payload: bytes) -> bytes:
    """One message event; JSON has no raw line breaks, so one data line holds it."""
    return EVENT + payload + EVENT_END


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
