"""One MCP endpoint over HTTP: who may use it, which era a request speaks, and its way there and back.

A client that leaves cancels its call in 2026 (2026-07-28 basic/patterns/cancellation) and does not in 2025
(2025-11-25 basic/transports), where a notification does.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Coroutine
from typing import Any

import orjson

from mcp_gateway import peers, tracing
from mcp_gateway.audit import Audit
from mcp_gateway.auth import Authenticator, Unauthorized
from mcp_gateway.config import Config
from mcp_gateway.downstream import Channel, Legacy, Modern, Parking, Reply, is_modern
from mcp_gateway.downstream.legacy import BATCHES
from mcp_gateway.flight import Flight, broke
from mcp_gateway.hub import Hub
from mcp_gateway.limits import Limiter
from mcp_gateway.maintenance import Maintenance
from mcp_gateway.metrics import Metrics
from mcp_gateway.net.client import Client
from mcp_gateway.net.messages import Response
from mcp_gateway.net.server import Exchange
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import INVALID_REQUEST, PARSE_ERROR, UNAVAILABLE, Json, error
from mcp_gateway.reader import parts_of
from mcp_gateway.sessions import Sealer, Session
from mcp_gateway.states import States
from mcp_gateway.views import Forbidden, Request, View

MAX_BATCH = 100
RECENT_ERRORS = 100
MAX_HOSTS = 256


class Shared:
    """What all endpoints share; the configuration is replaced when it changes."""

    def __init__(self, config: Config, metrics: Metrics, client: Client, address: str, states: States) -> None:
        self.config = config
        self.states = states
        self.peers: peers.Peers | None = None
        self.client = client
        self.address = address  # what other gateway replicas know this one by
        self.auth = Authenticator(config.auth)
        self.audit = Audit(config.audit, sys.stdout)
        self.limiter = Limiter()
        self.maintenance = Maintenance(config.session_keys)
        self.tracer = tracing.create(config.tracing)
        self.metrics = metrics
        self.inflight = 0
        self.open: set[Channel | Flight] = set()
        self.errors: deque[Json] = deque(maxlen=RECENT_ERRORS)
        self._hosts: dict[str, bool] = {}

    def configure(self, config: Config) -> None:
        """Go by another configuration from now on."""
        self.config = config
        self._hosts.clear()

    def host_allowed(self, headers: dict[str, str]) -> bool:
        """Whether the request was meant for this gateway (DNS rebinding)."""
        host = headers.get("host", "")
        known = self._hosts.get(host)
        if known is None:
            known = self._host_allowed(host)
            if len(self._hosts) >= MAX_HOSTS:
                self._hosts.clear()
            self._hosts[host] = known
        return known

    def _host_allowed(self, host: str) -> bool:
        allowed = self.config.allowed_hosts
        if "*" in allowed:
            return True
        name = host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdigit() else host
        return name in allowed or host in allowed


def unauthorized(refusal: Unauthorized) -> Response:
    """The answer to a missing or wrong credential, or to one that does not suffice."""
    headers = [("www-authenticate", refusal.challenge)] if refusal.challenge else []
    if refusal.retry_after:
        headers.append(("retry-after", str(refusal.retry_after)))
    return Response(refusal.status, orjson.dumps({"error": refusal.message}), headers=tuple(headers))


class Endpoint:
    """One path.

    Attributes:
        label: its server's name, or ``*``, in metrics and logs.
        running: requests of sessions, by session and request id: what clients of 2025 may cancel.
    """

    def __init__(self, path: str, view: View, shared: Shared, sealer: Sealer, parking: Parking, hub: Hub) -> None:
        self._path = path
        self.shared = shared
        self.label = path.split("/")[2] if path != "/mcp" else "*"
        self._modern = Modern(view, parking, hub)
        self._legacy = Legacy(view, sealer, hub, shared.address, shared.states)
        self.running: dict[tuple[str, Any], Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def show(self, view: View) -> None:
        """Show this from now on."""
        self._modern.show(view)
        self._legacy.show(view)

    def take(self, exchange: Exchange) -> None:
        """Answer a request: at once, or by a task of its own where something has to be waited for."""
        try:
            request, shared = exchange.request, self.shared
            headers = request.headers
            origin = headers.get("origin")
            if not shared.host_allowed(headers) or (origin is not None and not self._origin_allowed(origin)):
                shared.metrics.refused.labels("origin").inc()
                exchange.respond(
                    Response(403, orjson.dumps(error(None, INVALID_REQUEST, "Host or Origin is not allowed")))
                )
                return
            if origin is not None:
                exchange.extra = _readable(origin)
            if request.method == "OPTIONS":
                exchange.respond(_preflight(headers))
            else:
                authorization, api_key = headers.get("authorization", ""), headers.get("x-api-key", "")
                principal = shared.auth.known(authorization, api_key, self._path, exchange.memory)
                if principal is None:
                    self.spawn(exchange, self._introduced(exchange, authorization, api_key))
                else:
                    self._admitted(exchange, principal)
        except Exception:
            broke(exchange)

    def spawn(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        """Run what has to wait; what breaks in the gateway itself is told."""

        async def guarded() -> None:
            try:
                await work
            except Exception:
                broke(exchange)

        # It runs at once, up to where it first waits.
        task = asyncio.Task(guarded(), loop=asyncio.get_running_loop(), eager_start=True)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    # -- whence and who --------------------------------------------------------------------------

    async def _introduced(self, exchange: Exchange, authorization: str, api_key: str) -> None:
        """Find out who it is."""
        request, shared = exchange.request, self.shared
        try:
            principal = await shared.auth.authenticate(authorization, api_key, self._path)
        except Unauthorized as refusal:
            shared.metrics.refused.labels("unauthorized").inc()
            shared.audit.record(
                None, "", request.method, self.label, "", "", "refused", refusal.status, 0.0,
                len(request.body), 0, reason=refusal.message,
            )  # fmt: skip
            exchange.respond(unauthorized(refusal))
        else:
            self._admitted(exchange, principal)

    def _admitted(self, exchange: Exchange, principal: Principal) -> None:
        """It is known who asks."""
        method = exchange.request.method
        if self.label != "*" and not self.shared.config.profiles.of(principal).sees_server(self.label):
            why = f"profile {principal.profile or 'default'} does not see server {self.label}"
            exchange.respond(Response(403, orjson.dumps(error(None, INVALID_REQUEST, why))))
        elif method == "POST":
            self._post(exchange, principal)
        elif method == "GET" and (refusal := self._closed(exchange, self.label, {"method": "", "id": None})):
            exchange.respond(refusal)
        elif method in ("GET", "DELETE"):
            self.spawn(exchange, self._responded(exchange, self._session_request(exchange, principal)))
        else:
            exchange.respond(Response(405, headers=(("allow", "GET, POST, DELETE, OPTIONS"),)))

    def _origin_allowed(self, origin: str) -> bool:
        """Browsers say where a page came from: other sites must not use a client's access (DNS rebinding)."""
        config = self.shared.config
        if origin in config.allowed_origins:
            return True
        return "*" not in config.allowed_hosts and parts_of(origin).hostname in config.allowed_hosts

    # -- messages --------------------------------------------------------------------------------

    def _post(self, exchange: Exchange, principal: Principal) -> None:
        """Read the message, and hand it to the era that it speaks."""
        headers = exchange.request.headers
        try:
            body = orjson.loads(exchange.request.body)
        except ValueError:
            exchange.respond(self._malformed(PARSE_ERROR, "the body is not JSON"))
            return
        if refusal := self._closed(exchange, self.label, body):
            self._refused(exchange, principal, self.label, body)
            exchange.respond(refusal)
        elif isinstance(body, list):
            self.spawn(exchange, self._responded(exchange, self._batch(exchange, body, principal)))
        elif not isinstance(body, dict) or body.get("jsonrpc") != "2.0":
            exchange.respond(self._malformed(INVALID_REQUEST, "the body is not one JSON-RPC 2.0 message"))
        elif "method" in body and not isinstance(body["method"], str):
            exchange.respond(self._malformed(INVALID_REQUEST, "method is not a string"))
        else:
            era = self._modern if is_modern(body, headers) else self._legacy
            # What goes on with an earlier request may be held by another gateway replica.
            holder = era.holder(body) if era.goes_on(body) else None
            if holder and holder != self.shared.address and peers.FORWARDED not in headers:
                self.spawn(exchange, self._handed_over(exchange, era, body, principal, holder))
            else:
                self._message(exchange, era, body, principal)

    async def _handed_over(
        self, exchange: Exchange, era: Modern | Legacy, body: Json, principal: Principal, holder: str
    ) -> None:
        """The gateway replica that holds what the message goes on with has it; this one, where that is gone."""
        task = asyncio.current_task()
        assert task is not None
        exchange.on_gone = task.cancel
        self.shared.inflight += 1  # of this replica's, too: its end must wait for the other's answer
        try:
            taken = await peers.hand_over(self.shared.client, exchange, holder)
        finally:
            self.shared.inflight -= 1
        if not taken:
            exchange.on_gone = None
            self._message(exchange, era, body, principal)

    def _message(self, exchange: Exchange, era: Modern | Legacy, body: Json, principal: Principal) -> None:
        """Check the envelope, and answer or begin what it asks for."""
        request = exchange.request
        headers = request.headers
        opened: Request | Reply | Coroutine[Any, Any, Reply]
        if isinstance(era, Modern):
            opened = era.open(body, headers, request.repeated, principal)
        else:
            if body.get("method") == "notifications/cancelled":
                self._cancel(headers, principal, body.get("params"))
            opened = era.open(body, headers, principal)
        if isinstance(opened, Request):
            server = era.view.server_of(opened) if self.shared.maintenance.notices and self.label == "*" else ""
            if server and (refusal := self._closed(exchange, server, body)):
                self._refused(exchange, principal, server, body)
                exchange.respond(refusal)
                return
            flight = Flight(self, exchange, era, body["id"], opened)
            if not flight.begin():
                self.spawn(exchange, flight.run())
        elif isinstance(opened, Reply):
            self._replied(exchange, body, opened)
        else:
            self.spawn(exchange, self._waited(exchange, body, opened))

    def _closed(self, exchange: Exchange, server: str, body: Any) -> Response | None:
        """The refusal where maintenance lasts and the message is something new; None where it may go on."""
        maintenance = self.shared.maintenance
        if not maintenance.notices or maintenance.passed(exchange.request.headers):
            return None
        return maintenance.refusal(server, body)

    def _refused(self, exchange: Exchange, principal: Principal, server: str, body: Any) -> None:
        """Note that a message came in maintenance."""
        method = str(body.get("method", "")) if isinstance(body, dict) else ""
        self.shared.metrics.request(self.label, method, "refused")
        self.shared.audit.record(
            principal, "", method, server, "", "", "refused", 503, 0.0,
            len(exchange.request.body), 0, reason="maintenance",
        )  # fmt: skip

    async def _responded(self, exchange: Exchange, answer: Awaitable[Response | None]) -> None:
        if response := await answer:
            exchange.respond(response)

    async def _waited(self, exchange: Exchange, body: Json, reply: Awaitable[Reply]) -> None:
        self._replied(exchange, body, await reply)

    def _replied(self, exchange: Exchange, body: Json, reply: Reply) -> None:
        """The envelope alone was enough to answer."""
        if reply.failed:
            self.shared.metrics.request(self.label, body.get("method"), "refused")
        exchange.respond(reply.response())

    def _malformed(self, code: int, why: str) -> Response:
        self.shared.metrics.refused.labels("malformed").inc()
        return Response(400, orjson.dumps(error(None, code, why)))

    def insufficient(self, refusal: Forbidden) -> Response:
        """The answer to a client whose scopes do not suffice."""
        return unauthorized(self.shared.auth.insufficient_scope(self._path, refusal.scopes, refusal.message))

    def _cancel(self, headers: dict[str, str], principal: Principal, params: Any) -> None:
        """2025-11-25 basic/utilities/cancellation: only what the same session runs."""
        session = self._legacy.session(None, headers, principal)
        identity = params.get("requestId") if isinstance(params, dict) else None
        if not isinstance(session, Session) or not isinstance(identity, str | int):
            return
        if not self.cancel(session.id, identity) and self.shared.peers:
            self.shared.peers.cancel(self._path, session.id, identity)

    def cancel(self, session: str, identity: Any) -> bool:
        """Cancel a call of a session's; returns whether it ran here."""
        flight = self.running.get((session, identity))
        if flight:
            flight.cancel()
        return flight is not None

    # -- batches ---------------------------------------------------------------------------------

    async def _batch(self, exchange: Exchange, bodies: list[Any], principal: Principal) -> Response | None:
        """Several messages at once, which only 2025-03-26 has (basic/index, "Batching")."""
        session = self._legacy.session(None, exchange.request.headers, principal)
        if not isinstance(session, Session) or session.version != BATCHES:
            return self._malformed(INVALID_REQUEST, f"a batch of messages exists in sessions of {BATCHES} only")
        if not 0 < len(bodies) <= MAX_BATCH:
            return self._malformed(INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} messages, not {len(bodies)}")
        channel = Channel(exchange, "text/event-stream" in exchange.request.headers.get("accept", ""), batch=True)

        async def one(body: Any) -> Json | None:
            if not isinstance(body, dict) or body.get("jsonrpc") != "2.0" or body.get("method") == "initialize":
                identity = body.get("id") if isinstance(body, dict) else None
                return error(identity, INVALID_REQUEST, "not a message that a batch may hold")
            headers = exchange.request.headers
            if body.get("method") == "notifications/cancelled":
                self._cancel(headers, principal, body.get("params"))
            opened = self._legacy.open(body, headers, principal)
            if isinstance(opened, Request):
                if (name := self._legacy.view.server_of(opened)) and self._closed(exchange, name, body):
                    self._refused(exchange, principal, name, body)
                    return error(body.get("id"), UNAVAILABLE, f"server {name} is in maintenance")
                return await Flight(self, exchange, self._legacy, body["id"], opened, channel).part()
            reply = opened if isinstance(opened, Reply) else await opened
            message = reply.message
            return message if isinstance(message, dict) else None

        answers = [answer for answer in await asyncio.gather(*(one(body) for body in bodies)) if answer]
        channel.finish(Reply(200, list(answers)) if answers else Reply(202))
        return None

    # -- streams and ends of sessions ------------------------------------------------------------

    async def _session_request(self, exchange: Exchange, principal: Principal) -> Response | None:
        """GET opens a session's stream, DELETE ends a session; in 2026 there is neither (405)."""
        headers = exchange.request.headers
        if is_modern({}, headers):
            return Response(405, headers=(("allow", "POST"),))
        session = self._legacy.session(None, headers, principal)
        if isinstance(session, Reply):
            return session.response()
        if exchange.request.method == "DELETE":
            return (await self._legacy.end(session)).response()
        if "text/event-stream" not in headers.get("accept", ""):
            return Response(406, orjson.dumps(error(None, INVALID_REQUEST, "Accept lacks text/event-stream")))
        channel = Channel(exchange, streams=True)
        task = asyncio.current_task()
        assert task is not None
        exchange.on_gone = task.cancel
        self.shared.open.add(channel)
        try:
            await self._legacy.listen(session, principal, channel)
        except asyncio.CancelledError:
            task.uncancel()
        finally:
            exchange.on_gone = None
            self.shared.open.discard(channel)
        channel.finish(None)
        return None


def _readable(origin: str) -> bytes:
    """What lets a page of an allowed origin read the answer (Fetch standard, "CORS protocol")."""
    return (
        b"access-control-allow-origin: %b\r\n"
        b"access-control-expose-headers: mcp-session-id, www-authenticate, retry-after\r\n"
        b"vary: origin\r\n"
    ) % origin.encode("latin-1")


def _preflight(headers: dict[str, str]) -> Response:
    """Lets pages of allowed origins use the endpoint (Fetch standard, "CORS-preflight request")."""
    if "origin" not in headers:
        return Response(405, headers=(("allow", "GET, POST, DELETE, OPTIONS"),))
    return Response(
        204,
        headers=(
            ("access-control-allow-methods", "GET, POST, DELETE"),
            ("access-control-allow-headers", headers.get("access-control-request-headers", "*")),
            ("access-control-max-age", "600"),
        ),
    )
