# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether containers see what Swarm assigned: what is asked of the Swarm, and what is said where they do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gpu_machine import FIRST, PARTS, SECOND, GpuMachine

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node import gpu_use
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.gpu_use import Container, judge
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import gpu_agent, gpu_proof
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.gpu_proof import Node, prove

NODE = Node("gpu-1", "n1", (FIRST, SECOND), "1.19.1")


def shown(*uuids: str) -> str:
    return "".join(f"GPU {number}: NVIDIA A100 (UUID: {uuid})\n" for number, uuid in enumerate(uuids)) or "there is no nvidia-smi\n"


def resource(unit: str) -> dict[str, Any]:
    return {"NamedResourceSpec": {"Kind": "NVIDIA-GPU", "Value": unit}}


class Engine:
    """A manager of one node, at the edge of the API: it assigns units as SwarmKit does, from the beginning of the list.

    ``sees`` is what nvidia-smi shows in a container that was assigned some.
    """

    def __init__(self, sees: Callable[[list[str]], str] = lambda units: shown(*map(gpu_use.device_of, units))) -> None:
        self.api, self.sees = self, sees
        self.units = [FIRST, SECOND]
        self.node: dict[str, Any] = {"ID": "n1", "Status": {"State": "ready"}, "Spec": {"Availability": "active"}, "Description": {}}
        self.state, self.error, self.devices = "complete", "", []
        self.running: list[dict[str, Any]] = [{"ID": "t", "NodeID": "n1", "Status": {"State": "running"}}]
        self.left: list[str] = []
        self.made: dict[str, dict[str, Any]] = {}
        self.removed: list[str] = []
        self.jobs: dict[str, list[dict[str, Any]]] = {}

    def nodes(self) -> list[dict[str, Any]]:
        generic = [resource(unit) for unit in self.units] + [{"DiscreteResourceSpec": {"Kind": "SSD", "Value": 3}}]
        return [{**self.node, "Description": {"Hostname": "host-1", "Resources": {"GenericResources": generic}}}]

    def services(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        assert filters == {"label": "ai.sophia.mcp.proving=mcp"}
        return [{"ID": identity} for identity in self.left]

    def remove_service(self, identity: str) -> None:
        self.removed.append(identity)

    def _url(self, path: str) -> str:
        return path

    def _post_json(self, dummy: str, data: dict[str, Any], headers: dict[str, str]) -> Any:
        name = data["Name"]
        self.made[name] = data
        assert headers == {"X-Registry-Auth": "header"}
        reserved = data["TaskTemplate"]["Resources"].get("Reservations", {}).get("GenericResources", [])
        live = [task for task in self.running if task["Status"]["State"] != "shutdown"]
        taken = [each["NamedResourceSpec"]["Value"] for task in live for each in task.get("GenericResources", ())]
        free = [unit for unit in self.units if unit not in taken]
        self.jobs[name] = []
        for number in range(data["Mode"]["ReplicatedJob"]["TotalCompletions"]):
            units = [free.pop(0) for dummy in reserved]
            status = {"State": self.state, "Err": self.error}
            task = {"ID": f"{name}.{number}", "NodeID": "n1", "Status": status, "GenericResources": [resource(u) for u in units]}
            self.jobs[name].append(task)
        return type("Answer", (), {"json": staticmethod(lambda: {"ID": name})})

    def _raise_for_status(self, dummy: Any) -> None:
        return None

    def tasks(self, filters: dict[str, str] | None = None) -> list[dict[str, Any]]:
        return self.jobs[filters["service"]] if filters else self.running

    def words(self, identity: str) -> dict[str, Any]:
        task = next(task for tasks in self.jobs.values() for task in tasks if task["ID"] == identity)
        units = [each["NamedResourceSpec"]["Value"] for each in task["GenericResources"]]
        return {"assigned": ",".join(units), "said": self.sees(units), "nodes": self.devices}


def run(engine: Engine, monkeypatch: pytest.MonkeyPatch, node: Node = NODE, timeout: float = 20) -> tuple[dict[str, list[str]], list[str]]:
    monkeypatch.setattr(gpu_proof, "_words", engine.words)
    monkeypatch.setattr(gpu_proof.registries, "auth_headers", lambda api, images: dict.fromkeys(images, "header"))
    said: list[str] = []
    swarm: Any = engine
    return prove(swarm, "mcp", "os", [node], timeout, said.append), said


def refused(engine: Engine, monkeypatch: pytest.MonkeyPatch, node: Node = NODE, timeout: float = 20) -> str:
    with pytest.raises(SwarmError) as raised:
        run(engine, monkeypatch, node, timeout)
    assert set(engine.removed) == set(engine.made)
    return str(raised.value)


def test_every_free_unit_is_proved_and_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    engine.left = ["of-one-that-died"]
    proved, said = run(engine, monkeypatch)
    assert proved == {"gpu-1": [FIRST, SECOND]}
    assert said == ["proving 2 free units of GPUs, on gpu-1"]
    assert set(engine.removed) == {"of-one-that-died", *engine.made}
    with_gpu, without = list(engine.made.values())
    assert with_gpu["Mode"] == {"ReplicatedJob": {"MaxConcurrent": 2, "TotalCompletions": 2}}
    assert with_gpu["TaskTemplate"]["Resources"]["Reservations"] == {"GenericResources": [{"DiscreteResourceSpec": {"Kind": "NVIDIA-GPU", "Value": 1}}]}
    assert "Reservations" not in without["TaskTemplate"]["Resources"]
    for wish in (with_gpu, without):
        assert wish["TaskTemplate"]["Placement"] == {"Constraints": ["node.id==n1"]}
        assert "NVIDIA_VISIBLE_DEVICES=void" in wish["TaskTemplate"]["ContainerSpec"]["Env"]


def test_units_in_use_are_left_to_who_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    engine.running.append({"ID": "u", "NodeID": "n1", "Status": {"State": "running"}, "GenericResources": [resource(FIRST)]})
    engine.running.append({"ID": "v", "NodeID": "n1", "Status": {"State": "shutdown"}, "GenericResources": [resource(SECOND)]})
    assert run(engine, monkeypatch)[0] == {"gpu-1": [SECOND]}
    engine.running.append({"ID": "w", "NodeID": "n1", "Status": {"State": "starting"}, "GenericResources": [resource(SECOND)]})
    assert run(engine, monkeypatch)[0] == {"gpu-1": []}


def test_slots_are_proved_by_their_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    engine.units = [f"{FIRST}.1", f"{FIRST}.2"]
    assert run(engine, monkeypatch, Node("gpu-1", "n1", tuple(engine.units), "1.19.1"))[0] == {"gpu-1": engine.units}


@pytest.mark.parametrize(
    ("sees", "shows"),
    [
        (lambda units: shown(FIRST, SECOND) if units else shown(), f"{FIRST}, {SECOND}"),
        (lambda units: shown(FIRST) if units else shown(), FIRST),  # every replica on the same
        (lambda dummy: shown(), "none (there is no nvidia-smi)"),
    ],
    ids=["all", "the first", "none"],
)
def test_a_runtime_that_ignores_what_was_assigned_is_caught(monkeypatch: pytest.MonkeyPatch, sees: Any, shows: str) -> None:
    said = refused(Engine(sees), monkeypatch)
    assert (
        f"node gpu-1: Swarm assigned {SECOND} to a container of the proof, and it sees {shows}; NVIDIA's container toolkit there is 1.19.1;"
        " run playbooks/provision.yml, which installs nvidia_container_toolkit_version and writes swarm-resource into"
    ) in said


def test_a_container_without_a_reservation_that_sees_a_gpu_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(Engine(lambda units: shown(*units) if units else shown(FIRST)), monkeypatch)
    assert said.startswith(f"node gpu-1: Swarm assigned no GPU to a container of the proof, and it sees {FIRST};")
    engine = Engine()
    engine.devices = ["/dev/nvidia0"]
    assert "Swarm assigned no GPU to a container of the proof, and it sees /dev/nvidia0;" in refused(engine, monkeypatch)


def test_what_the_swarm_does_not_know_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    engine.units = [FIRST]
    said = refused(engine, monkeypatch)
    assert f"node gpu-1: the Swarm knows its GPUs as {FIRST}, and its daemon.json has {FIRST}, {SECOND}: the engine has not restarted since" in said
    assert engine.made == {}
    said = refused(Engine(), monkeypatch, Node("gpu-1", "gone", (FIRST,), "1.19.1"))
    assert said == "node gpu-1 is not in the Swarm, nor are its GPUs; run playbooks/provision.yml"


def test_a_node_that_takes_no_tasks_is_proved_later(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    engine.node["Spec"]["Availability"] = "drain"
    proved, said = run(engine, monkeypatch)
    assert (proved, engine.made) == ({}, {})
    assert said == ["node gpu-1 is set to drain: its GPUs are proved by the next run in which it takes tasks"]


def test_a_container_that_does_not_start_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    engine.state, engine.error = "failed", "unresolvable CDI devices nvidia.com/gpu=GPU-x.1"
    said = refused(engine, monkeypatch)
    assert f"node gpu-1: a container with {FIRST} did not run: unresolvable CDI devices nvidia.com/gpu=GPU-x.1; look at journalctl" in said
    assert "a container without a GPU did not run" in said
    engine = Engine()
    engine.state, engine.error = "pending", "no suitable node (insufficient resources on 1 node)"
    assert "did not run: not within 0 s: no suitable node (insufficient resources on 1 node);" in refused(engine, monkeypatch, timeout=0)


def test_problems_of_units_in_use_stop_it_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    assert refused(engine, monkeypatch, Node("gpu-1", "n1", (FIRST, SECOND), "1.19.1", ("it is wrong",))) == "it is wrong"
    assert engine.made == {}


def test_the_agent_says_what_it_was_assigned_and_sees(gpu_machine: GpuMachine) -> None:
    environment = {**os.environ, gpu_agent.ASSIGNED: FIRST}
    text = Path(gpu_agent.__file__).read_text("utf-8").replace("STAY_SECONDS = 5", "STAY_SECONDS = 0")
    said = json.loads(subprocess.run([sys.executable, "-c", text], env=environment, check=True, capture_output=True).stdout)
    assert (said["assigned"], gpu_proof.visible(said["said"])) == (FIRST, [FIRST, SECOND])
    environment["PATH"] = "/nowhere"
    said = json.loads(subprocess.run([sys.executable, "-c", text], env=environment, check=True, capture_output=True).stdout)
    assert said["said"] == "there is no nvidia-smi"
    (gpu_machine.programs / "nvidia-smi").unlink()
    (gpu_machine.programs / "nvidia-smi").write_text("no program", "utf-8")
    environment["PATH"] = str(gpu_machine.programs)
    said = json.loads(subprocess.run([sys.executable, "-c", text], env=environment, check=True, capture_output=True).stdout)
    assert said["said"].startswith("nvidia-smi did not run to its end: ")


# -- units in use --------------------------------------------------------------------------------


def test_a_part_of_a_gpu_is_what_is_seen() -> None:
    said = f"GPU 0: NVIDIA A100 (UUID: {FIRST})\n  MIG 1g.5gb      Device  0: (UUID: {PARTS[1]['uuid']})\n"
    assert judge("n", "1.19.1", "x", [PARTS[1]["uuid"]], gpu_proof.visible(said), said) == ""
    assert judge("n", "", "x", [PARTS[0]["uuid"]], gpu_proof.visible(said), said).endswith("docs/gpu.md has the rest")
    assert "toolkit there is missing" in judge("n", "", "x", [FIRST], [], "")
    assert "it sees none (nvidia-smi said nothing)" in judge("n", "", "x", [FIRST], [], "")


def test_two_slots_of_one_gpu_in_one_container() -> None:
    assert judge("n", "1.19.1", "x", [f"{FIRST}.1", f"{FIRST}.2"], [FIRST], shown(FIRST)) == ""


def test_containers_by_what_they_were_assigned() -> None:
    labels = {"com.docker.stack.namespace": "mcp", "com.docker.swarm.task.name": "mcp_memory.1.x"}
    inspected = [
        {"Id": "a", "Name": "/mcp_memory.1.x", "State": {"Pid": 7},
         "Config": {"Env": ["A=b", f"DOCKER_RESOURCE_NVIDIA-GPU={FIRST},{SECOND}"], "Labels": labels}},
        {"Id": "b", "Name": "/mine", "Config": {"Env": None, "Labels": None}, "State": {"Pid": 8}},
    ]  # fmt: skip
    assert gpu_use.containers(inspected) == [Container("a", "mcp_memory.1.x", "mcp", (FIRST, SECOND), 7), Container("b", "mine", "", (), 8)]


def test_containers_that_run_are_asked(gpu_machine: GpuMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """``docker exec`` asks this machine: it shows both GPUs to everybody."""
    docker = gpu_machine.programs / "docker"
    docker.write_text('#!/bin/sh\n[ "$2" = mute ] && exit 127\nshift 2\nexec "$@"\n', "utf-8")
    docker.chmod(0o755)
    has = {2: [0], 3: [1], 4: [0], 5: [7]}
    monkeypatch.setattr(gpu_use, "devices", lambda pid: has.get(pid, []))
    for number, (uuid, gpu) in enumerate(zip((FIRST, SECOND), gpu_machine.state["gpus"], strict=True)):
        information = f"Model: \t\t NVIDIA A100\nGPU UUID: \t {uuid}\nBus Type: \t PCIe\nDevice Minor: \t {number}\n"
        (gpu_machine.proc / "gpus" / gpu["pci"] / "information").write_text(information, "utf-8")
    both, one = Container("both", "a", "mcp", (FIRST, SECOND), 1), Container("one", "b", "mcp", (FIRST,), 1)
    right, another = Container("mute", "c", "mcp", (FIRST,), 2), Container("mute", "d", "mcp", (FIRST,), 3)
    nothing, unknown = Container("mute", "e", "mcp", (FIRST,), 1), Container("mute", "f", "mcp", (FIRST,), 5)
    part = Container("mute", "g", "mcp", (PARTS[0]["uuid"],), 2)
    none, taken = Container("none", "h", "mcp", (), 1), Container("none", "i", "mcp", (), 4)
    exporter = Container("none", "j", "metrics", (), 4)
    every = [both, one, right, another, nothing, unknown, part, none, taken, exporter]
    wrong, silent = gpu_use.wrong_uses(every, "mcp", "gpu-1", "1.19.1")
    assert silent == ["f (mute)", "g (mute)"]
    assert [said.partition("; NVIDIA's container toolkit")[0] for said in wrong] == [
        f"node gpu-1: Swarm assigned {FIRST} to b (one), and it sees {FIRST}, {SECOND}",
        f"node gpu-1: Swarm assigned {FIRST} to d (mute), and it sees {SECOND}",
        f"node gpu-1: Swarm assigned {FIRST} to e (mute), and it sees none (there is no nvidia-smi)",
        "node gpu-1: Swarm assigned no GPU to i (none), and it sees /dev/nvidia0",
    ]


def test_what_daemon_json_advertises() -> None:
    assert gpu_use.advertised(json.dumps({"node-generic-resources": [f"NVIDIA-GPU={FIRST}", "SSD=3"]})) == [FIRST]
    assert gpu_use.advertised("") == gpu_use.advertised("{") == []


def test_a_change_of_anything_is_proved_anew(gpu_machine: GpuMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = gpu_machine.programs / "docker"
    docker.write_text('#!/bin/sh\n[ "$1" = info ] && echo 28.0.1 node-id\n', "utf-8")
    docker.chmod(0o755)
    for name in ("DAEMON", "CONFIG", "SLOTS"):
        monkeypatch.setattr(gpu_use, name, str(tmp_path / name))
    (tmp_path / "DAEMON").write_text(json.dumps({"node-generic-resources": [f"NVIDIA-GPU={FIRST}"]}), "utf-8")
    marker = tmp_path / "marker"

    def look() -> dict[str, Any]:
        return gpu_use.look("mcp", "gpu-1", str(marker))

    first = look()
    assert (first["proved"], first["toolkit"], first["node_id"], first["units"]) == (False, "1.19.1", "node-id", [FIRST])
    marker.write_text(first["marker"], "utf-8")
    assert look()["proved"]
    (tmp_path / "CONFIG").write_text("mode", "utf-8")
    assert not look()["proved"]
    (tmp_path / "CONFIG").unlink()
    gpu_machine.write(toolkit="1.20.0")
    assert not look()["proved"]
