"""What the console is told and may do."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import orjson

from mcp_gateway import __version__
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import LISTS, Json, RpcError
from mcp_gateway.views import Request, View


class Backend:
    """The gateway as the console sees it.

    Args:
        servers: the state of each, as /status has it.
        errors: of late, the newest last.
        authenticate: the principal of a credential; for the empty one of who may come without.
        view: the merged view of now.
    """

    def __init__(
        self,
        servers: Callable[[], Json],
        errors: Callable[[], list[Json]],
        authenticate: Callable[[str], Awaitable[Principal | None]],
        view: Callable[[], View],
    ) -> None:
        self._servers = servers
        self._errors = errors
        self._authenticate = authenticate
        self._view = view
        self._started = time.monotonic()

    def status(self) -> Json:
        """The fleet's state."""
        return {
            "version": __version__,
            "uptime_seconds": int(time.monotonic() - self._started),
            **self._servers(),
            "recent_errors": self._errors(),
        }

    async def authenticate(self, credential: str) -> Principal | None:
        """Whose credential this is."""
        return await self._authenticate(credential)

    async def request(self, principal: Principal, method: str, params: Json) -> Json:
        """One request on the merged view, by the principal's own rights.

        Raises:
            RpcError: as a client would get it.
        """
        result = await self._view().handle(Request(method, params, principal, modern=True))
        # Lists come encoded; the console reads them.
        return dict(orjson.loads(orjson.dumps(result))) if method in LISTS else result


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
