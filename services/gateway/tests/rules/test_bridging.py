"""Between the eras (2026-07-28 basic/versioning, "Backward Compatibility"), and what both have in common upstream."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rules.clients import ALL, LEGACY, META, MODERN, Client2025, Client2026
from rules.conftest import Connect, Start
from rules.upstream import Exchange, Server2025, Server2026, Upstream, until

pytestmark = pytest.mark.integration
Json = dict[str, Any]
TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=value",
    "baggage": "user=me",
}


def progress(exchange: Exchange, step: int = 1) -> None:
    exchange.notify("notifications/progress", progressToken=exchange.meta["progressToken"], progress=step)


# -- which era a server is of ------------------------------------------------------------------------------------------


class Odd(Server2025):
    """A server of 2025 that refuses requests of 2026 in a way of its own."""

    def __init__(self, refuse: Callable[[Exchange], None]) -> None:
        super().__init__()
        self.refuse = refuse

    def take(self, exchange: Exchange) -> None:
        modern = exchange.headers.get("mcp-protocol-version") == MODERN or exchange.method == "server/discover"
        (self.refuse if modern else super().take)(exchange)


REFUSALS: dict[str, Callable[[Exchange], None]] = {
    "not-initialized": lambda exchange: exchange.error(-32000, "Bad Request: Server not initialized", status=400),
    "unknown-method": lambda exchange: exchange.error(-32601, "Method not found"),
    "unknown-method-404": lambda exchange: exchange.error(-32601, "Method not found", status=404),
    "invalid-params": lambda exchange: exchange.error(-32602, "Invalid request parameters"),
    "status-400": lambda exchange: exchange.send(400),
    "status-404": lambda exchange: exchange.send(404),
    "status-405": lambda exchange: exchange.send(405),
}
SILENCES = {f"status-{status}": status for status in (401, 403, 408, 429, 500, 502, 503)}
COMPLAINTS = {f"code{code}": code for code in (-32020, -32021, -32022)}


@pytest.fixture(scope="module")
def refusing(start: Start) -> Iterator[Client2026]:
    """A client of a gateway before servers of 2025 that refuse modern requests, each in its way."""
    servers = {name: Odd(refuse) for name, refuse in REFUSALS.items()}
    yield Client2026(start([{"name": name, "url": server.url} for name, server in servers.items()]).url)
    for server in servers.values():
        server.stop()


@pytest.mark.requirement("BRIDGE-PROBE-01")
@pytest.mark.parametrize("name", REFUSALS)
def test_what_is_no_modern_answer_is_of_2025(refusing: Client2026, name: str) -> None:
    assert "result" in refusing.call(f"{name}__echo")
    status = refusing.http.get("/status").json()["servers"]
    assert [server["era"] for server in status if server["name"] == name] == [LEGACY]


Scripted = tuple[Client2026, dict[str, Server2026]]


@pytest.fixture(scope="module")
def answering(start: Start) -> Iterator[Scripted]:
    """A client of a gateway before modern servers whose first answers say nothing, or complain."""
    servers = {name: Server2026() for name in (*SILENCES, *COMPLAINTS)}
    for name, server in servers.items():
        if name in SILENCES:
            server.on["server/discover"] = server.on["initialize"] = _silence(SILENCES[name])
        else:
            server.on["server/discover"] = _complaint(COMPLAINTS[name])
    running = start([{"name": name, "url": server.url} for name, server in servers.items()], ready=False)
    yield Client2026(running.url), servers
    for server in servers.values():
        server.stop()


def _silence(status: int) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.send(status)


def _complaint(code: int) -> Callable[[Exchange], None]:
    data = {"supported": [MODERN], "requested": MODERN, "requiredCapabilities": {}}
    return lambda exchange: exchange.error(code, "scripted", data, 400)


@pytest.mark.requirement("BRIDGE-PROBE-01")
@pytest.mark.parametrize("name", COMPLAINTS)
def test_a_modern_error_proves_a_modern_server(answering: Scripted, name: str) -> None:
    """Whatever it complains of, ``initialize`` is not the answer to it."""
    client, servers = answering
    until(lambda: servers[name].of("server/discover"), "the probe")
    client.call(f"{name}__echo")
    assert servers[name].of("initialize") == []


@pytest.mark.requirement("BRIDGE-PROBE-01")
@pytest.mark.parametrize("name", SILENCES)
def test_an_answer_that_says_nothing_is_not_remembered(answering: Scripted, name: str) -> None:
    client, servers = answering
    server = servers[name]
    until(lambda: server.of("server/discover"), "the probe")
    server.on.clear()
    until(lambda: "result" in client.call(f"{name}__echo"), "a call that works", 30)
    assert server.of("tools/call")[-1].headers["mcp-protocol-version"] == MODERN


@pytest.mark.requirement("BRIDGE-PROBE-02")
@pytest.mark.parametrize("how", ["cut", "500"])
@pytest.mark.parametrize("era", ["new", "old"])
@pytest.mark.parametrize("client_era", ["modern", "legacy"])
def test_a_call_that_may_have_run_is_not_repeated(
    modern: Connect, legacy: Connect, new: Server2026, old: Server2025, era: str, client_era: str, how: str
) -> None:
    server: Upstream = new if era == "new" else old
    client = (modern if client_era == "modern" else legacy)(era)
    assert "result" in client.call("echo")
    server.received.clear()

    def fail(exchange: Exchange) -> None:
        if how == "500":
            exchange.send(500)
        else:
            exchange.cut()

    server.tool["echo"] = fail
    answer = client.call("echo")
    assert "error" in answer
    assert answer["error"]["code"] not in range(-32768, -31999) or answer["error"]["code"] == -32603
    assert len(server.of("tools/call")) == 1


@pytest.mark.requirement("BRIDGE-PROBE-03")
@pytest.mark.parametrize("before", [Server2025, Server2026])
def test_a_server_that_changes_its_era_is_noticed(start: Start, before: type[Server2026] | type[Server2025]) -> None:
    """Its next release at the same address is of the other era: refused requests show it, and the next call works."""
    server: Upstream = before()
    running = start([{"name": "only", "url": server.url}])
    client = Client2026(running.url)
    assert "result" in client.call("only__echo")
    after: Upstream = Server2026() if before is Server2025 else Server2025()
    server.take = after.take
    until(lambda: "result" in client.call("only__echo"), "a call in the new era", 30)
    assert server.of("tools/call")[-1].headers["mcp-protocol-version"] == after.era
    server.stop()
    after.stop()


@pytest.mark.requirement("BRIDGE-ANS-01")
def test_one_server_of_2025_makes_nobody_else_so(modern: Connect, legacy: Connect, new: Server2026) -> None:
    """The gateway says what it can itself; a modern call to a modern server stays modern beside one of 2025."""
    assert MODERN in modern().ask("server/discover")["result"]["supportedVersions"]
    assert legacy().hello["protocolVersion"] == LEGACY
    modern().call("new__echo")
    assert new.one("tools/call").headers["mcp-protocol-version"] == MODERN
    assert new.of("initialize") == []


# -- modern clients, servers of 2025 -----------------------------------------------------------------------------------


@pytest.mark.requirement("BRIDGE-M2L-01")
def test_sessions_at_servers_are_pooled(modern: Connect, old: Server2025) -> None:
    client = modern("old")
    for _ in range(5):
        client.call("echo")
    used = {exchange.session for exchange in old.of("tools/call")}
    assert len(used) == 1
    (session,) = used
    assert old.sessions[session]["protocolVersion"] == LEGACY


@pytest.mark.requirement("BRIDGE-M2L-01")
def test_sessions_at_servers_are_of_one_principal_and_capabilities(modern: Connect, old: Server2025) -> None:
    modern("old").call("echo")
    modern("old", key="second").call("echo")
    modern("old").call("echo", capabilities=ALL)
    modern("old").call("echo", capabilities={"roots": {}})
    sessions = [exchange.session for exchange in old.of("tools/call")]
    assert len(set(sessions)) == 4
    assert set(old.sessions[sessions[0]]["capabilities"]) == set()
    assert set(old.sessions[sessions[2]]["capabilities"]) == set(ALL)
    assert set(old.sessions[sessions[3]]["capabilities"]) == {"roots"}


@pytest.mark.requirement("BRIDGE-M2L-02")
def test_reserved_keys_stay_here_and_others_travel(modern: Connect, old: Server2025) -> None:
    meta = {**TRACE, f"{META}logLevel": "debug", "com.example/mine": {"a": 1}}
    modern("old").call("echo", {"text": "x"}, meta=meta)
    sent = old.one("tools/call")
    assert not [key for key in sent.meta if key.startswith(META)]
    assert sent.meta["com.example/mine"] == {"a": 1}
    assert "mcp-method" not in sent.headers
    assert sent.headers["mcp-protocol-version"] == LEGACY
    assert sent.params["arguments"] == {"text": "x"}


@pytest.mark.requirement("MCP26-TRACE-01", "BRIDGE-M2L-02")
@pytest.mark.parametrize("client_era", ["modern", "legacy"])
@pytest.mark.parametrize("server", ["new", "old"])
def test_traces_go_on(
    modern: Connect, legacy: Connect, new: Server2026, old: Server2025, client_era: str, server: str
) -> None:
    """The same trace, whose parent may be a span of the gateway's; state and baggage as they were."""
    (modern if client_era == "modern" else legacy)(server).call("echo", meta=TRACE)
    sent = (new if server == "new" else old).one("tools/call").meta
    version, trace, span, flags = sent["traceparent"].split("-")
    assert (version, trace, flags) == tuple(TRACE["traceparent"].split("-")[index] for index in (0, 1, 3))
    assert len(span) == 16
    assert (sent["tracestate"], sent["baggage"]) == (TRACE["tracestate"], TRACE["baggage"])


@pytest.mark.requirement("MCP26-TRACE-01", "BRIDGE-M2L-02")
@pytest.mark.parametrize("client_era", ["modern", "legacy"])
@pytest.mark.parametrize("server", ["new", "old"])
@pytest.mark.parametrize("method", ["tools/call", "resources/read"])
def test_a_trace_that_came_by_headers_goes_on(
    modern: Connect, legacy: Connect, new: Server2026, old: Server2025, client_era: str, server: str, method: str
) -> None:
    """As proxies and HTTP libraries write it (W3C Trace Context); servers read it in ``_meta``."""
    params = {"name": "echo", "arguments": {}} if method == "tools/call" else {"uri": "test://static"}
    client = (modern if client_era == "modern" else legacy)(server)
    assert "result" in client.ask(method, params, headers=TRACE)
    sent = (new if server == "new" else old).one(method).meta
    assert {key: sent[key] for key in TRACE} == TRACE


@pytest.mark.requirement("BRIDGE-M2L-03")
def test_results_of_2025_are_stamped(modern: Connect) -> None:
    client = modern("old")
    called = client.call("echo")["result"]
    assert called["resultType"] == "complete"
    assert called["_meta"][f"{META}serverInfo"]["name"]
    listed = client.ask("prompts/list")["result"]
    assert (listed["resultType"], isinstance(listed["ttlMs"], int)) == ("complete", True)
    read = client.ask("resources/read", {"uri": "test://static"})["result"]
    assert (read["ttlMs"], read["cacheScope"]) == (0, "private")


@pytest.mark.requirement("BRIDGE-M2L-04")
def test_a_resource_not_found_of_2025(modern: Connect, old: Server2025) -> None:
    data = {"uri": "test://nowhere"}
    old.on["resources/read"] = lambda exchange: exchange.error(-32002, "Resource not found", data)
    error = modern("old").ask("resources/read", {"uri": "test://nowhere"})["error"]
    assert (error["code"], error["data"]) == (-32602, data)


@pytest.mark.requirement("BRIDGE-M2L-05")
def test_listening_is_a_stream_and_subscriptions(modern: Connect, old: Server2025) -> None:
    wanted = {"resourcesListChanged": True, "resourceSubscriptions": ["test://a", "test://b"]}
    with modern("old").stream("subscriptions/listen", {"notifications": wanted}) as stream:
        stream.next()
        subscribed = until(lambda: old.of("resources/subscribe")[1:], "both subscriptions")
        assert {exchange.params["uri"] for exchange in old.of("resources/subscribe")} == {"test://a", "test://b"}
        until(lambda: subscribed[0].session in old.streams, "the stream of the session that subscribed")
        old.push("notifications/resources/updated", [subscribed[0].session], uri="test://b")
        old.push("notifications/resources/list_changed", [subscribed[0].session])
        assert stream.next()["params"]["uri"] == "test://b"
        assert stream.next()["method"] == "notifications/resources/list_changed"
    until(lambda: len(old.of("resources/unsubscribe")) == 2, "the end of both subscriptions")


@pytest.mark.requirement("MCP26-HTTP-19", "MCP25-HTTP-05")
@pytest.mark.parametrize("era", [Server2026, Server2025])
def test_servers_are_told_what_is_accepted(start: Start, era: type[Server2026] | type[Server2025]) -> None:
    """Each request, whatever for, and the stream of a session."""
    server = era()
    running = start([{"name": "only", "url": server.url}])
    assert "result" in Client2026(running.url).call("only__echo")
    stream = "POST" if era is Server2026 else "GET"
    until(lambda: any(each.verb == stream for each in list(server.received)), "what there is")
    until(lambda: server.of("subscriptions/listen") or era is Server2025, "the subscription")
    for each in list(server.received):
        assert {"application/json", "text/event-stream"} <= set(re.split(r"[,;]\s*", each.headers["accept"])), each
    server.stop()


@pytest.mark.requirement("BRIDGE-M2L-08")
@pytest.mark.parametrize("noticed", ["by the next subscription", "by a list"])
def test_a_lost_session_is_subscribed_anew(modern: Connect, legacy: Connect, old: Server2025, noticed: str) -> None:
    """The server keeps the stream of the session that it forgot; nothing comes on it any more."""
    wanted = {"resourceSubscriptions": ["test://a"]}
    with modern("old").stream("subscriptions/listen", {"notifications": wanted}) as stream:
        stream.next()
        lost = old.one("resources/subscribe").session
        until(lambda: lost in old.streams, "the stream of the session that subscribed")
        old.sessions.clear()
        old.received.clear()
        more = ["test://b", "test://c"] if noticed == "by the next subscription" else []
        with modern("old").stream("subscriptions/listen", {"notifications": {"resourceSubscriptions": more}}) as second:
            second.next()
            if not more:
                old.push("notifications/tools/list_changed", [lost])
                until(lambda: modern("old").ask("tools/list") and old.of("tools/list"), "the list")

            def anew() -> list[str]:
                known = [exchange for exchange in old.of("resources/subscribe") if exchange.session in old.sessions]
                told = {exchange.params["uri"] for exchange in known}
                return [each.session for each in known if told == {"test://a", *more} and each.session in old.streams]

            session = until(anew, "all subscriptions and the stream of another session")[0]
            old.push("notifications/resources/updated", [session], uri="test://a")
            assert stream.next()["params"]["uri"] == "test://a"


@pytest.mark.requirement("BRIDGE-M2L-05")
def test_a_refused_subscription_stops_no_other(modern: Connect, old: Server2025) -> None:
    def usually_refused(exchange: Exchange) -> None:
        if exchange.params["uri"] == "test://b":
            exchange.error(-32602, "no such resource")
        else:
            exchange.result({})

    old.on["resources/subscribe"] = usually_refused
    wanted = {"resourceSubscriptions": ["test://a", "test://b", "test://c"]}
    with modern("old").stream("subscriptions/listen", {"notifications": wanted}) as stream:
        stream.next()
        until(
            lambda: {each.params["uri"] for each in old.of("resources/subscribe")} >= {"test://a", "test://c"}, "both"
        )


@pytest.mark.requirement("BRIDGE-M2L-06", "MCP26-CANCEL-01", "MCP26-CANCEL-02")
@pytest.mark.parametrize("server", ["new", "old", "sticky"])
def test_a_modern_client_that_leaves_cancels(modern: Connect, new: Server2026, old: Server2025, server: str) -> None:
    """By leaving where that says so, by a notification with the server's own id where it does not."""
    gone: list[bool] = []
    gate = threading.Event()

    def work(exchange: Exchange) -> None:
        progress(exchange)
        if server == "new":
            gone.append(exchange.gone())
        else:
            gate.wait(15)

    new.tool["long"] = old.tool["long"] = work
    with modern(server).stream("tools/call", {"name": "long"}, meta={"progressToken": 1}) as stream:
        stream.next()
    if server == "new":
        until(lambda: gone == [True], "the gateway leaves")
        assert new.of("notifications/cancelled") == []
    else:
        (cancelled,) = until(lambda: old.of("notifications/cancelled"), "the cancellation")
        running = old.one("tools/call")
        assert (cancelled.params["requestId"], cancelled.session) == (running.id, running.session)
        gate.set()


@pytest.mark.requirement("BRIDGE-M2L-07")
def test_a_level_of_a_request_is_set_in_the_session(modern: Connect, old: Server2025) -> None:
    """Or a lower one, where the gateway itself takes out what is too much."""
    # Capabilities of this test's own, and with them a session of its own.
    modern("old").call("echo", meta={f"{META}logLevel": "warning"}, capabilities={"elicitation": {}, "roots": {}})
    call = old.one("tools/call")
    levels = [exchange for exchange in old.of("logging/setLevel") if exchange.session == call.session]
    assert levels
    assert levels[-1].params["level"] in ("debug", "info", "notice", "warning")
    assert old.received.index(levels[-1]) < old.received.index(call)


@pytest.mark.requirement("BRIDGE-M2L-08")
@pytest.mark.parametrize("client_era", ["modern", "legacy"])
@pytest.mark.parametrize("server", ["old", "sticky"])
def test_a_server_that_lost_its_sessions_is_given_others(
    modern: Connect, legacy: Connect, old: Server2025, client_era: str, server: str
) -> None:
    """404 says that the session is unknown, so nothing ran: the request goes on in another session, once."""
    client = (modern if client_era == "modern" else legacy)(server)
    if client_era == "legacy":
        client.ask("logging/setLevel", {"level": "error"})
    client.call("echo")
    old.sessions.clear()
    old.received.clear()
    assert "result" in client.call("echo")
    assert "result" in client.ask("resources/read", {"uri": "test://static"})
    calls = old.of("tools/call")
    assert [exchange.session in old.sessions for exchange in calls].count(True) == 1
    if client_era == "legacy":
        assert [exchange.params["level"] for exchange in old.of("logging/setLevel")][-1:] == ["error"]


@pytest.mark.requirement("BRIDGE-TASK-01")
def test_the_tasks_of_2025_are_not_those_of_2026(legacy: Connect, new: Server2026) -> None:
    """A client that declares them is one that declares none (SEP-2663, "Backward Compatibility")."""
    tasks = {"list": {}, "cancel": {}, "requests": {"sampling": {"createMessage": {}}}}
    client = legacy("new", capabilities={"tasks": tasks})
    client.ask("tools/call", {"name": "echo", "task": {"ttl": 60_000}})
    able = new.one("tools/call").meta[f"{META}clientCapabilities"]
    assert "tasks" not in able
    assert "extensions" not in able
    new.tool["echo"] = lambda exchange: exchange.result({"resultType": "task", "taskId": "t", "status": "working"})
    assert "error" in client.call("echo")
    for method in ("tasks/get", "tasks/list", "tasks/result", "tasks/cancel"):
        assert client.ask(method, {"taskId": "t"})["error"]["code"] == -32601


# -- clients of 2025, modern servers -----------------------------------------------------------------------------------


@pytest.mark.requirement("BRIDGE-L2M-02")
def test_what_is_of_sessions_stays_here(legacy: Connect, new: Server2026) -> None:
    client = legacy("new")
    client.notify("notifications/roots/list_changed")
    client.ask("ping")
    client.ask("logging/setLevel", {"level": "error"})
    client.end()
    methods = {exchange.method for exchange in new.received} - {"server/discover", "subscriptions/listen", *LISTS}
    assert methods == set()


LISTS = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")


@pytest.mark.requirement("BRIDGE-L2M-03")
def test_the_level_of_a_session_travels_with_each_request(legacy: Connect, new: Server2026) -> None:
    client = legacy("new")
    client.ask("logging/setLevel", {"level": "warning"})
    for _ in range(2):
        client.call("echo")
    assert [exchange.meta[f"{META}logLevel"] for exchange in new.of("tools/call")] == ["warning"] * 2


@pytest.mark.requirement("BRIDGE-L2M-04")
@pytest.mark.parametrize("first", ["stream", "subscribe"])
def test_subscribing_is_listening(legacy: Connect, new: Server2026, first: str) -> None:
    client = legacy("new")
    if first == "subscribe":
        assert client.ask("resources/subscribe", {"uri": "test://static"})["result"] == {}
    with client.listen() as stream:
        if first == "stream":
            assert client.ask("resources/subscribe", {"uri": "test://static"})["result"] == {}
        until(lambda: "test://static" in new.granted().get("resourceSubscriptions", []), "the subscription")
        until(lambda: new.granted().get("promptsListChanged"), "the subscription to lists")
        new.tell("notifications/resources/updated", uri="test://static")
        message = stream.next()
        assert message == {
            "jsonrpc": "2.0",
            "method": "notifications/resources/updated",
            "params": {"uri": "test://static"},
        }
        assert client.ask("resources/unsubscribe", {"uri": "test://static"})["result"] == {}
        until(lambda: "test://static" not in new.granted().get("resourceSubscriptions", []), "its end")
        new.tell("notifications/prompts/list_changed")
        message = stream.next()
        assert message["method"] == "notifications/prompts/list_changed"
        assert f"{META}subscriptionId" not in message.get("params", {}).get("_meta", {})


@pytest.mark.requirement("BRIDGE-L2M-05")
def test_requests_of_2025_are_dressed(legacy: Connect, new: Server2026) -> None:
    legacy("new", capabilities={"roots": {"listChanged": True}}).call("echo", {"text": "x"}, meta={"com.example/a": 1})
    sent = new.one("tools/call")
    assert sent.meta[f"{META}protocolVersion"] == sent.headers["mcp-protocol-version"] == MODERN
    assert "roots" in sent.meta[f"{META}clientCapabilities"]
    assert sent.meta["com.example/a"] == 1
    assert (sent.headers["mcp-method"], sent.headers["mcp-name"]) == ("tools/call", "echo")
    assert sent.params["arguments"] == {"text": "x"}


@pytest.mark.requirement("BRIDGE-L2M-08")
@pytest.mark.parametrize("path", ["", "new"])
def test_what_only_2026_knows_is_taken_out(legacy: Connect, path: str) -> None:
    client = legacy(path)
    name, uri = ("echo", "test://static") if path else ("new__echo", "new+test://static")
    results = [client.hello, client.call(name)["result"], client.ask("resources/read", {"uri": uri})["result"]]
    results += [client.ask(method)["result"] for method in LISTS]
    for result in results:
        assert not {"resultType", "ttlMs", "cacheScope", "supportedVersions"} & set(result), result
        assert not [key for key in result.get("_meta", {}) if key.startswith(META)]


# -- ids, credentials, time --------------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP26-RPC-10")
@pytest.mark.parametrize("client_era", ["modern", "legacy"])
@pytest.mark.parametrize("server", ["new", "old"])
def test_ids_and_tokens_of_clients_do_not_meet(
    modern: Connect, legacy: Connect, new: Server2026, old: Server2025, client_era: str, server: str
) -> None:
    """Two clients with the same id and token at once: the server sees four different ones, each client its own."""
    both = threading.Barrier(2)

    def work(exchange: Exchange) -> None:
        both.wait(15)
        text = exchange.params["arguments"]["text"]
        for step in range(1, 4):
            token = exchange.meta["progressToken"]
            exchange.notify("notifications/progress", progressToken=token, progress=step, message=text)
        exchange.result({"resultType": "complete", "content": [{"type": "text", "text": text}]})

    new.tool["long"] = old.tool["long"] = work
    seen: dict[str, list[Json]] = {}

    def use(text: str) -> None:
        client = (modern if client_era == "modern" else legacy)(server)
        params = {"name": "long", "arguments": {"text": text}}
        with client.stream("tools/call", params, id=1, meta={"progressToken": "token"}) as stream:
            seen[text] = stream.rest()

    threads = [threading.Thread(target=use, args=(text,)) for text in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for text in ("one", "two"):
        *notifications, response = seen[text]
        assert {message["params"]["message"] for message in notifications} == {text}
        assert {message["params"]["progressToken"] for message in notifications} == {"token"}
        assert (response["id"], response["result"]["content"][0]["text"]) == (1, text)
    calls = (new if server == "new" else old).of("tools/call")
    assert len({str(exchange.meta["progressToken"]) for exchange in calls}) == 2
    if server == "old":
        assert len({(exchange.session, str(exchange.id)) for exchange in calls}) == 2


@pytest.mark.requirement("MCP26-AUTH-05")
@pytest.mark.parametrize("client_era", ["modern", "legacy"])
@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_the_clients_credential_stays_here(
    modern: Connect, legacy: Connect, new: Server2026, old: Server2025, client_era: str, header: str
) -> None:
    for server in ("new", "old", "sticky"):
        client = (modern if client_era == "modern" else legacy)(server)
        if header == "X-API-Key":
            del client.http.headers["Authorization"]
            client.http.headers["X-API-Key"] = "first"
        client.http.headers["Cookie"] = "secret=first"
        assert "result" in client.call("echo")
    for exchange in [*new.received, *old.received]:
        assert not {"authorization", "x-api-key", "cookie"} & set(exchange.headers), exchange.method
        assert "first" not in str(exchange.message)


@pytest.mark.requirement("MCP26-CANCEL-03")
@pytest.mark.parametrize("era", [Server2026, Server2025])
def test_silence_ends_a_call_and_progress_prolongs_it(start: Start, era: type[Server2026] | type[Server2025]) -> None:
    server = era()
    running = start([{"name": "only", "url": server.url, "timeout_seconds": 1.5, "max_seconds": 4}])
    client = Client2026(running.url)
    gone: list[bool] = []

    def silent(exchange: Exchange) -> None:
        gone.append(exchange.gone())

    def lively(exchange: Exchange) -> None:
        for step in range(6):
            progress(exchange, step + 1)
            if exchange.gone(0.5):
                return
        exchange.result({"content": [], "resultType": "complete"})

    def endless(exchange: Exchange) -> None:
        step = 0
        while not exchange.gone(0.3):
            progress(exchange, step := step + 1)
        gone.append(True)

    server.tool["echo"] = silent
    assert "error" in client.call("only__echo")
    if era is Server2026:
        until(lambda: gone, "the gateway leaves the silent call")
        assert gone == [True]
    else:
        until(lambda: server.of("notifications/cancelled"), "the cancellation of the silent call")
    server.tool["echo"] = lively
    with client.stream("tools/call", {"name": "only__echo"}, meta={"progressToken": 1}) as stream:
        assert "result" in stream.rest()[-1]
    server.tool["echo"] = endless
    with client.stream("tools/call", {"name": "only__echo"}, meta={"progressToken": 1}) as stream:
        assert "error" in stream.rest()[-1]
    server.stop()


@pytest.mark.requirement("MCP26-RPC-05")
@pytest.mark.parametrize("client_era", ["modern", "legacy"])
def test_codes_of_the_gateways_own_are_its_own(start: Start, client_era: str) -> None:
    """Outside of what JSON-RPC and MCP reserve (basic/index, "Error Codes")."""
    server = Server2026()
    running = start([{"name": "gone", "url": server.url}])
    server.stop()
    client = Client2026(running.url) if client_era == "modern" else Client2025(running.url)
    answer = client.post("tools/call", {"name": "gone__echo"})
    code = answer.json()["error"]["code"]
    assert answer.status_code == 200
    assert code not in range(-32768, -31999)
