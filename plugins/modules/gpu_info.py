#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's NVIDIA GPUs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Tell which NVIDIA GPUs a node has, and by which names its Swarm is to know them
version_added: 0.4.0
description:
  - Asks C(nvidia-smi) and the kernel for the node's GPUs, how they are, and the instances of those that are divided by
    MIG. A GPU that the kernel sees and the driver does not is told as well.
  - Names the units that the Swarm is to hand out as generic resources of the kind C(NVIDIA-GPU).
  - Fails where the driver is missing, is not loaded, is of another version than its libraries, or does not answer.
author:
  - Sophia AI (@sophia-ai)
options:
  slots:
    description:
      - How many services may share a GPU.
      - They share its memory and its time, and nothing keeps them apart. With more than V(1) no GPU may be divided by
        MIG, whose instances are handed out as a whole.
    type: int
    default: 1
  timeout:
    description: How long an answer of C(nvidia-smi) is waited for, in seconds.
    type: float
    default: 60.0
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.info
seealso:
  - module: sophia_ai.mcp_swarm.gpu_proof
"""

EXAMPLES = r"""
- name: Look at the node's GPUs
  sophia_ai.mcp_swarm.gpu_info:
    slots: 2
  register: gpus

- name: Name those that are not well
  ansible.builtin.debug:
    msg: "{{ gpus.gpus | rejectattr('healthy') | map(attribute='uuid') | list }}"
"""

RETURN = r"""
driver:
  description: Version of the driver; empty where no GPU answers.
  returned: success
  type: str
  sample: 550.54.15
cuda:
  description: The newest CUDA that the driver is fit for; empty where it does not tell.
  returned: success
  type: str
  sample: "12.4"
gpus:
  description: The GPUs that answer.
  returned: success
  type: list
  elements: dict
  contains:
    index: {description: Its number., type: int}
    uuid: {description: Its name in the world., type: str}
    model: {description: What it is., type: str}
    pci: {description: Its address on the bus., type: str}
    memory_total_mib: {description: Its memory in MiB; none where the driver does not tell., type: int}
    memory_used_mib: {description: What of it is used; none where the driver does not tell., type: int}
    utilisation_percent: {description: How busy it is; none where the driver does not tell., type: int}
    temperature_celsius: {description: How warm it is; none where the driver does not tell., type: int}
    persistence: {description: Whether the driver keeps it initialised while nobody uses it., type: bool}
    mig: {description: Whether it is divided by MIG., type: bool}
    instances:
      description: Its MIG instances, each with C(uuid) and C(profile).
      type: list
      elements: dict
    xids: {description: Errors of it that the kernel logged since it booted., type: list, elements: int}
    problems: {description: What is wrong with it., type: list, elements: str}
    healthy: {description: Whether nothing is., type: bool}
vanished:
  description: GPUs that the kernel sees and that do not answer, each with C(pci) and C(why).
  returned: success
  type: list
  elements: dict
units:
  description: What the Swarm is to advertise, in this order.
  returned: success
  type: list
  elements: str
  sample: [GPU-e91edf3b-b297-37c1-a2a7-7601c3238fa2]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.gpus import GpuError, look, units


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={"slots": {"type": "int", "default": 1}, "timeout": {"type": "float", "default": 60.0}},
        supports_check_mode=True,
    )
    try:
        seen = look(module.params["timeout"])
        found = {**seen.as_dict(), "units": units(seen.gpus, module.params["slots"])}
    except GpuError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
