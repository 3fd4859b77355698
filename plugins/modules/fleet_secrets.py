#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_secrets
short_description: Resolve the fleet's secrets on the controller
version_added: 0.1.0
description:
  - Reads every secret of C(mcp_fleet.secrets) from its source; generated ones are made once and kept beside the
    inventory.
  - Needs the fact C(fleet_plan). Its result is never logged.
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
    details: Secrets are never shown.
options: {}
notes:
  - Runs on the controller alone.
seealso:
  - module: sophia_ai.mcp_swarm.swarm_objects
    description: Puts them into the Swarm.
"""

EXAMPLES = r"""
- name: Resolve the secrets
  sophia_ai.mcp_swarm.fleet_secrets:
  register: fleet_secrets
  no_log: true
"""

RETURN = r"""
secrets:
  description: Name of the Swarm object to value.
  returned: success
  type: dict
  sample: {mcp_gateway_api_key_0a1b2c3d4e5f: the key}
"""
