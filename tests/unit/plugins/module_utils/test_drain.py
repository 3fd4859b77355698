# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said while nodes are drained, taken back, demoted and removed, and replicas moved; and what is left then."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from docker.errors import APIError

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import drain, nodes, rebalance
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError

OLD = "2026-01-01T00:00:00Z"


class Swarm:
    """Two nodes at the edge of the engine's API. ``react`` is the scheduler: it is called after each change."""

    node_id = "a"

    def __init__(self) -> None:
        self.api = self
        self.members = {name: node(name) for name in ("a", "b")}
        self.live: dict[str, dict[str, Any]] = {}
        self.run: list[dict[str, Any]] = []
        self.refusal = ""
        self.react: Callable[[], None] = lambda: None

    def add(self, name: str, replicas: int | None, *on: str) -> None:
        mode = {"Global": {}} if replicas is None else {"Replicated": {"Replicas": replicas}}
        spec = {"Name": name, "Mode": mode, "TaskTemplate": {}, "UpdateConfig": {"Order": "start-first"}}
        status = {"DesiredTasks": len(on) if replicas is None else replicas}
        self.live[name] = {"ID": f"id-{name}", "UpdatedAt": OLD, "Version": {"Index": 1}, "Spec": spec, "ServiceStatus": status}
        self.run += [self.task(name, where) for where in on]

    def task(self, name: str, where: str) -> dict[str, Any]:
        identity = f"{name}{where}{len(self.run)}"
        running: dict[str, Any] = {"DesiredState": "running", "Status": {"State": "running"}, "CreatedAt": OLD}
        return {"ID": identity, "ServiceID": f"id-{name}", "NodeID": where, "Spec": copy.deepcopy(self.live[name]["Spec"]["TaskTemplate"]), **running}

    def on(self, where: str) -> list[str]:
        return [task["ServiceID"].removeprefix("id-") for task in self.run if task["NodeID"] == where]

    # -- the engine ------------------------------------------------------------------------------

    def nodes(self) -> list[dict[str, Any]]:
        return copy.deepcopy(list(self.members.values()))

    def inspect_node(self, name: str) -> dict[str, Any]:
        return copy.deepcopy(self.members[name])

    def update_node(self, name: str, dummy: int, spec: dict[str, Any]) -> None:
        if self.refusal:
            raise APIError("refused", explanation=self.refusal)
        self.members[name]["Spec"] = spec
        self.react()

    def remove_node(self, dummy: str, force: bool) -> None:
        raise APIError("refused", explanation=self.refusal)

    def services(self, stack: str = "", **dummy: Any) -> Any:
        return copy.deepcopy(self.live if stack else list(self.live.values()))

    def tasks(self, name: str = "") -> list[dict[str, Any]]:
        return [task for task in self.run if not name or task["ServiceID"] == f"id-{name}"]

    def stack_tasks(self, dummy: str) -> dict[str, list[dict[str, Any]]]:
        return {service["ID"]: self.tasks(name) for name, service in self.live.items()}

    def inspect_service(self, name: str) -> dict[str, Any]:
        return copy.deepcopy(self.live[name])

    def _url(self, dummy: str, identity: str) -> str:
        return identity

    def _post_json(self, url: str, data: dict[str, Any], params: Any) -> None:
        service = next(service for service in self.live.values() if service["ID"] == url)
        service["Spec"] = data
        service["ServiceStatus"]["DesiredTasks"] = (data["Mode"].get("Replicated") or {}).get("Replicas", 0)
        self.react()

    def _raise_for_status(self, dummy: Any) -> None:
        pass

    def node_name(self, name: str) -> str:
        return name


def node(name: str, role: str = "worker", availability: str = "active") -> dict[str, Any]:
    spec = {"Role": role, "Availability": availability, "Labels": {nodes.HOST: name}}
    return {"ID": name, "Version": {"Index": 1}, "Spec": spec, "Description": {"Hostname": name}, "Status": {"State": "ready"}}


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> Swarm:
    for module in (drain, nodes, rebalance):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.001)
    return Swarm()


def member(swarm: Swarm, name: str) -> nodes.Node:
    return nodes.find(nodes.nodes(swarm), name)  # type: ignore[arg-type]


def empty(swarm: Swarm, timeout: float = 5) -> tuple[dict[str, Any], list[str]]:
    said: list[str] = []
    return drain.drain(swarm, member(swarm, "a"), False, timeout, said.append), said  # type: ignore[arg-type]


def availability(swarm: Swarm) -> str:
    return str(swarm.members["a"]["Spec"]["Availability"])


def test_what_runs_on_one_node_alone_starts_elsewhere_before_it_ends(swarm: Swarm) -> None:
    swarm.add("mcp_git", 1, "a")
    seen: list[tuple[str, list[str]]] = []

    def scheduler() -> None:
        if swarm.live["mcp_git"]["Spec"]["TaskTemplate"].get("ForceUpdate") and not swarm.on("b"):
            swarm.run = [swarm.task("mcp_git", "b")]
        seen.append((availability(swarm), swarm.on("b")))

    swarm.react = scheduler
    done, said = empty(swarm)
    assert done == {"changed": True, "moved": ["mcp_git"], "stopped": []}
    assert seen == [("pause", []), ("pause", ["mcp_git"]), ("drain", ["mcp_git"])]
    assert said == ["mcp_git: starting elsewhere before it ends on a", "a (a) is empty; what ran on it runs elsewhere"]


def test_what_does_not_start_elsewhere_stays_where_it_was(swarm: Swarm) -> None:
    swarm.add("mcp_git", 1, "a")
    with pytest.raises(SwarmError) as refused:
        empty(swarm, timeout=0)
    assert str(refused.value) == "service mcp_git: did not start elsewhere in time\na (a) takes tasks as before; what ran on it goes on."
    assert (availability(swarm), swarm.on("a")) == ("active", ["mcp_git"])


def test_what_can_run_nowhere_else_keeps_a_node_from_being_emptied(swarm: Swarm) -> None:
    swarm.add("mcp_git", 1, "a")
    swarm.live["mcp_git"]["Spec"]["TaskTemplate"]["Placement"] = {"Constraints": ["node.id == a"]}
    with pytest.raises(SwarmError) as refused:
        empty(swarm)
    assert "a (a) cannot be emptied without stopping what only it can run; nothing was changed:" in str(refused.value)
    assert availability(swarm) == "active"


def test_a_node_that_is_not_empty_in_time_stays_drained(swarm: Swarm) -> None:
    swarm.add("mcp_time", 2, "a", "b")
    with pytest.raises(SwarmError) as late:
        empty(swarm, timeout=0)
    assert str(late.value) == (
        "a (a): still there: mcp_time; elsewhere: mcp_time 1/2; the time is over, the node stays drained."
        " Run again to wait longer, or bring it back: playbooks/drain.yml -e node=a -e state=active"
    )
    assert availability(swarm) == "drain"


def test_a_node_is_taken_back_when_what_runs_everywhere_runs_there(swarm: Swarm) -> None:
    swarm.add("mcp_edge", None, "b")
    swarm.members["a"]["Spec"]["Availability"] = "drain"
    said: list[str] = []
    with pytest.raises(SwarmError) as late:
        drain.activate(swarm, member(swarm, "a"), 0, said.append)  # type: ignore[arg-type]
    assert "a (a) takes tasks again, but not everything came up there:\nservice mcp_edge: does not run on a" in str(late.value)
    swarm.members["a"]["Spec"]["Availability"] = "drain"
    swarm.run.append(swarm.task("mcp_edge", "a"))
    assert drain.activate(swarm, member(swarm, "a"), 0, said.append)  # type: ignore[arg-type]
    assert said == ["a (a) takes tasks again"] * 2
    assert not drain.activate(swarm, member(swarm, "a"), 0, said.append)  # type: ignore[arg-type]


# -- roles ---------------------------------------------------------------------------------------


def test_a_manager_cannot_demote_itself(swarm: Swarm) -> None:
    for name in swarm.members:
        swarm.members[name] |= {"ManagerStatus": {"Reachability": "reachable"}, "Spec": node(name, "manager")["Spec"]}
    with pytest.raises(SwarmError, match=r"a \(a\) cannot demote itself; ask another manager"):
        nodes.set_role(swarm, member(swarm, "a"), "worker", print)  # type: ignore[arg-type]


def test_only_what_answers_becomes_a_manager(swarm: Swarm) -> None:
    swarm.members["b"]["Status"]["State"] = "down"
    with pytest.raises(SwarmError, match=r"b \(b\) is down: only a node that answers can become a manager"):
        nodes.set_role(swarm, member(swarm, "b"), "manager", print)  # type: ignore[arg-type]


def test_a_node_that_lives_is_not_removed(swarm: Swarm) -> None:
    with pytest.raises(SwarmError, match=r"b \(b\) is ready: it must leave first \(playbooks/leave.yml -e node=b does all"):
        nodes.remove(swarm, member(swarm, "b"), force=True)  # type: ignore[arg-type]


def test_a_node_that_the_swarm_does_not_let_go(swarm: Swarm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "ROLE_SECONDS", 0)
    swarm.members["b"]["Status"]["State"] = "down"
    swarm.refusal = "node b is a cluster manager"
    with pytest.raises(SwarmError, match=r"b \(b\) was not removed: node b is a cluster manager"):
        nodes.remove(swarm, member(swarm, "b"), force=True)  # type: ignore[arg-type]


def test_a_change_that_the_swarm_refuses(swarm: Swarm) -> None:
    swarm.refusal = "invalid label"
    with pytest.raises(SwarmError, match="node b: the Swarm refused the change: invalid label"):
        nodes.update(swarm, "b", lambda spec: spec["Labels"].update(x="y"))  # type: ignore[arg-type]


# -- moves ---------------------------------------------------------------------------------------


def move(swarm: Swarm, timeout: float) -> rebalance.Rebalanced:
    return rebalance.rebalance(swarm, "mcp", [], timeout, print)  # type: ignore[arg-type]


def test_a_replica_that_does_not_come_up_leaves_as_many_as_before(swarm: Swarm) -> None:
    swarm.add("mcp_time", 2, "a", "a")
    with pytest.raises(SwarmError) as late:
        move(swarm, timeout=0)
    assert str(late.value).startswith("service mcp_time: 2/3 replicas after 0 s\n")
    assert str(late.value).endswith("\nIt has 2 replicas as before; run again when the cause is gone.")
    assert swarm.live["mcp_time"]["Spec"]["Mode"]["Replicated"]["Replicas"] == 2


def test_a_single_replica_that_does_not_start_elsewhere_goes_on(swarm: Swarm) -> None:
    for name in ("mcp_git", "mcp_time"):
        swarm.add(name, 1, "a")
    with pytest.raises(SwarmError) as late:
        move(swarm, timeout=0)
    assert str(late.value).endswith("\nIts replica before that goes on; run again when the cause is gone.")
    assert sorted(swarm.on("a")) == ["mcp_git", "mcp_time"]


def test_a_service_that_is_removed_while_it_is_moved(swarm: Swarm) -> None:
    swarm.add("mcp_time", 2, "a", "a")
    swarm.services = lambda stack="", **dummy: copy.deepcopy(swarm.live) if stack else []  # type: ignore[method-assign]
    with pytest.raises(SwarmError, match="service mcp_time: was removed"):
        move(swarm, timeout=5)
