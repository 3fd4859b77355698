"""What both eras answer with, and the way there: JSON, or an event stream as soon as something precedes the result."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from mcp_gateway import sse
from mcp_gateway.net.messages import Response
from mcp_gateway.net.server import Exchange
from mcp_gateway.passing import Passing
from mcp_gateway.protocol import INTERNAL_ERROR, UNWRITABLE, Json, error

if TYPE_CHECKING:
    from mcp_gateway.audit.log import Outcome

KEEPALIVE_SECONDS = 10.0
# Proxies in between must not hold events back (nginx's name for it, which others understand as well).
STREAM_HEADERS = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"


@dataclass(slots=True)
class Reply:
    """An HTTP answer: a message (or several, for a batch), or only a status. ``headers`` are added to the response."""

    status: int
    message: Json | list[Json] | None = None
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it is an error."""
        return self.status >= 400 or (isinstance(self.message, dict) and "error" in self.message)

    @property
    def verdict(self) -> tuple[Outcome, int, str]:
        """How the message has it: outcome, and the JSON-RPC error's code and message (0 and empty without one)."""
        message = self.message
        if isinstance(message, dict) and "error" in message:
            return "error", message["error"]["code"], message["error"]["message"]
        if isinstance(message, dict) and message["result"].get("isError") is True:
            return "tool_error", 0, ""
        return "ok", 0, ""

    def response(self, server: str = "") -> Response:
        """As it leaves."""
        return Response(
            self.status, b"" if self.message is None else written(self.message, server), headers=self.headers
        )


class Channel:
    """The way to the client of one request.

    Args:
        streams: whether the client takes an event stream.
        since: when the request came, by the monotonic clock; None for now.
        headers: whole header lines of an event stream, beyond the usual ones.
        batch: whether it is the way of several requests, whose replies are one.
    """

    __slots__ = ("_batch", "_exchange", "_headers", "_in_event", "_since", "passing", "sent", "streams")

    def __init__(
        self,
        exchange: Exchange,
        streams: bool,
        since: float | None = None,
        headers: bytes = b"",
        *,
        batch: bool = False,
    ) -> None:
        self._exchange = exchange
        self._batch = batch
        self._headers = headers
        self._since = time.monotonic() if since is None else since
        self.streams = streams
        self.sent = 0  # bytes of the reply
        self.passing: Passing | None = None  # what rewrites a result that is passed on
        self._in_event = False  # as part of an event stream

    @property
    def started(self) -> bool:
        """Whether the answer has begun."""
        return self._exchange.started

    @property
    def gone(self) -> bool:
        """Whether the client left."""
        return self._exchange.gone

    @property
    def takes_parts(self) -> bool:
        """Whether the reply can be sent in parts: by itself, or as the event of a stream."""
        exchange = self._exchange
        if self._batch:
            return False
        return not exchange.started or (self.streams and not (exchange.finished or self._passes))

    @property
    def _passes(self) -> bool:
        """Whether parts of the reply were sent: nothing else can be said in between."""
        return self.passing is not None and self.passing.begun

    def open(self) -> None:
        """Begin the event stream."""
        if not self._exchange.started:
            self._exchange.open_stream(b"text/event-stream", STREAM_HEADERS + self._headers)

    async def send(self, message: Json) -> None:
        """Send a message as an event; without effect where the client takes none."""
        if self.streams and not self._exchange.gone and not self._passes:
            self.open()
            await self._exchange.send(sse.event(written(message)))

    def put(self, message: Json) -> None:
        """The same without waiting for a client that is slow to take it."""
        if self.streams and not self._exchange.gone and not self._passes:
            self.open()
            self._exchange.put(sse.event(written(message)))

    def keep_alive(self, now: float) -> None:
        """Say something where nothing was said for long, lest something in between give up."""
        silent = now - max(self._since, self._exchange.wrote)
        if self._passes:
            return
        if self.streams and not self._exchange.gone and silent > KEEPALIVE_SECONDS:
            self.open()
            self._exchange.put(sse.KEEPALIVE)

    async def pass_on(self, data: bytes) -> None:
        """Send a part of a reply in JSON, and wait while the client takes what was sent before."""
        exchange = self._exchange
        if not exchange.started:
            exchange.open_stream(b"application/json", STREAM_HEADERS + self._headers)
        elif not self.sent:
            self._in_event = True
            exchange.put(sse.EVENT)
        self.sent += len(data)
        await exchange.send(data)

    def finish(self, reply: Reply | None, server: str = "") -> None:
        """Send the reply, which came from ``server``; None ends a stream without one."""
        exchange = self._exchange
        if exchange.gone or exchange.finished:
            return
        if self.passing and self.passing.begun:
            if not (self.passing.done and reply and not reply.failed):
                exchange.abort()  # a part must not be taken for the whole
                return
            if self._in_event:
                exchange.put(sse.EVENT_END)
            exchange.finish()
            return
        if not exchange.started:
            if reply and reply.status == 200 and reply.message is not None and not reply.headers:
                body = written(reply.message, server)
                self.sent = len(body)
                exchange.respond_json(body)
                return
            response = reply.response(server) if reply else Response(202)
            self.sent = len(response.body)
            exchange.respond(response)
            return
        messages = reply.message if reply and isinstance(reply.message, list) else [reply.message] if reply else []
        for message in messages:
            if message is not None:
                data = sse.event(written(message, server))
                self.sent += len(data)
                exchange.put(data)
        exchange.finish()


def written(message: Json | list[Json], server: str = "") -> bytes:
    """JSON of a reply, or of an error where a server sent what cannot be passed on."""
    try:
        return orjson.dumps(message)
    except TypeError as failure:
        identity = message.get("id") if isinstance(message, dict) else None
        where = f"server {server}: " if server else ""
        return orjson.dumps(error(identity, INTERNAL_ERROR, f"{where}{UNWRITABLE}: {failure}"))
