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
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.info
  - sophia_ai.mcp_swarm.attributes.action
attributes:
  check_mode:
    details: Runs in check mode as well; secrets that are generated on first use are made.
  diff_mode:
    details: What a plan changes is shown by M(sophia_ai.mcp_swarm.swarm_stack).
  idempotent:
    details: Equal inventories give equal plans, with equal digests.
options:
  resolve_secrets:
    description: Whether the sources of secrets are read. Without them the plan can be inspected, but not deployed.
    type: bool
    default: true
  write_dir:
    description: Directory on the controller where the plan is written for people, Dockerfiles and stack file included.
    type: path
notes:
  - Runs on the controller alone.
seealso:
  - name: The catalogue
    description: Every key of C(mcp_servers) and C(mcp_fleet).
    link: https://github.com/sophia-ai/mcp-swarm/blob/main/docs/catalogue.md
  - name: Architecture
    description: The shape of the plan.
    link: https://github.com/sophia-ai/mcp-swarm/blob/main/docs/architecture.md
"""

EXAMPLES = r"""
- name: Plan the fleet
  sophia_ai.mcp_swarm.fleet_plan:
  run_once: true

- name: Write the plan for people, without a look at the secrets
  sophia_ai.mcp_swarm.fleet_plan:
    resolve_secrets: false
    write_dir: /tmp/plan
"""

RETURN = r"""
ansible_facts:
  description: Facts of the host.
  returned: success
  type: dict
  contains:
    fleet_plan:
      description: The plan, without the texts of build contexts.
      type: dict
      contains:
        fleet: {description: Name of the stack., type: str, sample: mcp}
        digest: {description: Of the whole plan., type: str, sample: 5f1d7a84f4b1fbe0}
        images:
          description: What is to be built, in the order of what needs what.
          type: list
          elements: dict
          sample: [{name: time, ref: "mcp-swarm/time:0a1b2c3d4e5f", kind: server, needs: [runtime-python, builder]}]
        servers: {description: One entry a server., type: list, elements: dict}
        stack: {description: The compose 3.8 document., type: dict}
        missing_locks:
          description: Lock files that the image build resolves first.
          type: list
          elements: str
          sample: [pypi-mcp-server-time-2026.10.19.txt]
errors:
  description: One line per mistake.
  returned: failure
  type: list
  elements: str
  sample: ["mcp_servers[0].replicas: -1 is not allowed; give a whole number of at least 0"]
"""
