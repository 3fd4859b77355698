"""What 2026-07-28 demands of the wire (basic/transports/streamable-http, basic/index, basic/versioning)."""

from __future__ import annotations

import base64
import http.client
import json
import re
from typing import Any

import pytest

from rules.clients import ACCEPT, ALL, META, MODERN, message_of
from rules.conftest import Connect
from rules.upstream import Exchange, Server2025, Server2026

pytestmark = pytest.mark.integration
Json = dict[str, Any]
LEGACY_ONLY = ("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe")


def encoded(value: str) -> str:
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def refused(answer: Any, status: int, code: int, identity: Any = 1) -> Json:
    """The error object of a refusal."""
    body = message_of(answer)
    assert (answer.status_code, body.get("error", {}).get("code"), body.get("id")) == (status, code, identity), body
    return dict(body["error"])


# -- HTTP --------------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP26-HTTP-01")
@pytest.mark.parametrize(
    "body",
    [{"jsonrpc": "2.0", "id": 7, "result": {}}, [{"jsonrpc": "2.0", "id": 7, "method": "tools/list"}], []],
    ids=["response", "batch", "empty batch"],
)
def test_a_body_is_one_request_or_notification(modern: Connect, body: Any) -> None:
    headers = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": MODERN}
    assert 400 <= modern().raw(body, headers).status_code < 500


@pytest.mark.requirement("MCP26-HTTP-02")
@pytest.mark.parametrize("verb", ["GET", "DELETE"])
def test_there_is_no_other_verb(modern: Connect, verb: str) -> None:
    client = modern("new")
    headers = {"MCP-Protocol-Version": MODERN, "Accept": "text/event-stream"}
    answer = client.http.request(verb, client.path, headers=headers)
    assert answer.status_code == 405
    assert "POST" in answer.headers["allow"]


@pytest.mark.requirement("MCP26-HTTP-03", "MCP26-HTTP-04")
@pytest.mark.parametrize("header", ["Mcp-Session-Id", "Last-Event-ID"])
@pytest.mark.parametrize("server", ["new", "old"])
def test_headers_of_2025_are_ignored(modern: Connect, server: str, header: str) -> None:
    answer = modern(server).post("tools/list", headers={header: "forged"})
    assert answer.status_code == 200
    assert "result" in message_of(answer)
    assert header.lower() not in answer.headers


@pytest.mark.requirement("MCP26-HTTP-03")
@pytest.mark.parametrize("server", ["new", "old", "sticky"])
def test_no_session_is_minted(modern: Connect, new: Server2026, server: str) -> None:
    new.tool["echo"] = lambda exchange: exchange.result(
        {"resultType": "complete", "content": []}, **{"Mcp-Session-Id": "of the server"}
    )
    answer = modern(server).post("tools/call", {"name": "echo", "arguments": {}})
    assert answer.status_code == 200
    assert "mcp-session-id" not in answer.headers


@pytest.mark.requirement("MCP26-HTTP-05")
def test_a_notification_has_no_response(modern: Connect) -> None:
    body = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": "notifications/cancelled", "Accept": "application/json"}
    answer = modern().raw(body, headers)
    assert answer.status_code == 202 or 400 <= answer.status_code < 500
    assert answer.status_code != 202 or answer.content == b""


@pytest.mark.requirement("MCP26-HTTP-06")
@pytest.mark.parametrize("header", [None, "2025-11-25", "2099-01-01"], ids=["absent", "older", "unknown"])
@pytest.mark.parametrize("identity", [7, "seven"])
def test_the_version_header_equals_the_version(modern: Connect, header: str | None, identity: Any) -> None:
    answer = modern().post("tools/list", id=identity, headers={"MCP-Protocol-Version": header})
    refused(answer, 400, -32020, identity)


@pytest.mark.requirement("MCP26-HTTP-07")
@pytest.mark.parametrize("version", ["2099-01-01", "v999.0.0"])
def test_an_unsupported_version(modern: Connect, version: str) -> None:
    client = modern()
    known = client.ask("server/discover")["result"]["supportedVersions"]
    meta = {f"{META}protocolVersion": version}
    error = refused(client.post("tools/list", meta=meta, headers={"MCP-Protocol-Version": version}), 400, -32022)
    assert error["data"]["requested"] == version
    assert error["data"]["supported"]
    assert set(error["data"]["supported"]) <= set(known)


@pytest.mark.requirement("MCP26-HTTP-08")
@pytest.mark.parametrize("value", [None, "tools/call", "Tools/List", ""], ids=["absent", "other", "case", "empty"])
def test_mcp_method_equals_the_method(modern: Connect, value: str | None) -> None:
    refused(modern().post("tools/list", headers={"Mcp-Method": value}), 400, -32020)


@pytest.mark.requirement("MCP26-HTTP-09")
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("tools/call", {"name": "echo", "arguments": {}}),
        ("prompts/get", {"name": "greet"}),
        ("resources/read", {"uri": "test://static"}),
    ],
)
@pytest.mark.parametrize("server", ["new", "old"])
@pytest.mark.parametrize("value", [None, "other", "ECHO"], ids=["absent", "other", "case"])
def test_mcp_name_equals_the_name(
    modern: Connect, new: Server2026, old: Server2025, server: str, method: str, params: Json, value: str | None
) -> None:
    refused(modern(server).post(method, params, headers={"Mcp-Name": value}), 400, -32020)
    assert new.of(method) == old.of(method) == []


@pytest.mark.requirement("MCP26-HTTP-10")
def test_names_of_headers_have_no_case_and_values_no_margin(modern: Connect) -> None:
    """Sent by hand: clients' libraries take margins away (RFC 9110 5.5 has the server do it)."""
    client = modern("new")
    body, _ = client.request_parts("tools/call", {"name": "echo", "arguments": {}})
    given = {"MCP-METHOD": "  tools/call ", "mcp-name": "\techo  ", "mCp-pRoToCoL-vErSiOn": f" {MODERN}\t"}
    given |= {"Authorization": "Bearer first", "Accept": ACCEPT}
    connection = http.client.HTTPConnection(client.http.base_url.host, client.http.base_url.port, timeout=20)
    connection.request("POST", client.path, json.dumps(body), given)
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
    assert "result" in json.loads(text)


@pytest.mark.requirement("MCP26-HTTP-11")
@pytest.mark.parametrize("uri", ["test://größe", "test://static ", "=?base64?plain?="])
@pytest.mark.parametrize("server", ["new", "old"])
def test_an_encoded_name_is_decoded(modern: Connect, server: str, uri: str) -> None:
    client = modern(server)
    answer = client.ask("resources/read", {"uri": uri}, headers={"Mcp-Name": encoded(uri)})
    assert answer["result"]["contents"][0]["text"] == f"text of {uri}"
    refused(client.post("resources/read", {"uri": uri}, headers={"Mcp-Name": encoded("other")}), 400, -32020)


@pytest.mark.requirement("MCP26-HTTP-11")
@pytest.mark.parametrize("value", ["=?BASE64?ZWNobw==?=", "=?base64?ZWNobw==", "=?base64?%%%?=", "=?base64?ZWNobw?="])
def test_what_is_not_well_encoded_is_no_name(modern: Connect, value: str) -> None:
    refused(modern("new").post("tools/call", {"name": "echo"}, headers={"Mcp-Name": value}), 400, -32020)


@pytest.mark.requirement("MCP26-HTTP-11")
def test_a_name_that_needs_encoding_is_encoded_upstream(modern: Connect, new: Server2026) -> None:
    uri = "test://größe"
    modern("new").ask("resources/read", {"uri": uri}, headers={"Mcp-Name": encoded(uri)})
    assert new.one("resources/read").headers["mcp-name"] == encoded(uri)


# -- headers of parameters ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP26-HTTP-12")
@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ({"region": "west"}, {"Mcp-Param-Region": "west"}),
        ({"region": "größe"}, {"Mcp-Param-Region": encoded("größe")}),
        ({"region": " west "}, {"mcp-param-region": encoded(" west ")}),
        ({"count": 42}, {"Mcp-Param-Count": "42"}),
        ({"count": 42}, {"Mcp-Param-Count": "42.0"}),
        ({"region": None}, {}),
        ({}, {}),
    ],
    ids=["plain", "encoded", "margin", "integer", "number", "null", "absent"],
)
def test_headers_of_parameters_that_are_right(modern: Connect, arguments: Json, headers: dict[str, str]) -> None:
    answer = modern("new").post("tools/call", {"name": "mirrored", "arguments": arguments}, headers=headers)
    assert "result" in message_of(answer), answer.text


@pytest.mark.requirement("MCP26-HTTP-12")
@pytest.mark.parametrize(
    ("arguments", "headers"),
    [
        ({"region": "west"}, {"Mcp-Param-Region": "east"}),
        ({"region": "west"}, {"Mcp-Param-Region": "West"}),
        ({"region": "west"}, {}),
        ({"region": "west"}, {"Mcp-Param-Region": encoded("east")}),
        ({"region": "west"}, {"Mcp-Param-Region": "=?base64?%%%?="}),
        ({"count": 42}, {"Mcp-Param-Count": "43"}),
        ({"count": 42}, {}),
    ],
    ids=["other", "case", "missing", "encoded other", "no base64", "integer", "integer missing"],
)
def test_headers_of_parameters_that_are_wrong(
    modern: Connect, new: Server2026, arguments: Json, headers: dict[str, str]
) -> None:
    client = modern("new")
    client.ask("tools/list")
    refused(client.post("tools/call", {"name": "mirrored", "arguments": arguments}, headers=headers), 400, -32020)
    assert new.of("tools/call") == []


@pytest.mark.requirement("MCP26-HTTP-13")
def test_unknown_headers_of_parameters_are_passed_on(modern: Connect, new: Server2026) -> None:
    headers = {"Mcp-Param-Region": "west", "Mcp-Param-Unknown": "kept"}
    modern("new").call("mirrored", {"region": "west"}, headers=headers)
    assert new.one("tools/call").headers["mcp-param-unknown"] == "kept"


@pytest.mark.requirement("MCP26-HTTP-14")
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize(
    ("method", "key", "own", "outside"),
    [
        ("tools/call", "name", "echo", "new__echo"),
        ("prompts/get", "name", "greet", "new__greet"),
        ("resources/read", "uri", "test://static", "new+test://static"),
    ],
)
def test_headers_upstream_say_what_the_body_says(
    modern: Connect, new: Server2026, merged: bool, method: str, key: str, own: str, outside: str
) -> None:
    answer = modern("" if merged else "new").ask(method, {key: outside if merged else own})
    assert "result" in answer, answer
    sent = new.one(method)
    assert sent.params[key] == own
    assert (sent.headers["mcp-method"], sent.headers["mcp-name"]) == (method, own)
    assert sent.headers["mcp-protocol-version"] == sent.meta[f"{META}protocolVersion"] == MODERN
    assert {"application/json", "text/event-stream"} <= set(re.split(r"[,;]\s*", sent.headers["accept"]))
    assert "mcp-session-id" not in sent.headers


@pytest.mark.requirement("MCP26-HTTP-15")
def test_a_client_of_2025_mirrors_nothing_and_the_gateway_does(legacy: Connect, new: Server2026) -> None:
    client = legacy("new")
    client.call("mirrored", {"region": "größe", "count": 3})
    sent = new.one("tools/call").headers
    assert (sent["mcp-param-region"], sent["mcp-param-count"]) == (encoded("größe"), "3")
    new.forget()
    client.call("mirrored", {"region": None})
    assert not [name for name in new.one("tools/call").headers if name.startswith("mcp-param-")]


@pytest.mark.requirement("MCP26-HTTP-16")
@pytest.mark.parametrize("path", ["", "new"])
def test_a_tool_with_an_invalid_annotation_is_not_listed(modern: Connect, legacy: Connect, path: str) -> None:
    for client in (modern(path), legacy(path)):
        names = {tool["name"].removeprefix("new__") for tool in client.ask("tools/list")["result"]["tools"]}
        assert "mirrored" in names
        assert "broken" not in names


@pytest.mark.requirement("MCP26-HTTP-17")
def test_a_server_that_wants_other_headers_is_asked_again(modern: Connect, new: Server2026) -> None:
    modern("new").ask("tools/list")
    new.forget()

    def strict(exchange: Exchange) -> None:
        if len(new.of("tools/call")) == 1:
            return exchange.error(-32020, "Header mismatch", status=400)
        return exchange.result({"resultType": "complete", "content": [{"type": "text", "text": "second"}]})

    new.tool["echo"] = strict
    answer = modern("new").call("echo")
    assert answer["result"]["content"][0]["text"] == "second"
    assert len(new.of("tools/list")) == 1
    assert len(new.of("tools/call")) == 2


@pytest.mark.requirement("MCP26-HTTP-18")
@pytest.mark.parametrize("server", ["new", "old"])
def test_a_header_gives_no_right(
    modern: Connect, legacy: Connect, new: Server2026, old: Server2025, server: str
) -> None:
    """The tool of the body is what the policy judges; a header of 2026 on a request of 2025 means nothing."""
    refused(modern(server).post("tools/call", {"name": "denied"}, headers={"Mcp-Name": "echo"}), 400, -32020)
    assert modern(server).call("denied")["error"]["code"] == -32602
    headers = {"Mcp-Method": "tools/call", "Mcp-Name": "echo"}
    assert legacy(server).call("denied", headers=headers)["error"]["code"] == -32602
    assert new.of("tools/call") == old.of("tools/call") == []


# -- envelope, capabilities, errors ------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP26-META-01")
@pytest.mark.parametrize("missing", ["protocolVersion", "clientCapabilities", None], ids=["version", "able", "all"])
@pytest.mark.parametrize("method", ["server/discover", "tools/list"])
def test_the_envelope_is_required(modern: Connect, method: str, missing: str | None) -> None:
    full = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    envelope = {key: value for key, value in full.items() if missing and key != META + missing}
    refused(modern().post(method, envelope=envelope, id="given"), 400, -32602, "given")


@pytest.mark.requirement("MCP26-META-01")
def test_client_info_is_optional(modern: Connect) -> None:
    envelope = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    assert "result" in modern().ask("tools/list", envelope=envelope)


@pytest.mark.requirement("MCP26-META-02")
@pytest.mark.parametrize("server", ["", "new", "old"])
def test_results_say_who_serves(modern: Connect, server: str) -> None:
    for method in ("server/discover", "tools/list"):
        info = modern(server).ask(method)["result"]["_meta"][f"{META}serverInfo"]
        assert info["name"]
        assert info["version"]


@pytest.mark.requirement("MCP26-META-03")
def test_a_servers_refusal_for_a_missing_capability(modern: Connect, new: Server2026) -> None:
    data = {"requiredCapabilities": {"sampling": {}}}
    new.tool["asks"] = lambda exchange: exchange.error(-32021, "sampling is missing", data, 400)
    assert refused(modern("new").post("tools/call", {"name": "asks"}), 400, -32021)["data"] == data


@pytest.mark.requirement("MCP26-META-04")
@pytest.mark.parametrize("declared", [{}, {"elicitation": {"form": {}}}, ALL], ids=["none", "one", "all"])
def test_the_callers_capabilities_are_the_gateways(
    modern: Connect, legacy: Connect, new: Server2026, declared: Json
) -> None:
    """No more, which could not be kept, and no fewer, which would hide tools."""
    modern("new").call("echo", capabilities=declared)
    legacy("new", capabilities=declared).call("echo")
    first, second = new.of("tools/call")
    assert first.meta[f"{META}clientCapabilities"] == declared
    assert second.meta[f"{META}clientCapabilities"] == declared


@pytest.mark.requirement("MCP26-RPC-01")
@pytest.mark.parametrize("server", ["", "new", "old"])
@pytest.mark.parametrize("identity", [0, 7, "seven"])
def test_an_unknown_method(modern: Connect, server: str, identity: Any) -> None:
    refused(modern(server).post("nobody/knows", id=identity), 404, -32601, identity)


@pytest.mark.requirement("MCP26-RPC-02")
@pytest.mark.parametrize("server", ["", "new", "old"])
@pytest.mark.parametrize("method", LEGACY_ONLY)
def test_methods_of_2025_are_unknown(modern: Connect, old: Server2025, server: str, method: str) -> None:
    refused(modern(server).post(method, {"uri": "test://static", "level": "info"}), 404, -32601)
    assert old.of(method) == []


@pytest.mark.requirement("MCP26-RPC-03")
@pytest.mark.parametrize("identity", [0, 12345, "text", ""])
def test_responses_carry_their_requests_id(modern: Connect, identity: Any) -> None:
    for server in ("new", "old"):
        assert modern(server).call("echo", id=identity)["id"] == identity
        assert (
            modern(server).ask("resources/read", {"uri": 5}, id=identity, headers={"Mcp-Name": "5"})["id"] == identity
        )


@pytest.mark.requirement("MCP26-RPC-04")
@pytest.mark.parametrize(("code", "expected"), [(-32002, -32602), (-32042, None)])
@pytest.mark.parametrize("server", ["new", "old"])
def test_codes_of_2025_are_not_passed_on(
    modern: Connect, new: Server2026, old: Server2025, server: str, code: int, expected: int | None
) -> None:
    for upstream in (new, old):
        upstream.on["resources/read"] = lambda exchange: exchange.error(code, "scripted", {"uri": "test://x"})
    error = modern(server).ask("resources/read", {"uri": "test://x"})["error"]
    assert error["code"] == expected if expected else error["code"] not in (-32002, -32042)


@pytest.mark.requirement("MCP26-RPC-05")
@pytest.mark.parametrize("code", [-32023, -32050, -32099])
@pytest.mark.parametrize("server", ["new", "old"])
def test_reserved_codes_are_not_passed_on(
    modern: Connect, new: Server2026, old: Server2025, server: str, code: int
) -> None:
    for upstream in (new, old):
        upstream.tool["echo"] = lambda exchange: exchange.error(code)
    assert modern(server).call("echo")["error"]["code"] not in range(-32099, -32022)


@pytest.mark.requirement("MCP26-RPC-06")
@pytest.mark.parametrize("server", ["new", "old", ""])
def test_every_result_has_its_type(modern: Connect, server: str) -> None:
    client = modern(server)
    name, uri = ("new__echo", "new+test://static") if not server else ("echo", "test://static")
    results = [
        client.ask(f"{kind}/list")["result"] for kind in ("tools", "prompts", "resources", "resources/templates")
    ]
    results.append(client.ask("server/discover")["result"])
    results.append(client.call(name)["result"])
    results.append(client.ask("resources/read", {"uri": uri})["result"])
    reference = {"type": "ref/resource", "uri": uri}
    argument = {"name": "key", "value": "o"}
    results.append(client.ask("completion/complete", {"ref": reference, "argument": argument})["result"])
    assert {result["resultType"] for result in results} == {"complete"}


@pytest.mark.requirement("MCP26-RPC-07")
@pytest.mark.parametrize("kind", ["surprise", "task"])
def test_a_result_of_a_type_that_the_client_does_not_know(modern: Connect, new: Server2026, kind: str) -> None:
    new.tool["echo"] = lambda exchange: exchange.result({"resultType": kind, "taskId": "t", "content": []})
    assert "error" in modern("new").call("echo")


@pytest.mark.requirement("MCP26-RPC-08")
def test_lists_are_in_the_same_order_on_every_connection(modern: Connect) -> None:
    lists = [[tool["name"] for tool in modern().ask("tools/list")["result"]["tools"]] for _ in range(3)]
    assert lists[0] == lists[1] == lists[2]
    assert len(set(lists[0])) == len(lists[0]) > 0


@pytest.mark.requirement("MCP26-RPC-09")
def test_nothing_is_remembered_of_the_connection(modern: Connect, new: Server2026) -> None:
    client = modern("new")
    client.call("echo", capabilities=ALL, meta={f"{META}logLevel": "debug"})
    client.call("echo")
    second = new.of("tools/call")[1]
    assert second.meta[f"{META}clientCapabilities"] == {}
    assert f"{META}logLevel" not in second.meta


# -- streams -----------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("MCP26-STREAM-01", "MCP26-STREAM-04")
@pytest.mark.parametrize("server", ["new", "old"])
def test_a_stream_has_notifications_and_then_the_response(
    modern: Connect, new: Server2026, old: Server2025, server: str
) -> None:
    def work(exchange: Exchange) -> None:
        token = exchange.meta["progressToken"]
        for step in (1, 2):
            exchange.notify("notifications/progress", progressToken=token, progress=step)
        if exchange.server is old:
            exchange.ask("ping")
        exchange.result({"content": [], "resultType": "complete"})

    new.tool["long"] = old.tool["long"] = work
    with modern(server).stream("tools/call", {"name": "long"}, meta={"progressToken": "mine"}, id=5) as stream:
        messages = stream.rest()
    assert [message.get("method") for message in messages] == ["notifications/progress"] * 2 + [None]
    assert {message["params"]["progressToken"] for message in messages[:2]} == {"mine"}
    assert [message["params"]["progress"] for message in messages[:2]] == [1, 2]
    assert (messages[2]["id"], "result" in messages[2]) == (5, True)


@pytest.mark.requirement("MCP26-STREAM-02")
@pytest.mark.parametrize("method", ["tools/call", "subscriptions/listen"])
def test_streams_are_not_to_be_buffered(modern: Connect, new: Server2026, method: str) -> None:
    def work(exchange: Exchange) -> None:
        exchange.notify("notifications/progress", progressToken=exchange.meta["progressToken"], progress=1)
        exchange.result({"content": [], "resultType": "complete"})

    new.tool["long"] = work
    params = {"name": "long"} if method == "tools/call" else {"notifications": {"toolsListChanged": True}}
    with modern("new").stream(method, params, meta={"progressToken": 1}) as stream:
        stream.next()
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        assert stream.response.headers["x-accel-buffering"] == "no"


@pytest.mark.requirement("MCP26-STREAM-03")
def test_a_quiet_stream_is_kept_alive(modern: Connect) -> None:
    with modern("new").stream("subscriptions/listen", {"notifications": {"toolsListChanged": True}}) as stream:
        assert stream.next()["method"] == "notifications/subscriptions/acknowledged"
        stream.wait_for_comment()
