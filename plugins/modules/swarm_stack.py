#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploy a stack as one transaction."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_stack
short_description: Deploy a stack as one transaction, go back to a release, or remove the stack
version_added: 0.1.0
description:
  - Takes the fleet's lock, works out what changes, pins every image by content, applies the stack, and watches this
    update of every service (replicated, global, jobs) to convergence or failure. Then the fleet is called through its
    edge, and what is new is watched until it has run for O(settle) seconds. Only then does the release count as
    deployed.
  - On any failure the release before is applied again as a whole - services, replicas, secrets, configs - and
    called again. The message names service, task, node, exit code, error and last lines, and says what serves now.
  - Each deploy is recorded in the Swarm itself, in a config named C(<name>_release_<number>). Any manager can list the
    releases (M(sophia_ai.mcp_swarm.swarm_release_info)) and go back to one.
  - A deploy that changes nothing makes no release and touches no service. A service that was changed by hand since the
    last release is put back.
  - A deploy that died, with its manager or without it, is found by the next one, which finishes it where it wants the
    same and restores the release before where it does not; RV(recovered) says which.
  - Progress is shown while it runs.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.action
  - sophia_ai.mcp_swarm.attributes.group
  - sophia_ai.mcp_swarm.attributes.manager
requirements:
  - Docker's command line, on the manager
  - mcp (Python) >= 2.3, on the controller, with O(verify=true)
attributes:
  check_mode:
    support: full
    details: Says per service what would change, and refuses what a deploy would refuse. Takes no lock.
  diff_mode:
    support: full
    details: Shows each changed service's settings, before and after.
  idempotent:
    support: partial
    details: With O(state=rollback) and without O(release), each run goes one release further back.
  async:
    details: Runs detached in any case. A connection that breaks, or a controller that dies, does not end it half-way.
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  state:
    description:
      - V(present) deploys O(stack).
      - V(rollback) goes back to O(release).
      - V(absent) removes services, secrets, configs, releases and networks of the fleet.
    type: str
    choices: [present, rollback, absent]
    default: present
  stack:
    description: The compose 3.8 document. Needed with O(state=present).
    type: dict
  stack_file:
    description:
      - Where the document of what runs is kept on the manager, for people. The one that ran before lies beside it, as
        C(<stack_file without suffix>.previous.<suffix>).
      - Needed unless O(state=absent).
    type: path
  only:
    description: Services to deploy. The others stay as the current release has them.
    type: list
    elements: str
    default: []
  release:
    description: Number of the release to go back to. The one before the current one where it is not given.
    type: int
  volumes:
    description: Whether O(state=absent) removes the fleet's volumes too.
    type: bool
    default: false
  timeout:
    description: Seconds until every service must have converged.
    type: int
    default: 300
  settle:
    description:
      - Seconds that a new task must have lived before the release counts as deployed. Going back to a release does not
        wait.
    type: int
    default: 25
  lock_wait:
    description: Seconds to wait for another deploy to end. A lock that a person took is never waited for.
    type: int
    default: 60
  keep:
    description: How many deployed releases are kept. What a kept release names is never pruned.
    type: int
    default: 10
  keep_images:
    description: Images that are not pruned even if no release names them.
    type: list
    elements: str
    default: []
  verify:
    description: Whether the fleet must answer calls before a release counts as deployed. Needs the fact C(fleet_plan).
    type: bool
    default: true
  verify_timeout:
    description: Seconds for which a server that does not answer yet is asked again.
    type: int
    default: 60
  verification:
    description: What is asked. Made from the fact C(fleet_plan) where it is not given.
    type: dict
    default: {}
  who:
    description: Who deploys, for the record and the lock. The user at the controller where it is not given.
    type: str
    default: unknown
  why:
    description: Why, for the record and the lock.
    type: str
    default: ''
  revision:
    description: Source revision. That of the inventory's Git work tree where it is not given.
    type: str
    default: ''
  catalogue:
    description: Digest of the plan that the stack follows from.
    type: str
    default: ''
  progress_file:
    description: Where progress lines are appended.
    type: path
  look:
    description:
      - Only look, without a lock, whether a deploy with these options has anything to do. RV(due) says so, and nothing
        is changed.
      - The action plugin looks first, so that a deploy without changes is one short module.
    type: bool
    default: false
notes:
  - Secrets and configs are referred to by name, as external objects; M(sophia_ai.mcp_swarm.swarm_objects) makes them.
  - Images are not built and not pushed. One named by a tag that can move is deployed with the digest that the tag has
    now; one that nobody can resolve is refused before anything changes.
  - Replicas of a service with the deploy labels C(ai.sophia.mcp.scale.min) and C(ai.sophia.mcp.scale.max) are left as
    they are, within these bounds.
seealso:
  - module: sophia_ai.mcp_swarm.swarm_release_info
    description: The releases there are, what runs, what was changed by hand.
  - module: sophia_ai.mcp_swarm.swarm_lock
    description: Keeps deploys off.
  - module: sophia_ai.mcp_swarm.swarm_objects
    description: Makes what a stack refers to.
  - module: community.docker.docker_stack
    description: Plain C(docker stack deploy).
  - name: Operations
    description: Every message of this module, and what to do.
    link: https://github.com/sophia-ai/mcp-swarm/blob/main/docs/operations.md
"""

EXAMPLES = r"""
- name: Deploy the fleet
  sophia_ai.mcp_swarm.swarm_stack:
    name: mcp
    stack: "{{ ansible_facts.fleet_plan.stack }}"
    stack_file: "{{ ansible_facts.fleet_plan.paths.stack_file }}"
    catalogue: "{{ ansible_facts.fleet_plan.digest }}"
    why: the new time server

- name: See what that would change
  sophia_ai.mcp_swarm.swarm_stack:
    name: mcp
    stack: "{{ ansible_facts.fleet_plan.stack }}"
    stack_file: "{{ ansible_facts.fleet_plan.paths.stack_file }}"
  check_mode: true
  diff: true

- name: Deploy a stack of one's own, with no fleet to call
  sophia_ai.mcp_swarm.swarm_stack:
    name: shop
    stack: "{{ lookup('ansible.builtin.file', 'shop.yml') | from_yaml }}"
    stack_file: /etc/shop/stack.yml
    verify: false
    timeout: 120

- name: Deploy one server and leave the others as they are
  sophia_ai.mcp_swarm.swarm_stack:
    name: mcp
    stack: "{{ ansible_facts.fleet_plan.stack }}"
    stack_file: "{{ ansible_facts.fleet_plan.paths.stack_file }}"
    only: [github]

- name: Go back to the release before
  sophia_ai.mcp_swarm.swarm_stack:
    name: mcp
    state: rollback
    stack_file: "{{ ansible_facts.fleet_plan.paths.stack_file }}"

- name: Go back to a certain release, and wait at most five minutes for somebody else's deploy to end
  sophia_ai.mcp_swarm.swarm_stack:
    name: mcp
    state: rollback
    release: 7
    stack_file: "{{ ansible_facts.fleet_plan.paths.stack_file }}"
    lock_wait: 300
    why: release 8 answers slowly

- name: Remove everything but the data
  sophia_ai.mcp_swarm.swarm_stack:
    name: mcp
    state: absent
"""

RETURN = r"""
differences:
  description: What changed, or in check mode would change, one line per service.
  returned: success, unless O(state=absent)
  type: list
  elements: str
  sample: ["mcp_time: image mcp-swarm/time:1f2e3d4c5b6a -> mcp-swarm/time:0a1b2c3d4e5f, replicas 1 -> 2"]
diff:
  description: Settings of each changed service.
  returned: in diff mode, and in check mode
  type: list
  elements: dict
  contains:
    before_header: {description: The service., type: str, sample: mcp_time}
    after_header: {description: The service again., type: str, sample: mcp_time}
    before:
      description: The settings that differ, one a line, as they were.
      type: str
      sample: "deploy.replicas: 1\n"
    after:
      description: The same, as they are wanted.
      type: str
      sample: "deploy.replicas: 2\n"
converged:
  description: Seconds to convergence by service; empty where nothing was changed.
  returned: success, unless O(state=absent)
  type: dict
  sample: {mcp_gateway: 9.2, mcp_time: 12.7}
release:
  description: Number of the release that serves; 0 where there is none.
  returned: success, unless O(state=absent) or in check mode
  type: int
  sample: 9
recovered:
  description: What became of a deploy that had died; empty where none had.
  returned: success, unless O(state=absent) or in check mode
  type: str
  sample: release 8 of 2026-11-24T00:10:00Z by ada@desk was left unfinished; this deploy finishes it
due:
  description: Whether there is something to do.
  returned: O(look=true)
  type: bool
  sample: true
failures:
  description: One report per service that did not come up.
  returned: failure after something had changed
  type: list
  elements: str
  sample:
    - |-
      service mcp_time: it ran, but never became ready; update paused due to failure or early termination of task x1y2z3
        task x1y2z3 on node-2: failed, exit code 1
        error: task: non-zero exit (1): dockerexec: unhealthy container
        last lines:
          ModuleNotFoundError: No module named 'tzdata'
serving:
  description: What serves after a failure.
  returned: failure after something had changed
  type: str
  sample: "Serving now: release 7 of 2026-11-23T22:00:00Z by ada@desk, 14/14 services, verified."
removed:
  description: Names of what was removed.
  returned: O(state=absent)
  type: list
  elements: str
  sample: [mcp_gateway, mcp_time, mcp_gateway_api_key_0a1b2c3d4e5f, mcp_backend]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._progress import Progress
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import stack as stacks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import NoManager, Swarm, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.lock import acquire
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.transaction import (
    DeployFailed,
    Transaction,
    Wish,
)

# The controller asks each server for verify_timeout seconds; so much longer may its answer take.
ANSWER_SECONDS = 40


def wish(params: dict[str, Any]) -> Wish:
    """What the options ask for."""
    keys = ("who", "why", "revision", "catalogue", "timeout", "settle", "keep", "only", "keep_images", "verification")
    return Wish(document=params["stack"] or {}, wait=params["lock_wait"], **{key: params[key] for key in keys})


def deploy(module: AnsibleModule, swarm: Swarm) -> dict[str, Any]:
    """Deploy or go back."""
    params = module.params
    say = Progress(params["progress_file"])

    def verify(question: dict[str, Any]) -> str:
        answer = say.ask(question, params["verify_timeout"] + ANSWER_SECONDS)
        if answer is None:
            return "nobody verified it: the controller went away; run the deploy again"
        return str(answer["problem"])

    transaction = Transaction(
        swarm,
        params["name"],
        params["stack_file"],
        say,
        verify if params["verify"] and params["progress_file"] else None,
    )
    wanted = wish(params)
    if params["state"] == "rollback":
        wanted.settle = 0
        if module.check_mode:
            return as_plan(transaction.preview_rollback(wanted, params["release"]))
        return transaction.rollback(wanted, params["release"])
    if module.check_mode:
        return as_plan(transaction.preview(wanted))
    if params["look"]:
        idle = transaction.idle(wanted)
        return {"changed": False, "due": True} if idle is None else idle | {"due": False}
    return transaction.deploy(wanted)


def as_plan(plan: Any) -> dict[str, Any]:
    """What check and diff mode show."""
    return {
        "changed": bool(plan.lines),
        "differences": plan.lines,
        "diff": plan.diff,
    }


def absent(module: AnsibleModule, swarm: Swarm) -> dict[str, Any]:
    """Remove the fleet."""
    params, fleet = module.params, module.params["name"]
    there = sorted(swarm.services(fleet))
    if module.check_mode:
        return {"changed": bool(there), "removed": there}
    say = Progress(params["progress_file"])
    with acquire(swarm, fleet, params["who"], params["why"] or "teardown", params["lock_wait"], say):
        records = {item["Spec"]["Name"] for item in swarm.records(fleet, "lock")}
        gone = [name for name in stacks.remove(swarm, fleet, params["volumes"]) if name not in records]
    return {"changed": bool(gone), "removed": gone}


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "rollback", "absent"], "default": "present"},
            "stack": {"type": "dict"},
            "stack_file": {"type": "path"},
            "only": {"type": "list", "elements": "str", "default": []},
            "release": {"type": "int"},
            "volumes": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 300},
            "settle": {"type": "int", "default": 25},
            "lock_wait": {"type": "int", "default": 60},
            "keep": {"type": "int", "default": 10},
            "keep_images": {"type": "list", "elements": "str", "default": []},
            "verify": {"type": "bool", "default": True},
            "verify_timeout": {"type": "int", "default": 60},
            "verification": {"type": "dict", "default": {}},
            "who": {"type": "str", "default": "unknown"},
            "why": {"type": "str", "default": ""},
            "revision": {"type": "str", "default": ""},
            "catalogue": {"type": "str", "default": ""},
            "progress_file": {"type": "path"},
            "look": {"type": "bool", "default": False},
        },
        required_if=[("state", "present", ("stack", "stack_file")), ("state", "rollback", ("stack_file",))],
        supports_check_mode=True,
    )
    leaving = module.params["state"] == "absent"
    if module.params["keep"] < 2:
        module.fail_json(msg=f"keep: {module.params['keep']}: at least 2, or there is nothing to go back to")
    try:
        swarm = Swarm()
        result = (absent if leaving else deploy)(module, swarm)
        if not (module._diff or module.check_mode):
            result.pop("diff", None)
        module.exit_json(**result)
    except NoManager as error:
        if leaving:  # no Swarm, no fleet
            module.exit_json(changed=False, removed=[])
        module.fail_json(msg=str(error))
    except DeployFailed as error:
        module.fail_json(msg=str(error), failures=error.reports, serving=error.serving)
    except SwarmError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
