"""The algorithm against the rules and the examples that Kubernetes publishes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_autoscaler.hpa import Outcome, largest, of_replicas, of_total

targets = st.floats(0.1, 1000)
counts = st.integers(1, 200)


@pytest.mark.parametrize(
    ("values", "target", "wanted"),
    [
        # Twice what is wanted: twice as many; half: half as many.
        ([0.2, 0.2, 0.2], 0.1, 6),
        ([0.05] * 4, 0.1, 2),
        # Within a tenth of 1 nothing changes, at its edge neither.
        ([0.11] * 5, 0.1, 5),
        ([0.09] * 5, 0.1, 5),
        ([0.111] * 5, 0.1, 6),
        ([0.089] * 10, 0.1, 9),
        ([0.0] * 4, 0.1, 0),
        # Decimal fractions: 2.1 / 0.7 is 3.0000000000000004.
        ([2.1] * 1, 0.7, 3),
    ],
)
def test_ratio(values: list[float], target: float, wanted: int) -> None:
    assert of_replicas(values, target) == wanted
    assert of_total(sum(values), target, len(values)) == wanted


@pytest.mark.parametrize(
    ("values", "missing", "unready", "wanted"),
    [
        # Before fewer, the missing count as having exactly what is wanted.
        ([0.0, 0.0], 2, 0, 2),
        ([0.5, 0.5], 2, 0, 3),
        # Before more, as having nothing.
        ([3.0, 3.0], 2, 0, 6),
        ([2.0, 2.0], 2, 0, 4),
        # Where that turns the direction or comes near 1, nothing changes.
        ([1.5, 1.5], 2, 0, 4),
        # So with those that are not ready.
        ([3.0, 3.0], 0, 2, 6),
        ([2.0], 0, 1, 2),
        # None measured: nothing changes.
        ([], 3, 0, 3),
        ([], 0, 3, 3),
        # Four of five restart; the fifth is idle. They will have work again.
        ([0.0], 0, 4, 4),
    ],
)
def test_replicas_that_cannot_be_measured(values: list[float], missing: int, unready: int, wanted: int) -> None:
    assert of_replicas(values, 1.0, missing, unready) == wanted


def test_what_is_shared_at_zero_replicas() -> None:
    assert of_total(0, 4, 0) == 0
    assert of_total(1, 4, 0) == 1
    assert of_total(9, 4, 0) == 3


@given(total=st.floats(0, 1e6), target=targets, current=counts)
def test_each_has_at_most_the_target_afterwards(total: float, target: float, current: int) -> None:
    wanted = of_total(total, target, current)
    if wanted == current:
        assert total <= target * current * 1.1 * (1 + 1e-6)
    else:
        assert total / target <= wanted + 1e-8
        assert wanted == math.ceil(total / target - 1e-9)


@given(values=st.lists(st.floats(0, 1000), min_size=1, max_size=50), target=targets, missing=st.integers(0, 20))
def test_missing_replicas_only_hold_back(values: list[float], target: float, missing: int) -> None:
    """With some missing, the change is never larger than it would be if they were like the others."""
    current = len(values) + missing
    careful = of_replicas(values, target, missing)
    mean = sum(values) / len(values)
    bold = of_replicas([mean] * current, target)
    assert abs(careful - current) <= abs(bold - current)
    assert (careful - current) * (bold - current) >= 0


def outcome(name: str, replicas: int | None) -> Outcome:
    return Outcome(name, replicas, None if replicas is None else 1.0, 1.0)


@pytest.mark.parametrize(
    ("wants", "current", "wanted"),
    [
        # The largest wish is taken.
        ([2, 5, 3], 4, 5),
        ([2, 3], 4, 3),
        # One that cannot be measured forbids fewer, and permits more.
        ([2, None], 4, 4),
        ([6, None], 4, 6),
        ([4, None], 4, 4),
        ([None, None], 4, 4),
        ([], 4, 4),
    ],
)
def test_several_metrics(wants: list[int | None], current: int, wanted: int) -> None:
    assert largest([outcome(str(i), n) for i, n in enumerate(wants)], current)[0] == wanted


@given(wants=st.lists(st.none() | st.integers(0, 50), max_size=6), current=st.integers(0, 50))
def test_who_decided_is_named(wants: list[int | None], current: int) -> None:
    wanted, by = largest([outcome(str(i), n) for i, n in enumerate(wants)], current)
    assert by is None or by.replicas == wanted
    if by is None:
        assert wanted == current
