# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one look at a service says about its update."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import convergence
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import stack as stacks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.convergence import (
    SETTLED,
    ended,
    judge,
    settle,
)

BEFORE, APPLIED, LATER = "2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z", "2026-01-01T11:00:05Z"
PORT = "host-mode port already in use on 1 node"
UNHEALTHY = "task: non-zero exit (137): dockerexec: unhealthy container"


def service(image: str = "new", desired: int = 2, **update: str) -> dict[str, Any]:
    return {
        "Spec": {"TaskTemplate": {"ContainerSpec": {"Image": image}}},
        "ServiceStatus": {"DesiredTasks": desired},
        "UpdateStatus": update or None,
    }


def task(state: str, image: str = "new", desired: str = "running", created: str = LATER, error: str = "") -> dict[str, Any]:
    status = {"State": state, "Err": error}
    return {
        "ID": f"{image}-{state}",
        "Spec": {"ContainerSpec": {"Image": image}},
        "Status": status,
        "DesiredState": desired,
        "CreatedAt": created,
    }


RUNNING, OLD = task("running"), task("running", "old", created=BEFORE)
FAILED = task("failed", desired="shutdown", error="task: non-zero exit (1)")


@pytest.mark.parametrize(
    ("given", "tasks", "waited", "state"),
    [
        # A new service.
        (service(), [], 0, "waiting"),
        (service(), [RUNNING], 1, "waiting"),
        (service(), [RUNNING, RUNNING], 1, "converged"),
        (service(), [task("starting"), RUNNING], 1, "waiting"),
        (service(desired=0), [], 1, "converged"),
        # An update that goes on: new tasks run, an old one has not left yet.
        (service(), [RUNNING, RUNNING, OLD], 1, "waiting"),
        (service(), [OLD, OLD], 1, "waiting"),
        (service(State="updating", StartedAt=LATER), [RUNNING, RUNNING], 1, "waiting"),
        (service(State="completed", StartedAt=LATER), [RUNNING, RUNNING], 1, "converged"),
        # The status of an earlier update says nothing about this one.
        (service(State="rollback_completed", StartedAt=BEFORE), [RUNNING, RUNNING], 1, "converged"),
        (service(State="updating", StartedAt=BEFORE), [RUNNING, RUNNING], 1, "converged"),
        # It went back by itself: what runs is not what was asked for.
        (service(State="rollback_started", StartedAt=LATER), [FAILED, OLD, OLD], 5, "failed"),
        (service("old", State="rollback_completed", StartedAt=LATER), [OLD, OLD], 5, "failed"),
        (service(State="paused", StartedAt=LATER), [FAILED, OLD], 5, "failed"),
        # Tasks that end: once may be bad luck, three times is a broken server.
        (service(), [RUNNING, FAILED], 5, "waiting"),
        (service(), [FAILED, FAILED, FAILED], 9, "failed"),
        (service(), [RUNNING, RUNNING, FAILED], 9, "converged"),
        # Failures before this deploy are history.
        (service(), [RUNNING, *[task("failed", created=BEFORE)] * 5], 1, "waiting"),
        # It had all its time to become ready.
        (service(), [task("starting"), task("failed", desired="shutdown", error=UNHEALTHY)], 70, "failed"),
        # No node takes it.
        (service(), [task("pending", error="no suitable node")], 5, "waiting"),
        (service(), [task("pending", error="no suitable node")], 30, "failed"),
        (service(), [task("pending", error="no suitable node"), OLD], 30, "failed"),
        (service(), [task("pending", error="no suitable node", created="2999-01-01T00:00:00Z")], 30, "waiting"),
        # The port that it waits for is held by the task before it, until that has ended.
        (service(), [task("pending", error=PORT), OLD], 30, "waiting"),
        (service(), [task("pending", error=PORT), RUNNING], 30, "failed"),
    ],
)
def test_verdicts(given: dict[str, Any], tasks: list[dict[str, Any]], waited: float, state: str) -> None:
    assert judge(given, tasks, APPLIED, waited).state == state


@pytest.mark.parametrize(
    ("error", "reserves", "age", "state"),
    [
        ("no suitable node (insufficient resources on 2 nodes)", True, 30, "waiting"),  # the one before has not ended yet
        ("no suitable node (insufficient resources on 2 nodes)", True, 50, "failed"),
        ("no suitable node (insufficient resources on 2 nodes)", False, 30, "failed"),  # memory: nobody gives that back
        ("no suitable node (scheduling constraints not satisfied on 2 nodes)", True, 30, "failed"),
    ],
)
def test_a_gpu_that_another_task_holds_is_waited_for(error: str, reserves: bool, age: float, state: str) -> None:
    given = service(desired=1)
    unit = {"DiscreteResourceSpec": {"Kind": "NVIDIA-GPU", "Value": 1}}
    given["Spec"]["TaskTemplate"]["Resources"] = {"Reservations": {"GenericResources": [unit] if reserves else []}}
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - age))
    assert judge(given, [task("pending", error=error, created=created)], BEFORE, age).state == state


def test_a_failure_points_at_the_task() -> None:
    verdict = judge(service(), [FAILED, FAILED, FAILED], APPLIED, 9)
    assert verdict.task is FAILED
    assert verdict.note == "3 tasks ended"


def test_the_stack_file_is_yaml_and_json() -> None:
    import yaml

    document = {"version": "3.8", "services": {"a": {"image": "x", "environment": {"A": "yes: no"}}}}
    assert yaml.safe_load(stacks.document(document)) == document


@pytest.mark.parametrize(
    ("value", "written"), [("pa$word", "pa$$word"), ("${HOME}", "$${HOME}"), ("a$$b$", "a$$$$b$$"), ("5 €", "5 €")]
)
def test_what_looks_like_a_variable_is_none(value: str, written: str) -> None:
    """docker stack deploy replaces variables in values, not in keys."""
    document = {"services": {"a": {"environment": {"A$B": value}, "command": ["run", value], "replicas": 1}}}
    (service,) = json.loads(stacks.document(document).partition("\n")[2])["services"].values()
    assert service == {"environment": {"A$B": written}, "command": ["run", written], "replicas": 1}
    assert stacks.read(stacks.document(document)) == document


def test_an_update_that_went_back_points_at_the_task_that_made_it_so() -> None:
    left, ended = task("complete", "old", "shutdown") | {"ID": "left"}, task("failed", error=UNHEALTHY) | {"ID": "cause"}
    given = service("old", State="rollback_completed", StartedAt=LATER, Message="rolled back due to failure of task cause")
    verdict = judge(given, [left, ended, OLD, OLD], APPLIED, 9)
    assert verdict.task is ended
    assert verdict.note == "it ran, but never became ready; rolled back due to failure of task cause"


def a_job(mode: dict[str, Any], iteration: int = 7, desired: int = 0, condition: str = "any") -> dict[str, Any]:
    return {
        "Spec": {"Mode": mode, "TaskTemplate": {"ContainerSpec": {}, "RestartPolicy": {"Condition": condition}}},
        "ServiceStatus": {"DesiredTasks": desired},
        "JobStatus": {"JobIteration": {"Index": iteration}},
    }


def of_job(state: str, iteration: int = 7) -> dict[str, Any]:
    return task(state) | {"JobIteration": {"Index": iteration}}


REPLICATED, GLOBAL = {"ReplicatedJob": {"TotalCompletions": 2}}, {"GlobalJob": {}}


@pytest.mark.parametrize(
    ("given", "tasks", "state"),
    [
        (a_job(REPLICATED), [], "waiting"),
        (a_job(REPLICATED), [of_job("complete"), of_job("running")], "waiting"),
        (a_job(REPLICATED), [of_job("complete"), of_job("complete")], "converged"),
        # What an earlier iteration completed says nothing of this one.
        (a_job(REPLICATED), [of_job("complete", 3), of_job("complete", 3)], "waiting"),
        (a_job(REPLICATED), [of_job("failed")], "waiting"),
        (a_job(REPLICATED), [of_job("failed")] * 3, "failed"),
        (a_job(REPLICATED, condition="none"), [of_job("failed")], "failed"),
        (a_job(GLOBAL, desired=1), [of_job("complete")], "waiting"),
        (a_job(GLOBAL, desired=0), [of_job("complete")], "converged"),
    ],
)
def test_jobs_converge_when_this_iteration_has_completed(
    given: dict[str, Any], tasks: list[dict[str, Any]], state: str
) -> None:
    assert judge(given, tasks, APPLIED, 5).state == state


def test_a_task_that_is_never_started_again_fails_at_once() -> None:
    given = service()
    given["Spec"]["TaskTemplate"]["RestartPolicy"] = {"Condition": "none"}
    assert judge(given, [FAILED], APPLIED, 1).state == "failed"


@pytest.mark.parametrize(("labels", "watched"), [({}, True), ({SETTLED: "true"}, False)])
def test_what_has_done_its_work_when_it_is_ready_is_not_watched(labels: dict[str, str], watched: bool) -> None:
    young = task("running", created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    found = service(desired=1) | {"ID": "1"}
    found["Spec"]["Labels"] = labels
    swarm: Any = SimpleNamespace(services=lambda dummy: {"f_a": found}, stack_tasks=lambda dummy: {"1": [young]})
    said: list[str] = []
    assert settle(swarm, "f", {"f_a"}, 1, said.append) == []
    assert bool(said) == watched


def test_what_ended_before_the_watch_began_but_after_it_was_ready_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate takes its time; a server may come up, be asked, and end before anybody watches it."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    over = task("failed", created=now)
    over["Status"]["Timestamp"] = now
    found = service(desired=1) | {"ID": "1"}
    swarm: Any = SimpleNamespace(services=lambda dummy: {"f_a": found}, stack_tasks=lambda dummy: {"1": [over]})
    monkeypatch.setattr(convergence, "describe", lambda dummy, name, verdict: f"{name}: {verdict.note}")
    assert settle(swarm, "f", {"f_a"}, 0, lambda dummy: None, known=ended(swarm, "f")) == []
    assert settle(swarm, "f", {"f_a"}, 0, lambda dummy: None, known=set()) == [
        "f_a: it became ready and then ended, after 0 s"
    ]


@pytest.mark.parametrize(("waited", "state"), [(1, "waiting"), (6, "converged")])
def test_a_global_service_without_a_task_may_be_about_to_get_one(waited: float, state: str) -> None:
    given = service(desired=0)
    given["Spec"]["Mode"] = {"Global": {}}
    assert judge(given, [], APPLIED, waited).state == state
