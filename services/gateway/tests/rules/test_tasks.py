"""Tasks (SEP-2663): routed by sealed ids, for their principals alone."""

from __future__ import annotations

from typing import Any

import pytest

from rules.clients import META
from rules.conftest import Connect
from rules.upstream import Exchange, Server2026

pytestmark = pytest.mark.integration
Json = dict[str, Any]
EXTENSION = "io.modelcontextprotocol/tasks"
ABLE: Json = {"extensions": {EXTENSION: {}}}
TASK: Json = {"taskId": "task-of-the-server", "status": "working", "createdAt": "2026-11-01T00:00:00Z", "ttlMs": 60_000}


def creating(new: Server2026) -> None:
    """The server makes a task of each call and knows it."""
    new.tool["long"] = lambda exchange: exchange.result({"resultType": "task", **TASK})

    def serve(exchange: Exchange) -> None:
        if exchange.params.get("taskId") != TASK["taskId"]:
            exchange.error(-32602, "Unknown task", status=400)
            return
        value = {**TASK, "status": "completed", "result": {"content": []}} if exchange.method == "tasks/get" else {}
        exchange.result({"resultType": "complete", **value})

    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        new.on[method] = serve


@pytest.mark.requirement("MCP26-TASK-01", "MCP26-TASK-02")
@pytest.mark.parametrize("path", ["", "new"])
def test_a_task_is_found_by_its_id(modern: Connect, new: Server2026, path: str) -> None:
    creating(new)
    client = modern(path)
    created = client.call("long" if path else "new__long", capabilities=ABLE)["result"]
    assert created["resultType"] == "task"
    assert (created["status"], created["ttlMs"]) == (TASK["status"], TASK["ttlMs"])
    identity = created["taskId"]
    got = client.ask("tasks/get", {"taskId": identity}, capabilities=ABLE)["result"]
    assert (got["taskId"], got["status"], got["resultType"]) == (identity, "completed", "complete")
    for method in ("tasks/update", "tasks/cancel"):
        params = {"taskId": identity, **({"inputResponses": {}} if method == "tasks/update" else {})}
        assert client.ask(method, params, capabilities=ABLE)["result"]["resultType"] == "complete"
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        sent = new.one(method)
        assert sent.params["taskId"] == sent.headers["mcp-name"] == TASK["taskId"]
        assert sent.headers["mcp-method"] == method


@pytest.mark.requirement("MCP26-TASK-03")
@pytest.mark.parametrize("how", ["guessed", "the server's own", "changed", "other principal"])
def test_a_task_is_of_its_principal(modern: Connect, new: Server2026, how: str) -> None:
    creating(new)
    identity = modern("new").call("long", capabilities=ABLE)["result"]["taskId"]
    middle = len(identity) // 2
    swapped = "A" if identity[middle] != "A" else "B"
    wrong = {
        "guessed": "00000000-0000-4000-8000-000000000000",
        "the server's own": TASK["taskId"],
        "changed": identity[:middle] + swapped + identity[middle + 1 :],
        "other principal": identity,
    }[how]
    client = modern("new", key="second" if how == "other principal" else "first")
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        answer = client.ask(method, {"taskId": wrong, "inputResponses": {}}, capabilities=ABLE)
        assert answer["error"]["code"] == -32602
        assert new.of(method) == []


@pytest.mark.requirement("MCP26-TASK-04")
@pytest.mark.parametrize("path", ["", "new", "old"])
@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
def test_who_did_not_declare_tasks_has_none(modern: Connect, new: Server2026, path: str, method: str) -> None:
    answer = modern(path).post(method, {"taskId": "anything"}, id="mine")
    body = answer.json()
    assert (answer.status_code, body["error"]["code"], body["id"]) == (400, -32021, "mine")
    assert EXTENSION in body["error"]["data"]["requiredCapabilities"]["extensions"]
    assert new.of(method) == []


@pytest.mark.requirement("MCP26-TASK-04")
def test_nobody_gets_a_task_who_did_not_declare_them(modern: Connect, new: Server2026) -> None:
    creating(new)
    answer = modern("new").post("tools/call", {"name": "long"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32021)
    assert EXTENSION in answer.json()["error"]["data"]["requiredCapabilities"]["extensions"]


@pytest.mark.requirement("MCP26-TASK-05")
@pytest.mark.parametrize("header", [None, "other"], ids=["absent", "other"])
@pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
def test_mcp_name_is_the_tasks_id(modern: Connect, new: Server2026, method: str, header: str | None) -> None:
    creating(new)
    client = modern("new")
    identity = client.call("long", capabilities=ABLE)["result"]["taskId"]
    answer = client.post(method, {"taskId": identity}, capabilities=ABLE, headers={"Mcp-Name": header})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)
    assert new.of(method) == []


@pytest.mark.requirement("MCP26-TASK-05")
@pytest.mark.parametrize("method", ["tasks/list", "tasks/result"])
def test_methods_of_the_tasks_of_2025(modern: Connect, method: str) -> None:
    answer = modern("new").post(method, {"taskId": "x"}, capabilities=ABLE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, -32601)


@pytest.mark.requirement("MCP26-TASK-02", "MCP26-META-04")
def test_the_extension_travels_with_the_call(modern: Connect, new: Server2026) -> None:
    modern("new").call("echo", capabilities=ABLE)
    assert new.one("tools/call").meta[f"{META}clientCapabilities"] == ABLE
