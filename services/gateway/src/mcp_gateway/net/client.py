"""HTTP/1.1 to servers: pooled connections on asyncio's protocols and llhttp (RFC 9110, RFC 9112).

``Client.send`` sends one request and returns its ``Answer``: whole when it is short, else as a stream.
``Client.kept`` gives a connection that is open already, whose ``start`` does so without waiting. A connection serves
one exchange at a time. Errors say whether anything was sent: ``ConnectFailed`` means that nothing was.
"""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol, cast
from urllib.parse import SplitResult, urlsplit

import httptools

from mcp_gateway.net.heads import fields

CONNECT_SECONDS = 5.0
# Servers close idle connections after some seconds (uvicorn and Node: 5), and one that closes while a request is on
# its way leaves it in doubt: close ours first, unless the server says how long it keeps them.
KEEP_SECONDS = 4.0
MAX_KEEP_SECONDS = 60.0
SWEEP_SECONDS = 0.25
# How long a server has to end a stream after the message that was waited for.
END_SECONDS = 1.0
# An answer that stands still so long is handed over as far as it came; what breaks sooner can still become an error.
STALLED_SECONDS = 0.1
# Up to here an answer is handed over whole; a longer one as it comes.
HOLD_BYTES = 256 * 1024
BUFFER_BYTES = 256 * 1024
MAX_HEAD_BYTES = 64 * 1024
# A node that is lost takes its addresses along and says nothing: without these a connection to it lasts for a quarter
# of an hour (tcp(7)). Its own kernel answers for a server that is only slow. Where the system has the options.
LOST_SECONDS = 5
_PROBES = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (
            ("TCP_KEEPIDLE", LOST_SECONDS),
            ("TCP_KEEPINTVL", 1),
            ("TCP_USER_TIMEOUT", 1000 * LOST_SECONDS),
        )
        if hasattr(socket, name)
    ),
]
_OK = b"HTTP/1.1 200 OK\r\n"
# Of ``Keep-Alive`` (RFC 2068, section 19.7.1). ASCII and short: a server writes there what it likes.
_SECONDS = re.compile(r"\s*([0-9]{1,9})\s*(?:,|$)")

log = logging.getLogger("mcp_gateway.net")


class ExchangeError(OSError):
    """The exchange failed."""


class ConnectFailed(ExchangeError):
    """There was no connection: nothing was sent."""


class Broken(ExchangeError):
    """The connection broke, or what came is not HTTP: the request may have been executed.

    Attributes:
        stale: whether it broke before anything came on a connection that had been kept: most likely the server
            closed it just then, and did not read the request.
    """

    def __init__(self, message: str, *, stale: bool = False) -> None:
        super().__init__(message)
        self.stale = stale


class Silent(ExchangeError, TimeoutError):
    """The server did not answer, or go on, in time; it may still be at work."""


class Answer:
    """An HTTP answer.

    Attributes:
        headers: by lower-case name; the last one of repeated ones.
        body: whole, or None where it comes in ``chunks``.
    """

    __slots__ = ("_buffer", "_buffered", "_connection", "_failure", "_more", "body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes | None, connection: Connection | None):
        self.status = status
        self.headers = headers
        self.body = body
        self._connection = connection  # while it still brings parts of this answer
        if body is None:
            self._buffer: deque[bytes] = deque()
            self._buffered = 0
            self._more: asyncio.Future[None] | None = None
            self._failure: ExchangeError | None = None

    @property
    def streams(self) -> bool:
        """Whether the body is an event stream."""
        return self.headers.get("content-type", "").lower().startswith("text/event-stream")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes.

        Raises:
            Broken, Silent: it ended before its end.
        """
        if self.body is not None:
            yield self.body
            return
        while True:
            while not self._buffer:
                if self._failure:
                    raise self._failure
                if self._connection is None:
                    return
                self._more = asyncio.get_running_loop().create_future()
                await self._more
            data = self._buffer.popleft()
            self._buffered -= len(data)
            if self._connection and self._buffered < BUFFER_BYTES // 2:
                self._connection.resume()
            yield data

    async def read(self, limit: int) -> bytes | None:
        """The whole body; None where it is larger than ``limit`` bytes."""
        if self.body is not None:
            return self.body if len(self.body) <= limit else None
        parts, size = [], 0
        async for part in self.chunks():
            parts.append(part)
            size += len(part)
            if size > limit:
                self.close()
                return None
        return b"".join(parts)

    def allow_silence(self, seconds: float) -> None:
        """Wait so long for the next part from now on."""
        if self._connection:
            self._connection.allow_silence(seconds)

    def so_far(self) -> bytes:
        """What came of the body and was not taken yet."""
        return b"".join(self._buffer) if self.body is None else self.body

    def done(self) -> None:
        """Nothing of what follows is wanted: the stream's end frees the connection, if it comes soon."""
        if self._connection:
            self._connection.let_end()
            self._connection = None

    def close(self) -> None:
        """Break off a stream that is not at its end; without effect otherwise."""
        if self._connection:
            self._connection.give_up()

    # -- the connection's side -------------------------------------------------------------------

    def add(self, data: bytes) -> bool:
        """Take a part; returns whether that is enough for now."""
        self._buffer.append(data)
        self._buffered += len(data)
        self._wake()
        return self._buffered > BUFFER_BYTES

    def end(self, failure: ExchangeError | None) -> None:
        """Nothing follows."""
        self._connection = None
        self._failure = failure
        self._wake()

    def _wake(self) -> None:
        if self._more and not self._more.done():
            self._more.set_result(None)


class Taker(Protocol):
    """Who waits for an answer: called once, with the one or the other, and must not raise.

    Attributes:
        patient: whether it has no use for an event stream before its first event.
    """

    patient: bool

    def answered(self, answer: Answer) -> None:
        """The answer, whole or its beginning."""

    def failed(self, failure: ExchangeError) -> None:
        """There is none."""


class _Waiter:
    """A coroutine that waits for an answer."""

    __slots__ = ("future",)
    patient = False

    def __init__(self) -> None:
        self.future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def answered(self, answer: Answer) -> None:
        if self.future.done():
            answer.close()  # it left in this very moment
        else:
            self.future.set_result(answer)

    def failed(self, failure: ExchangeError) -> None:
        if not self.future.done():
            self.future.set_exception(failure)


class Connection(asyncio.Protocol):
    """One connection to a server."""

    def __init__(self, pool: _Pool) -> None:
        self._pool = pool
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpResponseParser(self)
        self._taker: Taker | None = None
        self._answer: Answer | None = None  # that is handed on while it comes
        self._paused = False
        self.closed = False
        self.idle_until = 0.0
        self.deadline = 0.0  # next sign of life
        self.limit = 0.0  # last one of all
        self._silence = 0.0
        self._kept = False
        self._quiet = True
        self._head_bytes = 0
        self._secrets: dict[bytes, tuple[str, str]] = {}
        self._head = b""  # of the last answer of the usual form, and what it means
        self._meaning: tuple[dict[str, str], int, str] = {}, -1, ""
        self._reset()

    def _reset(self) -> None:
        self._headers: dict[str, str] = {}
        self._size = 0
        self._status = 0
        self._headed = False
        self._streams = False  # to be handed on while it comes
        self._whole = False
        self._keep = False
        self._surplus = False  # more came than was asked for
        self._body: list[bytes] = []
        self._held = 0
        self._parts = 0  # in which the body came
        self._ending = False  # of no interest any more

    # -- one exchange ----------------------------------------------------------------------------

    def start(self, data: bytes, silence: float, total: float, taker: Taker) -> None:
        """Send a request; its answer is the taker's. ``silence`` and ``total`` as for ``Client.send``."""
        now = time.monotonic()
        self._silence = silence
        self.deadline, self.limit = now + silence, now + total
        self._quiet = True
        self._taker = taker
        self._pool.busy.add(self)
        self.transport.write(data)

    async def exchange(self, data: bytes, silence: float, total: float) -> Answer:
        """The same, waited for."""
        waiter = _Waiter()
        self.start(data, silence, total, waiter)
        future = waiter.future
        try:
            return await future
        except asyncio.CancelledError:
            # With its answer complete the connection may be at work for somebody else already.
            if self._taker is waiter:
                self.give_up()
            elif future.done() and not future.cancelled() and not future.exception():
                future.result().close()
            raise

    def back(self) -> None:
        """It was taken and is not needed."""
        self._pool.idle.append(self)

    def resume(self) -> None:
        if self._paused and not self.closed:
            self._paused = False
            self.deadline = time.monotonic() + self._silence
            self.transport.resume_reading()

    def allow_silence(self, seconds: float) -> None:
        self._silence = max(self._silence, seconds)
        self.deadline = time.monotonic() + self._silence

    def let_end(self) -> None:
        """Wait for the end of an answer that nobody wants any more."""
        self._answer, self._ending = None, True
        self.limit = min(self.limit, time.monotonic() + END_SECONDS)
        self.resume()

    def give_up(self) -> None:
        """Leave in the middle: the connection is of no more use, and nobody waits for the answer."""
        self._taker = None
        self._fail(Broken("given up"))

    def sweep(self, now: float) -> None:
        """Hand over what began and does not go on, and end an exchange that is out of time.

        That a reader is slow is not the server's fault.
        """
        begun = (self._body or self._streams) and not (self._quiet or self._answer or self._ending)
        if begun and now - (self.deadline - self._silence) > STALLED_SECONDS:
            self._hand_on()
        if now > self.limit or (now > self.deadline and not self._paused):
            self._fail(Silent("no answer in time"))

    def _fail(self, failure: ExchangeError) -> None:
        self.closed = True
        self._pool.busy.discard(self)
        if self.transport:
            self.transport.abort()
        taker, self._taker = self._taker, None
        answer, self._answer = self._answer, None
        if answer:
            answer.end(failure)
        elif taker:
            taker.failed(failure)

    # -- the transport's side --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if plain := transport.get_extra_info("socket"):
            for level, option, value in _PROBES:
                plain.setsockopt(level, option, value)

    def data_received(self, data: bytes) -> None:
        if self.closed:
            return
        if self not in self._pool.busy:
            self._pool.lost(self)
            self._fail(Broken("the server sent what nobody asked for"))
            return
        if self._quiet:
            if self._take(data):
                return
            self._reset()
        self.deadline = time.monotonic() + self._silence
        self._quiet = False
        if not self._headed:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(Broken("the server wants another protocol"))
        except httptools.HttpParserError as failure:
            # Bytes that follow a whole answer are no part of it, and the connection of no use.
            self._surplus = True
            if not self._whole:
                self._fail(Broken(f"the answer is not HTTP: {failure}"))
        # Whoever takes the answer may go on with this connection: not while the parser is at work.
        if self._whole:
            self._complete()
        elif (self._streams and (self._body or not (self._taker and self._taker.patient))) or self._is_slow():
            self._hand_on()
        elif not self._headed and self._head_bytes > MAX_HEAD_BYTES:
            self._fail(Broken(f"the head of the answer is larger than {MAX_HEAD_BYTES} bytes"))

    def _take(self, data: bytes) -> bool:
        """Take a whole answer of the usual form; False, and nothing done, where the parser must read it."""
        end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if end < 0 or ((head := data[:end]) != self._head and not self._understood(head)):
            return False
        headers, length, keep_alive = self._meaning
        if len(data) - end - 4 != length:
            return False
        self._pool.busy.discard(self)
        self._kept = True
        self._put_back(keep_alive)
        taker, self._taker = self._taker, None
        if taker:
            taker.answered(Answer(200, headers, data[end + 4 :], None))
        return True

    def _understood(self, head: bytes) -> bool:
        """Remember what a head of the usual form means: within a second a server sends the same one again and again."""
        headers = fields(head[len(_OK) :].split(b"\r\n"), self._secrets) if head.startswith(_OK) else None
        if headers is None or not (length := headers.get("content-length")) or int(length) > HOLD_BYTES:
            return False
        self._head, self._meaning = head, (headers, int(length), headers.get("keep-alive", ""))
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._pool.lost(self)
        if self not in self._pool.busy:
            return
        until_close = (
            not self._quiet and self._headed and not {"content-length", "transfer-encoding"} & self._headers.keys()
        )
        if exc is None and until_close:
            self._complete()  # a body without a length ends with the connection (RFC 9112, section 6.3)
        else:
            stale = self._kept and self._quiet
            if stale:
                self._pool.distrust()  # the others were kept as long
            why = f": {exc}" if exc else " before the answer was complete"
            self._fail(Broken(f"the connection broke{why}", stale=stale))

    def _is_slow(self) -> bool:
        """Whether the body comes in several parts; servers often send it apart from the head, but then whole."""
        self._parts += bool(self._body)
        return self._parts > 1 and not self._answer and not self._ending

    def _hand_on(self) -> None:
        """Hand over an answer that is not complete, and from then on what comes of it."""
        self._streams = False
        taker, self._taker = self._taker, None
        if taker:
            answer = self._answer = Answer(self._status, self._headers, None, self)
            if self._body:
                self._pass(answer, b"".join(self._body))
            taker.answered(answer)

    def _pass(self, answer: Answer, data: bytes) -> None:
        if answer.add(data) and not self._paused:
            self._paused = True
            self.transport.pause_reading()

    def _complete(self) -> None:
        """The answer is whole: the connection is free, or of no more use."""
        if self not in self._pool.busy:
            return
        self._pool.busy.discard(self)
        taker, self._taker = self._taker, None
        answer, self._answer = self._answer, None
        status, headers, body = self._status, self._headers, self._body
        if not self.closed:
            if self._paused:
                self._paused = False
                self.transport.resume_reading()
            self._kept = True
            if self._keep and not self._surplus and "upgrade" not in headers:
                self._put_back(headers.get("keep-alive", ""))
            else:
                self.closed = True
                self.transport.close()
        if answer:
            answer.end(None)
        elif taker:
            taker.answered(Answer(status, headers, body[0] if len(body) == 1 else b"".join(body), None))

    def _put_back(self, keep_alive: str) -> None:
        """Be idle. Whatever goes wrong here, the answer that just came is whole, and its taker is still to have it."""
        try:
            self._pool.put(self, keep_alive)
        except Exception:
            log.exception("a connection could not be kept")
            self.closed = True
            self.transport.close()

    # -- the parser's side -----------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._surplus = self._whole

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        if self._size > MAX_HEAD_BYTES:
            self._fail(Broken(f"the head of the answer is larger than {MAX_HEAD_BYTES} bytes"))
        elif not self._whole:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip(" \t")

    def on_headers_complete(self) -> None:
        if self._whole:
            return
        self._status = self._parser.get_status_code()
        if self._status < 200:
            return
        self._headed = True
        self._head_bytes = 0
        headers = self._headers
        self._streams = headers.get("content-type", "").startswith("text/event-stream") or (
            int(headers.get("content-length") or 0) > HOLD_BYTES
        )

    def on_body(self, data: bytes) -> None:
        if self.closed or self._whole:
            return
        if self._ending:
            return
        if self._answer:
            self._pass(self._answer, data)
            return
        self._body.append(data)
        self._held += len(data)
        if self._held > HOLD_BYTES:
            self._streams = True

    def on_message_complete(self) -> None:
        if self._whole:
            return
        if self._status < 200:  # interim (RFC 9110, section 15.2): the answer is still to come
            self._reset()
            return
        self._whole = True
        self._keep = self._parser.should_keep_alive()  # only known here


class _Pool:
    """The connections to one origin."""

    def __init__(self, url: SplitResult, context: ssl.SSLContext | None) -> None:
        self._host = url.hostname or ""
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._context = context if url.scheme == "https" else None
        self.idle: list[Connection] = []
        self.busy: set[Connection] = set()
        self.connecting = 0

    def kept(self) -> Connection | None:
        """A connection that is open and idle, the one used last first."""
        now = time.monotonic()
        while self.idle:
            connection = self.idle.pop()
            if connection.idle_until > now and not connection.closed and not connection.transport.is_closing():
                return connection
            connection.closed = True
            connection.transport.close()
        return None

    async def take(self, *, fresh: bool) -> Connection:
        """An open connection."""
        if not fresh and (connection := self.kept()):
            return connection
        loop = asyncio.get_running_loop()
        self.connecting += 1
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, made = await loop.create_connection(
                    lambda: Connection(self), self._host, self._port, ssl=self._context
                )
        except TimeoutError:
            raise ConnectFailed(f"no connection within {CONNECT_SECONDS:g} s") from None
        except OSError as failure:
            raise ConnectFailed(str(failure)) from failure
        finally:
            self.connecting -= 1
        # Nothing else may run before the exchange begins: a pool with neither is forgotten.
        return made

    def put(self, connection: Connection, keep_alive: str) -> None:
        seconds = KEEP_SECONDS
        if keep_alive:
            _, _, told = keep_alive.partition("timeout=")
            if digits := _SECONDS.match(told):
                seconds = max(0.0, min(MAX_KEEP_SECONDS, int(digits[1]) - 1.0))
        connection.idle_until = time.monotonic() + seconds
        self.idle.append(connection)

    def distrust(self) -> None:
        """Part with the idle connections."""
        for connection in self.idle:
            connection.closed = True
            connection.transport.close()
        self.idle.clear()

    def lost(self, connection: Connection) -> None:
        if connection in self.idle:
            self.idle.remove(connection)

    def sweep(self, now: float) -> None:
        for connection in list(self.busy):
            connection.sweep(now)
        for connection in [c for c in self.idle if c.idle_until <= now]:
            self.idle.remove(connection)
            connection.closed = True
            connection.transport.close()

    def close(self) -> None:
        for connection in [*self.idle, *self.busy]:
            connection.closed = True
            connection.transport.abort()
        self.idle.clear()


class Client:
    """Connections to any number of origins. Call ``start`` in the loop, ``close`` at the end."""

    def __init__(self) -> None:
        self._pools: dict[tuple[str, str], _Pool] = {}
        self._context: ssl.SSLContext | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to watch over deadlines."""
        now = time.monotonic()
        for origin, pool in list(self._pools.items()):
            pool.sweep(now)
            if not (pool.idle or pool.busy or pool.connecting):
                del self._pools[origin]
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self.start)

    def close(self) -> None:
        """End all connections."""
        if self._timer:
            self._timer.cancel()
        for pool in self._pools.values():
            pool.close()

    @property
    def connections(self) -> tuple[int, int]:
        """How many are idle and busy."""
        pools = self._pools.values()
        return sum(len(pool.idle) for pool in pools), sum(len(pool.busy) for pool in pools)

    def kept(self, url: SplitResult) -> Connection | None:
        """A connection to the origin of ``url`` that is open and idle; ``start`` it now, or give it ``back``."""
        pool = self._pools.get((url.scheme, url.netloc))
        return pool.kept() if pool else None

    async def send(self, url: SplitResult, data: bytes, silence: float, total: float, fresh: bool = False) -> Answer:
        """Send a whole request to the origin of ``url`` and return the answer.

        Args:
            data: head and body.
            silence: longest wait for a sign of life, in seconds.
            total: longest duration, in seconds.
            fresh: over a new connection.

        Raises:
            ConnectFailed: nothing was sent.
            Broken: the connection ended first.
            Silent: too long without a sign of life, or too long in all.
        """
        origin = (url.scheme, url.netloc)
        pool = self._pools.get(origin)
        if pool is None:
            if url.scheme == "https" and self._context is None:
                self._context = ssl.create_default_context()
            pool = self._pools[origin] = _Pool(url, self._context)
        connection = await pool.take(fresh=fresh)
        return await connection.exchange(data, silence, total)


def origin_of(url: str) -> SplitResult:
    """The URL in parts, as ``Client.send`` takes it."""
    return urlsplit(url)
