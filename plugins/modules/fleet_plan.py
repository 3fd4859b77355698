#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_plan
short_description: Compile the inventory into the fleet plan
version_added: 0.1.0
description:
  - Derives everything about the fleet from the variables C(mcp_servers) and C(mcp_fleet); sets the fact C(fleet_plan).
  - Every mistake is reported at once, with its place, its value and the fix. No host is contacted.
author:
  - Sophia AI (@sophia-ai)
options:
  resolve_secrets:
    description: Whether the sources of secrets are read. Without them the plan can be inspected, but not deployed.
    type: bool
    default: true
  write_dir:
    description: Directory on the controller where the plan is written for people, Dockerfiles and stack file included.
    type: path
attributes:
  check_mode:
    description: Runs in check mode as well.
    support: full
notes:
  - This is an action plugin; it runs on the controller.
"""

EXAMPLES = r"""
- name: Plan the fleet
  sophia_ai.mcp_swarm.fleet_plan:
"""

RETURN = r"""
ansible_facts:
  description: The fact C(fleet_plan); its shape is in docs/architecture.md.
  returned: success
  type: dict
errors:
  description: One line per mistake.
  returned: failure
  type: list
  elements: str
"""
