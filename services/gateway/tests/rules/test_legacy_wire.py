"""What 2025-11-25 demands of the wire (basic/transports, basic/lifecycle, basic/utilities)."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from conftest import Running

from rules.clients import ACCEPT, ALL, LEGACY, message_of
from rules.conftest import Connect
from rules.upstream import Exchange, Server2025, Server2026, until

pytestmark = pytest.mark.integration
Json = dict[str, Any]
VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26")
FORM = {"message": "Who?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}


# -- messages ----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP25-HTTP-01")
@pytest.mark.parametrize("server", ["", "new", "old", "sticky"])
def test_get_opens_a_stream(legacy: Connect, server: str) -> None:
    with legacy(server).listen() as stream:
        assert stream.response.status_code == 200
        assert stream.response.headers["content-type"].startswith("text/event-stream")


@pytest.mark.requirement("MCP25-HTTP-02")
@pytest.mark.parametrize(
    "body",
    [
        {"method": "notifications/initialized"},
        {"method": "notifications/roots/list_changed"},
        {"method": "notifications/nobody_knows", "params": {"a": 1}},
        {"id": "nobody asked", "result": {}},
        {"id": 99, "error": {"code": -1, "message": "nobody asked"}},
    ],
    ids=["initialized", "roots", "unknown", "response", "error"],
)
def test_notifications_and_responses_are_accepted(legacy: Connect, body: Json) -> None:
    client = legacy()
    answer = client.raw({"jsonrpc": "2.0", **body}, client.headers())
    assert (answer.status_code, answer.content) == (202, b"")


@pytest.mark.requirement("MCP25-HTTP-03")
@pytest.mark.parametrize("version", ["2025-11-25", "2025-06-18"])
def test_there_are_no_batches(legacy: Connect, version: str) -> None:
    client = legacy(version=version)
    answer = client.raw([{"jsonrpc": "2.0", "id": 1, "method": "ping"}], client.headers())
    assert answer.status_code == 400


@pytest.mark.requirement("MCP25-HTTP-04")
@pytest.mark.parametrize("server", ["new", "old"])
def test_errors_within_a_session_are_messages(legacy: Connect, new: Server2026, old: Server2025, server: str) -> None:
    """With status 200: some clients take any other for the end of the connection."""
    for upstream in (new, old):
        upstream.on["prompts/get"] = lambda exchange: exchange.error(-32602, "Unknown prompt", status=400)
    client = legacy(server)
    for method, params, code in (
        ("nobody/knows", {}, -32601),
        ("prompts/get", {"name": "none"}, -32602),
        ("tools/call", {"name": "denied"}, -32602),
        ("tools/call", {}, -32602),
        ("tools/list", {"cursor": "nonsense"}, -32602),
        ("logging/setLevel", {"level": "loud"}, -32602),
    ):
        answer = client.post(method, params, id="mine")
        assert (answer.status_code, message_of(answer)["error"]["code"]) == (200, code), method
        assert message_of(answer)["id"] == "mine"


# -- the beginning -----------------------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP25-LIFE-01")
@pytest.mark.parametrize("server", ["", "new", "old"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_that_is_spoken_is_agreed_to(legacy: Connect, server: str, version: str) -> None:
    client = legacy(server, version=version)
    assert client.hello["protocolVersion"] == version
    assert {"name", "version"} <= set(client.hello["serverInfo"])
    assert "tools" in client.hello["capabilities"]
    assert client.ask("tools/list")["result"]["tools"]


@pytest.mark.requirement("MCP25-LIFE-01")
@pytest.mark.parametrize("version", ["2024-11-05", "1999-01-01", "2026-07-28", "2099-01-01"])
def test_another_version_is_answered_with_one_that_is_spoken(shared: Running, version: str) -> None:
    info = {"name": "test", "version": "1"}
    params = {"protocolVersion": version, "capabilities": {}, "clientInfo": info}
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
    headers = {"Accept": ACCEPT, "Authorization": "Bearer first"}
    answer = httpx2.post(f"{shared.url}/mcp", json=body, headers=headers)
    assert answer.status_code == 200
    assert message_of(answer)["result"]["protocolVersion"] in VERSIONS


@pytest.mark.requirement("MCP25-LIFE-02")
@pytest.mark.parametrize("server", ["old", "sticky"])
@pytest.mark.parametrize(
    ("method", "capability"),
    [("sampling/createMessage", "sampling"), ("elicitation/create", "elicitation"), ("roots/list", "roots")],
)
def test_a_client_is_asked_only_what_it_declared(
    legacy: Connect, old: Server2025, server: str, method: str, capability: str
) -> None:
    """The server is told of what the client declared; one that asks nevertheless gets the refusal."""
    answers: list[Json] = []

    def work(exchange: Exchange) -> None:
        answers.append(exchange.ask(method, FORM))
        exchange.result({"content": []})

    old.tool["asks"] = work
    able = {key: value for key, value in ALL.items() if key != capability}
    client = legacy(server, capabilities=able)
    with client.stream("tools/call", {"name": "asks"}) as stream:
        (only,) = stream.rest()
    assert "result" in only
    assert "error" in answers[0]
    session = old.one("tools/call").session
    assert set(old.sessions[session]["capabilities"]) == set(able)


@pytest.mark.requirement("MCP25-SESS-01")
def test_ids_of_sessions(legacy: Connect, modern: Connect) -> None:
    ids = [legacy().session for _ in range(20)]
    assert len(set(ids)) == 20
    assert all(0x21 <= ord(char) <= 0x7E for each in ids for char in each)
    assert min(map(len, ids)) >= 22  # 128 bits at least


@pytest.mark.requirement("MCP25-SESS-01", "BRIDGE-L2M-01")
@pytest.mark.parametrize("how", ["forged", "changed", "cut", "empty"])
def test_an_id_that_was_not_issued(legacy: Connect, how: str) -> None:
    client = legacy()
    middle = len(client.session) // 2
    swapped = "A" if client.session[middle] != "A" else "B"
    changed = client.session[:middle] + swapped + client.session[middle + 1 :]
    made = {"forged": "f" * 40, "changed": changed, "cut": client.session[:-4], "empty": ""}[how]
    answer = client.post("ping", headers={"Mcp-Session-Id": made})
    assert answer.status_code == (400 if how == "empty" else 404)


@pytest.mark.requirement("MCP25-SESS-01", "BRIDGE-L2M-01")
def test_a_session_is_of_one_principal_and_endpoint(legacy: Connect) -> None:
    client = legacy("new")
    client.http.headers["Authorization"] = "Bearer second"
    assert client.post("ping").status_code == 404
    client.http.headers["Authorization"] = "Bearer first"
    assert client.post("ping").status_code == 200
    client.path = "/servers/old/mcp"
    assert client.post("ping").status_code == 404


@pytest.mark.requirement("MCP25-SESS-02")
@pytest.mark.parametrize("method", ["tools/list", "ping", "nobody/knows"])
def test_no_id_after_the_beginning(legacy: Connect, method: str) -> None:
    assert legacy().post(method, headers={"Mcp-Session-Id": None}).status_code == 400


@pytest.mark.requirement("MCP25-SESS-03", "BRIDGE-L2M-09")
@pytest.mark.parametrize("server", ["", "new", "old", "sticky"])
def test_a_session_that_ended_is_unknown(legacy: Connect, server: str) -> None:
    client = legacy(server)
    assert client.end().status_code in (200, 202, 204)
    assert client.post("tools/list").status_code == 404
    assert client.notify("notifications/initialized").status_code == 404
    assert client.end().status_code == 404
    with client.listen() as stream:
        assert stream.response.status_code == 404


@pytest.mark.requirement("MCP25-SESS-03")
def test_the_end_of_a_session_ends_its_stream_and_its_own_sessions(legacy: Connect, old: Server2025) -> None:
    client = legacy("sticky")
    client.call("echo")
    own = old.one("tools/call").session
    with client.listen() as stream:
        client.end()
        assert [message for message in stream.rest() if "id" in message] == []
    until(lambda: own not in old.sessions, "the end of the server's session")


@pytest.mark.requirement("MCP25-SESS-04")
@pytest.mark.parametrize("server", ["new", "old"])
def test_404_means_the_session_and_nothing_else(legacy: Connect, new: Server2026, old: Server2025, server: str) -> None:
    new.tool["echo"] = lambda exchange: exchange.error(-32601, "Method not found", status=404)
    old.tool["echo"] = lambda exchange: exchange.send(404)
    client = legacy(server)
    for method, params in (("tools/call", {"name": "echo"}), ("nobody/knows", {}), ("prompts/get", {"name": "no"})):
        answer = client.post(method, params)
        assert answer.status_code != 404, method
    assert client.post("ping").status_code == 200


@pytest.mark.requirement("MCP25-VER-01")
@pytest.mark.parametrize("version", ["1999-01-01", "2024-11-05", "", "nonsense"])
def test_an_invalid_version_header(legacy: Connect, version: str) -> None:
    assert legacy().post("ping", headers={"MCP-Protocol-Version": version}).status_code == 400


@pytest.mark.requirement("MCP25-VER-01")
def test_no_version_header(legacy: Connect) -> None:
    """The session says which it is; without one it is 2025-03-26."""
    assert legacy().post("tools/list", headers={"MCP-Protocol-Version": None}).status_code == 200


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP25-STREAM-01")
@pytest.mark.parametrize("server", ["new", "old"])
def test_a_message_comes_on_one_stream(legacy: Connect, new: Server2026, old: Server2025, server: str) -> None:
    """Several messages and then another kind: once that came, whatever came twice was there twice."""
    client = legacy(server)
    uris = [f"test://{letter}" for letter in "abc"]
    for uri in uris:
        assert client.ask("resources/subscribe", {"uri": uri})["result"] == {}
    seen: list[str] = []

    def read(stream: Any) -> None:
        with contextlib.suppress(httpx2.HTTPError, AssertionError):
            for message in stream:
                seen.append(message.get("params", {}).get("uri", message["method"]))

    with client.listen() as one, client.listen() as two:
        readers = [threading.Thread(target=read, args=(stream,), daemon=True) for stream in (one, two)]
        for reader in readers:
            reader.start()
        if server == "new":
            until(lambda: set(uris) <= set(new.granted().get("resourceSubscriptions", [])), "the gateway listens")
            for uri in uris:
                new.tell("notifications/resources/updated", uri=uri)
            until(lambda: new.granted().get("promptsListChanged"), "the gateway listens")
            new.tell("notifications/prompts/list_changed")
        else:
            subscribed = until(lambda: old.of("resources/subscribe")[2:], "the subscriptions")[0].session
            until(lambda: subscribed in old.streams, "the gateway listens")
            for uri in uris:
                old.push("notifications/resources/updated", [subscribed], uri=uri)
            old.push("notifications/prompts/list_changed", [subscribed])
        until(lambda: "notifications/prompts/list_changed" in seen, "the last message")
    assert sorted(seen) == sorted([*uris, "notifications/prompts/list_changed"])


@pytest.mark.requirement("MCP25-STREAM-02")
def test_the_sessions_stream_carries_no_responses(legacy: Connect, old: Server2025) -> None:
    client = legacy("old")
    with client.listen() as stream:
        until(lambda: old.streams, "the gateway listens")
        client.call("echo")
        old.push("notifications/tools/list_changed")
        message = stream.next()
    assert (message["method"], "id" in message) == ("notifications/tools/list_changed", False)


@pytest.mark.requirement("MCP25-STREAM-03")
@pytest.mark.parametrize("server", ["new", "old"])
def test_streams_of_2025_are_not_to_be_buffered(legacy: Connect, new: Server2026, old: Server2025, server: str) -> None:
    def work(exchange: Exchange) -> None:
        exchange.notify("notifications/progress", progressToken=exchange.meta["progressToken"], progress=1)
        exchange.result({"content": [], "resultType": "complete"})

    new.tool["long"] = old.tool["long"] = work
    client = legacy(server)
    with client.stream("tools/call", {"name": "long"}, meta={"progressToken": "p"}) as stream:
        assert stream.response.headers["x-accel-buffering"] == "no"
        progress, response = stream.rest()
    assert (progress["params"]["progressToken"], response["id"]) == ("p", 1)
    with client.listen() as stream:
        assert stream.response.headers["x-accel-buffering"] == "no"


# -- cancelling, pinging, asking ---------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP25-CANCEL-01")
@pytest.mark.parametrize("server", ["new", "old"])
def test_a_client_that_leaves_cancels_nothing(legacy: Connect, new: Server2026, old: Server2025, server: str) -> None:
    gate, gone = threading.Event(), []

    def work(exchange: Exchange) -> None:
        exchange.notify("notifications/progress", progressToken=exchange.meta["progressToken"], progress=1)
        gate.wait(15)
        gone.append(exchange.gone(0.5))
        exchange.result({"content": [], "resultType": "complete"})

    new.tool["long"] = old.tool["long"] = work
    client = legacy(server)
    with client.stream("tools/call", {"name": "long"}, meta={"progressToken": 1}) as stream:
        stream.next()
    assert client.ask("ping")["result"] == {}
    gate.set()
    until(lambda: gone, "the end of the call")
    assert gone == [False]
    assert old.of("notifications/cancelled") == []


@pytest.mark.requirement("MCP25-CANCEL-02", "BRIDGE-L2M-07")
@pytest.mark.parametrize("server", ["new", "old", "sticky"])
def test_a_cancellation_is_passed_on(legacy: Connect, new: Server2026, old: Server2025, server: str) -> None:
    """To a server of 2025 with its own id of the call, to one of 2026 by leaving."""
    gone: list[bool] = []

    def work(exchange: Exchange) -> None:
        exchange.notify("notifications/progress", progressToken=exchange.meta["progressToken"], progress=1)
        gone.append(exchange.gone())

    new.tool["long"] = old.tool["long"] = work
    client = legacy(server)
    with client.stream("tools/call", {"name": "long"}, id="mine", meta={"progressToken": 1}) as stream:
        stream.next()
        assert client.notify("notifications/cancelled", {"requestId": "mine", "reason": "enough"}).status_code == 202
        if server == "new":
            until(lambda: gone, "the gateway leaves")
            assert gone == [True]
        else:
            (cancelled,) = until(lambda: old.of("notifications/cancelled"), "the cancellation")
            running = old.one("tools/call")
            assert (cancelled.params["requestId"], cancelled.session) == (running.id, running.session)
        assert [message for message in stream.rest() if message.get("id") == "mine"] == []


@pytest.mark.requirement("MCP25-CANCEL-02")
def test_nobody_cancels_the_calls_of_others(legacy: Connect, old: Server2025) -> None:
    gate = threading.Event()

    def work(exchange: Exchange) -> None:
        exchange.notify("notifications/progress", progressToken=exchange.meta["progressToken"], progress=1)
        gate.wait(15)
        exchange.result({"content": []})

    old.tool["long"] = work
    client, other = legacy("old"), legacy("old")
    with client.stream("tools/call", {"name": "long"}, id=1, meta={"progressToken": 1}) as stream:
        stream.next()
        other.notify("notifications/cancelled", {"requestId": 1})
        assert other.ask("ping")["result"] == {}
        gate.set()
        assert "result" in stream.next()
    assert old.of("notifications/cancelled") == []


@pytest.mark.requirement("MCP25-PING-01", "BRIDGE-L2M-02")
@pytest.mark.parametrize("server", ["", "new", "old", "sticky"])
def test_a_ping_is_answered_here(legacy: Connect, old: Server2025, server: str) -> None:
    client = legacy(server)
    for _ in range(10):
        assert client.ask("ping", id="p") == {"jsonrpc": "2.0", "id": "p", "result": {}}
    assert len(old.of("ping")) < 5  # the gateway's own, which come every ten seconds


@pytest.mark.requirement("MCP25-PING-01")
@pytest.mark.parametrize("client_era", ["modern", "legacy"])
def test_a_servers_ping_is_answered_here(modern: Connect, legacy: Connect, old: Server2025, client_era: str) -> None:
    answers: list[Json] = []

    def work(exchange: Exchange) -> None:
        answers.append(exchange.ask("ping", identity="ping-of-the-server"))
        exchange.result({"content": []})

    old.tool["long"] = work
    answer = (modern if client_era == "modern" else legacy)("old").call("long")
    assert "result" in answer
    assert answers == [{"jsonrpc": "2.0", "id": "ping-of-the-server", "result": {}}]


@pytest.mark.requirement("MCP25-REQ-01")
@pytest.mark.parametrize("server", ["old", "sticky"])
def test_questions_reach_who_called(legacy: Connect, old: Server2025, server: str) -> None:
    """Two clients call at once and the server asks both under one id: nobody hears what is another's."""
    both = threading.Barrier(2)
    answers: dict[str, Json] = {}

    def work(exchange: Exchange) -> None:
        both.wait(15)
        who = exchange.params["arguments"]["text"]
        answers[who] = exchange.ask("elicitation/create", {**FORM, "message": who}, identity=1)
        exchange.result({"content": [{"type": "text", "text": who}]})

    old.tool["asks"] = work
    # Two principals never share a session of the server's, so that one id of the server's means two questions.
    clients = {name: legacy(server, capabilities=ALL, key=name) for name in ("first", "second")}
    results: dict[str, Json] = {}

    def use(name: str) -> None:
        client = clients[name]
        with client.stream("tools/call", {"name": "asks", "arguments": {"text": name}}, id=1) as stream:
            question = stream.next()
            assert question["params"]["message"] == name
            client.respond(question, {"action": "accept", "content": {"name": f"of {name}"}})
            results[name] = stream.next()

    threads = [threading.Thread(target=use, args=(name,)) for name in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    for name in clients:
        assert results[name]["result"]["content"][0]["text"] == name
        assert answers[name]["result"]["content"] == {"name": f"of {name}"}
        assert answers[name]["id"] == 1


@pytest.mark.requirement("MCP25-REQ-01")
def test_nobody_answers_for_another(legacy: Connect, old: Server2025) -> None:
    answers: list[Json] = []

    def work(exchange: Exchange) -> None:
        answers.append(exchange.ask("elicitation/create", FORM))
        exchange.result({"content": []})

    old.tool["asks"] = work
    client, other = legacy("old", capabilities=ALL), legacy("old", capabilities=ALL)
    with client.stream("tools/call", {"name": "asks"}) as stream:
        question = stream.next()
        other.respond(question, {"action": "accept", "content": {"name": "stolen"}})
        client.respond(question, {"action": "accept", "content": {"name": "mine"}})
        assert "result" in stream.next()
    assert [answer["result"]["content"]["name"] for answer in answers] == ["mine"]


@pytest.mark.requirement("MCP25-SEC-01", "MCP26-SEC-01")
@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Origin": "http://evil.example.com"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://[::1"}, False),
        ({"Origin": "http://localhost.evil.example.com"}, False),
        ({"Host": "evil.example.com"}, False),
        ({"Origin": "http://localhost:3000"}, True),
        ({}, True),
    ],
    ids=["other", "null", "no URL", "alike", "host", "local", "none"],
)
def test_origins(modern: Connect, legacy: Connect, era: str, headers: dict[str, str], allowed: bool) -> None:
    client = (modern if era == "modern" else legacy)("new")
    status = client.post("tools/list", headers=headers).status_code
    assert (status == 200) if allowed else (status == 403)


@pytest.mark.requirement("MCP26-SEC-03", "MCP26-AUTH-04")
@pytest.mark.parametrize("era", ["modern", "legacy"])
def test_who_is_nobody_gets_nothing(shared: Running, modern: Connect, legacy: Connect, era: str) -> None:
    client = (modern if era == "modern" else legacy)("new")
    for wrong in ("Bearer wrong", "Bearer", "Basic Zmlyc3Q="):
        client.http.headers["Authorization"] = wrong
        answer = client.post("tools/list")
        assert (answer.status_code, answer.headers["www-authenticate"].split()[0]) == (401, "Bearer")
    del client.http.headers["Authorization"]
    path = client.path
    for query in ("access_token=first", "key=first", "api_key=first"):
        client.path = f"{path}?{query}"
        assert client.post("tools/list").status_code == 401


@pytest.mark.requirement("MCP25-LOG-01")
@pytest.mark.parametrize("server", ["new", "old", "sticky"])
def test_the_level_of_a_session(legacy: Connect, new: Server2026, old: Server2025, server: str) -> None:
    def work(exchange: Exchange) -> None:
        for level in ("debug", "warning", "error"):
            exchange.notify("notifications/message", level=level, data=level)
        exchange.result({"content": [], "resultType": "complete"})

    new.tool["long"] = old.tool["long"] = work
    client, other = legacy(server), legacy(server)
    assert client.ask("logging/setLevel", {"level": "warning"})["result"] == {}
    for each, expected in ((client, ["warning", "error"]), (other, None)):
        with each.stream("tools/call", {"name": "long"}) as stream:
            logged = [message["params"]["level"] for message in stream.rest() if "method" in message]
        assert expected is None or logged == expected


@pytest.mark.requirement("BRIDGE-ANS-02")
def test_versions_are_of_their_own_session(legacy: Connect) -> None:
    """Two sessions of different versions stand side by side on one endpoint, and modern requests beside them."""
    one, two = legacy("new", version="2025-03-26"), legacy("new", version=LEGACY)
    assert one.ask("tools/list")["result"] == two.ask("tools/list")["result"]


@pytest.mark.requirement("MCP26-SEC-02")
@pytest.mark.parametrize(("listen", "accepted"), [({}, True), ({"host": "0.0.0.0"}, False), ({"host": "::"}, False)])
def test_without_a_key_there_is_only_loopback(tmp_path: Path, listen: Json, accepted: bool) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump({"listen": listen, "servers": [{"name": "x", "url": "http://127.0.0.1:1/mcp"}]}))
    command = [sys.executable, "-m", "mcp_gateway", "check", "--config", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode == 0) is accepted
    assert accepted or "auth.api_keys" in ended.stdout + ended.stderr
