# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine below the fleet: engine, Swarm and networks."""

from __future__ import annotations

import json
from typing import Any

from testinfra.host import Host


def test_the_engine_is_a_service_that_comes_back(node: Host) -> None:
    engine = node.service("docker")
    assert engine.is_running
    assert engine.is_enabled


def test_the_engine_runs_with_its_daemon_json(node: Host) -> None:
    file = node.file("/etc/docker/daemon.json")
    wanted = json.loads(file.content_string)
    assert (file.user, file.mode) == ("root", 0o644)
    assert wanted["log-opts"] == {"max-size": "10m", "max-file": "3"}
    # Written before the engine first started: what runs obeys it.
    info = json.loads(node.check_output("docker info --format '{{json .}}'"))
    assert info["LoggingDriver"] == wanted["log-driver"]
    pools = [{"base": pool["Base"], "size": pool["Size"]} for pool in info["DefaultAddressPools"]]
    assert pools == wanted["default-address-pools"]


def test_the_node_is_the_only_manager_of_its_own_swarm(node: Host) -> None:
    swarm = json.loads(node.check_output("docker info --format '{{json .Swarm}}'"))
    assert (swarm["LocalNodeState"], swarm["ControlAvailable"]) == ("active", True)
    assert (swarm["Nodes"], swarm["Managers"]) == (1, 1)
    address = node.check_output("ip -4 -json address show eth0")
    assert swarm["NodeAddr"] == json.loads(address)[0]["addr_info"][0]["local"]


def test_the_networks_are_those_of_the_plan(node: Host, plan: dict[str, Any]) -> None:
    wanted = {network["name"]: network for network in plan["networks"]}
    assert set(wanted) == {"mcp_edge", "mcp_backend", "mcp_egress"}
    for seen in json.loads(node.check_output("docker network inspect " + " ".join(wanted))):
        network = wanted[seen["Name"]]
        assert (seen["Driver"], seen["Scope"], seen["Attachable"]) == ("overlay", "swarm", True), seen["Name"]
        assert seen["Internal"] is network["internal"], seen["Name"]
        assert [pool["Subnet"] for pool in seen["IPAM"]["Config"]] == [network["subnet"]], seen["Name"]
        assert seen["Labels"]["ai.sophia.mcp.fleet"] == "mcp", seen["Name"]


def test_servers_have_no_way_out(node: Host) -> None:
    """Their network is internal: a connection to the outside ends before it leaves the node."""
    container = node.check_output("docker ps --quiet --filter label=ai.sophia.mcp.server=time").split()[0]
    gateway = node.check_output("ip -4 -json route show default")
    address = json.loads(gateway)[0]["gateway"]
    connect = f"import socket; socket.create_connection(('{address}', 53), 3)"
    answer = node.run(f'docker exec {container} python3 -c "{connect}"')
    assert "Network is unreachable" in answer.stderr or "timed out" in answer.stderr, answer.stderr
