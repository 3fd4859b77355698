"""What repeating calls may cost: the retry budget, and when a hedge is worth it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mcp_gateway.reader import Reader

WINDOW_SECONDS = 10.0
RESERVOIR = 256
ENOUGH = 32


@dataclass(frozen=True)
class RetrySettings:
    """``ratio``: retries per recent request; ``floor_per_second``: allowed whatever the traffic."""

    ratio: float = 0.2
    floor_per_second: float = 10.0


@dataclass(frozen=True)
class HedgeSettings:
    """``enabled``: send a slow safe call a second time; ``minimum_seconds``: never sooner than that."""

    enabled: bool = False
    minimum_seconds: float = 0.01


def read_retry(reader: Reader) -> RetrySettings:
    """The section ``retry``."""
    number, d = (int, float), RetrySettings()
    settings = RetrySettings(
        reader.take("ratio", number, d.ratio, lambda v: 0 <= v <= 1),
        reader.take("floor_per_second", number, d.floor_per_second, lambda v: v >= 0),
    )
    reader.done()
    return settings


def read_hedge(reader: Reader) -> HedgeSettings:
    """The section ``hedge``."""
    d = HedgeSettings()
    settings = HedgeSettings(
        reader.take("enabled", bool, d.enabled),
        reader.take("minimum_seconds", (int, float), d.minimum_seconds, lambda v: v >= 0),
    )
    reader.done()
    return settings


class RetryBudget:
    """One per gateway: retries are a share of the requests of the last 10 to 20 s, plus a floor.

    Without it every failure doubles the load just when there is least to spare.
    """

    __slots__ = ("_clock", "_edge", "_floor", "_floor_at", "_requests", "_retries", "_settings", "_was", "_were")

    def __init__(self, settings: RetrySettings | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings or RetrySettings()
        self._clock = clock
        self._requests = self._retries = self._was = self._were = 0
        self._floor = self._settings.floor_per_second
        self._floor_at = clock()
        self._edge = self._floor_at + WINDOW_SECONDS

    def configure(self, settings: RetrySettings) -> None:
        """Go by these from now on; what was spent stays spent."""
        self._settings = settings

    def request(self, now: float | None = None) -> None:
        """A first try is made."""
        if (self._clock() if now is None else now) >= self._edge:
            self._turn()
        self._requests += 1

    def retry(self) -> bool:
        """Spend one retry (or hedge); False where none is left and the failure has to stand."""
        now = self._clock()
        if now >= self._edge:
            self._turn()
        settings = self._settings
        rate = settings.floor_per_second
        self._floor = min(rate, self._floor + (now - self._floor_at) * rate)
        self._floor_at = now
        if self._retries + self._were + 1 <= settings.ratio * (self._requests + self._was):
            self._retries += 1
            return True
        if self._floor >= 1:
            self._floor -= 1
            return True
        return False

    def _turn(self) -> None:
        now = self._clock()
        recent = now < self._edge + WINDOW_SECONDS
        self._was, self._were = (self._requests, self._retries) if recent else (0, 0)
        self._requests = self._retries = 0
        self._edge = now + WINDOW_SECONDS


class Hedge:
    """When to send a safe call a second time: after the 95th percentile of the latest answers' times."""

    __slots__ = ("_delay", "_next", "_seconds", "_settings")

    def __init__(self, settings: HedgeSettings) -> None:
        self._settings = settings
        self._seconds: list[float] = []
        self._next = 0
        self._delay: float | None = None

    def observe(self, seconds: float) -> None:
        """How long a safe call took."""
        if len(self._seconds) < RESERVOIR:
            self._seconds.append(seconds)
        else:
            self._seconds[self._next % RESERVOIR] = seconds
        self._next += 1
        if self._next % ENOUGH == 0:
            self._delay = sorted(self._seconds)[int(len(self._seconds) * 0.95)]

    def delay(self) -> float | None:
        """Seconds to wait before the hedge; None where hedging is off or too little is known."""
        if not self._settings.enabled or self._delay is None:
            return None
        return max(self._delay, self._settings.minimum_seconds)
