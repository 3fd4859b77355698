"""Messages to one server: one goes out, its response comes back, what precedes that is handed on.

2025-11-25 basic/transports and 2026-07-28 basic/transports/streamable-http agree on this much: a request is
one POST, and the answer is one JSON object or an event stream that ends with it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

import orjson

from mcp_gateway.config import Server
from mcp_gateway.net import client as net
from mcp_gateway.net.client import Broken, Client, Connection
from mcp_gateway.passing import Malformed, Passing, Unusual
from mcp_gateway.protocol import UNAVAILABLE, Json, RpcError, encoded
from mcp_gateway.sse import TooLarge, events
from mcp_gateway.upstream.call import Begun, Sink

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# Of the answer to a safe call so much is held: until then another replica can still be asked if this one dies.
HELD_BYTES = 64 * 1024
_TOO_LARGE = f"an answer of the server is larger than {MAX_MESSAGE_BYTES} bytes"
SEND_SECONDS = 30.0
# A stream without requests of ours may be silent for long; servers send comments now and then, or end it.
STREAM_SECONDS = 3600.0

# How long a server may wait for the answer to what it asks its client.
QUESTION_SECONDS = 600.0

_ACCEPT = b"accept: application/json, text/event-stream\r\naccept-encoding: identity\r\n"
# These say nothing about what a server speaks: who may, how often, how much.
_ERALESS_STATUS = (401, 403, 408, 413, 429)

Take = Callable[[Json], Awaitable[None]]


class WrongEra(Exception):
    """The server refused, and not as a server of the era would that it was taken for; nothing was executed."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer


@dataclass(slots=True)
class Answer:
    """An HTTP answer: its status, the session it names, and the message in it (empty if it held none)."""

    status: int
    session_id: str | None
    message: Json

    def is_refusal(self) -> bool:
        """Whether the status says that the request was not understood."""
        return 400 <= self.status < 500 and self.status not in _ERALESS_STATUS

    def result(self) -> Json:
        """The result.

        Raises:
            RpcError: the server's error, or what it sent in place of a message.
        """
        failure = self.message.get("error")
        if isinstance(failure, dict):
            code = failure.get("code")
            raise RpcError(
                code if isinstance(code, int) else UNAVAILABLE, str(failure.get("message", "")), failure.get("data")
            )
        value = self.message.get("result")
        if not isinstance(value, dict):
            raise RpcError(UNAVAILABLE, f"the server answered HTTP {self.status} without a JSON-RPC response")
        return value


class Wire:
    """Sends messages to any replica of one server."""

    def __init__(self, server: Server, client: Client) -> None:
        self._server = server
        self._client = client
        self._ids = itertools.count(1)
        self._targets: dict[tuple[bytes, str], tuple[SplitResult, bytes]] = {}
        self._common = "".join(f"{name}: {value}\r\n" for name, value in server.headers.items()).encode("latin-1")

    def next_id(self) -> int:
        """A request id that no other request to this server has."""
        return next(self._ids)

    def _head(self, method: bytes, url: str) -> tuple[SplitResult, bytes]:
        """Origin and the part of the head that is the same for every message to the URL."""
        known = self._targets.get((method, url))
        if known is None:
            parts = urlsplit(url)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            host = self._server.host_header or parts.netloc.rpartition("@")[2]
            if len(self._targets) > 1024:
                self._targets.clear()
            head = f" {path} HTTP/1.1\r\nhost: {host}\r\n".encode()
            rest = head + _ACCEPT + self._common
            known = self._targets[(method, url)] = (parts, method + rest)
        return known

    def kept(self, url: str) -> tuple[Connection, bytes] | None:
        """A connection to the replica that is open and idle, and the head of requests by it.

        ``start`` a request over it now, or give it ``back``.
        """
        origin, head = self._head(b"POST", url)
        connection = self._client.kept(origin)
        return (connection, head) if connection else None

    def start(self, connection: Connection, head: bytes, body: bytes, lines: bytes, taker: net.Taker) -> None:
        """Send a request over ``connection``; the answer is the taker's."""
        server = self._server
        connection.start(_request(head, lines, body), server.timeout_seconds, server.max_seconds, taker)

    async def request(
        self,
        url: str,
        body: Json,
        lines: bytes,
        take: Take | None,
        fresh: bool = False,
        begun: Begun | None = None,
        sink: Sink | None = None,
        safe: bool = False,
    ) -> Answer:
        """Send a request and read up to its response.

        Args:
            lines: of the head, beyond those that all requests have.
            take: gets the notifications, and the server's own requests, that precede the response.
            fresh: open a connection for it.
            begun: it was sent already; what came of that.
            sink: takes the result while it comes, where that can be; the one returned has no content then.
            safe: whether it can be sent again as long as nothing was passed on.

        Raises:
            net.ExchangeError: the exchange failed.
            RpcError: the answer is larger than the gateway takes, or answers something else.
        """
        if begun:
            answer = begun.outcome()
        else:
            answer = await self._post(url, body, lines, self._server.timeout_seconds, self._server.max_seconds, fresh)
        session_id = answer.headers.get("mcp-session-id")
        hold = HELD_BYTES if safe else 0
        if not answer.streams:
            if answer.headers.get("content-encoding", "identity") != "identity":
                answer.close()
                raise RpcError(UNAVAILABLE, "the server compressed its answer, which nobody asked it to do")
            if int(answer.headers.get("content-length") or 0) > MAX_MESSAGE_BYTES:
                answer.close()
                raise RpcError(UNAVAILABLE, _TOO_LARGE)
            data: bytes | None
            if answer.body is None and answer.status == 200 and sink and (passing := sink.passing(body["id"])):
                data = await _passed(answer, passing, sink, hold)
                if passing.done:
                    return Answer(200, session_id, {"id": body["id"], "result": passing.others})
            else:
                data = answer.body if answer.body is not None else await answer.read(MAX_MESSAGE_BYTES)
            if data is None:
                raise RpcError(UNAVAILABLE, _TOO_LARGE)
            message = _parsed(data)
            _check_identity(message, body["id"])
            return Answer(answer.status, session_id, message)
        early = Early(body["id"], sink, hold) if sink and answer.status == 200 and answer.body is None else None
        try:
            async for message in _messages(answer, early):
                if early and (others := early.over()) is not None:
                    answer.done()
                    return Answer(200, session_id, {"id": body["id"], "result": others})
                if "method" not in message:
                    if message:
                        _check_identity(message, body["id"])
                        answer.done()
                        return Answer(answer.status, session_id, message)
                elif take and isinstance(message["method"], str):
                    if "id" in message:
                        answer.allow_silence(QUESTION_SECONDS)  # the server waits for a person
                    await take(message)
        except Malformed as failure:
            raise Broken(f"the answer is not what it began as: {failure}") from failure
        finally:
            answer.close()
        raise Broken("the event stream ended without a response")

    async def stream(
        self,
        url: str,
        body: Json | None,
        lines: bytes,
        take: Take,
        opened: Callable[[], None] | None = None,
    ) -> Answer:
        """Open a stream that lasts: GET where ``body`` is None, else POST; returns when it ends.

        Returns:
            The answer; its message is that of a refusal, or the response that ended the stream.
        """
        silence = total = STREAM_SECONDS
        if body is None:
            origin, head = self._head(b"GET", url)
            answer = await self._client.send(origin, _request(head, lines, b""), silence, total)
        else:
            answer = await self._post(url, body, lines, silence, total)
        if not answer.streams:
            return Answer(answer.status, None, _parsed(await answer.read(MAX_MESSAGE_BYTES) or b""))
        if opened:
            opened()
        try:
            async for message in _messages(answer):
                if "method" in message:
                    if isinstance(message["method"], str):
                        await take(message)
                elif message:
                    return Answer(answer.status, None, message)
        finally:
            answer.close()
        return Answer(answer.status, None, {})

    async def send(self, url: str, body: Json, lines: bytes) -> None:
        """Send a notification or a response."""
        seconds = min(SEND_SECONDS, self._server.timeout_seconds)
        answer = await self._post(url, body, lines, seconds, seconds)
        answer.close()

    async def delete(self, url: str, lines: bytes) -> None:
        """End a session."""
        origin, head = self._head(b"DELETE", url)
        answer = await self._client.send(origin, _request(head, lines, b""), SEND_SECONDS, SEND_SECONDS)
        answer.close()

    async def _post(
        self, url: str, body: Json, lines: bytes, silence: float, total: float, fresh: bool = False
    ) -> net.Answer:
        origin, head = self._head(b"POST", url)
        return await self._client.send(origin, _request(head, lines, encoded(body)), silence, total, fresh)


def lines_of(headers: Mapping[str, str]) -> bytes:
    """Lines of a head; values were encoded where they came from a client or a server."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1", "replace")


def _request(head: bytes, lines: bytes, body: bytes) -> bytes:
    """The bytes of a request."""
    kind = b"content-type: application/json\r\n" if body else b""
    return b"%b%b%bcontent-length: %d\r\n\r\n%b" % (head, lines, kind, len(body), body)


async def _passed(answer: net.Answer, passing: Passing, sink: Sink, hold: int) -> bytes:
    """Pass an answer of more than ``hold`` bytes on while it comes; what came, where it has to be held after all.

    Raises:
        net.ExchangeError, RpcError: the client has a part, and will not have the rest.
    """
    held: list[bytes] = []
    size, usual, fed = 0, True, False
    try:
        async for data in answer.chunks():
            size += len(data)
            if size > MAX_MESSAGE_BYTES:
                raise RpcError(UNAVAILABLE, _TOO_LARGE)
            if not passing.begun:
                held.append(data)
            if not usual or size <= hold:
                continue
            try:
                part = passing.feed(data if fed else b"".join(held))
            except Unusual:
                usual = False
                continue
            fed = True
            if part:
                await sink.write(passing, part)
            if passing.begun:
                held.clear()
        if not fed:
            return b"".join(held)
        try:
            passing.finish()
        except Unusual:
            return b"".join(held)
    except Malformed as failure:
        raise Broken(f"the answer is not what it began as: {failure}") from failure
    finally:
        answer.close()
    return b""


class Early:
    """Passes on the event that has the response while it comes, of more than ``hold`` bytes; for ``sse.events``."""

    def __init__(self, identity: int, sink: Sink, hold: int = 0) -> None:
        self._identity = identity
        self._sink = sink
        self._hold = hold
        self._held = bytearray()
        self._passing: Passing | None = None

    @property
    def begun(self) -> bool:
        """Whether part of it was passed on."""
        return self._passing is not None and self._passing.begun

    async def take(self, part: bytes) -> bool:
        """Pass on what can be; returns whether the rest of the event may be passed on, too."""
        if self._passing is None:
            self._held += part
            if len(self._held) <= self._hold:
                return True
            part = bytes(self._held)
            self._held.clear()
        passing = self._passing = self._passing or self._sink.passing(self._identity)
        if passing is None:
            return False
        try:
            data = passing.feed(part)
        except Unusual:
            self._passing = None
            return False
        if data:
            await self._sink.write(passing, data)
        return True

    def over(self) -> Json | None:
        """An event has ended: the result's other members if it was passed on.

        Raises:
            Malformed: it was not all that belongs to it.
        """
        passing, self._passing = self._passing, None
        self._held.clear()
        if passing is None or not passing.begun:
            return None
        passing.finish()
        return passing.others


async def _messages(answer: net.Answer, early: Early | None = None) -> AsyncIterator[Json]:
    try:
        async for data in events(answer.chunks(), MAX_MESSAGE_BYTES, early):
            yield _parsed(data)
    except TooLarge as failure:
        raise RpcError(UNAVAILABLE, str(failure)) from failure


def _parsed(data: bytes) -> Json:
    try:
        value = orjson.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _check_identity(message: Json, identity: int) -> None:
    """A response belongs to the request whose id it has; an error may come without one (JSON-RPC 2.0, section 5)."""
    found = message.get("id")
    if found == identity or not message or (found is None and "error" in message):
        return
    raise RpcError(UNAVAILABLE, f"the server answered another request than it was asked (id {str(found)[:40]!r})")


async def quietly(work: Awaitable[None], seconds: float) -> None:
    """Do what nobody waits for; that it fails matters to no one."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except (OSError, RpcError):
        return
