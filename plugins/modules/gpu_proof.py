#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that containers see the GPUs that Swarm assigned to them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_proof
short_description: Prove that containers see the GPUs that Swarm assigned to them, and no others
version_added: 0.4.0
description:
  - Reserves each free GPU unit of some nodes by a task of a job, as a service would, and compares what Swarm assigned
    with what C(nvidia-smi) shows in the container. A task without a reservation is to see none. The jobs are removed.
  - Fails where they differ, and names the node, the unit, what was seen and the toolkit's version.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.manager
attributes:
  check_mode:
    support: none
    details: It is skipped.
  diff_mode:
    support: N/A
    details: Nothing stays changed.
  idempotent:
    support: full
    details: Nothing stays changed.
options:
  fleet:
    description: Name of the fleet.
    type: str
    required: true
  image:
    description: An image with Python that the nodes have or can pull.
    type: str
    required: true
  docker_config:
    description: Directory with the credentials of registries; empty for none.
    type: str
    default: ''
  nodes:
    description: The nodes, as M(sophia_ai.mcp_swarm.gpu_use_info) tells of them.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: What people call it., type: str, required: true}
      node_id: {description: Its id in the Swarm., type: str, required: true}
      units: {description: What its daemon.json has it advertise., type: list, elements: str, required: true}
      toolkit: {description: Version of NVIDIA's container toolkit., type: str, required: true}
      problems:
        description: What is wrong with units in use; it is told with everything else.
        type: list
        elements: str
        default: []
  timeout:
    description: Seconds for all of it.
    type: float
    default: 180.0
seealso:
  - module: sophia_ai.mcp_swarm.gpu_use_info
"""

EXAMPLES = r"""
- name: Prove the GPUs of a node
  sophia_ai.mcp_swarm.gpu_proof:
    fleet: mcp
    image: mcp-swarm/os:0123456789ab
    nodes:
      - name: gpu-1
        node_id: "{{ gpu_use.node_id }}"
        units: "{{ gpu_use.units }}"
        toolkit: "{{ gpu_use.toolkit }}"
        problems: "{{ gpu_use.problems }}"
"""

RETURN = r"""
proved:
  description: The free units that were proved, by the node's name; a node that takes no tasks is not among them.
  returned: success
  type: dict
  sample: {gpu-1: [GPU-e91edf3b-b297-37c1-a2a7-7601c3238fa2]}
said:
  description: What was done, for people.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.gpu_proof import Node, prove


def main() -> None:
    """The module."""
    text = {"type": "str", "required": True}
    strings = {"type": "list", "elements": "str"}
    module = AnsibleModule(
        argument_spec={
            "fleet": text,
            "image": text,
            "docker_config": {"type": "str", "default": ""},
            "nodes": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": text,
                    "node_id": text,
                    "units": {**strings, "required": True},
                    "toolkit": text,
                    "problems": {**strings, "default": []},
                },
            },
            "timeout": {"type": "float", "default": 180.0},
        },
    )
    params = module.params
    nodes = [
        Node(each["name"], each["node_id"], tuple(each["units"]), each["toolkit"], tuple(each["problems"]))
        for each in params["nodes"]
    ]
    said: list[str] = []
    try:
        swarm = Swarm()
        if params["docker_config"]:
            swarm.take_credentials(params["docker_config"])
        proved = prove(swarm, params["fleet"], params["image"], nodes, params["timeout"], said.append)
    except SwarmError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, proved=proved, said=said)


if __name__ == "__main__":
    main()
