"""What is fuzzed: one function per parser of the gateway's, from bytes; a broken promise is an AssertionError.

Every function takes any bytes at all and returns; what it raises is a finding.
"""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

import orjson
import yaml

from fuzz.wire_parsers import http_answer, http_request
from mcp_gateway import names, sse
from mcp_gateway.config import Config, parse
from mcp_gateway.hub import Hub
from mcp_gateway.passing import Malformed, Passing, Unusual
from mcp_gateway.peers.envelope import Envelope, Refused
from mcp_gateway.reader import ConfigError
from mcp_gateway.sessions import Pin, Sealer, Session
from mcp_gateway.states import States
from mcp_gateway.upstream.wire import Early

LIMIT = 1 << 20
PRINTABLE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")


# -- event streams -----------------------------------------------------------------------------------------------------


def _events(parts: list[bytes], limit: int = LIMIT) -> list[bytes] | None:
    """The data of each event, None where one is too large."""

    async def given() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    async def read() -> list[bytes] | None:
        try:
            return [data async for data in sse.events(given(), limit)]
        except sse.TooLarge:
            return None

    return _drive(read())


def _drive[T](coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits; an event loop would cost more than what is tested."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    raise AssertionError("it waited")


def expected_events(stream: bytes) -> list[bytes]:
    """The data of each event by the letter of WHATWG HTML, section 9.2.6; empty data makes no event."""
    stream = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    found: list[bytes] = []
    data: list[bytes] = []
    for line in stream.split(b"\n")[:-1]:
        field, _, value = line.partition(b":")
        if not line:
            if b"\n".join(data):
                found.append(b"\n".join(data))
            data = []
        elif field == b"data":
            data.append(value.removeprefix(b" "))
    return found


def sse_stream(data: bytes) -> None:
    """However a stream is cut into parts, the events are those that the standard says."""
    cut, stream = data[:1], data[1:]
    size = (cut[0] if cut else 0) % 7 + 1
    parts = [stream[i : i + size] for i in range(0, len(stream), size)]
    expected = expected_events(stream)
    for got in (_events([stream]), _events(parts)):
        assert got is not None
        assert [event for event in got if event] == expected, (got, expected)


def sse_limit(data: bytes) -> None:
    """No event larger than the limit ever comes out, however it is put together."""
    events = _events([data[i : i + 16] for i in range(0, len(data), 16)], limit=32)
    assert events is None or all(len(event) <= 32 + 16 for event in events)


# -- results that are passed on ----------------------------------------------------------------------------------------

ASKED, GIVEN = 7, "mine"


class Taken:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.begun = False

    def passing(self, expected: int) -> Passing:
        return Passing(expected, GIVEN, lambda item: item, lambda others: others)

    async def write(self, _passing: Passing, data: bytes) -> None:
        self.begun = True
        self.out += data


def result_passed(data: bytes) -> None:
    """In whatever parts it comes: what is passed on whole is JSON and the same result, with the client's id."""
    cut, text = data[:1], data[1:]
    size = (cut[0] if cut else 0) % 7 + 1
    passing, out = Taken().passing(ASKED), b""
    try:
        for place in range(0, len(text), size):
            out += passing.feed(text[place : place + size])
        passing.finish()
    except Unusual:
        assert not out
        return
    except Malformed:
        return
    _same(out, text)


def result_in_events(data: bytes) -> None:
    """The same of an event stream; an event that is not passed on comes as it is."""
    cut, stream = data[:1], data[1:]
    size = (cut[0] if cut else 0) % 7 + 1

    async def given() -> AsyncIterator[bytes]:
        for place in range(0, len(stream), size):
            yield stream[place : place + size]

    async def read() -> None:
        sink, expected = Taken(), iter(expected_events(stream))
        early = Early(ASKED, sink)
        async for event in sse.events(given(), LIMIT, early):
            if early.over() is not None:
                _same(bytes(sink.out), next(expected))
                return
            if event:
                assert event == next(expected)

    try:
        _drive(read())
    except Malformed:
        return


def _same(out: bytes, text: bytes) -> None:
    got, sent = orjson.loads(out), orjson.loads(text)
    assert sent["id"] == ASKED
    assert got == {"jsonrpc": "2.0", "id": GIVEN, "result": sent["result"]}, (got, sent)


# -- session ids -------------------------------------------------------------------------------------------------------


@functools.cache
def _sealed() -> tuple[Sealer, Session, str]:
    sealer = Sealer((b"one", b"two"), 3600)
    pins = {"a": Pin("http://a/mcp", "id", "2025-11-25")}
    session = Session("0" * 18, "2025-11-25", "who", "/mcp", int(time.time()), pins)
    return sealer, session, sealer.seal(session)


def session_id(data: bytes) -> None:
    """Nothing but what was sealed opens; nothing at all raises."""
    sealer, _, sealed = _sealed()
    text = data.decode("latin-1")
    assert sealer.open(text, "who", "/mcp") is None or text == sealed


def session_flip(data: bytes) -> None:
    """A sealed id with any change in it does not open; without one it opens to what was sealed."""
    sealer, session, sealed = _sealed()
    at = int.from_bytes(data[:2], "big") % (len(sealed) - 1)
    changed = sealed[:at] + data[2:3].decode("latin-1") + sealed[at + 1 :]
    opened = sealer.open(changed, "who", "/mcp")
    assert (opened == session) if changed == sealed else opened is None
    more = sealed[:at] + data[2:3].decode("latin-1") + sealed[at:]
    assert sealer.open(more, "who", "/mcp") is None or more == sealed, "one session, two spellings"
    assert sealer.open(sealed, "who" + data[3:].decode("latin-1"), "/mcp") is None or len(data) < 4


# -- names -------------------------------------------------------------------------------------------------------------


def merged_name(data: bytes) -> None:
    """Merged names are safe, short, deterministic, and lead back to their server."""
    name = data.decode("utf-8", "replace")
    if not name:
        return
    merged = names.exposed("a_server-1", name)
    assert 0 < len(merged) <= names.MAX_LENGTH and PRINTABLE.issuperset(merged)
    assert merged == names.exposed("a_server-1", name)
    found = names.split(merged, ("a_server-1", "a"))
    assert found and found[0] == "a_server-1"
    assert found[1] == name or names.may_be_shortened(merged)
    names.split(name, ("a_server-1", "a"))


def merged_uri(data: bytes) -> None:
    """A merged URI leads back to its server and to the URI as it was."""
    uri = data.decode("utf-8", "replace")
    assert names.split_uri(names.exposed_uri("a_server-1", uri), ("a", "a_server-1")) in (("a_server-1", uri), None)
    assert names.split_uri(names.exposed_uri("a_server-1", "x:" + uri), ("a", "a_server-1")) == (
        "a_server-1",
        "x:" + uri,
    )
    names.split_uri(uri, ("a_server-1", "a"))


# -- configuration -----------------------------------------------------------------------------------------------------


def configuration(data: bytes) -> None:
    """Whatever the file holds, it is a configuration or a list of mistakes."""
    try:
        document = yaml.safe_load(data.decode("utf-8", "replace"))
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, AttributeError, KeyError, TypeError, IndexError):
        return  # PyYAML's own
    try:
        assert isinstance(parse(document), Config)
    except ConfigError as mistakes:
        assert mistakes.errors and all(isinstance(line, str) and line for line in mistakes.errors)


# -- messages between replicas -----------------------------------------------------------------------------------------


def peer_message(data: bytes) -> None:
    """What no replica sealed is refused."""
    try:
        Envelope((b"key",)).open_request(data)
    except Refused:
        return
    raise AssertionError("nobody sealed it")


def peer_news(data: bytes) -> None:
    """Whatever another replica says of a session is learnt, so that it can be told on, or refused as a whole."""
    try:
        news = orjson.loads(data)
    except ValueError:
        return
    if not isinstance(news, dict):
        return
    one, two = (States(Sealer((b"key",), 3600), Hub(lambda _server: None)) for _ in range(2))
    try:
        one.learn(news)
    except ValueError:
        assert not list(one)
        return
    for session in one:
        told = one.news(session)
        assert told and session == news["session"]
        two.learn(orjson.loads(orjson.dumps(told)))
        assert two.news(session) == told


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        sse_stream,
        sse_limit,
        result_passed,
        result_in_events,
        session_id,
        session_flip,
        merged_name,
        merged_uri,
        configuration,
        peer_message,
        peer_news,
        http_request,
        http_answer,
    )
}
