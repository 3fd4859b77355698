"""The gateway as it runs: official clients and servers of both eras, refusals, dead and slow servers, the end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import LEGACY, MODERN, TESTS, Modern, Running, free_port, message_of, wait_until
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

pytestmark = pytest.mark.integration
MODES = {MODERN: MODERN, "legacy": LEGACY}
Start = Callable[..., Running]


@pytest.fixture(scope="module")
def fleet(gate_server: Start, fixture_server: Start, everything: Running) -> list[dict[str, Any]]:
    """Two servers of both eras and one of 2025 alone."""
    return [
        {"name": "fix", "url": f"{fixture_server().url}/mcp"},
        {"name": "gate", "url": f"{gate_server().url}/mcp"},
        {"name": "every", "url": f"{everything.url}/mcp"},
    ]


def serve(launch: Start, directory: Path, servers: list[dict[str, Any]], **settings: Any) -> Running:
    port, path = free_port(), directory / "gateway.json"
    path.write_text(json.dumps({"listen": {"port": port}, "servers": servers, **settings}))
    running = launch(sys.executable, "-m", "mcp_gateway", "serve", "--config", str(path), port=port)
    wait_until(lambda: httpx2.get(f"{running.url}/readyz").status_code == 200, "the gateway is ready")
    return running


@pytest.fixture(scope="module")
def shared(launch: Start, fleet: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Running:
    """One gateway for the tests that do not change it."""
    return serve(launch, tmp_path_factory.mktemp("shared"), fleet)


@pytest.fixture(scope="module")
def keyed(launch: Start, fleet: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Running:
    """The same with the key ``right``."""
    directory = tmp_path_factory.mktemp("keyed")
    (directory / "key").write_text("right\n")
    return serve(launch, directory, fleet, auth={"api_keys": [{"file": str(directory / "key")}]})


def said(answer: dict[str, Any]) -> str:
    return str(answer["result"]["content"][0]["text"])


# -- official clients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("merged", [True, False], ids=["merged", "single"])
def test_python_client(keyed: Running, mode: str, merged: bool) -> None:
    path, prefix, scheme = ("/mcp", "fix__", "fix+") if merged else ("/servers/fix/mcp", "", "")

    async def use() -> None:
        async with httpx2.AsyncClient(headers={"Authorization": "Bearer right"}, timeout=30) as http:
            transport = streamable_http_client(keyed.url + path, http_client=http)
            async with Client(transport, mode=mode) as client:
                assert client.protocol_version == MODES[mode]
                tools = {tool.name for tool in (await client.list_tools()).tools}
                assert {f"{prefix}add", f"{prefix}slow"} <= tools
                assert {name.split("__")[0] for name in tools} == ({"fix", "gate", "every"} if merged else tools)
                result = await client.call_tool(f"{prefix}add", {"a": 2, "b": 3})
                assert result.structured_content == {"result": 5}
                prompt = await client.get_prompt(f"{prefix}greet", {"who": "you"})
                assert prompt.messages[0].content.text == "hello you"
                read = await client.read_resource(f"{scheme}test://item/7")
                assert (str(read.contents[0].uri), read.contents[0].text) == (f"{scheme}test://item/7", "item 7")

    asyncio.run(asyncio.wait_for(use(), 60))


@pytest.mark.parametrize("mode", MODES)
def test_progress_arrives_while_the_call_runs(shared: Running, tmp_path: Path, mode: str) -> None:
    """The call cannot end before its progress arrived: the notification is what releases it."""
    seen: list[str | None] = []

    async def progress(value: float, total: float | None, message: str | None) -> None:
        seen.append(message)
        (tmp_path / "release").touch()

    async def use() -> None:
        async with Client(f"{shared.url}/mcp", mode=mode) as client:
            done = await client.call_tool("gate__hold", {"directory": str(tmp_path)}, progress_callback=progress)
            assert done.content[0].text == "released"

    asyncio.run(asyncio.wait_for(use(), 30))
    assert seen == ["holding"]


@pytest.mark.parametrize("path", ["/mcp", "/servers/every/mcp"])
@pytest.mark.parametrize("mode", MODES)
def test_a_server_of_2025_for_clients_of_both_eras(shared: Running, mode: str, path: str) -> None:
    prefix = "every__" if path == "/mcp" else ""

    async def use() -> None:
        async with Client(shared.url + path, mode=mode) as client:
            echoed = await client.call_tool(f"{prefix}echo", {"message": "hello"})
            assert echoed.content[0].text == "Echo: hello"
            names = [prompt.name for prompt in (await client.list_prompts()).prompts]
            assert any(name.startswith(prefix) for name in names)
            uri = next(str(r.uri) for r in (await client.list_resources()).resources if "demo://" in str(r.uri))
            assert (await client.read_resource(uri)).contents

    asyncio.run(asyncio.wait_for(use(), 60))


@pytest.mark.parametrize("path", ["/mcp", "/servers/fix/mcp"])
def test_typescript_client(shared: Running, node_modules: Path, path: str) -> None:
    program = node_modules.parent / "client.mjs"  # beside node_modules, where imports are resolved
    program.write_text((TESTS / "client.mjs").read_text())
    prefix = "fix__" if path == "/mcp" else ""
    command = ["node", str(program), shared.url + path, f"{prefix}slow", json.dumps({"steps": 2, "seconds": 0.05})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["text"], answer["progress"]) == ("done", [0, 1])
    assert f"{prefix}add" in answer["tools"]


# -- refusals ----------------------------------------------------------------------------------------------------------

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2099-01-01",
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.mark.parametrize(
    ("method", "params", "options", "status", "code"),
    [
        ("tools/list", {}, {"headers": {"Mcp-Method": None}}, 400, -32020),
        ("tools/list", {}, {"headers": {"Mcp-Method": "tools/call"}}, 400, -32020),
        ("tools/list", {}, {"headers": {"MCP-Protocol-Version": LEGACY}}, 400, -32020),
        ("tools/call", {"name": "fix__add"}, {"headers": {"Mcp-Name": "fix__fail"}}, 400, -32020),
        ("tools/call", {"name": "fix__add"}, {"headers": {"Mcp-Name": None}}, 400, -32020),
        ("tools/list", {}, {"headers": {"MCP-Protocol-Version": "2099-01-01"}, "meta": ENVELOPE}, 400, -32022),
        ("tools/list", {}, {"meta": {}}, 400, -32602),
        ("nobody/knows", {}, {}, 404, -32601),
        ("initialize", {}, {}, 404, -32601),
        ("subscriptions/listen", {}, {}, 200, -32602),
        ("tools/list", {"cursor": "x"}, {}, 200, -32602),
        ("tools/call", {"name": "nobody__x"}, {}, 200, -32602),
    ],
)  # fmt: skip
def test_modern_refusals(
    shared: Running, method: str, params: dict[str, Any], options: dict[str, Any], status: int, code: int
) -> None:
    answer = Modern(shared.url).post(method, params, **options)
    assert (answer.status_code, message_of(answer)["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    ("raw", "status"),
    [(b"{", 400), (b"[]", 400), (b'{"id": 1}', 400), (b'{"jsonrpc": "2.0", "id": 1, "method": 7}', 400)],
)
def test_what_is_no_message(shared: Running, raw: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json", "MCP-Protocol-Version": MODERN}
    before = _refused(shared.url, "malformed")
    assert httpx2.post(f"{shared.url}/mcp", content=raw, headers=headers).status_code == status
    assert _refused(shared.url, "malformed") == before + 1


def _refused(url: str, reason: str) -> float:
    lines = httpx2.get(f"{url}/metrics").text.splitlines()
    values = [line.split()[1] for line in lines if line.startswith(f'mcp_gateway_refused_total{{reason="{reason}"}}')]
    return float(values[0]) if values else 0.0


def test_a_doubled_routing_header(shared: Running) -> None:
    headers = [("MCP-Protocol-Version", MODERN), ("Mcp-Method", "tools/list"), ("Mcp-Method", "tools/call")]
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
    answer = httpx2.post(f"{shared.url}/mcp", json=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, -32020)


def _initialize(url: str) -> dict[str, str]:
    """Headers of a new session of 2025."""
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    answer = httpx2.post(f"{url}/mcp", json=body)
    return {"Mcp-Session-Id": answer.headers["mcp-session-id"], "MCP-Protocol-Version": LEGACY}


def _in_session(url: str, headers: dict[str, str], method: str, **params: Any) -> httpx2.Response:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return httpx2.post(f"{url}/mcp", json=body, headers=headers, timeout=30)


def test_sessions_of_2025(shared: Running) -> None:
    headers = _initialize(shared.url)
    assert "result" in message_of(_in_session(shared.url, headers, "ping"))
    assert message_of(_in_session(shared.url, headers, "nobody/knows"))["error"]["code"] == -32601
    assert _in_session(shared.url, {**headers, "Mcp-Session-Id": "forged"}, "ping").status_code == 404
    assert _in_session(shared.url, {"MCP-Protocol-Version": LEGACY}, "ping").status_code == 400
    assert _in_session(shared.url, {**headers, "MCP-Protocol-Version": "1999-01-01"}, "ping").status_code == 400
    assert httpx2.delete(f"{shared.url}/mcp", headers=headers).status_code == 204
    assert _in_session(shared.url, headers, "ping").status_code == 404


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "wrong"}])
def test_no_key_no_entry(keyed: Running, headers: dict[str, str]) -> None:
    for path in ("/mcp", "/servers/fix/mcp"):
        refused = Modern(keyed.url, **headers).post("tools/list", path=path)
        assert (refused.status_code, refused.headers["www-authenticate"][:6]) == (401, "Bearer")
        assert httpx2.delete(keyed.url + path, headers=headers).status_code == 401
    assert httpx2.get(f"{keyed.url}/status", headers=headers).status_code == 401
    assert Modern(keyed.url, Authorization="Bearer right").post("tools/list").status_code == 200


def test_the_policy_holds_for_lists_and_calls(gateway: Start, gate_server: Start) -> None:
    policy = {"allow": ["h*"], "deny": ["hidden"]}
    running = gateway([{"name": "gate", "url": f"{gate_server().url}/mcp", "tools": policy}])
    for path, prefix in (("/mcp", "gate__"), ("/servers/gate/mcp", "")):
        client = Modern(running.url)
        listed = message_of(client.post("tools/list", path=path))["result"]["tools"]
        assert [tool["name"] for tool in listed] == [f"{prefix}hold"]
        for tool in ("hidden", "whoami"):
            assert client.call(prefix + tool, {}, path=path)["error"]["message"] == f"Unknown tool: {prefix}{tool}"
    assert httpx2.get(f"{running.url}/status").json()["servers"][0]["tools"] == 1


# -- replicas, failures, sessions --------------------------------------------------------------------------------------


def test_a_replica_dies_under_calls(gateway: Start, fixture_server: Start) -> None:
    """No safe call fails before, during or after; calls made afterwards all succeed, whatever they do."""
    first, second = fixture_server(), fixture_server()
    running = gateway([{"name": "fix", "urls": [f"{first.url}/mcp", f"{second.url}/mcp"]}])
    failed: list[Any] = []
    dead, finished = threading.Event(), threading.Event()

    def read() -> int:
        """Reads until some reads were made after the death."""
        client, after = Modern(running.url), 0
        while after < 20:
            was_dead = dead.is_set()
            answer = message_of(client.post("resources/read", {"uri": "fix+test://static"}))
            failed.extend([answer["error"]] if "error" in answer else [])
            after += was_dead
            if not was_dead:
                finished.set()
        return after

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        assert finished.wait(30)
        client, seen = Modern(running.url), set()
        wait_until(lambda: seen.add(said(client.call("fix__whoami", {}))) or len(seen) == 2, "both are used")
        first.process.kill()
        first.process.wait()
        dead.set()
        for reader in readers:
            assert reader.result(30) == 20
    assert failed == []
    assert {said(Modern(running.url).call("fix__whoami", {})) for _ in range(20)} == {str(second.process.pid)}


def test_a_dead_server_leaves_a_gap_that_is_marked(gateway: Start, fixture_server: Start) -> None:
    address = f"127.0.0.1:{free_port()}"
    running = gateway(
        [{"name": "fix", "url": f"{fixture_server().url}/mcp"}, {"name": "dead", "url": f"http://{address}/mcp"}]
    )
    client = Modern(running.url)
    listed = message_of(client.post("tools/list"))["result"]
    assert {tool["name"].split("__")[0] for tool in listed["tools"]} == {"fix"}
    assert listed["_meta"]["ai.sophia.mcp/partial"] == ["dead"]
    refused = client.call("dead__anything", {})["error"]
    assert refused["message"].startswith(f"server dead cannot be reached: {address}")
    status = {server["name"]: server for server in httpx2.get(f"{running.url}/status").json()["servers"]}
    assert address in status["dead"]["last_error"]
    assert (status["fix"]["era"], status["fix"]["last_error"]) == (MODERN, "")


def test_a_server_that_never_answers_does_not_hold_up_the_list(
    gateway: Start, fixture_server: Start, launch: Start
) -> None:
    port = free_port()
    mute = launch(sys.executable, str(TESTS / "servers" / "mute.py"), str(port), port=port)
    servers = [{"name": "fix", "url": f"{fixture_server().url}/mcp"}, {"name": "mute", "url": f"{mute.url}/mcp"}]
    running = gateway(servers, ready=False)
    wait_until(lambda: httpx2.get(f"{running.url}/status").json()["servers"][0]["era"], "the good server is known")
    start = time.monotonic()
    listed = message_of(Modern(running.url).post("tools/list"))["result"]
    assert time.monotonic() - start < 7  # the list's own deadline is 5 s, the server's 60 s
    assert listed["_meta"]["ai.sophia.mcp/partial"] == ["mute"]
    assert len(listed["tools"]) == 5


def test_a_sticky_session_is_the_same_through_every_gateway(
    gateway: Start, everything: Running, tmp_path: Path
) -> None:
    """The server names its session in the answer: one for each client session, whichever gateway is asked."""
    (tmp_path / "seal").write_text("s" * 43)
    servers = [{"name": "every", "url": f"{everything.url}/mcp", "sessions": "sticky"}]
    pair = [gateway(servers, sessions={"key_files": [str(tmp_path / "seal")]}) for _ in range(2)]

    def upstream_session(running: Running, headers: dict[str, str]) -> str:
        answer = _in_session(running.url, headers, "tools/call", name="every__toggle-simulated-logging", arguments={})
        return next(word for word in said(message_of(answer)).split() if word.count("-") == 4)

    one, other = _initialize(pair[0].url), _initialize(pair[1].url)
    assert upstream_session(pair[0], one) == upstream_session(pair[1], one)
    assert upstream_session(pair[1], other) == upstream_session(pair[0], other)
    assert upstream_session(pair[0], one) != upstream_session(pair[0], other)


# -- cancellation and the end ------------------------------------------------------------------------------------------


def test_a_modern_client_that_leaves_cancels_its_call(shared: Running, tmp_path: Path) -> None:

    async def use() -> None:
        async with Client(f"{shared.url}/mcp", mode=MODERN) as client:
            call = asyncio.ensure_future(client.call_tool("gate__hold", {"directory": str(tmp_path)}))
            while not (tmp_path / "started").exists():  # noqa: ASYNC110 - a file has no event to wait for
                await asyncio.sleep(0.01)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

    asyncio.run(asyncio.wait_for(use(), 30))
    wait_until(lambda: (tmp_path / "cancelled").exists(), "the server's call is cancelled", 10)


def test_the_end_waits_for_the_call_in_flight(gateway: Start, fleet: list[dict[str, Any]], tmp_path: Path) -> None:
    running = gateway(fleet)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        call = pool.submit(Modern(running.url).call, "gate__hold", {"directory": str(tmp_path)})
        wait_until(lambda: (tmp_path / "started").exists(), "the call has begun")
        running.process.terminate()
        wait_until(lambda: httpx2.get(f"{running.url}/readyz").status_code == 503, "it says that it drains", 5)
        assert httpx2.get(f"{running.url}/readyz").text == "draining"
        assert running.process.poll() is None
        (tmp_path / "release").touch()
        assert said(call.result(10)) == "released"
    assert running.process.wait(10) == 0


def test_the_end_loses_no_request_on_a_kept_connection(gateway: Start, fleet: list[dict[str, Any]]) -> None:
    """A balancer keeps connections, and uses them until it hears that the gateway is about to end."""
    running = gateway(fleet)
    with httpx2.Client(base_url=running.url) as kept, httpx2.Client(base_url=running.url) as unused:
        for client in (kept, unused):
            assert client.get("/readyz").status_code == 200
        running.process.terminate()
        wait_until(lambda: httpx2.get(f"{running.url}/readyz").status_code == 503, "it says that it drains", 5)
        answer = kept.get("/healthz")
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert running.process.wait(10) == 0  # though a connection is still open


def test_a_server_without_replicas_is_not_waited_for(launch: Start, fixture_server: Start, tmp_path: Path) -> None:
    """A gateway that starts beside a server that is not up yet serves the others; one that hangs it waits for."""
    absent = {"name": "absent", "dns": {"name": "absent.invalid", "port": 8000}}
    servers = [{"name": "fix", "url": f"{fixture_server().url}/mcp"}, absent]
    port, path = free_port(), tmp_path / "gateway.json"
    path.write_text(json.dumps({"listen": {"port": port}, "servers": servers}))
    running = launch(sys.executable, "-m", "mcp_gateway", "serve", "--config", str(path), port=port)
    start = time.monotonic()  # it listens
    wait_until(lambda: httpx2.get(f"{running.url}/readyz").status_code == 200, "the gateway is ready")
    assert time.monotonic() - start < 15
    assert "result" in Modern(running.url).call("fix__add", {"a": 1, "b": 2})
    refused = Modern(running.url).call("absent__x", {})
    assert "server absent cannot be reached: it has no replica" in refused["error"]["message"]
