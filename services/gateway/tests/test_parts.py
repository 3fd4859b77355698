"""The parts by themselves: names, configuration, sealing, policy, keys, event streams, eras."""

from __future__ import annotations

import asyncio
import re
import string
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from fuzz.wire_parsers import Sink

from mcp_gateway import names
from mcp_gateway.auth import ApiKey, Authenticator, AuthSettings, Unauthorized, digest
from mcp_gateway.config import parse
from mcp_gateway.downstream import is_modern
from mcp_gateway.metrics import Metrics
from mcp_gateway.net import client as net
from mcp_gateway.policy import ToolPolicy
from mcp_gateway.protocol import BUSY, RpcError
from mcp_gateway.reader import ConfigError
from mcp_gateway.sessions import Pin, Sealer, Session
from mcp_gateway.sse import TooLarge, event, events
from mcp_gateway.upstream.admission import Admission
from mcp_gateway.upstream.replicas import Replicas

SERVER = {"name": "x", "url": "http://127.0.0.1:9100/mcp"}


# -- names -------------------------------------------------------------------------------------------------------------


def _many_names() -> list[tuple[str, str]]:
    random = Random(7)
    alphabet = string.ascii_letters + string.digits + "_-./ :é"
    servers = ["a", "time", "ai_memory", "b" * 32]
    return [(random.choice(servers), "".join(random.choices(alphabet, k=length))) for length in range(1, 129)] + [
        ("a", "x_y"), ("a", "x y"), ("a", "x.y"), ("a", "x" * 61), ("a", "x" * 62), ("a", "x" * 63), ("a", "deadbeef"),
    ]  # fmt: skip


def test_merged_names_fit_and_differ() -> None:
    pairs = set(_many_names())
    merged = {pair: names.exposed(*pair) for pair in pairs}
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in merged.values())
    assert len(set(merged.values())) == len(pairs)


def test_a_merged_name_finds_its_server_whoever_else_is_there() -> None:
    """``exposed`` takes nothing but server and name; routing back must not depend on the others either."""
    for server, name in _many_names():
        merged = names.exposed(server, name)
        crowd = [server, "a" * 31, "other", "ai", "ai_memory_2"]
        found = {names.split(merged, some) for some in ([server], crowd, crowd[::-1])}
        assert len(found) == 1
        owner, rest = found.pop() or ("", "")
        assert owner == server
        assert rest == name or names.may_be_shortened(merged)


@pytest.mark.parametrize("server", ["time", "ai_memory", "ai-memory"])
def test_uris_find_back(server: str) -> None:
    merged = names.exposed_uri(server, "file:///a+b?c=d")
    assert re.match(r"[a-z][a-z0-9+.-]*:", merged)
    assert names.split_uri(merged, ["other", server]) == (server, "file:///a+b?c=d")
    assert names.split_uri("file:///x", [server]) is None


# -- configuration -----------------------------------------------------------------------------------------------------


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    document = {
        "listen": {"host": "0.0.0.0", "port": 99999},
        "sesions": {},
        "auth": {"api_keys": []},
        "sessions": {"key_files": [str(tmp_path / "absent")]},
        "servers": [
            {"name": "A", "url": "http://h/mcp"},
            {"name": "b", "url": "ftp://h"},
            {"name": "c"},
            {"name": "d", "url": "http://h/mcp", "max_seconds": 0, "tools": {"alow": []}},
            {"name": "d", "url": "http://h/mcp", "timeout_seconds": True},
            {"name": "e", "url": "http://h/mcp", "tools": {"allow": ["a"], "include": ["b"]}},
        ],
    }
    with pytest.raises(ConfigError) as raised:
        parse(document)
    said = [error.split(": ")[0] for error in raised.value.errors]
    assert sorted(said) == sorted([
        "listen.port", "sesions", "auth.api_keys", "sessions.key_files[0].file", "servers",
        "servers[0].name", "servers[0].name", "servers[1].url", "servers[2]", "servers[3].max_seconds",
        "servers[3].tools.alow", "servers[4].timeout_seconds", "servers[5].tools.allow",
    ])  # fmt: skip


def test_the_shortest_configuration() -> None:
    config = parse({"servers": [SERVER]})
    assert (config.host, config.auth.api_keys, config.servers[0].urls) == ("127.0.0.1", (), (SERVER["url"],))


# -- sealing -----------------------------------------------------------------------------------------------------------


def _session() -> Session:
    pins = {"every": Pin("http://10.0.0.2:8000/mcp", "abc", "2025-11-25")}
    return Session(Sealer.new_id(), "2025-11-25", "ci", "/mcp", int(time.time()), pins)


def test_any_replica_with_the_key_opens_a_session_with_its_pins() -> None:
    session = _session()
    sealed = Sealer((b"old",), 60).seal(session)
    assert sealed.isascii()
    assert sealed.isprintable()
    assert Sealer((b"new", b"old"), 60).open(sealed, "ci", "/mcp") == session


@pytest.mark.parametrize(
    ("principal", "endpoint", "key", "ttl"),
    [
        pytest.param("someone", "/mcp", b"k", 60, id="other principal"),
        pytest.param("ci", "/servers/x/mcp", b"k", 60, id="other endpoint"),
        pytest.param("ci", "/mcp", b"other", 60, id="other key"),
        pytest.param("ci", "/mcp", b"k", 0, id="expired"),
    ],
)
def test_a_session_is_good_for_nothing_else(principal: str, endpoint: str, key: bytes, ttl: int) -> None:
    sealed = Sealer((b"k",), 60).seal(_session())
    assert Sealer((b"k",), 60).open(sealed, "ci", "/mcp") is not None
    assert Sealer((key,), ttl).open(sealed, principal, endpoint) is None


def test_expiry_counts_from_the_issue() -> None:
    sealer = Sealer((b"k",), 60)
    assert sealer.open(sealer.seal(replace(_session(), issued=int(time.time()) - 61)), "ci", "/mcp") is None
    assert sealer.open(sealer.seal(replace(_session(), issued=int(time.time()) - 30)), "ci", "/mcp") is not None


def test_forged_ids_open_nothing() -> None:
    sealer = Sealer((b"k",), 60)
    sealed = sealer.seal(_session())
    flipped = sealed[:20] + ("A" if sealed[20] != "A" else "B") + sealed[21:]
    for forged in ("", "x", "AAAA" * 20, sealed[:-4], sealed + "AAAA", flipped, "é"):
        assert sealer.open(forged, "ci", "/mcp") is None


def test_an_ended_session_is_unknown() -> None:
    sealer, session = Sealer((b"k",), 60), _session()
    sealed = sealer.seal(session)
    sealer.end(session)
    assert sealer.open(sealed, "ci", "/mcp") is None


# -- policy and keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allow", "deny", "permitted", "refused"),
    [
        (("*",), (), ["x", "a b"], []),
        (("*",), ("rm*", "drop_?"), ["drop", "drop_ab", "arm"], ["rm", "rmdir", "drop_a"]),
        (("get_*", "list"), ("get_secret",), ["get_x", "list"], ["get_secret", "lists", "GET_x", ""]),
        ((), (), [], ["x", ""]),
    ],
)
def test_policy(allow: tuple[str, ...], deny: tuple[str, ...], permitted: list[str], refused: list[str]) -> None:
    policy = ToolPolicy(allow, deny)
    assert [name for name in permitted + refused if policy.permits(name)] == permitted


@pytest.mark.parametrize(
    ("headers", "principal"),
    [
        ({"authorization": "Bearer one"}, "first"),
        ({"authorization": "bearer two"}, "second"),
        ({"x-api-key": "two"}, "second"),
        ({"authorization": "Bearer three"}, None),
        ({"authorization": "Basic one"}, None),
        ({"authorization": "Bearer "}, None),
        ({}, None),
    ],
)
def test_keys(headers: dict[str, str], principal: str | None) -> None:
    keys = (ApiKey("first", digest("one")), ApiKey("second", digest("two")))
    asked = Authenticator(AuthSettings(api_keys=keys)).authenticate(
        headers.get("authorization", ""), headers.get("x-api-key", ""), "/mcp"
    )
    if principal is None:
        with pytest.raises(Unauthorized):
            asyncio.run(asked)
    else:
        assert asyncio.run(asked).name == principal


# -- event streams -----------------------------------------------------------------------------------------------------


def _read(chunks: list[bytes], limit: int = 1000) -> list[bytes]:
    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def collect() -> list[bytes]:
        return [data async for data in events(source(), limit)]

    return asyncio.run(collect())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_however_they_are_cut(size: int) -> None:
    stream = b'id: 1\ndata: {"a":\ndata: 1}\n\n: keep-alive\n\nevent: message\r\ndata: two\r\n\r\n' + event(b"three")
    assert _read([stream[i : i + size] for i in range(0, len(stream), size)]) == [b'{"a":\n1}', b"two", b"three"]


@pytest.mark.parametrize("chunks", [[b"data: " + b"x" * 2000], [b"data: " + b"x" * 100 + b"\n"] * 20])
def test_an_event_has_a_limit(chunks: list[bytes]) -> None:
    with pytest.raises(TooLarge):
        _read(chunks)


# -- eras, replicas, admission -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "version", "modern"),
    [
        ({"method": "tools/list"}, "2026-07-28", True),
        ({"method": "tools/list"}, "2030-01-01", True),
        ({"method": "tools/list"}, "2025-11-25", False),
        ({"method": "tools/list"}, "", False),
        ({"method": "server/discover"}, "", True),
        ({"method": "x", "params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}}, "", True),
        ({"method": "initialize", "params": {"protocolVersion": "2025-11-25"}}, "", False),
    ],
)
def test_which_era_a_request_is_of(body: dict[str, object], version: str, modern: bool) -> None:
    assert is_modern(body, {"mcp-protocol-version": version} if version else {}) is modern


def test_the_same_key_leads_to_the_same_replica_everywhere() -> None:
    urls = [f"http://10.0.0.{i}:8000/mcp" for i in range(5)]
    one, other = Replicas("x", urls, Metrics()), Replicas("x", urls[::-1], Metrics())
    chosen = {}
    for key in (f"ci/{i}" for i in range(50)):
        first, second = one.choose(set(), None, key), other.choose(set(), None, key)
        assert first is not None
        assert second is not None
        assert first.url == second.url
        chosen[key] = first.url
    assert len(set(chosen.values())) == 5


def test_an_ejected_replica_gets_nothing_while_another_is_well() -> None:
    replicas = Replicas("x", ["http://a/mcp", "http://b/mcp"], Metrics())
    replicas.failed(replicas.by_url["http://a/mcp"])
    assert {r.url for _ in range(50) if (r := replicas.choose(set(), None, None))} == {"http://b/mcp"}
    assert replicas.choose({"http://a/mcp", "http://b/mcp"}, None, None) is None


def test_admission_is_in_turn_and_bounded() -> None:
    async def use() -> list[str]:
        admission, order = Admission("x", lambda: 1, 2, 5.0, Metrics()), []

        async def call(name: str) -> None:
            await admission.enter()
            order.append(name)
            admission.leave()

        await admission.enter()
        waiting = [asyncio.ensure_future(call(name)) for name in "ab"]
        await asyncio.sleep(0)  # let both take their turn in the queue
        with pytest.raises(RpcError, match="server x is busy: 2 calls wait already; try again") as refused:
            await admission.enter()
        assert refused.value.code == BUSY
        admission.leave()
        await asyncio.gather(*waiting)
        return order

    assert asyncio.run(use()) == ["a", "b"]


# -- connections to servers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"],
    ids=["usual", "chunked"],
)
def test_an_answer_arrives_though_its_connection_cannot_be_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, answer: bytes
) -> None:
    def put(*_: object) -> None:
        raise ValueError("as asked")

    monkeypatch.setattr(net._Pool, "put", put)

    async def exchange() -> None:
        connection, sink = net.Connection(net._Pool(net.origin_of("http://127.0.0.1:9/mcp"), None)), Sink()
        connection.connection_made(sink)
        waiting = asyncio.ensure_future(connection.exchange(b"", 60, 60))
        await asyncio.sleep(0)
        connection.data_received(b"HTTP/1.1 200 OK\r\n" + answer)
        assert (await asyncio.wait_for(waiting, 1)).body == b"{}"
        assert sink.closed
        assert connection.closed

    asyncio.run(exchange())
    assert "could not be kept" in caplog.text
