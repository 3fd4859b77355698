"""Servers of 2025: sessions with their replicas, opened before use and kept (2025-11-25 basic/lifecycle).

A session belongs to a key: a principal with the capabilities of its client, or at sticky servers one client session.
Sessions are never shared between keys. The gateway itself (lists, probes) has the empty key.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mcp_gateway.protocol import (
    GATEWAY_INFO,
    LEGACY,
    LOG_LEVELS,
    MODERN_ERRORS,
    RESERVED_META,
    UNAVAILABLE,
    Json,
    RpcError,
)
from mcp_gateway.sessions import Address, Pin
from mcp_gateway.upstream.call import Begun, Call, Changed, Relay
from mcp_gateway.upstream.replicas import Replica
from mcp_gateway.upstream.wire import Answer, Take, Wire, WrongEra, lines_of, quietly

MAX_SESSIONS = 10_000
CLOSING_SECONDS = 2.0
# How long a server has to answer for one resource, and how long is gone on with those of a long list at a time.
SUBSCRIBE_SECONDS = 10.0
SUBSCRIBING_SECONDS = 1.0

# Told key and session of one that was opened; returns whether other gateway replicas will use it.
Repinned = Callable[[str, Pin], bool]

log = logging.getLogger("mcp_gateway.upstream")


@dataclass(eq=False)
class UpstreamSession:
    """A session with one replica; ``id`` is None at servers that give none."""

    url: str
    version: str
    id: str | None
    hello: Json = field(default_factory=dict)
    pinned: bool = False
    level: str | None = None
    subscribed: set[str] = field(default_factory=set)
    used: float = field(default_factory=time.monotonic)

    @cached_property
    def lines(self) -> bytes:
        """What belongs on the head of every request after ``initialize`` (2025-11-25 basic/transports)."""
        headers = {"MCP-Protocol-Version": self.version}
        if self.id:
            headers["Mcp-Session-Id"] = self.id
        return lines_of(headers)


class SessionLost(Exception):
    """The server does not know the session (any more); nothing was executed."""


class LegacySessions:
    """The sessions with one server's replicas, and calls over them.

    Args:
        name: the server's.
        idle_seconds: sessions unused for so long are ended, here and there.
        background: runs work that nobody waits for.

    Attributes:
        repinned: takes each new session that has an id.
        dropped: takes each session that is used no more.
    """

    def __init__(
        self, name: str, wire: Wire, idle_seconds: float, background: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self._name = name
        self._wire = wire
        self._idle = idle_seconds
        self._background = background
        self._sessions: OrderedDict[tuple[str, str], UpstreamSession] = OrderedDict()
        self._opening: dict[tuple[str, str], asyncio.Task[UpstreamSession]] = {}
        self._urls: dict[str, str] = {}
        self.repinned: Repinned = lambda _key, _pin: False
        self.dropped: Callable[[UpstreamSession], None] = lambda _session: None

    def __len__(self) -> int:
        return len(self._sessions)

    def url_of(self, key: str) -> str | None:
        """The replica that holds the key's latest session."""
        return self._urls.get(key)

    async def call(self, replica: Replica, request: Call, changed: Changed) -> Json:
        """The result of a request in the key's session with the replica.

        A session that the server forgot is opened again: the refusal says that nothing was executed.

        Raises:
            RpcError: the server's error.
            WrongEra: the replica refuses to open a session.
        """
        for _ in range(2):
            begun, request.begun = request.begun, None
            if begun and begun.session:
                session = begun.session
            else:
                session = await self.session(replica, request.session_key, request.pin, request.capabilities)
            try:
                return await self._call(session, request, changed, begun)
            except SessionLost:
                self._drop(session, replica.url, request.session_key)
        raise RpcError(UNAVAILABLE, "the server does not keep its sessions")

    def ready(self, replica: Replica, call: Call) -> UpstreamSession | None:
        """The session that the call can use as it is; None where something has to be said to the server first."""
        place = (replica.url, call.session_key)
        session = self._sessions.get(place)
        if session is None or (call.set_level and self._unset(session, call.log_level)):
            return None
        session.used = time.monotonic()
        self._sessions.move_to_end(place)
        return session

    async def session(
        self, replica: Replica, key: str, pin: Pin | None = None, capabilities: Json | None = None
    ) -> UpstreamSession:
        """The key's session with the replica: known, sealed in the client's session id, or opened now."""
        place = (replica.url, key)
        session = self._sessions.get(place)
        if session:
            session.used = time.monotonic()
            self._sessions.move_to_end(place)
            return session
        if pin and pin.url == replica.url and key not in self._urls:
            return self._keep(place, UpstreamSession(pin.url, pin.version, pin.id, pinned=True))
        task = self._opening.get(place)
        if task is None:
            # Its own task: when the first caller leaves, the others still want it.
            task = self._opening[place] = asyncio.ensure_future(self._open(place, capabilities or {}))
            task.add_done_callback(lambda done: (self._opening.pop(place), done.cancelled() or done.exception()))
        return await asyncio.shield(task)

    async def _open(self, place: tuple[str, str], capabilities: Json) -> UpstreamSession:
        """``initialize`` and ``notifications/initialized``."""
        url, key = place
        body: Json = {
            "jsonrpc": "2.0",
            "id": self._wire.next_id(),
            "method": "initialize",
            "params": {"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": GATEWAY_INFO},
        }
        answer = await self._wire.request(url, body, b"", None)
        if not isinstance(answer.message.get("result"), dict) and (answer.is_refusal() or answer.status < 300):
            raise WrongEra(answer)
        hello = answer.result()
        session = UpstreamSession(url, str(hello.get("protocolVersion", LEGACY)), answer.session_id, hello)
        await self._wire.send(url, {"jsonrpc": "2.0", "method": "notifications/initialized"}, session.lines)
        if session.id:
            session.pinned = self.repinned(key, Pin(url, session.id, session.version))
        return self._keep(place, session)

    def adopt(self, key: str, pin: Pin) -> None:
        """Forget what the key had: its next call comes with this pin, which another gateway replica opened."""
        for url in {self._urls.pop(key, pin.url), pin.url}:
            session = self._sessions.get((url, key))
            if session and session.id != pin.id:
                del self._sessions[(url, key)]

    def _keep(self, place: tuple[str, str], session: UpstreamSession) -> UpstreamSession:
        self._sessions[place] = session
        self._urls[place[1]] = place[0]
        while len(self._sessions) > MAX_SESSIONS:
            (url, key), oldest = next(iter(self._sessions.items()))
            self._part(oldest, url, key)
            if not oldest.pinned:
                self._close(oldest)
        return session

    def forget(self, session: UpstreamSession, key: str) -> None:
        """The server does not know it any more."""
        self._drop(session, session.url, key)

    def _drop(self, session: UpstreamSession, url: str, key: str) -> None:
        """Forget a session, unless another caller put a new one in its place already."""
        if self._sessions.get((url, key)) is session:
            del self._sessions[(url, key)]
        self.dropped(session)

    def _part(self, session: UpstreamSession, url: str, key: str) -> None:
        """Forget a session that may live on, with where it was."""
        self._drop(session, url, key)
        if self._urls.get(key) == url:
            del self._urls[key]

    async def _call(
        self, session: UpstreamSession, request: Call, changed: Changed, begun: Begun | None = None
    ) -> Json:
        if begun is None and request.set_level and request.log_level and self._unset(session, request.log_level):
            await self._set_level(session, request.log_level)
        identity = begun.identity if begun else self._wire.next_id()
        relay = Relay(request, identity, changed)
        lines = session.lines
        relay.address = Address(self._name, session.url, session.id or "", session.version, None)
        relay.respond = lambda message: asyncio.ensure_future(self._wire.send(session.url, message, lines))
        try:
            answer = await self._wire.request(
                session.url,
                message(request, identity),
                lines,
                relay.take,
                request.fresh,
                begun,
                request.sink,
                request.safe,
            )
        except (asyncio.CancelledError, TimeoutError, RpcError):
            self.cancel(session, identity)
            raise
        finally:
            relay.close()
        failure = answer.message.get("error")
        if isinstance(failure, dict) and failure.get("code") in MODERN_ERRORS:
            raise WrongEra(answer)  # it came back as a server of 2026
        _check_session(session, answer)
        return answer.result()

    def cancel(self, session: UpstreamSession, identity: int) -> None:
        """Tell the server that nobody waits any more.

        A disconnect does not cancel in 2025 (basic/transports), this does (basic/utilities/cancellation).
        """
        note = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": identity}}
        self._background(quietly(self._wire.send(session.url, note, session.lines), CLOSING_SECONDS))

    @staticmethod
    def _unset(session: UpstreamSession, level: str | None) -> bool:
        """Whether the server must be told of a level: the most verbose that anyone of this session wanted."""
        if level is None or "logging" not in _capabilities(session):
            return False
        return not session.level or LOG_LEVELS.index(session.level) > LOG_LEVELS.index(level)

    async def _set_level(self, session: UpstreamSession, level: str) -> None:
        """Ask for this level; each call is filtered again."""
        session.level = level
        body: Json = {
            "jsonrpc": "2.0",
            "id": self._wire.next_id(),
            "method": "logging/setLevel",
            "params": {"level": level},
        }
        await self._wire.request(session.url, body, session.lines, None)

    async def listen(self, session: UpstreamSession, take: Take, opened: Callable[[], None] | None = None) -> Answer:
        """The session's own stream, up to its end (2025-11-25 basic/transports, "Listening for Messages")."""
        return await self._wire.stream(session.url, None, session.lines, take, opened)

    async def relay(self, session: UpstreamSession, call: Call, changed: Changed) -> Answer:
        """The same for a client session: what comes is the client's."""
        relay = Relay(call, 0, changed)
        relay.address = Address(self._name, session.url, session.id or "", session.version, None)
        relay.respond = lambda message: asyncio.ensure_future(self._wire.send(session.url, message, session.lines))
        try:
            return await self.listen(session, relay.take)
        finally:
            relay.close()

    async def subscribe(self, session: UpstreamSession, uris: Iterable[str]) -> bool:
        """Make the resources that the session is told of those of ``uris`` (2025-11-25 server/resources).

        One that the server refuses, or does not answer for, is logged and does not keep the others from being told of.

        Returns:
            Whether all is done; False where that takes longer than ``SUBSCRIBING_SECONDS`` and is to be gone on with.

        Raises:
            SessionLost: the server does not know the session.
        """
        wanted = set(uris)
        changes = [("resources/unsubscribe", uri) for uri in session.subscribed - wanted]
        changes += [("resources/subscribe", uri) for uri in wanted - session.subscribed]
        deadline = time.monotonic() + SUBSCRIBING_SECONDS
        for method, uri in changes:
            body: Json = {"jsonrpc": "2.0", "id": self._wire.next_id(), "method": method, "params": {"uri": uri}}
            try:
                async with asyncio.timeout(SUBSCRIBE_SECONDS):
                    answer = await self._wire.request(session.url, body, session.lines, None)
                _check_session(session, answer)
                answer.result()
            except (RpcError, TimeoutError) as refusal:
                said = {"server": self._name, "method": method, "uri": uri, "error": str(refusal) or "no answer"}
                log.info("no subscription", extra=said)
            session.subscribed ^= {uri}
            if time.monotonic() > deadline:
                break
        return session.subscribed == wanted

    # -- the end of sessions ---------------------------------------------------------------------

    def end(self, key: str, pin: Pin | None) -> None:
        """End all sessions of a key whose client is gone."""
        if pin and key not in self._urls:
            self._close(UpstreamSession(pin.url, pin.version, pin.id))
        for (url, other), session in list(self._sessions.items()):
            if other == key:
                self._drop(session, url, key)
                self._close(session)
        self._urls.pop(key, None)

    def reap(self, urls: set[str]) -> None:
        """Forget sessions with replicas that are gone, and end idle ones."""
        now = time.monotonic()
        for (url, key), session in list(self._sessions.items()):
            idle = now - session.used > self._idle
            if url in urls and not idle:
                continue
            self._part(session, url, key)
            # A pinned session lives in its client's session id and may be in use through another gateway.
            if url in urls and not session.pinned:
                self._close(session)

    async def close(self) -> None:
        """End all sessions that no other gateway replica can use."""
        mine = [session for session in self._sessions.values() if session.id and not session.pinned]
        await asyncio.gather(*(quietly(self._wire.delete(s.url, s.lines), CLOSING_SECONDS) for s in mine))
        self._sessions.clear()

    def _close(self, session: UpstreamSession) -> None:
        if session.id:
            self._background(quietly(self._wire.delete(session.url, session.lines), CLOSING_SECONDS))


def message(call: Call, identity: int) -> Json:
    """The request. Some servers of 2025 refuse keys of 2026; trace context and the progress token stay."""
    params = call.params
    if "_meta" in params or call.trace:
        params = dict(params)
        meta = {name: value for name, value in call.meta(identity).items() if not name.startswith(RESERVED_META)}
        if meta:
            params["_meta"] = meta
        else:
            params.pop("_meta", None)
    return {"jsonrpc": "2.0", "id": identity, "method": call.method, "params": params}


def _capabilities(session: UpstreamSession) -> Json:
    """What the server declared; a session that another gateway opened is taken to have logging."""
    return session.hello.get("capabilities") or {} if session.hello else {"logging": {}}


def _check_session(session: UpstreamSession, answer: Answer) -> None:
    """404 ends a session (2025-11-25 basic/transports); some servers say 400 and name the session.

    Raises:
        SessionLost: the answer says so.
    """
    if answer.status not in (400, 404) or not session.id:
        return
    failure = answer.message.get("error")
    named = not isinstance(failure, dict) or "session" in str(failure.get("message", "")).lower()
    if answer.status == 404 or named:
        raise SessionLost
