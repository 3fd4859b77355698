"""What an endpoint consists of: its servers, and what its parts share."""

from __future__ import annotations

from mcp_gateway.catalog import Catalog
from mcp_gateway.limits import Limiter
from mcp_gateway.policy import Profile, Profiles
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import BUSY, RpcError
from mcp_gateway.upstream.server import Upstream
from mcp_gateway.views.request import Request


class Site:
    """One endpoint's servers.

    Args:
        name: its path.
        merged: whether names carry their server's.
    """

    def __init__(
        self,
        name: str,
        upstreams: dict[str, Upstream],
        catalog: Catalog,
        profiles: Profiles,
        limiter: Limiter,
        *,
        merged: bool,
    ) -> None:
        self.name = name
        self.upstreams = upstreams
        self.catalog = catalog
        self.profiles = profiles
        self.limiter = limiter
        self.merged = merged
        self.selections = {name: upstream.server.tools for name, upstream in upstreams.items()}

    def only(self) -> Upstream:
        """The server of an endpoint that has one."""
        return next(iter(self.upstreams.values()))

    def servers_of(self, principal: Principal) -> frozenset[str]:
        """Names of the servers that the principal can see."""
        profile = self.profiles.of(principal)
        return frozenset(name for name in self.upstreams if profile.sees_server(name))

    def meter(self, request: Request, profile: Profile, server: str = "") -> None:
        """Count the request against its client's rate.

        Raises:
            RpcError: BUSY, with the time to wait.
        """
        if request.metered:
            return
        wait = self.limiter.take(request.principal.name, profile.limits, server)
        request.metered = not wait
        if wait:
            request.refused = "rate limit"
            raise RpcError(
                BUSY,
                f"{request.principal.name} asks more often than its profile allows; try again in {wait:.1f} s",
                {"retryAfterMs": int(wait * 1000) + 1},
            )
