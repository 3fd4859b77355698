# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prove that containers see the GPUs that Swarm assigned to them, and no others.

Swarm tells a container what it assigned in an environment variable, and NVIDIA's runtime is to act on it. Where it does
not, as in 1.18 (NVIDIA/nvidia-container-toolkit#1599), every replica runs on the same GPU, or on none, and nothing says
so. Here one task for each free unit of a node reserves a GPU as a service would, and says what it sees; units in use
are proved in the containers that have them (``_node/gpu_use.py``).
"""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils import _registry as registries
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._gpu_terms import CAPABILITIES, GPU_KIND, VISIBLE
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.gpu_use import judge
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.gpus import visible
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import gpu_agent, jobs
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import (
    LABEL,
    Swarm,
    SwarmError,
    patiently,
)

PROVING = f"{LABEL}.proving"
POLL_SECONDS = 0.5
# A task's last words come a moment after its end.
WORDS_SECONDS = 5.0
RESERVED = {"DiscreteResourceSpec": {"Kind": GPU_KIND, "Value": 1}}


@dataclass(frozen=True)
class Node:
    """A node whose GPUs are to be proved.

    Attributes:
        name: what people call it.
        id: in the Swarm.
        units: what it has to advertise, by its daemon.json.
        toolkit: version of NVIDIA's container toolkit there.
        problems: what is wrong with the units in use.
    """

    name: str
    id: str
    units: tuple[str, ...]
    toolkit: str
    problems: tuple[str, ...] = ()


def named(resources: Sequence[Mapping[str, Any]] | None) -> list[str]:
    """The units among generic resources as the engine lists them."""
    specs = [each.get("NamedResourceSpec") or {} for each in resources or ()]
    return [str(each["Value"]) for each in specs if each.get("Kind") == GPU_KIND]


def unknown_to_swarm(node: Node, advertised: Sequence[str]) -> str:
    """What is wrong with what the Swarm knows of a node; empty where nothing is. Pure."""
    if sorted(advertised) == sorted(node.units):
        return ""
    return (
        f"node {node.name}: the Swarm knows its GPUs as {', '.join(advertised) or 'none'}, and its daemon.json has"
        f" {', '.join(node.units) or 'none'}: the engine has not restarted since; playbooks/engine.yml --limit"
        f" {node.name} restarts it (playbooks/drain.yml before, so that no call is lost)"
    )


def prove(
    swarm: Swarm,
    fleet: str,
    image: str,
    nodes: Sequence[Node],
    timeout: float,
    say: Callable[[str], None],
) -> dict[str, list[str]]:
    """Have tasks say what they see.

    Args:
        swarm: the manager, with the credentials of registries.
        fleet: whose nodes these are.
        image: of ours, with Python; the nodes have it or can pull it.
        nodes: whose units are to be proved.
        timeout: seconds for all of it.
        say: takes progress lines.

    Returns:
        The units that were proved, by the node's name. Those in use are not among them, nor are nodes that take no
        tasks.

    Raises:
        SwarmError: naming each node and unit that is not as it should be.
    """
    sweep(swarm, fleet)
    listed = {node["ID"]: node for node in patiently(swarm.api.nodes)}
    wrong = [problem for node in nodes for problem in node.problems]
    active = []
    for node in nodes:
        there = listed.get(node.id)
        if there is None:
            wrong.append(f"node {node.name} is not in the Swarm, nor are its GPUs; run playbooks/provision.yml")
        elif away := _away(there):
            say(f"node {node.name} is {away}: its GPUs are proved by the next run in which it takes tasks")
        elif problem := unknown_to_swarm(node, named(_generic(there))):
            wrong.append(problem)
        else:
            active.append(node)
    if wrong:
        raise SwarmError("\n".join(wrong))
    if not active:
        return {}
    taken = _taken(swarm)
    made: list[Callable[[], Any]] = []
    proved: dict[str, list[str]] = {}
    try:
        started = [_start(swarm, fleet, image, node, set(taken.get(node.id, ())), made) for node in active]
        count = sum(wanted for dummy, wanted, dummy2, dummy3 in started)
        say(f"proving {count} free units of GPUs, on {', '.join(node.name for node in active)}")
        deadline = time.monotonic() + timeout
        for node, wanted, job, without in started:
            units, problems = _results(swarm, node, job, wanted, deadline, timeout) if job else ([], [])
            problems += _results(swarm, node, without, 1, deadline, timeout)[1]
            proved[node.name] = units
            wrong += problems
    finally:
        for undo in reversed(made):
            undo()
    if wrong:
        raise SwarmError("\n".join(wrong))
    return proved


def _away(node: Mapping[str, Any]) -> str:
    """Why a node takes no tasks; empty where it does."""
    state, availability = str(node["Status"]["State"]), str(node["Spec"].get("Availability", "active"))
    return state if state != "ready" else "" if availability == "active" else f"set to {availability}"


def sweep(swarm: Swarm, fleet: str) -> None:
    """Remove what a proof that died left."""
    for service in patiently(lambda: swarm.api.services(filters={"label": f"{PROVING}={fleet}"})):
        swarm.api.remove_service(service["ID"])


def _generic(node: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    resources = (node.get("Description") or {}).get("Resources") or {}
    return resources.get("GenericResources") or ()


def _taken(swarm: Swarm) -> dict[str, list[str]]:
    """Units that services have, by the id of their node."""
    taken: dict[str, list[str]] = {}
    for task in patiently(swarm.api.tasks):
        if task["Status"]["State"] not in jobs.ENDED:
            taken.setdefault(task.get("NodeID", ""), []).extend(named(task.get("GenericResources")))
    return taken


def _start(
    swarm: Swarm, fleet: str, image: str, node: Node, taken: set[str], made: list[Callable[[], Any]]
) -> tuple[Node, int, str, str]:
    """Start a node's jobs; returns how many units are free, and the ids of the job with and of the one without GPUs."""
    labels = {f"{LABEL}.fleet": fleet, PROVING: fleet}
    credentials = registries.auth_headers(swarm.api, [image]).get(image, "")
    command = ["python3", "-c", inspect.getsource(gpu_agent)]
    stamp = f"{fleet}_gpu_proof_{time.time_ns() // 1_000:x}"
    # The driver's tools are what is asked; void is what services without a GPU have; what Swarm assigns is above it.
    container = {
        "Env": [f"{CAPABILITIES}=utility", f"{VISIBLE}=void"],
        "ReadOnly": False,
    }
    free = sum(unit not in taken for unit in node.units)

    def start(name: str, count: int, reserved: Sequence[Mapping[str, Any]]) -> str:
        constraints = [f"node.id=={node.id}"]
        wish = jobs.spec(name, image, command, jobs.at_once(count), constraints, labels, container, reserved)
        identity = jobs.create(swarm, wish, credentials)
        made.append(partial(_remove, swarm, identity))
        return identity

    with_gpu = start(f"{stamp}_with", free, [RESERVED]) if free else ""
    return node, free, with_gpu, start(f"{stamp}_without", 1, ())


def _remove(swarm: Swarm, identity: str) -> None:
    from docker.errors import NotFound

    with contextlib.suppress(NotFound):
        swarm.api.remove_service(identity)


def _results(
    swarm: Swarm, node: Node, job: str, wanted: int, deadline: float, timeout: float
) -> tuple[list[str], list[str]]:
    """The units that a job's tasks had and saw, and what is wrong."""
    while True:
        tasks = patiently(lambda: swarm.api.tasks(filters={"service": job}))
        ended = [task for task in tasks if task["Status"]["State"] in jobs.ENDED]
        if len(ended) >= wanted or time.monotonic() > deadline:
            break
        time.sleep(POLL_SECONDS)
    units, problems = [], []
    for task in tasks:
        assigned = named(task.get("GenericResources"))
        said = _words(task["ID"]) if task["Status"]["State"] == "complete" else None
        if said is None:
            problems.append(not_run(node, assigned, task["Status"], timeout))
            continue
        who = "a container of the proof"
        problem = judge(node.name, node.toolkit, who, assigned, seen(said, assigned), str(said["said"]))
        problems += [problem] if problem else []
        units += [] if problem else assigned
    if len(tasks) < wanted and not problems:
        problems.append(not_run(node, (), {"State": "missing"}, timeout))
    return units, list(dict.fromkeys(problems))


def seen(line: Mapping[str, Any], assigned: Sequence[str]) -> list[str]:
    """What a container saw. To one without a GPU not even the device is to be there. Pure."""
    listed = visible(str(line["said"]))
    return listed if assigned else [*listed, *line.get("nodes", ())]


def not_run(node: Node, assigned: Sequence[str], status: Mapping[str, Any], timeout: float) -> str:
    """Why a task of the proof said nothing. Pure."""
    why = status.get("Err") or status.get("Message") or status["State"]
    with_what = f"with {', '.join(assigned)}" if assigned else "without a GPU"
    if status["State"] not in jobs.ENDED:
        why = f"not within {timeout:.0f} s: {why}"
    return (
        f"node {node.name}: a container {with_what} did not run: {' '.join(str(why).split())[:400]}; look at journalctl"
        f" --unit docker there, and run again"
    )


def _words(task: str) -> dict[str, Any] | None:
    """The line that a task wrote; None where there is none."""
    deadline = time.monotonic() + WORDS_SECONDS
    while True:
        if lines := jobs.words(task, "said"):
            return lines[0]
        if time.monotonic() > deadline:
            return None
        time.sleep(POLL_SECONDS)
