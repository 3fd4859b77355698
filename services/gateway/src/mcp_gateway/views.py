"""What the gateway answers, whatever the era of the client: the methods of the protocol over one view.

A view is an endpoint: ``/mcp`` shows all servers under merged names, ``/servers/<name>/mcp`` one as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from mcp_gateway import names, search
from mcp_gateway.answers import Answers
from mcp_gateway.catalog import FAN_OUT_SECONDS, Catalog, Listed
from mcp_gateway.hub import LISTS_CHANGED
from mcp_gateway.inbound import validate_mcp_param_headers
from mcp_gateway.limits import Limiter
from mcp_gateway.naming import EVERYTHING, Names, Target, guess
from mcp_gateway.net import client as net
from mcp_gateway.net.client import Taker
from mcp_gateway.pages import Page, Pages, SeenBy
from mcp_gateway.policy import Profile, Profiles
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import (
    BUSY,
    CALLS,
    GATEWAY_INFO,
    HEADER_MISMATCH,
    INPUT_METHODS,
    INVALID_PARAMS,
    KEYS,
    LISTS,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    MODERN,
    PARTIAL_META_KEY,
    SAFE,
    SERVER_INFO_META_KEY,
    STALE_META_KEY,
    TASKS,
    UNAVAILABLE,
    Json,
    RpcError,
)
from mcp_gateway.routes import Route, Routes
from mcp_gateway.search import Index, SearchSettings
from mcp_gateway.sessions import Address, Pin, Sealer, Session
from mcp_gateway.upstream.call import Begun, Call, Client
from mcp_gateway.upstream.server import Upstream

if TYPE_CHECKING:
    from mcp_gateway.downstream.outlet import Outlet

log = logging.getLogger("mcp_gateway.views")

# How long ``initialize`` waits for sessions at sticky servers.
PIN_SECONDS = 2.0
# How long a subscription waits for the servers to confirm it.
SETTLE_SECONDS = 2.0
CAPABILITY_OF = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resources",
    "prompts/get": "prompts",
    "resources/read": "resources",
    "completion/complete": "completions",
}
_NAMED_LISTS = ("tools/list", "prompts/list")
TASK = "task"
TASKS_EXTENSION = "io.modelcontextprotocol/tasks"


class Forbidden(Exception):
    """The client's scopes do not suffice; ``scopes`` are all that it needs."""

    def __init__(self, message: str, scopes: tuple[str, ...]) -> None:
        super().__init__(message)
        self.message = message
        self.scopes = scopes


@dataclass(slots=True)
class Request:
    """One request of a client, its envelope already checked.

    Attributes:
        session: the client's session (2025); None in 2026, where there is none.
        capabilities: what the client declared.
        modern: whether it speaks 2026-07-28, by its own word or translated.
        headers: its HTTP headers, where the method looks at them (``Mcp-Param-*``).
        log_level: least severity of log messages wanted; None for none.
        set_level: whether the client asked for that level itself.
        client: takes what precedes the response.
        trace: W3C trace context to send along.
        server, replica: who answered, for logs; filled in on the way.
        refused: why policy refused it, for the audit log alone.
        metered: whether it was counted against its client's rate.
        sink: takes a tool's result while it comes.
        begun: the call to the server, where it is under way already.
    """

    method: str
    params: Json
    principal: Principal
    session: Session | None = None
    capabilities: Json = field(default_factory=dict)
    modern: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    log_level: str | None = None
    set_level: bool = False
    client: Client | None = None
    trace: Mapping[str, str] | None = None
    server: str = ""
    replica: str = ""
    refused: str = ""
    trace_id: str = ""
    metered: bool = False
    sink: Outlet | None = None
    begun: Begun | None = None


def session_key(principal: str, session: Session | None, capabilities: Json, upstream: Upstream) -> str:
    """Whose session at the server a call may use.

    Sticky servers keep state for each client session. The others share one session among the calls of a
    principal whose clients have declared the same capabilities, for a server may use what was declared.
    """
    if session and upstream.server.sticky:
        return f"{principal}/{session.id}"
    if not capabilities:
        return principal
    return f"{principal} {orjson.dumps(capabilities, option=orjson.OPT_SORT_KEYS).decode()}"


class View:
    """One endpoint's servers.

    Args:
        name: its path.
        merged: whether names carry their server's.
        closed: set when streams without an end must end.
        search: whether tools are found by a tool instead of listed; on a merged view alone.
    """

    def __init__(
        self,
        name: str,
        upstreams: dict[str, Upstream],
        catalog: Catalog,
        sealer: Sealer,
        closed: asyncio.Event,
        search: SearchSettings,
        profiles: Profiles,
        limiter: Limiter,
        answers: Answers,
        *,
        merged: bool,
    ) -> None:
        self.name = name
        self.upstreams = upstreams
        self.merged = merged
        self._catalog = catalog
        self._sealer = sealer
        self._closed = closed
        self._pages = Pages(catalog)
        self._search = search
        self._profiles = profiles
        self._limiter = limiter
        self._answers = answers
        self._selections = {name: upstream.server.tools for name, upstream in upstreams.items()}
        self._tables: dict[str, tuple[int, Names]] = {}
        self._indexes: dict[SeenBy, tuple[int, Index]] = {}
        self._routes = Routes()

    # -- what the view is ------------------------------------------------------------------------

    def hello(self, principal: Principal) -> Json:
        """Capabilities, server information and instructions, for ``initialize``."""
        have: set[str] = set()
        for name in self.servers_of(principal):
            have |= set(self.upstreams[name].capabilities)
        # A view whose servers are not known yet is still asked for tools.
        have = have or {"tools"}
        capabilities: Json = {name: {} for name in ("completions", "logging") if name in have}
        for name in ("tools", "prompts", "resources"):
            if name in have:
                capabilities[name] = {"listChanged": True}
        if "resources" in have and any(u.subscribes for u in self.upstreams.values()):
            capabilities["resources"]["subscribe"] = True
        extensions: Json = {}
        for name in self.servers_of(principal):
            offered = self.upstreams[name].capabilities.get("extensions")
            for extension, settings in offered.items() if isinstance(offered, dict) else ():
                # Of those that the gateway does not know, a merged view cannot say which server means what.
                if extension == TASKS_EXTENSION or not self.merged:
                    extensions[extension] = settings
        if extensions:
            capabilities["extensions"] = extensions
        result: Json = {"capabilities": capabilities, "serverInfo": GATEWAY_INFO}
        if not self.merged:
            upstream = self._only()
            result["serverInfo"] = upstream.info or GATEWAY_INFO
            if upstream.instructions:
                result["instructions"] = upstream.instructions
        return result

    def discover(self, principal: Principal) -> Json:
        """The result of ``server/discover`` (2026-07-28 server/discover)."""
        hello = self.hello(principal)
        info = hello.pop("serverInfo")
        return {
            "supportedVersions": [MODERN],
            **hello,
            "ttlMs": self._catalog.ttl_ms,
            "cacheScope": "private",
            "_meta": {SERVER_INFO_META_KEY: info},
        }

    def tells(self) -> frozenset[str]:
        """The list changes that the view tells of, as names of the filter of ``subscriptions/listen``."""
        capabilities = {name for upstream in self.upstreams.values() for name in upstream.capabilities}
        return frozenset(name for name in LISTS_CHANGED.values() if name.removesuffix("ListChanged") in capabilities)

    def servers_of(self, principal: Principal) -> frozenset[str]:
        """Names of the servers that the principal can see."""
        profile = self._profiles.of(principal)
        return frozenset(name for name in self.upstreams if profile.sees_server(name))

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
        return any(u.era is None or capability in u.capabilities for u in self.upstreams.values())

    async def handle(self, request: Request) -> Json:
        """The result of a request.

        Raises:
            RpcError: the mandated error, or the server's.
        """
        if request.begun:
            return await self._resumed(request, request.begun)
        method = request.method
        if not self._offers(method):
            raise RpcError(METHOD_NOT_FOUND, f"Method not found: {method} (no such capability)")
        if method in LISTS:
            return await self._list(request)
        if method in CALLS:
            return await self._call(request)
        if method in TASKS and request.modern:
            return await self._task(request)
        raise RpcError(METHOD_NOT_FOUND, f"Method not found: {method}")

    # -- sessions of clients ---------------------------------------------------------------------

    async def open_pins(self, principal: Principal, session: Session) -> dict[str, Pin]:
        """The sessions at sticky servers that a new client session holds; slow servers are left for later."""
        sticky = [upstream for upstream in self.upstreams.values() if upstream.server.sticky]
        if not sticky:
            return {}

        async def pin(upstream: Upstream) -> Pin | None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PIN_SECONDS):
                    return await upstream.open_pin(f"{principal.name}/{session.id}", session.capabilities)
            return None

        pins = await asyncio.gather(*(pin(upstream) for upstream in sticky))
        return {upstream.name: found for upstream, found in zip(sticky, pins, strict=True) if found}

    def pinned(self, session: Session) -> list[tuple[Upstream, str, Pin]]:
        """The client session's own sessions at sticky servers: server, key and pin."""
        return [
            (self.upstreams[name], f"{session.principal}/{session.id}", pin)
            for name, pin in session.pins.items()
            if name in self.upstreams
        ]

    def end_session(self, session: Session) -> None:
        """End a client session's own sessions at sticky servers."""
        for upstream in self.upstreams.values():
            if upstream.server.sticky:
                upstream.end_session(f"{session.principal}/{session.id}", session.pins.get(upstream.name))

    async def deliver(self, address: Address, response: Json) -> None:
        """Hand a client's response to the server that asked.

        Raises:
            OSError: the server is gone.
        """
        if upstream := self.upstreams.get(address.server):
            await upstream.deliver(address, response)

    # -- lists -----------------------------------------------------------------------------------

    async def _list(self, request: Request) -> Json:
        method, cursor = request.method, request.params.get("cursor")
        if cursor is not None and not isinstance(cursor, str):
            raise RpcError(INVALID_PARAMS, f"invalid cursor {cursor!r}")
        profile = self._profiles.of(request.principal)
        self._meter(request, profile)
        # Who has the same profile and scopes sees the same.
        seen_by = (profile.name, request.principal.scopes if profile.scope_rules else frozenset())
        page = self._pages.known(seen_by, method, cursor)
        if page is None:
            page = await self._read(request.principal, seen_by, method, cursor)
        result: Json = {LISTS[method]: page.items, "ttlMs": page.ttl_ms(), "cacheScope": "private"}
        if page.next_cursor is not None:
            result["nextCursor"] = page.next_cursor
        if page.marks:
            result["_meta"] = dict(page.marks)
        return result

    def _meter(self, request: Request, profile: Profile, server: str = "") -> None:
        """Count the request against its client's rate.

        Raises:
            RpcError: BUSY, with the time to wait.
        """
        if request.metered:
            return
        wait = self._limiter.take(request.principal.name, profile.limits, server)
        request.metered = not wait
        if wait:
            request.refused = "rate limit"
            raise RpcError(
                BUSY,
                f"{request.principal.name} asks more often than its profile allows; try again in {wait:.1f} s",
                {"retryAfterMs": int(wait * 1000) + 1},
            )

    async def _read(self, principal: Principal, seen_by: SeenBy, method: str, cursor: str | None) -> Page:
        """Ask the servers that offer such a list; healthy ones work when others are down, and the gap is visible."""
        visible = self.servers_of(principal)
        asked = [
            upstream
            for upstream in self.upstreams.values()
            if upstream.name in visible and (upstream.era is None or CAPABILITY_OF[method] in upstream.capabilities)
        ]
        generation = self._catalog.generation
        if self.merged:
            answers = await asyncio.gather(
                *(self._catalog.items(u, method, FAN_OUT_SECONDS) for u in asked), return_exceptions=True
            )
        else:
            answers = [await self._catalog.items(u, method, u.server.timeout_seconds) for u in asked]
        items: list[Json] = []
        missing: list[str] = []
        stale: list[str] = []
        for upstream, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Listed):
                items += [self._with_scheme(upstream, method, item) for item in answer.items]
                if answer.stale:
                    stale.append(upstream.name)
            else:
                if not isinstance(answer, RpcError):
                    log.error("a list failed", exc_info=answer, extra={"server": upstream.name})
                missing.append(upstream.name)
        if method in _NAMED_LISTS:
            items = self._seen(principal, method, visible)
            if method == "tools/list" and self._searches(self._profiles.of(principal)):
                items = self._search.listed(items)
        marks = {PARTIAL_META_KEY: sorted(missing), STALE_META_KEY: sorted(stale)}
        fresh = min((a.fresh_until for a in answers if isinstance(a, Listed)), default=0.0)
        return self._pages.cut(
            seen_by,
            method,
            items,
            cursor,
            {k: v for k, v in marks.items() if v},
            0.0 if missing or stale else fresh,
            generation,
        )

    def _with_scheme(self, upstream: Upstream, method: str, item: Json) -> Json:
        key = KEYS[method]
        if not self.merged or method in _NAMED_LISTS:
            return item
        return {**item, key: names.exposed_uri(upstream.server.name, item[key])}

    def _names(self, method: str) -> Names:
        """All names of the tools or prompts that are known."""
        generation = self._catalog.generation
        kept = self._tables.get(method)
        if kept and kept[0] == generation:
            return kept[1]
        items = {name: listed for name in self.upstreams if (listed := self._catalog.known(name, method)) is not None}
        table = Names(items, self._selections if method == "tools/list" else None, merged=self.merged)
        if not kept or kept[1].problems != table.problems:
            for problem in table.problems:
                log.warning("a name cannot be had", extra={"view": self.name, "problem": str(problem)})
        self._tables[method] = (generation, table)
        return table

    def _seen(self, principal: Principal, method: str, visible: frozenset[str]) -> list[Json]:
        """The tools or prompts that the principal sees, under the names that it sees."""
        profile, table = self._profiles.of(principal), self._names(method)
        if method != "tools/list":
            return [item for server, item in table.items() if server in visible]
        items = []
        for server, item in table.items():
            target = table.find(item["name"])
            if target is None or not profile.permits(server, target.name, item.get("annotations"), principal.scopes):
                continue
            renamed = profile.rename(server, target.name) if self.merged else None
            description = profile.description(server, target.name)
            if renamed or description is not None:
                item = {**item, "name": renamed or item["name"], "description": description or item.get("description")}
            items.append(item)
        return items

    def _searches(self, profile: Profile) -> bool:
        """Whether clients of the profile find tools by a tool; the servers' own endpoints have none."""
        return self.merged and (self._search.enabled if profile.search is None else profile.search)

    async def _find_tools(self, request: Request) -> Json:
        """The tool that finds tools: among those that the client may call."""
        principal = request.principal
        profile = self._profiles.of(principal)
        seen_by = (profile.name, principal.scopes if profile.scope_rules else frozenset())
        await self._read(principal, seen_by, "tools/list", None)
        generation = self._catalog.generation
        kept = self._indexes.get(seen_by)
        if kept is None or kept[0] != generation:
            tools = self._seen(principal, "tools/list", self.servers_of(principal))
            kept = self._indexes[seen_by] = (generation, Index(tools))
        return search.answer(kept[1], request.params.get("arguments"))

    # -- calls -----------------------------------------------------------------------------------

    async def _call(self, request: Request) -> Json:
        method, params = request.method, request.params
        schema: Json | None = None
        safe = method in SAFE
        profile = self._profiles.of(request.principal)
        if method == "completion/complete":
            upstream, params = await self._completion_target(params)
        elif method == "resources/read":
            upstream, uri = self._resource_target(params.get("uri"))
            params = {**params, "uri": uri}
        elif method == "prompts/get":
            upstream, name = await self._named_target("prompts/list", params.get("name"))
            params = {**params, "name": name}
        elif params.get("name") == search.NAME and self._searches(profile):
            return await self._find_tools(request)
        else:
            route = self.known_route(request) or await self._find_route(request, profile)
            self._check(request, route)
            upstream, schema, safe = route.upstream, route.schema, route.safe
            params = {**params, "name": route.name}
        request.server = upstream.name
        if not profile.sees_server(upstream.name):
            request.refused = f"profile {profile.name} does not see server {upstream.name}"
            what = params.get("uri") or request.params.get("name") or ""
            raise RpcError(INVALID_PARAMS, f"{'Resource not found' if 'uri' in params else 'Unknown name'}: {what}")
        self._meter(request, profile, upstream.name)
        if request.modern and "requestState" in params and upstream.era != MODERN:
            # Only a server of 2026 gives out states of its own; one of ours would have been opened before.
            raise RpcError(INVALID_PARAMS, "requestState was tampered with, or its time is over; call without it")
        return await self._send(request, upstream, self._call_of(request, upstream, params, safe, schema))

    # -- the ways of tools -----------------------------------------------------------------------

    def known_route(self, request: Request) -> Route | None:
        """The way of a tool's call, if it is known."""
        name, principal = request.params.get("name"), request.principal
        if not isinstance(name, str):
            return None
        return self._routes.find(self._catalog.generation, principal.profile, principal.scopes, name)

    async def _find_route(self, request: Request, profile: Profile) -> Route:
        """Work it out. The server is asked for its list only for clients that may know of the tool."""
        catalog, given, principal = self._catalog, request.params.get("name"), request.principal
        generation = catalog.generation
        original = profile.original(given) if self.merged and isinstance(given, str) else None
        if original and original[0] in self.upstreams:
            upstream, name = self.upstreams[original[0]], original[1]
        else:
            upstream, name = await self._named_target("tools/list", given)
        server = upstream.name
        annotations = catalog.annotations(server, name) if profile.read_only else None
        decision = profile.decide(server, name, annotations, principal.scopes)
        if decision.permitted and not catalog.knows(server, "tools/list"):
            if catalog.pins.refusal(server, name):  # nothing to compare with was there yet
                await catalog.items(upstream, "tools/list", FAN_OUT_SECONDS)
            elif upstream.era == MODERN:  # it may want arguments in headers
                with contextlib.suppress(RpcError):  # the call itself will tell what is wrong
                    await catalog.items(upstream, "tools/list", FAN_OUT_SECONDS)
            else:
                catalog.learn(upstream, "tools/list")
        withheld, schema = catalog.pins.refusal(server, name), catalog.mirrored(server, name)
        route = Route(
            upstream,
            name,
            profile,
            decision,
            withheld,
            schema,
            safe=upstream.server.trusted and catalog.safe(server, name),
            direct=decision.permitted
            and not withheld
            and schema is None
            and upstream.direct
            and not self._answers.keeps(server, name),
            metered=profile.limits.metered(server),
        )
        if generation == catalog.generation and catalog.knows(server, "tools/list"):
            self._routes.keep(generation, principal.profile, principal.scopes, str(given), route)
        return route

    @staticmethod
    def _check(request: Request, route: Route) -> None:
        """The same that decides whether the client sees the tool.

        Raises:
            RpcError: it does not exist for this client, or the headers do not go with the arguments.
            Forbidden: other scopes would do.
        """
        name, decision = request.params.get("name"), route.decision
        if not decision.permitted:
            request.refused = decision.reason
            if decision.scopes:
                raise Forbidden(decision.reason, decision.scopes)
            raise RpcError(INVALID_PARAMS, f"Unknown tool: {name}")
        if route.withheld:
            raise RpcError(INVALID_PARAMS, f"{name} is withheld: {route.withheld}")
        if route.schema is not None and request.modern:
            arguments = request.params.get("arguments")
            wrong = validate_mcp_param_headers(
                route.schema, arguments if isinstance(arguments, dict) else {}, request.headers
            )
            if wrong:
                raise RpcError(wrong.code, wrong.message, wrong.data)

    # -- to the server and back ------------------------------------------------------------------

    def begin(self, request: Request, route: Route, taker: Taker) -> Begun | None:
        """Send a tool's call at once; None where anything must be waited for or refused first.

        What the taker gets is for ``ended``, or the request for ``handle``, which goes on with it.
        """
        upstream = route.upstream
        if route.metered:
            try:
                self._meter(request, route.profile, upstream.name)
            except RpcError:
                return None  # it will be refused by the same rule
        call = self._call_of(request, upstream, {**request.params, "name": route.name}, route.safe)
        begun = upstream.begin(call, taker)
        if begun:
            request.server, request.replica, request.begun = upstream.name, call.replica, begun
        return begun

    def ended(self, request: Request, begun: Begun, answer: net.Answer) -> Json | None:
        """The result of what ``begin`` began; None for all but plain results, with which ``handle`` goes on."""
        upstream = begun.upstream
        result = upstream.result_of(begun, answer)
        if result is None:
            return None
        request.begun = None
        return self._with_merged_uris(upstream, result) if self.merged else result

    async def _resumed(self, request: Request, begun: Begun) -> Json:
        """Go on with a call that was begun."""
        request.begun, call = None, begun.call
        call.begun, call.client, call.sink = begun, request.client, self._sink(request, begun.upstream)
        return await self._send(request, begun.upstream, call)

    def _call_of(
        self, request: Request, upstream: Upstream, params: Json, safe: bool, schema: Json | None = None
    ) -> Call:
        principal, session = request.principal.name, request.session
        return Call(
            request.method,
            params,
            principal=principal,
            session_key=session_key(principal, session, request.capabilities, upstream),
            pin=session.pins.get(upstream.name) if session else None,
            safe=safe,
            capabilities=request.capabilities,
            param_headers=_param_headers(request.headers) if schema else {},
            schema=schema,
            log_level=request.log_level,
            set_level=request.set_level,
            client=request.client,
            trace=request.trace,
            sink=self._sink(request, upstream),
        )

    def _sink(self, request: Request, upstream: Upstream) -> Outlet | None:
        """Where the result can go while it comes."""
        sink = request.sink
        if sink and self.merged:
            sink.item = partial(_with_merged_uri, upstream.name)
        return sink

    async def _send(self, request: Request, upstream: Upstream, call: Call) -> Json:
        params = call.params
        fetch = partial(upstream.request, call)
        ask = self._answers.plan(self.name, upstream.name, request.method, params, call.session_key)
        if ask:
            call.sink = None  # others may get the same answer
        try:
            result = await (self._answers.get(ask, fetch) if ask else fetch())
        except RpcError as failure:
            data = failure.data
            if self.merged and "uri" in params and isinstance(data, dict) and data.get("uri") == params["uri"]:
                failure.data = {**failure.data, "uri": request.params.get("uri")}
            if failure.code != HEADER_MISMATCH or request.method != "tools/call":
                raise
            # Its tools changed: what must be mirrored is in the new list (2026-07-28 server/tools). Nothing ran.
            self._catalog.forget(upstream.name, "tools/list")
            call.schema = await self._fresh_schema(upstream, params["name"])
            result = await upstream.request(call)
        finally:
            request.replica = call.replica or (ask.outcome if ask else "")
        kind = result.get("resultType", "complete")
        if kind != "complete":
            result = self._unfinished(request, upstream, result, kind)
        if request.method == "resources/read":
            _check_hints(result)
        return self._with_merged_uris(upstream, result) if self.merged else result

    async def _fresh_schema(self, upstream: Upstream, tool: str) -> Json | None:
        await self._catalog.items(upstream, "tools/list", FAN_OUT_SECONDS)
        return self._catalog.mirrored(upstream.name, tool)

    def _unfinished(self, request: Request, upstream: Upstream, result: Json, kind: object) -> Json:
        """A result that is not the last word (2026-07-28 basic/index, "Result types").

        Raises:
            RpcError: the request, or the client, does not go with it.
        """
        if kind == "input_required" and request.method in INPUT_METHODS:
            return result
        if kind == TASK and request.method == "tools/call":
            self._check_tasks(
                request,
                f"server {upstream.name} made a task of the call, which the client did not declare to understand",
            )
            return self._with_sealed_task(request, upstream, result)
        raise RpcError(
            UNAVAILABLE, f"server {upstream.name} answered {request.method} with the resultType {str(kind)[:40]!r}"
        )

    @staticmethod
    def _check_tasks(request: Request, why: str) -> None:
        """SEP-2663, "Capability Negotiation": nothing of tasks without the client's declaration."""
        extensions = request.capabilities.get("extensions")
        if not (request.modern and isinstance(extensions, dict) and TASKS_EXTENSION in extensions):
            needed: Json = {"requiredCapabilities": {"extensions": {TASKS_EXTENSION: {}}}}
            raise RpcError(MISSING_REQUIRED_CLIENT_CAPABILITY, why, needed)

    # -- tasks (SEP-2663) ------------------------------------------------------------------------

    def _with_sealed_task(self, request: Request, upstream: Upstream, result: Json) -> Json:
        """A created task under an id that leads to its server, for its principal alone."""
        identity = result.get("taskId")
        if isinstance(identity, str):
            sealed = self._sealer.seal_value(TASK, [upstream.name, identity, request.principal.name])
            result = {**result, "taskId": sealed}
        return result

    async def _task(self, request: Request) -> Json:
        self._check_tasks(request, "tasks are an extension that the client did not declare")
        fields = self._sealer.open_value(TASK, request.params.get("taskId"))
        if not fields or fields[2] != request.principal.name or fields[0] not in self.upstreams:
            raise RpcError(INVALID_PARAMS, f"Unknown task: {str(request.params.get('taskId'))[:80]}")
        upstream = self.upstreams[fields[0]]
        request.server = upstream.name
        params = {**request.params, "taskId": fields[1]}
        call = self._call_of(request, upstream, params, safe=request.method == "tasks/get")
        result = await self._send(request, upstream, call)
        if result.get("taskId") == fields[1]:
            result = {**result, "taskId": request.params["taskId"]}
        return result

    # -- whose name is it ------------------------------------------------------------------------

    def _only(self) -> Upstream:
        return next(iter(self.upstreams.values()))

    async def _named_target(self, method: str, name: Any) -> tuple[Upstream, str]:
        """The server of a tool or prompt, and its own name for it."""
        if not isinstance(name, str) or not name:
            raise RpcError(INVALID_PARAMS, "params.name is missing")
        if target := self._names(method).find(name) or self._guess(method, name):
            return self.upstreams[target.server], target.name
        # A name that was shortened or is new: only the list can tell.
        found = names.split(name, self.upstreams) if self.merged else (self._only().name, name)
        if found:
            upstream = self.upstreams[found[0]]
            if names.may_be_shortened(name) or not self._catalog.knows(upstream.name, method):
                await self._catalog.items(upstream, method, FAN_OUT_SECONDS)
                if target := self._names(method).find(name):
                    return upstream, target.name
        raise RpcError(INVALID_PARAMS, f"Unknown {'tool' if method == 'tools/list' else 'prompt'}: {name}")

    def _guess(self, method: str, name: str) -> Target | None:
        """Whose a name would be that no list shows; its server will know."""
        selections = self._selections if method == "tools/list" else dict.fromkeys(self.upstreams, EVERYTHING)
        if self.merged:
            return guess(name, selections)
        server = self._only().name
        selection = selections[server]
        own = next((old for old, new in selection.rename.items() if new == name), name)
        return Target(server, own) if selection.permits(own) and (own != name or own not in selection.rename) else None

    def _resource_target(self, uri: Any) -> tuple[Upstream, str]:
        if not isinstance(uri, str) or not uri:
            raise RpcError(INVALID_PARAMS, "params.uri is missing")
        if not self.merged:
            return self._only(), uri
        found = names.split_uri(uri, self.upstreams)
        if not found:
            raise RpcError(INVALID_PARAMS, f"Resource not found: {uri}", {"uri": uri})
        return self.upstreams[found[0]], found[1]

    def resources_of(self, _principal: Principal, uris: Iterable[Any]) -> dict[tuple[str, str], str]:
        """Server and its own URI, by the URIs that clients use; those that lead nowhere are left out."""
        found: dict[tuple[str, str], str] = {}
        for uri in uris:
            with contextlib.suppress(RpcError):
                upstream, own = self._resource_target(uri)
                if upstream.subscribes:
                    found[(upstream.name, own)] = uri
        return found

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
        content = result.get("content")
        if isinstance(content, list):
            for item in content:
                if isinstance(item, dict):
                    _with_merged_uri(upstream.name, item)
        if "contents" in result and isinstance(result["contents"], list):
            for item in result["contents"]:
                if isinstance(item, dict):
                    _rename_uri(upstream.name, item)
        return result


def _check_hints(result: Json) -> None:
    """What a server says of caching, where it is allowed to (2026-07-28 server/utilities/caching)."""
    ttl = result.get("ttlMs", 0)
    if not isinstance(ttl, int) or isinstance(ttl, bool) or ttl < 0:
        result["ttlMs"] = 0
    if result.get("cacheScope", "private") not in ("public", "private"):
        result["cacheScope"] = "private"


def _with_merged_uri(server: str, item: Json) -> Json:
    """An item of a tool's content with the URI that clients of the merged view use."""
    kind = item.get("type")
    if kind == "resource_link":
        _rename_uri(server, item)
    elif kind == "resource" and isinstance(item.get("resource"), dict):
        _rename_uri(server, item["resource"])
    return item


def _rename_uri(server: str, item: Json) -> None:
    if isinstance(item.get("uri"), str):
        item["uri"] = names.exposed_uri(server, item["uri"])


def _param_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("mcp-param-")}
