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
        if up.select == DISABLED:
            return current
        limits = []
        for policy in up.policies:
            start = self._start(now, current, policy.period)
            more = policy.value if policy.kind == REPLICAS else math.ceil(start * policy.value / 100)
            limits.append(start + more)
        return (min if up.select == MIN else max)(limits)

    def _least(self, now: float, current: int, down: Direction) -> int:
        if down.select == DISABLED:
            return current
        limits = []
        for policy in down.policies:
            start = self._start(now, current, policy.period)
            fewer = policy.value if policy.kind == REPLICAS else math.ceil(start * policy.value / 100)
            limits.append(start - fewer)
        return (max if down.select == MIN else min)(limits)
