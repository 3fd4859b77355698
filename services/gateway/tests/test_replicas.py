"""Replicas: who is chosen, set aside and taken back; breakers, budgets, health checks, pools."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from mcp_gateway.metrics import Metrics
from mcp_gateway.reader import Reader
from mcp_gateway.upstream import breaker, budget, health, pools, replicas
from mcp_gateway.upstream.breaker import Breaker, BreakerSettings, BreakerState
from mcp_gateway.upstream.budget import Hedge, HedgeSettings, RetryBudget, RetrySettings
from mcp_gateway.upstream.health import HealthChecks, HealthSettings
from mcp_gateway.upstream.pools import Choice, Pool, Pools, PoolSettings, Reason
from mcp_gateway.upstream.replicas import BalancingSettings, Replica, Replicas, State

A, B, C, D = (f"http://{name}/mcp" for name in "abcd")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def some(clock: Clock, *urls: str, slow_start: float = 10.0) -> Replicas:
    chance = random.Random(7).random
    balancing = BalancingSettings(slow_start_seconds=slow_start)
    return Replicas("x", urls, Metrics(), balancing, clock=clock, chance=chance)


def simulate(fleet: Replicas, clock: Clock, seconds: dict[str, float], calls: int, dead: str = "") -> Counter[str]:
    """Calls arrive every 2 ms; a dead replica refuses the connection and the call goes to another."""
    under_way: list[tuple[float, float, Replica, bool]] = []
    shares: Counter[str] = Counter()
    for _ in range(calls):
        clock.now += 0.002
        for end, took, replica, trial in [call for call in under_way if call[0] <= clock.now]:
            replica.finished(took, True, trial)
            under_way.remove((end, took, replica, trial))
        tried: set[str] = set()
        while chosen := fleet.choose(tried, None, None):
            shares[chosen.url] += 1
            trial = chosen.started()
            if chosen.url != dead:
                took = seconds[chosen.url]
                under_way.append((clock.now + took, took, chosen, trial))
                break
            chosen.finished(0.0, False, trial)
            fleet.failed(chosen)
            tried.add(chosen.url)
    return shares


def test_a_slow_replica_gets_far_less_than_its_turn() -> None:
    clock = Clock()
    shares = simulate(some(clock, A, B, C, D), clock, {A: 0.2, B: 0.01, C: 0.01, D: 0.01}, 5000)
    assert shares[A] < 5000 / 4 / 5  # round robin would send 1250
    assert shares[A] > 0
    assert min(shares[u] for u in (B, C, D)) > 1000


def test_a_dead_replica_gets_nearly_nothing() -> None:
    clock = Clock()
    shares = simulate(some(clock, A, B, C), clock, {B: 0.01, C: 0.01}, 5000, dead=A)
    assert 1 <= shares[A] <= 8  # in ten seconds, with pauses of 1, 2, 4 s
    assert shares[B] + shares[C] == 5000


def test_a_replica_that_comes_back_starts_slowly() -> None:
    clock = Clock()
    fleet = some(clock, A, B)
    for replica in fleet.by_url.values():
        replica.started()
        replica.finished(0.01, True)
    fleet.failed(fleet.by_url[A])
    assert fleet.by_url[A].state is State.EJECTED
    clock.now += 1.0
    assert fleet.by_url[A].state is State.PROBATION
    early = Counter(r.url for _ in range(2000) if (r := fleet.choose(set(), None, None)))
    clock.now += 10.0
    assert fleet.by_url[A].state is State.HEALTHY
    late = Counter(r.url for _ in range(2000) if (r := fleet.choose(set(), None, None)))
    assert 0 < early[A] < 300
    assert late[A] > early[A] * 3


def test_a_hanging_replica_does_not_look_better_with_time() -> None:
    clock = Clock()
    replica = Replica(A, clock=clock)
    replica.started()
    replica.finished(2.0, True)
    replica.started()
    clock.now += 100
    assert replica.cost(clock.now) == 2.0
    replica.released()
    assert replica.cost(clock.now) < 0.01


def test_when_all_are_out_any_is_tried() -> None:
    fleet = some(Clock(), A, B)
    for replica in list(fleet.by_url.values()):
        fleet.unhealthy(replica)
    assert fleet.usable == 0
    assert {r.url for _ in range(50) if (r := fleet.choose(set(), None, None))} == {A, B}
    assert fleet.choose({A}, None, None) is fleet.by_url[B]


def test_breakers_alone_set_aside_no_more_than_the_fraction() -> None:
    clock = Clock()
    fleet = some(clock, A, B, C, D)
    for url in (A, B, C):
        for _ in range(5):
            trial = fleet.by_url[url].started()
            fleet.by_url[url].finished(0.1, False, trial)
        assert fleet.by_url[url].breaker.state is BreakerState.OPEN
    assert fleet.usable == 2
    fleet.failed(fleet.by_url[D])  # a refusal is no guess
    assert D not in {r.url for _ in range(50) if (r := fleet.choose(set(), None, None))}


def test_after_its_pause_a_breaker_lets_one_trial_through() -> None:
    clock = Clock()
    fleet = some(clock, A, B)
    bad = fleet.by_url[A]
    for _ in range(5):
        bad.finished(0.1, False, bad.started())
    assert fleet.choose(set(), None, None) is fleet.by_url[B]
    clock.now += 1.0
    assert fleet.choose(set(), None, None) is bad
    trial = bad.started()
    assert trial
    assert {r.url for _ in range(50) if (r := fleet.choose(set(), None, None))} == {B}
    bad.released(trial)  # no outcome: another trial
    assert fleet.choose(set(), None, None) is bad
    bad.finished(0.01, True, bad.started())
    assert bad.state is State.PROBATION


def test_a_breaker_opens_by_rate_only_with_enough_calls_and_forgets_old_ones() -> None:
    state = Breaker(BreakerSettings(consecutive_failures=100, minimum_volume=10))
    for i in range(9):
        state.finished(i % 2 == 0, False, 5.0)
    assert state.state is BreakerState.CLOSED
    state.finished(True, False, 20.0)  # the window has passed
    state.finished(False, False, 20.0)
    assert state.state is BreakerState.CLOSED
    for i in range(8):
        state.finished(i % 2 == 0, False, 20.5)
    assert state.state is BreakerState.OPEN
    assert not state.ready(21.0)
    assert state.ready(21.6)
    trial = state.started()
    assert trial
    assert not state.started()
    state.finished(False, trial, 22.0)
    assert not state.ready(23.9)  # the pause doubled
    assert state.ready(24.1)


def test_keys_move_only_from_the_replica_that_is_out_and_come_back() -> None:
    clock = Clock()
    fleet = some(clock, A, B, C)
    keys = [f"ci/{i}" for i in range(60)]

    def owners() -> dict[str, str]:
        return {key: r.url for key in keys if (r := fleet.choose(set(), None, key))}

    before = owners()
    assert set(before.values()) == {A, B, C}
    fleet.failed(fleet.by_url[A])
    during = owners()
    assert A not in during.values()
    assert all(during[key] == url for key, url in before.items() if url != A)
    clock.now += 1.1
    assert owners() == before


def test_a_replica_on_trial_is_tried_by_its_own_keys() -> None:
    clock = Clock()
    fleet = some(clock, A, B)
    key = next(k for k in map(str, range(100)) if (r := fleet.choose(set(), None, k)) and r.url == A)
    bad = fleet.by_url[A]
    for _ in range(5):
        bad.finished(0.1, False, bad.started())
    assert fleet.choose(set(), None, key) is fleet.by_url[B]
    clock.now += 1.0
    assert fleet.choose(set(), None, key) is bad


def test_a_vanished_replica_drains_and_is_forgotten_when_idle() -> None:
    fleet = some(Clock(), A, B)
    gone = fleet.by_url[A]
    trial = gone.started()
    assert fleet.set([B])
    assert gone.state is State.DRAINING
    assert len(fleet) == 1
    assert fleet.choose(set(), A, None) is fleet.by_url[B]
    assert A in fleet.by_url
    gone.finished(0.1, True, trial)
    assert A not in fleet.by_url
    assert not fleet.set([B])


def test_a_drained_replica_stays_out_until_discovery_dropped_it() -> None:
    fleet = some(Clock(), A, B)
    assert fleet.drain(A)
    assert not fleet.drain("http://elsewhere/mcp")
    fleet.set([A, B])
    assert set(fleet.by_url) == {B}
    fleet.set([B])
    fleet.set([A, B])
    assert set(fleet.by_url) == {A, B}


def test_retries_are_a_share_of_requests_plus_a_floor() -> None:
    clock = Clock()
    few = RetryBudget(RetrySettings(ratio=0.2, floor_per_second=10), clock)
    assert sum(few.retry() for _ in range(50)) == 10
    clock.now += 0.5
    assert sum(few.retry() for _ in range(50)) == 5
    many = RetryBudget(RetrySettings(ratio=0.2, floor_per_second=0), clock)
    for _ in range(1000):
        many.request()
    assert sum(many.retry() for _ in range(500)) == 200
    clock.now += 60
    assert not many.retry()  # a minute later those requests are not recent


def test_a_hedge_waits_for_the_95th_percentile() -> None:
    hedge = Hedge(HedgeSettings(enabled=True, minimum_seconds=0.0))
    off = Hedge(HedgeSettings())
    assert hedge.delay() is None
    for i in range(256):
        hedge.observe(i / 1000)
        off.observe(i / 1000)
    assert hedge.delay() == pytest.approx(0.243, abs=0.002)
    assert off.delay() is None


def test_active_checks_set_aside_and_take_back() -> None:
    async def story() -> None:
        clock, well, asked = Clock(), True, 0

        async def check(_: Replica) -> None:
            nonlocal asked
            asked += 1
            await asyncio.sleep(0)
            if not well:
                raise OSError("no answer")

        fleet = some(clock, A, B)
        checks = HealthChecks(fleet, check, HealthSettings(), clock)

        async def pass_time(seconds: float) -> None:
            for _ in range(int(seconds / 0.5)):
                clock.now += 0.5
                checks.tick()
                checks.tick()
                await checks.settled()

        await pass_time(30)
        assert 4 <= asked <= 8
        for replica in fleet.by_url.values():
            replica.last_ok = clock.now
        asked = 0
        await pass_time(9)
        assert asked == 0  # traffic proves them well
        well = False
        await pass_time(30)
        assert fleet.usable == 0
        well = True
        await pass_time(5)
        assert fleet.usable == 2
        assert all(replica.state is State.PROBATION for replica in fleet.by_url.values())

    asyncio.run(story())


def test_never_two_checks_of_one_replica_at_a_time() -> None:
    async def story() -> int:
        clock, now, most = Clock(), 0, 0

        async def check(_: Replica) -> None:
            nonlocal now, most
            now += 1
            most = max(most, now)
            try:
                await asyncio.Event().wait()
            finally:
                now -= 1

        checks = HealthChecks(some(clock, A), check, HealthSettings(timeout=0.01), clock)
        for _ in range(20):
            clock.now += 20
            checks.tick()
            await asyncio.sleep(0)
        await checks.settled()
        return most

    assert asyncio.run(story()) == 1


def test_the_gpu_pool_while_it_is_well_and_has_room() -> None:
    clock, heat = Clock(), 0.1
    gpu, cpu = some(clock, A), some(clock, B)
    routing = Pools(PoolSettings("preferred", ("ocr_*",), 5), gpu, cpu, lambda: heat, clock)
    there = Choice(Pool.GPU, Reason.PREFERRED)
    assert routing.choose("ocr_page") == there
    assert routing.choose(None) == routing.choose("ping") == Choice(Pool.CPU, Reason.LIGHT)
    gpu.by_url[A].inflight = 5
    assert routing.choose("ocr_page") == Choice(Pool.CPU, Reason.GPU_FULL)
    gpu.by_url[A].inflight = 4
    assert routing.choose("ocr_page") == there
    heat = 0.95
    assert routing.choose("ocr_page") == Choice(Pool.CPU, Reason.GPU_HOT)
    heat = 0.8
    assert routing.choose("ocr_page") == Choice(Pool.CPU, Reason.GPU_HOT)
    heat = 0.5
    clock.now += 6
    assert routing.choose("ocr_page") == there
    gpu.unhealthy(gpu.by_url[A])
    assert routing.choose("ocr_page") == Choice(Pool.CPU, Reason.GPU_DOWN)
    gpu.answered(gpu.by_url[A])
    assert routing.choose("ocr_page") == Choice(Pool.CPU, Reason.GPU_DOWN)  # it has to stay well for a while
    clock.now += 6
    assert routing.choose("ocr_page") == there
    cpu.unhealthy(cpu.by_url[B])
    assert routing.choose(None) == Choice(Pool.GPU, Reason.CPU_DOWN)


def test_a_required_gpu_has_no_twin_for_its_tools() -> None:
    clock = Clock()
    gpu, cpu = some(clock, A), some(clock, B)
    gpu.unhealthy(gpu.by_url[A])
    routing = Pools(PoolSettings("required", ("ocr_*",)), gpu, cpu, clock=clock)
    assert routing.choose("ocr_page") == Choice(Pool.GPU, Reason.REQUIRED)
    assert routing.choose(None) == Choice(Pool.CPU, Reason.LIGHT)
    assert Pools(PoolSettings(), gpu, cpu).choose("ocr_page") == Choice(Pool.CPU, Reason.NO_GPU)


def test_settings_name_the_key_that_is_wrong() -> None:
    errors: list[str] = []
    replicas.read(Reader({"max_ejected_fraction": 2}, "balancing", errors))
    breaker.read(Reader({"error_rate": 0}, "breaker", errors))
    health.read(Reader({"intervall": 3}, "health", errors))
    budget.read_retry(Reader({"ratio": "much"}, "retry", errors))
    budget.read_hedge(Reader({"enabled": 1}, "hedge", errors))
    pools.read(Reader({"gpu": "maybe", "return_utilisation": 0.95}, "pools", errors))
    keys = [error.split(":")[0] for error in errors]
    assert keys == [
        "balancing.max_ejected_fraction", "breaker.error_rate", "health.intervall", "retry.ratio", "hedge.enabled",
        "pools.gpu", "pools.return_utilisation",
    ]  # fmt: skip
