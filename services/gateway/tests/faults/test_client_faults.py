"""Every fault of a client: it gets the mandated answer or none, and nobody else notices anything."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import wait_until

from faults.client import Closed, Raw, good, hello, in_session, modern, post
from faults.requests import EVERY, HUGE_IDS, IDS, MESSAGES, SERVED, Bad, Message
from faults.rig import HTTP, Rig

# Connections that the probe and the pools may hold more than before.
POOLED = 6


@pytest.fixture(scope="module")
def shared(rig: Callable[..., Rig], tmp_path_factory: pytest.TempPathFactory) -> Rig:
    """One gateway with two keys' principals and the servers that clients misbehave at."""
    sites: list[dict[str, Any]] = [
        {"name": "hang", "era": "modern", "on": {"tools/call": "hang-before-headers"}},
        {"name": "hang-old", "era": "legacy", "on": {"tools/call": "hang-before-headers"}},
        {"name": "pour", "era": "modern", "on": {"tools/call": "progress-for-ever"}},
        {"name": "pour-old", "era": "legacy", "on": {"tools/call": "progress-for-ever"}},
    ]
    limits: dict[str, dict[str, Any]] = {site["name"]: {"timeout_seconds": 5, "max_seconds": 10} for site in sites}
    return rig(sites, limits)


@pytest.fixture
def healthy(shared: Rig) -> Iterator[Rig]:
    """The gateway; afterwards it must be as well as before, and its other clients must not have noticed."""
    assert shared.probe
    failed, before = len(shared.probe.failures), shared.now()
    yield shared
    shared.probe.rounds(4)
    assert shared.probe.failures[failed:] == []
    shared.is_well(before, POOLED)


def outcome(raw: Raw, verb: str = "POST") -> tuple[int, bytes]:
    """The status, 0 for closed without an answer, and the body."""
    try:
        answer = raw.answer(verb)
    except Closed:
        return 0, b""
    return answer.status, answer.body


# -- requests that are none --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", EVERY, ids=[bad.name for bad in EVERY])
def test_a_bad_request(healthy: Rig, seen: Callable[..., None], bad: Bad) -> None:
    with Raw(healthy.gateway.port) as raw:
        raw.send(bad.data)
        status, body = outcome(raw, bad.verb)
        seen("bad requests", bad.name, body.decode(errors="replace"), str(status or "closed"))
        assert status in bad.statuses, body
        raw.half_close()
        rest = raw.rest()
    assert b"HTTP/1.1 200" not in rest or not bad.single, "what followed was taken for a request"
    assert b'"id":666' not in rest.replace(b" ", b"")


@pytest.mark.parametrize("bad", MESSAGES, ids=[message.name for message in MESSAGES])
def test_a_bad_message(healthy: Rig, seen: Callable[..., None], bad: Message) -> None:
    _, headers = modern("tools/call", {"name": "good__look"})
    with Raw(healthy.gateway.port) as raw:
        raw.send(post(bad.body, *headers))
        answer = raw.answer()
        seen("bad messages", bad.name, answer.body.decode(errors="replace"), str(answer.status))
        assert answer.status in bad.statuses
        message = answer.message
        failure = message.get("error", {"code": SERVED, "message": ""})
        assert failure["code"] in bad.codes
        assert isinstance(failure["message"], str)
        assert message.get("id") == bad.echo
        raw.send(good(9))  # the connection is as good as new
        assert raw.answer().message["result"]


@pytest.mark.parametrize("identity", IDS, ids=[repr(identity)[:20] for identity in IDS])
def test_an_odd_id_comes_back(healthy: Rig, identity: Any) -> None:
    with Raw(healthy.gateway.port) as raw:
        raw.send(good(identity))
        message = raw.answer().message
    assert message["id"] == identity and type(message["id"]) is type(identity)
    assert "result" in message


@pytest.mark.parametrize("identity", HUGE_IDS, ids=repr)
def test_a_huge_id_is_never_changed(healthy: Rig, identity: int) -> None:
    with Raw(healthy.gateway.port) as raw:
        raw.send(good(identity))
        message = raw.answer().message
    assert message.get("id") in (identity, None)
    assert ("error" in message) == (message.get("id") is None)
    assert not isinstance(message.get("id"), float)


# -- HTTP as it may be -------------------------------------------------------------------------------------------------


def test_what_is_unusual_and_right(healthy: Rig) -> None:
    port = healthy.gateway.port
    body, headers = modern("tools/call", {"name": "good__look"})
    data = json.dumps(body).encode()
    chunks = b"".join(b"%X;x=y\r\n%b\r\n" % (1, data[i : i + 1]) for i in range(len(data)))
    absolute = b"http://127.0.0.1:%d/mcp" % port
    cases = {
        "absolute form (RFC 9112, 3.2.2)": good(1, path=absolute),
        "HTTP/1.0": good(1, version=b"HTTP/1.0"),
        "a byte in each chunk, with extensions": post(chunks + b"0\r\n\r\n", *headers, "Transfer-Encoding: chunked"),
        "trailers": post(chunks + b"0\r\nX: y\r\n\r\n", *headers, "Transfer-Encoding: chunked"),
        "upgrade offered (RFC 9110, 7.8: may be ignored)": good(1, "Upgrade: h2c", "Connection: Upgrade"),
        "line ends before it (RFC 9112, 2.2)": b"\r\n" + good(1),
        "close": good(1, "Connection: close"),
        "cookies": good(1, "Cookie: a=b"),
        "names in capitals": good(1).replace(b"Mcp-Method", b"MCP-METHOD").replace(b"Host", b"HOST"),
        "charset": good(1, kind=b"application/json; charset=utf-8"),
    }
    for name, request in cases.items():
        with Raw(port) as raw:
            raw.send(request)
            answer = raw.answer()
            assert answer.status == 200 and answer.message["result"], (name, answer)
            if name in ("HTTP/1.0", "close"):
                assert raw.ended(), name


def test_expect_100_continue(healthy: Rig) -> None:
    """RFC 9110, section 10.1.1: the client waits for the 100 before it sends the body."""
    head, body = good(1, "Expect: 100-continue").split(b"\r\n\r\n", 1)
    with Raw(healthy.gateway.port) as raw:
        raw.send(head + b"\r\n\r\n")
        assert raw.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        raw.send(body)
        assert raw.answer().status == 200


def test_a_websocket_is_refused(healthy: Rig) -> None:
    upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAA")
    with Raw(healthy.gateway.port) as raw:
        raw.send(post(b"", *upgrade, verb=b"GET"))
        assert raw.answer().status in (400, 405, 406, 426)


def test_pipelined_requests_are_answered_in_order(healthy: Rig) -> None:
    with Raw(healthy.gateway.port) as raw:
        raw.send(b"".join(good(number) for number in range(100)))
        assert [raw.answer().message["id"] for _ in range(100)] == list(range(100))


def test_pipelined_behind_one_that_hangs(healthy: Rig) -> None:
    """The second answer waits for the first (RFC 9112, 9.3.2), and the client that gives up leaves nothing."""
    body, headers = modern("tools/call", {"name": "hang__act", "arguments": {}}, 1)
    with Raw(healthy.gateway.port) as raw:
        raw.send(post(body, *headers) + good(2) * 50)
        with pytest.raises(TimeoutError):
            raw.socket.settimeout(0.5)
            raw.answer()


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_a_body_beyond_the_limit_is_refused_before_it_comes(healthy: Rig) -> None:
    _, headers = modern("tools/call", {"name": "good__look"})
    with Raw(healthy.gateway.port) as raw:
        raw.send(post(b"", *headers, length=10**11))
        assert raw.answer().status == 413


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "length"])
def test_a_body_without_end_is_cut_off(healthy: Rig, chunked: bool) -> None:
    """Refused while it comes; what is kept of it is bounded."""
    _, headers = modern("tools/call", {"name": "good__look"})
    before, block = healthy.now(), b"x" * 65536
    healthy.forget_peak()
    coding = ("Transfer-Encoding: chunked",) if chunked else ()
    with Raw(healthy.gateway.port) as raw:
        raw.send(post(b"", *headers, *coding, length=None if chunked else 10**11))
        sent = 0
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(4000):  # 250 MB
                raw.socket.sendall(b"10000\r\n" + block + b"\r\n" if chunked else block)
                sent += len(block)
        with contextlib.suppress(Closed):  # the answer may be lost where the rest is still under way
            assert raw.answer().status == 413
    assert sent < 200_000_000
    assert healthy.peak_mb() - before.resident_mb < 64


@pytest.mark.parametrize("line", [b"%d:\r\n", b"x%d"], ids=["lines", "one line"])
def test_trailers_without_end_are_cut_off(healthy: Rig, line: bytes) -> None:
    """They are kept no more than a head is, and none at all once it is known that they are trailers."""
    before = healthy.now()
    healthy.forget_peak()
    trailers = b"".join(line % number for number in range(600_000))
    with Raw(healthy.gateway.port) as raw, contextlib.suppress(BrokenPipeError, ConnectionResetError, Closed):
        raw.send(post(b"2\r\n{}\r\n0\r\n", "Transfer-Encoding: chunked"))
        raw.socket.sendall(trailers)
        assert raw.answer().status == 431
    assert healthy.peak_mb() - before.resident_mb < 16


def test_a_few_trailers_too_many_are_refused(healthy: Rig) -> None:
    trailers = b"".join(b"%d:\r\n" % number for number in range(200))
    with Raw(healthy.gateway.port) as raw:
        raw.send(post(b"2\r\n{}\r\n0\r\n" + trailers + b"\r\n", "Transfer-Encoding: chunked"))
        assert raw.answer().status == 431
    metrics = HTTP.get(f"{healthy.gateway.url}/metrics").text
    assert 'mcp_gateway_refused_total{reason="too_large"}' in metrics


def test_a_trailer_is_no_header(healthy: Rig) -> None:
    """RFC 9110, section 6.5.1: it must not be merged."""
    body, headers = modern("tools/call", {"name": "good__look"})
    data = json.dumps(body).encode()
    name = next(header for header in headers if header.startswith("Mcp-Name"))
    chunks = b"%x\r\n%b\r\n0\r\n%b\r\n\r\n" % (len(data), data, name.encode())
    with Raw(healthy.gateway.port) as raw:
        raw.send(post(chunks, *(header for header in headers if header != name), "Transfer-Encoding: chunked"))
        answer = raw.answer()
    assert answer.status == 400
    assert answer.message["error"]["code"] == -32020


@pytest.mark.parametrize("site", ["pour", "pour-old"])
def test_a_client_that_never_reads_holds_nothing_up(healthy: Rig, site: str) -> None:
    """Back-pressure: the server's endless stream stops where its client stops, and memory stays flat."""
    before = healthy.now()
    healthy.forget_peak()
    body, headers = modern("tools/call", {"name": f"{site}__act", "arguments": {}})
    body["params"]["_meta"] = {**body["params"]["_meta"], "progressToken": "t"}

    def poured() -> int:
        return int(healthy.sites()[site]["hits"].get("poured", 0))

    def stalled() -> bool:
        before = poured()
        time.sleep(0.3)
        return poured() == before

    with Raw(healthy.gateway.port, receive_buffer=4096) as raw:
        raw.send(post(body, *headers))
        wait_until(poured, "it pours")
        wait_until(stalled, "the server is held back", 8)
        assert healthy.peak_mb() - before.resident_mb < 48


def test_ten_thousand_pipelined_answers_unread(healthy: Rig) -> None:
    """Requests without end on one connection whose answers nobody takes: reading must stop, memory must not grow."""
    before = healthy.now()
    healthy.forget_peak()
    request = post(modern("tools/list", {})[0], *modern("tools/list", {})[1]) * 100
    with Raw(healthy.gateway.port, timeout=1.0, receive_buffer=4096) as raw, contextlib.suppress(TimeoutError):
        for _ in range(1000):
            raw.socket.sendall(request)
    assert healthy.peak_mb() - before.resident_mb < 48


# -- leaving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
def test_leaving_at_every_stage_of_a_request(healthy: Rig, how: str) -> None:
    request = good(1)
    for stage in [*range(0, len(request), 23), len(request) - 1, len(request)]:
        with Raw(healthy.gateway.port) as raw:
            raw.send(request[:stage])
            if how == "reset":
                raw.reset()
            elif how == "half-close":
                raw.half_close()
                status, _ = outcome(raw)
                assert status in (0, 200, 400, 408), stage
                assert status != 200 or stage == len(request)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("tool", ["hang__act", "hang-old__act", "pour__act", "pour-old__act"])
def test_leaving_during_the_answer(healthy: Rig, tool: str, how: str) -> None:
    """2026-07-28 basic/patterns/cancellation: a disconnect is a cancel; the server's connection ends with it."""
    site = tool.partition("__")[0]
    raws = []
    for number in range(10):
        body, headers = modern("tools/call", {"name": tool, "arguments": {"nonce": how}}, number)
        body["params"]["_meta"] = {**body["params"]["_meta"], "progressToken": number}
        raw = Raw(healthy.gateway.port)
        raw.send(post(body, *headers))
        raws.append(raw)
    wait_until(lambda: healthy.sites()[site]["sent"].get(how, 0) >= 10, "the server has the calls")
    for raw in raws:
        if how == "reset":
            raw.reset()
        else:
            raw.socket.close()
    wait_until(lambda: healthy.gauge("mcp_gateway_inflight") == 0, "all calls are cancelled", 4)
    wait_until(lambda: healthy.sites()[site]["hits"]["held"] == 0, "the server's side has ended", 4)


# -- sessions ----------------------------------------------------------------------------------------------------------

PING = {"jsonrpc": "2.0", "id": 3, "method": "ping"}


def _session(port: int, *extra: str) -> str:
    with Raw(port) as raw:
        raw.send(hello().replace(b"\r\n\r\n", "".join(f"\r\n{line}" for line in extra).encode() + b"\r\n\r\n", 1))
        answer = raw.answer()
    assert answer.status == 200, answer
    return answer.headers["mcp-session-id"]


def _statuses(port: int, sessions: list[str | bytes]) -> set[int]:
    """What each session id is answered, on connections kept as long as the gateway keeps them."""
    found, raw = set(), Raw(port)
    for session in sessions:
        raw.send(in_session(session, PING))
        status, _ = outcome(raw)
        found.add(status)
        if status in (0, 400):  # a request that is no HTTP ends its connection
            raw.socket.close()
            raw = Raw(port)
    raw.socket.close()
    return found


def test_session_ids_that_were_tampered_with(healthy: Rig) -> None:
    """2025-11-25 basic/transports, "Session Management": unknown ids get 404."""
    port, session = healthy.gateway.port, _session(healthy.gateway.port)
    assert _statuses(port, [session]) == {200}
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    flipped = [
        session[:i] + alphabet[(alphabet.index(c) ^ bit) % 64] + session[i + 1 :]
        for i, c in enumerate(session[:-1])
        if c in alphabet
        for bit in (1, 32)
    ]
    truncated = [session[:length] for length in range(1, len(session), 3)]
    other = ["x", "null", "..", "A" * 16, "A" * 60_000, session + "A", session + session, session[1:], session[::-1]]
    assert _statuses(port, [*flipped, *truncated, *other]) <= {404, 400, 431}


def test_session_ids_of_odd_bytes(healthy: Rig) -> None:
    port, session = healthy.gateway.port, _session(healthy.gateway.port).encode()
    odd = [
        b"\xff\xfe",
        b"\xc3\xa9",
        session + b"\xff",
        b"a b",
        session + b"=",
        session + b"==",
        b"\t",
        b"a\x01",
        b"\x00",
    ]
    assert _statuses(port, [*odd, session[:5] + b"\xe2\x80\x8b" + session[5:]]) <= {400, 404}


def test_a_session_is_good_where_it_was_opened(healthy: Rig) -> None:
    session = _session(healthy.gateway.port)
    with Raw(healthy.gateway.port) as raw:
        raw.send(in_session(session, PING).replace(b"POST /mcp", b"POST /servers/good/mcp"))
        assert raw.answer().status == 404
        raw.send(in_session(session, PING))
        assert raw.answer().status == 200
        raw.send(in_session(session, b"").replace(b"POST", b"DELETE"))
        assert raw.answer("DELETE").status in (200, 204)
        raw.send(in_session(session, PING))
        assert raw.answer().status == 404


def test_a_session_of_another_principal(
    rig: Callable[..., Rig], launch: Callable[..., Any], tmp_path: Any, shared: Rig
) -> None:
    """A stolen id is no entry: it is bound to who opened it."""
    for name in ("one", "two"):
        (tmp_path / name).write_text(f"{name}-secret-key\n")
    keys = [{"name": name, "file": str(tmp_path / name)} for name in ("one", "two")]
    from faults.conftest import serve

    server = f"http://127.0.0.1:{shared.sites()['hang']['port']}/mcp"
    gateway = serve(launch, tmp_path, [{"name": "hang", "url": server}], auth={"api_keys": keys})
    session = _session(gateway.port, "Authorization: Bearer one-secret-key")
    with Raw(gateway.port) as raw:
        for key, status in (("one", 200), ("two", 404), ("three", 401)):
            raw.send(in_session(session, PING, f"Authorization: Bearer {key}-secret-key"))
            assert raw.answer().status == status, key
        raw.send(in_session(session, b"", "Authorization: Bearer two-secret-key").replace(b"POST", b"DELETE"))
        assert raw.answer("DELETE").status == 404
        raw.send(in_session(session, PING, "Authorization: Bearer one-secret-key"))
        assert raw.answer().status == 200


def test_ten_thousand_sessions(healthy: Rig, seen: Callable[..., None]) -> None:
    """Opened and left alone; memory for them is bounded (1,000 open sessions below 150 MB)."""
    before, batch = healthy.now(), hello() * 50
    with Raw(healthy.gateway.port, timeout=60) as raw:
        sessions = set()
        for _ in range(200):
            raw.send(batch)
            sessions |= {raw.answer().headers["mcp-session-id"] for _ in range(50)}
    assert len(sessions) == 10_000
    rise = healthy.now().resident_mb - before.resident_mb
    seen("bad requests", "10,000 sessions", f"{rise:.0f} MB more than before")
    assert rise < 100


# -- floods ------------------------------------------------------------------------------------------------------------


def test_a_flood_of_notifications(healthy: Rig) -> None:
    session = _session(healthy.gateway.port)
    kinds: list[Any] = [
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": [1]}},
        {"jsonrpc": "2.0", "method": "notifications/cancelled"},
        {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}},
        {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"},
        {"jsonrpc": "2.0", "method": "notifications/nobody/knows", "params": {"a": 1}},
        {"jsonrpc": "2.0", "id": 77, "result": {}},
        {"jsonrpc": "2.0", "id": "own-1", "error": {"code": 1, "message": "x"}},
    ]
    batch = b"".join(in_session(session, kind) for kind in kinds)
    with Raw(healthy.gateway.port, timeout=60) as raw:
        for _ in range(125):
            raw.send(batch * 10)
            assert {raw.answer().status for _ in range(80)} <= {202, 400}


def test_slow_loris(healthy: Rig) -> None:
    """300 connections that dawdle over their headers and bodies: nobody else waits for them."""
    request = good(1)
    middle = request.index(b"\r\n\r\n") + 40
    raws = [Raw(healthy.gateway.port) for _ in range(300)]
    for number, raw in enumerate(raws):
        raw.send(request[: 60 if number % 2 else middle])
    answered = healthy.probe.answered
    for step in range(20):
        for number, raw in enumerate(raws):
            at = (60 if number % 2 else middle) + step
            raw.send(request[at : at + 1])
        time.sleep(0.02)
    healthy.probe.rounds(8)
    assert healthy.probe.answered > answered
    for raw in raws:
        raw.socket.close()


def test_a_thousand_idle_connections(healthy: Rig) -> None:
    raws = []
    try:
        for _ in range(1000):
            raws.append(Raw(healthy.gateway.port))
        with Raw(healthy.gateway.port) as raw:
            raw.send(good(1))
            assert raw.answer().status == 200
    finally:
        for raw in raws:
            raw.socket.close()


def test_unknown_endpoints_and_verbs_make_no_new_metrics(healthy: Rig) -> None:
    """Clients must not be able to make up labels: that is memory without end."""

    def series() -> int:
        return len(HTTP.get(f"{healthy.gateway.url}/metrics").text.splitlines())

    def attack(number: int) -> None:
        with Raw(healthy.gateway.port) as raw:
            for path in (f"/x{number}", f"/servers/x{number}/mcp", "/mcp"):
                body, headers = modern(f"x/{number}", {"name": f"good__{number}"})
                raw.send(post(body, *headers, path=path.encode()))
                raw.answer()

    attack(0)
    before = series()
    for number in range(1, 100):
        attack(number)
    assert series() == before
