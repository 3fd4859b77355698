"""Active health checks of one server's replicas."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from mcp_gateway.reader import Reader
from mcp_gateway.upstream.replicas import Replica, Replicas


@dataclass(frozen=True)
class HealthSettings:
    """``interval``, ``unhealthy_interval`` and ``timeout`` in seconds; the others count checks in a row."""

    interval: float = 10.0
    unhealthy_interval: float = 1.0
    timeout: float = 5.0
    unhealthy_after: int = 3
    healthy_after: int = 2


def read(reader: Reader) -> HealthSettings:
    """The section ``health``."""
    number, d = (int, float), HealthSettings()
    settings = HealthSettings(
        reader.take("interval", number, d.interval, lambda v: v > 0),
        reader.take("unhealthy_interval", number, d.unhealthy_interval, lambda v: v > 0),
        reader.take("timeout", number, d.timeout, lambda v: v > 0),
        reader.take("unhealthy_after", int, d.unhealthy_after, lambda v: v >= 1),
        reader.take("healthy_after", int, d.healthy_after, lambda v: v >= 1),
    )
    reader.done()
    return settings


class _Record:
    __slots__ = ("bad", "due", "good", "task")

    def __init__(self, due: float) -> None:
        self.due = due
        self.good = self.bad = 0
        self.task: asyncio.Task[None] | None = None


class HealthChecks:
    """Asks each replica now and then whether it is well.

    Args:
        check: one cheap MCP request; raising anything means that it is not well.
    """

    def __init__(
        self,
        replicas: Replicas,
        check: Callable[[Replica], Awaitable[None]],
        settings: HealthSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replicas = replicas
        self._check = check
        self._settings = settings or HealthSettings()
        self._clock = clock
        self._records: dict[Replica, _Record] = {}

    async def close(self) -> None:
        """End the checks under way."""
        tasks = [record.task for record in self._records.values() if record.task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def tick(self) -> None:
        """Begin the checks that are due; never a second one of the same replica."""
        now = self._clock()
        replicas = self._replicas.by_url
        for replica in replicas.values():
            record = self._records.get(replica)
            if record is None:
                record = self._records[replica] = _Record(now + self._settings.interval * random.random())
            if now < record.due or replica.draining or (record.task and not record.task.done()):
                continue
            if replica.healthy and now - replica.last_ok < self._settings.interval:
                record.due = replica.last_ok + self._settings.interval
                record.bad = 0
                continue
            record.task = asyncio.ensure_future(self._one(replica, record))
        if len(self._records) > len(replicas):
            for gone in self._records.keys() - set(replicas.values()):
                if task := self._records.pop(gone).task:
                    task.cancel()

    async def _one(self, replica: Replica, record: _Record) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout):
                await self._check(replica)
        except Exception:  # whatever went wrong, it did not answer
            record.good, record.bad = 0, record.bad + 1
            if record.bad >= self._settings.unhealthy_after:
                self._replicas.unhealthy(replica)
        else:
            record.good, record.bad = record.good + 1, 0
            if not replica.healthy and record.good >= self._settings.healthy_after:
                self._replicas.answered(replica)
        well = replica.healthy and not record.bad
        pause = self._settings.interval if well else self._settings.unhealthy_interval
        record.due = self._clock() + pause * random.uniform(0.8, 1.2)

    async def settled(self) -> None:
        """Wait for the checks under way."""
        tasks = [record.task for record in self._records.values() if record.task]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks)
