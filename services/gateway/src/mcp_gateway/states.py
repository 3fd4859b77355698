"""What clients of 2025 set in their sessions after ``initialize``: the same on every gateway replica that is told.

The sealed session id carries what was known when it was made. The rest is here: the log level, subscriptions, the
sessions that took the place of lost ones at sticky servers, and which sessions have ended. Each of these fields is a
register of its own, and the last write wins: what replicas tell each other (``news``, ``learn``) may come twice, late
and in any order. A write is stamped with the clock, or one more than the latest stamp known, and with its replica.
"""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mcp_gateway.hub import Hub
from mcp_gateway.protocol import INVALID_REQUEST, Json, RpcError
from mcp_gateway.registers import LEVEL, MAX_RESOURCE_CHARS, STREAM, Field, State, read_field
from mcp_gateway.sessions import Pin, Sealer, Session

MAX_STATES = 10_000
# Replicas that are met get what changed within this time: longer than any of them stays unnoticed.
RECENT_SECONDS = 600.0
MAX_RECENT = 10_000
SWEEP_SECONDS = 60.0


class States:
    """All sessions' states, the least recently used forgotten first.

    Attributes:
        replica: names this gateway replica's writes.
        tell: takes the id of a session with news for the other replicas.
        pinned: takes server, session key and pin where another replica opened a new session at a sticky server.
        alive: whether another replica is well, as far as is known.
        over: takes the session key where another replica was told that the session ended.
    """

    def __init__(self, sealer: Sealer, hub: Hub, clock: Callable[[], float] = time.time) -> None:
        self.replica = os.urandom(6).hex()
        self.tell: Callable[[str], None] = lambda _session: None
        self.pinned: Callable[[str, str, Pin], None] = lambda _server, _key, _pin: None
        self.over: Callable[[str], None] = lambda _key: None
        self.alive: Callable[[str], bool] = lambda _replica: False
        self._sealer = sealer
        self._hub = hub
        self._clock = clock
        self._states: OrderedDict[str, State] = OrderedDict()
        self._principals: OrderedDict[str, str] = OrderedDict()  # of ended sessions, while that is news
        self._recent: OrderedDict[str, float] = OrderedDict()
        self._latest = 0
        self._swept = clock()

    def __len__(self) -> int:
        return len(self._states)

    # -- this replica's clients ------------------------------------------------------------------

    def find(self, session: str) -> State | None:
        """The state of a session that has one."""
        state = self._states.get(session)
        if state:
            self._states.move_to_end(session)
        return state

    def of(self, session: Session) -> State:
        """The state of a session, made where there is none."""
        return self._of(session.id, session.principal, self._sealer.expires(session))

    def _of(self, session: str, principal: str, expires: int) -> State:
        if state := self.find(session):
            return state
        self._sweep()
        state = self._states[session] = State(principal, expires)
        while len(self._states) > MAX_STATES:
            self._states.popitem(last=False)
        return state

    def set_level(self, session: Session, level: str) -> None:
        """The least severity of log messages that the client wants from now on."""
        self._write(session, {LEVEL: level})

    def set_stream(self, session: Session, *, opened: bool) -> None:
        """The client opened a stream here, or its last one here has ended."""
        if opened:
            self._write(session, {STREAM: self.replica})
        elif self.of(session).stream == self.replica:
            self._write(session, {STREAM: None})

    def speaks(self, state: State) -> bool:
        """Whether it is this replica's stream that the session's messages go to."""
        return state.stream in (None, self.replica) or not self.alive(state.stream)

    def pin(self, session: Session, server: str) -> Pin | None:
        """The client session's own session at a sticky server, as of now."""
        state = self.find(session.id)
        return (state.pins.get(server) if state else None) or session.pins.get(server)

    def subscribe(self, session: Session, resources: dict[tuple[str, str], str], *, wanted: bool) -> None:
        """Resources that the client wants to hear of, or no more.

        Raises:
            RpcError: the session holds as many as it may.
        """
        state = self.of(session)
        changes: dict[Field, Any] = {("resource", *key): uri if wanted else None for key, uri in resources.items()}
        before = {name: state.value(name) for name in changes}
        for name, value in changes.items():
            state.put(name, value)
            state.stamps.setdefault(name, (0, ""))
        if not state.trim() and wanted:
            for name, value in before.items():
                state.put(name, value)
                if value is None:
                    state.stamps.pop(name, None)
            raise RpcError(
                INVALID_REQUEST,
                f"the session's subscriptions are longer than {MAX_RESOURCE_CHARS} characters; unsubscribe from some",
            )
        self._write(session, changes)

    def repin(self, server: str, key: str, pin: Pin) -> bool:
        """A new session was opened at a sticky server; returns whether it is one that other replicas should use."""
        session = self._sealer.session(key.rpartition("/")[2])
        if session is None or key_of(session.principal, session.id) != key:
            return False  # a client of 2026, or a session that is being opened: its id will carry the pin
        self._write(session, {("pin", server): [pin.url, pin.id, pin.version]})
        return True

    def end(self, session: Session) -> None:
        """The client ended its session."""
        self._sealer.end(session)
        self._end(session.id, session.principal)
        self.tell(session.id)

    def _end(self, session: str, principal: str) -> None:
        if state := self._states.pop(session, None):
            state.ended.set()
        self._principals[session] = principal
        while len(self._principals) > MAX_STATES:
            self._principals.popitem(last=False)
        self._noted(session)

    def _write(self, session: Session, fields: dict[Field, Any]) -> None:
        state = self.of(session)
        self._latest = max(self._latest + 1, int(self._clock() * 1e6))
        for name, value in fields.items():
            state.put(name, value)
            state.stamps[name] = (self._latest, self.replica)
        self._changed(session.id, state, fields)
        self.tell(session.id)

    def _changed(self, session: str, state: State, names: Iterable[Field]) -> None:
        self._noted(session)
        if any(name[0] == "resource" for name in names):
            for listener in state.listeners:
                self._hub.change(listener, dict(state.resources))

    # -- other replicas --------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        """The ids of all sessions that there is something to tell of."""
        yield from list(self._principals)
        yield from list(self._states)

    def recent(self) -> list[str]:
        """The ids of those of which something changed of late."""
        oldest = self._clock() - RECENT_SECONDS
        return [session for session, changed in self._recent.items() if changed >= oldest]

    def news(self, session: str) -> Json | None:
        """What another replica must know of a session; None for nothing."""
        until = self._sealer.ended_until(session)
        if until is not None and session in self._principals:
            return {"session": session, "principal": self._principals[session], "expires": until, "ended": True}
        state = self._states.get(session)
        if state is None or not state.stamps:
            return None
        fields = [[name, state.value(name), *stamp] for name, stamp in state.stamps.items()]
        return {"session": session, "principal": state.principal, "expires": state.expires, "fields": fields}

    def learn(self, news: Json) -> None:
        """Take what another replica tells; what is older than what is known changes nothing.

        Raises:
            ValueError: it is not what ``news`` gives.
        """
        session, principal, expires = news.get("session"), news.get("principal"), news.get("expires")
        if not (isinstance(session, str) and isinstance(principal, str) and isinstance(expires, int)):
            raise ValueError("session, principal or expires is missing")
        expires = min(expires, self._sealer.latest_end())
        if expires <= self._clock() or self._sealer.ended_until(session) is not None:
            return
        if news.get("ended") is True:
            self._sealer.refuse(session, expires)
            self._end(session, principal)
            self.over(key_of(principal, session))
            return
        fields = [read_field(item) for item in news["fields"]] if isinstance(news.get("fields"), list) else []
        if not fields:
            return
        state = self._of(session, principal, expires)
        fresh: dict[Field, Any] = {}
        for name, value, stamp in fields:
            if stamp > state.stamps.get(name, (0, "")):
                fresh[name] = value
                state.put(name, value)
                state.stamps[name] = stamp
                self._latest = max(self._latest, stamp[0])
        if not fresh:
            return
        state.trim()
        self._changed(session, state, fresh)
        for name, value in fresh.items():
            if name[0] == "pin":
                self.pinned(name[1], key_of(principal, session), Pin(*value))

    def _noted(self, session: str) -> None:
        self._recent[session] = self._clock()
        self._recent.move_to_end(session)
        while len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)

    def _sweep(self) -> None:
        """Forget sessions whose time is over."""
        now = self._clock()
        if now - self._swept < SWEEP_SECONDS:
            return
        self._swept = now
        for session in [session for session, state in self._states.items() if state.expires <= now]:
            self._states.pop(session).ended.set()
        for session in [session for session in self._principals if self._sealer.ended_until(session) is None]:
            del self._principals[session]


def key_of(principal: str, session: str) -> str:
    """What sessions at sticky servers are kept by (``views.request.session_key``)."""
    return f"{principal}/{session}"
