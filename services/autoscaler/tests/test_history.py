"""Stabilisation windows and policies against what Kubernetes publishes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_autoscaler.history import DISABLED, DOWN, MIN, PERCENT, REPLICAS, UP, Direction, History, Policy

NONE = Direction(0.0, (Policy(PERCENT, 100, 15.0),))
PER_MINUTE = (Policy(REPLICAS, 4, 60.0), Policy(PERCENT, 10, 60.0))


def steps(current: int, wanted: int, up: Direction, down: Direction, every: float, looks: int) -> list[int]:
    """Replicas after each look, where each change is made at once."""
    history, now, seen = History(), 1000.0, []
    for dummy in range(looks):
        after = history.limited(now, current, wanted, up, down)
        if after != current:
            history.changed(now, current, after)
        seen.append(current := after)
        now += every
    return seen


def test_down_by_percent_then_by_replicas() -> None:
    """The documentation's own case: from 80 to 10 by at most 4 replicas or 10 % a minute, whichever is more.

    80 loses 8; of 72, 10 % is 7.2, rounded up to 8; below 40 it is 4 at a time.
    """
    seen = steps(80, 10, UP, Direction(0.0, PER_MINUTE), 60.0, 14)
    assert seen[:2] == [72, 64]
    below = [n for n in seen if n < 40]
    assert len(below) > 5
    assert all(a - b == 4 for a, b in itertools.pairwise(below) if b > 10)
    assert seen[-1] == 10


def test_the_least_of_the_policies_where_min_is_selected() -> None:
    assert steps(80, 10, UP, Direction(0.0, PER_MINUTE, MIN), 60.0, 2) == [76, 72]


def test_disabled_never_moves() -> None:
    assert steps(5, 1, UP, Direction(0.0, DOWN.policies, DISABLED), 60.0, 3) == [5, 5, 5]
    assert steps(5, 9, Direction(0.0, UP.policies, DISABLED), DOWN, 60.0, 3) == [5, 5, 5]


def test_up_by_the_defaults() -> None:
    """Four, or as many again, every 15 seconds, whichever is more."""
    assert steps(1, 100, UP, DOWN, 15.0, 5) == [5, 10, 20, 40, 80]
    # Looking more often permits no more.
    assert steps(1, 100, UP, DOWN, 5.0, 4) == [5, 5, 5, 10]


def test_down_by_the_defaults_is_free() -> None:
    assert steps(50, 1, UP, DOWN, 15.0, 1) == [1]


def test_down_takes_the_highest_of_the_window() -> None:
    history = History()
    said = [history.stabilized(t, 10, wanted, NONE, Direction(60.0, ())) for t, wanted in ((0, 10), (30, 4), (50, 6))]
    assert said == [10, 10, 10]
    assert history.stabilized(60.5, 10, 4, NONE, Direction(60.0, ())) == 6
    assert history.stabilized(111.0, 6, 4, NONE, Direction(60.0, ())) == 4


def test_up_takes_the_lowest_of_the_window() -> None:
    history, up = History(), Direction(10.0, ())
    assert history.stabilized(0, 1, 5, up, NONE) == 1
    assert history.stabilized(5, 1, 4, up, NONE) == 1
    assert history.stabilized(10.5, 1, 6, up, NONE) == 4


@pytest.mark.parametrize("gap", [0.0, 30.0, 299.0])
def test_after_a_restart_nothing_shrinks_for_a_window(gap: float) -> None:
    """What was recommended before is not known, so the replicas there are count as recommended just now."""
    history = History()
    history.stabilized(0.0, 7, 1, UP, DOWN)
    assert history.stabilized(gap, 7, 1, UP, DOWN) == 7
    assert history.stabilized(300.5, 7, 1, UP, DOWN) == 1


directions = st.builds(
    Direction,
    st.floats(0, 600),
    st.lists(
        st.builds(Policy, st.sampled_from([REPLICAS, PERCENT]), st.integers(1, 200), st.floats(1, 300)),
        min_size=1,
        max_size=3,
    ).map(tuple),
    st.sampled_from(["max", "min", "disabled"]),
)
looks = st.lists(st.tuples(st.floats(0.1, 120), st.integers(0, 60)), min_size=1, max_size=40)


@given(up=directions, down=directions, looks=looks, current=st.integers(1, 60))
def test_held_back_but_never_turned(
    up: Direction, down: Direction, looks: list[tuple[float, int]], current: int
) -> None:
    """Whatever the windows and policies: a change goes towards what is wanted, and never past it."""
    history, now = History(), 0.0
    for pause, wanted in looks:
        now += pause
        stable = history.stabilized(now, current, wanted, up, down)
        assert min(current, wanted) <= stable <= max(current, wanted)
        after = history.limited(now, current, stable, up, down)
        assert min(current, stable) <= after <= max(current, stable)
        if after != current:
            history.changed(now, current, after)
        current = after


@pytest.mark.parametrize("sign", [1, -1])
@given(looks=looks, limit=st.integers(1, 5))
def test_a_policy_holds_in_every_period(sign: int, looks: list[tuple[float, int]], limit: int) -> None:
    """In one direction; a turn gives back what it took, as in Kubernetes."""
    direction = Direction(0.0, (Policy(REPLICAS, limit, 30.0),))
    history, now, current, changes = History(), 0.0, 1000, list[tuple[float, int]]()
    for pause, step in looks:
        now += pause
        after = history.limited(now, current, current + sign * step, direction, direction)
        if after != current:
            history.changed(now, current, after)
            changes.append((now, after - current))
        current = after
        assert abs(sum(n for at, n in changes if at > now - 30.0)) <= limit
