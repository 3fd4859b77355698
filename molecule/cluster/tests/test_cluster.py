# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet on three nodes loses them, one after the other, in the order in which it happens; no call is lost."""

from __future__ import annotations

from calls import Calls
from conftest import NODES, Cluster

WORKER = NODES[2]
HEALED_SECONDS = 45.0


def test_a_worker_is_lost(cluster: Cluster, calls: Calls) -> None:
    played = cluster.play("demote.yml", node=WORKER)
    assert played.code == 0, played.output
    assert cluster.nodes()[WORKER]["role"] == "worker"
    cluster.kill(WORKER)
    seconds = cluster.until("noticed", lambda: cluster.nodes()[WORKER]["state"] != "ready", 60)
    more = cluster.until("whole without it", cluster.whole, 120)
    calls.note = f"noticed after {seconds:.1f} s, whole after {seconds + more:.1f} s"
    assert not calls.failed


def test_the_worker_is_back(cluster: Cluster, calls: Calls) -> None:
    cluster.start(WORKER)
    assert not cluster.placed()["mcp_time"].get(WORKER)  # Swarm by itself moves nothing back
    played = cluster.play("rebalance.yml")
    assert played.code == 0, played.output
    print(played.output)
    calls.note = f"rebalanced in {played.seconds:.0f} s"
    assert all(cluster.placed()[name] == dict.fromkeys(NODES, 1) for name in ("mcp_time", "mcp_gateway"))
    assert not calls.failed
    again = cluster.play("rebalance.yml")
    assert (again.code, again.changed) == (0, 0), again.output
