"""Clients of 2026-07-28: every request carries its own envelope (basic/transports/streamable-http)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from mcp_gateway import passing
from mcp_gateway.downstream.outlet import Outlet
from mcp_gateway.downstream.parking import CAPABILITY_OF, Parking, ParkingClient, binding_of, undeclared
from mcp_gateway.downstream.reply import Channel, Reply
from mcp_gateway.hub import LISTS_CHANGED, Hub, Listener
from mcp_gateway.inbound import (
    ERROR_CODE_HTTP_STATUS,
    InboundLadderRejection,
    classify_inbound_request,
    decode_header_value,
)
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import (
    CACHEABLE,
    CLIENT_CAPABILITIES_META_KEY,
    GATEWAY_INFO,
    HEADER_MISMATCH,
    INPUT_METHODS,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LEGACY_RESOURCE_NOT_FOUND,
    LEGACY_URL_ELICITATION,
    LEGACY_VERSIONS,
    LOG_LEVEL_META_KEY,
    LOG_LEVELS,
    METHOD_NOT_FOUND,
    MODERN,
    MODERN_ERRORS,
    NAMED,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
    SUBSCRIPTION_META_KEY,
    Json,
    RpcError,
    error,
    result,
)
from mcp_gateway.registers import MAX_RESOURCE_CHARS
from mcp_gateway.views import Request, View

# Methods of 2025 that 2026-07-28 has no more: a modern request for one is an unknown method.
LEGACY_ONLY = frozenset({"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
# Statuses of errors that arise past the envelope; all others travel with 200.
_STATUS = dict.fromkeys(MODERN_ERRORS, 400) | {METHOD_NOT_FOUND: 404}
# Codes that the specification keeps for itself and has not given a meaning (basic/index, "Error codes").
_RESERVED = range(-32099, -32022)
# A stray ``Mcp-Session-Id`` means nothing in this era (basic/transports/streamable-http, "Backward Compatibility").
_ASKABLE = frozenset(CAPABILITY_OF.values())
_ROUTING = frozenset({"mcp-protocol-version", "mcp-method", "mcp-name"})


def is_modern(body: Json, headers: Mapping[str, str]) -> bool:
    """Whether the request speaks 2026-07-28 or later: its version header, its ``_meta`` or its method says so."""
    version = headers.get("mcp-protocol-version", "")
    if version == MODERN:
        return True
    params = body.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return (
        (version not in LEGACY_VERSIONS and version >= MODERN)
        or (isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta)
        or body.get("method") == "server/discover"
    )


class Modern:
    """One endpoint for clients of the stateless era."""

    def __init__(self, view: View, parking: Parking, hub: Hub) -> None:
        self.view = view
        self._parking = parking
        self._hub = hub

    def show(self, view: View) -> None:
        """Show this from now on."""
        self.view = view

    def open(
        self, body: Json, headers: Mapping[str, str], repeated: frozenset[str], principal: Principal
    ) -> Request | Reply:
        """Check the envelope; a Reply refuses with the mandated code and status."""
        if doubled := _ROUTING & repeated:
            # Whoever reads the first copy of a doubled header and whoever reads the last would disagree.
            return Reply(400, error(body.get("id"), HEADER_MISMATCH, f"{min(doubled)} is given twice"))
        if "method" not in body:
            # Servers of this era ask nothing that a message could respond to ("Sending Messages").
            return Reply(400, error(None, INVALID_REQUEST, "a response is nothing that this endpoint takes"))
        if "id" not in body:
            return Reply(202)  # a notification: nothing of ours waits for it
        identity, method = body["id"], body["method"]
        params: Any = body.get("params")
        if not isinstance(identity, (str, int)) or identity is True or identity is False:
            return Reply(400, error(None, INVALID_REQUEST, "id is neither a string nor an integer"))
        meta = params.get("_meta") if isinstance(params, dict) else None
        if not _is_plain(method, params, meta, headers):
            # Not the usual form: the official ladder says whether it is another correct one, or what is wrong.
            route = classify_inbound_request(body, headers=headers, supported_modern_versions=(MODERN,))
            if isinstance(route, InboundLadderRejection):
                status = ERROR_CODE_HTTP_STATUS.get(route.code, 400)
                return Reply(status, error(identity, route.code, route.message, route.data))
            if not isinstance(route.client_capabilities, dict):
                return Reply(400, error(identity, INVALID_PARAMS, f"{CLIENT_CAPABILITIES_META_KEY} is not an object"))
            if mismatch := _task_mismatch(method, params, headers):
                return Reply(400, error(identity, HEADER_MISMATCH, mismatch))
        if method in LEGACY_ONLY:
            return _refusal(identity, RpcError(METHOD_NOT_FOUND, f"Method not found: {method}"))
        meta = params["_meta"]
        level = meta.get(LOG_LEVEL_META_KEY)
        if level is not None and level not in LOG_LEVELS:
            why = f"{LOG_LEVEL_META_KEY} {str(level)[:40]!r} is none of {', '.join(LOG_LEVELS)}"
            return Reply(400, error(identity, INVALID_PARAMS, why))
        return Request(
            method,
            params,
            principal,
            capabilities=meta[CLIENT_CAPABILITIES_META_KEY],
            modern=True,
            headers=headers,
            log_level=level,
            set_level=level is not None,
        )

    async def answer(self, identity: Any, request: Request, channel: Channel) -> Reply | None:
        """Handle the request and dress its result for this era; None where the stream says it all."""
        try:
            if request.method == "server/discover":
                value = self.view.discover(request.principal)
            elif request.method == "subscriptions/listen":
                return await self._listen(identity, request, channel)
            else:
                if content := passing.LISTS.get(request.method):
                    request.sink = Outlet(channel, identity, partial(self.dressed, request), content)
                value = await self._handle(request, channel)
        except RpcError as failure:
            return _refusal(identity, failure)
        return Reply(200, result(identity, self.dressed(request, value)))

    @staticmethod
    def dressed(request: Request, value: Json) -> Json:
        """The result as this era has it (basic/index, "Result types"; server/utilities/caching)."""
        value.setdefault("resultType", "complete")
        if request.method in CACHEABLE and value["resultType"] == "complete":
            _check_hints(value)
        meta = value.get("_meta")
        if not isinstance(meta, dict):
            value["_meta"] = {SERVER_INFO_META_KEY: GATEWAY_INFO}
        elif SERVER_INFO_META_KEY not in meta:
            value["_meta"] = {SERVER_INFO_META_KEY: GATEWAY_INFO, **meta}
        return value

    @staticmethod
    def goes_on(body: Json) -> bool:
        """Whether the message goes on with an earlier one (basic/patterns/mrtr)."""
        params = body.get("params")
        return isinstance(params, dict) and ("requestState" in params or "inputResponses" in params)

    async def _handle(self, request: Request, channel: Channel) -> Json:
        """The result; what it asks for must be what the client declared."""
        value = await self._result(request, channel)
        if value.get("resultType") == "input_required":
            questions = value.get("inputRequests")
            for question in questions.values() if isinstance(questions, dict) else ():
                if isinstance(question, dict) and (refusal := undeclared(request.capabilities, question)):
                    raise refusal
        return value

    async def _result(self, request: Request, channel: Channel) -> Json:
        """The view's result. A call whose server may ask the client in the middle of it can be parked."""
        if request.method not in INPUT_METHODS:
            request.client = _Listening(channel, request.capabilities)
            return await self.view.handle(request)
        params = request.params
        if "requestState" in params and (held := self._parking.open(params["requestState"])):
            responses = params.get("inputResponses")
            return await self._parking.resume(
                held[0], self._binding(request), responses if isinstance(responses, dict) else {}, channel
            )
        if _ASKABLE.isdisjoint(request.capabilities):
            request.client = _Listening(channel, request.capabilities)
            return await self.view.handle(request)
        request.client = client = ParkingClient(request.capabilities, channel)
        return await self._parking.run(client, self.view.handle(request), self._binding(request))

    def holder(self, body: Json) -> str | None:
        """Which gateway replica holds the call that the request goes on with, if any does."""
        params = body.get("params")
        if not isinstance(params, dict) or "requestState" not in params:
            return None
        held = self._parking.open(params["requestState"])
        return held[1] if held else None

    def _binding(self, request: Request) -> str:
        return binding_of(self.view.name, request.principal.name, request.method, request.params)

    async def _listen(self, identity: Any, request: Request, channel: Channel) -> Reply | None:
        """``subscriptions/listen``: acknowledge first, then tell (basic/patterns/subscriptions)."""
        wanted = request.params.get("notifications")
        if not isinstance(wanted, dict):
            raise RpcError(INVALID_PARAMS, "params.notifications is missing: say what to be told of")
        if not channel.streams:
            raise RpcError(INVALID_REQUEST, "Accept lacks text/event-stream, which this method answers with")
        tag = {SUBSCRIPTION_META_KEY: identity}
        uris = wanted.get("resourceSubscriptions")
        resources = self.view.resources_of(request.principal, uris if isinstance(uris, list) else [])
        if sum(len(own) + len(uri) for (_, own), uri in resources.items()) > MAX_RESOURCE_CHARS:
            # As for sessions of 2025: a server of theirs is asked for each by itself.
            why = f"the resources to be told of are longer than {MAX_RESOURCE_CHARS} characters; listen to fewer"
            raise RpcError(INVALID_PARAMS, why)
        offered = self.view.tells()
        lists = {method: name for method, name in LISTS_CHANGED.items() if wanted.get(name) is True and name in offered}
        granted: Json = dict.fromkeys(lists.values(), True)
        if uris is not None:
            granted["resourceSubscriptions"] = list(resources.values())

        early: list[tuple[str, Json]] | None = []  # news from before the acknowledgment, which must come first

        def put(method: str, params: Json) -> None:
            if early is not None:
                early.append((method, params))
                return
            meta = params.get("_meta")
            params = {**params, "_meta": {**(meta if isinstance(meta, dict) else {}), **tag}}
            channel.put({"jsonrpc": "2.0", "method": method, "params": params})

        listener = Listener(lambda: self.view.servers_of(request.principal), put, frozenset(lists), resources)
        self._hub.add(listener)
        try:
            await self.view.settled({server for server, _ in resources})
            waiting, early = early or [], None
            put("notifications/subscriptions/acknowledged", {"notifications": granted})
            for news in waiting:
                put(*news)
            await self.view.closing()
        finally:
            self._hub.remove(listener)
        return Reply(200, result(identity, {"resultType": "complete", "_meta": tag}))


class _Listening:
    """A client that takes what precedes its response and declared nothing that it could be asked."""

    __slots__ = ("_capabilities", "_channel")

    def __init__(self, channel: Channel, capabilities: Json) -> None:
        self._channel = channel
        self._capabilities = capabilities

    async def notify(self, message: Json) -> None:
        await self._channel.send(message)

    def refusal(self, question: Json) -> RpcError:
        nobody = RpcError(METHOD_NOT_FOUND, f"nobody can be asked {question['method']}")
        return undeclared(self._capabilities, question) or nobody

    async def ask(self, question: Json, _address: object) -> Json:
        raise self.refusal(question)


def _is_plain(method: Any, params: Any, meta: Any, headers: Mapping[str, str]) -> bool:
    """Whether envelope and headers are all there and agree literally, as clients usually send them."""
    if not isinstance(meta, dict) or meta.get(PROTOCOL_VERSION_META_KEY) != MODERN:
        return False
    if headers.get("mcp-protocol-version") != MODERN or headers.get("mcp-method") != method:
        return False
    if not isinstance(meta.get(CLIENT_CAPABILITIES_META_KEY), dict):
        return False
    key = NAMED.get(method)
    if key is None:
        return True
    name = params.get(key)
    return isinstance(name, str) and headers.get("mcp-name") == name and not name.startswith("=?")


def _task_mismatch(method: str, params: Json, headers: Mapping[str, str]) -> str | None:
    """What is wrong with ``Mcp-Name`` of the tasks methods (SEP-2663), which the official ladder does not know."""
    if method not in ("tasks/get", "tasks/update", "tasks/cancel"):
        return None
    if decode_header_value(headers.get("mcp-name")) != params.get("taskId"):
        return "Mcp-Name must be params.taskId"
    return None


def _check_hints(value: Json) -> None:
    """What is said of caching is there, and is what may be said (server/utilities/caching); servers say it, too."""
    ttl = value.get("ttlMs")
    if not isinstance(ttl, int) or isinstance(ttl, bool) or ttl < 0:
        value["ttlMs"] = 0
    if value.get("cacheScope") not in ("public", "private"):
        value["cacheScope"] = "private"


def _refusal(identity: Any, failure: RpcError) -> Reply:
    # -32002 and -32042 of older servers must never be sent in this era (basic/index, "Error codes").
    code = failure.code
    if code in (LEGACY_RESOURCE_NOT_FOUND, LEGACY_URL_ELICITATION):
        code = INVALID_PARAMS
    elif code in _RESERVED:
        code = INTERNAL_ERROR
    return Reply(_STATUS.get(code, 200), error(identity, code, failure.message, failure.data))
