"""What a profile says, its limits and the audit hold on every way to a server, the less usual ones included."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from conftest import Running, wait_until

from rules.clients import Client2025, Client2026
from rules.conftest import Start
from rules.test_tasks import ABLE, creating
from rules.upstream import Exchange, Server2025, Server2026, tool, until

pytestmark = pytest.mark.integration
Json = dict[str, Any]
PROFILES: Json = {
    "all": {},
    "scoped": {"scopes": {"new__secret": ["x"]}},
    "renamed": {"rename": {"less.secret": "save", "less.open": "load"}},
    "blind": {"servers": {"deny": ["old", "sticky", "new"]}},
    "rare": {"search": True, "limits": {"requests_per_minute": 1, "burst": 2}},
    "single": {"limits": {"max_in_flight": 1}},
}
BATCHES = "2025-03-26"
UPDATED = "notifications/resources/updated"


@dataclass
class Site:
    """A gateway and its servers."""

    running: Running
    new: Server2026
    old: Server2025

    def audited(self, principal: str, method: str) -> list[Json]:
        """The records of the audit log."""
        lines = [json.loads(line) for line in self.running.log.read_text().splitlines() if '"principal"' in line]
        return [line for line in lines if (line["principal"], line.get("method")) == (principal, method)]

    def console(self, key: str, name: str) -> Json:
        """Call a tool by the console."""
        answer = httpx2.post(
            f"{self.running.url}/console/api/call",
            json={"name": name, "arguments": {}},
            headers={"Authorization": f"Bearer {key}"},
            timeout=20,
        )
        assert answer.status_code == 200
        return dict(answer.json())

    @contextlib.contextmanager
    def narrowed(self, principal: str, profile: str) -> Iterator[None]:
        """Give the principal another profile for a while."""
        path = Path(str(list(self.running.process.args)[-1]))
        before = path.read_text()
        document = yaml.safe_load(before)
        for key in document["auth"]["api_keys"]:
            if key["name"] == principal:
                key["profile"] = profile
        self._reread(path, yaml.safe_dump(document))
        try:
            yield
        finally:
            self._reread(path, before)

    def _reread(self, path: Path, text: str) -> None:
        count, fresh = self._reloads(), path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(path)
        wait_until(lambda: self._reloads() > count, "the configuration is read again")

    def _reloads(self) -> int:
        metrics = httpx2.get(f"{self.running.url}/metrics").text
        found = re.search(r'config_reloads_total{outcome="applied"} (\d+)', metrics)
        return int(found.group(1)) if found else 0


@pytest.fixture(scope="module")
def site(start: Start) -> Iterator[Site]:
    new, old = Server2026(), Server2025()
    new.tools = [tool("open"), tool("secret"), tool("holds"), tool("long")]
    keys = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "profile": name.partition("-")[0]}
        for name in ("scoped-batch", "scoped-console", "single-console", "renamed-client", "blind-client", "all-client")
    ]
    servers = [
        {"name": "new", "url": new.url},
        {"name": "old", "url": old.url},
        {"name": "sticky", "url": old.url, "sessions": "sticky"},
        {"name": "less", "url": new.url, "tools": {"exclude": ["secret"]}},
    ]
    yield Site(start(servers, auth={"api_keys": keys}, profiles=PROFILES), new, old)
    new.stop()
    old.stop()


@pytest.fixture(autouse=True)
def _forget(site: Site) -> Iterator[None]:
    yield
    site.new.forget()
    site.old.forget()


def call(identity: Any, name: str) -> Json:
    params = {"name": name, "arguments": {}}
    return {"jsonrpc": "2.0", "id": identity, "method": "tools/call", "params": params}


# -- batches of 2025-03-26 ---------------------------------------------------------------------------------------------


def test_a_call_in_a_batch_is_judged_and_noted_by_itself(site: Site) -> None:
    client = Client2025(site.running.url, key="scoped-batch", version=BATCHES)
    answer = client.raw(
        [call(1, "new__open"), call(2, "new__secret")], client.headers() | {"Accept": "application/json"}
    )
    assert answer.status_code == 200
    replies = {reply["id"]: reply for reply in answer.json()}
    assert "result" in replies[1]
    assert replies[2]["error"]["data"] == {"requiredScopes": ["x"]}
    assert [exchange.params["name"] for exchange in site.new.of("tools/call")] == ["open"]
    noted = wait_until(
        lambda: len(found := site.audited("scoped-batch", "tools/call")) >= 2 and found, "both are noted"
    )
    assert sorted((record["target"], record["outcome"]) for record in noted) == [
        ("new__open", "ok"),
        ("new__secret", "refused"),
    ]
    assert noted[0]["session"]
    assert min(record["response_bytes"] for record in noted) > 0


@pytest.mark.parametrize("batched", [False, True], ids=["alone", "in a batch"])
def test_a_call_in_a_batch_can_be_cancelled(site: Site, batched: bool) -> None:
    left: list[bool] = []
    site.new.tool["holds"] = lambda exchange: left.append(exchange.gone())
    client = Client2025(site.running.url, key="scoped-batch", version=BATCHES)
    headers = client.headers() | {"Accept": "application/json"}
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        batch = pool.submit(client.raw, [call("mine", "new__holds"), call("other", "new__open")], headers)
        site.new.one("tools/call")
        until(lambda: len(site.new.of("tools/call")) == 2, "both calls are at the server")
        cancelled: Json = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "mine"}}
        client.raw([cancelled] if batched else cancelled, headers)
        assert [reply["id"] for reply in batch.result(10).json()] == ["other"]
    assert until(lambda: left, "the call's connection is seen to") == [True]


# -- the console -------------------------------------------------------------------------------------------------------


def test_a_call_by_the_console_is_judged_and_noted(site: Site) -> None:
    assert "result" in site.console("scoped-console", "new__open")
    refused = site.console("scoped-console", "new__secret")
    assert refused["error"]["data"] == {"requiredScopes": ["x"]}
    noted = wait_until(
        lambda: len(found := site.audited("scoped-console", "tools/call")) >= 2 and found, "both are noted"
    )
    assert [(record["target"], record["outcome"], record["server"]) for record in noted] == [
        ("new__open", "ok", "new"),
        ("new__secret", "refused", "*"),
    ]
    metrics = httpx2.get(f"{site.running.url}/metrics").text
    assert 'mcp_gateway_requests_total{method="tools/call",outcome="refused",server="*"}' in metrics


def test_calls_by_the_console_are_in_flight_like_others(site: Site) -> None:
    def holds(exchange: Exchange) -> None:
        until(lambda: len(answers) > 1, "the second call was answered")
        site.new.usual(exchange)

    answers: list[Json] = [{}]
    site.new.tool["holds"] = holds
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(site.console, "single-console", "new__holds")
        site.new.one("tools/call")
        status = httpx2.get(f"{site.running.url}/status", headers={"Authorization": "Bearer single-console"}).json()
        answers.append(site.console("single-console", "new__open"))
        assert "result" in first.result(20)
    assert status["inflight"] == 1
    assert answers[1]["error"]["code"] == -31002
    assert "result" in site.console("single-console", "new__open")


# -- names of a profile's own ------------------------------------------------------------------------------------------


def test_another_name_brings_no_tool_back_that_its_server_does_not_offer(site: Site) -> None:
    client = Client2026(site.running.url, key="renamed-client")
    listed = {found["name"] for found in client.ask("tools/list")["result"]["tools"]}
    assert "load" in listed
    assert "save" not in listed
    refusal = client.call("save")["error"]
    assert (refusal["code"], refusal["message"]) == (-32602, "Unknown tool: save")
    assert "result" in client.call("load")
    assert [exchange.params["name"] for exchange in site.new.of("tools/call")] == ["open"]


# -- servers that a profile does not see -------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", ["all", "blind"])
def test_resources_can_be_subscribed_by_who_can_read_them(site: Site, profile: str) -> None:
    uris = ["old+test://static", "less+test://static"]
    seen = uris if profile == "all" else uris[1:]
    client = Client2026(site.running.url, key=f"{profile}-client")
    with client.stream("subscriptions/listen", {"notifications": {"resourceSubscriptions": uris}}) as stream:
        assert stream.next()["params"]["notifications"] == {"resourceSubscriptions": seen}
    session = Client2025(site.running.url, key=f"{profile}-client")
    for uri in uris:
        assert ("result" in session.ask("resources/subscribe", {"uri": uri})) == (uri in seen)
        assert ("result" in session.ask("resources/read", {"uri": uri})) == (uri in seen)


@pytest.mark.parametrize("profile", ["all", "blind"])
def test_sessions_are_opened_at_servers_that_are_seen(site: Site, profile: str) -> None:
    Client2025(site.running.url, key=f"{profile}-client", capabilities={"sampling": {}})
    opened = [exchange for exchange in site.old.of("initialize") if "sampling" in exchange.params["capabilities"]]
    assert len(opened) == (profile == "all")


def test_a_session_hears_no_more_of_servers_that_its_profile_sees_no_more(site: Site) -> None:
    """Neither of the resources that it subscribed, nor what its own session at such a server says."""
    session = Client2025(site.running.url, key="all-client", capabilities={"sampling": {}})
    [own] = [made for made, params in site.old.sessions.items() if "sampling" in params["capabilities"]][-1:]
    for uri in ("old+test://static", "less+test://static"):
        assert "result" in session.ask("resources/subscribe", {"uri": uri})
    with session.listen():
        until(lambda: own in site.old.streams, "the session's own stream")
    until(lambda: own not in site.old.streams, "the end of that")
    with site.narrowed("all-client", "blind"), session.listen() as stream:
        until(lambda: site.old.of("resources/subscribe"), "the subscription at old")
        site.old.push(UPDATED, uri="test://static")
        # Had the first been passed on, it would be there before; the connection to the other server is another one.
        time.sleep(0.3)
        site.new.tell(UPDATED, uri="test://static")
        assert stream.next()["params"]["uri"] == "less+test://static"
        assert own not in site.old.streams


def test_a_task_is_unknown_to_who_sees_its_server_no_more(site: Site) -> None:
    creating(site.new)
    client = Client2026(site.running.url, key="all-client")
    params = {"taskId": client.call("new__long", capabilities=ABLE)["result"]["taskId"], "inputResponses": {}}
    methods = ("tasks/get", "tasks/update", "tasks/cancel")
    with site.narrowed("all-client", "blind"):
        for method in methods:
            refusal = client.ask(method, params, capabilities=ABLE)["error"]
            assert (refusal["code"], refusal["message"][:12]) == (-32602, "Unknown task")
            assert site.new.of(method) == []
    for method in methods:
        assert "result" in client.ask(method, params, capabilities=ABLE)


# -- rates -------------------------------------------------------------------------------------------------------------


def test_finding_tools_and_asking_for_tasks_count(site: Site) -> None:
    creating(site.new)
    client = Client2026(site.running.url, key="all-client")
    identity = client.call("new__long", capabilities=ABLE)["result"]["taskId"]
    with site.narrowed("all-client", "rare"):
        assert "result" in client.call("find_tools", {"query": "open"})
        assert "result" in client.ask("tasks/get", {"taskId": identity}, capabilities=ABLE)
        assert client.ask("tasks/get", {"taskId": identity}, capabilities=ABLE)["error"]["code"] == -31002
        assert client.call("find_tools", {"query": "open"})["error"]["code"] == -31002
    assert len(site.new.of("tasks/get")) == 1
