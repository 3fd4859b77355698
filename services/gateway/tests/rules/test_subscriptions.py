"""``subscriptions/listen`` (2026-07-28 basic/patterns/subscriptions), merged over servers of either era."""

from __future__ import annotations

import concurrent.futures
import signal
import threading
import time
from typing import Any

import pytest

from rules.clients import META, Client2026
from rules.conftest import Connect, Start
from rules.upstream import Exchange, Server2025, Server2026, until

pytestmark = pytest.mark.integration
Json = dict[str, Any]
TAG = f"{META}subscriptionId"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
CHANGED = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"
EVERYTHING = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


def tag_of(message: Json) -> Any:
    found = message.get("params") or message.get("result") or {}
    return found["_meta"][TAG]


@pytest.mark.requirement("MCP26-SUB-01", "MCP26-SUB-02")
@pytest.mark.parametrize("identity", [0, 17, "listen-1"])
@pytest.mark.parametrize("server", ["", "new"])
def test_the_acknowledgement_is_first_and_all_is_tagged(
    modern: Connect, new: Server2026, server: str, identity: Any
) -> None:
    with modern(server).stream("subscriptions/listen", {"notifications": EVERYTHING}, id=identity) as stream:
        first = stream.next()
        assert first["method"] == ACKNOWLEDGED
        assert first["params"]["notifications"] == EVERYTHING
        until(new.granted, "the upstream subscription")
        new.tell(CHANGED)
        second = stream.next()
    assert second["method"] == CHANGED
    assert tag_of(first) == tag_of(second) == identity
    assert type(tag_of(first)) is type(identity)


@pytest.mark.requirement("MCP26-SUB-03")
def test_only_what_can_be_had_is_acknowledged(modern: Connect) -> None:
    wanted = {**EVERYTHING, "surpriseChanged": True, "promptsListChanged": False}
    with modern("new").stream("subscriptions/listen", {"notifications": wanted}) as stream:
        assert stream.next()["params"]["notifications"] == {"toolsListChanged": True, "resourcesListChanged": True}


@pytest.mark.requirement("MCP26-SUB-03")
def test_what_a_server_does_not_offer_is_not_acknowledged(start: Start) -> None:
    server = Server2026()
    server.capabilities = {"tools": {}, "resources": {"subscribe": False, "listChanged": True}}
    running = start([{"name": "plain", "url": server.url}])
    wanted = {**EVERYTHING, "resourceSubscriptions": ["test://static"]}
    with Client2026(running.url, "/servers/plain/mcp").stream("subscriptions/listen", {"notifications": wanted}) as s:
        acknowledged = s.next()["params"]["notifications"]
    assert acknowledged.get("resourcesListChanged") is True
    assert not acknowledged.get("promptsListChanged")
    assert not acknowledged.get("resourceSubscriptions")
    server.stop()


@pytest.mark.requirement("MCP26-SUB-04")
@pytest.mark.parametrize("server", ["new", "old"])
def test_only_what_was_asked_for_is_sent(modern: Connect, new: Server2026, old: Server2025, server: str) -> None:
    """What was not asked for is told first: had it been passed on, it would be the first to come."""
    with modern(server).stream("subscriptions/listen", {"notifications": {"promptsListChanged": True}}) as stream:
        stream.next()
        if server == "new":
            until(new.granted, "the upstream subscription")
            for _, events in new.listeners:
                events.put({"jsonrpc": "2.0", "method": CHANGED})
                events.put({"jsonrpc": "2.0", "method": "notifications/prompts/list_changed"})
        else:
            until(lambda: old.streams, "the session's stream")
            old.push(CHANGED)
            old.push("notifications/prompts/list_changed")
        assert stream.next()["method"] == "notifications/prompts/list_changed"


@pytest.mark.requirement("MCP26-SUB-05")
@pytest.mark.parametrize("server", ["new", "old"])
def test_progress_and_logs_never_come_by_listening(
    modern: Connect, new: Server2026, old: Server2025, server: str
) -> None:
    stray: list[tuple[str, Json]] = [
        ("notifications/progress", {"progressToken": 1, "progress": 1}),
        ("notifications/message", {"level": "error", "data": "stray"}),
    ]
    with modern(server).stream("subscriptions/listen", {"notifications": {"toolsListChanged": True}}) as stream:
        stream.next()
        if server == "new":
            until(new.granted, "the upstream subscription")
            for _, events in new.listeners:
                for method, params in (*stray, (CHANGED, {})):
                    events.put({"jsonrpc": "2.0", "method": method, "params": params})
        else:
            until(lambda: old.streams, "the session's stream")
            for method, params in (*stray, (CHANGED, {})):
                old.push(method, **params)
        assert stream.next()["method"] == CHANGED


@pytest.mark.requirement("MCP26-SUB-06")
def test_a_listener_of_all_hears_every_server(modern: Connect, new: Server2026, old: Server2025) -> None:
    uris = ["new+test://static", "old+test://static"]
    wanted = {"toolsListChanged": True, "resourceSubscriptions": uris}
    with modern().stream("subscriptions/listen", {"notifications": wanted}, id="all") as stream:
        acknowledged = stream.next()["params"]["notifications"]
        assert sorted(acknowledged["resourceSubscriptions"]) == uris
        until(lambda: new.granted().get("resourceSubscriptions") == ["test://static"], "the subscription at new")
        until(lambda: old.of("resources/subscribe"), "the subscription at old")
        until(lambda: old.streams, "the stream of old")
        assert old.of("resources/subscribe")[0].params["uri"] == "test://static"
        new.tell(UPDATED, uri="test://static")
        message = stream.next()
        assert (message["method"], message["params"]["uri"]) == (UPDATED, uris[0])
        old.push(UPDATED, uri="test://static")
        message = stream.next()
        assert (message["method"], message["params"]["uri"], tag_of(message)) == (UPDATED, uris[1], "all")


@pytest.mark.requirement("MCP26-SUB-07")
@pytest.mark.parametrize("server", ["new", "old"])
def test_what_happens_after_the_acknowledgement_is_told(
    modern: Connect, new: Server2026, old: Server2025, server: str
) -> None:
    """The acknowledgement says that the server's own subscription stands: a change at once is not lost."""
    wanted = {"resourceSubscriptions": ["test://static"]}
    with modern(server).stream("subscriptions/listen", {"notifications": wanted}) as stream:
        assert stream.next()["method"] == ACKNOWLEDGED
        if server == "new":
            new.tell(UPDATED, uri="test://static")
        else:
            (subscribed,) = old.of("resources/subscribe")
            assert subscribed.session in old.streams
            old.push(UPDATED, [subscribed.session], uri="test://static")
        assert stream.next()["method"] == UPDATED


@pytest.mark.requirement("MCP26-SUB-08")
def test_several_subscriptions_stand_side_by_side(modern: Connect, new: Server2026) -> None:
    client = modern("new")
    with (
        client.stream("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="one") as one,
        client.stream("subscriptions/listen", {"notifications": {"promptsListChanged": True}}, id="two") as two,
    ):
        assert (tag_of(one.next()), tag_of(two.next())) == ("one", "two")
        until(lambda: {"toolsListChanged", "promptsListChanged"} <= set(new.granted()), "both subscriptions")
        new.tell("notifications/prompts/list_changed")
        new.tell(CHANGED)
        assert tag_of(one.next()) == "one"
        assert tag_of(two.next()) == "two"


@pytest.mark.requirement("MCP26-SUB-07", "MCP26-SUB-08")
@pytest.mark.parametrize(("era", "changes"), [(Server2026, 300), (Server2025, 20)])
def test_nothing_is_lost_while_others_subscribe(
    start: Start, era: type[Server2026] | type[Server2025], changes: int
) -> None:
    """Each change comes once to the one that listens all the time, however often what the gateway wants changes."""
    server = era()
    running = start([{"name": "only", "url": server.url}])
    client = Client2026(running.url, "/servers/only/mcp")
    uris = [f"test://{number}" for number in range(changes)]
    heard: list[str] = []
    stop = threading.Event()

    def subscribe() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            wanted = {"resourceSubscriptions": [f"other://{number}"]}
            with client.stream("subscriptions/listen", {"notifications": wanted}) as other:
                assert other.next()["method"] == ACKNOWLEDGED

    with (
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        client.stream("subscriptions/listen", {"notifications": {"resourceSubscriptions": uris}}) as stream,
    ):
        stream.next()
        others = pool.submit(subscribe)
        for uri in uris:
            if isinstance(server, Server2026):
                server.tell(UPDATED, uri=uri)
            else:
                server.push(UPDATED, uri=uri)
            time.sleep(3 / changes)
        stop.set()
        others.result(20)
        while set(heard) != set(uris):
            heard.append(stream.next()["params"]["uri"])
    opened = len(server.of("subscriptions/listen")) or len(server.of("resources/subscribe")) - changes
    print(f"{era.__name__}: {changes} changes while subscriptions changed {opened} times, heard {len(heard)} times")
    assert opened > 5, "subscriptions changed all the while"
    assert len(heard) <= 1.1 * changes, "and hardly any twice"
    server.stop()


@pytest.mark.parametrize(("open_before", "count"), [(True, 250), (False, 120)], ids=["open before", "lost meanwhile"])
def test_a_long_list_of_one_client_does_not_deafen_the_others(start: Start, open_before: bool, count: int) -> None:
    """A server of 2025 is asked for each resource by itself, which takes its time."""
    server = Server2025()

    def subscribe(exchange: Exchange) -> None:
        time.sleep(0.02)
        server.usual(exchange)

    server.on["resources/subscribe"] = subscribe
    running = start([{"name": "only", "url": server.url}])
    client = Client2026(running.url, "/servers/only/mcp")
    uris = [f"test://{number}" for number in range(count)]
    until(lambda: server.streams, "the session's stream")
    with (
        client.stream("subscriptions/listen", {"notifications": {"toolsListChanged": True}}) as other,
        client.stream("subscriptions/listen", {"notifications": {"resourceSubscriptions": uris}}) as long,
    ):
        other.next(), long.next()
        assert 0 < len(server.of("resources/subscribe")) < len(uris), "it is at work"
        if not open_before:
            server.sessions.clear()
            lost = set(server.streams)
            until(lambda: set(server.streams) - lost, "the stream of another session", 5)
        server.push(CHANGED)
        assert other.next()["method"] == CHANGED
        assert len({exchange.params["uri"] for exchange in server.of("resources/subscribe")}) < len(uris), "still"
        until(lambda: {e.params["uri"] for e in server.of("resources/subscribe")} == set(uris), "all", 40)
        server.push(UPDATED, uri=uris[-1])
        assert long.next()["params"]["uri"] == uris[-1]
    asked = [(exchange.session, exchange.params["uri"]) for exchange in server.of("resources/subscribe")]
    assert len(asked) == len(set(asked)), "each once in a session"
    server.stop()


def test_a_resource_that_a_server_refuses_keeps_no_other(start: Start) -> None:
    server = Server2025()
    server.on["resources/subscribe"] = lambda exchange: (
        exchange.error(-32602) if exchange.params["uri"] == "test://1" else server.usual(exchange)
    )
    running = start([{"name": "only", "url": server.url}])
    uris = [f"test://{number}" for number in range(3)]
    client = Client2026(running.url, "/servers/only/mcp")
    with client.stream("subscriptions/listen", {"notifications": {"resourceSubscriptions": uris}}) as stream:
        stream.next()
        until(lambda: server.streams, "the session's stream")
        server.push(UPDATED, uri="test://2")
        assert stream.next()["params"]["uri"] == "test://2"
    server.stop()


@pytest.mark.parametrize("server", ["new", "old"])
def test_there_is_an_end_to_what_one_client_listens_to(modern: Connect, server: str) -> None:
    """The same that a session of 2025 has."""
    uris = [f"test://{number:01000}" for number in range(40)]
    client = modern(server)
    with client.stream("subscriptions/listen", {"notifications": {"resourceSubscriptions": uris}}) as stream:
        refused = stream.next()["error"]
    assert refused["code"] == -32602
    assert "listen to fewer" in refused["message"]
    with client.stream("subscriptions/listen", {"notifications": {"resourceSubscriptions": uris[:30]}}) as stream:
        assert stream.next()["method"] == ACKNOWLEDGED


@pytest.mark.requirement("MCP26-SUB-09")
def test_a_client_that_leaves_ends_its_subscription(start: Start) -> None:
    server = Server2026()
    running = start([{"name": "new", "url": server.url}])
    wanted = {"resourceSubscriptions": ["test://static"]}
    with Client2026(running.url, "/servers/new/mcp").stream("subscriptions/listen", {"notifications": wanted}) as s:
        s.next()
        until(lambda: server.granted().get("resourceSubscriptions"), "the upstream subscription")
    until(lambda: not server.granted().get("resourceSubscriptions"), "the end of the upstream subscription")
    server.stop()


@pytest.mark.requirement("MCP26-SUB-10")
@pytest.mark.parametrize("era", [Server2026, Server2025])
def test_the_end_of_the_gateway_is_a_result(start: Start, era: type[Server2026] | type[Server2025]) -> None:
    server = era()
    running = start([{"name": "only", "url": server.url}], drain_seconds=5)
    client = Client2026(running.url)
    with client.stream("subscriptions/listen", {"notifications": {"toolsListChanged": True}}, id="last") as stream:
        stream.next()
        running.process.send_signal(signal.SIGTERM)
        *before, last = stream.rest()
    assert not [message for message in before if message.get("method") == "notifications/cancelled"]
    assert (last["id"], last["result"]["resultType"], tag_of(last)) == ("last", "complete", "last")
    assert running.process.wait(20) == 0
    server.stop()


@pytest.mark.requirement("MCP26-SUB-11")
def test_a_server_that_ends_its_stream_is_listened_to_again(modern: Connect, new: Server2026) -> None:
    """The client's subscription is with the gateway and outlives one stream of one server."""
    with modern("new").stream("subscriptions/listen", {"notifications": {"toolsListChanged": True}}) as stream:
        stream.next()
        until(new.granted, "the upstream subscription")
        ended = [exchange for exchange, _ in new.listeners]
        for _, events in list(new.listeners):
            events.put(None)
        until(lambda: [pair for pair in new.listeners if pair[0] not in ended], "another upstream subscription")
        # What changed in between nobody can know, so the gateway may say so as well.
        new.tell(CHANGED)
        assert stream.next()["method"] == CHANGED


@pytest.mark.requirement("MCP26-SUB-12")
@pytest.mark.parametrize("notifications", [None, 5, []], ids=["absent", "number", "list"])
def test_listening_to_nothing_is_refused(modern: Connect, notifications: Any) -> None:
    params = {} if notifications is None else {"notifications": notifications}
    assert modern("new").ask("subscriptions/listen", params)["error"]["code"] == -32602


@pytest.mark.requirement("MCP26-CACHE-05", "MCP26-SUB-07")
@pytest.mark.parametrize("server", ["new", "old"])
def test_who_is_told_of_a_change_sees_it(modern: Connect, new: Server2026, old: Server2025, server: str) -> None:
    """The gateway's own cache is stale before the notification leaves it."""
    upstream: Server2026 | Server2025 = new if server == "new" else old
    client = modern(server)
    client.ask("prompts/list")
    with client.stream("subscriptions/listen", {"notifications": {"promptsListChanged": True}}) as stream:
        stream.next()
        if upstream is new:
            until(new.granted, "the upstream subscription")
        else:
            until(lambda: old.streams, "the session's stream")
        before = list(upstream.prompts)
        try:
            upstream.prompts = [*before, {"name": "added"}]
            if upstream is new:
                new.tell("notifications/prompts/list_changed")
            else:
                old.push("notifications/prompts/list_changed")
            assert stream.next()["method"] == "notifications/prompts/list_changed"
            assert "added" in {prompt["name"] for prompt in client.ask("prompts/list")["result"]["prompts"]}
        finally:
            upstream.prompts = before


@pytest.mark.requirement("MCP26-LOG-01")
@pytest.mark.parametrize("server", ["new", "old"])
@pytest.mark.parametrize("level", [None, "warning", "debug"])
def test_logs_come_as_the_request_wants_them(
    modern: Connect, new: Server2026, old: Server2025, server: str, level: str | None
) -> None:
    """Also from a server that sends more than it should."""

    def work(exchange: Exchange) -> None:
        for each in ("debug", "warning", "error"):
            exchange.notify("notifications/message", level=each, data=each)
        exchange.result({"content": [], "resultType": "complete"})

    new.tool["long"] = old.tool["long"] = work
    meta = {f"{META}logLevel": level} if level else {}
    with modern(server).stream("tools/call", {"name": "long"}, meta=meta) as stream:
        logged = [message["params"]["level"] for message in stream.rest() if "method" in message]
    assert logged == {None: [], "warning": ["warning", "error"], "debug": ["debug", "warning", "error"]}[level]


@pytest.mark.requirement("MCP26-LOG-02")
def test_a_level_that_does_not_exist(modern: Connect, new: Server2026) -> None:
    assert modern("new").call("echo", meta={f"{META}logLevel": "loud"})["error"]["code"] == -32602
    assert new.of("tools/call") == []
