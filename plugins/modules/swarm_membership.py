#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_membership
short_description: Decide which Swarm the inventory's hosts belong to, and who has still to join
version_added: 0.2.0
description:
  - From what M(sophia_ai.mcp_swarm.swarm_node_info) told on each host it decides which manager is asked, whether a new
    Swarm is made and by whom, and which hosts join. Any manager of the inventory may be the one that is asked.
  - It refuses hosts that are in different Swarms, a Swarm without a quorum, and to make a Swarm while a manager that
    may already have one does not answer.
  - Sets the fact C(swarm_membership).
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.info
  - sophia_ai.mcp_swarm.attributes.action
options:
  managers:
    description: Hosts that are to be managers, in the inventory's order.
    type: list
    elements: str
    required: true
  workers:
    description: Hosts that are to be workers.
    type: list
    elements: str
    default: []
  seen:
    description: Host to what M(sophia_ai.mcp_swarm.swarm_node_info) returned there; without those that did not answer.
    type: dict
    required: true
  initialise:
    description: Whether a Swarm may be made although managers did not answer.
    type: bool
    default: false
notes:
  - This is an action plugin; it runs on the controller.
"""

EXAMPLES = r"""
- name: Decide who joins what
  sophia_ai.mcp_swarm.swarm_membership:
    managers: "{{ groups.mcp_managers }}"
    workers: "{{ groups.mcp_workers | default([]) }}"
    seen: "{{ seen }}"
  run_once: true
"""

RETURN = r"""
ansible_facts:
  description:
    - The fact C(swarm_membership), with C(ask) (a manager that serves; empty where there is none yet), C(initialise)
      (the host that makes the Swarm; empty where there is one), C(join) (hosts that join), C(stale) (ids of nodes that
      a reinstalled host left behind) and C(unknown) (nodes that the inventory does not have).
  returned: success
  type: dict
"""
