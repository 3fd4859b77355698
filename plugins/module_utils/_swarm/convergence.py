# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch an update until every service runs what it should, or say why it does not."""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import (
    LABEL,
    Swarm,
    docker_command,
)

POLL_SECONDS = 0.3
LOG_LINES = 12
# How long a global service without any task may be about to get one.
GLOBAL_SECONDS = 5.0
# A task that ended this often under the new specification will not come up by itself.
FAILED_TASKS = 3
UNHEALTHY = "unhealthy container"
# A service with this deploy label has done all that it is for when it is ready.
SETTLED = f"{LABEL}.settled"
NO_NODE_SECONDS = 10.0
# A GPU that is wanted may be one that another task gives back, for which that has its stop_grace_period.
FREED_SECONDS = 40.0
NO_RESOURCES = "insufficient resources"
OWN_PORT = "host-mode port already in use"
ENDED = ("failed", "rejected", "orphaned", "complete")
UPDATE_FAILED = ("paused", "rollback_started", "rollback_paused", "rollback_completed")


@dataclass(frozen=True)
class Verdict:
    """What one look at a service says: ``state`` is converged, waiting or failed."""

    state: str
    note: str = ""
    task: dict[str, Any] | None = None


def same_task(service: dict[str, Any], task: dict[str, Any]) -> bool:
    """Whether a task was made from the service's present specification."""
    wanted, got = service["Spec"]["TaskTemplate"], task.get("Spec") or {}
    return bool(
        wanted.get("ContainerSpec") == got.get("ContainerSpec")
        and wanted.get("ForceUpdate", 0) == got.get("ForceUpdate", 0)
    )


def _gone_back(message: str, ended: list[dict[str, Any]]) -> Verdict:
    """Swarm gave an update up. Its message names the task that made it so; tasks that only left are no cause."""
    named = [task for task in ended if task["ID"] in message]
    broken = [task for task in ended if task["Status"]["State"] in ("failed", "rejected")]
    task = next(iter(named + broken + ended), None)
    if task and UNHEALTHY in task["Status"].get("Err", ""):
        message = f"it ran, but never became ready; {message}"
    return Verdict("failed", message, task)


def job(service: dict[str, Any]) -> bool:
    """Whether a service's tasks are meant to end."""
    mode = service["Spec"].get("Mode") or {}
    return "ReplicatedJob" in mode or "GlobalJob" in mode


def _judge_job(service: dict[str, Any], tasks: list[dict[str, Any]]) -> Verdict:
    """A job has converged when this iteration of it has completed; its first tasks tell nothing of this one."""
    iteration = ((service.get("JobStatus") or {}).get("JobIteration") or {}).get("Index", 0)
    mine = [t for t in tasks if (t.get("JobIteration") or {}).get("Index", 0) == iteration]
    done = sum(1 for task in mine if task["Status"]["State"] == "complete")
    replicated = service["Spec"]["Mode"].get("ReplicatedJob")
    status = service.get("ServiceStatus") or {}
    wanted = (replicated or {}).get("TotalCompletions") or status.get("DesiredTasks", 0) + (0 if replicated else done)
    bad = [task for task in mine if task["Status"]["State"] in ("failed", "rejected")]
    if done and done >= wanted:
        return Verdict("converged", f"{done}/{wanted} completed")
    policy = service["Spec"]["TaskTemplate"].get("RestartPolicy") or {}
    if bad and (policy.get("Condition") == "none" or len(bad) >= FAILED_TASKS):
        return Verdict("failed", f"{len(bad)} of its tasks failed", bad[0])
    return Verdict("waiting", f"{done}/{wanted} completed", bad[0] if bad else None)


def judge(service: dict[str, Any], tasks: list[dict[str, Any]], updated_at: str, waited: float) -> Verdict:
    """Judge THIS update of a service.

    Args:
        service: as listed, with ``ServiceStatus``.
        tasks: its tasks, newest first.
        updated_at: ``UpdatedAt`` of the service before it was applied; an update status older than that is
            of an earlier update. Empty for a new service.
        waited: seconds since it was applied.
    """
    if job(service):
        return _judge_job(service, tasks)
    update = service.get("UpdateStatus") or {}
    ours = update if update.get("StartedAt", "") > updated_at else {}
    mine = [task for task in tasks if same_task(service, task)]
    ended = [t for t in tasks if t["Status"]["State"] in ENDED and t["CreatedAt"] > updated_at]
    if ours.get("State") in UPDATE_FAILED:
        return _gone_back(str(ours.get("Message") or ours["State"]), ended)
    desired = (service.get("ServiceStatus") or {}).get("DesiredTasks", 0)
    running = sum(1 for t in mine if t["Status"]["State"] == "running" and t["DesiredState"] == "running")
    leaving = sum(1 for t in tasks if not same_task(service, t) and t["Status"]["State"] == "running")
    # Between a global service's tasks none is wanted for a moment; where no node is to run it, that lasts.
    between = not desired and "Global" in (service["Spec"].get("Mode") or {}) and waited < GLOBAL_SECONDS
    if running >= desired and not between and not leaving and ours.get("State") != "updating":
        return Verdict("converged", f"{running}/{desired}")
    bad = [task for task in ended if same_task(service, task)]
    if bad and UNHEALTHY in bad[0]["Status"].get("Err", ""):  # it had its whole time to become ready
        return Verdict("failed", "it ran, but never became ready", bad[0])
    policy = service["Spec"]["TaskTemplate"].get("RestartPolicy") or {}
    if bad and policy.get("Condition") == "none":  # nothing will be started in its place
        return Verdict("failed", "its task ended and is not started again", bad[0])
    if len(bad) >= FAILED_TASKS:
        return Verdict("failed", f"{len(bad)} tasks ended", bad[0])
    pending = [task for task in mine if task["Status"]["State"] == "pending" and task["Status"].get("Err")]
    # One that was made later has its own time to wait.
    hopeless = [t for t in pending if _age(t) > _patience(service, t, bool(leaving))]
    if hopeless and waited > NO_NODE_SECONDS:
        return Verdict("failed", "no node can run it", hopeless[0])
    return Verdict("waiting", f"{running}/{desired}", next(iter(bad or pending), None))


def _patience(service: dict[str, Any], task: dict[str, Any], leaving: bool) -> float:
    """For how many seconds a task that no node takes is waited for.

    Args:
        leaving: whether tasks of before still run.
    """
    if leaving and OWN_PORT in task["Status"]["Err"]:  # it gets the port when the one before has left it
        return float("inf")
    reservations = (service["Spec"]["TaskTemplate"].get("Resources") or {}).get("Reservations") or {}
    freed = reservations.get("GenericResources") and NO_RESOURCES in task["Status"]["Err"]
    return FREED_SECONDS if freed else NO_NODE_SECONDS


def describe(swarm: Swarm, name: str, verdict: Verdict) -> str:
    """Service, node, exit code, error and the last lines it wrote."""
    lines = [f"service {name}: {verdict.note}"]
    task = verdict.task
    if task:
        status = task["Status"]
        code = (status.get("ContainerStatus") or {}).get("ExitCode")
        lines.append(f"  task {task['ID'][:12]} on {swarm.node_name(task.get('NodeID', ''))}: {status['State']}")
        if code is not None and status["State"] in ENDED:
            lines[-1] += f", exit code {code}"
        if status.get("Err"):
            lines.append(f"  error: {status['Err']}")
        health = _health(swarm, task)
        if health:
            lines.append(f"  health check: {health}")
        code, output = docker_command("service", "logs", "--raw", "--tail", str(LOG_LINES), task["ID"])
        if code == 0 and output.strip():
            lines += ["  last lines:"] + [f"    {line[:300]}" for line in output.strip().splitlines()[-LOG_LINES:]]
    return "\n".join(lines)


def _health(swarm: Swarm, task: dict[str, Any]) -> str:
    """What the health check said last, where the container is on this node and still there."""
    container = (task["Status"].get("ContainerStatus") or {}).get("ContainerID")
    if not container or task.get("NodeID") != swarm.node_id:
        return ""
    try:
        state = swarm.api.inspect_container(container)["State"]
    except Exception:  # the container may be gone at any moment, in as many ways as the SDK has errors
        return ""
    health = state.get("Health") or {}
    log = health.get("Log") or []
    if not log:
        return ""
    # A container that is stopped as unhealthy may end with exit code 0: only this tells that it was not its own wish.
    said = str(log[-1].get("Output", "")).strip()[:300] or f"exit code {log[-1].get('ExitCode')}"
    return f"{health.get('Status')}: {said}"


def watch(
    swarm: Swarm,
    stack: str,
    before: dict[str, str],
    timeout: float,
    say: Callable[[str], None],
    alive: Callable[[], None] = lambda: None,
) -> tuple[dict[str, float], list[str]]:
    """Wait until every service of the stack has converged.

    Args:
        swarm: the manager.
        stack: its name.
        before: service name to ``UpdatedAt`` before the stack was applied.
        timeout: seconds.
        say: takes progress lines.
        alive: called at each look; raises where the wait is to end.

    Returns:
        Seconds to convergence by service, and one report per service that failed or did not get there.
    """
    start = time.monotonic()
    converged: dict[str, float] = {}
    last_said = ""
    while True:
        alive()
        services, tasks = swarm.services(stack), swarm.stack_tasks(stack)
        waited = time.monotonic() - start
        waiting: dict[str, Verdict] = {}
        failed: list[str] = []
        for name, service in services.items():
            if name in converged:
                continue
            verdict = judge(service, tasks.get(service["ID"], []), before.get(name, ""), waited)
            if verdict.state == "converged":
                converged[name] = round(waited, 1)
            elif verdict.state == "failed":
                failed.append(describe(swarm, name, verdict))
            else:
                waiting[name] = verdict
        if failed:
            return converged, failed
        if not waiting:
            say(f"{len(services)}/{len(services)} services converged after {waited:.0f} s")
            return converged, []
        short = ", ".join(f"{name.removeprefix(f'{stack}_')} {waiting[name].note}" for name in sorted(waiting))
        line = f"{len(converged)}/{len(services)} services converged, waiting for {short}"
        if line != last_said:
            say(line)
            last_said = line
        if waited > timeout:
            after = f"replicas after {timeout:.0f} s"
            late = {
                name: Verdict(
                    "failed", f"{v.note} {after}", v.task or next(iter(tasks.get(services[name]["ID"], [])), None)
                )
                for name, v in waiting.items()
            }
            return converged, [describe(swarm, name, verdict) for name, verdict in late.items()]
        time.sleep(POLL_SECONDS)


def _settled(service: dict[str, Any]) -> bool:
    return SETTLED in (service["Spec"].get("Labels") or {})


def ended(swarm: Swarm, stack: str) -> set[str]:
    """Ids of a stack's tasks that have ended by now."""
    return {t["ID"] for found in swarm.stack_tasks(stack).values() for t in found if t["Status"]["State"] in ENDED}


def settle(
    swarm: Swarm,
    stack: str,
    names: set[str],
    seconds: float,
    say: Callable[[str], None],
    alive: Callable[[], None] = lambda: None,
    known: set[str] | None = None,
) -> list[str]:
    """Watch tasks that came up until each has lived for ``seconds``; returns a report per service whose task ended.

    A server that ends a while after it became ready would otherwise be found by its users. ``known`` are tasks that had
    ended when the services converged (``ended``): what ends between then and this watch counts.
    """
    services = swarm.services(stack)
    names = {name for name in names if name in services and not job(services[name]) and not _settled(services[name])}
    start, said = time.monotonic(), False
    while True:
        alive()
        services, tasks = swarm.services(stack), swarm.stack_tasks(stack)
        mine = {
            name: [t for t in tasks.get(services[name]["ID"], []) if same_task(services[name], t)] for name in names
        }
        over = {n: [t for t in found if t["Status"]["State"] in ENDED] for n, found in mine.items()}
        if known is None:  # what failed before it came up was judged already
            known = {task["ID"] for found in over.values() for task in found}
        new = {name: bad for name, found in over.items() if (bad := [t for t in found if t["ID"] not in known])}
        if new:
            return [
                describe(
                    swarm,
                    name,
                    Verdict("failed", f"it became ready and then ended, after {_lived(bad[-1]):.0f} s", bad[-1]),
                )
                for name, bad in sorted(new.items())
            ]
        young = [t for found in mine.values() for t in found if t["DesiredState"] == "running" and _ran(t) < seconds]
        if not young or time.monotonic() - start > seconds:
            return []
        if not said:
            say(f"watching what is new until it has run for {seconds:.0f} s")
            said = True
        time.sleep(1)


def _moment(stamp: str) -> float:
    """Seconds since 1970 of an engine's time stamp, whole ones."""
    return calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))


def _age(task: dict[str, Any]) -> float:
    return time.time() - _moment(task["CreatedAt"])


def _ran(task: dict[str, Any]) -> float:
    """Seconds since its state changed last: since it became ready, of one that runs."""
    return time.time() - _moment(task["Status"].get("Timestamp") or task["CreatedAt"])


def _lived(task: dict[str, Any]) -> float:
    return _moment(task["Status"]["Timestamp"]) - _moment(task["CreatedAt"])
