#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's containers were assigned of its GPUs, and what they see."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_use_info
short_description: Tell what a node's containers were assigned of its GPUs, and what they see
version_added: 0.4.0
description:
  - Compares, for each container that runs on the node, the GPUs that Swarm assigned to it with those that C(nvidia-smi)
    shows in it. Containers of the fleet without a reservation are to have none.
  - Where nothing has changed since that was proved, no container is asked.
author:
  - Sophia AI (@sophia-ai)
options:
  fleet:
    description: Name of the fleet, and so of its stack.
    type: str
    required: true
  node:
    description: What people call the node.
    type: str
    required: true
  marker:
    description: File that has RV(marker) of the time when it was proved.
    type: path
    required: true
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.info
seealso:
  - module: sophia_ai.mcp_swarm.gpu_proof
"""

EXAMPLES = r"""
- name: Compare what Swarm assigned with what containers see
  sophia_ai.mcp_swarm.gpu_use_info:
    fleet: mcp
    node: gpu-1
    marker: /var/lib/mcp-swarm/gpu-proof.json
  register: gpu_use
"""

RETURN = r"""
problems:
  description: One message for each container that does not see what it was assigned.
  returned: success
  type: list
  elements: str
mute:
  description: Containers with a GPU in which there is no C(nvidia-smi) to ask, and whose devices do not tell either.
  returned: success
  type: list
  elements: str
proved:
  description: Whether all is as it was when it was proved.
  returned: success
  type: bool
marker:
  description: What the proof depends on - versions of toolkit, driver and engine, the units, and their files.
  returned: success
  type: str
units:
  description: What C(daemon.json) has the engine advertise.
  returned: success
  type: list
  elements: str
toolkit:
  description: Version of NVIDIA's container toolkit; empty without one.
  returned: success
  type: str
node_id:
  description: The node's id in the Swarm; empty where it is in none.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.gpu_use import look


def main() -> None:
    """The module."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={"fleet": text, "node": text, "marker": {"type": "path", "required": True}},
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **look(module.params["fleet"], module.params["node"], module.params["marker"]))


if __name__ == "__main__":
    main()
