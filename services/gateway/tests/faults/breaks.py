"""Faults of connections: broken off, reset, closed when least expected."""

from __future__ import annotations

import asyncio

from faults.fault import BROKEN, Behave, fault
from faults.timing import whole
from faults.wire import Exchange


@fault("error", BROKEN)
async def close_without_an_answer(x: Exchange, _: Behave) -> None:
    x.close()


@fault("error", BROKEN)
async def reset_without_an_answer(x: Exchange, _: Behave) -> None:
    x.reset()


@fault("error", BROKEN)
async def cut_in_the_status_line(x: Exchange, _: Behave) -> None:
    await x.raw(b"HTTP/1.1 2")
    x.close()


@fault("error", BROKEN)
async def cut_in_headers(x: Exchange, _: Behave) -> None:
    await x.raw(b"HTTP/1.1 200 OK\r\nContent-Type: applic")
    x.close()


@fault("error", BROKEN)
async def cut_in_body(x: Exchange, _: Behave) -> None:
    await x.raw(whole(x)[:-10])
    x.close()


@fault("error", BROKEN)
async def cut_in_a_chunk(x: Exchange, _: Behave) -> None:
    await x.head(length=None)
    await x.raw(b'100\r\n{"jsonrpc"')
    x.close()


@fault("error", BROKEN)
async def cut_between_chunks(x: Exchange, _: Behave) -> None:
    """The JSON is whole, the body is not: its end never came. RFC 9112, section 8: incomplete."""
    await x.head(length=None)
    await x.chunk(b'{"jsonrpc": "2.0",')
    x.close()


@fault("error", BROKEN)
async def cut_in_stream(x: Exchange, _: Behave) -> None:
    await x.stream()
    await x.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": "x"}})
    await x.raw(b"40\r\nevent: mess")
    x.close()


@fault("error", BROKEN)
async def end_stream_without_a_response(x: Exchange, _: Behave) -> None:
    await x.stream()
    await x.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": "x"}})
    await x.end()


@fault("error", BROKEN)
async def event_without_its_blank_line(x: Exchange, _: Behave) -> None:
    """WHATWG HTML 9.2.6: an event that the stream's end cuts off is discarded."""
    await x.stream()
    await x.chunk(b'data: {"jsonrpc": "2.0", "id": 0, "result": {}}\n')
    await x.end()


@fault("error", BROKEN)
async def reset_in_headers(x: Exchange, _: Behave) -> None:
    await x.raw(b"HTTP/1.1 200 OK\r\nContent-Ty")
    await asyncio.sleep(0.01)
    x.reset()


@fault("error", BROKEN)
async def reset_in_body(x: Exchange, _: Behave) -> None:
    await x.raw(whole(x)[:-10])
    await asyncio.sleep(0.01)
    x.reset()


@fault("error", BROKEN)
async def reset_in_stream(x: Exchange, _: Behave) -> None:
    await x.stream()
    await x.event({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "error", "data": "x"}})
    await asyncio.sleep(0.01)
    x.reset()


@fault("result")
async def reset_after_the_response(x: Exchange, _: Behave) -> None:
    """The response was whole; what happens to the connection then concerns nobody."""
    await x.stream()
    await x.event(x.response())
    await asyncio.sleep(0.05)
    x.reset()


@fault("result")
async def close_after_each_answer(x: Exchange, behave: Behave) -> None:
    """Without ``Connection: close``: who keeps the connection meets a closed one."""
    await behave(x)
    x.close()


@fault("either", BROKEN)
async def close_idle_connections_soon(x: Exchange, behave: Behave) -> None:
    """The close may cross the next request on the way, which then may have run: an error is right for it."""
    await behave(x)
    x.keep = False
    asyncio.get_running_loop().call_later(0.002, x.writer.close)
    await asyncio.sleep(0.003)


@fault("either", BROKEN)
async def close_on_the_next_request(x: Exchange, behave: Behave) -> None:
    """The classic race: a kept connection is closed when the next request on it arrives.

    The request was sent, so one that may have run must not be repeated: an error is right for it.
    """
    if x.number:
        x.close()
    else:
        await behave(x)


@fault("either", BROKEN)
async def reset_on_the_next_request(x: Exchange, behave: Behave) -> None:
    if x.number:
        x.reset()
    else:
        await behave(x)
