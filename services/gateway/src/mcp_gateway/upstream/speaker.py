"""Speaks to a server's replicas, each in its era, and knows what they said of the server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from mcp_gateway.net.client import Silent
from mcp_gateway.protocol import MODERN, Json, RpcError
from mcp_gateway.upstream import modern
from mcp_gateway.upstream.call import Call, Changed
from mcp_gateway.upstream.hello import introduce
from mcp_gateway.upstream.legacy import LegacySessions
from mcp_gateway.upstream.replicas import Replica, Replicas
from mcp_gateway.upstream.wire import Wire, WrongEra

PROBE_SECONDS = 10.0

log = logging.getLogger("mcp_gateway.upstream")


class Speaker:
    """Of one server.

    Args:
        name: the server's.
        changed: takes the server's word that a list or a resource of its changed.
        replicas_of: those that a replica is chosen among.
        met: told when a replica has introduced itself.

    Attributes:
        era: the protocol version line that the server speaks, None until known.
        capabilities, info, instructions: as it introduced itself last.
        last_error: why it could not be asked last time; empty when all is well.
    """

    def __init__(
        self,
        name: str,
        wire: Wire,
        sessions: LegacySessions,
        changed: Changed,
        replicas_of: Callable[[Replica], Replicas],
        met: Callable[[], None],
    ) -> None:
        self.era: str | None = None
        self.capabilities: Json = {}
        self.info: Json | None = None
        self.instructions: str | None = None
        self.last_error = ""
        self._name = name
        self._wire = wire
        self._sessions = sessions
        self._changed = changed
        self._replicas_of = replicas_of
        self._met = met

    def may_offer(self, capability: str) -> bool:
        """Whether the server has the capability, as far as is known."""
        return self.era is None or capability in self.capabilities

    @property
    def subscribes(self) -> bool:
        """Whether the server tells of updated resources."""
        resources = self.capabilities.get("resources")
        return isinstance(resources, dict) and bool(resources.get("subscribe"))

    async def era_of(self, replica: Replica) -> str:
        """The era that a replica speaks; probed once, and again after it was away.

        Raises:
            RpcError: it answered, but neither era's hello.
            OSError, TimeoutError: it could not be asked.
        """
        async with replica.probing:
            if replica.era is None:
                try:
                    async with asyncio.timeout(PROBE_SECONDS):
                        hello = await introduce(self._wire, self._sessions, replica, self._changed)
                except TimeoutError as failure:
                    self.failed(replica, failure)
                    raise Silent(f"it did not introduce itself within {PROBE_SECONDS:g} s") from failure
                except (OSError, RpcError) as failure:
                    self.failed(replica, failure)
                    raise
                self.era = replica.era = hello.era
                if hello.told:
                    self.capabilities, self.info, self.instructions = (
                        hello.capabilities, hello.info, hello.instructions,
                    )  # fmt: skip
                self.last_error = ""
                self._met()
                self._replicas_of(replica).answered(replica)
            return replica.era

    async def attempt(self, replica: Replica, call: Call, begun_in: str | None) -> Json:
        """One try at one replica, in the era it speaks; or in which the try was begun.

        A replica may come back speaking the other era. It then refuses without executing anything, so the
        request can be sent again once the era is known anew.
        """
        era = begun_in or replica.era or await self.era_of(replica)
        try:
            return await self._speak(era, replica, call)
        except WrongEra as refusal:
            replica.era = None
            if await self.era_of(replica) == era:
                return refusal.answer.result()
        try:
            return await self._speak(replica.era or era, replica, call)
        except WrongEra as refusal:
            return refusal.answer.result()

    async def check(self, replica: Replica) -> None:
        """One cheap request, for the health checks."""
        era = await self.era_of(replica)
        await self._speak(era, replica, Call("server/discover" if era == MODERN else "ping", {}))

    def failed(self, replica: Replica, failure: BaseException) -> None:
        """Nothing could be sent to the replica, or it could not introduce itself."""
        self._replicas_of(replica).failed(replica)
        self.noted(replica, failure)

    def noted(self, replica: Replica, failure: BaseException) -> None:
        """The replica failed."""
        replica.era = None  # it may come back as another
        self.last_error = f"{replica.address}: {type(failure).__name__}: {failure}"[:300]
        log.warning("replica failed", extra={"server": self._name, "error": self.last_error})

    async def _speak(self, era: str, replica: Replica, call: Call) -> Json:
        if era == MODERN:
            return await modern.request(self._wire, replica, call, self._changed)
        return await self._sessions.call(replica, call, self._changed)
