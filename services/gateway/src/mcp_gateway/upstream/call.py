"""One call to a server, what comes back before its response, and what the server asks meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from mcp_gateway.net.client import Answer, Broken, Connection, ExchangeError
from mcp_gateway.passing import Passing
from mcp_gateway.protocol import LOG_LEVELS, METHOD_NOT_FOUND, Json, RpcError, error, result
from mcp_gateway.sessions import Address, Pin
from mcp_gateway.tracing import Span

if TYPE_CHECKING:
    from mcp_gateway.upstream.lanes import Lane
    from mcp_gateway.upstream.legacy import UpstreamSession
    from mcp_gateway.upstream.replicas import Replica
    from mcp_gateway.upstream.server import Upstream

log = logging.getLogger("mcp_gateway.upstream")

Changed = Callable[[str, Json], None]


class Client(Protocol):
    """Who waits for a call's response."""

    async def notify(self, message: Json) -> None:
        """Take a notification that belongs to the call."""

    def refusal(self, question: Json) -> RpcError | None:
        """Why a call whose server asks this cannot go on; None where the server may be answered."""

    async def ask(self, question: Json, address: Address) -> Json | None:
        """Take a request of the server (sampling, elicitation, roots).

        Returns:
            The client's response, its id that of the question; None where it reaches ``address`` by itself.

        Raises:
            RpcError: the client cannot be asked this.
        """


class Sink(Protocol):
    """Takes a result while it comes."""

    def passing(self, expected: int) -> Passing | None:
        """What rewrites the answer with this id; None where it has to be held."""

    async def write(self, passing: Passing, data: bytes) -> None:
        """Take what that rewrote."""

    @property
    def begun(self) -> bool:
        """Whether anything was taken: then no other answer can be given."""


@dataclass(slots=True)
class Call:
    """One call to a server.

    Attributes:
        principal: for whom; the gateway itself is the empty name.
        session_key: whose upstream session it may use: a principal's with the same capabilities, or for sticky
            servers a client session's.
        pin: the client session's own session at this server, if it has one.
        safe: whether it may be sent again although it may have run.
        capabilities: the caller's, mirrored to the server.
        param_headers: ``Mcp-Param-*`` headers of the caller, forwarded to modern servers.
        schema: the input schema of the tool called, where it asks for ``Mcp-Param-*`` headers.
        log_level: least severity of log messages wanted; None for none.
        set_level: whether a server with sessions is told that level (a client that never set one takes
            what the server sends by default).
        client: who waits; None drops what precedes the response.
        trace: W3C trace context for ``_meta`` (2026-07-28 basic/index, "_meta").
        span: the request's, which is told of pool, queue and retries.
        replica: address of the replica that was asked last.
        fresh: whether it must not go over a connection that was kept.
        begun: the first try, where it was made already.
        sink: takes the result while it comes, where it need not be held.
    """

    method: str
    params: Json
    principal: str = ""
    session_key: str = ""
    pin: Pin | None = None
    safe: bool = False
    capabilities: Json = field(default_factory=dict)
    param_headers: Mapping[str, str] = field(default_factory=dict)
    schema: Json | None = None
    log_level: str | None = None
    set_level: bool = False
    client: Client | None = None
    trace: Mapping[str, str] | None = None
    span: Span | None = None
    replica: str = ""
    fresh: bool = False
    begun: Begun | None = None
    sink: Sink | None = None

    def meta(self, identity: int) -> Json:
        """Its ``_meta`` with the gateway's progress token, which is ``identity``, and trace context."""
        given = self.params.get("_meta")
        meta = dict(given) if isinstance(given, dict) else {}
        if meta.get("progressToken") is not None:
            meta["progressToken"] = identity
        if self.trace:
            meta |= self.trace
        return meta


class Begun:
    """A call's first try, sent without waiting, and what came of it. The call holds a place at its server.

    Attributes:
        identity: the id of the request.
        trial: whether it is the trial of a half-open breaker.
        start: when it was sent, by the monotonic clock.
        session: the session with a server of 2025.
        answer, failure: one of them, when it has ended.
    """

    __slots__ = (
        "answer", "call", "connection", "era", "failure", "identity", "lane", "replica", "session", "start", "trial",
        "upstream",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        upstream: Upstream,
        lane: Lane,
        replica: Replica,
        connection: Connection,
        identity: int,
        era: str,
        session: UpstreamSession | None,
        start: float,
    ) -> None:
        self.call = call
        self.upstream = upstream
        self.lane = lane
        self.replica = replica
        self.connection = connection
        self.identity = identity
        self.era = era
        self.session = session
        self.trial = replica.started()
        self.start = start
        self.answer: Answer | None = None
        self.failure: ExchangeError | None = None

    def outcome(self) -> Answer:
        """The answer, or its beginning.

        Raises:
            ExchangeError: there is none.
        """
        if self.answer is None:
            raise self.failure or Broken("nothing came")
        return self.answer


class Relay:
    """Hands what belongs to a call to its client, in the client's own terms.

    Progress tokens are unique among the sender's active requests (2026-07-28 basic/patterns/progress), and
    the gateway is the sender for many clients: it asks with the upstream request's id and puts the client's
    token back here. Log messages pass only at the level the request wants (server/utilities/logging).
    """

    __slots__ = ("_call", "_changed", "_identity", "_least", "_token", "address", "questions", "respond")

    def __init__(self, call: Call, identity: int, changed: Changed) -> None:
        self._call = call
        self._identity = identity
        self._changed = changed
        meta = call.params.get("_meta")
        self._token = meta.get("progressToken") if isinstance(meta, dict) else None
        self._least = LOG_LEVELS.index(call.log_level) if call.log_level else len(LOG_LEVELS)
        # Where responses to the server's questions go; only sessions have such a place.
        self.address: Address | None = None
        self.respond: Callable[[Json], asyncio.Future[None]] | None = None
        self.questions: set[asyncio.Task[None]] = set()

    async def take(self, message: Json) -> None:
        """Take a notification, or a request, of the server.

        Raises:
            RpcError: the server wants what the client cannot do.
        """
        method = message["method"]
        if "id" in message:
            client = self._call.client
            if client and method != "ping" and (refusal := client.refusal(message)):
                raise refusal
            task = asyncio.ensure_future(self._question(message))
            self.questions.add(task)
            task.add_done_callback(self.questions.discard)
            return
        params = message.get("params")
        if not isinstance(params, dict):
            params = {}
        if method.endswith("/list_changed") or method == "notifications/resources/updated":
            self._changed(method, params)
        elif self._call.client is None:
            return
        elif method == "notifications/progress":
            if self._token is not None and params.get("progressToken") == self._identity:
                await self._call.client.notify({**message, "params": {**params, "progressToken": self._token}})
        elif method == "notifications/message":
            level = params.get("level")
            if level in LOG_LEVELS and LOG_LEVELS.index(level) >= self._least:
                await self._call.client.notify(message)
        elif method == "notifications/elicitation/complete":
            await self._call.client.notify(message)
        else:
            log.debug("dropped", extra={"method": method})

    async def _question(self, message: Json) -> None:
        """Have the client answer what the server asks; 2026-07-28 has no such requests, so there is no address."""
        if self.address is None or self.respond is None:
            return
        answer: Json | None
        try:
            if message["method"] == "ping":
                answer = result(message["id"], {})
            elif self._call.client is None:
                answer = error(message["id"], METHOD_NOT_FOUND, "the gateway declared no such capability")
            else:
                answer = await self._call.client.ask(message, self.address)
        except RpcError as refusal:
            answer = error(message["id"], refusal.code, refusal.message, refusal.data)
        if answer is not None:
            await self.respond(answer)

    def close(self) -> None:
        """The call is over: nobody waits for open questions."""
        for task in list(self.questions):
            task.cancel()
