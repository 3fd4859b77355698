# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A description of devices for containers, by which several share a GPU."""

from __future__ import annotations

DOCUMENTATION = r"""
name: gpu_slots
short_description: Describe each GPU as often as services may share it
version_added: 0.4.0
description:
  - Makes of NVIDIA's description of a node's devices (CDI) one in which each GPU is there several times, as C(UUID.1),
    C(UUID.2) and so on, with the same devices and libraries.
author:
  - Sophia AI (@sophia-ai)
positional: slots
options:
  _input:
    description: What C(nvidia-ctk cdi generate --format=json --device-name-strategy=uuid) says.
    type: dict
    required: true
  slots:
    description: How many services may share a GPU.
    type: int
    required: true
"""

EXAMPLES = r"""
- name: Show what two services may have of each GPU
  ansible.builtin.debug:
    msg: "{{ cdi.stdout | from_json | sophia_ai.mcp_swarm.gpu_slots(2) }}"
"""

RETURN = r"""
_value:
  description: The description.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node import cdi


def gpu_slots(spec: Mapping[str, Any], slots: int) -> dict[str, Any]:
    """What ``RETURN`` describes."""
    try:
        return cdi.slots(spec, int(slots))
    except cdi.CdiError as error:
        raise AnsibleFilterError(f"gpu_slots: {error}") from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"gpu_slots": gpu_slots}
