#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bind the fleet's registry to one node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_node
short_description: Bind the fleet's registry to one node, and tell where that is
version_added: 0.2.0
description:
  - Gives one node of the Swarm the label by which the registry's service is placed, and takes it from all others. Its
    data stays where it was; what a moved registry lacks is pushed to it again.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.manager
attributes:
  check_mode:
    support: full
    details: Says whether labels would change.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  label:
    description: The label.
    type: str
    required: true
  node:
    description: Id of the node. Where it is empty the registry stays where it is, and comes to this manager at first.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Bind the registry
  sophia_ai.mcp_swarm.registry_node:
    label: ai.sophia.mcp.registry.mcp
"""

RETURN = r"""
node:
  description: Id of the node.
  returned: success
  type: str
name:
  description: Its host name.
  returned: success
  type: str
address:
  description: Where other nodes reach it.
  returned: success
  type: str
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError, patiently


def choose(nodes: Iterable[Mapping[str, Any]], label: str, wanted: str, mine: str) -> Mapping[str, Any]:
    """The node that is to keep the registry.

    Args:
        nodes: all, as the engine lists them.
        label: by which it is known.
        wanted: id; empty to leave it where it is.
        mine: id of the node that has it where nobody has.

    Raises:
        SwarmError: there is no such node.
    """
    by_id = {node["ID"]: node for node in nodes}
    holders = [identity for identity, node in sorted(by_id.items()) if _labels(node).get(label) == "true"]
    chosen = wanted or next(iter(holders), mine)
    if chosen not in by_id:
        raise SwarmError(f"mcp_fleet.registry.node: its node {chosen} is not in this Swarm; run the provision playbook")
    return by_id[chosen]


def _labels(node: Mapping[str, Any]) -> dict[str, str]:
    return dict(node["Spec"].get("Labels") or {})


def address(node: Mapping[str, Any]) -> str:
    """Where other nodes reach a node. A manager's own view of itself may be 0.0.0.0; what it advertises is not."""
    manager = (node.get("ManagerStatus") or {}).get("Addr", "").rpartition(":")[0]
    return (manager or (node.get("Status") or {}).get("Addr", "")).strip("[]")


def bind(swarm: Swarm, label: str, wanted: str, check: bool) -> dict[str, Any]:
    """The module's result."""
    nodes = patiently(swarm.api.nodes)
    chosen = choose(nodes, label, wanted, swarm.node_id)
    changed = False
    for node in nodes:
        labels = _labels(node)
        right = {key: value for key, value in labels.items() if key != label}
        if node["ID"] == chosen["ID"]:
            right[label] = "true"
        if right != labels:
            changed = True
            if not check:
                swarm.api.update_node(node["ID"], node["Version"]["Index"], {**node["Spec"], "Labels": right})
    return {
        "changed": changed,
        "node": chosen["ID"],
        "name": chosen["Description"]["Hostname"],
        "address": address(chosen),
    }


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={"label": {"type": "str", "required": True}, "node": {"type": "str", "default": ""}},
        supports_check_mode=True,
    )
    try:
        module.exit_json(**bind(Swarm(), module.params["label"], module.params["node"], module.check_mode))
    except SwarmError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
