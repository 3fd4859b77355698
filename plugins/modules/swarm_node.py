#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node of the Swarm."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_node
short_description: Label, promote, demote, drain or remove a node of a Swarm
version_added: 0.2.0
description:
  - Runs on a manager, about any node. A node is named by its name in the inventory, by its id, or by its host name; a
    host name that several nodes have is refused.
  - A manager that the others cannot do without is neither demoted nor removed. A promotion or demotion ends when the
    managers count the node so.
  - Draining leaves no gap. Services whose replicas are all on the node are started elsewhere before they end there;
    then the node is drained, and the module waits until everything runs elsewhere. What can run nowhere else (data in a
    volume, a constraint) is named, and nothing is changed, unless O(stop_pinned).
  - Progress is shown while it drains.
  - Where M(community.docker.docker_node) sets role and availability and returns at once, this module guards the quorum,
    waits, and knows which labels are its own.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.action
  - sophia_ai.mcp_swarm.attributes.manager
  - sophia_ai.mcp_swarm.attributes.progress
  - sophia_ai.mcp_swarm.attributes.locked
options:
  node:
    description: Which node.
    type: str
    required: true
  state:
    description:
      - V(present) makes it what the other options say.
      - V(absent) removes it from the list of nodes. It must have left, or be down and O(force) be set.
    type: str
    choices: [present, absent]
    default: present
  host:
    description: Its name in the inventory, kept in the label C(ai.sophia.mcp.host).
    type: str
  labels:
    description:
      - Its labels. One that was set here before and is not named any more is removed; labels of others stay.
      - Labels are left alone where this is not given.
    type: dict
  role:
    description: What it is to be. Left alone where this is not given.
    type: str
    choices: [manager, worker]
  availability:
    description:
      - V(active) takes tasks, V(pause) keeps those it has and takes no more, V(drain) has none.
      - Left alone where this is not given.
    type: str
    choices: [active, pause, drain]
  stop_pinned:
    description: Whether draining may stop services that can run nowhere else.
    type: bool
    default: false
  force:
    description: Whether O(state=absent) removes a node that did not leave. Such a node must be down.
    type: bool
    default: false
  fleet:
    description:
      - The fleet whose lock is held while the node is drained or activated. Without it no lock is taken, and no
        progress is shown.
    type: str
  timeout:
    description: Seconds until everything must run elsewhere.
    type: int
    default: 300
attributes:
  check_mode:
    support: full
    details: Says what would change, and refuses what would be refused.
  diff_mode:
    support: full
    details: Shows labels, role and availability before and after.
  idempotent:
    support: full
seealso:
  - module: sophia_ai.mcp_swarm.swarm_node_info
  - module: sophia_ai.mcp_swarm.swarm_rebalance
"""

EXAMPLES = r"""
- name: Say where it stands
  sophia_ai.mcp_swarm.swarm_node:
    node: gpu-2
    labels: {zone: us-east-1a}

- name: Empty it before its kernel is replaced
  sophia_ai.mcp_swarm.swarm_node:
    node: gpu-2
    availability: drain
    fleet: mcp

- name: Take it back
  sophia_ai.mcp_swarm.swarm_node:
    node: gpu-2
    availability: active
    fleet: mcp

- name: Forget a machine that burned down
  sophia_ai.mcp_swarm.swarm_node:
    node: gpu-3
    state: absent
    force: true
"""

RETURN = r"""
node:
  description: The node as it is now; as it was with O(state=absent) and in check mode.
  returned: success
  type: dict
  contains:
    id: {description: Its id in the Swarm., type: str}
    name: {description: What people call it., type: str}
    hostname: {description: The machine's name., type: str}
    host: {description: Its name in the inventory; empty where the fleet did not add it., type: str}
    role: {description: V(manager) or V(worker)., type: str}
    availability: {description: 'V(active), V(pause) or V(drain).', type: str}
    state: {description: 'V(ready), V(down), V(disconnected) or V(unknown).', type: str}
    reachability: {description: 'Of a manager: V(reachable) or V(unreachable).', type: str}
    leader: {description: Whether it leads the managers., type: bool}
    address: {description: Where it is., type: str}
    engine: {description: Version of its engine., type: str}
    labels: {description: Its labels., type: dict}
moved:
  description: Services that ran there and run elsewhere now, or could in check mode.
  returned: O(availability=drain)
  type: list
  elements: str
stopped:
  description: Services that ran there and can run nowhere else.
  returned: O(availability=drain)
  type: list
  elements: str
"""

import contextlib
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._progress import Progress
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import drain as draining
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import nodes as members
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.lock import acquire


def labels(params: dict[str, Any], node: members.Node) -> dict[str, str]:
    """The labels that the node is to have."""
    wanted = dict(node.labels)
    if params["labels"] is not None:
        wanted = members.wanted_labels(node.labels, {str(k): text(v) for k, v in params["labels"].items()})
    if params["host"]:
        wanted[members.HOST] = params["host"]
    return wanted


def text(value: Any) -> str:
    """A label's value; YAML's true is the text that constraints are written with."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def shown(node: members.Node, params: dict[str, Any], after: bool) -> str:
    """The node's settings, before and after, for diff mode."""
    role, availability = node.role, node.availability
    has = labels(params, node) if after else node.labels
    if after:
        role, availability = params["role"] or role, params["availability"] or availability
    lines = [f"role: {role}", f"availability: {availability}"]
    lines += [f"label {key}: {value}" for key, value in sorted(has.items()) if key != members.OWNED]
    return "".join(f"{line}\n" for line in lines)


def present(module: AnsibleModule, swarm: Swarm, node: members.Node) -> dict[str, Any]:
    """Make the node what the options say."""
    params, say = module.params, Progress(module.params["progress_file"])
    before, after = shown(node, params, after=False), shown(node, params, after=True)
    new_role = bool(params["role"]) and not node.is_a(params["role"])
    result: dict[str, Any] = {"changed": before != after or new_role or labels(params, node) != node.labels}
    result["diff"] = {"before_header": str(node), "after_header": str(node), "before": before, "after": after}
    foreseen = foresee(params, swarm, node)  # refuses before anything is changed
    if module.check_mode:
        return result | foreseen
    wanted = labels(params, node)
    if wanted != node.labels:
        members.update(swarm, node, lambda spec: spec.update(Labels=wanted))
    if params["role"]:
        members.set_role(swarm, node, params["role"], say)
    if params["availability"] == node.availability == "active":
        return result
    if params["availability"] in ("drain", "active"):
        with locked(params, swarm, say) as alive:
            result |= move(params, swarm, node, say, alive, result["changed"])
    elif params["availability"]:
        draining.set_availability(swarm, node, params["availability"])
    return result


def move(
    params: dict[str, Any],
    swarm: Swarm,
    node: members.Node,
    say: Callable[[str], None],
    alive: Callable[[], None],
    changed: bool,
) -> dict[str, Any]:
    """Drain or activate it."""
    if params["availability"] == "drain":
        done = draining.drain(swarm, node, params["stop_pinned"], params["timeout"], say, alive)
        return done | {"changed": changed or done["changed"]}
    return {"changed": draining.activate(swarm, node, params["timeout"], say, alive) or changed}


def foresee(params: dict[str, Any], swarm: Swarm, node: members.Node) -> dict[str, Any]:
    """Refuse what cannot be, and tell what would become of what runs there."""
    if params["role"]:
        members.check_role(swarm, node, params["role"])
    if params["availability"] != "drain":
        return {}
    found = draining.burden(draining.all_services(swarm), draining.all_tasks(swarm), members.nodes(swarm), node)
    if not params["stop_pinned"]:
        draining.check(found, node)
    return {"moved": found.movable, "stopped": sorted(found.stuck)}


@contextlib.contextmanager
def locked(params: dict[str, Any], swarm: Swarm, say: Callable[[str], None]) -> Any:
    """The fleet's lock, where one is named; yields what tells that it was lost."""
    if not params["fleet"]:
        yield lambda: None
        return
    why = f"{'drain' if params['availability'] == 'drain' else 'activate'} {params['node']}"
    with acquire(swarm, params["fleet"], params["who"], why, params["lock_wait"], say) as lock:
        yield lock.check


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "node": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "host": {"type": "str"},
            "labels": {"type": "dict"},
            "role": {"type": "str", "choices": ["manager", "worker"]},
            "availability": {"type": "str", "choices": ["active", "pause", "drain"]},
            "stop_pinned": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "fleet": {"type": "str"},
            "timeout": {"type": "int", "default": 300},
            "lock_wait": {"type": "int", "default": 60},
            "who": {"type": "str", "default": "unknown"},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        swarm = Swarm()
        there = members.nodes(swarm)
        if params["state"] == "absent":
            try:
                node = members.find(there, params["node"])
            except SwarmError:
                if any(params["node"] in (n.host, n.hostname) for n in there):  # which of them it is about, it must say
                    raise
                module.exit_json(changed=False, node={})
            if node.state == "ready" or not module.check_mode:
                members.remove(swarm, node, params["force"])
            module.exit_json(changed=True, node=members.as_dict(node))
        node = members.find(there, params["node"])
        result = present(module, swarm, node)
        if not module.check_mode:
            node = members.find(members.nodes(swarm), node.id)
        module.exit_json(**result, node=members.as_dict(node))
    except SwarmError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
