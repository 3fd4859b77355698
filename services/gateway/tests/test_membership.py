"""Replicas that are found, vanish and take each other's place, over real connections in one process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from conftest import free_port

from mcp_gateway.hub import Hub
from mcp_gateway.limits import Limiter
from mcp_gateway.metrics import Metrics
from mcp_gateway.net.client import Client
from mcp_gateway.net.messages import Response
from mcp_gateway.net.server import Server
from mcp_gateway.peers import Peers, PeersSettings
from mcp_gateway.peers import replication as module
from mcp_gateway.sessions import Sealer, Session
from mcp_gateway.states import States

KEYS = (b"key",)


class Replica:
    """What of a gateway concerns its peers."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.port = port
        self.cancelled: list[tuple[Any, ...]] = []
        self.client, self.metrics = Client(), Metrics()
        self.states = States(Sealer(KEYS, 3600), Hub(lambda _server: None))
        self.limiter = Limiter()
        self.peers = Peers(
            PeersSettings(),
            KEYS,
            self.states,
            self.limiter,
            self.client,
            self.metrics,
            lambda *call: self.cancelled.append(call),
        )
        self.http = Server(self.peers.take, lambda status, why: Response(status, why.encode()))

    def level(self, session: Session) -> str | None:
        state = self.states.find(session.id)
        return state.level if state else None


@asynccontextmanager
async def replicas(count: int) -> AsyncIterator[list[Replica]]:
    """So many, none of which knows of another."""
    made = [Replica(free_port()) for _ in range(count)]
    for each in made:
        each.client.start()
        each.peers.start()
        await each.http.listen("127.0.0.1", each.port)
    try:
        yield made
    finally:
        for each in made:
            await each.peers.stop()
            each.client.close()
            await each.http.close(0.1)


async def until(condition: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - the code under test announces nothing
            await asyncio.sleep(0.01)


def opened() -> Session:
    return Session(Sealer.new_id(), "2025-11-25", "me", "/mcp", int(time.time()))


def test_a_replica_that_is_found_learns_what_was_set_before() -> None:
    """Whichever of the two finds the other first: it asks for all that is known, or is told what changed of late."""

    async def check(finder: int) -> None:
        async with replicas(2) as both:
            session = opened()
            both[0].states.set_level(session, "error")
            both[finder].peers.found({both[1 - finder].url})
            await until(lambda: both[1].level(session) == "error", "the other knows")

    for finder in (0, 1):
        asyncio.run(check(finder))


def test_one_that_knows_everything_is_asked_for_the_lot_and_nobody_else() -> None:
    async def check() -> None:
        async with replicas(4) as (new, *others):
            for each in others:
                each.peers.found({other.url for other in others})
            await until(lambda: all(len(_well(each)) == 2 for each in others), "the others know each other")
            await until(lambda: all(each.peers.ready for each in others), "and what there is to know")
            asked: list[Replica] = []
            for each in others:
                _watched(each, asked)
            new.peers.found({each.url for each in (new, *others)})
            await until(lambda: len(_well(new)) == 3, "it knows all, and itself")
            assert len(asked) == 1

    asyncio.run(check())


def _well(replica: Replica) -> list[str]:
    text = replica.metrics.text().decode()
    reachable = next(line for line in text.splitlines() if line.startswith('mcp_gateway_peers{state="reachable"}'))
    return ["well"] * int(float(reachable.split()[1]))


def _watched(replica: Replica, asked: list[Replica]) -> None:
    """Note when it is asked for the lot."""
    give = replica.peers._give

    def noted(*request: Any) -> Any:
        asked.append(replica)
        return give(*request)

    replica.peers._give = noted  # type: ignore[method-assign]


def test_a_lot_of_many_parts_is_learnt_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 500)

    async def check() -> None:
        async with replicas(2) as (old, new):
            sessions = [opened() for _ in range(200)]
            for session in sessions[:150]:
                old.states.set_level(session, "error")
            for session in sessions[150:]:
                old.states.end(session)
            old.peers.found(set())
            new.peers.found({old.url})
            assert not new.peers.ready
            await until(lambda: new.peers.ready, "it has learnt all")
            assert all(new.states.news(session.id) == old.states.news(session.id) for session in sessions)

    asyncio.run(check())


def test_one_that_vanished_is_told_nothing_and_when_it_is_back_what_it_missed() -> None:
    async def check() -> None:
        async with replicas(2) as (one, two):
            session = opened()
            one.peers.found({two.url})
            await until(lambda: _well(one), "they have met")
            one.peers.found(set())
            one.states.set_level(session, "error")
            one.peers.cancel("/mcp", session.id, 1)
            await asyncio.sleep(0.2)
            assert two.level(session) is None
            one.peers.found({two.url})
            await until(lambda: two.level(session) == "error", "it knows")
            one.peers.cancel("/mcp", session.id, 2)
            await until(lambda: two.cancelled, "it is told")
            assert two.cancelled == [("/mcp", session.id, 2)]

    asyncio.run(check())


def test_what_could_not_be_told_is_told_later() -> None:
    async def check() -> None:
        async with replicas(2) as (one, two):
            sessions = [opened() for _ in range(50)]
            one.peers.found({two.url})
            await until(lambda: _well(one), "they have met")
            await two.http.close(0.1)
            for session in sessions:
                one.states.set_level(session, "error")
                await asyncio.sleep(0)
            await until(lambda: not _well(one), "it is away")
            two.http = Server(two.peers.take, lambda status, why: Response(status, why.encode()))
            await two.http.listen("127.0.0.1", two.port)
            await until(lambda: all(two.level(session) == "error" for session in sessions), "it knows them all")

    asyncio.run(check())


def test_another_in_the_place_of_one_is_told_anew() -> None:
    """It may have found nobody that knew: a list names this one alone, which started after it."""

    async def check() -> None:
        async with replicas(2) as (one, two):
            session = opened()
            one.peers.found({two.url})
            await until(lambda: _well(one), "they have met")
            one.states.set_level(session, "error")
            await until(lambda: two.level(session) == "error", "it knows")
            await two.http.close(0.1)
            other = Replica(two.port)
            other.client.start()
            await other.http.listen("127.0.0.1", other.port)
            await until(lambda: other.level(session) == "error", "the new one knows as well")
            await other.http.close(0.1)
            other.client.close()

    asyncio.run(check())
