#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock a fleet by hand."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_lock
short_description: Keep deploys off a fleet, or let them go on
version_added: 0.2.0
description:
  - A locked fleet is neither deployed nor rolled back nor removed; who tries is told who locked it, since when and why.
  - A lock that a person took is never taken over by a deploy. It ends when it is freed, or when O(hours) are over;
    from then on it is as if there were none.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.group
  - sophia_ai.mcp_swarm.attributes.manager
attributes:
  check_mode:
    support: full
    details: Says whether the lock would change hands.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: Who holds the lock already keeps it as it is, with the expiry that it was taken with.
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  state:
    description: V(held) locks, V(free) frees whatever lock there is.
    type: str
    choices: [held, free]
    default: held
  who:
    description: Who locks. Needed with O(state=held).
    type: str
  why:
    description: Why; whoever is refused reads it. Needed with O(state=held).
    type: str
  hours:
    description: After so many hours the lock is over. V(0) is never.
    type: float
    default: 0
notes:
  - The lock is a config of the Swarm named C(<name>_lock). Every manager sees it, and no state is kept elsewhere.
seealso:
  - module: sophia_ai.mcp_swarm.swarm_stack
    description: Takes the lock by itself for as long as a deploy runs.
  - module: sophia_ai.mcp_swarm.swarm_release_info
    description: Says who holds it.
"""

EXAMPLES = r"""
- name: No deploys over the holidays
  sophia_ai.mcp_swarm.swarm_lock:
    name: mcp
    who: ada
    why: holidays
    hours: 72

- name: Free the fleet
  sophia_ai.mcp_swarm.swarm_lock:
    name: mcp
    state: free
"""

RETURN = r"""
holder:
  description: Who holds the lock, or held it; empty where nobody did.
  returned: success
  type: str
  sample: ada since 2026-12-24T12:00:00Z, until 2026-12-27T12:00:00Z (holidays)
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.lock import TIME, free, hold, holder_of


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["held", "free"], "default": "held"},
            "who": {"type": "str"},
            "why": {"type": "str"},
            "hours": {"type": "float", "default": 0},
        },
        required_if=[("state", "held", ("who", "why"))],
        supports_check_mode=True,
    )
    params, fleet = module.params, module.params["name"]
    if params["hours"] < 0:
        module.fail_json(msg=f"hours: {params['hours']}: at least 0; 0 locks until the lock is freed")
    try:
        swarm = Swarm()
        if module.check_mode:
            there = holder_of(swarm, fleet)
            module.exit_json(changed=bool(there) == (params["state"] == "free"), holder=str(there or ""))
        if params["state"] == "free":
            held = free(swarm, fleet)
            module.exit_json(changed=held is not None, holder=str(held or ""))
        hours = params["hours"]
        expires = time.strftime(TIME, time.gmtime(time.time() + hours * 3600)) if hours else ""
        holder, changed = hold(swarm, fleet, params["who"], params["why"], expires)
        module.exit_json(changed=changed, holder=str(holder))
    except SwarmError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
