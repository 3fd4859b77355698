"""Faults of time: silence, drips, answers that never end."""

from __future__ import annotations

import asyncio
import json

from faults.fault import LARGE, LATE, Behave, fault
from faults.wire import Exchange

# Where the era cannot matter.
ONE = ("modern",)


def whole(x: Exchange) -> bytes:
    """A good answer, to the byte."""
    body = json.dumps(x.response()).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def drip(x: Exchange, data: bytes, seconds: float) -> None:
    for byte in data:
        await x.raw(bytes([byte]))
        await asyncio.sleep(seconds)


@fault("error", LATE)
async def hang_before_headers(x: Exchange, _: Behave) -> None:
    await x.hang()


@fault("error", LATE, eras=ONE)
async def hang_after_headers(x: Exchange, _: Behave) -> None:
    await x.head(length=100)
    await x.hang()


@fault("error", LATE, eras=ONE)
async def hang_in_body(x: Exchange, _: Behave) -> None:
    await x.head(length=100)
    await x.raw(b'{"jsonrpc": "2.0", ')
    await x.hang()


@fault("error", LATE)
async def hang_in_stream(x: Exchange, _: Behave) -> None:
    await x.stream()
    await x.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": "x"}})
    await x.hang()


@fault("error", LATE, times=3)
async def drip_for_ever(x: Exchange, _: Behave) -> None:
    """Never silent, never done: only the hard limit helps."""
    await drip(x, whole(x), 0.1)


@fault("result", eras=ONE)
async def drip_to_the_end(x: Exchange, _: Behave) -> None:
    """Slow but in time, a byte in each packet."""
    await drip(x, whole(x), 0.001)


@fault("result", eras=ONE)
async def drip_a_stream(x: Exchange, _: Behave) -> None:
    data = b"event: message\r\ndata: " + json.dumps(x.response()).encode() + b"\r\n\r\n"
    await x.head(200, "text/event-stream", length=len(data))
    await drip(x, data, 0.001)


@fault("error", LATE, times=3)
async def comments_for_ever(x: Exchange, _: Behave) -> None:
    """Comments keep a stream alive; they are no answer."""
    await x.stream()
    while True:
        await x.chunk(b": still here\n\n")
        await asyncio.sleep(0.02)


@fault("result", eras=ONE)
async def comments_then_result(x: Exchange, _: Behave) -> None:
    await x.stream()
    for __ in range(1000):
        await x.chunk(b": still here\n\n")
    await x.event(x.response())
    await x.end()


@fault("error", LARGE + "|" + LATE, times=3, eras=ONE)
async def endless_header(x: Exchange, _: Behave) -> None:
    """One header that never ends, as fast as it is taken."""
    await x.raw(b"HTTP/1.1 200 OK\r\nX-Endless: ")
    while True:
        await x.raw(b"a" * 65536)


@fault("error", LARGE + "|" + LATE, times=3, eras=ONE)
async def endless_headers(x: Exchange, _: Behave) -> None:
    """Headers without end, each small."""
    await x.raw(b"HTTP/1.1 200 OK\r\n")
    while True:
        await x.raw(b"X-Another: one\r\n" * 4096)


@fault("error", LARGE + "|" + LATE, times=2, limit=5.0, peak_mb=400, eras=ONE)
async def endless_body(x: Exchange, _: Behave) -> None:
    """Chunks without end, as fast as they are taken."""
    await x.head(length=None)
    while True:
        await x.chunk(b" " * 65536)


@fault("error", LARGE + "|" + LATE, times=2, limit=5.0, peak_mb=400, eras=ONE)
async def endless_line_in_a_stream(x: Exchange, _: Behave) -> None:
    await x.stream()
    await x.chunk(b"data: ")
    while True:
        await x.chunk(b"a" * 65536)


@fault("error", LARGE + "|" + LATE, times=2, limit=5.0, peak_mb=400, eras=ONE)
async def endless_event_of_small_lines(x: Exchange, _: Behave) -> None:
    """No blank line ever comes: the event grows though no line of it is long."""
    await x.stream()
    while True:
        await x.chunk(b"data: a\n" * 8192)


@fault("error", LATE, times=2, eras=ONE)
async def endless_field_of_no_meaning(x: Exchange, _: Behave) -> None:
    """Fields that nobody reads must not be kept either."""
    await x.stream()
    while True:
        await x.chunk(b"x: a\n" * 8192)
        await asyncio.sleep(0)
