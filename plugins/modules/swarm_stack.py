#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploy a stack and wait until it runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_stack
short_description: Deploy a stack and wait until it runs, or say why it does not
version_added: 0.1.0
description:
  - Writes the stack file, applies it, and watches this update of every service to convergence or failure.
  - On failure the service, its task's node, exit code, error and last lines are reported. Tasks that ran before go on
    serving, because services start the new task first or go back by themselves.
  - Progress is shown while it runs.
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
    description: The compose 3.8 document. Needed unless O(state=absent).
    type: dict
  stack_file:
    description: Where the document is kept on the manager.
    type: path
  state:
    description: V(absent) removes services, secrets, configs and networks of the fleet.
    type: str
    choices: [present, absent]
    default: present
  volumes:
    description: Whether O(state=absent) removes the fleet's volumes too.
    type: bool
    default: false
  timeout:
    description: Seconds until every service must have converged.
    type: int
    default: 300
  progress_file:
    description: Where progress lines are appended.
    type: path
attributes:
  check_mode:
    description: Reports whether the stack file would change.
    support: full
"""

EXAMPLES = r"""
- name: Deploy the fleet
  sophia_ai.mcp_swarm.swarm_stack:
    name: mcp
    stack: "{{ ansible_facts.fleet_plan.stack }}"
    stack_file: "{{ ansible_facts.fleet_plan.paths.stack_file }}"
"""

RETURN = r"""
differences:
  description: What changed, one line per service.
  returned: success
  type: list
  elements: str
converged:
  description: Seconds to convergence by service.
  returned: success
  type: dict
failures:
  description: One report per service that did not come up.
  returned: failure
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.builder import Progress
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import stack as stacks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import NoManager, Swarm, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.convergence import watch
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.objects import prune_objects


def deploy(module: AnsibleModule, swarm: Swarm) -> dict[str, Any]:
    """Apply and watch."""
    name, stack, path = (module.params[key] for key in ("name", "stack", "stack_file"))
    text = stacks.document(stack)
    before = swarm.services(name)
    if module.check_mode:
        try:
            with open(path, encoding="utf-8") as handle:
                same = handle.read() == text and bool(before)
        except OSError:
            same = False
        return {"changed": not same, "differences": []}
    if taken := stacks.taken_ports(swarm, name, stack):
        raise SwarmError(
            f"{'; '.join(taken)}. Stop what listens there (ss -ltnp shows it) or set another mcp_fleet.edge.port;"
            " nothing was changed"
        )
    stacks.write_file(path, text)
    stacks.apply(name, path)
    say = Progress(module.params["progress_file"])
    stamps = {service: item["UpdatedAt"] for service, item in before.items()}
    converged, failures = watch(swarm, name, stamps, module.params["timeout"], say)
    if failures:
        module.fail_json(
            msg="The fleet did not come up; services that ran before go on serving.\n" + "\n".join(failures),
            failures=failures,
        )
    differences = stacks.differences(before, swarm.services(name))
    named = {item["name"] for kind in ("secrets", "configs") for item in stack.get(kind, {}).values()}
    prune_objects(swarm, name, named)
    return {"changed": bool(differences), "differences": differences, "converged": converged}


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "stack": {"type": "dict"},
            "stack_file": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "volumes": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 300},
            "progress_file": {"type": "path"},
        },
        required_if=[("state", "present", ("stack", "stack_file"))],
        supports_check_mode=True,
    )
    absent = module.params["state"] == "absent"
    try:
        swarm = Swarm()
        if not absent:
            module.exit_json(**deploy(module, swarm))
        fleet = module.params["name"]
        there = sorted(swarm.services(fleet))
        gone = there if module.check_mode else stacks.remove(swarm, fleet, module.params["volumes"])
        module.exit_json(changed=bool(gone), removed=gone)
    except NoManager as error:
        if absent:  # no Swarm, no fleet
            module.exit_json(changed=False, removed=[])
        module.fail_json(msg=str(error))
    except SwarmError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
