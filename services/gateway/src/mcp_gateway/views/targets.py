"""Whose name or URI it is: from what clients say to a server and what it calls the same."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from typing import Any

from mcp_gateway import names
from mcp_gateway.catalog import FAN_OUT_SECONDS
from mcp_gateway.naming import EVERYTHING, Names, Target, guess
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import INVALID_PARAMS, Json, RpcError
from mcp_gateway.upstream.server import Upstream
from mcp_gateway.views.request import Request
from mcp_gateway.views.site import Site

log = logging.getLogger("mcp_gateway.views")


# Of no generation of the catalogue: what is made of it is to be made anew, of what is still the same in it.
OUTDATED = -1


class Targets:
    """The names of one endpoint.

    Args:
        previous: those of the endpoint as it was configured before; what did not change is taken from them.
    """

    def __init__(self, site: Site, previous: Targets | None = None) -> None:
        self._site = site
        before = previous._tables if previous else {}
        self._tables: dict[str, tuple[int, Names]] = {
            method: (OUTDATED, table) for method, (_, table) in before.items()
        }

    def names(self, method: str) -> Names:
        """All names of the tools or prompts that are known."""
        generation = self._site.catalog.generation
        kept = self._tables.get(method)
        if kept and kept[0] == generation:
            return kept[1]
        items = {
            name: listed
            for name in self._site.upstreams
            if (listed := self._site.catalog.known(name, method)) is not None
        }
        table = Names(
            items,
            self._site.selections if method == "tools/list" else None,
            merged=self._site.merged,
            previous=kept[1] if kept else None,
        )
        if not kept or kept[1].problems != table.problems:
            for problem in table.problems:
                log.warning("a name cannot be had", extra={"view": self._site.name, "problem": str(problem)})
        self._tables[method] = (generation, table)
        return table

    async def named(self, method: str, name: Any) -> tuple[Upstream, str]:
        """The server of a tool or prompt, and its own name for it."""
        if not isinstance(name, str) or not name:
            raise RpcError(INVALID_PARAMS, "params.name is missing")
        if target := self.names(method).find(name) or self._guess(method, name):
            return self._site.upstreams[target.server], target.name
        # A name that was shortened or is new: only the list can tell.
        found = names.split(name, self._site.upstreams) if self._site.merged else (self._site.only().name, name)
        if found:
            upstream = self._site.upstreams[found[0]]
            if names.may_be_shortened(name) or not self._site.catalog.knows(upstream.name, method):
                await self._site.catalog.items(upstream, method, FAN_OUT_SECONDS)
                if target := self.names(method).find(name):
                    return upstream, target.name
        raise RpcError(INVALID_PARAMS, f"Unknown {'tool' if method == 'tools/list' else 'prompt'}: {name}")

    def _guess(self, method: str, name: str) -> Target | None:
        """Whose a name would be that no list shows; its server will know."""
        selections = (
            self._site.selections if method == "tools/list" else dict.fromkeys(self._site.upstreams, EVERYTHING)
        )
        if self._site.merged:
            return guess(name, selections)
        server = self._site.only().name
        selection = selections[server]
        own = next((old for old, new in selection.rename.items() if new == name), name)
        return Target(server, own) if selection.permits(own) and (own != name or own not in selection.rename) else None

    def resource(self, uri: Any) -> tuple[Upstream, str]:
        """The server of a resource, and its own URI for it."""
        if not isinstance(uri, str) or not uri:
            raise RpcError(INVALID_PARAMS, "params.uri is missing")
        if not self._site.merged:
            return self._site.only(), uri
        found = names.split_uri(uri, self._site.upstreams)
        if not found:
            raise RpcError(INVALID_PARAMS, f"Resource not found: {uri}", {"uri": uri})
        return self._site.upstreams[found[0]], found[1]

    def server_of(self, request: Request) -> str:
        """The server that a request would go to, as far as can be told without asking any; else empty."""
        params = request.params
        with contextlib.suppress(RpcError):
            if request.method == "resources/read":
                return self.resource(params.get("uri"))[0].name
            name = params.get("name")
            if request.method in ("tools/call", "prompts/get") and isinstance(name, str):
                method = "tools/list" if request.method == "tools/call" else "prompts/list"
                if method == "tools/list" and self._site.merged:
                    original = self._site.profiles.of(request.principal).original(name)
                    if original and original[0] in self._site.upstreams:
                        return original[0]
                target = self.names(method).find(name) or self._guess(method, name)
                return target.server if target else ""
        return ""

    def resources_of(self, principal: Principal, uris: Iterable[Any]) -> dict[tuple[str, str], str]:
        """Server and its own URI, by the URIs that clients use; those that lead nowhere for the principal are left
        out."""
        found: dict[tuple[str, str], str] = {}
        profile = self._site.profiles.of(principal)
        for uri in uris:
            with contextlib.suppress(RpcError):
                upstream, own = self.resource(uri)
                if upstream.speaker.subscribes and profile.sees_server(upstream.name):
                    found[(upstream.name, own)] = uri
        return found

    async def completion(self, params: Json) -> tuple[Upstream, Json]:
        """The server of a completion's reference, and the parameters as it wants them."""
        reference = params.get("ref")
        if not isinstance(reference, dict):
            raise RpcError(INVALID_PARAMS, "params.ref is missing")
        if reference.get("type") == "ref/prompt":
            upstream, name = await self.named("prompts/list", reference.get("name"))
            return upstream, {**params, "ref": {**reference, "name": name}}
        upstream, uri = self.resource(reference.get("uri"))
        return upstream, {**params, "ref": {**reference, "uri": uri}}
