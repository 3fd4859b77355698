"""What was seen of a canary and of the old replicas beside it: calls, failures and durations, and sums of such."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mcp_gateway.protocol import Json

# 0.5 ms to two minutes, each 1.25 times the one before: a percentile is right to a quarter.
BOUNDS = tuple(0.0005 * 1.25**power for power in range(56))
NAMES = ("stable", "canary")


@dataclass
class Side:
    """One of the two.

    Attributes:
        ok, failed: calls by what came of them. An error of a tool is a failure: a version that only says no is none.
        counts: calls by duration, beside ``BOUNDS``.
    """

    ok: int = 0
    failed: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))

    def note(self, seconds: float, *, failed: bool) -> None:
        """A call is over."""
        if failed:
            self.failed += 1
        else:
            self.ok += 1
        self.counts[bisect_left(BOUNDS, seconds)] += 1

    def report(self) -> Json:
        """For the board."""
        return {"ok": self.ok, "failed": self.failed, "counts": self.counts}

    @property
    def calls(self) -> int:
        """All."""
        return self.ok + self.failed

    def percentile(self, part: float) -> float | None:
        """Seconds within which that part of the calls was over, by linear interpolation within a bucket.

        As Prometheus' ``histogram_quantile`` has it.
        """
        wanted, total = part * self.calls, 0
        if not self.calls:
            return None
        for index, count in enumerate(self.counts):
            if total + count >= wanted:
                low = BOUNDS[index - 1] if index else 0.0
                high = BOUNDS[index] if index < len(BOUNDS) else BOUNDS[-1]
                return low + (high - low) * ((wanted - total) / count if count else 1.0)
            total += count
        return BOUNDS[-1]

    def summary(self) -> Json:
        """For people and for whoever judges."""
        spans = {f"p{round(100 * part)}_ms": self.percentile(part) for part in (0.5, 0.95)}
        return {"calls": self.calls, "failed": self.failed} | {
            name: None if value is None else round(1000 * value, 1) for name, value in spans.items()
        }


@dataclass
class Sides:
    """Both, of one trial."""

    number: int
    stable: Side = field(default_factory=Side)
    canary: Side = field(default_factory=Side)

    def report(self) -> Json:
        """For the board."""
        return {"number": self.number, **{name: getattr(self, name).report() for name in NAMES}}

    @classmethod
    def of(cls, value: Any) -> Sides:
        """A report as it was made.

        Raises:
            ValueError: it is none.
        """
        try:
            sides = [_side(value[name]) for name in NAMES]
            return cls(int(value["number"]), *sides)
        except (TypeError, KeyError, IndexError) as error:
            raise ValueError(f"it is no report of a canary: {error!r}") from None


def _side(value: Any) -> Side:
    side = Side(int(value["ok"]), int(value["failed"]), [int(count) for count in value["counts"]])
    if len(side.counts) != len(BOUNDS) + 1 or min(side.ok, side.failed, *side.counts) < 0:
        raise ValueError("it is no report of a canary: its counts are not ours")
    return side


def added(reports: Iterable[Sides]) -> Json:
    """The sum, as people read it, and of how many gateway replicas it is."""
    total, replicas = Sides(0), 0
    for one in reports:
        replicas += 1
        for name in NAMES:
            mine, other = getattr(total, name), getattr(one, name)
            mine.ok += other.ok
            mine.failed += other.failed
            mine.counts = [a + b for a, b in zip(mine.counts, other.counts, strict=True)]
    return {"replicas": replicas, **{name: getattr(total, name).summary() for name in NAMES}}
