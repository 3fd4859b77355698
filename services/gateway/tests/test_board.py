"""The board: maintenance and canaries, with real gateways, real servers and a real board between them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from conftest import LEGACY, Modern, Running, free_port, message_of, wait_until
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from rules.upstream import Server2025, tool

from mcp_gateway import passes
from mcp_gateway.board import CanaryAt, document
from mcp_gateway.board.settings import read as read_settings
from mcp_gateway.board.sides import BOUNDS, Side, Sides, added
from mcp_gateway.maintenance import Maintenance
from mcp_gateway.reader import Reader
from mcp_gateway.upstream.call import Call
from mcp_gateway.upstream.canary import Canary

Start = Callable[..., Running]
Json = dict[str, Any]
KEY = "k" * 43
FAR = 4_000_000_000


# -- parts -------------------------------------------------------------------------------------------------------------


def test_what_is_no_document_names_each_mistake() -> None:
    wrong = {
        "maintenance": {"x": {"why": 1}},
        "canaries": {"y": {"share": 101}, "z": {"name": "n", "port": 0, "more": 1}},
        "else": 1,
    }
    with pytest.raises(ValueError, match="number: missing") as refusal:
        document.read(wrong)
    for key in ("maintenance.x.why", "canaries.y.share", "canaries.y.name", "z.port", "z.more", "else: unknown key"):
        assert key in str(refusal.value)


def test_a_board_needs_a_name_and_session_keys() -> None:
    errors: list[str] = []
    read_settings(Reader({"dns": {"port": 1}}, "board", errors), keys=True)
    read_settings(Reader({"dns": {"name": "tasks.x"}}, "board", errors), keys=False)
    assert ["board.dns.name: missing" in errors[0], "sessions.key_files is missing" in errors[1]] == [True, True]


def test_passes_are_good_for_their_time_and_key_alone() -> None:
    soon = int(time.time()) + 60
    made = passes.made(b"a", soon)
    assert passes.good(made, [b"b", b"a"])
    assert not passes.good(made, [b"b"])
    assert not passes.good(passes.made(b"a", soon - 61), [b"a"])
    for value in ("", "x", f"{soon + 1}.{made.partition('.')[2]}", "9" * 400 + ".x", "²³.x", f"{soon}.ü"):
        assert not passes.good(value, [b"a"])


def test_a_percentile_is_right_to_a_bucket_and_sums_are_sums() -> None:
    one, other, chance = Sides(7), Sides(7), random.Random(1)
    values = [chance.uniform(0.001, 0.4) for _ in range(1000)]
    for index, value in enumerate(values):
        (one if index % 2 else other).canary.note(value, failed=index % 10 == 0)
    total = added([one, other])
    assert (total["replicas"], total["canary"]["calls"], total["canary"]["failed"]) == (2, 1000, 100)
    assert total["canary"]["p95_ms"] == pytest.approx(1000 * sorted(values)[949], rel=0.25)
    assert total["stable"] == {"calls": 0, "failed": 0, "p50_ms": None, "p95_ms": None}
    slow = Side()
    slow.note(10_000, failed=False)
    assert slow.percentile(0.95) == BOUNDS[-1]
    assert Sides.of(one.report()).report() == one.report()


@pytest.mark.parametrize("value", [None, {}, {"number": 1, "stable": {}, "canary": {}}, {"number": "x"}])
def test_what_is_no_report_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match="report"):
        Sides.of(value)


class Replicas:
    """Of one replica that is well."""

    usable = 1

    def __init__(self) -> None:
        self.by_url = {"http://c/mcp": 1}


def some_canary(share: float, *, sticky: bool = False, until: float = FAR, on_gpu: bool = False) -> Canary:
    stable: Any = SimpleNamespace(
        name="x",
        server=SimpleNamespace(sticky=sticky),
        clients=SimpleNamespace(url_of=lambda key: {"old": "http://o/mcp"}.get(key)),
        on_gpu=lambda _call: on_gpu,
    )
    upstream: Any = SimpleNamespace(
        replicas=Replicas(),
        queue=lambda: {"running": 0, "places": 4},
        clients=SimpleNamespace(url_of=lambda _key: None),
    )
    at = CanaryAt("c", 8000, "/mcp", share, 100.0, until, 1)
    return Canary(at, stable, upstream, random.Random(3).random)


async def taken(canary: Canary, calls: int) -> Counter[str]:
    """Who takes calls, some of which are sent without waiting where the canary does not want them."""
    found: Counter[str] = Counter()

    async def new(_call: Call) -> Json:
        found["canary"] += 1
        return {}

    async def old(_call: Call) -> Json:
        found["stable"] += 1
        return {}

    canary.upstream.request = new
    for number in range(calls):
        call = Call("tools/call", {}, principal="p")
        if number % 3 and not canary.wants(call):
            canary.passed()
            found["stable"] += 1
        else:
            await canary.carry(call, old)
    return found


@pytest.mark.parametrize("share", [1, 10, 50, 100])
def test_a_canary_gets_its_share_whichever_way_calls_take(share: float) -> None:
    found = asyncio.run(taken(some_canary(share), 6000))
    assert found["canary"] / 6000 == pytest.approx(share / 100, rel=0.25)


@pytest.mark.parametrize(("share", "until"), [(0, FAR), (50, 1.0)])
def test_without_a_share_or_after_its_time_it_gets_nothing(share: float, until: float) -> None:
    assert asyncio.run(taken(some_canary(share, until=until), 200)) == {"stable": 200}


@pytest.mark.parametrize("on_gpu", [False, True])
def test_a_canary_is_not_compared_with_what_gpus_do(on_gpu: bool) -> None:
    async def every() -> Counter[str]:
        canary, found = some_canary(50, on_gpu=on_gpu), Counter[str]()

        async def new(_call: Call) -> Json:
            return {}

        async def old(_call: Call) -> Json:
            found["stable"] += 1
            return {}

        canary.upstream.request = new
        for _ in range(100):  # servers with a GPU pool send nothing without waiting
            await canary.carry(Call("tools/call", {}, principal="p"), old)
        return found + Counter({"seen": canary.sides.stable.calls, "canary": canary.sides.canary.calls})

    found = asyncio.run(every())
    assert found["canary"] + found["stable"] == 100
    assert 30 < found["canary"] < 70
    assert found["seen"] == (0 if on_gpu else found["stable"])


def test_sessions_are_divided_by_their_key_and_stay() -> None:
    canary = some_canary(20, sticky=True)
    keys = [f"p/{number}" for number in range(3000)]
    mine = [key for key in keys if canary.takes_session(key)]
    assert len(mine) / 3000 == pytest.approx(0.2, rel=0.25)
    assert all(canary.wants(Call("tools/call", {}, principal="p", session_key=key, born=100)) for key in mine)
    for born in (0, 99):  # no session, and one from before
        assert not any(canary.wants(Call("tools/call", {}, principal="p", session_key=key, born=born)) for key in mine)


def test_what_was_begun_goes_on_in_maintenance() -> None:
    maintenance = Maintenance((b"k",))
    maintenance.notices = {"*": document.Notice("moving")}
    new: list[Json] = [{"id": 1, "method": method} for method in ("tools/call", "initialize", "tools/list")]
    begun: list[Json] = [
        {"id": 1, "result": {}},
        {"method": "notifications/cancelled"},
        {"id": 1, "method": "ping"},
        {"id": 1, "method": "tasks/get", "params": {}},
        {"id": 1, "method": "tools/call", "params": {"requestState": "x"}},
    ]
    assert all(maintenance.refusal("x", body) for body in new)
    assert not any(maintenance.refusal("x", body) for body in begun)


# -- with processes ----------------------------------------------------------------------------------------------------


class Fleet:
    """Two gateways, a server with an old replica and a new one, another server, and the board."""

    def __init__(
        self, launch: Start, fixture_server: Start, directory: Path, pair: Sequence[Any] = (), **keys: Any
    ) -> None:
        self.launch, self.directory = launch, directory
        if not pair:
            pair = [(server := fixture_server(), str(server.process.pid)) for _ in range(2)]
        (self.old, self.new), self.names = zip(*pair, strict=True)
        self.other = fixture_server()
        self.port, self.board, self.number = free_port(), None, 0
        (directory / "seal").write_text(KEY)
        self.servers = [
            {"name": "fix", "url": f"{self.old.url}/mcp", **keys},
            {"name": "other", "url": f"{self.other.url}/mcp"},
        ]
        self.gateways = [self.gateway(), self.gateway()]

    def gateway(self, *, ready: bool = True) -> Running:
        port = free_port()
        path = self.directory / f"gateway-{port}.json"
        settings = {
            "listen": {"port": port},
            "sessions": {"key_files": [str(self.directory / "seal")]},
            "board": {"dns": {"name": "127.0.0.1", "port": self.port}},
            "servers": self.servers,
        }
        path.write_text(json.dumps(settings))
        running = self.launch(sys.executable, "-m", "mcp_gateway", "serve", "--config", str(path), port=port)
        if ready:
            wait_until(lambda: httpx2.get(f"{running.url}/readyz").status_code == 200, "the gateway is ready")
        return running

    def say(self, *, key: str = KEY, **document: Any) -> int:
        """Put up another board; returns its number."""
        self.take_down()
        self.number += 1
        path, seal = self.directory / f"board-{self.number}.json", self.directory / f"seal-{key[0]}"
        path.write_text(json.dumps({"number": self.number, **document}))
        seal.write_text(key)
        command = ["-m", "mcp_gateway", "board", "--file", str(path), "--key-file", str(seal), "--port", str(self.port)]
        self.board = self.launch(sys.executable, *command, port=self.port)
        return self.number

    def said(self, **document: Any) -> None:
        """The same, and wait until all gateways know."""
        number = self.say(**document)
        for gateway in self.gateways:
            wait_until(lambda g=gateway: status(g)["board"]["number"] == number, "the gateway knows")

    def take_down(self) -> None:
        if self.board:
            self.board.stop()

    def canary(self, share: float, until: float = FAR, since: float = 0.0) -> Json:
        at = {"name": "127.0.0.1", "port": self.new.port, "share": share, "since": since, "until": until, "number": 1}
        return {"canaries": {"fix": at}}


@pytest.fixture
def fleet(launch: Start, fixture_server: Start, tmp_path: Path) -> Fleet:
    return Fleet(launch, fixture_server, tmp_path)


def status(gateway: Running) -> Json:
    return dict(httpx2.get(f"{gateway.url}/status").json())


def state(gateway: Running) -> Json:
    """Of the server with the canary."""
    return next(dict(server) for server in status(gateway)["servers"] if server["name"] == "fix")


def pass_of(key: str = KEY) -> dict[str, str]:
    return {"x-mcp-pass": passes.made(key.encode(), int(time.time()) + 60)}


def who(client: Modern, **options: Any) -> str:
    answer = client.call("whoami", {}, path="/servers/fix/mcp", **options)
    return str(answer["result"]["content"][0]["text"])


@pytest.mark.integration
def test_a_canary_is_seen_and_tried_and_has_no_traffic(fleet: Fleet) -> None:
    fleet.said(**fleet.canary(0))
    for gateway in fleet.gateways:
        wait_until(lambda g=gateway: state(g)["canary"]["era"], "the canary was asked")
        seen = state(gateway)["canary"]
        assert [replica["healthy"] for replica in seen["replicas"]] == [True]
        assert (seen["share"], seen["active"]) == (0, False)
        assert len(state(gateway)["replicas"]) == 1  # those that serve
        client = Modern(gateway.url)
        assert {who(client) for _ in range(40)} == {fleet.names[0]}
        path = "/servers/fix/canary/mcp"
        for headers in ({}, pass_of("x" * 43)):
            assert client.post("tools/list", path=path, headers=headers).status_code == 404
        listed = message_of(client.post("tools/list", path=path, headers=pass_of()))
        assert "whoami" in {tool["name"] for tool in listed["result"]["tools"]}
        tried = client.call("whoami", {}, path=path, headers=pass_of())
        assert tried["result"]["content"][0]["text"] == fleet.names[1]

    async def official() -> str:
        async with httpx2.AsyncClient(headers=pass_of()) as http:
            transport = streamable_http_client(f"{fleet.gateways[0].url}/servers/fix/canary/mcp", http_client=http)
            async with Client(transport, mode="legacy") as client:
                assert (await client.list_tools()).tools
                return str((await client.call_tool("whoami", {})).content[0].text)

    assert asyncio.run(asyncio.wait_for(official(), 30)) == fleet.names[1]
    fleet.said()
    assert state(fleet.gateways[0])["canary"] is None
    assert Modern(fleet.gateways[0].url).post("tools/list", path=path, headers=pass_of()).status_code == 404


@pytest.mark.integration
def test_a_canary_takes_its_share_and_all_gateways_know_what_became_of_it(fleet: Fleet) -> None:
    fleet.said(**fleet.canary(30))
    clients = [Modern(gateway.url) for gateway in fleet.gateways]
    for gateway in fleet.gateways:
        wait_until(lambda g=gateway: state(g)["canary"]["active"], "the canary takes calls")
    calls: Counter[str] = Counter()
    for number in range(200):
        calls[who(clients[number % 2])] += 1
    for client in clients:
        for _ in range(20):
            client.call("fail", {}, path="/servers/fix/mcp")
    mine = calls[fleet.names[1]]
    assert 30 <= mine <= 95  # of 200, 60 are to be expected

    def settled() -> Json | None:
        seen = [state(gateway)["canary"]["seen"] for gateway in fleet.gateways]
        total = seen[0]["canary"]["calls"] + seen[0]["stable"]["calls"]
        return dict(seen[0]) if seen[0] == seen[1] and seen[0]["replicas"] == 2 and total == 240 else None

    seen = wait_until(settled, "both know the sum", 10)
    assert seen["canary"]["failed"] + seen["stable"]["failed"] == 40
    assert seen["canary"]["calls"] - seen["canary"]["failed"] == mine
    assert 0 < seen["canary"]["p50_ms"] <= seen["canary"]["p95_ms"] < 5000
    text = httpx2.get(f"{fleet.gateways[0].url}/metrics").text
    assert 'mcp_gateway_canary_share{server="fix"} 30.0' in text
    assert 'mcp_gateway_canary_calls_total{outcome="ok",pool="canary",server="fix"}' in text

    fleet.new.process.kill()  # nothing is lost by its death: what could not be sent goes to the old replica
    fleet.new.process.wait()
    assert {who(clients[number % 2]) for number in range(60)} == {fleet.names[0]}


@pytest.fixture
def pair() -> Iterator[Callable[[], list[tuple[Any, str]]]]:
    """Two servers of an era, each with what its tool says of itself."""
    made: list[Server2025] = []

    def start(name: str) -> tuple[Any, str]:
        server = Server2025()
        made.append(server)
        server.tools = [tool("whoami")]
        server.tool["whoami"] = lambda exchange: exchange.result({"content": [{"type": "text", "text": name}]})
        return SimpleNamespace(url=server.url.removesuffix("/mcp"), port=urlsplit(server.url).port), name

    yield lambda: [start("old"), start("new")]
    for server in made:
        server.stop()


@pytest.mark.integration
@pytest.mark.parametrize("era", ["2025", "2026"])
def test_sessions_of_a_sticky_server_go_to_the_canary_and_back(
    launch: Start, fixture_server: Start, pair: Callable[[], list[tuple[Any, str]]], tmp_path: Path, era: str
) -> None:
    """Of 2025 they are sessions at the server too; of 2026 the client's alone."""
    fleet = Fleet(launch, fixture_server, tmp_path, pair() if era == "2025" else [], sessions="sticky")
    old, new = fleet.names
    url = f"{fleet.gateways[0].url}/servers/fix/mcp"

    async def use() -> None:
        async with Client(url, mode="legacy") as before:

            async def asked(client: Client) -> str:
                return str((await client.call_tool("whoami", {})).content[0].text)

            assert await asked(before) == old
            await asyncio.sleep(1.1)  # times of sessions are whole seconds
            await asyncio.to_thread(fleet.said, **fleet.canary(100, since=time.time()))
            await asyncio.to_thread(
                wait_until, lambda: state(fleet.gateways[0])["canary"]["active"], "the canary takes sessions"
            )
            async with Client(url, mode="legacy") as later:
                for _ in range(5):
                    # A session that there was stays where it is.
                    assert [await asked(later), await asked(before)] == [new, old]
                await asyncio.to_thread(fleet.said)
                assert [await asked(later), await asked(before)] == [old, old]

    asyncio.run(asyncio.wait_for(use(), 60))


@pytest.mark.integration
def test_in_maintenance_new_calls_are_refused_and_those_in_flight_end(
    launch: Start, fixture_server: Start, gate_server: Start, tmp_path: Path
) -> None:
    fleet = Fleet(launch, fixture_server, tmp_path, [(gate_server(), name) for name in ("old", "new")])
    gateway = fleet.gateways[0]
    client = Modern(gateway.url)
    until = int(time.time()) + 600
    notice = {"why": "the disks are moved", "who": "ada", "since": until - 700, "until": until}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(Modern(gateway.url).call, "hold", {"directory": str(tmp_path)}, path="/servers/fix/mcp")
        wait_until(lambda: (tmp_path / "started").exists(), "the call has begun")
        fleet.said(maintenance={"*": notice})
        assert not running.done()
        for path in ("/mcp", "/servers/fix/mcp"):
            refused = client.post("tools/list", path=path)
            assert refused.status_code == 503
            assert 500 < int(refused.headers["retry-after"]) <= 600
            error = refused.json()["error"]
            assert (refused.json()["id"], error["code"]) == (1, -31001)
            assert "the fleet is in maintenance, until 20" in error["message"]
            assert error["message"].endswith(": the disks are moved")
            assert error["data"]["maintenance"]["who"] == "ada"
        assert client.post("tools/list", headers=pass_of()).status_code == 200
        assert client.post("tools/list", headers=pass_of("x" * 43)).status_code == 503
        assert httpx2.get(f"{gateway.url}/mcp", headers={"MCP-Protocol-Version": LEGACY}).status_code == 503
        (tmp_path / "release").touch()
        assert running.result(30)["result"]["content"][0]["text"] == "released"
    assert httpx2.get(f"{gateway.url}/healthz").status_code == httpx2.get(f"{gateway.url}/readyz").status_code == 200
    assert status(gateway)["maintenance"]["*"]["why"] == "the disks are moved"
    assert 'mcp_gateway_maintenance{server="*"} 1.0' in httpx2.get(f"{gateway.url}/metrics").text
    assert "the disks are moved" in httpx2.get(f"{gateway.url}/console").text

    async def official(mode: str) -> str:
        with pytest.raises((MCPError, ExceptionGroup)) as refusal:
            async with Client(f"{gateway.url}/mcp", mode=mode):
                pass
        cause: BaseException = refusal.value
        while isinstance(cause, ExceptionGroup):
            cause = cause.exceptions[0]
        return str(cause)

    assert "the disks are moved" in asyncio.run(asyncio.wait_for(official("legacy"), 30))

    # Neither a restart of a gateway nor the loss of the board opens the fleet.
    late = fleet.gateway(ready=False)
    wait_until(lambda: httpx2.get(f"{late.url}/readyz").status_code == 200, "the gateway is ready")
    assert Modern(late.url).post("tools/list").status_code == 503
    fleet.take_down()
    time.sleep(2.5)
    assert client.post("tools/list").status_code == 503
    fleet.said()
    assert client.post("tools/list").status_code == 200


@pytest.mark.integration
def test_maintenance_of_one_server_leaves_the_others_alone(fleet: Fleet) -> None:
    fleet.said(maintenance={"fix": {"why": "new disk"}})
    client = Modern(fleet.gateways[1].url)
    names = {tool["name"] for tool in message_of(client.post("tools/list"))["result"]["tools"]}
    assert {"fix__add", "other__add"} <= names  # its tools stay where clients know them
    arguments = {"a": 1, "b": 2}
    assert "result" in client.call("other__add", arguments)
    assert "result" in client.call("add", arguments, path="/servers/other/mcp")
    refused = client.post("tools/call", {"name": "fix__add", "arguments": arguments})
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    assert refused.json()["error"]["message"] == "server fix is in maintenance: new disk"
    read = client.post("resources/read", {"uri": "fix+test://static"})
    assert (read.status_code, client.post("tools/list", path="/servers/fix/mcp").status_code) == (503, 503)
    assert "result" in client.call("fix__add", arguments, headers=pass_of())


@pytest.mark.integration
def test_a_board_that_cannot_seal_is_not_believed(fleet: Fleet) -> None:
    fleet.say(key="other" * 9, maintenance={"*": {"why": "no"}})
    gateway = fleet.gateways[0]
    wait_until(lambda: "sealed" in status(gateway)["board"]["error"], "it says why")
    assert status(gateway)["board"]["number"] == 0
    assert Modern(gateway.url).post("tools/list").status_code == 200
