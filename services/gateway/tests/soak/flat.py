"""Whether a series of samples is flat: a straight line through the last two thirds, by least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """How far a value may rise over the window that is looked at, in its own unit, and why so far."""

    name: str
    rise: float
    reason: str


# A rise over the whole window, whatever its length: a longer run sees smaller leaks.
BOUNDS = (
    Bound(
        "memory MB",
        4.0,
        "the allocator's own noise, measured, is 1 to 2 MB; over ten minutes 4 MB is under 100 bytes a request, "
        "less than the smallest thing that could leak with each",
    ),
    Bound(
        "open files",
        8.0,
        "pools and clients hold 5 more or fewer from one sample to the next; one leaked with each cancelled call, "
        "session or subscription is hundreds in one minute",
    ),
    Bound("upstream sessions", 8.0, "one for each replica and principal, more while replicas come and go"),
    Bound("metric series", 8.0, "labels come from the configuration and the protocol alone; rare outcomes appear late"),
    Bound("threads", 0.5, "none is ever added"),
)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line through ``points``, per unit of their first value; 0 for fewer than two."""
    count = len(points)
    if count < 2:
        return 0.0
    middle_x = sum(x for x, _ in points) / count
    middle_y = sum(y for _, y in points) / count
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    return sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0


def rise(points: Sequence[tuple[float, float]]) -> float:
    """How far the line through the last two thirds rises from its beginning to its end.

    The first third is left out: caches fill, pools open, the allocator takes what it will keep.
    """
    window = points[len(points) // 3 :]
    return slope(window) * (window[-1][0] - window[0][0]) if len(window) > 1 else 0.0
