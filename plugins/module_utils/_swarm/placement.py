# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a service's tasks may run, where they do, and whether that is even. Pure: the engine's objects in, answers out.

Preferences as SwarmKit reads them (moby/swarmkit manager/scheduler); constraints: ``_constraints.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils import _constraints, _gpu_terms, _services
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.convergence import job
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.nodes import Node

# What a task on its way to running already counts for.
THERE = ("new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running")


def value(node: Node, key: str) -> str | None:
    """What a node says to the left side of a constraint; None where it has no such thing."""
    platform = node.attributes.get("platform") or {}
    if key.startswith("node.labels."):
        return node.labels.get(key.removeprefix("node.labels."))
    if key.startswith("engine.labels."):
        return (node.attributes.get("engine") or {}).get(key.removeprefix("engine.labels."))
    return {
        "node.id": node.id,
        "node.hostname": node.hostname,
        "node.ip": node.address,
        "node.role": node.role,
        "node.platform.os": platform.get("OS", ""),
        "node.platform.arch": platform.get("Architecture", ""),
    }.get(key)


def meets(node: Node, constraint: str) -> bool:
    """Whether a node meets one constraint."""
    return _constraints.meets(lambda key: value(node, key), constraint)


def placement(service: dict[str, Any]) -> dict[str, Any]:
    """A service's placement, as its specification has it."""
    return service["Spec"]["TaskTemplate"].get("Placement") or {}


def eligible(service: dict[str, Any], nodes: Iterable[Node]) -> list[Node]:
    """The nodes that may get its tasks now: ready, and meeting every constraint."""
    constraints = placement(service).get("Constraints") or []
    return [node for node in nodes if node.ready and all(meets(node, rule) for rule in constraints)]


def replicas(service: dict[str, Any]) -> int | None:
    """How many are wanted; None where the service is not replicated."""
    replicated = (service["Spec"].get("Mode") or {}).get("Replicated")
    return None if replicated is None else int(replicated.get("Replicas", 1))


def volumes(service: dict[str, Any]) -> list[str]:
    """The volumes in which it keeps data; each lies on one node."""
    mounts = (service["Spec"]["TaskTemplate"].get("ContainerSpec") or {}).get("Mounts") or []
    return [str(m.get("Source") or m["Target"]) for m in mounts if m.get("Type") == "volume"]


def fixed(service: dict[str, Any]) -> str:
    """Why its replicas are not moved between nodes; empty where they may be."""
    if job(service):
        return "is a job"
    if replicas(service) is None:
        return "runs on every node"
    if kept := volumes(service):
        return f"keeps data in {', '.join(kept)}"
    ports = (service["Spec"].get("EndpointSpec") or {}).get("Ports") or []
    if taken := [str(p["PublishedPort"]) for p in ports if p.get("PublishMode") == "host"]:
        return f"holds port {', '.join(taken)} of its node"
    if kinds := reserved(service):
        return f"reserves {', '.join(sorted(kinds))}, of which no node may have another free"
    return ""


def reserved(service: dict[str, Any]) -> dict[str, int]:
    """The generic resources that each of its tasks reserves, such as GPUs: kind to how many."""
    wanted = (service["Spec"]["TaskTemplate"].get("Resources") or {}).get("Reservations") or {}
    return _counted(wanted.get("GenericResources") or [])


def _counted(resources: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Generic resources by kind: those with names count one each."""
    found: dict[str, int] = {}
    for item in resources:
        if given := item.get("DiscreteResourceSpec"):
            found[given["Kind"]] = found.get(given["Kind"], 0) + int(given["Value"])
        elif given := item.get("NamedResourceSpec"):
            found[given["Kind"]] = found.get(given["Kind"], 0) + 1
    return found


def spare(node: Node, tasks: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """What of its generic resources a node has left.

    Args:
        tasks: of all services. ``GenericResources`` is what engines answer (moby's api/types/swarm/task.go), whatever
            their reference calls it.
    """
    left = _counted(node.attributes.get("resources") or [])
    for task in tasks:
        if task.get("NodeID") == node.id and task["Status"]["State"] in THERE:
            for kind, number in _counted(task.get("GenericResources") or []).items():
                left[kind] = left.get(kind, 0) - number
    return left


def unreservable(document: Mapping[str, Any], nodes: Sequence[Node]) -> list[str]:
    """Why services of a compose document that reserve generic resources cannot run in this Swarm; one line each."""
    wanted = {name: what for name, service in document["services"].items() if (what := _services.reserved(service))}
    if not wanted:
        return []
    who = ", ".join(sorted(wanted))
    kinds = sorted({kind for what in wanted.values() for kind in what})
    wrong = []
    managers = [node for node in nodes if node.votes]
    old = [f"{n.name} runs {n.engine}" for n in managers if _gpu_terms.too_old(n.engine)]
    if old:
        wrong.append(
            f"{who}: to reserve {', '.join(kinds)}, managers need Docker {_gpu_terms.LEAST_ENGINE} or newer: older ones"
            " end such tasks as soon as they have a network (github.com/moby/moby/issues/44378), and"
            f" {', '.join(old)}; upgrade the managers, or set gpu: none"
        )
    for kind in kinds:
        if not any(_counted(node.attributes.get("resources") or []).get(kind) for node in nodes):
            wrong.append(
                f"{', '.join(sorted(n for n in wanted if kind in wanted[n]))}: no node of this Swarm offers {kind}; run"
                " playbooks/provision.yml, by which engines offer what mcp_node_gpus says"
            )
    return wrong


def start_first(service: dict[str, Any]) -> bool:
    """Whether its update starts a new task before it ends the old one."""
    return ((service["Spec"].get("UpdateConfig") or {}).get("Order") or "stop-first") == "start-first"


def count(tasks: Iterable[Mapping[str, Any]], nodes: Iterable[Node]) -> dict[str, int]:
    """Node id to how many tasks are there and meant to stay; nodes without any have 0."""
    found = {node.id: 0 for node in nodes}
    for task in tasks:
        if task.get("DesiredState") == "running" and task["Status"]["State"] in THERE and task.get("NodeID") in found:
            found[task["NodeID"]] += 1
    return found


def uneven(service: dict[str, Any], counts: Mapping[str, int], nodes: Sequence[Node]) -> int:
    """By how many moves the replicas are from an even spread over ``nodes``.

    With placement preferences they are to be even over the values of the first label, within each of those over the
    values of the next, and so on to the nodes; without, over the nodes.
    """
    keys = [p["Spread"]["SpreadDescriptor"] for p in placement(service).get("Preferences") or [] if p.get("Spread")]
    return _excess([n for n in nodes if n.id in counts], counts, keys)


def _excess(nodes: Sequence[Node], counts: Mapping[str, int], keys: Sequence[str]) -> int:
    groups: dict[str, list[Node]] = {}
    for node in nodes:
        groups.setdefault((value(node, keys[0]) or "") if keys else node.id, []).append(node)
    totals = sorted((sum(counts[n.id] for n in group) for group in groups.values()), reverse=True)
    if not totals:
        return 0
    least, extra = divmod(sum(totals), len(totals))
    moves = sum(max(0, total - (least + (place < extra))) for place, total in enumerate(totals))
    return moves + (sum(_excess(group, counts, keys[1:]) for group in groups.values()) if keys else 0)


@dataclass(frozen=True)
class Move:
    """One replica that is to go: of which service, by which way, and from where to where that should lead.

    ``way`` is ``spread`` (one more, then one less) or ``single`` (its only replica anew, start-first).
    """

    service: str
    way: str
    source: str
    target: str
    why: str

    def __str__(self) -> str:
        return f"{self.service}: one replica from {self.source} to {self.target} ({self.why})"


def next_move(
    services: Mapping[str, dict[str, Any]],
    tasks: Mapping[str, Sequence[Mapping[str, Any]]],
    nodes: Sequence[Node],
    skip: Iterable[str] = (),
) -> Move | None:
    """The move that helps most; None where all is even.

    First services whose own replicas are uneven, the most uneven first. Then, where one node has two tasks more than
    another, the only replica of a service that may run on both.

    Args:
        services: by name.
        tasks: of each service, by its id.
        nodes: all.
        skip: services that are not to be moved.
    """
    free = {name: s for name, s in services.items() if name not in set(skip) and not fixed(s) and replicas(s)}
    counts = {name: count(tasks.get(s["ID"], []), nodes) for name, s in free.items()}
    names = {node.id: node for node in nodes}
    worst: tuple[int, str] | None = None
    for name, service in sorted(free.items()):
        able = eligible(service, nodes)
        excess = uneven(service, {n.id: counts[name][n.id] for n in able}, able)
        if excess and (worst is None or excess > worst[0]):
            worst = (excess, name)
    if worst:
        name = worst[1]
        able = eligible(free[name], nodes)
        high = max(able, key=lambda n: (counts[name][n.id], n.name))
        low = min(able, key=lambda n: (counts[name][n.id], n.name))
        spread = ", ".join(f"{n.name} {counts[name][n.id]}" for n in able)
        return Move(name, "spread", high.name, low.name, spread)
    load = {node.id: 0 for node in nodes if node.ready}
    for service in services.values():
        for node_id, number in count(tasks.get(service["ID"], []), nodes).items():
            if node_id in load:
                load[node_id] += number
    best: tuple[int, str, str, str] | None = None
    for name, service in sorted(free.items()):
        if replicas(service) != 1 or not start_first(service):
            continue
        home = next((node_id for node_id, number in counts[name].items() if number), "")
        ids = [n.id for n in eligible(service, nodes)]
        if home not in ids:
            continue
        low_id = min(ids, key=lambda node_id: (load[node_id], names[node_id].name))
        gap = load[home] - load[low_id]
        if gap >= 2 and (best is None or gap > best[0]):
            best = (gap, name, home, low_id)
    if best:
        dummy, name, home, low_id = best
        why = f"{names[home].name} has {load[home]} tasks, {names[low_id].name} {load[low_id]}"
        return Move(name, "single", names[home].name, names[low_id].name, why)
    return None
