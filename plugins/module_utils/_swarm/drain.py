# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Empty a node without a gap in what runs on it, and wait until it all runs elsewhere.

Swarm's own drain ends every task of the node at once and only then starts others: a service whose replicas are all
there would be away for a while. So the node gets no new tasks first (pause), such services are started elsewhere by an
update that starts first, and only what is left is drained.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import placement
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import (
    Swarm,
    SwarmError,
    out_of_sequence,
    patiently,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.convergence import Verdict, describe, judge
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.nodes import Node, nodes, update

POLL_SECONDS = 0.5
ATTEMPTS = 10
ACTIVE_STATES = ("assigned", "accepted", "preparing", "ready", "starting", "running")

Say = Callable[[str], None]
Services = dict[str, dict[str, Any]]
Tasks = Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass
class Burden:
    """What a node carries.

    Attributes:
        movable: services that run elsewhere too, or can.
        alone: those of them whose running replicas are all there, and that can start first elsewhere.
        stuck: services that cannot run elsewhere, to why.
        everywhere: services that run on every node: they end there and are missed nowhere.
    """

    movable: list[str] = field(default_factory=list)
    alone: list[str] = field(default_factory=list)
    stuck: dict[str, str] = field(default_factory=dict)
    everywhere: list[str] = field(default_factory=list)


def burden(services: Services, tasks: Tasks, there: list[Node], node: Node) -> Burden:
    """Sort what runs on a node by what becomes of it when the node is drained. Pure.

    Args:
        services: of the whole Swarm, by name.
        tasks: of each service, by its id.
        there: all nodes.
        node: the one that is to be empty.
    """
    found = Burden()
    others = [other for other in there if other.id != node.id]
    every = [task for mine in tasks.values() for task in mine]
    spare = {other.id: placement.spare(other, every) for other in others}
    for name, service in sorted(services.items()):
        mine = placement.count(tasks.get(service["ID"], []), there)
        if not mine[node.id]:
            continue
        if placement.replicas(service) is None:
            found.everywhere.append(name)
            continue
        able = placement.eligible(service, others)
        if kept := placement.volumes(service):
            found.stuck[name] = f"keeps data on {node.name}, in {', '.join(kept)}"
        elif not able:
            rules = placement.placement(service).get("Constraints") or []
            found.stuck[name] = f"no other node can run it{' (' + ', '.join(rules) + ')' if rules else ''}"
        elif lacking := _take(spare, able, placement.reserved(service), mine[node.id]):
            found.stuck[name] = f"reserves {', '.join(lacking)}, and no other node that can run it has enough free"
        else:
            found.movable.append(name)
            elsewhere = [t for t in tasks[service["ID"]] if runs(t) and t.get("NodeID") != node.id]
            if not elsewhere and placement.start_first(service):
                found.alone.append(name)
    return found


def _take(
    spare: dict[str, dict[str, int]], able: Sequence[Node], needed: Mapping[str, int], replicas: int
) -> list[str]:
    """Take what replicas reserve from what nodes have left; returns the kinds where that is not enough."""
    left = {node.id: dict(spare[node.id]) for node in able}
    for dummy in range(replicas if needed else 0):
        fit = [one for one in left.values() if all(one.get(kind, 0) >= number for kind, number in needed.items())]
        if not fit:
            return sorted(needed)
        emptiest = max(fit, key=lambda one: sum(one.get(kind, 0) for kind in needed))
        for kind, number in needed.items():
            emptiest[kind] -= number
    spare.update(left)
    return []


def runs(task: Mapping[str, Any]) -> bool:
    """Whether a task runs and is meant to."""
    return bool(task["Status"]["State"] == "running" and task["DesiredState"] == "running")


def all_services(swarm: Swarm) -> Services:
    """Every service of the Swarm by name, whoever made it."""
    return {item["Spec"]["Name"]: item for item in patiently(lambda: swarm.api.services(status=True))}


def all_tasks(swarm: Swarm) -> dict[str, list[dict[str, Any]]]:
    """Every task of the Swarm by its service's id, newest first."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    for task in sorted(patiently(swarm.api.tasks), key=lambda task: task["CreatedAt"], reverse=True):
        tasks.setdefault(task["ServiceID"], []).append(task)
    return tasks


def set_availability(swarm: Swarm, node: Node, availability: str) -> bool:
    """Change it at once; returns whether it changed."""
    return update(swarm, node, lambda spec: spec.update(Availability=availability))


def check(found: Burden, node: Node) -> None:
    """Raises SwarmError where something on the node cannot run elsewhere."""
    if found.stuck:
        lines = [f"{name}: {why}" for name, why in found.stuck.items()]
        raise SwarmError(
            "\n".join(
                [
                    f"{node} cannot be emptied without stopping what only it can run; nothing was changed:",
                    *lines,
                    "To stop these until the node is back: -e stop_pinned=true. Data stays on the node.",
                ]
            )
        )


def drain(
    swarm: Swarm, node: Node, stop_pinned: bool, timeout: float, say: Say, alive: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Empty a node.

    Args:
        swarm: the manager.
        node: which.
        stop_pinned: whether services that cannot run elsewhere may stop.
        timeout: seconds until everything runs elsewhere.
        say: takes progress lines.
        alive: called at each look; raises where the wait is to end.

    Returns:
        ``changed``, and by service what became of it: ``moved``, ``stopped``.

    Raises:
        SwarmError: something would stop, or did not come up elsewhere; the message says what the node is now.
    """
    there = nodes(swarm)
    services, tasks = all_services(swarm), all_tasks(swarm)
    found = burden(services, tasks, there, node)
    if not stop_pinned:
        check(found, node)
    deadline = time.monotonic() + timeout
    changed = False
    if found.alone and node.availability != "drain":
        changed = set_availability(swarm, node, "pause") or changed
        try:
            _start_elsewhere(swarm, node, found.alone, deadline, say, alive)
        except SwarmError as error:
            set_availability(swarm, node, node.availability)
            raise SwarmError(
                f"{error}\n{node} is {node.availability} as before, and what ran on it goes on; run again when the"
                " cause is gone."
            ) from error
    changed = set_availability(swarm, node, "drain") or changed
    _wait_empty(swarm, node, found, deadline, say, alive)
    return {"changed": changed, "moved": found.movable, "stopped": sorted(found.stuck)}


def gone(name: str) -> SwarmError:
    """A service that was there is there no more."""
    return SwarmError(f"service {name}: somebody removed it meanwhile; run again")


def update_service(swarm: Swarm, name: str, change: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Change a service's specification where ``change`` says so; returns it as it was, with that specification.

    Somebody else's change in between, an autoscaler's for example, is no conflict.

    Raises:
        SwarmError: the service is gone, or the Swarm refuses it.
    """
    from docker.errors import APIError, NotFound

    def push() -> dict[str, Any]:
        service: dict[str, Any] = swarm.api.inspect_service(name)
        if change(service["Spec"]):  # the SDK's own call takes it apart and forgets what it does not know
            url = swarm.api._url("/services/{0}/update", service["ID"])
            answer = swarm.api._post_json(url, data=service["Spec"], params={"version": service["Version"]["Index"]})
            swarm.api._raise_for_status(answer)
        return service

    for attempt in itertools.count(1):
        try:
            return patiently(push)
        except NotFound as error:
            raise gone(name) from error
        except APIError as error:
            if out_of_sequence(error) and attempt < ATTEMPTS:
                continue
            raise SwarmError(
                f"service {name}: the Swarm refused its update: {error.explanation or error}; it runs on as it was"
            ) from error
    raise AssertionError


def renew(swarm: Swarm, name: str) -> str:
    """Have a service's tasks made anew, as ``docker service update --force`` does; returns what it was updated at."""

    def once_more(spec: dict[str, Any]) -> bool:
        spec["TaskTemplate"]["ForceUpdate"] = spec["TaskTemplate"].get("ForceUpdate", 0) + 1
        return True

    return str(update_service(swarm, name, once_more)["UpdatedAt"])


def _start_elsewhere(
    swarm: Swarm, node: Node, names: Sequence[str], deadline: float, say: Say, alive: Callable[[], None]
) -> None:
    """Start services whose replicas are all on a node on others, before they end on it."""
    say(f"{', '.join(names)}: starting elsewhere before {'it ends' if len(names) == 1 else 'they end'} on {node.name}")
    stamps = {name: renew(swarm, name) for name in names}
    begun = time.monotonic()
    waiting = list(names)
    while waiting:
        alive()
        services, tasks = all_services(swarm), all_tasks(swarm)
        verdicts = {
            name: judge(services[name], tasks.get(services[name]["ID"], []), stamps[name], time.monotonic() - begun)
            for name in waiting
            if name in services
        }
        failed = [describe(swarm, name, verdict) for name, verdict in verdicts.items() if verdict.state == "failed"]
        waiting = [name for name, verdict in verdicts.items() if verdict.state == "waiting"]
        if time.monotonic() > deadline:
            for name in waiting:
                task = verdicts[name].task or next(iter(tasks.get(services[name]["ID"], [])), None)
                failed.append(describe(swarm, name, Verdict("failed", "did not start elsewhere in time", task)))
        if failed:
            raise SwarmError("\n".join(failed))
        if waiting:
            time.sleep(POLL_SECONDS)


def _left(services: Services, tasks: Tasks, node: Node) -> list[str]:
    """The services that still have a task on a node."""

    def there(task: Mapping[str, Any]) -> bool:
        return task.get("NodeID") == node.id and task["Status"]["State"] in ACTIVE_STATES

    return sorted(name for name, service in services.items() if any(map(there, tasks.get(service["ID"], []))))


def _short(services: Services, tasks: Tasks, node: Node, names: Sequence[str]) -> dict[str, str]:
    """Of the named services those that do not have all their replicas running elsewhere, to how many they have."""
    found = {}
    for name in names:
        service = services.get(name)
        if service is None:  # removed in between
            continue
        wanted = placement.replicas(service) or 0
        has = sum(1 for t in tasks.get(service["ID"], []) if runs(t) and t.get("NodeID") != node.id)
        if has < wanted:
            found[name] = f"{has}/{wanted}"
    return found


def _report(swarm: Swarm, services: Services, tasks: Tasks, node: Node, name: str, has: str) -> str:
    """What keeps a service from running elsewhere."""
    elsewhere = [t for t in tasks.get(services[name]["ID"], []) if t.get("NodeID") != node.id and not runs(t)]
    task = dict(elsewhere[0]) if elsewhere else None
    return describe(swarm, name, Verdict("failed", f"{has} replicas run elsewhere", task)) + "\n"


def _wait_empty(swarm: Swarm, node: Node, found: Burden, deadline: float, say: Say, alive: Callable[[], None]) -> None:
    last = ""
    while True:
        alive()
        services, tasks = all_services(swarm), all_tasks(swarm)
        # What a dead node last said of its tasks is no news.
        still = _left(services, tasks, node) if node.state == "ready" else []
        short = _short(services, tasks, node, found.movable)
        if not still and not short:
            stopped = f", but for {', '.join(sorted(found.stuck))}: stopped until it is back" if found.stuck else ""
            say(f"{node} is empty; what ran on it runs elsewhere{stopped}")
            return
        parts = [f"still there: {', '.join(still)}"] if still else []
        parts += [f"elsewhere: {', '.join(f'{name} {has}' for name, has in short.items())}"] if short else []
        line = f"{node}: {'; '.join(parts)}"
        if line != last:
            say(line)
            last = line
        if time.monotonic() > deadline:
            reports = "".join(_report(swarm, services, tasks, node, name, has) for name, has in short.items())
            raise SwarmError(
                f"{reports}{line}; the time is over, the node stays drained. Run again to wait longer, or bring it"
                f" back: playbooks/drain.yml -e node={node.name} -e state=active"
            )
        time.sleep(POLL_SECONDS)


def activate(swarm: Swarm, node: Node, timeout: float, say: Say, alive: Callable[[], None] = lambda: None) -> bool:
    """Let a node take tasks again, and wait until what runs on every node runs there; returns whether it changed.

    Raises:
        SwarmError: something that runs on every node did not come up on it.
    """
    if not set_availability(swarm, node, "active"):
        return False
    say(f"{node} takes tasks again")
    deadline = time.monotonic() + timeout
    while True:
        alive()
        services, tasks = all_services(swarm), all_tasks(swarm)
        here = [n for n in nodes(swarm) if n.id == node.id]
        missing = sorted(
            name
            for name, service in services.items()
            if "Global" in (service["Spec"].get("Mode") or {})
            and placement.eligible(service, here)
            and not any(t.get("NodeID") == node.id and runs(t) for t in tasks.get(service["ID"], []))
        )
        if not missing:
            return True
        if time.monotonic() > deadline:
            reports = []
            for name in missing:
                newest = next((t for t in tasks.get(services[name]["ID"], []) if t.get("NodeID") == node.id), None)
                reports.append(describe(swarm, name, Verdict("failed", f"does not run on {node.name}", newest)))
            report = "\n".join(reports)
            raise SwarmError(
                f"{node} takes tasks again, but not everything came up there:\n{report}\nCorrect what they say, or"
                f" empty the node again: playbooks/drain.yml -e node={node.name}"
            )
        time.sleep(POLL_SECONDS)
