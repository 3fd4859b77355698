"""Clients of 2025: a session opened with ``initialize`` (2025-11-25 basic/transports, basic/lifecycle)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from mcp_gateway import passing
from mcp_gateway.downstream.outlet import Outlet
from mcp_gateway.downstream.parking import CAPABILITY_OF, lacking
from mcp_gateway.downstream.reply import Channel, Reply
from mcp_gateway.hub import LISTS_CHANGED, Hub, Listener
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    LEGACY,
    LEGACY_VERSIONS,
    LOG_LEVELS,
    METHOD_NOT_FOUND,
    MODERN,
    TIMED_OUT,
    Json,
    RpcError,
    error,
    result,
)
from mcp_gateway.sessions import Address, Sealer, Session
from mcp_gateway.states import States
from mcp_gateway.views import Request, View

# What a client without the header speaks (2025-11-25 basic/transports, "Protocol Version Header").
ASSUMED_VERSION = "2025-03-26"
BATCHES = "2025-03-26"  # the only version that has JSON-RPC batches (2025-06-18 changelog)
# A server that never has enough is not asked on for ever.
MAX_ROUNDS = 10
QUESTION_SECONDS = 600.0
QUESTION = "question"


class Legacy:
    """One endpoint for clients with sessions.

    Args:
        holder: what other gateway replicas know this one by.
        states: what clients set in their sessions.
    """

    def __init__(self, view: View, sealer: Sealer, hub: Hub, holder: str, states: States) -> None:
        self.view = view
        self._sealer = sealer
        self._hub = hub
        self._holder = holder
        self._states = states
        self._asked: dict[str, asyncio.Future[Json]] = {}

    def show(self, view: View) -> None:
        """Show this from now on."""
        self.view = view

    # -- requests --------------------------------------------------------------------------------

    def open(
        self, body: Json, headers: Mapping[str, str], principal: Principal
    ) -> Request | Reply | Coroutine[Any, Any, Reply]:
        """Check session and version; a Reply, which may have to be waited for, is the whole answer."""
        identity, method, params = body.get("id"), body.get("method"), body.get("params")
        if "id" in body and (not isinstance(identity, (str, int)) or identity is True or identity is False):
            return Reply(400, error(None, INVALID_REQUEST, "id is neither a string nor an integer"))
        if not isinstance(params, dict):
            params = {}
        if method == "initialize":
            return self._initialize(identity, params, principal)
        session = self.session(identity, headers, principal)
        if isinstance(session, Reply):
            return session
        if method is None:
            return self._responded(body, session)
        if identity is None:
            return Reply(202)  # notifications/initialized and the like: nothing of ours waits for it
        if method == "ping":
            return Reply(200, result(identity, {}))
        if method == "logging/setLevel":
            return self._set_level(identity, params, session)
        if method in ("resources/subscribe", "resources/unsubscribe"):
            return self._subscribe(identity, params, principal, session, wanted=method == "resources/subscribe")
        state = self._states.find(session.id)
        level = state.level if state else None
        return Request(
            method,
            params,
            principal,
            session=session,
            capabilities=session.capabilities,
            log_level=level or LOG_LEVELS[0],  # who never set one takes what the server sends by itself
            set_level=level is not None,
        )

    async def answer(self, identity: Any, request: Request, channel: Channel) -> Reply:
        """Handle the request and take out what only 2026 knows."""
        session = request.session
        assert session is not None  # only open() makes requests
        request.client = client = _Asking(self, session, channel)
        if content := passing.LISTS.get(request.method):
            request.sink = Outlet(channel, identity, partial(self.dressed, request), content)
        try:
            value = await self.view.handle(request)
            rounds = 0
            while value.get("resultType") == "input_required":
                rounds += 1
                if rounds > MAX_ROUNDS:
                    raise RpcError(INVALID_REQUEST, f"the server asked for input {MAX_ROUNDS} times without an end")
                value = await self.view.handle(await client.gather(request, value))
        except RpcError as failure:
            return Reply(200, error(identity, failure.code, failure.message, failure.data))
        return Reply(200, result(identity, self.dressed(request, value)))

    @staticmethod
    def dressed(_request: Request, value: Json) -> Json:
        """The result without what only 2026 knows."""
        for key in ("resultType", "ttlMs", "cacheScope"):
            value.pop(key, None)
        return value

    @staticmethod
    def goes_on(body: Json) -> bool:
        """Whether the message is the response to a question."""
        return "method" not in body

    # -- sessions --------------------------------------------------------------------------------

    def session(self, identity: Any, headers: Mapping[str, str], principal: Principal) -> Session | Reply:
        """The session that the headers name: absent is 400, unknown or ended 404 (basic/transports)."""
        version = headers.get("mcp-protocol-version", ASSUMED_VERSION)
        if version not in LEGACY_VERSIONS:
            supported = ", ".join((MODERN, *LEGACY_VERSIONS))
            return Reply(
                400, error(identity, INVALID_REQUEST, f"unsupported MCP-Protocol-Version {version!r}; use {supported}")
            )
        sealed = headers.get("mcp-session-id")
        if not sealed:
            return Reply(400, error(identity, INVALID_REQUEST, "Mcp-Session-Id is missing; send initialize first"))
        session = self._sealer.open(sealed, principal.name, self.view.name)
        if session is None:
            return Reply(404, error(identity, INVALID_REQUEST, "the session is unknown or has ended; send initialize"))
        state = self._states.find(session.id)
        if state and state.pins:
            return replace(session, pins={**session.pins, **state.pins})
        return session

    async def _initialize(self, identity: Any, params: Json, principal: Principal) -> Reply:
        wanted = params.get("protocolVersion")
        version = wanted if wanted in LEGACY_VERSIONS else LEGACY
        declared = params.get("capabilities")
        capabilities = {
            name: value
            for name, value in (declared if isinstance(declared, dict) else {}).items()
            if name in CAPABILITY_OF.values() and isinstance(value, dict)
        }
        session = Session(
            self._sealer.new_id(), version, principal.name, self.view.name, int(time.time()), {}, capabilities
        )
        session = replace(session, pins=await self.view.open_pins(principal, session))
        value = {"protocolVersion": version, **self.view.hello(principal)}
        return Reply(200, result(identity, value), (("mcp-session-id", self._sealer.seal(session)),))

    async def end(self, session: Session) -> Reply:
        """DELETE: end the session."""
        self._states.end(session)
        self.view.end_session(session)
        return Reply(204)

    # -- what a session sets ---------------------------------------------------------------------

    def _set_level(self, identity: Any, params: Json, session: Session) -> Reply:
        """Remembered here; servers are told with the session's next call, and each call is filtered by it."""
        level = params.get("level")
        if level not in LOG_LEVELS:
            return Reply(200, error(identity, INVALID_PARAMS, f"level {level!r} is none of {', '.join(LOG_LEVELS)}"))
        self._states.set_level(session, level)
        return Reply(200, result(identity, {}))

    async def _subscribe(
        self, identity: Any, params: Json, principal: Principal, session: Session, *, wanted: bool
    ) -> Reply:
        """Subscriptions concern the session's streams, those to come as well (2025-11-25 server/resources)."""
        found = self.view.resources_of(principal, [params.get("uri")])
        if not found:
            return Reply(200, error(identity, INVALID_PARAMS, f"Resource not found: {params.get('uri')}"))
        try:
            self._states.subscribe(session, found, wanted=wanted)
        except RpcError as refusal:
            return Reply(200, error(identity, refusal.code, refusal.message))
        await self.view.settled({server for server, _ in found})
        return Reply(200, result(identity, {}))

    async def listen(self, session: Session, principal: Principal, channel: Channel) -> None:
        """GET: the session's stream for what belongs to no request (basic/transports, "Listening for Messages")."""

        def put(method: str, params: Json) -> None:
            # Each message goes to one stream only (basic/transports, "Multiple Connections"): the latest.
            if state.listeners and state.listeners[-1] is listener and self._states.speaks(state):
                message: Json = {"jsonrpc": "2.0", "method": method}
                channel.put({**message, "params": params} if params else message)

        state = self._states.of(session)
        listener = Listener(
            lambda: self.view.servers_of(principal), put, frozenset(LISTS_CHANGED), dict(state.resources)
        )
        state.listeners.append(listener)
        self._states.set_stream(session, opened=True)
        self._hub.add(listener)
        channel.open()
        client = _Asking(self, session, channel)
        pinned = [
            asyncio.ensure_future(
                upstream.clients.relay(
                    key, partial(self._states.pin, session, upstream.name), session.capabilities, client
                )
            )
            for upstream, key, _ in self.view.pinned(principal, session)
        ]
        waiting = [asyncio.ensure_future(state.ended.wait()), asyncio.ensure_future(self.view.closing())]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            for task in pinned:
                task.cancel()
            self._hub.remove(listener)
            if listener in state.listeners:
                state.listeners.remove(listener)
            if not state.listeners and not state.ended.is_set():
                self._states.set_stream(session, opened=False)

    # -- questions of servers --------------------------------------------------------------------

    async def _responded(self, body: Json, session: Session) -> Reply:
        """A response of the client to a server's question: hand it to where its id says."""
        fields = self._sealer.open_value(QUESTION, body.get("id"))
        if fields is None or fields[0] != session.id:
            return Reply(202)  # nobody waits for it
        if fields[1] == "here":
            future = self._asked.pop(fields[2], None)
            if future and not future.done():
                future.set_result(body)
            return Reply(202)
        try:
            await self.view.deliver(Address(*fields[2]), body)
        except OSError:
            return Reply(404, error(None, INVALID_REQUEST, "the server that asked is gone"))
        return Reply(202)

    def holder(self, body: Json) -> str | None:
        """Which gateway replica waits for the response, if one does."""
        if "method" in body:
            return None
        fields = self._sealer.open_value(QUESTION, body.get("id"))
        return fields[3] if fields and fields[1] == "here" else None

    def question_id(self, session: Session, address: Address) -> str:
        """An id by which any gateway replica finds the server that asked."""
        fields = [address.server, address.url, address.session, address.version, address.id]
        return self._sealer.seal_value(QUESTION, [session.id, "there", fields])

    async def ask_here(self, session: Session, channel: Channel, question: Json) -> Json:
        """Ask the client and wait for its response, which comes by another request."""
        token = Sealer.new_id()
        identity = self._sealer.seal_value(QUESTION, [session.id, "here", token, self._holder])
        future = self._asked[token] = asyncio.get_running_loop().create_future()
        try:
            await channel.send({"jsonrpc": "2.0", "id": identity, **question})
            async with asyncio.timeout(QUESTION_SECONDS):
                return await future
        except TimeoutError:
            raise RpcError(TIMED_OUT, f"the client did not answer within {QUESTION_SECONDS:g} s") from None
        finally:
            self._asked.pop(token, None)


class _Asking:
    """A client with a session, on the stream of one of its requests."""

    __slots__ = ("_channel", "_legacy", "_session")

    def __init__(self, legacy: Legacy, session: Session, channel: Channel) -> None:
        self._legacy = legacy
        self._session = session
        self._channel = channel

    async def notify(self, message: Json) -> None:
        await self._channel.send(message)

    def _check(self, question: Json) -> None:
        if lacking(self._session.capabilities, question) is not None or not self._channel.streams:
            raise RpcError(METHOD_NOT_FOUND, f"the client did not declare what {question.get('method')} needs")

    def refusal(self, _question: Json) -> None:
        """The server gets the client's answer, an error if it must be."""

    async def ask(self, question: Json, address: Address) -> None:
        """Pass the question on; its id brings the response back to the server by itself."""
        self._check(question)
        address = replace(address, id=question["id"])
        await self._channel.send({**question, "id": self._legacy.question_id(self._session, address)})

    async def gather(self, request: Request, value: Json) -> Request:
        """Ask the client all that a server of 2026 wants to know; the request to send again.

        Raises:
            RpcError: the client cannot be asked, or refused.
        """
        questions = value.get("inputRequests")
        retry = {key: item for key, item in request.params.items() if key not in ("inputResponses", "requestState")}
        if "requestState" in value:
            retry["requestState"] = value["requestState"]
        if isinstance(questions, dict) and questions:
            for question in questions.values():
                self._check(question if isinstance(question, dict) else {})
            answers = await asyncio.gather(
                *(
                    self._legacy.ask_here(self._session, self._channel, _asked_as_in_2025(question))
                    for question in questions.values()
                )
            )
            responses: Json = {}
            for key, answer in zip(questions, answers, strict=True):
                failure = answer.get("error")
                if isinstance(failure, dict):
                    raise RpcError(
                        failure["code"] if isinstance(failure.get("code"), int) else INVALID_REQUEST,
                        f"the client refused: {failure.get('message', '')}",
                        failure.get("data"),
                    )
                responses[key] = answer.get("result") or {}
            retry["inputResponses"] = responses
        return replace(request, params=retry)


def _asked_as_in_2025(question: Json) -> Json:
    """A question of 2026, with the id that 2025-11-25 wants of an elicitation by URL (schema)."""
    params = question.get("params")
    asked: Json = {"method": question["method"]}
    if isinstance(params, dict):
        if params.get("mode") == "url":
            params = {"elicitationId": Sealer.new_id(), **params}
        asked["params"] = params
    return asked
