"""HTTP/1.1 to clients, on asyncio's protocols and llhttp (RFC 9110, RFC 9112).

``Connection`` parses requests and hands each to the handler as an ``Exchange``, which answers it: at once, or
as a stream. A request that comes whole and has the usual form needs no parser (``heads``). Requests of one connection
are answered one after the other. Every resource that a client can hold is bounded here: bytes of head and body, time
to send them, time to take the answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import unquote

import httptools

from mcp_gateway.net.heads import fields
from mcp_gateway.net.messages import Request, Response

MAX_HEAD_BYTES = 64 * 1024
MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_HEADERS = 128
MAX_PIPELINED = 16
REQUEST_SECONDS = 30.0
IDLE_SECONDS = 75.0
STALLED_SECONDS = 60.0
SWEEP_SECONDS = 1.0
SMALL_BYTES = 64 * 1024
MAX_TARGETS = 1024
MAX_TARGET_BYTES = 256

Handler = Callable[["Exchange"], None]

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
_names: dict[bytes, str] = {}
_BLANK = ("", " ", "\t")


def _name(raw: bytes) -> str:
    """A header's name in lower case; the usual ones are not decoded again and again."""
    name = _names.get(raw)
    if name is None:
        name = raw.decode("latin-1").lower()
        if len(_names) < 1024 and len(raw) < 64:
            _names[raw] = name
    return name


class Exchange:
    """One request and its answer: ``respond``, or ``open_stream``, ``send`` and ``finish``.

    Attributes:
        gone: whether the client left before it had the answer.
        started: whether the answer has begun.
        finished: whether it is complete.
        wrote: when something was sent last (``time.monotonic``).
        on_gone: called once when the client leaves early.
        extra: whole header lines that the answer has, whichever it will be.
    """

    __slots__ = ("_chunked", "_connection", "extra", "finished", "gone", "on_gone", "request", "started", "wrote")

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection = connection
        self.request = request
        self.started = False
        self.finished = False
        self.gone = False
        self.on_gone: Callable[[], object] | None = None
        self.extra = b""
        self.wrote = 0.0
        self._chunked = True

    @property
    def memory(self) -> dict[str, Any]:
        """What the handler keeps of the client for as long as it is connected."""
        return self._connection.memory

    def respond_json(self, body: bytes) -> None:
        """Send the whole answer: 200, with this JSON."""
        if self.extra:
            self.respond(Response(200, body))
        elif not self.started and not self.gone:
            self.started = self.finished = True
            self._connection.write_json(body, self.request)

    def respond(self, response: Response) -> None:
        """Send the whole answer."""
        if self.started or self.gone:
            return
        self.started = self.finished = True
        self._connection.write_whole(response, self.extra, head_only=self.request.method == "HEAD")

    def open_stream(self, content_type: bytes, headers: bytes = b"") -> None:
        """Begin an answer whose length is not known yet; ``headers`` are whole lines."""
        if self.started or self.gone:
            return
        self.started = True
        self.wrote = time.monotonic()
        self._chunked = self._connection.write_stream_head(content_type, headers + self.extra)

    def put(self, data: bytes) -> None:
        """Send a part without waiting; for small ones."""
        if data and not self.gone and not self.finished:
            self.wrote = time.monotonic()
            self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    async def send(self, data: bytes) -> None:
        """Send a part, and wait while the client takes what was sent before."""
        self.put(data)
        await self._connection.writable()

    def finish(self) -> None:
        """The stream's regular end."""
        if self.finished:
            return
        self.finished = True
        if not self.gone:
            if self._chunked:
                self._connection.write(b"0\r\n\r\n")
            self._connection.answered(keep=self._chunked)

    def abort(self) -> None:
        """Break off: the client must not take what it has for the whole."""
        self.finished = True
        self._connection.abort()

    def lose(self) -> None:
        """The connection is gone."""
        self.gone = True
        if not self.finished and self.on_gone:
            self.on_gone()


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._exchange: Exchange | None = None
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._keep = True
        self._writable: asyncio.Future[None] | None = None
        self._stalled_since = 0.0
        self._since = 0.0  # when the request being read began, or the last one was answered
        self._reading = False
        self._headed = False
        self._head_bytes = 0  # since the request began, or since the last part of its body
        self._paused = False
        self._refusal: Response | None = None
        self._rest = 0  # of a body that llhttp does not read
        self._old = False  # HTTP/1.0
        self.memory: dict[str, Any] = {}
        self._secrets: dict[bytes, tuple[str, str]] = {}
        self._head = b""  # of the last request of the usual form, and what it means
        self._meaning: tuple[tuple[str, str, str], dict[str, str], int] = ("", "", ""), {}, -1
        self._begin()

    # -- the transport's side --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._since = time.monotonic()
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._waiting.clear()
        if self._writable and not self._writable.done():
            self._writable.set_result(None)
        if self._exchange:
            self._exchange.lose()

    def eof_received(self) -> None:
        """A client that will not send any more has left: asyncio closes the connection."""

    def pause_writing(self) -> None:
        self._stalled_since = time.monotonic()
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        self._stalled_since = 0.0
        if self._writable and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None
        if self._waiting or self._refusal:
            self._next()

    def data_received(self, data: bytes) -> None:
        if self._refusal:
            return  # the answer to what cannot be read is under way
        if self._exchange is None and not (self._reading or self._writable or self._waiting) and self._take(data):
            return
        if self._rest:
            self._read_rest(data)
            return
        if self._reading:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
            if self._head_bytes > MAX_HEAD_BYTES and self._reading:
                self._refuse(431, f"the head, or what follows the body, is larger than {MAX_HEAD_BYTES} bytes")
        except httptools.HttpParserUpgrade as upgrade:
            # No other protocol is spoken here: the wish may be ignored (RFC 9110, section 7.8). llhttp reads no
            # further, not even the body.
            self._keep = False
            if self._rest:
                self._read_rest(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(400, "not HTTP/1.1")
        if self._refusal or self._waiting:
            self._next()

    def _take(self, data: bytes) -> bool:
        """Take a whole request of the usual form; False, and nothing done, where the parser must read it."""
        end = data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
        if end < 0 or self._rest:
            return False
        if (head := data[:end]) != self._head and not self._understood(head):
            return False
        (method, path, query), headers, length = self._meaning
        if len(data) - end - 4 != length:
            return False
        self._old = False
        self._exchange = exchange = Exchange(self, Request(method, path, query, headers, data[end + 4 :]))
        self._server.handle(exchange)
        return True

    def _understood(self, head: bytes) -> bool:
        """Remember what a head of the usual form means: clients send the same one again and again."""
        first, *lines = head.split(b"\r\n")
        target = self._server.targets.get(first)
        headers = fields(lines, self._secrets) if target and len(lines) <= MAX_HEADERS else None
        if target is None or headers is None or "host" not in headers:
            return False
        length = int(headers.get("content-length") or 0)
        if length > MAX_BODY_BYTES:
            return False
        self._head, self._meaning = head, (target, headers, length)
        return True

    def _read_rest(self, data: bytes) -> None:
        """The body of a request that wished for another protocol."""
        part = data[: self._rest]
        self.on_body(part)
        self._rest -= len(part)
        if not self._rest:
            self._queue(keep=False)
            self._next()

    # -- the parser's side -----------------------------------------------------------------------

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._repeated: set[str] | None = None
        self._count = 0  # of repeated fields and trailers
        self._size = 0
        self._body: bytes | bytearray = b""

    def on_message_begin(self) -> None:
        self._begin()
        self._reading = True
        self._headed = False
        self._head_bytes = 0
        self._since = time.monotonic()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._size += len(name) + len(value)
        if self._headed:
            # A trailer is no header (RFC 9110, section 6.5.1), and nobody here wants one.
            self._count += 1
            self._limit_fields()
            return
        key, text = _names.get(name) or _name(name), value.decode("latin-1")
        if text[-1:] in _BLANK:  # llhttp takes off what is before
            text = text.strip(" \t")
        headers = self._headers
        if key in headers:
            self._repeated = (self._repeated or set()) | {key}
            self._count += 1
            text = f"{headers[key]}, {text}"
            if len(text) > MAX_HEAD_BYTES:
                self._refuse(431, f"the head is larger than {MAX_HEAD_BYTES} bytes")
        headers[key] = text

    def on_headers_complete(self) -> None:
        self._headed = True
        self._limit_fields()
        version = self._parser.get_http_version()
        self._old = version == "1.0"
        if version not in ("1.0", "1.1"):
            self._refuse(505, "HTTP/1.1 is spoken here")
        elif ("host" not in self._headers and version == "1.1") or (self._repeated and "host" in self._repeated):
            self._refuse(400, "Host is missing or given twice")  # RFC 9112, section 3.2
        elif "content-encoding" in self._headers:
            self._refuse(415, "the body must not be compressed")
        elif int(self._headers.get("content-length") or 0) > MAX_BODY_BYTES:
            self._refuse(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        elif self._headers.get("expect", "").lower() == "100-continue" and not self._exchange:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _limit_fields(self) -> None:
        if self._size > MAX_HEAD_BYTES or len(self._headers) + self._count > MAX_HEADERS:
            self._refuse(431, f"headers and trailers are larger than {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} fields")

    def on_body(self, data: bytes) -> None:
        self._head_bytes = 0
        if not self._body:
            self._body = data
            return
        if len(self._body) + len(data) > MAX_BODY_BYTES:
            self._refuse(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += data

    def on_message_complete(self) -> None:
        if self._parser.should_upgrade() and not self._body and not self._refusal:
            if "transfer-encoding" in self._headers:
                self._refuse(400, "a chunked request must not wish for another protocol")
            self._rest = int(self._headers.get("content-length") or 0)
            if self._rest and not self._refusal:
                return
        self._queue(keep=self._parser.should_keep_alive())

    def _queue(self, *, keep: bool) -> None:
        """The request is complete."""
        self._reading = False
        if self._refusal:
            return
        raw, _, query = self._url.partition(b"?")
        if not raw.startswith(b"/"):
            with contextlib.suppress(httptools.HttpParserInvalidURLError):
                # Its authority is what counts, whatever Host says (RFC 9112, section 3.2.2).
                target = httptools.parse_url(raw)
                raw = target.path or b"/"
                if target.host:
                    port = f":{target.port}" if target.port else ""
                    self._headers["host"] = target.host.decode("latin-1") + port
        path = raw.decode("latin-1")
        if "%" in path:
            path = unquote(path)
        if len(path) > 1:
            path = path.rstrip("/") or "/"
        method = self._parser.get_method()
        wanted = method.decode("latin-1"), path, query.decode("latin-1")
        if self._url.startswith(b"/") and len(self._url) <= MAX_TARGET_BYTES and not self._old:
            self._server.know(b"%b %b HTTP/1.1" % (method, self._url), wanted)
        request = Request(
            *wanted,
            self._headers,
            bytes(self._body),
            frozenset(self._repeated) if self._repeated else frozenset(),
        )
        self._waiting.append((request, keep))
        if len(self._waiting) >= MAX_PIPELINED and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _refuse(self, status: int, why: str) -> None:
        self._refusal = self._refusal or self._server.refusal(status, why)

    # -- answering -------------------------------------------------------------------------------

    def _next(self) -> None:
        if self._exchange or self._writable:
            return  # who does not take the answers has no more requests read
        if self._waiting:
            request, keep = self._waiting.popleft()
            self._keep = keep and self._keep and self._refusal is None
            self._exchange = exchange = Exchange(self, request)
            self._server.handle(exchange)
        elif self._refusal:
            self._keep = False
            self._exchange = Exchange(self, Request("", ""))
            self._exchange.respond(self._refusal)
        if self._paused and len(self._waiting) < MAX_PIPELINED:
            self._paused = False
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def writable(self) -> None:
        """Wait until the client has taken enough."""
        if self._writable:
            await asyncio.shield(self._writable)

    def write_whole(self, response: Response, extra: bytes = b"", *, head_only: bool) -> None:
        status, body = response.status, response.body
        headers = "".join([f"{key}: {value}\r\n" for key, value in response.headers]) if response.headers else ""
        kind = f"content-type: {response.content_type}\r\n" if body else ""
        keep = self._keep and not self._server.draining
        head = b"HTTP/1.1 %d %b\r\n%b%b%b%bcontent-length: %d\r\n%b\r\n" % (
            status,
            _REASONS.get(status, b""),
            self._server.date,
            kind.encode("latin-1"),
            headers.encode("latin-1"),
            extra,
            len(body),
            b"" if keep else b"connection: close\r\n",
        )
        if head_only:
            self._transport.write(head)
        elif len(body) < SMALL_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))
        self.answered(keep=keep)

    def write_json(self, body: bytes, request: Request) -> None:
        server = self._server
        if self._keep and not server.draining and len(body) < SMALL_BYTES and request.method != "HEAD":
            self._transport.write(b"%b%d\r\n\r\n%b" % (server.json_head, len(body), body))
            self._exchange = None
            self._since = server.now
            if self._waiting or self._refusal:
                asyncio.get_running_loop().call_soon(self._next)
        else:
            self.write_whole(Response(200, body), head_only=request.method == "HEAD")

    def write_stream_head(self, content_type: bytes, headers: bytes) -> bool:
        """Send the head; returns whether parts are chunks (RFC 9112, section 7.1) or go on to the end (1.0)."""
        chunked = not self._old
        self._keep = self._keep and chunked and not self._server.draining
        self._transport.write(
            b"HTTP/1.1 200 OK\r\n%bcontent-type: %b\r\n%b%b%b\r\n"
            % (
                self._server.date,
                content_type,
                headers,
                b"transfer-encoding: chunked\r\n" if chunked else b"",
                b"" if self._keep else b"connection: close\r\n",
            )
        )
        return chunked

    def answered(self, *, keep: bool) -> None:
        """The answer is complete: read on, or close."""
        self._exchange = None
        self._since = self._server.now
        if not (keep and self._keep):
            self._transport.close()
        elif self._waiting or self._refusal:
            asyncio.get_running_loop().call_soon(self._next)

    def abort(self) -> None:
        self._transport.abort()

    # -- housekeeping ----------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        return self._exchange is None and not self._waiting and not self._reading

    def close(self) -> None:
        self._transport.close()

    def sweep(self, now: float) -> None:
        """Part with a client that takes too long."""
        if self._stalled_since and now - self._stalled_since > STALLED_SECONDS:
            self._transport.abort()
        elif self._reading and now - self._since > REQUEST_SECONDS:
            if self._exchange is None:
                self._refuse(408, f"the request did not arrive within {REQUEST_SECONDS:g} s")
                self._next()
        elif self.idle and now - self._since > IDLE_SECONDS:
            self._transport.close()


class Server:
    """Listens, and holds the connections.

    Args:
        handle: takes each request; synchronous, it may start a task.
        refusal: the answer to what could not be read, from status and reason.

    Attributes:
        draining: answers ask clients to close their connections.
        date: the Date line of now (RFC 9110, section 6.6.1).
        json_head: the head of an answer in JSON, up to its length.
        now: by the monotonic clock, right to a second.
        targets: method, path and query of first lines that came before.
    """

    def __init__(self, handle: Handler, refusal: Callable[[int, str], Response]) -> None:
        self.handle = handle
        self.refusal = refusal
        self.draining = False
        self.connections: set[Connection] = set()
        self.date = b""
        self.json_head = b""
        self.now = time.monotonic()
        self.targets: dict[bytes, tuple[str, str, str]] = {}
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int) -> None:
        """Accept connections from now on.

        Raises:
            OSError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        self._tick()
        self._server = await loop.create_server(lambda: Connection(self), host, port, backlog=2048)

    def _tick(self) -> None:
        self.date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        self.json_head = b"HTTP/1.1 200 OK\r\n%bcontent-type: application/json\r\ncontent-length: " % self.date
        now = self.now = time.monotonic()
        for connection in list(self.connections):
            connection.sweep(now)
        self._timer = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._tick)

    def know(self, line: bytes, target: tuple[str, str, str]) -> None:
        """Remember what a request's first line means; they come from clients, so there is an end to that."""
        if len(self.targets) >= MAX_TARGETS:
            self.targets.clear()
        self.targets[line] = target

    @property
    def sockets(self) -> list[Any]:
        """What it listens on."""
        return list(self._server.sockets) if self._server else []

    async def close(self, seconds: float) -> None:
        """Accept no more, close idle connections, and the others ``seconds`` later at the latest."""
        self.draining = True
        if self._server:
            self._server.close()
        deadline = time.monotonic() + seconds
        while self.connections and time.monotonic() < deadline:
            for connection in [c for c in self.connections if c.idle]:
                connection.close()
            await asyncio.sleep(0.02)
        for connection in list(self.connections):
            connection.abort()
        if self._timer:
            self._timer.cancel()
