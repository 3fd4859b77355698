"""What holds changes back: stabilisation windows and policies of the HPA, for one server. No clock of its own.

Source: Kubernetes documentation, "Horizontal Pod Autoscaling", section "Configurable scaling behavior", and the
defaults of autoscaling/v2 HorizontalPodAutoscalerBehavior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

REPLICAS, PERCENT = "replicas", "percent"
MAX, MIN, DISABLED = "max", "min", "disabled"


@dataclass(frozen=True)
class Policy:
    """At most ``value`` replicas, or per cent of the replicas, in ``period`` seconds."""

    kind: str
    value: int
    period: float


@dataclass(frozen=True)
class Direction:
    """How replicas may change in one direction.

    Attributes:
        window: seconds over which recommendations are looked back on before a change; the safest is taken.
        policies: limits of the change.
        select: which of the policies holds: ``max`` the one that permits most, ``min`` least; ``disabled`` none.
    """

    window: float
    policies: tuple[Policy, ...]
    select: str = MAX


UP = Direction(0.0, (Policy(REPLICAS, 4, 15.0), Policy(PERCENT, 100, 15.0)))
DOWN = Direction(300.0, (Policy(PERCENT, 100, 15.0),))


@dataclass
class History:
    """Recommendations and changes of one server, as far as they still matter.

    It begins, also after a restart, with the replicas that there are as a recommendation of that moment: what was
    recommended before is not known, so for a whole window nothing goes below (or, with a window for it, above) that.
    """

    _recommended: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def stabilized(self, now: float, current: int, wanted: int, up: Direction, down: Direction) -> int:
        """The wanted replicas, or what the windows leave of them.

        Args:
            now: monotonic seconds.
            current: replicas asked for now.
            wanted: what the metrics recommend; it is remembered.
        """
        if not self._recommended:
            self._recommended.append((now, current))
        longest = max(up.window, down.window)
        kept = [(at, n) for at, n in self._recommended if at > now - longest]
        highest = max([wanted, *(n for at, n in kept if at > now - down.window)])
        lowest = min([wanted, *(n for at, n in kept if at > now - up.window)])
        self._recommended = [*kept, (now, wanted)]
        return min(max(current, lowest), highest)

    def limited(self, now: float, current: int, wanted: int, up: Direction, down: Direction) -> int:
        """The wanted replicas, or as near as the policies let ``current`` come."""
        longest = max((p.period for d in (up, down) for p in d.policies), default=0.0)
        self._changes = [(at, n) for at, n in self._changes if at > now - longest]
        if wanted > current:
            return min(wanted, max(current, self._most(now, current, up)))
        if wanted < current:
            return max(wanted, min(current, self._least(now, current, down)))
        return wanted

    def changed(self, now: float, before: int, after: int) -> None:
        """Replicas were changed: policies count it."""
        self._changes.append((now, after - before))

    def _start(self, now: float, current: int, period: float) -> int:
        """How many replicas there were when the period began, but for changes by others."""
        return current - sum(n for at, n in self._changes if at > now - period)

    def _most(self, now: float, current: int, up: Direction) -> int:
        limits = self._limits(now, current, up, 1)
        return (min if up.select == MIN else max)(limits) if limits else current

    def _least(self, now: float, current: int, down: Direction) -> int:
        limits = self._limits(now, current, down, -1)
        return (max if down.select == MIN else min)(limits) if limits else current

    def _limits(self, now: float, current: int, direction: Direction, sign: int) -> list[int]:
        """How far each policy lets the replicas come; none where the direction is disabled."""
        limits = []
        for policy in direction.policies if direction.select != DISABLED else ():
            start = self._start(now, current, policy.period)
            change = policy.value if policy.kind == REPLICAS else math.ceil(start * policy.value / 100)
            limits.append(start + sign * change)
        return limits
