"""What client sessions hold at a server of 2025: sessions, and streams of what it says outside of calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from mcp_gateway.protocol import LOG_LEVELS, MODERN, Json, RpcError
from mcp_gateway.sessions import Address, Pin
from mcp_gateway.upstream.call import Call, Changed, Client
from mcp_gateway.upstream.legacy import LegacySessions, Repinned, UpstreamSession
from mcp_gateway.upstream.replicas import Replica
from mcp_gateway.upstream.speaker import Speaker
from mcp_gateway.upstream.wire import Wire, WrongEra

# How soon a stream that ended is opened again; a server that has none is not asked often.
RELAY_SECONDS = 0.5
MAX_RELAY_SECONDS = 60.0


class ClientSessions:
    """At one server.

    Args:
        choose: the replica for a call.
        changed: takes the server's word that a list or a resource of its changed.
    """

    def __init__(
        self,
        wire: Wire,
        sessions: LegacySessions,
        speaker: Speaker,
        choose: Callable[[Call], Replica | None],
        changed: Changed,
    ) -> None:
        self._wire = wire
        self._sessions = sessions
        self._speaker = speaker
        self._choose = choose
        self._changed = changed

    async def relay(self, key: str, latest: Callable[[], Pin | None], capabilities: Json, client: Client) -> None:
        """Hand a client session all that the server says outside of calls, for as long as it listens.

        Args:
            latest: the pin as of now: another gateway replica may have opened a session meanwhile.
        """
        pause = RELAY_SECONDS
        while True:
            with contextlib.suppress(RpcError, WrongEra, OSError):
                pin = latest()
                call = Call("", {}, session_key=key, pin=pin, log_level=LOG_LEVELS[0], client=client)
                replica = self._choose(call)
                if replica and await self._speaker.era_of(replica) != MODERN:
                    session = await self._sessions.session(replica, key, pin, capabilities)
                    answer = await self._sessions.relay(session, call, self._changed)
                    pause = RELAY_SECONDS if answer.status < 400 else MAX_RELAY_SECONDS
            await asyncio.sleep(pause)

    async def open_pin(self, key: str, capabilities: Json) -> Pin | None:
        """Open a client session's own session here; None where the server has no sessions or is away."""
        replica = self._choose(Call("", {}, session_key=key))
        if replica is None:
            return None
        with contextlib.suppress(RpcError, WrongEra, OSError):
            if await self._speaker.era_of(replica) == MODERN:
                return None
            session = await self._sessions.session(replica, key, None, capabilities)
            if session.id:
                session.pinned = True
                return Pin(session.url, session.id, session.version)
        return None

    async def deliver(self, address: Address, response: Json) -> None:
        """Hand a client's response to the session that asked; any gateway replica can.

        Raises:
            OSError: the server's replica is gone.
        """
        session = UpstreamSession(address.url, address.version, address.session or None)
        await self._wire.send(address.url, {**response, "id": address.id}, session.lines)

    def follow(self, repinned: Repinned) -> None:
        """Tell of each session that is opened for a client session, so that other gateway replicas can use it."""
        self._sessions.repinned = repinned

    def adopt(self, key: str, pin: Pin) -> None:
        """Another gateway replica opened this session for the key."""
        self._sessions.adopt(key, pin)

    def end(self, key: str, pin: Pin | None) -> None:
        """A client session is over."""
        self._sessions.end(key, pin)
