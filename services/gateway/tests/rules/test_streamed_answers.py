"""Servers that answer each call by an event stream: it costs no connection, and nobody waits for the stream's end."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from rules.conftest import Connect
from rules.upstream import SECONDS, Exchange, Server2025, Server2026

pytestmark = pytest.mark.integration
Json = dict[str, Any]
RESULT: Json = {"content": [{"type": "text", "text": "streamed"}], "resultType": "complete"}


@pytest.fixture(params=["new", "old"])
def server(request: pytest.FixtureRequest) -> Server2026 | Server2025:
    """A server of either era."""
    found: Server2026 | Server2025 = request.getfixturevalue(request.param)
    return found


def name_of(server: Server2026 | Server2025) -> str:
    return "new__echo" if isinstance(server, Server2026) else "old__echo"


@pytest.mark.parametrize("apart", [False, True], ids=["at once", "head, event and end apart"])
def test_the_connection_serves_the_next_call(modern: Connect, server: Server2026 | Server2025, apart: bool) -> None:
    client = modern()
    ports = []
    pause = threading.Event()

    def stream(exchange: Exchange) -> None:
        ports.append(exchange.handler.client_address[1])
        message = {"jsonrpc": "2.0", "id": exchange.id, "result": RESULT}
        exchange.open()
        if apart:
            pause.wait(0.1)
        exchange.event(message)
        if apart:
            pause.wait(0.1)
        exchange.close()

    server.tool["echo"] = stream
    for _ in range(6):
        answer = client.call(name_of(server))
        assert answer["result"]["content"] == RESULT["content"]
        pause.wait(0.3)
    # What the gateway asks by itself meanwhile may have had the connection, so that there is more than one.
    assert len(set(ports)) <= 3, ports


def test_an_answer_does_not_wait_for_the_end_of_its_stream(modern: Connect, server: Server2026 | Server2025) -> None:
    """One that does not end is left after a second; the next call has a connection of its own meanwhile."""
    client = modern()
    over = threading.Event()
    left = []

    def stream(exchange: Exchange) -> None:
        exchange.event({"jsonrpc": "2.0", "id": exchange.id, "result": RESULT})
        left.append(exchange.gone())
        over.wait(SECONDS)

    server.tool["echo"] = stream
    for _ in range(2):
        assert client.call(name_of(server))["result"]["content"] == RESULT["content"]
    over.set()
    for exchange in server.of("tools/call"):
        assert exchange.ended.wait(SECONDS)
    assert left == [True, True]


def test_what_precedes_the_answer_is_not_lost(modern: Connect, server: Server2026 | Server2025) -> None:
    client = modern()

    def stream(exchange: Exchange) -> None:
        exchange.notify("notifications/progress", progressToken=exchange.meta["progressToken"], progress=1)
        exchange.event({"jsonrpc": "2.0", "id": exchange.id, "result": RESULT})
        exchange.close()

    server.tool["echo"] = stream
    params = {"name": name_of(server), "arguments": {}}
    for _ in range(2):
        with client.stream("tools/call", params, meta={"progressToken": "mine"}) as answer:
            note, message = answer.rest()
        assert note["params"] == {"progressToken": "mine", "progress": 1}
        assert message["result"]["content"] == RESULT["content"]
