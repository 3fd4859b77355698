"""Admission: places are never lost or given twice, the queue is fair, groups cannot deadlock."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mcp_gateway.metrics import Metrics
from mcp_gateway.protocol import BUSY, RpcError
from mcp_gateway.reader import Reader
from mcp_gateway.upstream.admission import Admission, Gate, read, read_groups

PRINCIPALS = st.sampled_from(["a", "b", "c"])


class Places(RuleBasedStateMachine):
    """Calls enter, leave and are cancelled at any moment, while the number of places changes."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.places = 2
        self.group = Gate("group g", lambda: 1, 6, 1000)
        self.admission = Admission("x", lambda: self.places, 6, 1000, Metrics(), per_principal=2)
        self.waiting: list[tuple[str, bool, asyncio.Task[None]]] = []
        self.inside: list[tuple[str, bool]] = []

    def settle(self) -> None:
        for _ in range(6):
            self.loop.run_until_complete(asyncio.sleep(0))
        for call in [call for call in self.waiting if call[2].done()]:
            self.waiting.remove(call)
            principal, grouped, task = call
            if not task.cancelled() and task.exception() is None:
                self.inside.append((principal, grouped))

    @rule(principal=PRINCIPALS, grouped=st.booleans(), now=st.booleans())
    def enter(self, principal: str, grouped: bool, now: bool) -> None:
        work = self.admission.enter(principal, self.group if grouped else None)
        self.waiting.append((principal, grouped, self.loop.create_task(work)))
        if now:
            self.settle()

    @precondition(lambda self: self.inside)
    @rule(data=st.data(), now=st.booleans())
    def leave(self, data: st.DataObject, now: bool) -> None:
        principal, grouped = self.inside.pop(data.draw(st.integers(0, len(self.inside) - 1)))
        self.admission.leave(principal, self.group if grouped else None)
        if now:
            self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), now=st.booleans())
    def cancel(self, data: st.DataObject, now: bool) -> None:
        self.waiting[data.draw(st.integers(0, len(self.waiting) - 1))][2].cancel()
        if now:
            self.settle()

    @rule(places=st.integers(0, 4))
    def resize(self, places: int) -> None:
        self.places = places
        self.admission.grant()

    @rule()
    def rest(self) -> None:
        self.settle()
        gate = self.admission.gate
        assert gate.inflight == len(self.inside)
        held = sum(grouped for _, grouped in self.inside)
        assert held <= 1
        assert gate.waiting + self.group.waiting == len(self.waiting)
        counts = Counter(principal for principal, _ in self.inside)
        room = gate.inflight < self.places
        if room:  # nobody waits for nothing: only principals at their limit, or for the group
            assert all(counts[p] >= 2 or (grouped and self.group.inflight) for p, grouped, _ in self.waiting)

    @invariant()
    def bounded(self) -> None:
        assert 0 <= self.group.inflight <= 1
        assert self.admission.gate.inflight >= 0

    def teardown(self) -> None:
        for _, _, task in self.waiting:
            task.cancel()
        self.settle()
        for principal, grouped in self.inside:
            self.admission.leave(principal, self.group if grouped else None)
        gate = self.admission.gate
        assert (gate.inflight, gate.waiting, self.group.inflight, self.group.waiting) == (0, 0, 0, 0)
        self.loop.close()


TestPlaces = Places.TestCase
TestPlaces.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_equal_shares_whatever_is_offered() -> None:
    async def story() -> Counter[str]:
        gate, served = Gate("server x", lambda: 1, 100, 100), Counter[str]()

        async def call(principal: str) -> None:
            await gate.wait(principal)
            served[principal] += 1

        await gate.wait("first")
        calls = [asyncio.ensure_future(call("noisy")) for _ in range(60)]
        calls += [asyncio.ensure_future(call("quiet")) for _ in range(20)]
        await asyncio.sleep(0)
        holder = "first"
        for _ in range(40):
            before = served.copy()
            gate.leave(holder)
            await asyncio.sleep(0)
            holder = next(iter(served - before))
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        return served

    assert asyncio.run(story()) == {"noisy": 20, "quiet": 20}


def test_a_full_queue_makes_room_for_another_principal() -> None:
    async def story() -> None:
        gate = Gate("server x", lambda: 1, 4, 100)
        await gate.wait("noisy")
        noisy = [asyncio.ensure_future(gate.wait("noisy")) for _ in range(4)]
        await asyncio.sleep(0)
        quiet = asyncio.ensure_future(gate.wait("quiet"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(RpcError, match="its queue is full") as refused:
            await noisy[-1]
        assert refused.value.code == BUSY
        gate.leave("noisy")
        await noisy[0]
        gate.leave("noisy")
        await quiet
        assert gate.waiting == 2
        for task in noisy:
            task.cancel()

    asyncio.run(story())


def test_early_refusal_tells_when_to_come_again() -> None:
    now = 0.0

    async def story() -> RpcError:
        nonlocal now
        gate = Gate("server x", lambda: 1, 10, 5.0, clock=lambda: now)
        assert gate.try_enter("a")
        now = 3.0
        gate.leave("a")  # a call takes 3 s
        assert gate.try_enter("a")
        waiting = asyncio.ensure_future(gate.wait("a"))
        await asyncio.sleep(0)
        with pytest.raises(RpcError, match=r"expected in 6\.0 s, a call waits 5 s") as refused:
            await gate.wait("a")
        waiting.cancel()
        return refused.value

    refusal = asyncio.run(story())
    assert (refusal.code, refusal.data) == (BUSY, {"retryAfterMs": 6000})


def test_the_deadline_ends_a_wait() -> None:
    async def story() -> None:
        gate = Gate("server x", lambda: 1, 10, 0.01)
        assert gate.try_enter("a")
        with pytest.raises(RpcError, match=r"no place within 0\.01 s"):
            await gate.wait("b")
        assert (gate.inflight, gate.waiting) == (1, 0)

    asyncio.run(story())


def test_two_servers_share_a_group() -> None:
    async def story() -> int:
        group = Gate("group gpu-heavy", lambda: 1, 50, 100)
        servers = [Admission(name, lambda: 2, 50, 100, Metrics()) for name in ("ocr", "asr")]
        now = most = 0

        async def call(server: Admission, principal: str) -> None:
            nonlocal now, most
            await server.enter(principal, group)
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            server.leave(principal, group)

        await asyncio.gather(*(call(servers[i % 2], f"p{i % 3}") for i in range(30)))
        assert group.inflight == servers[0].gate.inflight == servers[1].gate.inflight == 0
        return most

    assert asyncio.run(story()) == 1


def test_settings_name_the_key_that_is_wrong() -> None:
    errors: list[str] = []
    read(Reader({"queue_seconds": 0}, "admission", errors))
    groups = read_groups(Reader({"gpu": {"max_in_flight": 2}, "bad": {"max_in_flight": 0}}, "groups", errors))
    assert groups["gpu"].max_in_flight == 2
    assert [error.split(":")[0] for error in errors] == ["admission.queue_seconds", "groups.bad.max_in_flight"]
