"""Listening to one server: which of its lists and resources changed.

A server of 2026-07-28 is asked by ``subscriptions/listen`` (basic/patterns/subscriptions), one of 2025 by its
GET stream and ``resources/subscribe`` (2025-11-25 basic/transports, server/resources). One stream per server is
enough: it carries the gateway's own credentials, and what it says is that something changed, to everyone alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable

from mcp_gateway.protocol import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    GATEWAY_INFO,
    METHOD_NOT_FOUND,
    MODERN,
    PROTOCOL_VERSION_META_KEY,
    Json,
    RpcError,
)
from mcp_gateway.upstream.call import Changed
from mcp_gateway.upstream.legacy import LegacySessions, SessionLost, UpstreamSession
from mcp_gateway.upstream.overlap import Overlap
from mcp_gateway.upstream.replicas import Replica
from mcp_gateway.upstream.wire import Answer, Wire, WrongEra, lines_of

RETRY_SECONDS = 1.0
MAX_RETRY_SECONDS = 30.0
# A server that offers no such stream may be replaced by one that does.
ABSENT_SECONDS = 60.0

log = logging.getLogger("mcp_gateway.upstream")


class Watch:
    """One server's stream, kept open while there is a reason to."""

    def __init__(self, name: str, wire: Wire, sessions: LegacySessions, changed: Changed) -> None:
        self._name = name
        self._wire = wire
        self._sessions = sessions
        self._overlap = Overlap(changed)
        self._acknowledged = False  # whether the stream that was opened last is; of 2025 none ever
        self._uris: frozenset[str] = frozenset()
        self._again = asyncio.Event()
        self._listening = False
        self._session: UpstreamSession | None = None  # of 2025, whose stream is open
        # Whether it tells what was wanted last, or cannot.
        self.settled = asyncio.Event()
        self.settled.set()
        sessions.dropped = self._dropped

    def want(self, uris: frozenset[str]) -> None:
        """Tell of these resources from now on."""
        if uris != self._uris:
            self._uris = uris
            self.settled.clear()
            self._again.set()

    def wake(self) -> None:
        """A replica was met: it may have what another had not."""
        if not self._listening:
            self._again.set()

    async def run(self, choose: Callable[[], Replica | None], capabilities: Callable[[], Json]) -> None:
        """Listen for ever.

        Args:
            choose: the replica to listen to.
            capabilities: the server's, which say what it tells of.
        """
        try:
            await self._run(choose, capabilities)
        finally:
            self._overlap.end()

    async def _run(self, choose: Callable[[], Replica | None], capabilities: Callable[[], Json]) -> None:
        pause = RETRY_SECONDS
        while True:
            self._again.clear()
            replica = choose()
            told = _told(capabilities())
            if replica is None or replica.era is None or not (told or self._uris):
                self._overlap.end()
                await self._pause(RETRY_SECONDS if replica is None else ABSENT_SECONDS)
                continue
            listening = asyncio.ensure_future(self._listen(replica, told))
            again = asyncio.ensure_future(self._again.wait())
            start = asyncio.get_running_loop().time()
            self._listening, self._acknowledged = True, False
            replaced = False
            try:
                await asyncio.wait({listening, again}, return_when=asyncio.FIRST_COMPLETED)
                while not listening.done() and await self._subscribed_too():
                    again = asyncio.ensure_future(self._again.wait())
                    await asyncio.wait({listening, again}, return_when=asyncio.FIRST_COMPLETED)
                if self._acknowledged and not listening.done():
                    await self._overlap.over.wait()  # what is wanted meanwhile comes with the next, too
                    replaced = not listening.done()
            finally:
                self._listening = False
                again.cancel()
                if replaced:
                    self._overlap.begin(listening)
                elif not listening.done():
                    listening.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await listening
            if self._again.is_set():
                pause = RETRY_SECONDS
                continue
            offered = False
            with contextlib.suppress(OSError, RpcError, WrongEra, SessionLost):
                offered = listening.result()
            if asyncio.get_running_loop().time() - start > MAX_RETRY_SECONDS:
                pause = RETRY_SECONDS
            await self._pause(pause if offered else ABSENT_SECONDS)
            pause = min(MAX_RETRY_SECONDS, pause * 2) * random.uniform(0.8, 1.2)

    async def _subscribed_too(self) -> bool:
        """Whether what is wanted now could be had without another stream, as in 2025."""
        session = self._session
        if session is None:
            return False
        self._again.clear()
        try:
            whole = await self._sessions.subscribe(session, self._uris)
        except SessionLost:
            self._sessions.forget(session, "")  # which ends its stream, too
            return False
        except OSError:
            self._again.set()  # by another stream, to whichever replica there is
            return False
        self._subscribed_to(whole=whole)
        return True

    def _subscribed_to(self, *, whole: bool) -> None:
        """The server knows what is wanted, or a part of it: the rest follows beside the stream, which need not wait."""
        if not whole:
            self._again.set()
        elif not self._again.is_set():
            self.settled.set()

    def _dropped(self, session: UpstreamSession) -> None:
        """The server may keep the stream of a session that it does not know any more, and say nothing on it."""
        if session is self._session:
            self._session = None
            self._again.set()

    async def _pause(self, seconds: float) -> None:
        if not self._again.is_set():
            self.settled.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._again.wait()

    async def _listen(self, replica: Replica, told: Json) -> bool:
        """Listen to the replica up to the stream's end; returns whether it offers such a stream."""
        if replica.era == MODERN:
            answer = await self._listen_modern(replica, told)
        else:
            session, whole = await self._subscribed(replica)

            def opened() -> None:
                self._session = session
                self._overlap.heard()
                self._subscribed_to(whole=whole)

            try:
                answer = await self._sessions.listen(session, self._take, opened)
            finally:
                self._session = None
            if answer.status in (400, 404):
                self._sessions.forget(session, "")
                return answer.status == 404  # the session is gone; a new one may listen
        failure = answer.message.get("error")
        return answer.status < 400 and not (isinstance(failure, dict) and failure.get("code") == METHOD_NOT_FOUND)

    async def _subscribed(self, replica: Replica) -> tuple[UpstreamSession, bool]:
        """A session that tells of what is wanted, and whether of all; another one where the server lost it."""
        session = await self._sessions.session(replica, "")
        try:
            return session, await self._sessions.subscribe(session, self._uris)
        except SessionLost:
            self._sessions.forget(session, "")
            session = await self._sessions.session(replica, "")
            return session, await self._sessions.subscribe(session, self._uris)

    async def _listen_modern(self, replica: Replica, told: Json) -> Answer:
        wanted: Json = dict(told)
        if self._uris:
            wanted["resourceSubscriptions"] = sorted(self._uris)
        meta = {
            PROTOCOL_VERSION_META_KEY: MODERN,
            CLIENT_CAPABILITIES_META_KEY: {},
            CLIENT_INFO_META_KEY: GATEWAY_INFO,
        }
        method = "subscriptions/listen"
        params: Json = {"notifications": wanted, "_meta": meta}
        body: Json = {"jsonrpc": "2.0", "id": self._wire.next_id(), "method": method, "params": params}
        lines = lines_of({"mcp-protocol-version": MODERN, "mcp-method": method})
        return await self._wire.stream(replica.url, body, lines, self._take)

    async def _take(self, message: Json) -> None:
        params = message.get("params")
        if message["method"] == "notifications/subscriptions/acknowledged":
            if not self._acknowledged:
                self._acknowledged = True
                self._overlap.heard()
            self.settled.set()
        elif "id" not in message:
            self._overlap.tell(message["method"], params if isinstance(params, dict) else {})


def _told(capabilities: Json) -> Json:
    """The lists whose changes a server tells of, as a filter of ``subscriptions/listen``."""
    told: Json = {}
    for name in ("tools", "prompts", "resources"):
        capability = capabilities.get(name)
        if isinstance(capability, dict) and capability.get("listChanged"):
            told[f"{name}ListChanged"] = True
    return told
