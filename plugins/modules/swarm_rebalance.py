#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spread a fleet's replicas evenly again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_rebalance
short_description: Spread a fleet's replicas evenly over the nodes again
version_added: 0.2.0
description:
  - Swarm spreads tasks when they start and never afterwards, so a node that comes back stays empty. This module works
    out which services are uneven over the nodes that may run them, and moves one replica after the other, each watched
    until it runs, with the fleet's lock held. Where all is even nothing is touched.
  - A service's replicas are even when its fullest and its emptiest node differ by one at most; with placement
    preferences first over the values of their labels. Then, where one node has two tasks more than another, services
    with one replica move.
  - A replica moves by one more and then one less, so that no other replica is touched; the only replica of a service by
    an update that starts first.
  - Never moved are jobs, services that run on every node, that keep data in volumes, or that hold a port of their node.
  - Progress is shown while it runs.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.action
  - sophia_ai.mcp_swarm.attributes.manager
  - sophia_ai.mcp_swarm.attributes.progress
  - sophia_ai.mcp_swarm.attributes.locked
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  only:
    description: Services to move. All where empty.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds for each move.
    type: int
    default: 180
attributes:
  check_mode:
    support: full
    details: Tells the first move of each service. Takes no lock.
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: sophia_ai.mcp_swarm.swarm_node
"""

EXAMPLES = r"""
- name: Spread the fleet over the node that came back
  sophia_ai.mcp_swarm.swarm_rebalance:
    name: mcp
"""

RETURN = r"""
moves:
  description: What was moved, one line each.
  returned: success
  type: list
  elements: str
  sample: ["mcp_time: one replica from gpu-1 to gpu-3 (gpu-1 2, gpu-2 1, gpu-3 0)"]
left:
  description: Services that Swarm put no better, to why.
  returned: success
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._progress import Progress
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.lock import acquire
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.rebalance import rebalance


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "only": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "int", "default": 180},
            "lock_wait": {"type": "int", "default": 60},
            "who": {"type": "str", "default": "unknown"},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params, fleet = module.params, module.params["name"]
    say = Progress(params["progress_file"])
    try:
        swarm = Swarm()
        foreseen = rebalance(swarm, fleet, params["only"], params["timeout"], say, check=True)
        if module.check_mode or not foreseen.moves:
            module.exit_json(changed=bool(foreseen.moves), moves=foreseen.moves, left={})
        with acquire(swarm, fleet, params["who"], "rebalance", params["lock_wait"], say) as lock:
            done = rebalance(swarm, fleet, params["only"], params["timeout"], say, lock.check)
        module.exit_json(changed=True, moves=done.moves, left=done.left)
    except SwarmError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
