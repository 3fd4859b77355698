"""What the gateway answers, whatever the era of the client: the methods of the protocol over one view.

A view is an endpoint: ``/mcp`` shows all servers under merged names, ``/servers/<name>/mcp`` one as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_gateway import names
from mcp_gateway.catalog import FAN_OUT_SECONDS, Catalog, Listed
from mcp_gateway.protocol import (
    CALLS,
    GATEWAY_INFO,
    INVALID_PARAMS,
    LISTS,
    METHOD_NOT_FOUND,
    MODERN,
    PARTIAL_META_KEY,
    STALE_META_KEY,
    Json,
    RpcError,
)
from mcp_gateway.sessions import Pin, Session
from mcp_gateway.upstream import Call, Notify, Upstream

# How long ``initialize`` waits for sessions at sticky servers.
PIN_SECONDS = 2.0
CAPABILITY_OF = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resources",
}


@dataclass
class Request:
    """One request of a client, its envelope already checked.

    Attributes:
        session: the client's session (2025); None in 2026, where there is none.
        capabilities: what the client declared with the request (2026).
        param_headers: its ``Mcp-Param-*`` headers.
        log_level: least severity of log messages wanted; None for none.
        set_level: whether the client asked for that level itself.
        notify: takes notifications that precede the response; None where the client takes no event stream.
    """

    method: str
    params: Json
    principal: str
    session: Session | None = None
    capabilities: Json = field(default_factory=dict)
    param_headers: Mapping[str, str] = field(default_factory=dict)
    log_level: str | None = None
    set_level: bool = False
    notify: Notify | None = None


def session_key(principal: str, session: Session | None, upstream: Upstream) -> str:
    """Whose session at the server a call may use: sticky servers keep state for each client session."""
    return f"{principal}/{session.id}" if session and upstream.server.sticky else principal


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
        raise RpcError(METHOD_NOT_FOUND, f"Method not found: {request.method}")

    # -- sessions of clients ---------------------------------------------------------------------

    async def open_pins(self, principal: str, session: Session) -> dict[str, Pin]:
        """The sessions at sticky servers that a new client session holds; slow servers are left for later."""
        sticky = [upstream for upstream in self.upstreams.values() if upstream.server.sticky]

        async def pin(upstream: Upstream) -> Pin | None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PIN_SECONDS):
                    return await upstream.open_pin(session_key(principal, session, upstream))
            return None

        pins = await asyncio.gather(*(pin(upstream) for upstream in sticky))
        return {upstream.name: found for upstream, found in zip(sticky, pins, strict=True) if found}

    def end_session(self, session: Session) -> None:
        """End a client session's own sessions at sticky servers."""
        for upstream in self.upstreams.values():
            if upstream.server.sticky:
                key = session_key(session.principal, session, upstream)
                upstream.end_session(key, session.pins.get(upstream.name))

    # -- lists -----------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Json:
        method, key = request.method, LISTS[request.method]
        if request.params.get("cursor") is not None:
            # Every list is one page, so no cursor was ever given out.
            raise RpcError(INVALID_PARAMS, f"invalid cursor {request.params['cursor']!r}")
        asked = [u for u in self.upstreams.values() if u.era is None or CAPABILITY_OF[method] in u.capabilities]
        if not self.merged:
            if not asked:
                return {key: []}
            listed = await self._catalog.items(asked[0], method, asked[0].server.timeout_seconds)
            return {key: [item for item in listed.items if self._shown(asked[0], method, item)]}
        answers = await asyncio.gather(
            *(self._catalog.items(u, method, FAN_OUT_SECONDS) for u in asked), return_exceptions=True
        )
        merged: list[Json] = []
        missing: list[str] = []
        stale: list[str] = []
        for upstream, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Listed):
                merged += [
                    self._renamed(upstream, method, item)
                    for item in answer.items
                    if self._shown(upstream, method, item)
                ]
                if answer.stale:
                    stale.append(upstream.name)
            elif isinstance(answer, RpcError):
                missing.append(upstream.name)
            else:
                raise answer
        # Healthy servers keep working when others are down, and the gap is visible.
        marks = {PARTIAL_META_KEY: sorted(missing), STALE_META_KEY: sorted(stale)}
        result: Json = {key: merged}
        if missing or stale:
            result["_meta"] = {mark: servers for mark, servers in marks.items() if servers}
        return result

    @staticmethod
    def _shown(upstream: Upstream, method: str, item: Json) -> bool:
        return method != "tools/list" or upstream.policy.permits(item.get("name", ""))

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
            if method == "tools/call" and not upstream.policy.permits(name):
                raise RpcError(INVALID_PARAMS, f"Unknown tool: {params.get('name')}")
            params = {**params, "name": name}
        result = await upstream.request(
            Call(
                method,
                params,
                session_key=session_key(request.principal, request.session, upstream),
                pin=request.session.pins.get(upstream.name) if request.session else None,
                capabilities=request.capabilities,
                param_headers=request.param_headers,
                schema=await self._schema(upstream, params["name"]) if method == "tools/call" else None,
                log_level=request.log_level,
                set_level=request.set_level,
                notify=request.notify,
            )
        )
        return self._with_merged_uris(upstream, result) if self.merged else result

    async def _schema(self, upstream: Upstream, tool: str) -> Json | None:
        """The tool's schema where a modern server wants arguments of it mirrored in headers."""
        if upstream.era != MODERN:
            return None
        if not self._catalog.knows(upstream.name, "tools/list"):
            with contextlib.suppress(RpcError):  # the call itself will tell what is wrong
                await self._catalog.items(upstream, "tools/list", FAN_OUT_SECONDS)
        return self._catalog.mirrored(upstream.name, tool)

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
        if not names.may_be_shortened(name):
            return upstream, rest
        itself = names.exposed(found[0], rest) == name  # an honest name may end like a digest
        try:
            listed = await self._catalog.items(upstream, method, FAN_OUT_SECONDS)
        except RpcError:
            if itself:
                return upstream, rest
            raise
        for item in listed.items:
            if names.exposed(found[0], item.get("name", "")) == name:
                return upstream, item["name"]
        if itself:
            return upstream, rest
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
        reference = params.get("ref")
        if not isinstance(reference, dict):
            raise RpcError(INVALID_PARAMS, "params.ref is missing")
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
