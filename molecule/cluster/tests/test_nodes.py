# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet on three nodes is rolled, loses nodes and gets them back, in the order in which it happens; no call is lost."""

from __future__ import annotations

from calls import Calls
from conftest import NODES, Cluster

THIRD = NODES[2]
# Of which Swarm's own detection is 15: three heartbeats of 5 s that stay away.
HEALED_SECONDS = 45.0
# The others choose a leader first, and it gives every node some time to tell that it lives.
LEADER_SECONDS = 90.0
EVEN = dict.fromkeys(NODES, 1)


def test_the_nodes_are_what_the_inventory_says(cluster: Cluster) -> None:
    nodes = cluster.nodes()
    assert {name: (node["role"], node["state"]) for name, node in nodes.items()} == dict.fromkeys(NODES, ("manager", "ready"))
    for name, node in nodes.items():
        assert node["labels"]["ai.sophia.mcp.host"] == name
    assert all(cluster.placed()[service] == EVEN for service in ("mcp_edge", "mcp_gateway", "mcp_time"))
    again = cluster.play("provision.yml")
    assert (again.code, again.changed) == (0, 0), again.output


def test_server_and_gateway_are_rolled(cluster: Cluster, calls: Calls) -> None:
    played = cluster.play("deploy.yml", node_cpus=1.5, stack_settle=0)
    assert played.code == 0, played.output
    calls.note = f"rolled in {played.seconds:.0f} s"
    assert not calls.failed


def test_a_worker_is_lost(cluster: Cluster, calls: Calls) -> None:
    played = cluster.play("demote.yml", node=THIRD)
    assert played.code == 0, played.output
    assert "move it to mcp_workers in the inventory, or provision undoes this" in played.output
    assert cluster.nodes()[THIRD]["role"] == "worker"
    cluster.kill(THIRD)
    calls.note = cluster.healed(THIRD, HEALED_SECONDS)
    assert not calls.failed


def test_the_worker_is_back_and_gets_its_share(cluster: Cluster, calls: Calls) -> None:
    cluster.start(THIRD)
    assert not cluster.placed()["mcp_time"].get(THIRD)  # Swarm by itself moves nothing back
    played = cluster.play("rebalance.yml")
    assert played.code == 0, played.output
    assert f"to {THIRD}" in played.output
    calls.note = f"rebalanced in {played.seconds:.0f} s"
    assert all(cluster.placed()[service] == EVEN for service in ("mcp_gateway", "mcp_time"))
    again = cluster.play("rebalance.yml")
    assert (again.code, again.changed) == (0, 0), again.output
    played = cluster.play("promote.yml", node=THIRD)
    assert played.code == 0, played.output
    assert cluster.nodes()[THIRD]["reachable"]
    assert not calls.failed


def test_the_leader_is_lost(cluster: Cluster, calls: Calls) -> None:
    leader = next(name for name, node in cluster.nodes().items() if node["leader"])
    other = next(name for name in NODES if name != leader)
    cluster.kill(leader)
    calls.note = cluster.healed(leader, LEADER_SECONDS)
    refused = cluster.play("demote.yml", node=other)
    assert refused.code != 0
    assert "is needed: of the 2 other managers 1 answer, and 2 must; bring back" in refused.output
    # Any manager deploys, and the fleet is verified through an edge that is there.
    played = cluster.play("deploy.yml", node_cpus=1.25, stack_settle=0)
    assert played.code == 0, played.output
    cluster.start(leader)
    assert not calls.failed


def test_a_node_is_drained(cluster: Cluster, calls: Calls, fetches: Calls) -> None:
    """The one with the only replica of a server: it is never away."""
    name = next(iter(cluster.placed()["mcp_fetch"]))
    played = cluster.play("drain.yml", node=name, stop_pinned=True)  # it may be the registry's
    assert played.code == 0, played.output
    assert "mcp_fetch: starting elsewhere before it ends" in played.output
    assert not [service for service, on in cluster.placed().items() if on.get(name)]
    calls.note = f"drained in {played.seconds:.0f} s"
    assert cluster.play("drain.yml", node=name, state="active").code == 0
    assert cluster.placed()["mcp_edge"] == EVEN
    assert not calls.failed
    assert not fetches.failed


def test_a_dead_node_is_removed_and_another_takes_its_name(cluster: Cluster, calls: Calls) -> None:
    cluster.kill(THIRD)
    # A new leader, if it led, knows nothing of it for a while.
    cluster.until("noticed", lambda: cluster.nodes()[THIRD]["state"] == "down", LEADER_SECONDS)
    refused = cluster.play("leave.yml", node=THIRD)
    assert refused.code != 0
    assert f"{THIRD} does not answer and is down for the managers; nothing was changed." in refused.output
    played = cluster.play("leave.yml", node=THIRD, force=True)
    assert played.code == 0, played.output
    assert THIRD not in cluster.nodes()
    # It comes back after all, and believes that it belongs there.
    cluster.start(THIRD, known=False)
    refused = cluster.play("provision.yml")
    assert refused.code != 0
    assert "run there: docker swarm leave --force" in refused.output
    cluster.sh(THIRD, "docker swarm leave --force")
    played = cluster.play("provision.yml")
    assert played.code == 0, played.output
    assert cluster.nodes()[THIRD]["reachable"]
    assert not calls.failed


def test_a_node_leaves(cluster: Cluster, calls: Calls) -> None:
    played = cluster.play("leave.yml", node=THIRD)
    assert played.code == 0, played.output
    assert "mcp_edge_data" in played.output  # what stays on it is named
    assert THIRD not in cluster.nodes()
    assert "inactive" in cluster.sh(THIRD, "docker info --format '{{.Swarm.LocalNodeState}}'")
    calls.note = f"left in {played.seconds:.0f} s"
    assert not calls.failed


def test_nothing_is_left(cluster: Cluster) -> None:
    played = cluster.play("teardown.yml")
    assert played.code == 0, played.output
    for name in NODES:
        left = cluster.sh(name, "docker info --format '{{.Swarm.LocalNodeState}}'; docker volume ls -q; docker ps -aq; ls /etc/mcp-swarm", check=False)
        assert left.split() == ["inactive"]
