# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Spread replicas evenly again, one at a time: Swarm does it when tasks start, and never afterwards (moby#24103).

A replica is moved by asking for one more, which the scheduler puts where the service has fewest, and then for one
less, which Swarm takes from where it has most. Nothing else of the service is touched. The only replica of a service
moves by an update that starts first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import placement
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError, patiently
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.convergence import Verdict, describe, judge
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.drain import gone, renew, update_service
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.nodes import Node, nodes

POLL_SECONDS = 0.3
# No fleet needs more; a scheduler that puts replicas back where they came from must not keep this busy for ever.
MOST_MOVES = 100

Say = Callable[[str], None]


@dataclass
class Rebalanced:
    """What was done.

    Attributes:
        moves: one line each.
        left: services that could not be made even, to why; those that are never moved are not among them.
    """

    moves: list[str] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)


def rebalance(
    swarm: Swarm,
    fleet: str,
    only: Iterable[str],
    timeout: float,
    say: Say,
    alive: Callable[[], None] = lambda: None,
    check: bool = False,
) -> Rebalanced:
    """Move replicas until all is even.

    Args:
        swarm: the manager.
        fleet: whose services.
        only: services to move, without the fleet's prefix; all where empty.
        timeout: seconds for each move.
        say: takes progress lines.
        alive: called at each look; raises where the work is to end.
        check: tell the first move of each service and do nothing.

    Raises:
        SwarmError: a replica did not come up; its service has as many as before.
    """
    done, chosen = Rebalanced(), {f"{fleet}_{name}" for name in only}
    known = set(swarm.services(fleet))
    if unknown := sorted(chosen - known):
        raise SwarmError(
            f"only: {', '.join(unknown)}: no such service; there are: {', '.join(sorted(known)) or 'none'}"
        )
    skip = known - chosen if chosen else set()
    for dummy in range(MOST_MOVES):
        services, tasks, there = swarm.services(fleet), swarm.stack_tasks(fleet), nodes(swarm)
        move = placement.next_move(services, tasks, there, skip)
        if move is None:
            break
        if check:
            done.moves.append(str(move))
            skip.add(move.service)
            continue
        say(str(move))
        before = _excess(services[move.service], tasks, there)
        load = _load(services, tasks, there)
        (_spread if move.way == "spread" else _single)(swarm, move.service, timeout, alive)
        services, tasks = swarm.services(fleet), swarm.stack_tasks(fleet)
        if move.service not in services:
            raise gone(move.service)
        now = _excess(services[move.service], tasks, there)
        better = now < before if move.way == "spread" else _load(services, tasks, there) < load
        if better:
            done.moves.append(str(move))
        else:  # the scheduler counts what this does not: other services, resources
            done.left[move.service] = f"Swarm put it no better ({move.why})"
            say(f"{move.service}: {done.left[move.service]}; left as it is")
            skip.add(move.service)
    return done


def _excess(service: dict[str, Any], tasks: dict[str, list[dict[str, Any]]], there: list[Node]) -> int:
    able = placement.eligible(service, there)
    return placement.uneven(service, placement.count(tasks.get(service["ID"], []), able), able)


def _load(services: dict[str, Any], tasks: dict[str, list[dict[str, Any]]], there: list[Node]) -> int:
    """How far the nodes are apart: the sum of squares of their tasks."""
    able = [node for node in there if node.ready]
    totals = dict.fromkeys((node.id for node in able), 0)
    for service in services.values():
        for node_id, number in placement.count(tasks.get(service["ID"], []), able).items():
            totals[node_id] += number
    return sum(number * number for number in totals.values())


def _scale(swarm: Swarm, name: str, number: int, has: int) -> None:
    """Set a service's replicas, where it still has so many."""

    def put(spec: dict[str, Any]) -> bool:
        if placement.replicas({"Spec": spec}) != has:
            return False
        spec["Mode"]["Replicated"]["Replicas"] = number
        return True

    update_service(swarm, name, put)


def _wait(swarm: Swarm, name: str, stamp: str, timeout: float, alive: Callable[[], None]) -> str:
    """Until a service has converged; returns what is wrong.

    Raises:
        SwarmError: it is gone.
    """
    start = time.monotonic()
    while True:
        alive()
        listed = patiently(lambda: swarm.api.services(filters={"name": name}, status=True))
        service = next((item for item in listed if item["Spec"]["Name"] == name), None)
        if service is None:
            raise gone(name)
        tasks = swarm.tasks(name)
        waited = time.monotonic() - start
        verdict = judge(service, tasks, stamp, waited)
        if verdict.state == "converged":
            return ""
        if verdict.state == "failed":
            return describe(swarm, name, verdict)
        if waited > timeout:
            task = verdict.task or next(iter(tasks), None)
            return describe(swarm, name, Verdict("failed", f"{verdict.note} replicas after {timeout:.0f} s", task))
        time.sleep(POLL_SECONDS)


def _spread(swarm: Swarm, name: str, timeout: float, alive: Callable[[], None]) -> None:
    service = update_service(swarm, name, lambda spec: False)
    had, stamp = placement.replicas(service) or 0, str(service["UpdatedAt"])
    _scale(swarm, name, had + 1, has=had)
    try:
        problem = _wait(swarm, name, stamp, timeout, alive)
    finally:  # an autoscaler's word in between is the newer one
        _scale(swarm, name, had, has=had + 1)
    if problem := problem or _wait(swarm, name, stamp, timeout, alive):
        raise SwarmError(f"{problem}\nIt has {had} replicas as before; run again when the cause is gone.")


def _single(swarm: Swarm, name: str, timeout: float, alive: Callable[[], None]) -> None:
    stamp = renew(swarm, name)
    if problem := _wait(swarm, name, stamp, timeout, alive):
        raise SwarmError(f"{problem}\nIts replica before that goes on; run again when the cause is gone.")
