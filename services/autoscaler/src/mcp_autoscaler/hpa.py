"""The HorizontalPodAutoscaler's published algorithm: from what was measured to a number of replicas. Pure.

Source: Kubernetes documentation, "Horizontal Pod Autoscaling", section "Algorithm details"
(kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale). A replica here is a pod there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE = 0.1
# Quotients of decimal fractions miss whole numbers by some 1e-16: 2.1 / 0.7 must not become four replicas.
_GRAIN = 1e-9


@dataclass(frozen=True)
class Outcome:
    """What one metric wants.

    Attributes:
        metric: its name.
        replicas: how many it wants; None where it could not be measured.
        value, target: what was compared, in the metric's unit; ``value`` is None where it could not be measured.
    """

    metric: str
    replicas: int | None
    value: float | None
    target: float


def _ceil(value: float) -> int:
    return math.ceil(value - _GRAIN)


def _near(ratio: float, tolerance: float) -> bool:
    return abs(ratio - 1.0) <= tolerance + _GRAIN


def of_total(total: float, target: float, current: int, tolerance: float = TOLERANCE) -> int:
    """Replicas for what all of them share, such as calls in flight: each is to have ``target`` of it.

    Args:
        total: measured now, over all replicas; 0 or more.
        target: wanted for one replica; above 0.
        current: replicas asked for now, ready or not.
        tolerance: how far the ratio of measured to wanted may be from 1 before anything changes.
    """
    if current > 0 and _near(total / (target * current), tolerance):
        return current
    return _ceil(total / target)


def of_replicas(
    values: Sequence[float], target: float, missing: int = 0, unready: int = 0, tolerance: float = TOLERANCE
) -> int:
    """Replicas for what each of them has of its own, such as the use of its GPU.

    Those that cannot be measured hold changes back: before fewer replicas they count as having exactly what is
    wanted, before more as having nothing. Where that turns the direction, nothing changes.

    Args:
        values: of replicas that are ready and were measured; 0 or more.
        target: wanted for each; above 0.
        missing: how many are ready and were not measured.
        unready: how many are not ready yet.
    """
    current = len(values) + missing + unready
    if not values:
        return current
    ratio = sum(values) / len(values) / target
    # Unlike the HPA, replicas that are not ready count before fewer, too: those that restart will have work again.
    unknown = missing + unready
    if not unknown:
        return current if _near(ratio, tolerance) else _ceil(ratio * current)
    filled = sum(values) + (target * unknown if ratio < 1 else 0.0)
    careful = filled / current / target
    if _near(careful, tolerance) or (ratio < 1) != (careful < 1):
        return current
    wanted = _ceil(careful * current)
    return current if (wanted - current) * (careful - 1) < 0 else wanted


def largest(outcomes: Sequence[Outcome], current: int) -> tuple[int, Outcome | None]:
    """The replicas that satisfy every metric, and the one that decided.

    Where one cannot be measured, the others may ask for more replicas but not for fewer.
    """
    known = [outcome for outcome in outcomes if outcome.replicas is not None]
    if not known:
        return current, None
    best = max(known, key=lambda outcome: outcome.replicas or 0)
    wanted = best.replicas or 0
    if len(known) < len(outcomes) and wanted < current:
        return current, None
    return wanted, best
