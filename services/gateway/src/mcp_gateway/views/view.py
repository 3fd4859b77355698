"""What the gateway answers, whatever the era of the client: the methods of the protocol over one view.

A view is an endpoint: ``/mcp`` shows all servers under merged names, ``/servers/<name>/mcp`` one as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

from mcp_gateway.answers import Answers
from mcp_gateway.hub import LISTS_CHANGED
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import (
    CALLS,
    GATEWAY_INFO,
    LISTS,
    METHOD_NOT_FOUND,
    MODERN,
    SERVER_INFO_META_KEY,
    TASKS,
    Json,
    RpcError,
)
from mcp_gateway.search import SearchSettings
from mcp_gateway.sessions import Address, Pin, Sealer, Session
from mcp_gateway.upstream.server import Upstream
from mcp_gateway.views.calls import TASKS_EXTENSION, Calls
from mcp_gateway.views.lists import CAPABILITY_OF, Lists
from mcp_gateway.views.request import Request
from mcp_gateway.views.site import Site
from mcp_gateway.views.targets import Targets

# How long ``initialize`` waits for sessions at sticky servers.
PIN_SECONDS = 2.0
# How long a subscription waits for the servers to confirm it.
SETTLE_SECONDS = 2.0


class View:
    """One endpoint.

    Args:
        closed: set when streams without an end must end.
        previous: the endpoint as it was configured before.

    Attributes:
        lists, calls: its two parts.
    """

    def __init__(
        self,
        site: Site,
        search: SearchSettings,
        sealer: Sealer,
        answers: Answers,
        closed: asyncio.Event,
        previous: View | None = None,
    ) -> None:
        self._site = site
        self._closed = closed
        self.name = site.name
        self.upstreams = site.upstreams
        self.merged = site.merged
        self.servers_of = site.servers_of
        self._targets: Targets = Targets(site, previous._targets if previous else None)
        self.resources_of = self._targets.resources_of
        self.server_of = self._targets.server_of
        self.lists: Lists = Lists(site, self._targets, search, previous.lists if previous else None)
        self.calls = Calls(site, self._targets, self.lists, sealer, answers)

    # -- what the view is ------------------------------------------------------------------------

    def hello(self, principal: Principal) -> Json:
        """Capabilities, server information and instructions, for ``initialize``."""
        have: set[str] = set()
        for name in self.servers_of(principal):
            have |= set(self.upstreams[name].speaker.capabilities)
        # A view whose servers are not known yet is still asked for tools.
        have = have or {"tools"}
        capabilities: Json = {name: {} for name in ("completions", "logging") if name in have}
        for name in ("tools", "prompts", "resources"):
            if name in have:
                capabilities[name] = {"listChanged": True}
        if "resources" in have and any(u.speaker.subscribes for u in self.upstreams.values()):
            capabilities["resources"]["subscribe"] = True
        extensions: Json = {}
        for name in self.servers_of(principal):
            offered = self.upstreams[name].speaker.capabilities.get("extensions")
            for extension, settings in offered.items() if isinstance(offered, dict) else ():
                # Of those that the gateway does not know, a merged view cannot say which server means what.
                if extension == TASKS_EXTENSION or not self.merged:
                    extensions[extension] = settings
        if extensions:
            capabilities["extensions"] = extensions
        result: Json = {"capabilities": capabilities, "serverInfo": GATEWAY_INFO}
        if not self.merged:
            upstream = self._site.only()
            result["serverInfo"] = upstream.speaker.info or GATEWAY_INFO
            if upstream.speaker.instructions:
                result["instructions"] = upstream.speaker.instructions
        return result

    def discover(self, principal: Principal) -> Json:
        """The result of ``server/discover`` (2026-07-28 server/discover)."""
        hello = self.hello(principal)
        info = hello.pop("serverInfo")
        return {
            "supportedVersions": [MODERN],
            **hello,
            "ttlMs": self._site.catalog.ttl_ms,
            "cacheScope": "private",
            "_meta": {SERVER_INFO_META_KEY: info},
        }

    def tells(self) -> frozenset[str]:
        """The list changes that the view tells of, as names of the filter of ``subscriptions/listen``."""
        capabilities = {name for upstream in self.upstreams.values() for name in upstream.speaker.capabilities}
        return frozenset(name for name in LISTS_CHANGED.values() if name.removesuffix("ListChanged") in capabilities)

    async def closing(self) -> None:
        """Wait until streams without an end must end."""
        await self._closed.wait()

    async def settled(self, servers: Iterable[str]) -> None:
        """Wait until these servers tell what is wanted of them, or cannot."""
        waiting = [upstream.settled() for name in servers if (upstream := self.upstreams.get(name))]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS):
                await asyncio.gather(*waiting)

    def _offers(self, method: str) -> bool:
        """Whether any of the servers has the capability that the method belongs to, as far as is known."""
        capability = CAPABILITY_OF.get(method)
        if capability is None:
            return True
        return any(upstream.speaker.may_offer(capability) for upstream in self.upstreams.values())

    def known_list(self, request: Request) -> Json | None:
        """The result of a list for which nothing has to be waited or counted; None for all else."""
        if request.method not in LISTS or not self._offers(request.method):
            return None
        return self.lists.known(request)

    async def handle(self, request: Request) -> Json:
        """The result of a request.

        Raises:
            RpcError: the mandated error, or the server's.
        """
        if request.begun:
            return await self.calls.resumed(request, request.begun)
        method = request.method
        if not self._offers(method):
            raise RpcError(METHOD_NOT_FOUND, f"Method not found: {method} (no such capability)")
        if method in LISTS:
            return await self.lists.page(request)
        if method in CALLS:
            return await self.calls.call(request)
        if method in TASKS and request.modern:
            return await self.calls.task(request)
        raise RpcError(METHOD_NOT_FOUND, f"Method not found: {method}")

    # -- sessions of clients ---------------------------------------------------------------------

    async def open_pins(self, principal: Principal, session: Session) -> dict[str, Pin]:
        """The sessions at sticky servers that a new client session holds; slow servers are left for later."""
        seen = self.servers_of(principal)
        sticky = [upstream for name, upstream in self.upstreams.items() if upstream.server.sticky and name in seen]
        if not sticky:
            return {}

        async def pin(upstream: Upstream) -> Pin | None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PIN_SECONDS):
                    return await upstream.clients.open_pin(f"{principal.name}/{session.id}", session.capabilities)
            return None

        pins = await asyncio.gather(*(pin(upstream) for upstream in sticky))
        return {upstream.name: found for upstream, found in zip(sticky, pins, strict=True) if found}

    def pinned(self, principal: Principal, session: Session) -> list[tuple[Upstream, str, Pin]]:
        """The client session's own sessions at sticky servers, as far as it sees these: server, key and pin."""
        seen = self.servers_of(principal)
        return [
            (self.upstreams[name], f"{session.principal}/{session.id}", pin)
            for name, pin in session.pins.items()
            if name in seen
        ]

    def end_session(self, session: Session) -> None:
        """End a client session's own sessions at sticky servers."""
        for upstream in self.upstreams.values():
            if upstream.server.sticky:
                upstream.clients.end(f"{session.principal}/{session.id}", session.pins.get(upstream.name))

    async def deliver(self, address: Address, response: Json) -> None:
        """Hand a client's response to the server that asked.

        Raises:
            OSError: the server is gone.
        """
        if upstream := self.upstreams.get(address.server):
            await upstream.clients.deliver(address, response)
