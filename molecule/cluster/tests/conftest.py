# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes, what is done to them, and clients that call through their edges all the while."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from calls import Calls
from commands import Ansible, Played, sh, until

SCENARIO = Path(__file__).resolve().parents[1]
INVENTORY = SCENARIO / "inventory"
NODES = os.environ.get("MOLECULE_NODE", "mcp-cluster-1 mcp-cluster-2 mcp-cluster-3").split()
ADDRESSES = {name: f"10.95.1.{11 + number}" for number, name in enumerate(NODES)}
rows: list[tuple[str, str, str]] = []


class Cluster:
    """The nodes under test."""

    def __init__(self) -> None:
        self._ansible = Ansible(INVENTORY)

    def sh(self, name: str, command: str, check: bool = True) -> str:
        return sh(name, command, check)

    def play(self, playbook: str, **variables: Any) -> Played:
        return self._ansible.play(playbook, seconds=400, **variables)

    def kill(self, name: str) -> None:
        subprocess.run(["docker", "kill", name], check=True, capture_output=True)

    def healed(self, name: str, seconds: float) -> str:
        """Wait until the others noticed that a node is lost, and everything runs without it; says how long it took."""
        noticed = self.until(f"{name} noticed", lambda: self.nodes()[name]["state"] != "ready", 60)
        healed = noticed + self.until(f"whole without {name}", self.whole, 120)
        assert healed < seconds
        return f"noticed after {noticed:.1f} s, whole after {healed:.1f} s"

    def start(self, name: str, known: bool = True) -> None:
        """Boot a node again and wait until the others see it; one that they do not know, until its engine answers."""
        subprocess.run(["docker", "start", name], check=True, capture_output=True)
        if known:
            self.until(f"{name} back", lambda: self.nodes()[name]["state"] == "ready", 120)
        else:
            self.until(f"{name} up", lambda: bool(self.sh(name, "docker info --format '{{.ID}}'")), 120)

    def manager(self) -> str:
        """A node that can be asked."""
        for name in NODES:
            done = subprocess.run(["docker", "exec", name, "docker", "node", "ls", "-q"], capture_output=True, check=False)
            if done.returncode == 0:
                return name
        raise AssertionError("no manager answers")

    def nodes(self) -> dict[str, dict[str, Any]]:
        """By name: state, role, leader, availability."""
        asked = self.manager()
        ids = self.sh(asked, "docker node ls -q").split()
        found = json.loads(self.sh(asked, f"docker node inspect {' '.join(ids)}"))
        return {
            item["Description"]["Hostname"]: {
                "id": item["ID"],
                "state": item["Status"]["State"],
                "role": item["Spec"]["Role"],
                "availability": item["Spec"]["Availability"],
                "leader": (item.get("ManagerStatus") or {}).get("Leader", False),
                "reachable": (item.get("ManagerStatus") or {}).get("Reachability") == "reachable",
                "labels": item["Spec"]["Labels"],
            }
            for item in found
        }

    def placed(self) -> dict[str, dict[str, int]]:
        """Service to node to how many of its tasks run there and are to."""
        ready = {name for name, node in self.nodes().items() if node["state"] == "ready"}
        lines = self.sh(
            self.manager(), "docker stack ps mcp --filter desired-state=running --format '{{.Name}} {{.Node}} {{.CurrentState}}'"
        ).splitlines()
        found: dict[str, dict[str, int]] = {}
        for line in lines:
            task, node, state = line.split(" ", 2)
            service = found.setdefault(task.split(".")[0], {})
            if node in ready and state.startswith("Running"):
                service[node] = service.get(node, 0) + 1
        return found

    def whole(self) -> bool:
        """Whether every service has all its tasks on nodes that live, and the gateway can call every replica of every server."""
        placed, ready = self.placed(), [name for name, node in self.nodes().items() if node["state"] == "ready"]
        wanted = {"mcp_gateway": 3, "mcp_time": 3, "mcp_fetch": 1, "mcp_edge": len(ready), "mcp_edge-config": len(ready)}
        if {name: sum(on.values()) for name, on in placed.items()} != wanted:
            return False
        healthy = {server["name"]: sum(r["healthy"] for r in server["replicas"]) for server in self.status(ready[0])["servers"]}
        return healthy == {"time": 3, "fetch": 1}

    def status(self, name: str) -> dict[str, Any]:
        """What a gateway says of its servers, through a node's edge."""
        key = (INVENTORY / ".state" / "secrets" / "gateway_api_key").read_text("utf-8").strip()
        ask = urllib.request.Request(f"https://{ADDRESSES[name]}:8443/status", headers={"Authorization": f"Bearer {key}"})
        try:
            with urllib.request.urlopen(ask, context=ssl._create_unverified_context(), timeout=5) as answer:
                return dict(json.loads(answer.read()))
        except OSError:
            return {"servers": []}

    def until(self, what: str, condition: Callable[[], bool], seconds: float) -> float:
        """Wait; returns how long it took."""
        return until(what, condition, seconds, self.placed)


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def calls(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Calls]:
    """One client at each edge, during the whole test; the fleet is whole before."""
    cluster.until("whole", cluster.whole, 120)
    with Calls(INVENTORY, urls("time"), clients=len(NODES)).going_on() as made:
        yield made
    report(request.node.name.removeprefix("test_").replace("_", " "), made)


@pytest.fixture
def fetches(cluster: Cluster) -> Iterator[Calls]:
    """The same of a server with one replica."""
    arguments = {"url": "http://gateway:8080/healthz"}
    with Calls(INVENTORY, urls("fetch"), tool="fetch", arguments=arguments).going_on() as made:
        yield made
    report("... of the server with one replica", made)


def urls(server: str) -> list[str]:
    return [f"https://{address}:8443/servers/{server}/mcp" for address in ADDRESSES.values()]


def report(name: str, made: Calls) -> None:
    print(f"\n{name}: {made}", *made.elsewhere, *made.failed, sep="\n  ")
    rows.append((name, str(made), made.note))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What was done, calls, how long it took."""
    if rows:
        terminalreporter.section("what was done, calls, seconds")
        for row in rows:
            terminalreporter.write_line(" | ".join(row))
