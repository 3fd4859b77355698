"""What a client of 2025 set through one gateway replica holds at every other, and after the death of the first."""

from __future__ import annotations

import concurrent.futures
import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import TESTS, Running, free_port, wait_until

from rules.clients import Client2025
from rules.family import Family
from rules.upstream import Exchange, Server2025, Server2026, tool, until

pytestmark = pytest.mark.integration
Json = dict[str, Any]
Launch = Callable[..., Running]
UPDATED = "notifications/resources/updated"


def talk(exchange: Exchange) -> None:
    """A tool that logs at three levels."""
    for level in ("debug", "warning", "error"):
        exchange.notify("notifications/message", level=level, data=level)
    exchange.result({"content": [], "resultType": "complete"})


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server2026, Server2025]]:
    new, old = Server2026(), Server2025()
    for server in (new, old):
        server.tools = [tool("talks"), tool("long")]
    yield new, old
    new.stop()
    old.stop()


@pytest.fixture(scope="module")
def fleet(servers: tuple[Server2026, Server2025]) -> list[Json]:
    new, old = servers
    return [
        {"name": "new", "url": new.url},
        {"name": "old", "url": old.url},
        {"name": "sticky", "url": old.url, "sessions": "sticky"},
    ]


@pytest.fixture(scope="module")
def shared(launch: Launch, fleet: list[Json], tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Two replicas for the tests that kill none."""
    return Family(launch, tmp_path_factory.mktemp("family"), fleet)


@pytest.fixture
def both(servers: tuple[Server2026, Server2025]) -> Iterator[tuple[Server2026, Server2025]]:
    """The servers, what they received and were scripted forgotten."""
    for server in servers:
        server.forget()
        server.tool["talks"] = talk
    yield servers
    for server in servers:
        server.forget()


def heard(client: Client2025, name: str = "talks") -> list[str]:
    """The levels of the log messages that a call brings."""
    with client.stream("tools/call", {"name": name, "arguments": {}}) as stream:
        return [message["params"]["level"] for message in stream.rest() if "method" in message]


def tell(server: Server2026 | Server2025, uri: str) -> None:
    """Have the server say that a resource changed, once the gateways listen for that."""
    if isinstance(server, Server2026):
        server.tell(UPDATED, uri=uri)
    else:
        server.push(UPDATED, uri=uri)


def listened(server: Server2026 | Server2025, uri: str, count: int) -> bool:
    """Whether so many gateways listen for a resource."""
    if isinstance(server, Server2026):
        wanted = [e.params["notifications"].get("resourceSubscriptions", []) for e, _ in list(server.listeners)]
        return sum(uri in uris for uris in wanted) >= count
    subscribed = {e.session for e in server.of("resources/subscribe") if e.params["uri"] == uri}
    return len(subscribed & set(server.streams)) >= count


# -- the level ---------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP25-LOG-01")
@pytest.mark.parametrize("server", ["new", "old", "sticky"])
def test_a_level_set_at_one_replica_filters_at_the_other(
    shared: Family, both: tuple[Server2026, Server2025], server: str
) -> None:
    client = shared.client(0, f"/servers/{server}/mcp")
    assert client.ask("logging/setLevel", {"level": "warning"})["result"] == {}
    shared.settle()
    assert heard(shared.at(1, client)) == ["warning", "error"]
    shared.at(1, client).ask("logging/setLevel", {"level": "error"})
    shared.settle()
    assert heard(client) == ["error"], "the last word counts, wherever it was said"


@pytest.mark.requirement("MCP25-LOG-01")
def test_a_level_outlives_the_replicas_that_were_told(
    launch: Launch, fleet: list[Json], both: tuple[Server2026, Server2025], tmp_path: Path
) -> None:
    family = Family(launch, tmp_path, fleet)
    client = family.client(0, "/servers/new/mcp")
    client.ask("logging/setLevel", {"level": "error"})
    family.settle()
    family.kill(0)
    assert heard(family.at(1, client)) == ["error"]
    family.again(0)  # it knows nothing by itself, and is ready when it has asked the other
    family.kill(1)
    assert heard(family.at(0, client)) == ["error"]


# -- subscriptions -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP25-RES-01")
@pytest.mark.parametrize("server", ["new", "old"])
@pytest.mark.parametrize("first", ["stream", "subscription"])
def test_a_subscription_at_one_replica_concerns_a_stream_at_the_other(
    shared: Family, both: tuple[Server2026, Server2025], server: str, first: str
) -> None:
    behind = both[0] if server == "new" else both[1]
    uri, other = f"test://{first}", f"test://{first}/none"
    client = shared.client(0, f"/servers/{server}/mcp")
    elsewhere = shared.at(1, client)
    if first == "subscription":
        client.ask("resources/subscribe", {"uri": uri})
        shared.settle()
    with elsewhere.listen() as stream:
        if first == "stream":
            client.ask("resources/subscribe", {"uri": uri})
        until(lambda: listened(behind, uri, 1), "the gateway listens")
        tell(behind, uri)
        assert stream.next()["params"]["uri"] == uri
        client.ask("resources/subscribe", {"uri": other})
        until(lambda: listened(behind, other, 1), "the gateway listens")
        client.ask("resources/unsubscribe", {"uri": uri})
        shared.settle()
        tell(behind, uri)
        tell(behind, other)
        assert stream.next()["params"]["uri"] == other, "what was given up is not heard of any more"


@pytest.mark.requirement("MCP25-RES-01")
def test_a_subscription_outlives_its_replica(
    launch: Launch, fleet: list[Json], both: tuple[Server2026, Server2025], tmp_path: Path
) -> None:
    family = Family(launch, tmp_path, fleet)
    client = family.client(0)
    client.ask("resources/subscribe", {"uri": "new+test://lasting"})
    family.settle()
    family.kill(0)
    with family.at(1, client).listen() as stream:
        until(lambda: listened(both[0], "test://lasting", 1), "the gateway listens")
        tell(both[0], "test://lasting")
        assert stream.next()["params"]["uri"] == "new+test://lasting"


@pytest.mark.requirement("MCP25-STREAM-01")
def test_of_two_streams_at_two_replicas_the_latest_gets_each_message(
    launch: Launch, fleet: list[Json], both: tuple[Server2026, Server2025], tmp_path: Path
) -> None:
    family = Family(launch, tmp_path, fleet)
    client, server = family.client(0, "/servers/new/mcp"), both[0]
    uris = [f"test://stream/{number}" for number in range(4)]
    witness = family.client(0, "/servers/new/mcp")
    for uri in uris:
        client.ask("resources/subscribe", {"uri": uri})
        witness.ask("resources/subscribe", {"uri": uri})

    def say(index: int, count: int) -> str:
        """The URI that so many gateways that listen were told of."""
        until(lambda: listened(server, uris[index], count), "the gateways listen")
        family.settle()
        tell(server, uris[index])
        assert witnessed.next()["params"]["uri"] == uris[index], "the first replica has heard of it"
        return uris[index]

    with witness.listen() as witnessed, client.listen() as first:
        with family.at(1, client).listen() as second:
            told = say(0, 2)
            assert second.next()["params"]["uri"] == told
        until(lambda: not listened(server, uris[0], 2), "the second stream is gone")
        told = say(1, 1)
        assert first.next()["params"]["uri"] == told, "the first has not had what the second had"
        with family.at(1, client).listen() as second:
            told = say(2, 2)
            assert second.next()["params"]["uri"] == told
            family.kill(1)
        wait_until(lambda: family.metric(0, 'peers{state="reachable"}') == 0, "the death is noticed")
        told = say(3, 1)
        assert first.next()["params"]["uri"] == told


# -- ends and cancellations --------------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP25-SESS-03")
def test_a_session_ended_at_one_replica_is_unknown_at_all(shared: Family, both: tuple[Server2026, Server2025]) -> None:
    client = shared.client(0, "/servers/sticky/mcp")
    elsewhere = shared.at(1, client)
    elsewhere.call("long")
    own = both[1].one("tools/call").session
    with elsewhere.listen() as stream:
        assert client.end().status_code == 204
        assert stream.rest() == [], "its streams end, wherever they are"
    assert elsewhere.post("ping").status_code == 404
    until(lambda: own not in both[1].sessions, "the end of the server's session")


@pytest.mark.requirement("MCP25-SESS-03")
def test_a_replica_that_starts_knows_the_sessions_that_ended(launch: Launch, fleet: list[Json], tmp_path: Path) -> None:
    family = Family(launch, tmp_path, fleet)
    client = family.client(0)
    family.kill(1)
    client.end()
    family.again(1)
    assert family.at(1, client).post("ping").status_code == 404


@pytest.mark.requirement("MCP25-CANCEL-02")
@pytest.mark.parametrize("server", ["new", "old", "sticky"])
def test_a_cancellation_reaches_the_replica_that_runs_the_call(
    shared: Family, both: tuple[Server2026, Server2025], server: str
) -> None:
    gone: list[bool] = []

    def work(exchange: Exchange) -> None:
        exchange.notify("notifications/progress", progressToken=exchange.meta["progressToken"], progress=1)
        gone.append(exchange.gone())

    both[0].tool["long"] = both[1].tool["long"] = work
    client, other = (shared.client(0, f"/servers/{server}/mcp") for _ in range(2))
    with client.stream("tools/call", {"name": "long"}, id="mine", meta={"progressToken": 1}) as stream:
        stream.next()
        shared.at(1, other).notify("notifications/cancelled", {"requestId": "mine"})
        shared.settle()
        assert gone == [], "another session's id is another's"
        assert shared.at(1, client).notify("notifications/cancelled", {"requestId": "mine"}).status_code == 202
        until(lambda: gone, "the gateway leaves")
        if server != "new":
            cancelled, running = both[1].one("notifications/cancelled"), both[1].one("tools/call")
            assert (cancelled.params["requestId"], cancelled.session) == (running.id, running.session)


# -- sessions at sticky servers ----------------------------------------------------------------------------------------


def counted(client: Client2025) -> tuple[str, int]:
    """The server's session and how many calls it has had."""
    session, _, count = client.call("count")["result"]["content"][0]["text"].partition(" ")
    return session, int(count)


@pytest.mark.parametrize("other", ["new to it", "has called", "calls as well", "listens"])
def test_a_session_opened_anew_is_used_by_all(launch: Launch, tmp_path: Path, other: str) -> None:
    """Its server's replicas are killed; the gateway that notices opens another session, and the others go on in it."""
    script, ports = str(TESTS / "servers" / "counting.py"), [free_port(), free_port()]
    counting = {port: launch(sys.executable, script, str(port), port=port) for port in ports}
    urls = [f"http://127.0.0.1:{port}/mcp" for port in ports]
    family = Family(launch, tmp_path, [{"name": "held", "urls": urls, "sessions": "sticky"}], size=3)
    client = family.client(0, "/servers/held/mcp")
    first, count = counted(client)
    if other != "new to it":
        assert counted(family.at(1, client)) == (first, count + 1)
    with family.at(1, client).listen() if other == "listens" else contextlib.nullcontext():
        callers = [client, family.at(1, client)] if other == "calls as well" else [client]
        _lose_and_go_on(launch, family, callers, counting, first)


def _lose_and_go_on(
    launch: Launch, family: Family, callers: list[Client2025], counting: dict[int, Running], first: str
) -> None:
    client = callers[0]
    script, ports = str(TESTS / "servers" / "counting.py"), list(counting)
    urls = [f"http://127.0.0.1:{port}/mcp" for port in ports]
    for running in counting.values():  # both: the second may hold the session
        running.stop(signal.SIGKILL)
    for port in ports:
        launch(sys.executable, script, str(port), port=port)

    def again(caller: Client2025) -> bool:
        return "result" in caller.call("count")

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda caller: wait_until(lambda: again(caller), "the server is back"), callers))
    family.settle()  # where both noticed, they agree on one of two
    second, count = counted(client)
    assert second != first
    assert counted(family.at(1, client)) == (second, count + 1)
    family.kill(0)
    family.again(0)
    assert counted(client) == (second, count + 2), "it has learnt of it from another"
    assert family.at(2, client).end().status_code == 204
    gone = (
        httpx2.post(urls[0], json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers={"mcp-session-id": second}),
        httpx2.post(urls[1], json={"jsonrpc": "2.0", "id": 1, "method": "ping"}, headers={"mcp-session-id": second}),
    )
    assert [answer.status_code for answer in gone] == [404, 404]


def test_what_a_server_says_by_itself_comes_by_the_session_that_was_opened_anew(
    shared: Family, both: tuple[Server2026, Server2025]
) -> None:
    """The stream is at one replica, and the other finds that the server has forgotten the session."""
    client, server = shared.client(0, "/servers/sticky/mcp"), both[1]
    elsewhere = shared.at(1, client)
    client.call("long")
    first = server.one("tools/call").session
    with elsewhere.listen() as stream:
        until(lambda: first in server.streams, "the gateway listens")
        server.sessions.pop(first)
        client.call("long")
        second = server.of("tools/call")[-1].session
        assert second != first
        shared.settle()
        listening = next(e for e in reversed(server.received) if e.verb == "GET" and e.session == first)
        listening.cut()
        until(lambda: second in server.streams, "the gateway listens again, in the session of now")
        server.push("notifications/message", [second], level="error", data="by itself")
        assert stream.next()["params"]["data"] == "by itself"
        elsewhere.call("long")
        assert server.of("tools/call")[-1].session == second


def test_what_is_set_meanwhile_is_told_to_a_replica_that_comes_back(
    launch: Launch, fleet: list[Json], both: tuple[Server2026, Server2025], tmp_path: Path
) -> None:
    """One that is stopped, not killed: it asks nobody when it goes on, so it must be told."""
    family = Family(launch, tmp_path, fleet)
    clients = [family.client(0, "/servers/new/mcp") for _ in range(20)]
    stopped = family.replicas[1].process
    stopped.send_signal(signal.SIGSTOP)
    try:
        failed = 'peer_messages_total{outcome="failed"}'
        before = family.metric(0, failed)
        setters = [threading.Thread(target=c.ask, args=("logging/setLevel", {"level": "error"})) for c in clients]
        for setter in setters:
            setter.start()
        for setter in setters:
            setter.join(20)
            assert not setter.is_alive(), "no client waits for the replica that is stopped"
        family.until(0, failed, before + 1)
    finally:
        stopped.send_signal(signal.SIGCONT)
    family.settle()
    family.kill(0)
    assert all(heard(family.at(1, client)) == ["error"] for client in clients)
