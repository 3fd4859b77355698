"""One request of a client, from the moment at which its envelope is found good to the end of its answer.

``begin`` sends a call of a tool to its server at once, without a task, if nothing has to be waited for before: then
``answered`` dresses what comes back and sends it. A list that is known it answers itself. All else goes by ``run``,
which waits where it must: other methods, queues, sessions to be opened, and calls that were begun whose server does not
simply answer them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

import orjson

from mcp_gateway import tracing
from mcp_gateway.audit.log import Outcome
from mcp_gateway.backend import error_entry
from mcp_gateway.downstream import Channel, Legacy, Modern, Reply
from mcp_gateway.downstream.reply import written
from mcp_gateway.limits import Limits
from mcp_gateway.net.client import Answer, ExchangeError
from mcp_gateway.net.messages import Response
from mcp_gateway.net.server import Exchange
from mcp_gateway.protocol import INTERNAL_ERROR, MODERN, Json, error, result
from mcp_gateway.tracing import Span
from mcp_gateway.upstream.call import Begun
from mcp_gateway.views import Forbidden, Request, View

if TYPE_CHECKING:
    from mcp_gateway.endpoint import Endpoint

log = logging.getLogger("mcp_gateway.access")

BROKE = "a request failed in the gateway itself"
FAILED = "the gateway failed"


class Flight:
    """A request under way at an endpoint."""

    patient = True
    __slots__ = (
        "_begun", "_channel", "_counted", "_endpoint", "_era", "_exchange", "_identity", "_limited",
        "_request", "_seconds", "_shared", "_start", "_task", "_view",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: Endpoint,
        exchange: Exchange,
        era: Modern | Legacy,
        identity: Any,
        request: Request,
        channel: Channel | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._shared = endpoint.shared
        self._exchange = exchange
        self._era = era
        self._identity = identity
        self._request = request
        self._channel = channel
        self._view: View | None = None
        self._begun: Begun | None = None
        self._task: asyncio.Task[None] | None = None
        self._start = 0.0
        self._seconds = 0.0
        self._counted = False
        self._limited = False

    # -- at once ---------------------------------------------------------------------------------

    def begin(self) -> bool:
        """Send it to its server now; False, and nothing done, where that cannot be.

        A call that goes on with an earlier one may be held here; one that is traced needs a span first.
        """
        request, era = self._request, self._era
        if self._shared.tracer:
            return False
        self._carry()
        self._view = view = era.view
        if request.method != "tools/call":
            return self._list(view)
        if "requestState" in request.params:
            return False
        route = view.calls.known_route(request)
        if route is None or not route.direct or self._exchange.gone or not self._enter(route.profile.limits):
            return False
        self._begun = view.calls.begin(request, route, self)
        if self._begun is None:
            self._leave()
            return False
        self._register()
        return True

    def answered(self, answer: Answer) -> None:
        """The server's answer, or its beginning."""
        begun, view, request = self._begun, self._view, self._request
        assert begun is not None and view is not None
        try:
            begun.answer = answer
            value = view.calls.ended(request, begun, answer)
            if value is None:
                self._go_on()
                return
            self._begun = None
            self._unregister()
            self._done(value)
        except Exception:
            self._broke()

    def _list(self, view: View) -> bool:
        """Answer a list that is known; False, and nothing done, for all else."""
        value = view.known_list(self._request)
        limits = self._shared.config.profiles.of(self._request.principal).limits
        if value is None or self._exchange.gone or not self._enter(limits):
            return False
        try:
            self._done(value)
        except Exception:
            self._broke()
        return True

    def _done(self, value: Json) -> None:
        """Send the result."""
        request = self._request
        message = result(self._identity, self._era.dressed(request, value))
        self._leave("ok")
        if self._channel:  # an event stream may have begun
            self._channel.finish(Reply(200, message), request.server)
            sent = self._channel.sent
        else:
            body = written(message, request.server)
            sent = len(body)
            self._exchange.respond_json(body)
        outcome: Outcome = "tool_error" if value.get("isError") is True else "ok"
        self._note("cancelled" if self._exchange.gone else outcome, sent)

    def failed(self, failure: ExchangeError) -> None:
        """There is no answer."""
        assert self._begun is not None
        self._begun.failure = failure
        self._go_on()

    def keep_alive(self, now: float) -> None:
        """Say something to a client that waits for long."""
        self._opened().keep_alive(now)

    def _opened(self) -> Channel:
        """The way to the client."""
        if self._channel is None:
            streams = "text/event-stream" in self._exchange.request.headers.get("accept", "")
            self._channel = Channel(self._exchange, streams, self._start)
        return self._channel

    def _go_on(self) -> None:
        """In the general way, with what there is."""
        self._endpoint.spawn(self._exchange, self.run())

    def cancel(self) -> None:
        """Its client does not want it any more."""
        if self._task:
            self._task.cancel()
        elif self._begun:
            self._begun = None
            self._abandon()
            self._unregister()
            self._leave("cancelled")
            self._end(None)

    # -- step by step ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Handle the request and finish its answer; what breaks in the gateway itself is told, not raised."""
        if self._exchange.gone and not self._request.session and not self._counted:
            return
        try:
            self._end(await self._outcome())
        except Exception:
            self._broke()

    async def part(self) -> Json | None:
        """Handle the request as one of a batch; its message in the answer to all, None for none."""
        try:
            ended = await self._outcome()
        except Exception:
            log.exception(BROKE)
            ended = Reply(200, error(self._identity, INTERNAL_ERROR, FAILED))
        message: Json | list[Json] | None = None
        if isinstance(ended, Forbidden):
            refusal = ended.error
            message = error(self._identity, refusal.code, refusal.message, refusal.data)
        elif ended:
            message = ended.message
        self._note_end(ended, len(written(message, self._request.server)) if message else 0)
        return message if isinstance(message, dict) else None

    async def _outcome(self) -> Reply | Forbidden | None:
        """What the request comes to; None where its client does not want it any more."""
        task = self._task = asyncio.current_task()
        assert task is not None
        self._register()
        try:
            return await self._reply()
        except Forbidden as refusal:
            return refusal
        except asyncio.CancelledError:
            # Cancelled by its client, which wants no answer any more; or by the end of the gateway.
            task.uncancel()
            return None
        finally:
            self._abandon()
            self._unregister()

    async def _reply(self) -> Reply | None:
        """What to answer with, counted.

        Raises:
            Forbidden: the client's scopes do not suffice.
        """
        request, shared = self._request, self._shared
        limits = shared.config.profiles.of(request.principal).limits
        if not self._counted and not self._enter(limits):
            busy = limits.crowded(request.principal.name)
            return Reply(200, error(self._identity, busy.code, busy.message, busy.data))
        outcome = "cancelled"
        self._trace()
        reply = None
        try:
            reply = await self._era.answer(self._identity, request, self._opened())
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
            self._leave(outcome)
            if request.span:
                self._traced(request.span, outcome, reply)

    def _trace(self) -> None:
        """Begin the request's span, whose child the server's will be."""
        request, tracer = self._request, self._shared.tracer
        if tracer is None:
            self._carry()
            return
        params = request.params
        target = params.get("name") or params.get("uri")
        request.span = span = tracer.start(
            request.method,
            target if isinstance(target, str) else None,
            params.get("_meta"),
            self._exchange.request.headers,
        )
        request.trace = span.child_context()
        request.trace_id = request.trace.get("traceparent", "")[3:35]
        if self._identity is not None:
            span.set(tracing.REQUEST_ID, str(self._identity))
        span.set(tracing.VERSION, request.session.version if request.session else MODERN)
        span.set(tracing.PRINCIPAL, request.principal.name)
        if request.session:
            span.set(tracing.SESSION, request.session.id)

    def _traced(self, span: Span, outcome: str, reply: Reply | None) -> None:
        """End the span with what is known by now."""
        span.set(tracing.SERVER, self._request.server)
        span.set(tracing.REPLICA, self._request.replica)
        verdict, code, text = reply.verdict if reply else ("ok", 0, "")
        span.end(outcome if verdict == "ok" else verdict, code or None, text)

    def _carry(self) -> None:
        """Without traces of its own the gateway hands the client's trace context on as it came, and notes it."""
        request, headers = self._request, self._exchange.request.headers
        meta = request.params.get("_meta")
        if "traceparent" in headers or (isinstance(meta, dict) and "traceparent" in meta):
            request.trace = tracing.passed(meta, headers)
            request.trace_id = request.trace["traceparent"][3:35] if request.trace else ""

    # -- accounts --------------------------------------------------------------------------------

    def _enter(self, limits: Limits) -> bool:
        """Count it among the requests in flight; False where its client has too many."""
        shared = self._shared
        if limits.max_in_flight:
            if not shared.limiter.enter(self._request.principal.name, limits):
                return False
            self._limited = True
        shared.inflight += 1
        shared.open.add(self)
        self._start = time.monotonic()
        self._counted = True
        return True

    def _leave(self, outcome: str = "") -> None:
        """It is over; without an outcome it was not to be counted."""
        shared, request = self._shared, self._request
        self._counted = False
        if self._limited:
            self._limited = False
            shared.limiter.leave(request.principal.name)
        shared.inflight -= 1
        shared.open.discard(self)
        if outcome:
            self._seconds = time.monotonic() - self._start
            shared.metrics.request(self._endpoint.label, request.method, outcome, self._seconds)

    def _register(self) -> None:
        """From now on its client may cancel it: by leaving in 2026, by a notification in 2025."""
        if session := self._request.session:
            self._endpoint.running[(session.id, self._identity)] = self
        else:
            self._exchange.on_gone = self.cancel

    def _unregister(self) -> None:
        if session := self._request.session:
            self._endpoint.running.pop((session.id, self._identity), None)
        self._exchange.on_gone = None

    def _end(self, ended: Reply | Forbidden | None) -> None:
        """Answer, and note how it ended."""
        channel = self._opened()
        if isinstance(ended, Forbidden):
            self._exchange.respond(self._endpoint.insufficient(ended))
        else:
            channel.finish(ended, self._request.server)
        self._note_end(ended, channel.sent)

    def _note_end(self, ended: Reply | Forbidden | None, sent: int) -> None:
        if isinstance(ended, Forbidden):
            self._note("refused", sent, 403, ended.message)
        elif ended is None or self._exchange.gone:
            self._note("cancelled", sent)
        else:
            outcome, code, text = ended.verdict
            self._note(outcome, sent, code, text)

    def _note(self, outcome: Outcome, sent: int, code: int = 0, reason: str = "") -> None:
        """For the audit log: who, what, which replica, how it ended."""
        request = self._request
        params, session = request.params, request.session
        self._shared.audit.record(
            request.principal,
            session.id if session else "",
            request.method,
            request.server or self._endpoint.label,
            str(params.get("name") or params.get("uri") or ""),
            request.replica,
            outcome,
            code,
            self._seconds * 1000,
            len(self._exchange.request.body),
            sent,
            request.trace_id,
            request.refused or reason,
            params.get("arguments"),
        )

    def _broke(self) -> None:
        """The gateway itself is at fault: the client must not wait for ever, nor take a part for the whole."""
        self._unregister()
        self._abandon()
        if self._counted:
            self._leave("error")
        broke(self._exchange)

    def _abandon(self) -> None:
        """Give back the place of a call that was begun, where nobody went on with it."""
        if begun := self._request.begun:
            self._request.begun = None
            begun.upstream.abandon(begun)


def broke(exchange: Exchange) -> None:
    """End an exchange over which the gateway itself has failed."""
    log.exception(BROKE)
    if exchange.started:
        exchange.abort()
    else:
        exchange.respond(Response(500, orjson.dumps(error(None, INTERNAL_ERROR, FAILED))))
