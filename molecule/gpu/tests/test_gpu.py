# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs as Swarm's scheduler hands them out, proved to be what containers see; what is said when they are not.

In the order of the file: what is proved at first is what later tests change.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from conftest import MANAGER, NODES, WORKER, Gpus

MARKER = "/var/lib/mcp-swarm/gpu-proof.json"


def units(gpus: Gpus, node: str) -> list[str]:
    shown = json.loads(gpus.sh(MANAGER, f"docker node inspect {node}"))[0]["Description"]["Resources"].get("GenericResources") or []
    assert {each["NamedResourceSpec"]["Kind"] for each in shown} <= {"NVIDIA-GPU"}
    return [each["NamedResourceSpec"]["Value"] for each in shown]


def test_the_swarm_knows_the_gpus(gpus: Gpus) -> None:
    (shared,) = gpus.uuids(WORKER)
    assert units(gpus, MANAGER) == gpus.uuids(MANAGER)
    assert units(gpus, WORKER) == [f"{shared}.1", f"{shared}.2"]


def test_the_toolkit_is_pinned_and_set_up(gpus: Gpus) -> None:
    for node, mode in ((MANAGER, "auto"), (WORKER, "cdi")):
        held = gpus.sh(node, "apt-mark showhold").split()
        packages = {"nvidia-container-toolkit", "nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1"}
        assert packages <= set(held)
        assert gpus.sh(node, "dpkg-query -W -f '${Version}\\n' " + " ".join(packages)).split() == ["1.19.1-1"] * 4
        config = gpus.sh(node, "cat /etc/nvidia-container-runtime/config.toml")
        assert 'swarm-resource = "DOCKER_RESOURCE_NVIDIA-GPU"' in config
        assert f'mode = "{mode}"' in config
        daemon = json.loads(gpus.sh(node, "cat /etc/docker/daemon.json"))
        assert daemon["default-runtime"] == "nvidia"
        assert gpus.sh(node, "docker info --format '{{.DefaultRuntime}}'").strip() == "nvidia"
        assert all(gpu["persistence"] for gpu in gpus.state(node)["gpus"])
    assert gpus.sh(WORKER, "systemctl is-enabled nvidia-persistenced; systemctl is-active nvidia-persistenced").split() == ["enabled", "active"]
    assert gpus.sh(MANAGER, "ls /etc/cdi 2>/dev/null", check=False) == ""
    spec = json.loads(gpus.sh(WORKER, "cat /etc/cdi/mcp-swarm-slots.json"))
    assert [device["name"] for device in spec["devices"]] == units(gpus, WORKER)


def test_a_check_of_what_is_there_finds_no_change(gpus: Gpus) -> None:
    played = gpus.play("provision.yml", "--check")
    assert (played.code, played.changed) == (0, 0), played.output[-3000:]


def test_it_is_proved_once(gpus: Gpus) -> None:
    for node in NODES:
        gpus.sh(node, f"rm -f {MARKER}")
    first = gpus.play("gpu_proof.yml")
    assert (first.code, first.changed) == (0, 2), first.output[-3000:]
    for node in NODES:
        assert json.loads(gpus.sh(node, f"cat {MARKER}"))["units"] == units(gpus, node)
    assert gpus.sh(MANAGER, "docker service ls --quiet") == ""
    second = gpus.play("gpu_proof.yml")
    assert (second.code, second.changed) == (0, 0), second.output[-3000:]


def test_each_reservation_is_a_gpu_of_its_own_and_one_too_many_waits(gpus: Gpus) -> None:
    gpus.serve("three", 3, f"--constraint node.hostname=={MANAGER}")
    try:
        gpus.until("two run, one waits", lambda: gpus.states("three") == {"running": 2, "pending": 1})
        seen = gpus.seen("three")
        assert set(seen) == set(gpus.uuids(MANAGER))
        for unit, said in seen.items():
            assert said.count("UUID") == 1
            assert unit in said
        (waiting,) = [task for task in gpus.tasks("three") if task["Status"]["State"] == "pending"]
        assert "insufficient resources" in waiting["Status"]["Err"]
    finally:
        gpus.remove("three")


def test_slots_share_a_gpu(gpus: Gpus) -> None:
    (shared,) = gpus.uuids(WORKER)
    gpus.serve("shared", 3, f"--constraint node.hostname=={WORKER}")
    try:
        gpus.until("two share, one waits", lambda: gpus.states("shared") == {"running": 2, "pending": 1})
        seen = gpus.seen("shared")
        assert set(seen) == {f"{shared}.1", f"{shared}.2"}
        assert all(said.count("UUID") == 1 and shared in said for said in seen.values())
    finally:
        gpus.remove("shared")


def test_the_scheduler_spreads_over_nodes_with_free_gpus(gpus: Gpus) -> None:
    gpus.serve("four", 4)
    try:
        gpus.until("all run", lambda: gpus.states("four") == {"running": 4})
        assert set(gpus.seen("four")) == {*units(gpus, MANAGER), *units(gpus, WORKER)}
    finally:
        gpus.remove("four")


def test_two_gpus_in_one_container(gpus: Gpus) -> None:
    gpus.serve("pair", 1, gpus=2)
    try:
        gpus.until("it runs", lambda: gpus.states("pair") == {"running": 1})
        ((unit, said),) = gpus.seen("pair").items()
        assert said.count("UUID") == len({each.split(".")[0] for each in unit.split(",")})
    finally:
        gpus.remove("pair")


def test_a_node_is_emptied_of_a_gpu_s_user_only_where_another_is_free(gpus: Gpus) -> None:
    gpus.serve("four", 4)
    try:
        gpus.until("every unit is in use", lambda: gpus.states("four") == {"running": 4})
        before = {task["ID"] for task in gpus.tasks("four")}
        refused = gpus.play("drain.yml", node=WORKER)
        assert refused.code != 0
        assert "four: reserves NVIDIA-GPU, and no other node that can run it has enough free" in refused.output
        assert {task["ID"] for task in gpus.tasks("four")} == before
        gpus.sh(MANAGER, "docker service scale --detach four=2")
        # What is to end has its GPU until it has ended.
        gpus.until("two are left", lambda: sum(len(gpus.sh(node, "docker ps --quiet").split()) for node in NODES) == 2)
        moved = gpus.play("drain.yml", node=WORKER)
        assert moved.code == 0, moved.output[-3000:]
        assert set(gpus.seen("four")) == set(gpus.uuids(MANAGER))
    finally:
        gpus.play("drain.yml", node=WORKER, state="active")
        gpus.remove("four")


def test_without_a_reservation_there_is_none(gpus: Gpus) -> None:
    gpus.serve("none", 2, gpus=0)
    try:
        gpus.until("both run", lambda: gpus.states("none") == {"running": 2})
        assert "UUID" not in "".join(gpus.seen("none").values())
    finally:
        gpus.remove("none")


@pytest.mark.parametrize("more", [{"ignores_swarm": True}, {"toolkit": "1.18.2"}], ids=["a fault", "1.18"])
def test_a_runtime_that_ignores_what_was_assigned_is_caught(gpus: Gpus, changed: Callable[..., None], more: dict[str, object]) -> None:
    changed(MANAGER, **more)
    gpus.sh(MANAGER, f"rm {MARKER}")
    played = gpus.play("gpu_proof.yml")
    assert played.code != 0
    for uuid in gpus.uuids(MANAGER):
        assert f"node {MANAGER}: Swarm assigned {uuid} to a container of the proof, and it sees none (there is no nvidia-smi)" in played.output
    assert f"NVIDIA's container toolkit there is {more.get('toolkit', '1.19.1')}; run playbooks/provision.yml" in played.output
    assert gpus.sh(MANAGER, f"cat {MARKER}", check=False) == ""
    assert gpus.sh(MANAGER, "docker service ls --quiet") == ""
    changed(MANAGER, ignores_swarm=False, toolkit="1.19.1")
    again = gpus.play("gpu_proof.yml")
    assert (again.code, again.changed) == (0, 1), again.output[-3000:]


@pytest.mark.parametrize("wish", ["all of them", "void"])
def test_units_in_use_are_proved_where_they_are(gpus: Gpus, changed: Callable[..., None], wish: str) -> None:
    """A container that was given another GPU than Swarm's, by an environment that a faulty runtime looks at instead; or none."""
    both = gpus.uuids(MANAGER) if wish != "void" else []
    changed(MANAGER, ignores_swarm=True)
    gpus.serve("right", 1, f"--constraint node.hostname=={MANAGER}", f"--env NVIDIA_VISIBLE_DEVICES={','.join(both) or 'void'}")
    try:
        gpus.until("it runs", lambda: gpus.states("right") == {"running": 1})
        (assigned,) = gpus.seen("right")
        gpus.sh(MANAGER, f"rm {MARKER}")
        played = gpus.play("gpu_proof.yml")
        assert played.code != 0
        assert f"node {MANAGER}: Swarm assigned {assigned} to right.1" in played.output
        shown = ", ".join(both) or "none (there is no nvidia-smi)"
        assert f"and it sees {shown}; NVIDIA's container toolkit there is 1.19.1" in played.output
    finally:
        gpus.remove("right")
    changed(MANAGER, ignores_swarm=False)
    assert gpus.play("gpu_proof.yml").code == 0


def test_a_gpu_that_vanished_is_named_before_anything_is_changed(gpus: Gpus, changed: Callable[..., None]) -> None:
    cards = gpus.state(MANAGER)["gpus"]
    changed(MANAGER, gpus=[cards[0], {**cards[1], "hidden": True}])
    before = gpus.sh(MANAGER, "cat /etc/docker/daemon.json")
    played = gpus.play("provision.yml")
    assert played.code != 0
    assert "1 error on 1 node; nothing was changed." in played.output
    assert "the GPU at 0000:0f:00.0 does not answer: the driver does not show it" in played.output
    assert gpus.sh(MANAGER, "cat /etc/docker/daemon.json") == before


def test_another_number_than_the_inventorys_is_named(gpus: Gpus) -> None:
    played = gpus.play("preflight.yml", "--limit", MANAGER, mcp_node_gpus=3)
    assert played.code != 0
    assert "mcp_node_gpus is 3, and nvidia-smi shows 2" in played.output


def test_a_toolkit_that_ignores_swarm_is_refused(gpus: Gpus) -> None:
    played = gpus.play("provision.yml", nvidia_container_toolkit_version="1.18.2")
    assert played.code != 0
    assert "nvidia_container_toolkit_version: 1.18.2: at least 1.19.0." in played.output
    assert gpus.sh(MANAGER, "dpkg-query -W -f '${Version}' nvidia-container-toolkit") == "1.19.1-1"


def test_a_repository_that_cannot_be_reached_is_one_message(gpus: Gpus) -> None:
    played = gpus.play("provision.yml", nvidia_container_toolkit_version="1.99.0", nvidia_container_toolkit_repository="http://10.95.9.11:9/deb", preflight_reach=False)
    assert played.code != 0
    assert "NVIDIA's container toolkit 1.99.0 could not be installed; the engine was not touched." in played.output
    gpus.sh(MANAGER, "rm -f /etc/apt/sources.list.d/nvidia-container-toolkit.sources")
    gpus.sh(WORKER, "rm -f /etc/apt/sources.list.d/nvidia-container-toolkit.sources")


def test_an_upgrade_of_the_engine_keeps_its_gpus(gpus: Gpus) -> None:
    before = {node: gpus.sh(node, "cat /etc/docker/daemon.json") for node in NODES}
    played = gpus.play("engine.yml")
    assert played.code == 0, played.output[-3000:]
    assert {node: gpus.sh(node, "cat /etc/docker/daemon.json") for node in NODES} == before
    assert units(gpus, MANAGER) == gpus.uuids(MANAGER)
