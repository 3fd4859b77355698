"""Circuit breaker of one replica: closed, open after too many failures, half-open for one trial."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mcp_gateway.reader import Reader

BUCKETS = 10


class BreakerState(StrEnum):
    """What a breaker lets through: everything, nothing, one trial."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True)
class BreakerSettings:
    """When a breaker opens and for how long.

    Attributes:
        consecutive_failures: so many in a row open it.
        error_rate: this share of failures (0 to 1) within the window opens it.
        minimum_volume: calls in the window below which the rate says nothing.
        window_seconds: length of the sliding window.
        open_seconds: first pause; it doubles with each failed trial up to ``max_open_seconds``.
    """

    consecutive_failures: int = 5
    error_rate: float = 0.5
    minimum_volume: int = 20
    window_seconds: float = 10.0
    open_seconds: float = 1.0
    max_open_seconds: float = 30.0


def read(reader: Reader) -> BreakerSettings:
    """The section ``breaker``."""
    number, d = (int, float), BreakerSettings()
    settings = BreakerSettings(
        reader.take("consecutive_failures", int, d.consecutive_failures, lambda v: v >= 1),
        reader.take("error_rate", number, d.error_rate, lambda v: 0 < v <= 1),
        reader.take("minimum_volume", int, d.minimum_volume, lambda v: v >= 1),
        reader.take("window_seconds", number, d.window_seconds, lambda v: v > 0),
        reader.take("open_seconds", number, d.open_seconds, lambda v: v > 0),
        reader.take("max_open_seconds", number, d.max_open_seconds, lambda v: v > 0),
    )
    reader.done()
    return settings


class Breaker:
    """Counts outcomes; the caller passes the time (seconds, monotonic) so that this stays cheap and pure."""

    __slots__ = (
        "_bad",
        "_good",
        "_row",
        "_settings",
        "_slot",
        "_trial",
        "_trips",
        "_width",
        "opened",
        "state",
        "until",
    )

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._width = settings.window_seconds / BUCKETS
        self.state = BreakerState.CLOSED
        self.opened = 0.0
        self.until = 0.0
        self._trips = 0
        self._trial = False
        self._slot = 0
        self._forget()

    def ready(self, now: float) -> bool:
        """Whether a call may go through now; an open one whose pause is over becomes half-open."""
        if self.state is BreakerState.CLOSED:
            return True
        if self.state is BreakerState.OPEN and now >= self.until:
            self.state = BreakerState.HALF_OPEN
            self._trial = False
        return self.state is BreakerState.HALF_OPEN and not self._trial

    def started(self) -> bool:
        """A call begins; True where it is the one trial."""
        if self.state is BreakerState.HALF_OPEN and not self._trial:
            self._trial = True
            return True
        return False

    def abandoned(self) -> None:
        """The trial ended without an outcome: another may be made."""
        self._trial = False

    def finished(self, ok: bool, trial: bool, now: float) -> bool:
        """A call's outcome; True where the state changed.

        While it is not closed only the trial's outcome counts: calls that began earlier say nothing new.
        """
        if self.state is not BreakerState.CLOSED:
            if not trial:
                return False
            if ok:
                self.close()
            else:
                self._open(now)
            return True
        slot = int(now / self._width)
        if slot != self._slot:
            self._advance(slot)
        index = slot % BUCKETS
        if ok:
            self._good[index] += 1
            self._row = 0
            return False
        self._bad[index] += 1
        self._row += 1
        bad = sum(self._bad)
        volume = bad + sum(self._good)
        settings = self._settings
        if self._row >= settings.consecutive_failures or (
            volume >= settings.minimum_volume and bad >= settings.error_rate * volume
        ):
            self._open(now)
            return True
        return False

    def close(self) -> None:
        """Let everything through again and forget what was."""
        self.state = BreakerState.CLOSED
        self._trips = 0
        self._trial = False
        self._forget()

    def _open(self, now: float) -> None:
        pause = min(self._settings.max_open_seconds, self._settings.open_seconds * 2.0 ** min(self._trips, 30))
        self.state = BreakerState.OPEN
        self._trips += 1
        self.opened = now
        self.until = now + pause

    def _advance(self, slot: int) -> None:
        for passed in range(max(self._slot + 1, slot - BUCKETS + 1), slot + 1):
            self._good[passed % BUCKETS] = self._bad[passed % BUCKETS] = 0
        self._slot = slot

    def _forget(self) -> None:
        self._good = [0] * BUCKETS
        self._bad = [0] * BUCKETS
        self._slot = 0
        self._row = 0
