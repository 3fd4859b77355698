#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_verify
short_description: Prove through the edge that every server of the fleet works
version_added: 0.1.0
description:
  - Asks the fleet as a client does, with the official Python SDK, over TLS, with the API key.
  - A server is operational when it introduced itself, listed at least one tool there and at the merged endpoint, gave
    the catalogue's check the expected answer, within its latency target, with every replica healthy. Without a key the
    answer must be 401.
  - Shows a table and the line C(N/N operational), and writes the same as JSON to C(.state/verification.json) beside the
    inventory. Fails with each broken server's cause and next step.
  - Needs the fact C(fleet_plan).
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.info
  - sophia_ai.mcp_swarm.attributes.action
attributes:
  idempotent:
    details: Changes nothing but its own report.
requirements:
  - mcp >= 2.3 (Python, on the controller)
options:
  timeout:
    description: Seconds for which a server that does not answer yet is asked again.
    type: int
    default: 60
notes:
  - Runs on the controller alone, which must reach the edge.
seealso:
  - module: sophia_ai.mcp_swarm.swarm_stack
    description: Asks the same before a release counts as deployed.
"""

EXAMPLES = r"""
- name: Verify the fleet
  sophia_ai.mcp_swarm.fleet_verify:
    timeout: 30
"""

RETURN = r"""
msg:
  description: The line C(N/N operational), and on failure each cause.
  returned: always
  type: str
  sample: 12/12 operational
report_file:
  description: The JSON report on the controller.
  returned: when the fleet was asked
  type: str
  sample: inventories/local/.state/verification.json
verification:
  description: The report.
  returned: when the fleet was asked
  type: dict
  sample: {url: "https://localhost:8443", operational: 12, total: 12, problems: [], servers: [{name: time, tools: 2}]}
"""
