"""What the gateway answers, whatever the era of the client: the methods of the protocol over one view.

A view is an endpoint: ``/mcp`` shows all servers under merged names, ``/servers/<name>/mcp`` one as it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from mcp_gateway import names
from mcp_gateway.catalog import Catalog, permitted
from mcp_gateway.protocol import (
    CALLS,
    GATEWAY_INFO,
    INVALID_PARAMS,
    LISTS,
    METHOD_NOT_FOUND,
    Json,
    RpcError,
)
from mcp_gateway.upstream import Call, Notify, Upstream

CAPABILITY_OF = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resources",
}


@dataclass
class Request:
    """One request of a client, its envelope already checked.

    ``session`` identifies the client's session (2025) and is empty in 2026, where there is none.
    """

    method: str
    params: Json
    principal: str
    session: str = ""
    capabilities: Json = field(default_factory=dict)
    notify: Notify | None = None


class View:
    """One endpoint's servers. ``merged`` is whether names carry their server's."""

    def __init__(self, name: str, upstreams: dict[str, Upstream], catalog: Catalog, merged: bool) -> None:
        self.name = name
        self.upstreams = upstreams
        self.merged = merged
        self._catalog = catalog

    # -- what the view is ------------------------------------------------------------------------

    def hello(self) -> Json:
        """Capabilities, server information and instructions, for ``initialize`` and ``server/discover``."""
        have: set[str] = set()
        for upstream in self.upstreams.values():
            have |= set(upstream.capabilities)
        offered = ("tools", "prompts", "resources", "completions", "logging")
        # A view whose servers are not known yet is still asked for tools.
        capabilities: Json = {name: {} for name in offered if name in have or (name == "tools" and not have)}
        result: Json = {"capabilities": capabilities, "serverInfo": GATEWAY_INFO}
        if not self.merged:
            upstream = next(iter(self.upstreams.values()))
            result["serverInfo"] = upstream.info
            if upstream.instructions:
                result["instructions"] = upstream.instructions
        return result

    async def handle(self, request: Request) -> Json:
        """The result of a request.

        Raises:
            RpcError: the mandated error, or the server's.
        """
        if request.method in LISTS:
            return await self._list(request)
        if request.method in CALLS:
            return await self._call(request)
        if request.method == "ping":
            return {}
        if request.method == "logging/setLevel":
            return await self._set_level(request)
        raise RpcError(METHOD_NOT_FOUND, f"Method not found: {request.method}")

    # -- lists -----------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Json:
        method, key = request.method, LISTS[request.method]
        if request.params.get("cursor") is not None:
            # Every list is one page, so no cursor was ever given out.
            raise RpcError(INVALID_PARAMS, f"invalid cursor {request.params['cursor']!r}")
        asked = [u for u in self.upstreams.values() if u.era is None or CAPABILITY_OF[method] in u.capabilities]
        if not self.merged:
            items = await self._catalog.items(asked[0], method, asked[0].server.timeout_seconds) if asked else []
            return {
                key: [item for item in items if method != "tools/list" or permitted(asked[0], item.get("name", ""))]
            }
        answers = await asyncio.gather(*(self._catalog.items(u, method) for u in asked), return_exceptions=True)
        merged: list[Json] = []
        missing: list[str] = []
        for upstream, answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, RpcError):
                    raise answer
                missing.append(upstream.server.name)
                continue
            merged += [self._renamed(upstream, method, item) for item in answer if self._shown(upstream, method, item)]
        result: Json = {key: merged}
        if missing:
            # Healthy servers keep working when others are down, and the gap is visible.
            result["_meta"] = {"ai.sophia.mcp/partial": sorted(missing)}
        return result

    @staticmethod
    def _shown(upstream: Upstream, method: str, item: Json) -> bool:
        return method != "tools/list" or permitted(upstream, item.get("name", ""))

    @staticmethod
    def _renamed(upstream: Upstream, method: str, item: Json) -> Json:
        server = upstream.server.name
        if method == "resources/list":
            return {**item, "uri": names.exposed_uri(server, item.get("uri", ""))}
        if method == "resources/templates/list":
            return {**item, "uriTemplate": names.exposed_uri(server, item.get("uriTemplate", ""))}
        return {**item, "name": names.exposed(server, item.get("name", ""))}

    # -- calls -----------------------------------------------------------------------------------

    async def _call(self, request: Request) -> Json:
        method, params = request.method, request.params
        if method == "completion/complete":
            upstream, params = await self._completion_target(params)
        elif method == "resources/read":
            upstream, uri = self._resource_target(params.get("uri"))
            params = {**params, "uri": uri}
        else:
            kind = "tools/list" if method == "tools/call" else "prompts/list"
            upstream, name = await self._named_target(kind, params.get("name"))
            if method == "tools/call" and not permitted(upstream, name):
                raise RpcError(INVALID_PARAMS, f"Unknown tool: {params.get('name')}")
            params = {**params, "name": name}
        call = Call(method, params, capabilities=request.capabilities, notify=request.notify)
        call.session_key = f"{request.principal}/{request.session}" if upstream.server.sticky else request.principal
        if method == "tools/call":
            call.tool_schema = self._schema(upstream, params["name"])
        result = await upstream.request(call)
        return self._with_merged_uris(upstream, result) if self.merged else result

    def _schema(self, upstream: Upstream, tool: str) -> Json | None:
        known = self._catalog.known(upstream.server.name, "tools/list") or []
        return next((item.get("inputSchema") for item in known if item.get("name") == tool), None)

    def _only(self) -> Upstream:
        return next(iter(self.upstreams.values()))

    async def _named_target(self, method: str, name: Any) -> tuple[Upstream, str]:
        """The server of a tool or prompt, and its own name for it."""
        if not isinstance(name, str) or not name:
            raise RpcError(INVALID_PARAMS, "params.name is missing")
        if not self.merged:
            return self._only(), name
        what = "tool" if method == "tools/list" else "prompt"
        found = names.split(name, self.upstreams)
        if not found:
            raise RpcError(INVALID_PARAMS, f"Unknown {what}: {name}")
        upstream, rest = self.upstreams[found[0]], found[1]
        if names.exposed(found[0], rest) == name and len(name) < names.MAX_LENGTH:
            return upstream, rest
        for item in await self._catalog.items(upstream, method):
            if names.exposed(found[0], item.get("name", "")) == name:
                return upstream, item["name"]
        raise RpcError(INVALID_PARAMS, f"Unknown {what}: {name}")

    def _resource_target(self, uri: Any) -> tuple[Upstream, str]:
        if not isinstance(uri, str) or not uri:
            raise RpcError(INVALID_PARAMS, "params.uri is missing")
        if not self.merged:
            return self._only(), uri
        found = names.split_uri(uri, self.upstreams)
        if not found:
            raise RpcError(INVALID_PARAMS, f"Resource not found: {uri}", {"uri": uri})
        return self.upstreams[found[0]], found[1]

    async def _completion_target(self, params: Json) -> tuple[Upstream, Json]:
        reference = params.get("ref") or {}
        if reference.get("type") == "ref/prompt":
            upstream, name = await self._named_target("prompts/list", reference.get("name"))
            return upstream, {**params, "ref": {**reference, "name": name}}
        upstream, uri = self._resource_target(reference.get("uri"))
        return upstream, {**params, "ref": {**reference, "uri": uri}}

    @staticmethod
    def _with_merged_uris(upstream: Upstream, result: Json) -> Json:
        """URIs in a result as clients of the merged view must send them back."""
        server = upstream.server.name
        for content in result.get("contents") or []:
            if isinstance(content, dict) and "uri" in content:
                content["uri"] = names.exposed_uri(server, content["uri"])
        for content in result.get("content") or []:
            if not isinstance(content, dict):
                continue
            if content.get("type") == "resource_link" and "uri" in content:
                content["uri"] = names.exposed_uri(server, content["uri"])
            elif content.get("type") == "resource" and "uri" in (content.get("resource") or {}):
                content["resource"]["uri"] = names.exposed_uri(server, content["resource"]["uri"])
        return result

    # -- logging ---------------------------------------------------------------------------------

    async def _set_level(self, request: Request) -> Json:
        """Tell every server of the view that logs; one that is away must not fail the client."""
        level = {"level": request.params.get("level")}
        asked = []
        for upstream in self.upstreams.values():
            if "logging" in upstream.capabilities and upstream.era and not upstream.era.startswith("2026"):
                key = f"{request.principal}/{request.session}" if upstream.server.sticky else request.principal
                asked.append(upstream.request(Call("logging/setLevel", level, session_key=key)))
        answers = await asyncio.gather(*asked, return_exceptions=True)
        if not self.merged:
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
        return {}
