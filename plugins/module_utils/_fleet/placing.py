# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where servers may run on several nodes: those with data where it lies, the others spread over zones and nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .facts import Host

HOST_LABEL = "ai.sophia.mcp.host"
# A node label of the inventory that says what fails together: a rack, a power line, an availability zone.
ZONE = "zone"
# Constraints that leave one node, or those that somebody chose.
CHOOSES_NODES = re.compile(r"\s*node\.(id|hostname|labels\.\S+)\s*==")


def manager_warnings(hosts: Sequence[Host]) -> list[str]:
    """What of the number of managers is unwise."""
    managers = [host.name for host in hosts if host.manager]
    count = len(managers)
    if count and count % 2 == 0:
        return [
            f"mcp_managers: {count} hosts ({', '.join(managers)}): {count} managers bear the loss of"
            f" {(count - 1) // 2 or 'none'}, as {count - 1} do, and are one more that can fail; use 1, 3 or 5, and move"
            " the others to mcp_workers"
        ]
    if count > 7:
        return [f"mcp_managers: {count} hosts: each change must reach more than half of them; use 5, at most 7"]
    return []


def placing_rules(
    servers: Sequence[Mapping[str, Any]], data_node: str, hosts: Sequence[Host], errors: list[str]
) -> None:
    """What several nodes demand of the catalogue.

    Args:
        servers: with defaults filled in.
        data_node: ``mcp_fleet.data_node``.
        hosts: the inventory's nodes; without any nothing is known of them, and nothing demanded.
        errors: takes one line per mistake.
    """
    names = [host.name for host in hosts]
    there = ", ".join(names)
    if hosts and data_node and data_node not in names:
        errors.append(f"mcp_fleet.data_node: {data_node!r} is no node of this inventory; there are: {there}")
    for index, server in enumerate(servers):
        if hosts and server["node"] and server["node"] not in names:
            errors.append(
                f"mcp_servers[{index}].node: {server['node']!r} is no node of this inventory; there are: {there}"
            )
    homeless = [server["name"] for server in servers if homeless_data(server)]
    if len(hosts) > 1 and homeless and not data_node:
        errors.append(
            f"mcp_fleet.data_node: missing; {', '.join(map(str, homeless))} keep{'s' * (len(homeless) == 1)} data in"
            f" volumes, and a volume lies on one node alone: name the node that has them (one of {there}), or set node"
            " for each such server"
        )
    zones = [host for host in hosts if ZONE in host.labels]
    if zones and len(zones) < len(hosts):
        without = ", ".join(host.name for host in hosts if ZONE not in host.labels)
        errors.append(
            f"mcp_node_labels.{ZONE}: missing for {without}; replicas are spread over zones, so give every node one"
            " or none"
        )


def homeless_data(server: Mapping[str, Any]) -> bool:
    """Whether a server keeps data and nothing of its own says on which node."""
    chosen = server["node"] or any(CHOOSES_NODES.match(str(rule)) for rule in server["constraints"])
    return bool(server["volumes"]) and not chosen


def constraints(server: Mapping[str, Any], data_node: str, hosts: Sequence[Host]) -> list[str]:
    """A server's placement constraints: its own, and the node where its data lies where there are several."""
    node = server["node"] or (data_node if homeless_data(server) and len(hosts) > 1 else "")
    return [*server["constraints"], *([f"node.labels.{HOST_LABEL} == {node}"] if node else [])]


def preferences(hosts: Sequence[Host]) -> list[dict[str, str]]:
    """How replicas are spread: over nodes Swarm does it by itself, of zones, where there are some, it must be told."""
    zones = {host.labels[ZONE] for host in hosts if ZONE in host.labels}
    return [{"spread": f"node.labels.{ZONE}"}] if len(zones) > 1 else []
