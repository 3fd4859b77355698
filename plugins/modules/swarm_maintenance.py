#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Begin or end maintenance of a fleet."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_maintenance
short_description: Refuse a fleet's clients while something is done
version_added: 0.2.0
description:
  - In maintenance the gateway refuses whatever clients ask anew with HTTP 503, C(Retry-After) and a JSON-RPC error that
    says why and until when. Calls in flight end, and health endpoints, the console and metrics stay.
  - What is in maintenance lives in the Swarm and is told by a small service, C(<name>_gateway_board). All replicas of
    the gateway know within seconds. It outlives restarts, deploys and the loss of any node.
  - Deploys go on. Verification comes in by a pass that clients do not have.
  - It does not end by itself, whatever O(minutes) says.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.manager
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  state:
    description: V(on) begins it, V(off) ends it.
    type: str
    choices: ['on', 'off']
    default: 'on'
  server:
    description: The server; the whole fleet where it is empty. V(off) without one ends all.
    type: str
    default: ''
  who:
    description: Who does it. Needed with O(state=on).
    type: str
  why:
    description: Why; clients read it. Needed with O(state=on).
    type: str
  minutes:
    description: How long it is to last, for clients to know when to come again. 0 is unknown.
    type: float
    default: 0
attributes:
  check_mode:
    support: full
    details: Says whether anything would change.
  diff_mode:
    support: none
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Half an hour without clients
  sophia_ai.mcp_swarm.swarm_maintenance:
    name: mcp
    who: ada
    why: the volumes are moved
    minutes: 30

- name: One server alone
  sophia_ai.mcp_swarm.swarm_maintenance:
    name: mcp
    server: github
    who: ada
    why: its token is replaced

- name: Let clients in again
  sophia_ai.mcp_swarm.swarm_maintenance:
    name: mcp
    state: 'off'
"""

RETURN = r"""
maintenance:
  description: What is in maintenance now, by whom, since when and why, one line each.
  returned: success
  type: list
  elements: str
  sample: ["the fleet: by ada since 2026-12-24T12:00:00Z, until 2026-12-24T12:30:00Z (the volumes are moved)"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import board, maintenance
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError


def change(swarm: Swarm, params: dict[str, Any], check: bool) -> tuple[bool, list[str]]:
    """Begin or end it; returns whether anything changed and what is in maintenance then."""
    fleet, name = params["name"], params["server"] or maintenance.EVERYTHING
    before = board.read(swarm, fleet)

    def turned(document: dict[str, Any]) -> dict[str, Any]:
        if params["state"] == "off":
            return maintenance.turned_off(document, name)
        return maintenance.turned_on(document, name, params["who"], params["why"], params["minutes"])

    wanted = turned(before)
    changed = (wanted.get("maintenance") or {}) != (before.get("maintenance") or {})
    if changed and not check:
        if params["state"] == "off":
            maintenance.lift(swarm, fleet, name)
        else:
            board.post(swarm, fleet, turned)
            board.learn()
        wanted = board.read(swarm, fleet)
    return changed, maintenance.lines(wanted)


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["on", "off"], "default": "on"},
            "server": {"type": "str", "default": ""},
            "who": {"type": "str"},
            "why": {"type": "str"},
            "minutes": {"type": "float", "default": 0},
        },
        required_if=[("state", "on", ("who", "why"))],
        supports_check_mode=True,
    )
    params = module.params
    if params["minutes"] < 0:
        module.fail_json(msg=f"minutes: {params['minutes']:g}: at least 0; 0 where nobody knows")
    try:
        changed, lines = change(Swarm(), params, module.check_mode)
        module.exit_json(changed=changed, maintenance=lines)
    except SwarmError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
