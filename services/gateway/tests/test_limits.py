"""Rates and requests in flight: the arithmetic of the buckets, and that their number stays bounded."""

from __future__ import annotations

from fractions import Fraction

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway import limits
from mcp_gateway.limits import Limiter, Limits, Rate
from mcp_gateway.reader import Reader


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def read(text: str) -> tuple[Limits, list[str]]:
    errors: list[str] = []
    return limits.read(Reader(yaml.safe_load(text), "limits", errors), ("time", "git")), errors


@given(
    interval=st.integers(1, 500),
    burst=st.integers(1, 12),
    gaps=st.lists(st.integers(0, 2000), min_size=1, max_size=60),
)
def test_a_bucket_is_a_token_bucket(interval: int, burst: int, gaps: list[int]) -> None:
    """Beside a bucket that counts its tokens in whole numbers; times are in sixty-fourths of a second, so exact."""
    clock = Clock()
    limiter, wanted = Limiter(clock), Limits(Rate(interval / 64, burst))
    tokens = Fraction(burst)
    for gap in gaps:
        clock.now += gap / 64
        tokens = min(Fraction(burst), tokens + Fraction(gap, interval))
        wait = limiter.take("a", wanted)
        if tokens >= 1:
            assert wait == 0.0
            tokens -= 1
        else:
            assert wait == pytest.approx(float((1 - tokens) * interval / 64))


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["", "time", "git"]), st.integers(0, 40)), max_size=60)
)
def test_waiting_as_told_is_enough_and_less_is_not(steps: list[tuple[str, str, int]]) -> None:
    clock = Clock()
    limiter = Limiter(clock)
    wanted = Limits(Rate(1.0, 4), {"time": Rate(2.0, 2)})
    for who, server, gap in steps:
        clock.now += gap / 64
        wait = limiter.take(who, wanted, server)
        if wait:
            clock.now += wait * 0.9
            assert limiter.take(who, wanted, server) > 0.0
            clock.now += wait * 0.1 + 1e-6
            assert limiter.take(who, wanted, server) == 0.0


def test_a_refusal_by_one_bucket_takes_nothing_from_the_other() -> None:
    clock = Clock()
    limiter, wanted = Limiter(clock), Limits(Rate(10.0, 3), {"time": Rate(60.0, 1)})
    assert limiter.take("a", wanted, "time") == 0.0
    assert limiter.take("a", wanted, "time") == pytest.approx(60.0)
    assert [limiter.take("a", wanted, "git") for _ in range(2)] == [0.0, 0.0]
    assert limiter.take("a", wanted) == pytest.approx(10.0)
    clock.now += 60
    assert [limiter.take("a", wanted) for _ in range(3)] == [0.0] * 3
    assert limiter.take("a", wanted, "time") == pytest.approx(10.0), "the server's bucket is full, the other is empty"
    clock.now += 10
    assert limiter.take("a", wanted, "time") == 0.0


def test_principals_do_not_touch_each_other() -> None:
    limiter, wanted = Limiter(Clock()), Limits(Rate(1.0, 1))
    assert limiter.take("a", wanted) == 0.0
    assert limiter.take("a", wanted) > 0.0
    assert limiter.take("b", wanted) == 0.0


def test_no_limit_needs_no_bucket() -> None:
    limiter = Limiter(Clock())
    assert all(limiter.take("a", Limits(), "time") == 0.0 for _ in range(1000))
    assert len(limiter) == 0


def test_the_number_of_buckets_is_bounded_and_the_emptiest_stay() -> None:
    clock = Clock()
    limiter, wanted = Limiter(clock, max_buckets=100), Limits(Rate(1.0, 10))
    for _ in range(10):
        limiter.take("greedy", wanted)
    for index in range(5000):
        clock.now += 0.0001
        assert limiter.take(f"p{index}", wanted) == 0.0
        assert len(limiter) <= 100
    assert limiter.take("greedy", wanted) > 0.0, "nobody gets a new bucket by a crowd of others"


def test_full_buckets_are_forgotten_first() -> None:
    clock = Clock()
    limiter, wanted = Limiter(clock, max_buckets=10), Limits(Rate(1.0, 2))
    for index in range(10):
        limiter.take(f"old{index}", wanted)
    clock.now += 2
    limiter.take("new", wanted)
    assert len(limiter) == 1


def test_a_changed_limit_counts_at_once() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    assert [limiter.take("a", Limits(Rate(1.0, 5))) for _ in range(5)] == [0.0] * 5
    assert limiter.take("a", Limits(Rate(1.0, 5))) > 0.0
    assert limiter.take("a", Limits(Rate(0.1, 100))) == 0.0
    assert limiter.take("a", Limits()) == 0.0


# -- several replicas --------------------------------------------------------------------------------------------------


class Replica:
    """A limiter, and whether it has something to tell."""

    def __init__(self, clock: Clock) -> None:
        self.limiter = Limiter(clock)
        self.notices: list[bool] = []
        self.limiter.share(self.notices.append)

    def tell(self, *others: Replica) -> None:
        for bucket, seconds in self.limiter.taken().items():
            for other in others:
                other.limiter.also_taken(bucket, seconds)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), max_size=80))
def test_replicas_that_tell_each_other_at_once_are_as_one(steps: list[tuple[int, int]]) -> None:
    clock = Clock()
    alone, wanted = Limiter(clock), Limits(Rate(1.0, 4), {"time": Rate(2.0, 2)})
    replicas = [Replica(clock) for _ in range(3)]
    for index, gap in steps:
        clock.now += gap / 64
        server = "time" if gap % 2 else ""
        assert replicas[index].limiter.take("a", wanted, server) == alone.take("a", wanted, server)
        replicas[index].tell(*(other for other in replicas if other is not replicas[index]))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 12), st.booleans()), min_size=1, max_size=120))
def test_what_passed_before_they_knew_is_paid_back(steps: list[tuple[int, int, bool]]) -> None:
    """Never more than a bucket each at once; and over any time no more than the rate and that."""
    clock, burst = Clock(), 5
    wanted, replicas = Limits(Rate(1.0, burst)), [Replica(clock) for _ in range(3)]
    start, passed = clock.now, 0
    for index, gap, told in steps:
        clock.now += gap / 64
        passed += replicas[index].limiter.take("a", wanted) == 0.0
        if told:
            for each in replicas:
                each.tell(*(other for other in replicas if other is not each))
        assert passed <= 3 * burst + (clock.now - start) * 3
    for each in replicas:
        each.tell(*(other for other in replicas if other is not each))
    # From now on each knows all, and lets nothing through until the fleet is where one gateway would be.
    while clock.now - start < passed - burst + 1 - 1e-6:
        clock.now += 1 / 64
        due = clock.now - start
        if passed + 1 > burst + due + 1e-6:
            assert all(each.limiter.take("a", wanted) > 0.0 for each in replicas)


def test_what_is_taken_is_to_be_told_and_a_good_part_of_a_bucket_soon() -> None:
    clock = Clock()
    replica, wanted = Replica(clock), Limits(Rate(0.5, 40))
    for _ in range(4):
        replica.limiter.take("a", wanted)
    assert replica.notices == [False]
    replica.limiter.take("a", wanted)
    replica.limiter.take("a", wanted)
    assert replica.notices == [False, True]
    assert replica.limiter.taken() == {"a": 3.0}
    assert replica.limiter.taken() == {}
    replica.limiter.also_taken("a", 1.0)
    assert replica.limiter.taken() == {}, "what others took is theirs to tell"
    replica.limiter.take("a", wanted)
    assert replica.notices == [False, True, False]


def test_a_replica_that_starts_takes_over_how_full_the_buckets_are() -> None:
    clock = Clock()
    old, new, wanted = Limiter(clock), Limiter(clock), Limits(Rate(1.0, 3))
    for _ in range(3):
        old.take("a", wanted)
    for bucket, seconds in old.levels().items():
        new.at_most(bucket, seconds)
        new.at_most(bucket, seconds / 2)
    assert new.take("a", wanted) == old.take("a", wanted) == pytest.approx(1.0)
    clock.now += 3
    assert old.levels() == {}


@given(st.lists(st.sampled_from(["enter", "leave"]), max_size=60))
def test_requests_in_flight_are_counted(steps: list[str]) -> None:
    limiter, wanted, count = Limiter(Clock()), Limits(max_in_flight=3), 0
    for step in steps:
        if step == "enter":
            assert limiter.enter("a", wanted) is (count < 3)
            count = min(3, count + 1)
        elif count:
            limiter.leave("a")
            count -= 1
        assert limiter.in_flight("a") == count
    assert limiter.in_flight("b") == 0


def test_settings_are_read() -> None:
    found, errors = read(
        "{requests_per_minute: 120, burst: 5, max_in_flight: 8, servers: {git: {requests_per_minute: 6}}}"
    )
    assert errors == []
    assert found == Limits(Rate(0.5, 5), {"git": Rate(10.0, 1)}, 8)
    assert read("requests_per_minute: 600")[0].rate == Rate(0.1, 100)
    assert read("{}") == (Limits(), [])


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("requests_per_minute: -1", "limits.requests_per_minute: -1"),
        ("requests_per_minute: many", "limits.requests_per_minute: 'many'"),
        ("{requests_per_minute: 1, burst: 0}", "limits.burst: 0"),
        ("burst: 3", "limits.burst: 3, but no requests_per_minute"),
        ("max_in_flight: -1", "limits.max_in_flight"),
        ("servers: {gti: {requests_per_minute: 1}}", "limits.servers.gti: no such server; there are git, time"),
        ("servers: {git: {rpm: 1}}", "limits.servers.git.rpm: unknown key"),
    ],
)
def test_a_mistake_names_its_key(text: str, mistake: str) -> None:
    _, errors = read(text)
    assert any(mistake in error for error in errors), errors
