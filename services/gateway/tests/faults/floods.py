"""Faults of size: answers and floods that want to be held in memory."""

from __future__ import annotations

import functools
import json
import zlib

from faults.fault import LARGE, NOT_RPC, Behave, fault
from faults.wire import Exchange

MB = 1_000_000


async def _huge(x: Exchange, size: int) -> None:
    """A result of about ``size`` bytes, written in pieces."""
    before, after = json.dumps(x.response(x.result("SPLIT"))).encode().split(b"SPLIT")
    await x.raw(before)
    for _ in range(size // 65536):
        await x.raw(b"x" * 65536)
    await x.raw(after)


def _length(x: Exchange, size: int) -> int:
    return len(json.dumps(x.response(x.result("")))) + size // 65536 * 65536


@fault("either", LARGE, times=2, silence=10.0, limit=20.0, peak_mb=400, eras=("modern",))
async def answer_50_mb(x: Exchange, _: Behave) -> None:
    await x.head(length=_length(x, 50 * MB))
    await _huge(x, 50 * MB)


@fault("either", LARGE, times=2, silence=10.0, limit=20.0, peak_mb=400)
async def stream_50_mb(x: Exchange, _: Behave) -> None:
    await x.head(200, "text/event-stream", length=_length(x, 50 * MB) + len(b"data: \n\n"))
    await x.raw(b"data: ")
    await _huge(x, 50 * MB)
    await x.raw(b"\n\n")


@fault("error", LARGE, times=2, silence=10.0, limit=20.0, eras=("modern",))
async def announce_a_terabyte(x: Exchange, _: Behave) -> None:
    """What is announced beyond the limit need not be read at all."""
    await x.head(length=10**12)
    await _huge(x, 10**12)


@functools.cache
def _bomb() -> bytes:
    """200 MB of blanks in 200 kB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b" " * MB) for _ in range(200)) + packer.flush()


@fault("either", LARGE + "|" + NOT_RPC + "|compress", times=2, silence=10.0, limit=20.0, peak_mb=400, eras=("modern",))
async def gzip_bomb(x: Exchange, _: Behave) -> None:
    """The gateway need not take compressed answers at all."""
    await x.body(_bomb(), 200, "application/json", "Content-Encoding: gzip")


@fault("either", NOT_RPC + "|encoding|compress", eras=("modern",))
async def gzip(x: Exchange, _: Behave) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(json.dumps(x.response()).encode()) + packer.flush()
    await x.body(packed, 200, "application/json", "Content-Encoding: gzip")


@fault("error", NOT_RPC + "|encoding|compress|decod", eras=("modern",))
async def gzip_that_is_none(x: Exchange, _: Behave) -> None:
    await x.body(json.dumps(x.response()).encode(), 200, "application/json", "Content-Encoding: gzip")


@fault("result", times=2, silence=10.0, limit=30.0)
async def flood_of_log_messages(x: Exchange, _: Behave) -> None:
    """100,000 that nobody asked for."""
    await x.stream()
    note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "debug", "data": "x"}}
    block = (b"data: " + json.dumps(note).encode() + b"\n\n") * 1000
    for __ in range(100):
        await x.chunk(block)
    await x.event(x.response())
    await x.end()


@fault("result", times=2, silence=10.0, limit=30.0)
async def flood_of_progress(x: Exchange, _: Behave) -> None:
    """10,000 that the client gets, if it asked for them."""
    token = (x.params.get("_meta") or {}).get("progressToken")
    await x.stream()
    for start in range(0, 10_000, 1000):
        notes = (
            {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": token, "progress": i}}
            for i in range(start, start + 1000)
        )
        await x.chunk(b"".join(b"data: " + json.dumps(note).encode() + b"\n\n" for note in notes))
    await x.event(x.response())
    await x.end()


@fault("result", times=2, silence=10.0, limit=30.0)
async def flood_of_list_changes(x: Exchange, _: Behave) -> None:
    """10,000 times "my tools changed": as many new lists would be an attack on the server."""
    await x.stream()
    note = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
    for __ in range(10):
        await x.chunk((b"data: " + json.dumps(note).encode() + b"\n\n") * 1000)
    await x.event(x.response())
    await x.end()


@fault("either", times=0)
async def progress_for_ever(x: Exchange, _: Behave) -> None:
    """As fast as it is taken: for clients that do not read."""
    token = (x.params.get("_meta") or {}).get("progressToken")
    note = {
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": token, "progress": 1, "message": "x" * 900},
    }
    await x.stream()
    while True:
        await x.event(note)
        x.site.hits["poured"] += 1
