# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Swarm of several nodes at the edge of the engine's API: it schedules as Swarm does, at once, by a clock of its own.

``Cluster`` is the collection's own ``Swarm`` with an engine that is none.
"""

from __future__ import annotations

import copy
import time as real
from collections.abc import Callable
from typing import Any

import pytest
from docker.errors import APIError, NotFound

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import (
    client,
    convergence,
    drain,
    nodes,
    rebalance,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.nodes import HOST, Node, find

Json = dict[str, Any]
FLEET = "mcp"
BEGIN = 1767225600.0  # 2026-01-01T00:00:00Z


class Clock:
    """Stands for ``time``: it goes by when somebody sleeps, and a little with each look at it."""

    strptime = staticmethod(real.strptime)

    def __init__(self) -> None:
        self.now = BEGIN
        self.then: list[tuple[float, Callable[[], None]]] = []

    def monotonic(self) -> float:
        return self.now

    time = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        due = [what for when, what in self.then if when <= self.now]
        self.then = [(when, what) for when, what in self.then if when > self.now]
        for what in due:
            what()

    def stamp(self) -> str:
        return real.strftime("%Y-%m-%dT%H:%M:%S", real.gmtime(self.now)) + f".{int(self.now % 1 * 1e9):09d}Z"


class Engine:
    """A manager's engine.

    Attributes:
        there: nodes by id, as the engine tells them.
        live: services by name.
        tasks_: all tasks, oldest first.
        broken: services none of whose new tasks run, to the error that each shows.
        refuse: called before each change with what it is and what of; raises what the engine would.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.there: dict[str, Json] = {}
        self.live: dict[str, Json] = {}
        self.tasks_: list[Json] = []
        self.broken: dict[str, str] = {}
        self.refuse: Callable[[str, str], None] = lambda what, whom: None
        self.demotes = True

    # -- nodes -------------------------------------------------------------------------------------------------------

    def add(self, name: str, role: str = "worker", state: str = "ready", **labels: str) -> None:
        manager = {"Reachability": "reachable" if state == "ready" else "unreachable", "Addr": "10.0.0.1:2377"}
        self.there[f"id-{name}"] = {
            "ID": f"id-{name}",
            "Version": {"Index": 1},
            "Spec": {"Role": role, "Availability": "active", "Labels": {HOST: name, **labels}},
            "Description": {"Hostname": f"host-{name}"},
            "Status": {"State": state, "Addr": "10.0.0.2"},
            **({"ManagerStatus": manager} if role == "manager" else {}),
        }

    def nodes(self) -> list[Json]:
        return copy.deepcopy(list(self.there.values()))

    def inspect_node(self, identity: str) -> Json:
        if identity not in self.there:
            raise no_such("node", identity)
        return copy.deepcopy(self.there[identity])

    def update_node(self, identity: str, version: int, spec: Json) -> None:
        self.refuse("node", identity)
        node = self.there[identity]
        if version != node["Version"]["Index"]:
            raise out_of_sequence()
        node["Version"]["Index"] += 1
        if self.demotes and spec["Role"] != node["Spec"]["Role"]:
            node["ManagerStatus"] = {"Reachability": "reachable"} if spec["Role"] == "manager" else {}
        node["Spec"] = copy.deepcopy(spec)
        self._schedule()

    def remove_node(self, identity: str, force: bool) -> None:
        self.refuse("remove", identity)
        del self.there[identity]

    # -- services ----------------------------------------------------------------------------------------------------

    def serve(self, name: str, on: str = "", replicas: int | None = 1, **spec: Any) -> None:
        """A service of the fleet whose tasks run on nodes ``on``, by their names."""
        mode = {"Global": {}} if replicas is None else {"Replicated": {"Replicas": replicas}}
        self.live[f"{FLEET}_{name}"] = service = {
            "ID": f"s-{name}",
            "Version": {"Index": 1},
            "UpdatedAt": self.clock.stamp(),
            "Spec": {
                "Name": f"{FLEET}_{name}",
                "Mode": mode,
                "TaskTemplate": {"ContainerSpec": {"Image": name}, **spec},
                "UpdateConfig": {"Order": "start-first"},
            },
        }
        for where in on.split():
            self._start(service, f"id-{where}")

    def services(self, filters: Json | None = None, status: bool = False) -> list[Json]:
        name = (filters or {}).get("name", "")
        found = copy.deepcopy([s for s in self.live.values() if s["Spec"]["Name"].startswith(name)])
        for service in found:
            replicated = service["Spec"]["Mode"].get("Replicated")
            desired = replicated["Replicas"] if replicated else len(self._able())
            service["ServiceStatus"] = {"DesiredTasks": desired}
        return found

    def tasks(self, filters: Json | None = None) -> list[Json]:
        wanted = (filters or {}).get("service")
        return copy.deepcopy([t for t in self.tasks_ if not wanted or self.live[wanted]["ID"] == t["ServiceID"]])

    def inspect_service(self, name: str) -> Json:
        if name not in self.live:
            raise no_such("service", name)
        return copy.deepcopy(self.live[name])

    def _url(self, path: str, identity: str) -> str:
        return path.format(identity)

    def _post_json(self, url: str, data: Json, params: Json) -> Exception | None:
        identity = url.split("/")[2]
        service = next((s for s in self.live.values() if s["ID"] == identity), None)
        try:
            self.refuse("service", identity)
        except Exception as error:
            return error
        if service is None:
            return no_such("service", identity)
        if params["version"] != service["Version"]["Index"]:
            return out_of_sequence()
        service["Version"]["Index"] += 1
        self.clock.now += 0.001
        service["UpdatedAt"] = self.clock.stamp()
        service["Spec"] = copy.deepcopy(data)
        self._schedule()
        return None

    @staticmethod
    def _raise_for_status(answer: Exception | None) -> None:
        if answer:
            raise answer

    # -- tasks -------------------------------------------------------------------------------------------------------

    def _able(self) -> list[str]:
        return [i for i, n in self.there.items() if n["Status"]["State"] == "ready" and n["Spec"]["Availability"] == "active"]

    def _mine(self, service: Json) -> list[Json]:
        return [t for t in self.tasks_ if t["ServiceID"] == service["ID"] and t["DesiredState"] == "running"]

    def _start(self, service: Json, where: str = "") -> None:
        name = service["Spec"]["Name"].removeprefix(f"{FLEET}_")
        error = self.broken.get(name, "" if where else "no suitable node")
        self.clock.now += 0.001
        self.tasks_.append(
            {
                "ID": f"t{len(self.tasks_)}-{name}",
                "ServiceID": service["ID"],
                "NodeID": where if not error or "Global" in service["Spec"]["Mode"] else "",
                "DesiredState": "running",
                "CreatedAt": self.clock.stamp(),
                "Spec": copy.deepcopy(service["Spec"]["TaskTemplate"]),
                "Status": {"State": "pending" if error else "running", "Err": error},
            }
        )

    @staticmethod
    def _end(task: Json) -> None:
        task["DesiredState"] = "shutdown"
        if task["Status"]["State"] == "running":
            task["Status"]["State"] = "shutdown"

    def _emptiest(self, service: Json) -> str:
        count = {i: [sum(t["NodeID"] == i for t in self._mine(service)), sum(t["NodeID"] == i for t in self.tasks_)] for i in self._able()}
        return min(count, key=lambda i: (*count[i], i)) if count else ""

    def _schedule(self) -> None:
        """What each service's specification asks for, on nodes that take tasks."""
        drained = [i for i, n in self.there.items() if n["Spec"]["Availability"] == "drain"]
        for service in self.live.values():
            wanted = service["Spec"]["TaskTemplate"]
            for task in [t for t in self._mine(service) if t["NodeID"] in drained]:
                self._end(task)
            replicated = service["Spec"]["Mode"].get("Replicated")
            if not replicated:
                has = [t["NodeID"] for t in self._mine(service)]
                for where in self._able():
                    if where not in has:
                        self._start(service, where)
                continue
            old = [t for t in self._mine(service) if t["Spec"] != wanted]
            while len([t for t in self._mine(service) if t["Spec"] == wanted]) < replicated["Replicas"]:
                self._start(service, self._emptiest(service))
            new = [t for t in self._mine(service) if t["Spec"] == wanted]
            while len(new) > replicated["Replicas"]:
                where = [t["NodeID"] for t in new]
                new.sort(key=lambda t: (t["Status"]["State"] == "pending", where.count(t["NodeID"]), t["NodeID"]))
                self._end(new.pop())
            for task in old[: sum(t["Status"]["State"] == "running" for t in new)]:  # start-first
                self._end(task)

    def on(self, service: str) -> list[str]:
        """Names of the nodes on which it runs."""
        running = [t for t in self._mine(self.live[f"{FLEET}_{service}"]) if t["Status"]["State"] == "running"]
        return sorted(t["NodeID"].removeprefix("id-") for t in running)


class Cluster(Swarm):
    """A manager, node ``a``."""

    node_id = "id-a"

    def __init__(self, clock: Clock) -> None:
        self.api: Any = Engine(clock)

    def node(self, name: str) -> Node:
        return find(nodes.nodes(self), name)


def out_of_sequence() -> APIError:
    return refusal("rpc error: code = Unknown desc = update out of sequence", 500)


def refusal(explanation: str, status: int = 400) -> APIError:
    response: Any = type("Response", (), {"status_code": status, "url": "u", "reason": "refused"})()
    return APIError("refused", response=response, explanation=explanation)


def no_such(kind: str, identity: str) -> NotFound:
    response: Any = type("Response", (), {"status_code": 404, "url": "u", "reason": "not found"})()
    return NotFound("not found", response=response, explanation=f"{kind} {identity} not found")


def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A Swarm without nodes, whose time is that of the code that is tested too."""
    clock = Clock()
    for module in (client, drain, rebalance, nodes, convergence):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(convergence, "docker_command", lambda *dummy: (1, ""))
    return Cluster(clock)
