# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch an update until every service runs what it should, or say why it does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, docker_command

POLL_SECONDS = 0.5
LOG_LINES = 12
# A task that ended this often under the new specification will not come up by itself.
FAILED_TASKS = 3
UNHEALTHY = "unhealthy container"
NO_NODE_SECONDS = 20.0
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


def judge(service: dict[str, Any], tasks: list[dict[str, Any]], updated_at: str, waited: float) -> Verdict:
    """Judge THIS update of a service.

    Args:
        service: as listed, with ``ServiceStatus``.
        tasks: its tasks, newest first.
        updated_at: ``UpdatedAt`` of the service before it was applied; an update status older than that is
            of an earlier update. Empty for a new service.
        waited: seconds since it was applied.
    """
    update = service.get("UpdateStatus") or {}
    ours = update if update.get("StartedAt", "") > updated_at else {}
    mine = [task for task in tasks if same_task(service, task)]
    ended = [t for t in tasks if t["Status"]["State"] in ENDED and t["CreatedAt"] > updated_at]
    if ours.get("State") in UPDATE_FAILED:
        return Verdict("failed", ours.get("Message") or ours["State"], ended[0] if ended else None)
    desired = (service.get("ServiceStatus") or {}).get("DesiredTasks", 0)
    running = sum(1 for t in mine if t["Status"]["State"] == "running" and t["DesiredState"] == "running")
    leaving = sum(1 for t in tasks if not same_task(service, t) and t["Status"]["State"] == "running")
    if running >= desired and not leaving and ours.get("State") != "updating":
        return Verdict("converged", f"{running}/{desired}")
    bad = [task for task in ended if same_task(service, task)]
    if bad and UNHEALTHY in bad[0]["Status"].get("Err", ""):  # it had its whole time to become ready
        return Verdict("failed", "it ran, but never became ready", bad[0])
    if len(bad) >= FAILED_TASKS:
        return Verdict("failed", f"{len(bad)} tasks ended", bad[0])
    pending = [task for task in mine if task["Status"]["State"] == "pending" and task["Status"].get("Err")]
    if pending and waited > NO_NODE_SECONDS:
        return Verdict("failed", "no node can run it", pending[0])
    return Verdict("waiting", f"{running}/{desired}", next(iter(bad or pending), None))


def describe(swarm: Swarm, name: str, verdict: Verdict) -> str:
    """Service, node, exit code, error and the last lines it wrote."""
    lines = [f"service {name}: {verdict.note}"]
    task = verdict.task
    if task:
        status = task["Status"]
        code = (status.get("ContainerStatus") or {}).get("ExitCode")
        lines.append(f"  task {task['ID'][:12]} on {swarm.node_name(task.get('NodeID', ''))}: {status['State']}")
        if code is not None:
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
    log = (state.get("Health") or {}).get("Log") or []
    return str(log[-1].get("Output", "")).strip()[:300] if log else ""


def watch(
    swarm: Swarm,
    stack: str,
    before: dict[str, str],
    timeout: float,
    say: Callable[[str], None],
) -> tuple[dict[str, float], list[str]]:
    """Wait until every service of the stack has converged.

    Args:
        swarm: the manager.
        stack: its name.
        before: service name to ``UpdatedAt`` before the stack was applied.
        timeout: seconds.
        say: takes progress lines.

    Returns:
        Seconds to convergence by service, and one report per service that failed or did not get there.
    """
    start = time.monotonic()
    converged: dict[str, float] = {}
    last_said = ""
    while True:
        services = swarm.services(stack)
        waited = time.monotonic() - start
        waiting: dict[str, Verdict] = {}
        failed: list[str] = []
        for name, service in services.items():
            if name in converged:
                continue
            verdict = judge(service, swarm.tasks(name), before.get(name, ""), waited)
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
        short = ", ".join(sorted(name.removeprefix(f"{stack}_") for name in waiting))
        line = f"{len(converged)}/{len(services)} services converged, waiting for {short}"
        if line != last_said:
            say(line)
            last_said = line
        if waited > timeout:
            after = f"replicas after {timeout:.0f} s"
            late = {n: Verdict("failed", f"{v.note} {after}", v.task or _newest(swarm, n)) for n, v in waiting.items()}
            return converged, [describe(swarm, name, verdict) for name, verdict in late.items()]
        time.sleep(POLL_SECONDS)


def _newest(swarm: Swarm, name: str) -> dict[str, Any] | None:
    return next(iter(swarm.tasks(name)), None)
