"""A canary: a new version of a server beside the old replicas, which takes a share of its calls and is compared.

It is an upstream of its own, with its own replicas, checks, sessions and queue. Of a stateless server it takes calls,
of a sticky one new sessions, whole. Lists always come from the old replicas. A call that could not be sent to the
canary goes to them; a session that it held is opened anew when it is gone, as for any replica that was lost. Of a
server with a GPU pool it takes its share of all calls, and is compared with the CPU twin's.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from mcp_gateway import tracing
from mcp_gateway.board.document import CanaryAt
from mcp_gateway.board.sides import Side, Sides
from mcp_gateway.protocol import BUSY, CALLS, Json, RpcError
from mcp_gateway.sessions import Pin
from mcp_gateway.upstream.call import Call

if TYPE_CHECKING:
    from mcp_gateway.endpoint import Endpoint
    from mcp_gateway.upstream.server import Upstream

POOL = "canary"
PARTS = 10_000

log = logging.getLogger("mcp_gateway.upstream")


class Unreached(RpcError):
    """No replica took the call: nothing was executed."""


class Canary:
    """One server's.

    Args:
        at: what the board says of it.
        stable, upstream: the old replicas and the canary.
        chance: a random number from 0 up to 1.
        clock: seconds since 1970.

    Attributes:
        sides: what was seen of both since it has a share.
        endpoint: where whoever tries it calls it; made when it is called first.
    """

    def __init__(
        self,
        at: CanaryAt,
        stable: Upstream,
        upstream: Upstream,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.at = at
        self.upstream = upstream
        self.endpoint: Endpoint | None = None
        self.sides = Sides(at.number)
        self._stable = stable
        self._chance = chance
        self._clock = clock
        self._gap = 0
        self.retune(at)

    def retune(self, at: CanaryAt) -> None:
        """Another share from now on."""
        if at.share != self.at.share:
            log.info("canary", extra={"server": self._stable.name, "share": at.share})
        self.at = at
        self._gap = self._next_gap()

    @property
    def active(self) -> bool:
        """Whether clients' calls go there: it has a share, its time is not over, and it is well and has room."""
        if not self.at.share or self._clock() >= self.at.until or not self.upstream.replicas.usable:
            return False
        queue = self.upstream.queue()
        return bool(queue["running"] < queue["places"])

    def wants(self, call: Call) -> bool:
        """Whether the call is not for the old replicas at once. Asked twice of one call it says the same."""
        if self._stable.server.sticky:
            return self._has(call)
        return self._gap == 0 and self.active

    def passed(self) -> None:
        """A call that it did not want went to the old replicas."""
        if self._gap and not self._stable.server.sticky:
            self._gap -= 1

    def takes_session(self, key: str) -> bool:
        """Whether a new client session of a sticky server is to be its own; the same on every gateway replica."""
        if not self.active:
            return False
        rank = int.from_bytes(hashlib.blake2b(f"canary {self.at.number} {key}".encode(), digest_size=8).digest())
        return rank % PARTS < self.at.share * PARTS / 100

    def has_session(self, key: str, pin: Pin | None) -> bool:
        """Whether a client session's own session is at the canary."""
        replicas = self.upstream.replicas.by_url
        if (url := self.upstream.clients.url_of(key)) and url in replicas:
            return True
        return pin is not None and pin.url in replicas and not self._stable.clients.url_of(key)

    async def carry(self, call: Call, stable: Callable[[Call], Awaitable[Json]]) -> Json:
        """The result of a call, from whichever of the two takes it.

        Raises:
            RpcError: the server's own error, or why it could not be asked.
        """
        if call.begun or not call.principal or call.method not in CALLS:
            return await stable(call)  # it is under way; or the gateway's own
        sticky = self._stable.server.sticky
        if self._has(call) if sticky else self._due():
            if call.span:
                call.span.set(tracing.POOL, POOL)
            try:
                return await self._noted(self.sides.canary, call, self.upstream.request)
            except Unreached:
                log.info("the canary took no call; the old replicas have it", extra={"server": self._stable.name})
        if self._stable.on_gpu(call):
            return await stable(call)  # the canary has no GPU, and is compared with what has none either
        return await self._noted(self.sides.stable, call, stable)

    def note_stable(self, seconds: float, result: Json) -> None:
        """The old replicas answered a call that was sent without waiting."""
        if self.at.share:
            self.sides.stable.note(seconds, failed=result.get("isError") is True)

    async def _noted(self, side: Side, call: Call, ask: Callable[[Call], Awaitable[Json]]) -> Json:
        start = time.monotonic()
        try:
            result = await ask(call)
        except RpcError as failure:
            if self.at.share and failure.code != BUSY:
                side.note(time.monotonic() - start, failed=True)
            raise
        if self.at.share:
            side.note(time.monotonic() - start, failed=result.get("isError") is True)
        return result

    def _has(self, call: Call) -> bool:
        """Of a sticky server: whether the call's session is there, or is new and to be there."""
        if self.has_session(call.session_key, call.pin):
            return bool(self.upstream.replicas.usable)
        if call.pin or call.born < max(1, int(self.at.since)) or self._stable.clients.url_of(call.session_key):
            return False
        return self.takes_session(call.session_key)

    def _due(self) -> bool:
        """Whether this call is the canary's; of a share of 10 % each call is with a chance of 0.1."""
        if self._gap:
            self._gap -= 1
            return False
        if not self.active:
            return False
        self._gap = self._next_gap()
        return True

    def _next_gap(self) -> int:
        """How many calls pass until the next of its own: geometrically distributed, so that nothing keeps step."""
        share = self.at.share / 100
        if share >= 1 or share <= 0:
            return 0
        return int(math.log(1.0 - self._chance()) / math.log(1.0 - share))
