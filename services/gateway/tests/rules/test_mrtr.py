"""Multi round-trip requests (2026-07-28 basic/patterns/mrtr): relayed as they are, or made of a server's questions."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rules.clients import ALL, LEGACY, Client2026
from rules.conftest import Connect, Start
from rules.upstream import Exchange, Server2025, Server2026, until

pytestmark = pytest.mark.integration
Json = dict[str, Any]
FORM = {"message": "Who?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}
SAMPLE = {"messages": [{"role": "user", "content": {"type": "text", "text": "What?"}}], "maxTokens": 9}
ANSWER = {"action": "accept", "content": {"name": "me"}}
STATE = 'opaque: "ä" \\ {"round": 1}'
METHODS = [("tools/call", "name", "asks"), ("prompts/get", "name", "greet"), ("resources/read", "uri", "test://static")]


def asking(exchange: Exchange, **result: Any) -> None:
    exchange.result({"resultType": "input_required", **result})


def done(exchange: Exchange) -> None:
    exchange.result({"resultType": "complete", "content": [], "messages": [], "contents": []})


# -- servers of 2026 ---------------------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP26-MRTR-01", "MCP26-MRTR-02")
@pytest.mark.parametrize(("method", "key", "name"), METHODS)
@pytest.mark.parametrize("merged", [False, True])
def test_questions_and_state_are_relayed_as_they_are(
    modern: Connect, new: Server2026, method: str, key: str, name: str, merged: bool
) -> None:
    questions = {"the key": {"method": "elicitation/create", "params": FORM}, "roots": {"method": "roots/list"}}
    new.on[method] = lambda exchange: asking(exchange, inputRequests=questions, requestState=STATE)
    outside = name if not merged else f"new+{name}" if key == "uri" else f"new__{name}"
    client = modern("" if merged else "new")
    result = client.ask(method, {key: outside}, capabilities=ALL)["result"]
    assert result["resultType"] == "input_required"
    assert (result["inputRequests"], result["requestState"]) == (questions, STATE)
    assert "ttlMs" not in result
    new.forget()
    new.on[method] = done
    responses = {"the key": ANSWER, "roots": {"roots": []}}
    retried = client.ask(
        method, {key: outside, "inputResponses": responses, "requestState": STATE}, id=2, capabilities=ALL
    )
    assert retried["result"]["resultType"] == "complete"
    sent = new.one(method).params
    assert (sent["inputResponses"], sent["requestState"]) == (responses, STATE)


@pytest.mark.requirement("MCP26-MRTR-02")
@pytest.mark.parametrize("given", [{"inputRequests": {"r": {"method": "roots/list"}}}, {"requestState": STATE}])
def test_one_of_both_is_enough(modern: Connect, new: Server2026, given: Json) -> None:
    new.tool["asks"] = lambda exchange: asking(exchange, **given)
    result = modern("new").call("asks", capabilities=ALL)["result"]
    assert {key: value for key, value in result.items() if key not in ("_meta", "resultType")} == given


@pytest.mark.requirement("MCP26-MRTR-01")
@pytest.mark.parametrize("method", ["tools/list", "completion/complete"])
def test_other_methods_never_ask(start: Start, method: str) -> None:
    server = Server2026()
    running = start([{"name": "new", "url": server.url}])
    server.on[method] = lambda exchange: asking(exchange, requestState=STATE)
    params = {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "a", "value": ""}}
    client = Client2026(running.url, "/servers/new/mcp")
    answer = client.ask(method, params if method.startswith("completion") else {}, capabilities=ALL)
    assert answer.get("result", {}).get("resultType") != "input_required"
    server.stop()


@pytest.mark.requirement("MCP26-MRTR-03")
def test_each_round_has_an_id_of_its_own(legacy: Connect, new: Server2026) -> None:
    """Between the gateway and the server, where the gateway is the client that asks again."""
    new.tool["asks"] = lambda exchange: (
        asking(exchange, requestState=STATE) if "requestState" not in exchange.params else done(exchange)
    )
    assert "result" in legacy("new", capabilities=ALL).call("asks")
    first, second = new.of("tools/call")
    assert first.id != second.id
    assert second.params["requestState"] == STATE
    assert "inputResponses" not in second.params


@pytest.mark.requirement("MCP26-MRTR-05", "MCP26-META-03")
@pytest.mark.parametrize(
    ("question", "declared", "needed"),
    [
        ({"method": "elicitation/create", "params": FORM}, {}, {"elicitation": {}}),
        ({"method": "sampling/createMessage", "params": SAMPLE}, {"elicitation": {}}, {"sampling": {}}),
        ({"method": "roots/list"}, {"sampling": {}, "elicitation": {}}, {"roots": {}}),
    ],
)
def test_nothing_is_asked_that_the_client_did_not_declare(
    modern: Connect, new: Server2026, question: Json, declared: Json, needed: Json
) -> None:
    new.tool["asks"] = lambda exchange: asking(exchange, inputRequests={"q": question})
    answer = modern("new").post("tools/call", {"name": "asks"}, capabilities=declared)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32021)
    assert set(answer.json()["error"]["data"]["requiredCapabilities"]) == set(needed)


# -- servers of 2025, whose calls are parked ---------------------------------------------------------------------------


class Parked:
    """A call of a server of 2025 that asks and then ends."""

    def __init__(self, old: Server2025, *questions: tuple[str, Json | None]) -> None:
        self.answers: list[Json] = []
        self.runs = 0
        old.tool["asks"] = self.work
        self.questions = questions

    def work(self, exchange: Exchange) -> None:
        self.runs += 1
        for method, params in self.questions:
            self.answers.append(exchange.ask(method, params))
        exchange.result({"content": [{"type": "text", "text": "answered"}]})


def question_of(result: Json) -> tuple[str, Json]:
    ((key, question),) = result["inputRequests"].items()
    return key, question


@pytest.mark.requirement("MCP26-MRTR-06", "BRIDGE-M2L-09")
@pytest.mark.parametrize(
    ("method", "params", "response"),
    [
        ("elicitation/create", FORM, ANSWER),
        (
            "sampling/createMessage",
            SAMPLE,
            {"role": "assistant", "content": {"type": "text", "text": "x"}, "model": "m"},
        ),
        ("roots/list", None, {"roots": [{"uri": "file:///here"}]}),
    ],
)
@pytest.mark.parametrize("server", ["old", "sticky"])
def test_a_servers_question_becomes_a_round(
    modern: Connect, old: Server2025, server: str, method: str, params: Json | None, response: Json
) -> None:
    parked = Parked(old, (method, params))
    client = modern(server)
    result = client.call("asks", capabilities=ALL)["result"]
    assert result["resultType"] == "input_required"
    key, question = question_of(result)
    assert question == {"method": method, **({"params": params} if params else {})}
    again = {"name": "asks", "arguments": {}, "inputResponses": {key: response}, "requestState": result["requestState"]}
    final = client.ask("tools/call", again, id=2, capabilities=ALL)["result"]
    assert (final["resultType"], final["content"][0]["text"]) == ("complete", "answered")
    assert (parked.runs, parked.answers[0]["result"]) == (1, response)


@pytest.mark.requirement("MCP26-MRTR-06")
def test_several_rounds(modern: Connect, old: Server2025) -> None:
    parked = Parked(old, ("elicitation/create", FORM), ("roots/list", None))
    client = modern("old")
    given: Json = {"name": "asks", "arguments": {}}
    states = []
    for response in (ANSWER, {"roots": []}):
        result = client.ask("tools/call", given, id=len(states), capabilities=ALL)["result"]
        key, _ = question_of(result)
        states.append(result["requestState"])
        given = {**given, "inputResponses": {key: response}, "requestState": result["requestState"]}
    assert client.ask("tools/call", given, id=9, capabilities=ALL)["result"]["resultType"] == "complete"
    assert len(set(states)) == 2
    assert parked.runs == 1


@pytest.mark.requirement("MCP26-MRTR-07")
def test_who_answers_nothing_is_asked_again(modern: Connect, old: Server2025) -> None:
    """And what was not asked is ignored ("Error Handling")."""
    parked = Parked(old, ("elicitation/create", FORM))
    client = modern("old")
    result = client.call("asks", capabilities=ALL)["result"]
    again = {"name": "asks", "arguments": {}, "requestState": result["requestState"]}
    asked = client.ask("tools/call", {**again, "inputResponses": {"other": ANSWER}}, id=2, capabilities=ALL)["result"]
    key, question = question_of(asked)
    assert (asked["resultType"], question["method"]) == ("input_required", "elicitation/create")
    responses = {key: ANSWER, "other": {"action": "cancel"}}
    again = {**again, "requestState": asked["requestState"], "inputResponses": responses}
    assert client.ask("tools/call", again, id=3, capabilities=ALL)["result"]["resultType"] == "complete"
    assert parked.runs == 1


@pytest.mark.requirement("MCP26-MRTR-04")
@pytest.mark.parametrize("how", ["tampered", "other principal", "other tool", "other arguments", "other endpoint"])
def test_a_state_is_good_for_its_request_and_principal_alone(modern: Connect, old: Server2025, how: str) -> None:
    parked = Parked(old, ("elicitation/create", FORM))
    client = modern("old")
    result = client.call("asks", {"a": 1}, capabilities=ALL)["result"]
    key, _ = question_of(result)
    right = {"name": "asks", "arguments": {"a": 1}, "requestState": result["requestState"]}
    right["inputResponses"] = {key: ANSWER}
    wrong = dict(right)
    other = client
    if how == "tampered":
        state = right["requestState"]
        wrong["requestState"] = state[:-2] + ("A" if state[-2] != "A" else "B") + state[-1]
    elif how == "other principal":
        other = modern("old", key="second")
    elif how == "other tool":
        wrong["name"] = "echo"
    elif how == "other arguments":
        wrong["arguments"] = {"a": 2}
    else:
        other, wrong["name"] = modern("sticky"), "asks"
    assert other.ask("tools/call", wrong, id=2, capabilities=ALL)["error"]["code"] == -32602
    assert (parked.runs, parked.answers) == (1, [])
    assert client.ask("tools/call", right, id=3, capabilities=ALL)["result"]["resultType"] == "complete"


@pytest.mark.requirement("MCP26-MRTR-04")
def test_a_state_is_good_once(modern: Connect, old: Server2025) -> None:
    parked = Parked(old, ("elicitation/create", FORM))
    client = modern("old")
    result = client.call("asks", capabilities=ALL)["result"]
    key, _ = question_of(result)
    given = {"name": "asks", "arguments": {}, "inputResponses": {key: ANSWER}, "requestState": result["requestState"]}
    assert "result" in client.ask("tools/call", given, id=2, capabilities=ALL)
    assert client.ask("tools/call", given, id=3, capabilities=ALL)["error"]["code"] == -32602
    assert parked.runs == 1


@pytest.mark.requirement("MCP26-MRTR-04")
@pytest.mark.parametrize("state", ["", "anything", "eyJhIjoxfQ"])
def test_a_state_of_nobodys(modern: Connect, old: Server2025, state: str) -> None:
    """A server of 2025 gives no state, so none can be right there; nothing must run for it."""
    parked = Parked(old)
    given = {"name": "asks", "arguments": {}, "requestState": state}
    assert modern("old").ask("tools/call", given, capabilities=ALL)["error"]["code"] == -32602
    assert parked.runs == 0


@pytest.mark.requirement("MCP26-META-03", "BRIDGE-M2L-09")
@pytest.mark.parametrize(
    ("method", "params", "declared", "needed"),
    [
        ("sampling/createMessage", SAMPLE, {}, {"sampling": {}}),
        ("elicitation/create", FORM, {"sampling": {}}, {"elicitation": {}}),
        ("roots/list", None, {"sampling": {}, "elicitation": {}}, {"roots": {}}),
        (
            "elicitation/create",
            {"mode": "url", "message": "Go", "url": "http://127.0.0.1/x", "elicitationId": "1"},
            {"elicitation": {"form": {}}},
            {"elicitation": {"url": {}}},
        ),
    ],
    ids=["sampling", "elicitation", "roots", "url"],
)
def test_a_question_that_the_client_did_not_declare_ends_the_call(
    modern: Connect, old: Server2025, method: str, params: Json | None, declared: Json, needed: Json
) -> None:
    Parked(old, (method, params))
    answer = modern("old").post("tools/call", {"name": "asks"}, capabilities=declared, id="mine")
    body = answer.json()
    assert (answer.status_code, body["error"]["code"], body["id"]) == (400, -32021, "mine")
    assert body["error"]["data"]["requiredCapabilities"] == needed


@pytest.mark.requirement("BRIDGE-URL-01")
def test_the_id_of_a_page_exists_in_2025_alone(modern: Connect, legacy: Connect, pair: Any) -> None:
    """``elicitationId`` is required in 2025-11-25 and gone in 2026-07-28 (client/elicitation)."""
    new, old = pair
    page = {"mode": "url", "message": "Go", "url": "http://127.0.0.1/x"}
    Parked(old, ("elicitation/create", {**page, "elicitationId": "of the server"}))
    _, question = question_of(modern("old").call("asks", capabilities=ALL)["result"])
    assert question["params"] == page
    new.tool["asks"] = lambda exchange: (
        done(exchange)
        if "inputResponses" in exchange.params
        else asking(exchange, inputRequests={"page": {"method": "elicitation/create", "params": page}})
    )
    client = legacy("new", capabilities=ALL)
    with client.stream("tools/call", {"name": "asks"}) as stream:
        question = stream.next()
        assert {k: v for k, v in question["params"].items() if k != "elicitationId"} == page
        assert isinstance(question["params"]["elicitationId"], str)
        client.respond(question, {"action": "accept"})
        assert "result" in stream.next()
    new.forget()
    old.forget()


@pytest.mark.requirement("BRIDGE-L2M-06")
def test_a_round_becomes_questions_on_the_calls_stream(legacy: Connect, new: Server2026) -> None:
    questions = {
        "who": {"method": "elicitation/create", "params": FORM},
        "where": {"method": "roots/list", "params": {}},
    }
    new.tool["asks"] = lambda exchange: (
        done(exchange)
        if "inputResponses" in exchange.params
        else asking(exchange, inputRequests=questions, requestState=STATE)
    )
    client = legacy("new", capabilities=ALL)
    with client.stream("tools/call", {"name": "asks", "arguments": {"a": 1}}, id="call") as stream:
        asked = {message["method"]: message for message in (stream.next(), stream.next())}
        assert asked["elicitation/create"]["params"] == FORM
        assert len({message["id"] for message in asked.values()}) == 2
        assert client.respond(asked["roots/list"], {"roots": []}).status_code == 202
        assert client.respond(asked["elicitation/create"], ANSWER).status_code == 202
        final = stream.next()
    assert (final["id"], "resultType" in final["result"]) == ("call", False)
    sent = new.of("tools/call")[1].params
    assert (sent["inputResponses"], sent["requestState"]) == ({"who": ANSWER, "where": {"roots": []}}, STATE)
    assert (sent["name"], sent["arguments"]) == ("asks", {"a": 1})


@pytest.mark.requirement("BRIDGE-L2M-06")
def test_a_server_that_never_has_enough(legacy: Connect, new: Server2026) -> None:
    new.tool["asks"] = lambda exchange: asking(exchange, requestState=str(len(new.of("tools/call"))))
    assert "error" in legacy("new", capabilities=ALL).call("asks")
    assert len(new.of("tools/call")) < 50


@pytest.mark.requirement("BRIDGE-L2M-06", "MCP25-LIFE-02")
def test_a_client_of_2025_that_cannot_be_asked(legacy: Connect, new: Server2026) -> None:
    questions = {"who": {"method": "elicitation/create", "params": FORM}}
    new.tool["asks"] = lambda exchange: asking(exchange, inputRequests=questions)
    client = legacy("new")
    assert client.version == LEGACY
    with client.stream("tools/call", {"name": "asks"}) as stream:
        (only,) = stream.rest()
    assert "error" in only


@pytest.mark.requirement("MCP26-CANCEL-02")
def test_a_client_that_leaves_in_the_middle_of_a_round(modern: Connect, old: Server2025) -> None:
    gate = threading.Event()

    def slow(exchange: Exchange) -> None:
        exchange.ask("elicitation/create", FORM)
        exchange.notify("notifications/message", level="error", data="answered")
        gate.wait(15)

    old.tool["asks"] = slow
    client = modern("old")
    meta = {"io.modelcontextprotocol/logLevel": "debug"}
    result = client.call("asks", capabilities=ALL, meta=meta)["result"]
    key, _ = question_of(result)
    running = old.one("tools/call")
    again = {"name": "asks", "arguments": {}, "requestState": result["requestState"]}
    again["inputResponses"] = {key: ANSWER}
    with client.stream("tools/call", again, id=2, capabilities=ALL, meta=meta) as stream:
        stream.next()
    cancelled = until(lambda: old.of("notifications/cancelled"), "the cancellation at the server")[-1]
    gate.set()
    assert cancelled.params["requestId"] == running.id
