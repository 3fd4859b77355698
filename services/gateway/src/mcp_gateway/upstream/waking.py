"""Servers that sleep: without a replica while nobody calls them, given one when somebody does.

Who scales the fleet reads ``mcp_gateway_wanted``: calls that are parked here, or 1 where a server that never introduced
itself is asked for its lists. A parked call waits for a replica, bounded in time and number; keep-alives go out to
clients that take event streams meanwhile, as for any call that takes long.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from mcp_gateway.protocol import UNAVAILABLE, RpcError

# Discovery looks every second.
LOOK_SECONDS = 0.1
# How long a server is wanted after its lists were asked for, and who asked was not kept waiting.
WANTED_SECONDS = 30.0


class Waking:
    """Waits for one server.

    Args:
        name: the server's, for messages.
        seconds: how long a call waits at the most.
        most: how many calls may wait.
        awake: whether there is a replica.
    """

    def __init__(self, name: str, seconds: float, most: int, awake: Callable[[], bool]) -> None:
        self._name = name
        self._seconds = seconds
        self._most = most
        self._awake = awake
        self._asked = -WANTED_SECONDS
        self._parked = 0

    @property
    def asleep(self) -> bool:
        """Whether there is no replica."""
        return not self._awake()

    @property
    def wanted(self) -> int:
        """Calls that wait for it; 1 where it is wanted otherwise."""
        recently = self.asleep and time.monotonic() - self._asked < WANTED_SECONDS
        return self._parked or int(recently)

    def ask(self) -> None:
        """It is wanted, though nobody waits."""
        self._asked = time.monotonic()

    async def wait(self) -> None:
        """Wait until there is a replica.

        Raises:
            RpcError: UNAVAILABLE with ``retryAfterMs``: too many wait already, or none came in time.
        """
        if not self.asleep:
            return
        if self._parked >= self._most:
            raise self._refusal(f"{self._parked} calls wait for it already")
        deadline = time.monotonic() + self._seconds
        self._parked += 1
        try:
            while self.asleep:
                if time.monotonic() >= deadline:
                    raise self._refusal(f"it did not wake within {self._seconds:g} s")
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._parked -= 1

    def _refusal(self, why: str) -> RpcError:
        return RpcError(UNAVAILABLE, f"server {self._name} sleeps: {why}", {"retryAfterMs": 1000})
