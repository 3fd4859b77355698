"""Servers that sleep: who waits for them, for how long, and what the autoscaler reads of it."""

from __future__ import annotations

import asyncio

import pytest

from mcp_gateway.protocol import UNAVAILABLE, RpcError
from mcp_gateway.upstream import waking
from mcp_gateway.upstream.waking import Waking


class Server:
    """Has replicas, or not."""

    def __init__(self) -> None:
        self.replicas = 0

    def __call__(self) -> bool:
        return self.replicas > 0


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_parked_call_goes_on_when_there_is_a_replica(server: Server) -> None:
    async def use() -> None:
        sleeper = Waking("ocr", 5.0, 2, server)
        calls = [asyncio.ensure_future(sleeper.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        assert (sleeper.asleep, sleeper.wanted) == (True, 2)
        server.replicas = 1
        await asyncio.wait_for(asyncio.gather(*calls), 2)
        assert (sleeper.asleep, sleeper.wanted) == (False, 0)

    asyncio.run(use())


def test_nobody_waits_for_ever(server: Server) -> None:
    async def use() -> None:
        sleeper = Waking("ocr", 0.2, 2, server)
        with pytest.raises(RpcError, match=r"server ocr sleeps: it did not wake within 0.2 s") as refusal:
            await sleeper.wait()
        assert (refusal.value.code, refusal.value.data) == (UNAVAILABLE, {"retryAfterMs": 1000})
        assert sleeper.wanted == 0

    asyncio.run(use())


def test_so_many_wait_and_no_more(server: Server) -> None:
    async def use() -> None:
        sleeper = Waking("ocr", 5.0, 1, server)
        first = asyncio.ensure_future(sleeper.wait())
        await asyncio.sleep(0)
        with pytest.raises(RpcError, match="1 calls wait for it already"):
            await sleeper.wait()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert sleeper.wanted == 0  # whoever leaves does not count any more

    asyncio.run(use())


def test_it_is_wanted_where_nobody_knows_its_lists(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeper = Waking("ocr", 5.0, 1, server)
    assert sleeper.wanted == 0
    sleeper.ask()
    assert sleeper.wanted == 1
    monkeypatch.setattr(waking, "WANTED_SECONDS", 0.0)
    assert sleeper.wanted == 0
    monkeypatch.undo()
    server.replicas = 1
    assert sleeper.wanted == 0
