#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_manager
short_description: Choose the manager that a playbook asks
version_added: 0.2.0
description:
  - Chooses the first manager of the inventory that serves, from what M(sophia_ai.mcp_swarm.swarm_node_info) told there.
  - Fails where none does, naming each that was tried and why it cannot be asked.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.info
  - sophia_ai.mcp_swarm.attributes.action
options:
  managers:
    description: The managers, in the order in which they are preferred.
    type: list
    elements: str
    required: true
  seen:
    description: Host to what M(sophia_ai.mcp_swarm.swarm_node_info) returned there, or to the failure to ask.
    type: dict
    required: true
  other_than:
    description: Nodes that are not to be chosen, for they are about to leave; by host, host name or id.
    type: list
    elements: str
    default: []
  optional:
    description: Whether there may be none, where each answers and is in no Swarm. RV(manager) is empty then.
    type: bool
    default: false
notes:
  - This is an action plugin; it runs on the controller.
"""

EXAMPLES = r"""
- name: Choose a manager that serves
  sophia_ai.mcp_swarm.swarm_manager:
    managers: "{{ groups.mcp_managers }}"
    seen: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'manager_look'))) }}"
  run_once: true
  register: chosen
"""

RETURN = r"""
manager:
  description: The host.
  returned: success
  type: str
"""
