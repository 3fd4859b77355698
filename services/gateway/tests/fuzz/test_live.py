"""A running gateway between a client and a server that Hypothesis makes up; both sides, over real sockets.

Promises: it lives, nobody waits beyond the deadline, every answer is HTTP with a JSON-RPC response in it that has the
request's id where that could be read, no 500, and no exception in the log.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import TESTS, Running, free_port
from faults.client import META, Answer, Closed, Raw, good, hello, in_session, modern, post
from faults.conftest import serve
from faults.rig import assert_no_exception, launch_sites
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.integration
# Shrinking a failure against a process with state of its own leads astray more often than it helps.
LIVE = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
ERAS = st.sampled_from(["say", "say-old"])


@pytest.fixture(scope="module")
def gateway(launch: Callable[..., Running], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("fuzz")
    sites: list[dict[str, Any]] = [
        {"name": "good", "era": "modern"},
        {"name": "say", "era": "modern", "on": {"tools/call": "say"}},
        {"name": "say-old", "era": "legacy", "on": {"tools/call": "say"}},
    ]
    _, reports = launch_sites(launch, directory, TESTS, free_port(), sites)
    limits = {"timeout_seconds": 2, "max_seconds": 3}
    servers = [{"name": n, "url": f"http://127.0.0.1:{r['port']}/mcp", **limits} for n, r in reports.items()]
    running = serve(launch, directory, servers)
    yield running
    assert running.process.poll() is None
    assert_no_exception(running.log.read_text())


def _answers(port: int, data: bytes) -> list[Answer]:
    """Everything that comes back for ``data`` and the end of sending."""
    found = []
    with Raw(port, timeout=8) as raw:
        raw.send(data)
        raw.half_close()
        with contextlib.suppress(Closed):
            while True:
                found.append(raw.answer())
    return found


def _check(answer: Answer) -> None:
    assert answer.status != 500, answer
    if answer.body and "json" in answer.headers.get("content-type", ""):
        json.loads(answer.body)


# -- clients -----------------------------------------------------------------------------------------------------------


@LIVE
@given(st.binary(max_size=300))
def test_bytes_that_are_no_request(gateway: Running, data: bytes) -> None:
    for answer in _answers(gateway.port, data):
        _check(answer)


@LIVE
@given(st.lists(st.tuples(st.integers(0, 800), st.integers(0, 12), st.binary(max_size=8)), max_size=4))
def test_requests_with_bytes_changed(gateway: Running, changes: list[tuple[int, int, bytes]]) -> None:
    data = good(1) + good(2)
    for at, drop, insert in changes:
        data = data[:at] + insert + data[at + drop :]
    for answer in _answers(gateway.port, data):
        _check(answer)


NAMES = st.sampled_from(
    ["Mcp-Method", "Mcp-Name", "Mcp-Session-Id", "MCP-Protocol-Version", "Accept", "Origin", "Content-Type"]
) | st.sampled_from(["Authorization", "X-API-Key", "Last-Event-ID", "Mcp-Param-A", "Connection", "Host", "Expect", "X"])
# Visible Latin-1, and now and then what no header may hold.
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40) | st.sampled_from(
    [
        "",
        "=?base64?Zm9v?=",
        "=?base64?!?=",
        "tools/call",
        "2026-07-28",
        "2025-11-25",
        "text/event-stream",
        "\x00",
        "\x7f",
    ]
)


@LIVE
@given(st.lists(st.tuples(NAMES, TEXTS), max_size=5))
def test_headers(gateway: Running, headers: list[tuple[str, str]]) -> None:
    body, own = modern("tools/call", {"name": "good__look"}, 5)
    lines = [f"{name}: {text}" for name, text in headers]
    with Raw(gateway.port, timeout=8) as raw, contextlib.suppress(Closed):
        raw.send(post(body, *own, *lines))
        answer = raw.answer()
        _check(answer)
        if answer.status == 200:
            assert answer.message["id"] == 5
        elif answer.body and "json" in answer.headers["content-type"]:
            assert "error" in answer.message


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
KEYS = (
    st.text(max_size=5)
    | st.sampled_from(
        ["name", "uri", "_meta", "arguments", "progressToken", "cursor", "ref", "type", "level", "requestId", "content"]
    )
    | st.sampled_from(
        [
            "contents",
            "tools",
            "nextCursor",
            "resultType",
            "error",
            "code",
            "message",
            "data",
            "ttlMs",
            "resource",
            "text",
        ]
    )
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=10
)
METHODS = (
    st.sampled_from(
        ["tools/call", "tools/list", "resources/read", "resources/list", "prompts/get", "completion/complete", "ping"]
    )
    | st.sampled_from(
        [
            "initialize",
            "server/discover",
            "logging/setLevel",
            "subscriptions/listen",
            "notifications/cancelled",
            "tasks/get",
        ]
    )
    | st.text(max_size=6)
)


def _readable(identity: Any) -> bool:
    """Whether it is an id (string or integer) that any reader can keep exactly."""
    return isinstance(identity, str) or (
        isinstance(identity, int) and not isinstance(identity, bool) and -(2**63) <= identity < 2**63
    )


def _ask(gateway: Running, session: str, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode("utf-8", "surrogatepass")
    method = body.get("method")
    listens = method == "subscriptions/listen"
    if session:
        request = in_session(session, data)
    else:
        value = method if isinstance(method, str) and method.isascii() and method.isprintable() else "x"
        request = post(data, "MCP-Protocol-Version: 2026-07-28", f"Mcp-Method: {value}")
    with Raw(gateway.port, timeout=8) as raw:
        raw.send(request)
        if listens:  # its answer has no end: what it begins with is enough
            raw.until(b"\r\n\r\n")
            return
        answer = raw.answer()
    _check(answer)
    if answer.status == 202 or not answer.body:
        return
    message = answer.message
    assert ("result" in message) != ("error" in message), message
    if _readable(body.get("id")):
        assert message["id"] == body["id"] and type(message["id"]) is type(body["id"])
    else:
        assert message.get("id") is None or message["id"] == body.get("id")


@LIVE
@given(METHODS, st.integers(0, 9) | SCALARS | VALUES, VALUES, st.booleans())
def test_messages_of_2026(gateway: Running, method: str, identity: Any, params: Any, enveloped: bool) -> None:
    if enveloped and isinstance(params, dict):
        params = {**params, "_meta": META}
    _ask(gateway, "", {"jsonrpc": "2.0", "id": identity, "method": method, "params": params})


@pytest.fixture(scope="module")
def session(gateway: Running) -> str:
    with Raw(gateway.port) as raw:
        raw.send(hello())
        return raw.answer().headers["mcp-session-id"]


@LIVE
@given(METHODS, st.integers(0, 9) | SCALARS | VALUES, VALUES, st.sampled_from([1.0, 0.9, 0.5]))
def test_messages_of_2025(gateway: Running, session: str, method: str, identity: Any, params: Any, keep: float) -> None:
    """With a good session id, and with one that is cut."""
    given_id = session[: int(len(session) * keep)]
    _ask(gateway, given_id, {"jsonrpc": "2.0", "id": identity, "method": method, "params": params})


# -- servers -----------------------------------------------------------------------------------------------------------


def _called(gateway: Running, server: str, said: bytes, close: bool) -> None:
    arguments = {"say": base64.b64encode(said).decode(), "close": close}
    body, headers = modern("tools/call", {"name": f"{server}__act", "arguments": arguments}, "call")
    with Raw(gateway.port, timeout=8) as raw:
        raw.send(post(body, *headers))
        answer = raw.answer()
    _check(answer)
    message = answer.message
    assert message["id"] == "call"
    assert ("result" in message) != ("error" in message), message


def _whole(body: bytes, kind: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _json(value: Any) -> bytes:
    """As text, with the request's id where ``ID`` stands: its length is not known here, so none is told."""
    return json.dumps(value).encode("utf-8", "surrogatepass").replace(b'"ID"', b"@ID@")


def _until_close(body: bytes, kind: str = "application/json") -> bytes:
    return f"HTTP/1.0 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode() + body


@LIVE
@given(ERAS, st.binary(max_size=300), st.booleans())
def test_servers_that_say_anything(gateway: Running, server: str, said: bytes, http: bool) -> None:
    _called(gateway, server, _whole(said) if http else said, close=True)


@LIVE
@given(ERAS, VALUES)
def test_results_of_any_shape(gateway: Running, server: str, result: Any) -> None:
    _called(gateway, server, _until_close(_json({"jsonrpc": "2.0", "id": "ID", "result": result})), close=True)


@LIVE
@given(
    ERAS, st.dictionaries(st.sampled_from(["content", "_meta", "resultType", "isError", "structuredContent"]), VALUES)
)
def test_results_of_odd_types(gateway: Running, server: str, result: Any) -> None:
    _called(gateway, server, _until_close(_json({"jsonrpc": "2.0", "id": "ID", "result": result})), close=True)


@LIVE
@given(ERAS, st.dictionaries(st.sampled_from(["jsonrpc", "id", "result", "error", "method", "params"]), VALUES))
def test_answers_of_any_shape(gateway: Running, server: str, message: Any) -> None:
    _called(gateway, server, _until_close(_json({"id": "ID", **message})), close=True)


@LIVE
@given(
    ERAS, st.lists(VALUES | st.dictionaries(st.sampled_from(["id", "method", "params", "result"]), VALUES), max_size=5)
)
def test_streams_of_any_messages(gateway: Running, server: str, messages: list[Any]) -> None:
    response = {"jsonrpc": "2.0", "id": "ID", "result": {"content": []}}
    stream = b"".join(b"data: " + _json(message) + b"\n\n" for message in [*messages, response])
    _called(gateway, server, _until_close(stream, "text/event-stream"), close=True)


@LIVE
@given(
    ERAS,
    st.lists(st.sampled_from([b"data: ", b"data:", b"\n", b"\r", b"\r\n", b":", b"{}", b'{"id":', b"@ID@}", b"x"])),
)
def test_streams_of_any_lines(gateway: Running, server: str, parts: list[bytes]) -> None:
    _called(gateway, server, _until_close(b"".join(parts), "text/event-stream"), close=True)
