"""Calls: to which server, whether the client may, and what becomes of the result."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from mcp_gateway import search, tracing
from mcp_gateway.answers import Answers
from mcp_gateway.catalog import FAN_OUT_SECONDS
from mcp_gateway.inbound import validate_mcp_param_headers
from mcp_gateway.net import client as net
from mcp_gateway.net.client import Taker
from mcp_gateway.policy import Profile
from mcp_gateway.protocol import (
    HEADER_MISMATCH,
    INPUT_METHODS,
    INVALID_PARAMS,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    MODERN,
    SAFE,
    UNAVAILABLE,
    Json,
    RpcError,
)
from mcp_gateway.routes import Route, Routes
from mcp_gateway.sessions import Sealer
from mcp_gateway.upstream.call import Begun, Call
from mcp_gateway.upstream.server import Upstream
from mcp_gateway.views.lists import Lists
from mcp_gateway.views.merged import with_merged_uri, with_merged_uris, with_own_uri
from mcp_gateway.views.request import Forbidden, Request, session_key
from mcp_gateway.views.site import Site
from mcp_gateway.views.targets import Targets

if TYPE_CHECKING:
    from mcp_gateway.downstream.outlet import Outlet

TASK = "task"
TASKS_EXTENSION = "io.modelcontextprotocol/tasks"


class Calls:
    """The calls of one endpoint."""

    def __init__(self, site: Site, targets: Targets, lists: Lists, sealer: Sealer, answers: Answers) -> None:
        self._site = site
        self._targets = targets
        self._lists = lists
        self._sealer = sealer
        self._answers = answers
        self._routes = Routes()

    async def call(self, request: Request) -> Json:
        """The result of a tool's call, a prompt, a resource or a completion.

        Raises:
            RpcError: the mandated error, or the server's.
            Forbidden: other scopes would do.
        """
        method, params = request.method, request.params
        schema: Json | None = None
        safe = method in SAFE
        profile = self._site.profiles.of(request.principal)
        if method == "completion/complete":
            upstream, params = await self._targets.completion(params)
        elif method == "resources/read":
            upstream, uri = self._targets.resource(params.get("uri"))
            params = {**params, "uri": uri}
        elif method == "prompts/get":
            upstream, name = await self._targets.named("prompts/list", params.get("name"))
            params = {**params, "name": name}
        elif params.get("name") == search.NAME and self._lists.searches(profile):
            self._site.meter(request, profile)
            return await self._lists.find_tools(request)
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
        self._site.meter(request, profile, upstream.name)
        if request.modern and "requestState" in params and upstream.speaker.era != MODERN:
            # Only a server of 2026 gives out states of its own; one of ours would have been opened before.
            raise RpcError(INVALID_PARAMS, "requestState was tampered with, or its time is over; call without it")
        return await self._send(request, upstream, self._call_of(request, upstream, params, safe, schema))

    # -- the ways of tools -----------------------------------------------------------------------

    def known_route(self, request: Request) -> Route | None:
        """The way of a tool's call, if it is known."""
        name, principal = request.params.get("name"), request.principal
        if not isinstance(name, str):
            return None
        return self._routes.find(self._site.catalog.generation, principal.profile, principal.scopes, name)

    async def _find_route(self, request: Request, profile: Profile) -> Route:
        """Work it out. The server is asked for its list only for clients that may know of the tool."""
        catalog, given, principal = self._site.catalog, request.params.get("name"), request.principal
        generation = catalog.generation
        original = profile.original(given) if self._site.merged and isinstance(given, str) else None
        renamed = self._site.upstreams.get(original[0]) if original else None
        if original and renamed and renamed.server.tools.permits(original[1]):
            upstream, name = renamed, original[1]
        else:
            upstream, name = await self._targets.named("tools/list", given)
        server = upstream.name
        if (
            profile.read_only
            and not catalog.knows(server, "tools/list")
            and profile.permits(server, name, {"readOnlyHint": True}, principal.scopes)
        ):
            # What the tool says of itself decides. Where it cannot be had, nothing is permitted.
            with contextlib.suppress(RpcError):
                await catalog.items(upstream, "tools/list", FAN_OUT_SECONDS)
        annotations = catalog.annotations(server, name) if profile.read_only else None
        decision = profile.decide(server, name, annotations, principal.scopes)
        if decision.permitted and not catalog.knows(server, "tools/list"):
            if catalog.pins.refusal(server, name):  # nothing to compare with was there yet
                await catalog.items(upstream, "tools/list", FAN_OUT_SECONDS)
            elif upstream.speaker.era == MODERN:  # it may want arguments in headers
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
                self._site.meter(request, route.profile, upstream.name)
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
        return with_merged_uris(upstream.name, result) if self._site.merged else result

    async def resumed(self, request: Request, begun: Begun) -> Json:
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
            span=request.span,
            born=session.issued if session else 0,
            sink=self._sink(request, upstream),
        )

    def _sink(self, request: Request, upstream: Upstream) -> Outlet | None:
        """Where the result can go while it comes."""
        sink = request.sink
        if sink and self._site.merged:
            mapped = with_own_uri if request.method == "resources/read" else with_merged_uri
            sink.item = partial(mapped, upstream.name)
        return sink

    async def _send(self, request: Request, upstream: Upstream, call: Call) -> Json:
        params = call.params
        fetch = partial(upstream.request, call)
        ask = self._answers.plan(self._site.name, upstream.name, request.method, params, call.session_key)
        if ask:
            call.sink = None  # others may get the same answer
        try:
            result = await (self._answers.get(ask, fetch) if ask else fetch())
        except RpcError as failure:
            data = failure.data
            if self._site.merged and "uri" in params and isinstance(data, dict) and data.get("uri") == params["uri"]:
                failure.data = {**failure.data, "uri": request.params.get("uri")}
            if failure.code != HEADER_MISMATCH or request.method != "tools/call":
                raise
            # Its tools changed: what must be mirrored is in the new list (2026-07-28 server/tools). Nothing ran.
            self._site.catalog.forget(upstream.name, "tools/list")
            call.schema = await self._fresh_schema(upstream, params["name"])
            result = await upstream.request(call)
        finally:
            request.replica = call.replica or (ask.outcome if ask else "")
            if ask and request.span:
                request.span.set(tracing.CACHE, ask.outcome)
        kind = result.get("resultType", "complete")
        if kind != "complete":
            result = self._unfinished(request, upstream, result, kind)
        return with_merged_uris(upstream.name, result) if self._site.merged else result

    async def _fresh_schema(self, upstream: Upstream, tool: str) -> Json | None:
        await self._site.catalog.items(upstream, "tools/list", FAN_OUT_SECONDS)
        return self._site.catalog.mirrored(upstream.name, tool)

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

    # -- tasks (SEP-2663) ------------------------------------------------------------------------

    @staticmethod
    def _check_tasks(request: Request, why: str) -> None:
        """SEP-2663, "Capability Negotiation": nothing of tasks without the client's declaration."""
        extensions = request.capabilities.get("extensions")
        if not (request.modern and isinstance(extensions, dict) and TASKS_EXTENSION in extensions):
            needed: Json = {"requiredCapabilities": {"extensions": {TASKS_EXTENSION: {}}}}
            raise RpcError(MISSING_REQUIRED_CLIENT_CAPABILITY, why, needed)

    def _with_sealed_task(self, request: Request, upstream: Upstream, result: Json) -> Json:
        """A created task under an id that leads to its server, for its principal alone."""
        identity = result.get("taskId")
        if isinstance(identity, str):
            sealed = self._sealer.seal_value(TASK, [upstream.name, identity, request.principal.name])
            result = {**result, "taskId": sealed}
        return result

    async def task(self, request: Request) -> Json:
        """The result of a request about a task, whose sealed id leads to its server (SEP-2663).

        Raises:
            RpcError: the mandated error, or the server's.
        """
        self._check_tasks(request, "tasks are an extension that the client did not declare")
        profile = self._site.profiles.of(request.principal)
        fields = self._sealer.open_value(TASK, request.params.get("taskId"))
        upstream = self._site.upstreams.get(fields[0]) if fields and fields[2] == request.principal.name else None
        if not fields or upstream is None or not profile.sees_server(upstream.name):
            raise RpcError(INVALID_PARAMS, f"Unknown task: {str(request.params.get('taskId'))[:80]}")
        self._site.meter(request, profile, upstream.name)
        request.server = upstream.name
        params = {**request.params, "taskId": fields[1]}
        call = self._call_of(request, upstream, params, safe=request.method == "tasks/get")
        result = await self._send(request, upstream, call)
        if result.get("taskId") == fields[1]:
            result = {**result, "taskId": request.params["taskId"]}
        return result


def _param_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("mcp-param-")}
