"""Several gateway replicas without affinity in front of them: whichever is asked, what another holds goes on."""

from __future__ import annotations

import concurrent.futures
import copy
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Running

from mcp_gateway.cli import LINGER_SECONDS
from rules.clients import ALL, Client2025, Client2026
from rules.conftest import Start
from rules.test_mrtr import ANSWER, FORM, STATE, Parked, asking, question_of
from rules.upstream import Exchange, Server2025, Server2026, tool

pytestmark = pytest.mark.integration
Json = dict[str, Any]


@pytest.fixture
def servers() -> Iterator[tuple[Server2026, Server2025]]:
    new, old = Server2026(), Server2025()
    for server in (new, old):
        server.tools = [tool("asks")]
    yield new, old
    new.stop()
    old.stop()


@pytest.fixture
def replicas(start: Start, servers: tuple[Server2026, Server2025], tmp_path: Path) -> list[Running]:
    (tmp_path / "seal").write_text("s" * 43)
    fleet = [{"name": "new", "url": servers[0].url}, {"name": "old", "url": servers[1].url}]
    return [start(fleet, sessions={"key_files": [str(tmp_path / "seal")]}) for _ in range(2)]


@pytest.mark.requirement("BRIDGE-M2L-09")
def test_a_parked_call_goes_on_through_another_replica(
    replicas: list[Running], servers: tuple[Server2026, Server2025]
) -> None:
    parked = Parked(servers[1], ("elicitation/create", FORM), ("elicitation/create", FORM))
    result = Client2026(replicas[0].url).call("old__asks", capabilities=ALL)["result"]
    for replica in (replicas[1], replicas[1]):
        assert result["resultType"] == "input_required"
        key, _ = question_of(result)
        params = {"name": "old__asks", "arguments": {}, "inputResponses": {key: ANSWER}}
        result = Client2026(replica.url).ask(
            "tools/call", {**params, "requestState": result["requestState"]}, id=2, capabilities=ALL
        )["result"]
    assert result["content"][0]["text"] == "answered"
    assert parked.runs == 1


def test_a_replica_that_ends_waits_for_the_one_it_handed_a_request_to(
    replicas: list[Running], servers: tuple[Server2026, Server2025]
) -> None:
    asked, release = threading.Event(), threading.Event()

    def script(exchange: Exchange) -> None:
        exchange.ask("elicitation/create", FORM)
        asked.set()
        assert release.wait(20)
        exchange.result({"content": [{"type": "text", "text": "answered"}]})

    servers[1].tool["asks"] = script
    result = Client2026(replicas[0].url).call("old__asks", capabilities=ALL)["result"]
    key, _ = question_of(result)
    params = {"name": "old__asks", "arguments": {}, "inputResponses": {key: ANSWER}}
    goes_on = {**params, "requestState": result["requestState"]}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        client = Client2026(replicas[1].url)
        answer = pool.submit(client.ask, "tools/call", goes_on, id=2, capabilities=ALL)
        assert asked.wait(20)
        replicas[1].process.send_signal(signal.SIGTERM)
        time.sleep(LINGER_SECONDS + 1.5)
        release.set()
        assert answer.result(20)["result"]["content"][0]["text"] == "answered"
    assert replicas[1].process.wait(20) == 0


@pytest.mark.requirement("BRIDGE-L2M-06")
def test_an_answer_reaches_the_replica_that_asked(
    replicas: list[Running], servers: tuple[Server2026, Server2025]
) -> None:
    def script(exchange: Exchange) -> None:
        if "inputResponses" in exchange.params:
            exchange.result({"resultType": "complete", "content": [{"type": "text", "text": "answered"}]})
        else:
            asking(
                exchange, inputRequests={"who": {"method": "elicitation/create", "params": FORM}}, requestState=STATE
            )

    servers[0].tool["asks"] = script
    client = Client2025(replicas[0].url, capabilities=ALL)
    elsewhere = copy.copy(client)
    elsewhere.http = Client2026(replicas[1].url).http
    with client.stream("tools/call", {"name": "new__asks", "arguments": {}}) as stream:
        question = stream.next()
        assert question["method"] == "elicitation/create"
        assert elsewhere.respond(question, ANSWER).status_code == 202
        assert stream.next()["result"]["content"][0]["text"] == "answered"


@pytest.mark.requirement("MCP26-MRTR-06")
def test_a_call_whose_replica_is_gone_is_refused(
    replicas: list[Running], servers: tuple[Server2026, Server2025]
) -> None:
    Parked(servers[1], ("elicitation/create", FORM))
    result = Client2026(replicas[0].url).call("old__asks", capabilities=ALL)["result"]
    replicas[0].process.kill()
    replicas[0].process.wait()
    key, _ = question_of(result)
    params = {"name": "old__asks", "arguments": {}, "inputResponses": {key: ANSWER}}
    refused = Client2026(replicas[1].url).ask(
        "tools/call", {**params, "requestState": result["requestState"]}, id=2, capabilities=ALL
    )
    assert refused["error"]["code"] == -32602
