"""One MCP endpoint over HTTP: who may use it, which era a request speaks, and its way there and back.

A client that leaves cancels its call in 2026 (2026-07-28 basic/patterns/cancellation) and does not in 2025
(2025-11-25 basic/transports), where a notification does.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from mcp_gateway import peers, tracing
from mcp_gateway.audit import Audit
from mcp_gateway.audit.log import Outcome
from mcp_gateway.auth import Authenticator, Unauthorized
from mcp_gateway.backend import error_entry
from mcp_gateway.config import Config
from mcp_gateway.downstream import Channel, Legacy, Modern, Parking, Reply, is_modern
from mcp_gateway.downstream.legacy import BATCHES
from mcp_gateway.hub import Hub
from mcp_gateway.limits import Limiter
from mcp_gateway.metrics import Metrics
from mcp_gateway.net.client import Client
from mcp_gateway.net.messages import Response
from mcp_gateway.net.server import Exchange
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import BUSY, INTERNAL_ERROR, INVALID_REQUEST, PARSE_ERROR, Json, error
from mcp_gateway.sessions import Sealer, Session
from mcp_gateway.states import States
from mcp_gateway.tracing import Span
from mcp_gateway.views import Forbidden, Request, View

MAX_BATCH = 100
RECENT_ERRORS = 100

log = logging.getLogger("mcp_gateway.access")


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
        self.tracer = tracing.create(config.tracing)
        self.metrics = metrics
        self.inflight = 0
        self.channels: set[Channel] = set()
        self.errors: deque[Json] = deque(maxlen=RECENT_ERRORS)

    def host_allowed(self, headers: dict[str, str]) -> bool:
        """Whether the request was meant for this gateway (DNS rebinding)."""
        allowed = self.config.allowed_hosts
        if "*" in allowed:
            return True
        host = headers.get("host", "")
        name = host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdigit() else host
        return name in allowed or host in allowed


def unauthorized(refusal: Unauthorized) -> Response:
    """The answer to a missing or wrong credential, or to one that does not suffice."""
    headers = [("www-authenticate", refusal.challenge)] if refusal.challenge else []
    if refusal.retry_after:
        headers.append(("retry-after", str(refusal.retry_after)))
    return Response(refusal.status, orjson.dumps({"error": refusal.message}), headers=tuple(headers))


class Endpoint:
    """One path."""

    def __init__(self, path: str, view: View, shared: Shared, sealer: Sealer, parking: Parking, hub: Hub) -> None:
        self._path = path
        self._shared = shared
        self._label = path.split("/")[2] if path != "/mcp" else "*"
        self._modern = Modern(view, parking, hub)
        self._legacy = Legacy(view, sealer, hub, shared.address, shared.states)
        # Calls in flight of sessions, by session and request id: what clients of 2025 may cancel.
        self._running: dict[tuple[str, Any], asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def show(self, view: View) -> None:
        """Show this from now on."""
        self._modern.show(view)
        self._legacy.show(view)

    def take(self, exchange: Exchange) -> None:
        """Answer a request by a task of its own."""
        # Most requests are refused, or sent to a server, before anything has to be waited for.
        task = asyncio.Task(self._serve(exchange), loop=asyncio.get_running_loop(), eager_start=True)
        if not task.done():
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, exchange: Exchange) -> None:
        try:
            response = await self._route(exchange)
            if response:
                exchange.respond(response)
        except Exception:
            log.exception("a request failed in the gateway itself")
            if exchange.started:
                exchange.abort()
            else:
                exchange.respond(Response(500, orjson.dumps(error(None, INTERNAL_ERROR, "the gateway failed"))))

    # -- whence and who --------------------------------------------------------------------------

    async def _route(self, exchange: Exchange) -> Response | None:
        """Check whence and who; an answer, or None where it was given already."""
        request = exchange.request
        headers = request.headers
        refused = self._shared.metrics.refused
        if not self._shared.host_allowed(headers) or not self._origin_allowed(headers):
            refused.labels("origin").inc()
            return Response(403, orjson.dumps(error(None, INVALID_REQUEST, "Host or Origin is not allowed")))
        if request.method == "OPTIONS":
            return _preflight(headers)
        shared = self._shared
        authorization, api_key = headers.get("authorization", ""), headers.get("x-api-key", "")
        principal = shared.auth.known(authorization, api_key, self._path)
        if principal is None:
            try:
                principal = await shared.auth.authenticate(authorization, api_key, self._path)
            except Unauthorized as refusal:
                refused.labels("unauthorized").inc()
                shared.audit.record(
                    None, "", request.method, self._label, "", "", "refused", refusal.status, 0.0,
                    len(request.body), 0, reason=refusal.message,
                )  # fmt: skip
                return unauthorized(refusal)
        if self._label != "*" and not shared.config.profiles.of(principal).sees_server(self._label):
            why = f"profile {principal.profile or 'default'} does not see server {self._label}"
            return Response(403, orjson.dumps(error(None, INVALID_REQUEST, why)))
        if request.method == "POST":
            return await self._post(exchange, principal)
        if request.method in ("GET", "DELETE"):
            return await self._session_request(exchange, principal)
        return Response(405, headers=(("allow", "GET, POST, DELETE, OPTIONS"),))

    def _origin_allowed(self, headers: dict[str, str]) -> bool:
        """Browsers say where a page came from: other sites must not use a client's access (DNS rebinding)."""
        origin = headers.get("origin")
        config = self._shared.config
        if origin is None or origin in config.allowed_origins:
            return True
        return "*" not in config.allowed_hosts and urlsplit(origin).hostname in config.allowed_hosts

    # -- messages --------------------------------------------------------------------------------

    async def _post(self, exchange: Exchange, principal: Principal) -> Response | None:
        request = exchange.request
        try:
            body = orjson.loads(request.body)
        except ValueError:
            return self._malformed(PARSE_ERROR, "the body is not JSON")
        if isinstance(body, list):
            return await self._batch(exchange, body, principal)
        if not isinstance(body, dict) or body.get("jsonrpc") != "2.0":
            return self._malformed(INVALID_REQUEST, "the body is not one JSON-RPC 2.0 message")
        if "method" in body and not isinstance(body["method"], str):
            return self._malformed(INVALID_REQUEST, "method is not a string")
        headers = request.headers
        streams = "text/event-stream" in headers.get("accept", "")
        opened: Request | Reply
        era: Modern | Legacy
        modern = is_modern(body, headers)
        holder = self._modern.holder(body) if modern else self._legacy.holder(body)
        if holder and holder != self._shared.address and peers.FORWARDED not in headers:
            task = asyncio.current_task()
            assert task is not None
            exchange.on_gone = task.cancel
            if await peers.hand_over(self._shared.client, exchange, holder):
                return None
            exchange.on_gone = None
        if modern:
            era = self._modern
            opened = era.open(body, headers, request.repeated, principal)
        else:
            era = self._legacy
            if body.get("method") == "notifications/cancelled":
                self._cancel(headers, principal, body.get("params"))
            opened = await era.open(body, headers, principal)
        if isinstance(opened, Reply):
            if opened.failed:
                self._shared.metrics.request(self._label, body.get("method"), "refused")
            return opened.response()
        channel = Channel(exchange, streams)
        await self._run(exchange, era, body["id"], opened, channel)
        return None

    def _malformed(self, code: int, why: str) -> Response:
        self._shared.metrics.refused.labels("malformed").inc()
        return Response(400, orjson.dumps(error(None, code, why)))

    async def _run(
        self, exchange: Exchange, era: Modern | Legacy, identity: Any, request: Request, channel: Channel
    ) -> None:
        """Handle one request and finish its answer."""
        task = asyncio.current_task()
        assert task is not None
        if exchange.gone and not request.session:
            return
        if request.session:
            self._running[(request.session.id, identity)] = task
        else:
            exchange.on_gone = task.cancel
        reply = None
        start = time.perf_counter()
        forbidden: Forbidden | None = None
        try:
            reply = await self._counted(era, identity, request, channel, exchange.request.headers)
        except Forbidden as refusal:
            forbidden = refusal
        except asyncio.CancelledError:
            # Cancelled by its client, which wants no answer any more; or by the end of the gateway.
            task.uncancel()
        finally:
            if request.session:
                self._running.pop((request.session.id, identity), None)
            exchange.on_gone = None
        if forbidden:
            wanted = self._shared.auth.insufficient_scope(self._path, forbidden.scopes, forbidden.message)
            exchange.respond(unauthorized(wanted))
        else:
            channel.finish(reply, request.server)
        self._audit(exchange, request, reply, forbidden, channel, time.perf_counter() - start)

    async def _counted(
        self, era: Modern | Legacy, identity: Any, request: Request, channel: Channel, headers: Mapping[str, str]
    ) -> Reply | None:
        shared, principal = self._shared, request.principal.name
        limits = shared.config.profiles.of(request.principal).limits
        if not shared.limiter.enter(principal, limits):
            why = f"{principal} has {limits.max_in_flight} requests in flight, as many as its profile allows"
            return Reply(200, error(identity, BUSY, why, {"retryAfterMs": 1000}))
        shared.inflight += 1
        shared.channels.add(channel)
        start = time.perf_counter()
        outcome = "cancelled"
        span = self._span(request, headers) if shared.tracer else None
        try:
            reply = await era.answer(identity, request, channel)
            outcome = "ok"
            if reply and reply.failed:
                outcome = "error"
                if isinstance(reply.message, dict):
                    shared.errors.append(error_entry(request, reply.message["error"]))
            return reply
        except Forbidden:
            outcome = "refused"
            raise
        finally:
            shared.limiter.leave(principal)
            shared.inflight -= 1
            shared.channels.discard(channel)
            shared.metrics.request(self._label, request.method, outcome, time.perf_counter() - start)
            if span:
                span.set("mcp_gateway.server", request.server)
                span.set("mcp_gateway.replica", request.replica)
                span.end(outcome)

    def _span(self, request: Request, headers: Mapping[str, str]) -> Span | None:
        """The request's span, whose child the server's will be."""
        if self._shared.tracer is None:
            return None
        params = request.params
        target = params.get("name") or params.get("uri")
        span = self._shared.tracer.start(
            request.method, target if isinstance(target, str) else None, params.get("_meta"), headers
        )
        request.trace = span.child_context()
        request.trace_id = request.trace.get("traceparent", "")[3:35]
        return span

    def _audit(
        self,
        exchange: Exchange,
        request: Request,
        reply: Reply | None,
        forbidden: Forbidden | None,
        channel: Channel,
        seconds: float,
    ) -> None:
        """Who, what, which replica, how it ended."""
        outcome: Outcome = "ok"
        code, reason = 0, ""
        message = reply.message if reply else None
        if forbidden:
            outcome, code, reason = "refused", 403, forbidden.message
        elif reply is None or exchange.gone:
            outcome = "cancelled"
        elif isinstance(message, dict) and "error" in message:
            outcome, code, reason = "error", message["error"]["code"], message["error"]["message"]
        elif isinstance(message, dict) and message["result"].get("isError") is True:
            outcome = "tool_error"
        params, session = request.params, request.session
        self._shared.audit.record(
            request.principal,
            session.id if session else "",
            request.method,
            request.server or self._label,
            str(params.get("name") or params.get("uri") or ""),
            request.replica,
            outcome,
            code,
            seconds * 1000,
            len(exchange.request.body),
            channel.sent,
            request.trace_id,
            request.refused or reason,
            params.get("arguments"),
        )

    def _cancel(self, headers: dict[str, str], principal: Principal, params: Any) -> None:
        """2025-11-25 basic/utilities/cancellation: only what the same session runs."""
        session = self._legacy.session(None, headers, principal)
        identity = params.get("requestId") if isinstance(params, dict) else None
        if not isinstance(session, Session) or not isinstance(identity, str | int):
            return
        if not self.cancel(session.id, identity) and self._shared.peers:
            self._shared.peers.cancel(self._path, session.id, identity)

    def cancel(self, session: str, identity: Any) -> bool:
        """Cancel a call of a session's; returns whether it ran here."""
        task = self._running.get((session, identity))
        return task is not None and task.cancel()

    # -- batches ---------------------------------------------------------------------------------

    async def _batch(self, exchange: Exchange, bodies: list[Any], principal: Principal) -> Response | None:
        """Several messages at once, which only 2025-03-26 has (basic/index, "Batching")."""
        session = self._legacy.session(None, exchange.request.headers, principal)
        if not isinstance(session, Session) or session.version != BATCHES:
            return self._malformed(INVALID_REQUEST, f"a batch of messages exists in sessions of {BATCHES} only")
        if not 0 < len(bodies) <= MAX_BATCH:
            return self._malformed(INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} messages, not {len(bodies)}")
        channel = Channel(exchange, "text/event-stream" in exchange.request.headers.get("accept", ""))

        async def one(body: Any) -> Json | None:
            if not isinstance(body, dict) or body.get("jsonrpc") != "2.0" or body.get("method") == "initialize":
                identity = body.get("id") if isinstance(body, dict) else None
                return error(identity, INVALID_REQUEST, "not a message that a batch may hold")
            opened = await self._legacy.open(body, exchange.request.headers, principal)
            if isinstance(opened, Request):
                opened_reply = await self._counted(self._legacy, body["id"], opened, channel, exchange.request.headers)
            else:
                opened_reply = opened
            message = opened_reply.message if opened_reply else None
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
        self._shared.channels.add(channel)
        try:
            await self._legacy.listen(session, principal, channel)
        except asyncio.CancelledError:
            task.uncancel()
        finally:
            exchange.on_gone = None
            self._shared.channels.discard(channel)
        channel.finish(None)
        return None


def _preflight(headers: dict[str, str]) -> Response:
    """Lets pages of allowed origins use the endpoint (Fetch standard, "CORS-preflight request")."""
    if "origin" not in headers:
        return Response(405, headers=(("allow", "GET, POST, DELETE, OPTIONS"),))
    return Response(
        204,
        headers=(
            ("access-control-allow-origin", headers["origin"]),
            ("access-control-allow-methods", "GET, POST, DELETE"),
            ("access-control-allow-headers", headers.get("access-control-request-headers", "*")),
            ("access-control-max-age", "600"),
            ("vary", "origin"),
        ),
    )
