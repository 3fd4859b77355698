"""Admission: so many calls in flight per server, principal and group, and a bounded queue fair to principals.

A call of a group takes the group's place first and then waits at the head of its server's queue. Who holds a
server's place never waits for anything more, so the wait for the second place ends and nothing can deadlock.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from mcp_gateway.metrics import Metrics
from mcp_gateway.protocol import BUSY, RpcError
from mcp_gateway.reader import Reader

QUEUE_PER_PLACE = 8
QUEUE_SECONDS = 30.0
SMOOTHING = 0.1
MAX_RETRY_MS = 60_000


@dataclass(frozen=True)
class AdmissionSettings:
    """``queue``: calls that may wait, 0 for 8 per place; ``max_in_flight_per_principal``: 0 for no limit."""

    queue: int = 0
    queue_seconds: float = QUEUE_SECONDS
    max_in_flight_per_principal: int = 0


@dataclass(frozen=True)
class GroupSettings:
    """A limit that several servers share."""

    max_in_flight: int = 1


def read(reader: Reader) -> AdmissionSettings:
    """The section ``admission``."""
    d = AdmissionSettings()
    settings = AdmissionSettings(
        reader.take("queue", int, d.queue, lambda v: v >= 0),
        reader.take("queue_seconds", (int, float), d.queue_seconds, lambda v: v > 0),
        reader.take("max_in_flight_per_principal", int, d.max_in_flight_per_principal, lambda v: v >= 0),
    )
    reader.done()
    return settings


def read_groups(reader: Reader) -> dict[str, GroupSettings]:
    """The section ``groups``: limits by name."""
    groups = {}
    for name in list(reader.left):
        one = reader.section(name)
        groups[name] = GroupSettings(one.take("max_in_flight", int, 1, lambda v: v >= 1))
        one.done()
    return groups


class Gate:
    """Places, and a queue that serves principals in rotation, each first come first served.

    Args:
        name: for messages, as in "server ocr".
        places: how many there are now.
        queue: how many calls may wait.
        seconds: how long one may wait.
        per_principal: the most in flight of one principal; 0 for no limit.
    """

    def __init__(
        self,
        name: str,
        places: Callable[[], int],
        queue: int,
        seconds: float,
        per_principal: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.seconds = seconds
        self.inflight = 0
        self.waiting = 0
        self._places = places
        self._queue = queue
        self._limit = per_principal
        self._clock = clock
        self._lanes: dict[str, deque[asyncio.Future[None]]] = {}
        self._turns: deque[str] = deque()  # each principal with a lane once, but for those at their limit
        self._parked: set[str] = set()
        self._first: deque[tuple[str, asyncio.Future[None]]] = deque()
        self._held: dict[str, int] = {}
        self._service = 0.0
        self._area = 0.0
        self._stamp = clock()

    def try_enter(self, principal: str = "") -> bool:
        """Take a place where one is free and nobody waits for it; give it back with ``leave``."""
        if self.waiting and (self._turns or self._first):
            return False
        inflight, held = self.inflight, self._held
        mine = held.get(principal, 0)
        if inflight >= self._places() or (self._limit and mine >= self._limit):
            return False
        now = self._clock()
        self._area += inflight * (now - self._stamp)
        self._stamp = now
        self.inflight = inflight + 1
        held[principal] = mine + 1
        return True

    async def wait(self, principal: str = "", first: bool = False, seconds: float | None = None) -> None:
        """Wait for a place in turn, ``first`` before everyone else and whatever the principal's own limit.

        Args:
            principal: whose call it is.
            first: it holds a group's place already, for which others wait.
            seconds: the longest wait, where it is not the gate's own.

        Raises:
            RpcError: BUSY, when the queue is full, the turn cannot come in time, or did not.
        """
        if self.try_enter(principal):
            return
        if not first:
            self._refuse_early(principal)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if first:
            self._first.append((principal, place))
        else:
            self._join(principal, place)
        self.waiting += 1
        self.grant()
        try:
            async with asyncio.timeout(self.seconds if seconds is None else seconds):
                await place
        except BaseException as failure:
            if place.done() and not place.cancelled() and place.exception() is None:
                self.leave(principal)  # granted in the same moment
            elif not place.done() or place.cancelled():
                self._forget(principal, place)
                self.grant()  # who stands behind may be free to go
            if isinstance(failure, TimeoutError):
                raise self.busy(f"no place within {self.seconds:g} s", principal) from None
            raise

    def leave(self, principal: str = "") -> None:
        """Give the place back, to whose turn it is."""
        now = self._clock()
        # Little's law: the calls' time in flight between two ends is, on average, one call's time.
        area = self._area + self.inflight * (now - self._stamp)
        self._service += (area - self._service) * SMOOTHING if self._service else area
        self._area, self._stamp = 0.0, now
        self.inflight -= 1
        left = self._held[principal] - 1
        if left:
            self._held[principal] = left
        else:
            del self._held[principal]
        if principal in self._parked:
            self._parked.discard(principal)
            self._turns.append(principal)
        if self.waiting:
            self.grant()

    def grant(self) -> None:
        """Let in whom there is a place for; call it when there are more places."""
        while self.waiting and self.inflight < self._places():
            if self._first:
                principal, place = self._first.popleft()
            elif self._turns:
                principal = self._turns.popleft()
                if self._limit and self._held.get(principal, 0) >= self._limit:
                    self._parked.add(principal)
                    continue
                lane = self._lanes[principal]
                place = lane.popleft()
                if lane:
                    self._turns.append(principal)
                else:
                    del self._lanes[principal]
            else:
                return
            self.waiting -= 1
            if not place.done():
                self._take(principal)
                place.set_result(None)

    def estimate(self, principal: str = "") -> float:
        """Seconds until a call that came now would have its place; 0 while unknown."""
        ahead = (len(self._lanes.get(principal, ())) + 1) * (len(self._lanes) + (principal not in self._lanes))
        position = min(self.waiting + 1, ahead + len(self._first))
        return position * self._service / max(1, self._places())

    def busy(self, why: str, principal: str) -> RpcError:
        """The refusal, which says when to come again."""
        ms = min(MAX_RETRY_MS, max(1, round(self.estimate(principal) * 1000))) if self._service else 1000
        return RpcError(BUSY, f"{self.name} is busy: {why}; try again in {ms / 1000:g} s", {"retryAfterMs": ms})

    def _refuse_early(self, principal: str) -> None:
        if (seconds := self.estimate(principal)) > self.seconds:
            raise self.busy(f"a place is expected in {seconds:.1f} s, a call waits {self.seconds:g} s", principal)
        if self.waiting < self._queue:
            return
        longest = max(self._lanes, key=lambda name: len(self._lanes[name]), default="")
        if len(self._lanes.get(longest, ())) <= len(self._lanes.get(principal, ())) + 1:
            raise self.busy(f"{self.waiting} calls wait already", principal)
        # One principal's crowd must not shut out the others: its last in line makes room.
        last = self._lanes[longest][-1]
        self._forget(longest, last)
        last.set_exception(self.busy("its queue is full and others have a right to it", longest))

    def _join(self, principal: str, place: asyncio.Future[None]) -> None:
        lane = self._lanes.get(principal)
        if lane is None:
            self._lanes[principal] = lane = deque()
            self._turns.append(principal)
        lane.append(place)

    def _forget(self, principal: str, place: asyncio.Future[None]) -> None:
        if (principal, place) in self._first:
            self._first.remove((principal, place))
        elif (lane := self._lanes.get(principal)) and place in lane:
            lane.remove(place)
            if not lane:
                del self._lanes[principal]
                if principal in self._parked:
                    self._parked.discard(principal)
                else:
                    self._turns.remove(principal)
        else:
            return  # ``grant`` passed over it
        self.waiting -= 1

    def _take(self, principal: str) -> None:
        now = self._clock()
        self._area += self.inflight * (now - self._stamp)
        self._stamp = now
        self.inflight += 1
        self._held[principal] = self._held.get(principal, 0) + 1


class Admission:
    """A server's gate, and before it a group's where a call is under one; what is taken of both is given back of both.

    Args:
        server: its name; the others are those of its `Gate`.
    """

    def __init__(
        self,
        server: str,
        places: Callable[[], int],
        queue: int,
        seconds: float,
        metrics: Metrics,
        per_principal: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gate = Gate(f"server {server}", places, queue, seconds, per_principal, clock)
        # Read when metrics are asked for: setting a gauge costs more than entering does.
        metrics.inflight.labels(server).set_function(lambda: self.gate.inflight)
        metrics.queued.labels(server).set_function(lambda: self.gate.waiting)
        self.grant = self.gate.grant
        self._clock = clock

    def try_enter(self, principal: str = "", group: Gate | None = None) -> bool:
        """`Gate.try_enter` of both, or of neither."""
        if group is None:
            return self.gate.try_enter(principal)
        if not group.try_enter(principal):
            return False
        if self.gate.try_enter(principal):
            return True
        group.leave(principal)
        return False

    async def wait(self, principal: str = "", group: Gate | None = None) -> None:
        """`Gate.wait` of the group, then of the server: the longest wait is the server's for both together."""
        if group is None:
            await self.gate.wait(principal)
            return
        start = self._clock()
        await group.wait(principal, seconds=self.gate.seconds)
        try:
            await self.gate.wait(principal, True, max(0.0, self.gate.seconds - (self._clock() - start)))
        except BaseException:
            group.leave(principal)
            raise

    async def enter(self, principal: str = "", group: Gate | None = None) -> None:
        """``try_enter``, else ``wait``."""
        if not self.try_enter(principal, group):
            await self.wait(principal, group)

    def leave(self, principal: str = "", group: Gate | None = None) -> None:
        """`Gate.leave` of both."""
        self.gate.leave(principal)
        if group is not None:
            group.leave(principal)
