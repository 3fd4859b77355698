"""A client's rate is one for all gateway replicas together, whichever of them it asks, and whichever of them dies."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Running, wait_until

from rules.clients import Client2026
from rules.family import Family
from rules.upstream import Server2026, tool

pytestmark = pytest.mark.integration
Json = dict[str, Any]
Launch = Callable[..., Running]
BUSY = -31002
PER_SECOND, BURST = 10, 8


@pytest.fixture(scope="module")
def server() -> Iterator[Server2026]:
    new = Server2026()
    new.tools = [tool("echo")]
    yield new
    new.stop()


def family(launch: Launch, directory: Path, server: Server2026, size: int, **limits: int) -> Family:
    servers = [{"name": "new", "url": server.url}]
    return Family(launch, directory, servers, size, profiles={"default": {"limits": limits}})


def passes(client: Client2026) -> bool:
    """Whether a call is let through; what is not must be told when to come again."""
    answer = client.call("new__echo")
    if "result" in answer:
        return True
    assert answer["error"]["code"] == BUSY
    assert answer["error"]["data"]["retryAfterMs"] > 0
    return False


def hammer(replicas: list[Running], seconds: float) -> tuple[int, int, float]:
    """Call at all replicas as fast as they answer; calls made and let through, and how long it took."""

    def one(replica: Running) -> tuple[int, int]:
        client, made, passed = Client2026(replica.url), 0, 0
        while time.monotonic() < end:
            passed += passes(client)
            made += 1
        return made, passed

    start = time.monotonic()
    end = start + seconds
    with concurrent.futures.ThreadPoolExecutor(len(replicas)) as pool:
        counts = list(pool.map(one, replicas))
    return sum(made for made, _ in counts), sum(passed for _, passed in counts), time.monotonic() - start


def test_replicas_let_through_one_rate_together(launch: Launch, server: Server2026, tmp_path: Path) -> None:
    """Three at which a client calls at once pass what one would, and at most a bucket of each more; so do the two that
    are left."""
    fleet = family(launch, tmp_path, server, 3, requests_per_minute=60 * PER_SECOND, burst=BURST)
    made, passed, seconds = hammer(fleet.replicas, 6)
    allowed = BURST + PER_SECOND * seconds
    print(f"3 replicas, {seconds:.1f} s: {made} calls, {passed} let through, {allowed:.0f} are allowed")
    assert made > 2 * allowed, "there was more to let through"
    assert 0.8 * PER_SECOND * seconds <= passed <= allowed + 2 * BURST

    fleet.kill(2)
    made, passed, seconds = hammer(fleet.replicas[:2], 5)
    allowed = BURST + PER_SECOND * seconds
    print(f"2 are left, {seconds:.1f} s: {made} calls, {passed} let through, {allowed:.0f} are allowed")
    assert made > 2 * allowed
    assert 0.8 * PER_SECOND * seconds - 2 * BURST <= passed <= allowed + BURST


def test_a_client_of_one_replica_has_its_whole_rate_there(launch: Launch, server: Server2026, tmp_path: Path) -> None:
    """The others, one that is away among them, take nothing from it."""
    fleet = family(launch, tmp_path, server, 2, requests_per_minute=1, burst=6)
    fleet.kill(1)
    client = Client2026(fleet.replicas[0].url)
    assert [passes(client) for _ in range(7)] == [True] * 6 + [False]


def test_a_replica_that_starts_knows_what_was_taken(launch: Launch, server: Server2026, tmp_path: Path) -> None:
    fleet = family(launch, tmp_path, server, 2, requests_per_minute=1, burst=3)
    here, there = (Client2026(replica.url) for replica in fleet.replicas)
    assert passes(here)
    assert passes(here)
    assert passes(here)
    wait_until(lambda: not passes(there), "the other knows")
    fleet.kill(1)
    fleet.again(1)
    assert not passes(Client2026(fleet.replicas[1].url))
