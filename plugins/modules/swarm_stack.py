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
  - Before a server that runs is updated, one replica of its new version runs beside it. It has to become ready, to
    answer as an MCP server through the gateway, and to live for O(settle) seconds; where it does not, what serves was
    never touched. With O(canary) it takes a share of the calls as well, and is judged by errors and latency beside the
    old replicas.
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
  - sophia_ai.mcp_swarm.attributes.progress
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
    description:
      - The compose 3.8 document. Needed with O(state=present).
      - Values are taken as they are. A C($) in them is no variable of an environment, and is not doubled.
      - What services have of C(secrets), C(configs) and C(ports) is in the long form, as mappings.
    type: dict
  stack_file:
    description:
      - Where the document of what runs is kept on the manager, for people. The one that ran before lies beside it, as
        C(<stack_file without suffix>.previous.<suffix>).
      - Needed unless O(state=absent).
    type: path
  only:
    description:
      - Services to deploy. The others stay as the current release has them.
      - With one of the two services of a server that prefers GPUs comes the other.
    type: list
    elements: str
    default: []
  release:
    description: Number of the release to go back to. The one before what runs now where it is not given.
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
        wait. Of a server that was tried beside its old version it is the replica on trial that is waited for.
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
  trial:
    description:
      - Whether one replica of a changed server's new version is tried beside the old one before it is updated. Going
        back to a release tries nothing.
      - A server that cannot run twice is not tried, and the deploy says so. That is one with volumes, with a port of
        the host, with a reserved GPU, or whose old task has to stop first.
    type: bool
    default: true
  canary:
    description:
      - Percent of a changed server's calls that its new version takes during the trial, before it is updated. Of a
        server with sticky sessions it takes new sessions. 0 is none.
      - It is withdrawn, and the deploy fails, when it is worse than the old version during the same time.
    type: float
    default: 0
  canary_seconds:
    description: For how long it takes them. One that is plainly worse is withdrawn sooner.
    type: int
    default: 120
  canary_calls:
    description: How many calls it must have answered to be judged.
    type: int
    default: 50
  canary_errors:
    description:
      - How many percentage points its error rate may lie above that of the old version. An error of a tool counts.
    type: float
    default: 1
  canary_latency:
    description: How many times as long as with the old version the 95th percentile of its calls may take.
    type: float
    default: 1.5
  canary_inconclusive:
    description: What becomes of it after fewer than O(canary_calls) calls.
    type: str
    choices: [withdraw, promote]
    default: withdraw
  hooks:
    description:
      - What is run before and after each stage, a list of hooks by moment. Moments are C(before_) and C(after_) with
        each of C(plan), C(trial), C(apply), C(verify) and C(record), and C(on_rollback) before a release is gone back
        to, by wish or after a failure, and C(on_failure) when it is known what serves after one.
      - A hook has C(command), a program on this manager and its arguments as a list, or C(playbook), a playbook's path
        on the controller, relative to the inventory's directory. It may have C(seconds), how long it may take (60), and
        C(required), whether the deploy fails with it. By default those before a stage are required and others are not.
      - Hooks find in their environment C(MCP_FLEET), C(MCP_ACTION) (V(deploy) or V(rollback)), C(MCP_MOMENT),
        C(MCP_STAGE), C(MCP_RELEASE), C(MCP_CHANGED) (services), C(MCP_WHO), C(MCP_WHY), C(MCP_REVISION) and
        C(MCP_ERROR). Playbooks find the same in the variable C(mcp_hook), as C(mcp_hook.fleet). No secret is among
        them.
      - A required hook that fails before C(apply) stops the deploy with nothing changed; one that fails later has the
        release before restored.
    type: dict
    default: {}
  docker_config:
    description:
      - Directory with credentials of registries, as M(sophia_ai.mcp_swarm.registry_access) keeps them.
      - Where it is given, nodes get these credentials with each service (C(--with-registry-auth)), and on more than one
        node every image is on each node that may run it before a service moves. A node that cannot pull is named, and
        nothing is changed.
    type: path
    default: ''
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
  foreseen:
    description:
      - Names of secrets and configs that will have been made when the stack is deployed. In check mode they need not be
        there; otherwise this is ignored.
      - Those of the fact C(fleet_plan) where it is not given.
    type: list
    elements: str
    default: []
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

- name: Let the new version take a tenth of the calls for five minutes first
  sophia_ai.mcp_swarm.swarm_stack:
    name: mcp
    stack: "{{ ansible_facts.fleet_plan.stack }}"
    stack_file: "{{ ansible_facts.fleet_plan.paths.stack_file }}"
    canary: 10
    canary_seconds: 300

- name: Back up before anything changes, tell people afterwards
  sophia_ai.mcp_swarm.swarm_stack:
    name: mcp
    stack: "{{ ansible_facts.fleet_plan.stack }}"
    stack_file: "{{ ansible_facts.fleet_plan.paths.stack_file }}"
    hooks:
      before_apply:
        - command: [/usr/local/sbin/backup-volumes, --quick]
          seconds: 300
      after_record:
        - playbook: hooks/announce.yml
      on_failure:
        - playbook: hooks/announce.yml

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
trial:
  description: What the trial showed of each server, and which could not be tried, in people's words.
  returned: success, unless O(state=absent)
  type: list
  elements: str
  sample:
    - "canary promoted: time: the new version answered 214 calls, 0 failed (0.0 %), 95 % within 38 ms; the old one
      answered 1,934 calls, 2 failed (0.1 %), 95 % within 35 ms"
hook_problems:
  description: Hooks that failed and did not stop the deploy, each with the last lines that it wrote.
  returned: success, unless O(state=absent)
  type: list
  elements: str
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

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._progress import ANSWER_SECONDS, Progress
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import board, distribution, hooks, trial
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import stack as stacks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import NoManager, Swarm, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.judging import Terms
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.lock import acquire
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.transaction import (
    DeployFailed,
    Transaction,
    Wish,
)


def wish(params: dict[str, Any]) -> Wish:
    """What the options ask for.

    Raises:
        SwarmError: what is said of a canary makes no sense.
    """
    keys = ["who", "why", "revision", "catalogue", "timeout", "settle", "keep", "only", "keep_images", "verification"]
    keys.append("docker_config")
    names = ("seconds", "calls", "errors", "latency", "inconclusive")
    terms = Terms(params["canary"], **{name: params[f"canary_{name}"] for name in names})
    trial.check(terms)
    if terms.share and not (params["trial"] and params["verify"]):
        raise SwarmError(
            f"canary: {terms.share:g}: it is a part of the trial and judged by calls; set trial and verify"
        )
    return Wish(
        document=params["stack"] or {},
        wait=params["lock_wait"],
        trial=params["trial"],
        terms=terms,
        **{key: params[key] for key in keys},
    )


def deploy(module: AnsibleModule, swarm: Swarm) -> dict[str, Any]:
    """Deploy or go back."""
    params = module.params
    say = Progress(params["progress_file"])

    def ask(question: dict[str, Any]) -> dict[str, Any]:
        seconds = question.get("seconds") or params["verify_timeout"]
        answer = say.ask(question, seconds + ANSWER_SECONDS)
        return answer or {"problem": "nobody verified it: the controller went away; run the deploy again"}

    answers = ask if params["progress_file"] else None
    transaction = Transaction(
        swarm,
        params["name"],
        params["stack_file"],
        say,
        answers if params["verify"] else None,
        hooks.Hooks(hooks.read(params["hooks"]), say, answers),
    )
    wanted = wish(params)
    if params["state"] == "rollback":
        wanted.settle, wanted.trial = 0, False
        if module.check_mode:
            return as_plan(transaction.preview_rollback(wanted, params["release"]))
        return transaction.rollback(wanted, params["release"])
    if module.check_mode:
        return as_plan(transaction.preview(wanted, params["foreseen"]))
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
    if module.check_mode:
        there = [*sorted(swarm.services(fleet)), *distribution.sweep(swarm, fleet, check=True)]
        return {"changed": bool(there), "removed": there}
    say = Progress(params["progress_file"])
    with acquire(swarm, fleet, params["who"], params["why"] or "teardown", params["lock_wait"], say):
        records = {item["Spec"]["Name"] for item in swarm.records(fleet, "lock")}
        trial.sweep(swarm, fleet)
        board.take_down(swarm, fleet, whatever=True)
        gone = distribution.sweep(swarm, fleet)
        gone += [name for name in stacks.remove(swarm, fleet, params["volumes"]) if name not in records]
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
            "trial": {"type": "bool", "default": True},
            "canary": {"type": "float", "default": 0},
            "canary_seconds": {"type": "int", "default": 120},
            "canary_calls": {"type": "int", "default": 50},
            "canary_errors": {"type": "float", "default": 1},
            "canary_latency": {"type": "float", "default": 1.5},
            "canary_inconclusive": {"type": "str", "choices": ["withdraw", "promote"], "default": "withdraw"},
            "hooks": {"type": "dict", "default": {}},
            "docker_config": {"type": "path", "default": ""},
            "verify": {"type": "bool", "default": True},
            "verify_timeout": {"type": "int", "default": 60},
            "verification": {"type": "dict", "default": {}},
            "foreseen": {"type": "list", "elements": "str", "default": []},
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
        given = module.params["docker_config"]
        # In check mode nobody writes it; where it is there, images are looked for with it as a deploy does.
        if given and not leaving and (not module.check_mode or os.path.isfile(os.path.join(given, "config.json"))):
            swarm.take_credentials(given)
        result = (absent if leaving else deploy)(module, swarm)
        for problem in result.get("hook_problems", []):
            module.warn(problem)
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
