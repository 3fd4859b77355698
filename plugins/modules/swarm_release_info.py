#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a fleet runs, since when, and what differs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_release_info
short_description: List a fleet's releases and tell what runs
version_added: 0.2.0
description:
  - Reads what M(sophia_ai.mcp_swarm.swarm_stack) recorded in the Swarm, and compares it with what runs.
author:
  - Sophia AI (@sophia-ai)
requirements:
  - docker (Python)
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  stack:
    description: The compose document that the catalogue compiles to now; with it RV(pending) is told.
    type: dict
attributes:
  check_mode:
    description: Changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Ask what runs
  sophia_ai.mcp_swarm.swarm_release_info:
    name: mcp
  register: fleet

- name: Show it
  ansible.builtin.debug:
    msg: "release {{ fleet.current.release }} since {{ fleet.current.finished }}"
"""

RETURN = r"""
current:
  description: The release that serves, as in RV(releases); empty where there is none.
  returned: success
  type: dict
releases:
  description: All that are kept, newest first.
  returned: success
  type: list
  elements: dict
  contains:
    release: {description: Its number., type: int}
    outcome:
      description: V(running), V(deployed), V(restored) (it failed; the one before serves), V(failed) or V(abandoned).
      type: str
    started: {description: When it began, type: str}
    finished: {description: When it ended, type: str}
    seconds: {description: How long it took., type: float}
    who: {description: By whom., type: str}
    why: {description: What for., type: str}
    revision: {description: Source revision., type: str}
    catalogue: {description: Digest of the plan., type: str}
    images: {description: Image by service., type: dict}
    message: {description: What failed., type: str}
drift:
  description: What was changed since, other than by a deploy, one line each.
  returned: success
  type: list
  elements: str
pending:
  description: What the catalogue wants and the release does not have yet, one line per service.
  returned: when O(stack) is given
  type: list
  elements: str
lock:
  description: Who holds the lock, since when and why; empty where nobody does.
  returned: success
  type: str
maintenance:
  description: What is in maintenance, by whom, since when and why, one line each.
  returned: success
  type: list
  elements: str
trials:
  description: Services of new versions that are being tried; without a deploy that runs the next one removes them.
  returned: success
  type: list
  elements: str
services:
  description: Running and wanted tasks by service, such as V(2/2).
  returned: success
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import board, maintenance, trial
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import changes as diff
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.lock import read
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.releases import Releases
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.transaction import drift, unpinned


def look(swarm: Swarm, fleet: str, stack: dict[str, Any] | None) -> dict[str, Any]:
    """Everything that the module returns."""
    releases, live, lock = Releases(swarm, fleet), swarm.services(fleet), read(swarm, fleet)
    current = releases.current
    found: dict[str, Any] = {
        "current": current.summary() if current else {},
        "releases": [release.summary() for release in reversed(releases.all)],
        "drift": drift(fleet, current, live),
        "lock": str(lock[0]) if lock else "",
        "maintenance": maintenance.lines(board.read(swarm, fleet)),
        "trials": sorted(swarm.services(trial.stack_of(fleet))),
        "services": {name: _count(service) for name, service in sorted(live.items())},
    }
    if stack is not None:
        before = unpinned(current.document) if current else None
        found["pending"] = [change.line for change in diff.changes(fleet, before, unpinned(stack))]
    return found


def _count(service: dict[str, Any]) -> str:
    status = service.get("ServiceStatus") or {}
    return f"{status.get('RunningTasks', 0)}/{status.get('DesiredTasks', 0)}"


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={"name": {"type": "str", "required": True}, "stack": {"type": "dict"}}, supports_check_mode=True
    )
    try:
        module.exit_json(changed=False, **look(Swarm(), module.params["name"], module.params["stack"]))
    except SwarmError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
