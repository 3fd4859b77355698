"""Admission to one server: so many calls in flight, a bounded queue, first come first served."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from mcp_gateway.metrics import Metrics
from mcp_gateway.protocol import BUSY, RpcError

QUEUE_PER_PLACE = 8
QUEUE_SECONDS = 30.0


class Admission:
    """Places among the calls in flight.

    Args:
        server: its name.
        places: how many there are now.
        queue: how many calls may wait.
        seconds: how long one may wait.
    """

    def __init__(self, server: str, places: Callable[[], int], queue: int, seconds: float, metrics: Metrics) -> None:
        self._server = server
        self._places = places
        self._queue = queue
        self._seconds = seconds
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._inflight = 0
        self._inflight_gauge = metrics.inflight.labels(server)
        self._queued_gauge = metrics.queued.labels(server)

    async def enter(self) -> None:
        """Take a place, at once or in turn; give it back with ``leave``.

        Raises:
            RpcError: BUSY, when the queue is full or the turn did not come in time.
        """
        if not self._waiting and self._inflight < self._places():
            self._take()
            return
        if len(self._waiting) >= self._queue:
            raise self._busy(f"{len(self._waiting)} calls wait already")
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._queued_gauge.set(len(self._waiting))
        try:
            async with asyncio.timeout(self._seconds):
                await place
        except BaseException as failure:
            if place.done() and not place.cancelled():
                self.leave()  # granted in the same moment
            else:
                self._waiting.remove(place)
            self._queued_gauge.set(len(self._waiting))
            if isinstance(failure, TimeoutError):
                raise self._busy(f"no place within {self._seconds:g} s") from None
            raise

    def leave(self) -> None:
        """Give the place back, to the first who waits."""
        self._inflight -= 1
        self._inflight_gauge.set(self._inflight)
        self.grant()

    def grant(self) -> None:
        """Let in whom there is a place for; call it when there are more places."""
        while self._waiting and self._inflight < self._places():
            place = self._waiting.popleft()
            self._queued_gauge.set(len(self._waiting))
            if not place.done():
                self._take()
                place.set_result(None)

    def _take(self) -> None:
        self._inflight += 1
        self._inflight_gauge.set(self._inflight)

    def _busy(self, why: str) -> RpcError:
        return RpcError(BUSY, f"server {self._server} is busy: {why}; try again in a second", {"retryAfterMs": 1000})
