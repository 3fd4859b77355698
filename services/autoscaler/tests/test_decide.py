"""Decisions: what is done, and what is said about it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_autoscaler.decide import Decider, Reason
from mcp_autoscaler.docker import Service
from mcp_autoscaler.history import Direction, Policy
from mcp_autoscaler.readings import UNKNOWN, Load
from mcp_autoscaler.settings import Rule

FREE = (Policy("percent", 1000, 1), Policy("replicas", 100, 1))
SHORT = Direction(10.0, FREE)
AT_ONCE = Direction(0.0, FREE)
RULE = Rule({"in_flight": 4}, up=AT_ONCE, down=SHORT, idle_seconds=30)


def service(replicas: int, least: int = 1, most: int = 6, ready: int | None = None, updating: str = "") -> Service:
    tasks = ((),) * (replicas if ready is None else ready)
    return Service("id", "mcp_time", "time", replicas, least, most, updating, tasks, replicas - len(tasks))


def one(of: Service, load: Load, rule: Rule = RULE) -> tuple[int, Reason, str]:
    decision = Decider(rule).decide(0.0, of, load, None)
    return decision.replicas, decision.reason, decision.why


@pytest.mark.parametrize(
    ("of", "load", "wanted"),
    [
        (service(1), Load(4), (1, Reason.STEADY, "in_flight is 4 calls a replica, wanted 4: 1 replica")),
        (service(1), Load(9), (3, Reason.LOAD, "in_flight is 9 calls a replica, wanted 4: 3 replicas")),
        (service(1), Load(6, 5), (3, Reason.LOAD, "in_flight is 11 calls a replica, wanted 4: 3 replicas")),
        (service(2), Load(99), (6, Reason.LOAD, "in_flight is 49.5 calls a replica, wanted 4: 25 replicas")),
        (service(6), Load(99), (6, Reason.BOUNDS, "in_flight is 16.5 calls a replica, wanted 4: 25 replicas; its bounds are 1 to 6")),
        (service(1), Load(0), (1, Reason.BOUNDS, "in_flight is 0 calls a replica, wanted 4: 0 replicas; its bounds are 1 to 6")),
        (service(3), Load(4), (3, Reason.WINDOW, "in_flight is 1.33 calls a replica, wanted 4: 1 replica; not so throughout the last 10 s")),
        (service(3), UNKNOWN, (3, Reason.UNKNOWN, "in_flight cannot be measured, so there may be work for all 3")),
        # What the gateways that answered have is enough to grow by.
        (service(1), Load(9, complete=False), (3, Reason.LOAD, "in_flight is 9 calls a replica, wanted 4: 3 replicas")),
        (service(3), Load(0, complete=False), (3, Reason.UNKNOWN, "in_flight cannot be measured, so there may be work for all 3")),
        (service(9), Load(99), (6, Reason.BOUNDS, "9 is not within 1 to 6")),
        (service(1, 2), Load(0), (2, Reason.BOUNDS, "1 is not within 2 to 6")),
        (service(0), Load(99), (0, Reason.OFF, "it was scaled to 0 by hand; scale it to 1 or more and it is scaled again")),
        (service(0, 0), Load(0), (0, Reason.ASLEEP, "nobody calls it")),
        (service(0, 0), UNKNOWN, (0, Reason.ASLEEP, "nobody calls it")),
        (service(0, 0), Load(0, 0, 1), (1, Reason.WAKE, "waiting for it: 1")),
        (service(0, 0), Load(0, 0, 9, complete=False), (3, Reason.WAKE, "waiting for it: 9")),
        (service(0, 0), Load(0, 0, 99), (6, Reason.WAKE, "waiting for it: 99")),
        (service(0, 0), Load(active=True), (0, Reason.ASLEEP, "nobody calls it")),
        (service(2, updating="updating"), Load(99), (2, Reason.UPDATING, "its update is updating; scaling waits until it is over")),
    ],
)  # fmt: skip
def test_a_decision(of: Service, load: Load, wanted: tuple[int, Reason, str]) -> None:
    assert one(of, load) == wanted


def test_several_metrics_and_the_one_that_decides() -> None:
    rule = replace(RULE, targets={"in_flight": 4, "queue": 1, "latency_ms": 500})
    assert one(service(2), Load(2, 6, latency=0.1), rule)[:2] == (6, Reason.LOAD)
    assert one(service(2), Load(2, 0, latency=1.0), rule) == (
        4, Reason.LOAD, "latency_ms is 1000 ms, wanted 500: 4 replicas",
    )  # fmt: skip
    assert one(service(2), Load(2, 0, latency=None), rule)[:2] == (2, Reason.UNKNOWN)


def test_replicas_on_their_way_hold_latency_back() -> None:
    """Two of four are not ready: they will take their part."""
    rule = replace(RULE, targets={"latency_ms": 500})
    assert one(service(4, ready=2), Load(latency=0.9), rule)[0] == 4
    assert one(service(4, ready=4), Load(latency=0.9), rule)[0] == 6


def test_gpus_by_replica() -> None:
    rule = replace(RULE, targets={"gpu_percent": 50})
    tasks = replace(service(3), ready=(("GPU-a",), ("GPU-b",), ()), unready=0)
    uses = {"GPU-a1": 1.0, "GPU-b1": 0.9, "GPU-c1": 0.0}
    decider = Decider(rule)
    # 95 % of two, nothing of the third, which has no GPU that is known: 1.27 times what is wanted.
    assert decider.decide(0, tasks, Load(), uses).replicas == 4
    assert decider.decide(0, tasks, Load(), None).reason is Reason.UNKNOWN
    # A short name that fits two GPUs tells of neither.
    assert decider.decide(0, tasks, Load(), {**uses, "GPU-a2": 0, "GPU-b2": 0}).reason is Reason.UNKNOWN


@pytest.mark.parametrize(
    ("given", "replicas"),
    [
        (("GPU-a", "GPU-b"), 4),  # 95 % of each
        (("GPU-a", "GPU-a"), 4),  # two slots of one: both show its 100 %
        (("MIG-a", "GPU-a"), 2),  # an exporter that names GPUs knows no parts of one: what it does may be nothing
    ],
)
def test_replicas_that_share_a_gpu_have_the_use_of_all_of_it(given: tuple[str, str], replicas: int) -> None:
    tasks = replace(service(2), ready=tuple((name,) for name in given), unready=0)
    decided = Decider(replace(RULE, targets={"gpu_percent": 50})).decide(0, tasks, Load(), {"GPU-a": 1.0, "GPU-b": 0.9})
    assert decided.replicas == replicas


def test_a_part_of_a_gpu_is_found_where_the_exporter_names_it() -> None:
    tasks = replace(service(1), ready=(("MIG-a",),), unready=0)
    decided = Decider(replace(RULE, targets={"gpu_percent": 50})).decide(0, tasks, Load(), {"MIG-a": 1.0})
    assert decided.replicas == 2


def test_down_after_its_window_and_not_before() -> None:
    decider, said = Decider(RULE), []
    for now in range(0, 14, 2):
        decision = decider.decide(now, service(3), Load(1 if now else 12), None)
        said.append((now, decision.replicas))
    assert said == [(0, 3), (2, 3), (4, 3), (6, 3), (8, 3), (10, 1), (12, 1)]


def test_to_sleep_after_its_time_and_awake_when_called() -> None:
    decider, of = Decider(RULE), service(1, 0)
    assert decider.decide(0, of, Load(1), None).reason is Reason.STEADY
    assert decider.decide(29, of, Load(), None).replicas == 1
    assert decider.decide(30, of, Load(), None).replicas == 0
    decider.changed(30, 1, 0)
    asleep = service(0, 0)
    assert decider.decide(31, asleep, Load(), None).reason is Reason.ASLEEP
    assert decider.decide(40, asleep, Load(parked=1), None).replicas == 1
    decider.changed(40, 0, 1)
    # Its time begins with the call that woke it.
    assert decider.decide(69, of, Load(), None).replicas == 1
    assert decider.decide(70, of, Load(), None).reason is Reason.IDLE


@pytest.mark.parametrize("load", [Load(1), Load(waiting=1), Load(parked=1), Load(active=True), UNKNOWN])
def test_whoever_uses_it_or_may_keeps_it_awake(load: Load) -> None:
    decider = Decider(RULE)
    decider.decide(0, service(1, 0), Load(), None)
    decider.decide(29, service(1, 0), load, None)
    assert decider.decide(58, service(1, 0), Load(), None).replicas == 1
    assert decider.decide(59, service(1, 0), Load(), None).replicas == 0


def test_after_a_restart_nothing_sleeps_at_once() -> None:
    assert Decider(RULE).decide(1e6, service(1, 0), Load(), None).replicas == 1


loads = st.builds(
    Load,
    st.integers(0, 200).map(float),
    st.integers(0, 200).map(float),
    st.integers(0, 20).map(float),
    st.booleans(),
    st.none() | st.floats(0, 60),
    st.booleans(),
)
rules = st.builds(
    Rule,
    st.fixed_dictionaries({"in_flight": st.floats(0.5, 50)}, optional={"queue": st.floats(0.5, 9), "latency_ms": st.floats(1, 9000)}),
    idle_seconds=st.floats(1, 120),
    up=st.builds(Direction, st.floats(0, 60), st.just(AT_ONCE.policies), st.sampled_from(["max", "min", "disabled"])),
    down=st.builds(Direction, st.floats(0, 60), st.just(AT_ONCE.policies), st.sampled_from(["max", "min", "disabled"])),
)  # fmt: skip


@given(
    rule=rules,
    looks=st.lists(st.tuples(loads, st.floats(0.1, 60), st.integers(0, 8)), min_size=1, max_size=30),
    start=st.integers(0, 12),
    least=st.integers(0, 4),
    more=st.integers(1, 6),
)
def test_whatever_comes_it_stays_within_its_bounds(
    rule: Rule, looks: list[tuple[Load, float, int]], start: int, least: int, more: int
) -> None:
    """And it sleeps only where it may, when nobody is known to use it; unknown loads never take a replica away."""
    decider, now, current, most = Decider(rule), 0.0, start, max(1, least + more)
    for load, pause, ready in looks:
        now += pause
        of = service(current, least, most, min(ready, current))
        decision = decider.decide(now, of, load, None)
        assert decision.why
        if decision.replicas != current:
            assert least <= decision.replicas <= most
            if decision.replicas < current <= most:
                assert load.complete
            if decision.replicas == 0:
                assert least == 0 and not load.busy
            decider.changed(now, current, decision.replicas)
        current = decision.replicas
