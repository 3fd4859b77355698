"""What the console is told and may do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

from mcp_gateway import __version__
from mcp_gateway.downstream.reply import written
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import INTERNAL_ERROR, LISTS, Json, RpcError
from mcp_gateway.views import Forbidden, Request, View

if TYPE_CHECKING:
    from mcp_gateway.audit.log import Outcome
    from mcp_gateway.endpoint import Shared


class Backend:
    """The gateway as the console sees it.

    Args:
        shared: what it has in common with the endpoints.
        servers: the state of each, as /status has it.
        authenticate: the principal of a credential; for the empty one of who may come without.
        view: the merged view of now.
    """

    def __init__(
        self,
        shared: Shared,
        servers: Callable[[], Json],
        authenticate: Callable[[str], Awaitable[Principal | None]],
        view: Callable[[], View],
    ) -> None:
        self._shared = shared
        self._servers = servers
        self._authenticate = authenticate
        self._view = view
        self._started = time.monotonic()

    def status(self) -> Json:
        """The fleet's state."""
        return {
            "version": __version__,
            "uptime_seconds": int(time.monotonic() - self._started),
            **self._servers(),
            "recent_errors": list(self._shared.errors)[::-1],
        }

    async def authenticate(self, credential: str) -> Principal | None:
        """Whose credential this is."""
        return await self._authenticate(credential)

    async def request(self, principal: Principal, method: str, params: Json) -> Json:
        """One request on the merged view, by the principal's own rights; limited, counted and noted as a client's.

        Raises:
            RpcError: as a client would get it.
        """
        shared, request = self._shared, Request(method, params, principal, modern=True)
        limits = shared.config.profiles.of(principal).limits
        if not shared.limiter.enter(principal.name, limits):
            busy = limits.crowded(principal.name)
            self._note(request, "error", 0.0, 0, busy.code, busy.message)
            raise busy
        shared.inflight += 1
        start = time.monotonic()
        outcome: Outcome = "error"
        sent, code, reason = 0, INTERNAL_ERROR, ""
        try:
            result = await self._view().handle(request)
            body = written(result, request.server)
            outcome, sent, code = "tool_error" if result.get("isError") is True else "ok", len(body), 0
            # Lists come encoded; the console reads them.
            return dict(orjson.loads(body)) if method in LISTS else result
        except Forbidden as refusal:
            outcome, code, reason = "refused", 403, refusal.message
            raise refusal.error from None
        except RpcError as failure:
            code, reason = failure.code, failure.message
            shared.errors.append(error_entry(request, failure))
            raise
        except asyncio.CancelledError:
            outcome, code = "cancelled", 0
            raise
        finally:
            shared.inflight -= 1
            shared.limiter.leave(principal.name)
            seconds = time.monotonic() - start
            shared.metrics.request("*", method, "ok" if outcome == "tool_error" else outcome, seconds)
            self._note(request, outcome, seconds, sent, code, reason)

    def _note(self, request: Request, outcome: Outcome, seconds: float, sent: int, code: int, reason: str) -> None:
        """For the audit log."""
        params = request.params
        self._shared.audit.record(
            request.principal, "", request.method, request.server or "*", str(params.get("name") or ""),
            request.replica, outcome, code, seconds * 1000, len(written(params)), sent,
            reason=request.refused or reason, arguments=params.get("arguments"),
        )  # fmt: skip


def error_entry(request: Request, failure: RpcError | Json) -> Json:
    """A line of the recent errors."""
    code, message = (
        (failure.code, failure.message)
        if isinstance(failure, RpcError)
        else (failure.get("code"), str(failure.get("message", "")))
    )
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "principal": request.principal.name,
        "server": request.server or "*",
        "method": request.method,
        "target": str(request.params.get("name") or request.params.get("uri") or "")[:128],
        "code": code,
        "message": message[:500],
        "replica": request.replica,
    }
