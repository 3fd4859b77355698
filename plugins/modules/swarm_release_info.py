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
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.info
  - sophia_ai.mcp_swarm.attributes.group
  - sophia_ai.mcp_swarm.attributes.manager
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  stack:
    description: The compose document that the catalogue compiles to now; with it RV(pending) is told.
    type: dict
seealso:
  - module: sophia_ai.mcp_swarm.swarm_stack
    description: Makes the releases, and goes back to them.
"""

EXAMPLES = r"""
- name: Ask what runs
  sophia_ai.mcp_swarm.swarm_release_info:
    name: mcp
  register: fleet

- name: Refuse to go on where somebody changed the fleet by hand
  ansible.builtin.assert:
    that: fleet.drift | length == 0
    fail_msg: "{{ fleet.drift | join('; ') }}"

- name: Show it
  ansible.builtin.debug:
    msg: "release {{ fleet.current.release }} since {{ fleet.current.finished }}"
"""

RETURN = r"""
current:
  description: The release that serves, as in RV(releases); empty where there is none.
  returned: success
  type: dict
  sample: {release: 9, outcome: deployed, finished: "2026-11-24T00:11:02Z", who: ada@desk}
releases:
  description: All that are kept, newest first.
  returned: success
  type: list
  elements: dict
  contains:
    release: {description: Its number., type: int, sample: 9}
    outcome:
      description: V(running), V(deployed), V(restored) (it failed; the one before serves), V(failed) or V(abandoned).
      type: str
      sample: deployed
    started: {description: When it began (UTC)., type: str, sample: "2026-11-24T00:10:00Z"}
    finished: {description: When it ended (UTC); empty while it runs., type: str, sample: "2026-11-24T00:11:02Z"}
    seconds: {description: How long it took., type: float, sample: 61.8}
    who: {description: By whom., type: str, sample: ada@desk}
    why: {description: What for., type: str, sample: the new time server}
    revision:
      description: Source revision of the inventory; a C(+) after it says that files differed from it.
      type: str
      sample: 4067fb5d1c2e
    catalogue:
      description: Digest of the plan.
      type: str
      sample: 5f1d7a84f4b1fbe0c1c09d3ec3c2ff4d5c7f6e2ab0a1f7e51d20c2d2e4b5a6c7
    images: {description: Image by service., type: dict, sample: {time: "mcp-swarm/time:0a1b2c3d4e5f"}}
    message: {description: What failed., type: str, sample: "service mcp_time: 3 tasks ended"}
drift:
  description: What was changed since, other than by a deploy, one line each.
  returned: success
  type: list
  elements: str
  sample: ["mcp_time: has 1 replicas instead of 2 since release 9 of 2026-11-24T00:10:00Z by ada@desk"]
pending:
  description: What the catalogue wants and the release does not have yet, one line per service.
  returned: when O(stack) is given
  type: list
  elements: str
  sample: ["mcp_github: new, mcp-swarm/github:0a1b2c3d4e5f"]
lock:
  description: Who holds the lock, since when and why; empty where nobody does.
  returned: success
  type: str
  sample: ada since 2026-12-24T12:00:00Z, until 2026-12-27T12:00:00Z (holidays)
maintenance:
  description: What is in maintenance, by whom, since when and why, one line each.
  returned: success
  type: list
  elements: str
  sample: ["the fleet: by ada since 2026-12-24T12:00:00Z, until 2026-12-24T12:30:00Z (the volumes are moved)"]
trials:
  description: Services of new versions that are being tried; without a deploy that runs the next one removes them.
  returned: success
  type: list
  elements: str
  sample: [mcp_trial_time_canary]
services:
  description: Running and wanted tasks by service; V(asleep) where it has none until somebody calls it.
  returned: success
  type: dict
  sample: {mcp_edge: 1/1, mcp_gateway: 1/1, mcp_time: 2/2, mcp_ocr: asleep}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import board, maintenance, trial
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import changes as diff
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.lock import holder_of
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.releases import Releases
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.transaction import drift, unpinned


def look(swarm: Swarm, fleet: str, stack: dict[str, Any] | None) -> dict[str, Any]:
    """Everything that the module returns."""
    releases, live, lock = Releases(swarm, fleet), swarm.services(fleet), holder_of(swarm, fleet)
    current = releases.current
    found: dict[str, Any] = {
        "current": current.summary() if current else {},
        "releases": [release.summary() for release in reversed(releases.all)],
        "drift": drift(fleet, current, live),
        "lock": str(lock or ""),
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
    if not status.get("DesiredTasks") and (service["Spec"].get("Labels") or {}).get(diff.SCALE_MIN) == "0":
        return "asleep"
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
