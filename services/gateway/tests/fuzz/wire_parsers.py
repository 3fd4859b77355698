"""Both sides' HTTP, without sockets: what is read must not depend on how it arrives in pieces.

Two readers of one stream that see different requests are the root of request smuggling (RFC 9112, section 11.2); here
one reader is given the same bytes at once and cut up, and must see the same.
"""

from __future__ import annotations

import asyncio
import functools
from typing import Any
from urllib.parse import urlsplit

from mcp_gateway.net import client, server
from mcp_gateway.net.messages import Request, Response


class Sink(asyncio.Transport):
    """The other end of a connection: takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        self.written += b"".join(list_of_data)

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.new_event_loop()


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def _changed(data: bytes, where: int) -> bytes:
    """The same with another character somewhere."""
    where = where * 7 % len(data)
    return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]


# -- requests ----------------------------------------------------------------------------------------------------------

Seen = list[tuple[str, str, str, bytes]]


TARGETS = {
    f"{method} {path} HTTP/1.1".encode(): (method, path, "") for method in ("GET", "POST") for path in ("/", "/mcp")
}


async def _requests(parts: list[bytes]) -> tuple[Seen, int]:
    """The requests that are read, and the status of the last answer."""
    seen: Seen = []

    def handle(exchange: server.Exchange) -> None:
        request: Request = exchange.request
        seen.append((request.method, request.path, request.query, request.body))
        exchange.respond(Response(200, b"{}"))

    served = server.Server(handle, lambda status, _: Response(status))
    for line, target in TARGETS.items():  # so that what comes whole is read without a parser, and in pieces by it
        served.know(line, target)
    connection = server.Connection(served)
    sink = Sink()
    connection.connection_made(sink)
    for part in parts:
        if sink.closed:
            break
        connection.data_received(part)
        for _ in range(server.MAX_PIPELINED + 1):  # answers of pipelined requests take a turn of the loop each
            await asyncio.sleep(0)
    connection.connection_lost(None)
    answers = bytes(sink.written)
    statuses = [int(part[:3]) for part in answers.split(b"HTTP/1.1 ")[1:]]
    assert all(100 <= status < 600 and status != 500 for status in statuses)
    finals = [status for status in statuses if status >= 200]
    assert len(seen) <= len(finals) <= len(seen) + 1, (seen, answers)
    return seen, finals[-1] if finals else 0


def http_request(data: bytes) -> None:
    """The same requests are read from the same bytes, however they are cut."""
    size, stream = (data[0] % 40 + 1 if data else 1), data[1:]

    async def both() -> None:
        whole, status = await _requests([stream] if stream else [])
        pieces, other = await _requests(_cut(stream, size))
        assert whole == pieces, (whole, pieces)
        # Behind a good request a bad one is refused by 400, or by closing after the good one's answer.
        assert status == other or whole, (status, other)
        if whole:  # a head that came before is not read anew
            for other in (stream, _changed(stream, size)):
                twice, _ = await _requests([stream, other])
                pieces, _ = await _requests(_cut(stream + other, size))
                assert twice == pieces, (twice, pieces)

    _loop().run_until_complete(both())


# -- answers -----------------------------------------------------------------------------------------------------------


Given = tuple[int, dict[str, str], bytes]


async def _answers(parts: list[bytes]) -> list[Given | None]:
    """What is read, once and, where the connection can be used again, again; None where the exchange failed."""
    pool = client._Pool(urlsplit("http://127.0.0.1:9/mcp"), None)
    connection = client.Connection(pool)
    sink = Sink()
    connection.connection_made(sink)
    given = [await _answer(connection, parts)]
    if connection in pool.idle:
        pool.idle.remove(connection)
        given.append(await _answer(connection, parts))
    connection.connection_lost(None)
    return given


async def _answer(connection: client.Connection, parts: list[bytes]) -> Given | None:
    exchange = asyncio.ensure_future(connection.exchange(b"", 60, 60))
    await asyncio.sleep(0)
    try:
        for part in parts:
            connection.data_received(part)
            await asyncio.sleep(0)
        if connection not in connection._pool.idle:
            connection.connection_lost(None)
        answer = await exchange
        return answer.status, dict(answer.headers), b"".join([chunk async for chunk in answer.chunks()])
    except client.ExchangeError:
        return None
    finally:
        exchange.cancel()


def http_answer(data: bytes) -> None:
    """The same answer is read from the same bytes, however they are cut; nothing but ``ExchangeError`` is raised."""
    size, stream = (data[0] % 40 + 1 if data else 1), data[1:]

    async def both() -> None:
        whole = await _answers([stream] if stream else [])
        pieces = await _answers(_cut(stream, size))
        # What follows a whole answer is a fault; cut up it arrives when the answer has been taken already.
        assert whole == pieces or whole == [None], (whole, pieces)
        assert whole[0] == whole[-1], whole

    _loop().run_until_complete(both())
