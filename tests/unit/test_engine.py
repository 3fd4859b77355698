# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""daemon.json is the same whichever playbook writes it: what any role contributes is always there.

The playbooks themselves run, in check mode, on this machine; what a node is is told to them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from gpu_machine import FIRST, SECOND, GpuMachine

ROOT = Path(__file__).resolve().parents[2]
FACTS = {
    "distribution": "Debian",
    "distribution_version": "12",
    "distribution_major_version": "12",
    "distribution_release": "bookworm",
    "service_mgr": "systemd",
    "python": {"executable": "/usr/bin/python3"},
    "mcp_node": {"container": True, "open_files": 32768, "audit": False, "addresses": [], "ssh_ports": [], "packages": []},
}
BASELINE = {"icc": False, "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 32768, "Hard": 32768}}}


def play(playbooks: list[dict[str, Any]], directory: Path, *tags: str, **variables: Any) -> tuple[int, str]:
    """Exit code and output of plays that change nothing here."""
    wrapper = directory / "wrapper.yml"
    facts = {"name": "Facts", "hosts": "all", "gather_facts": False, "tags": ["always"], "tasks": [
        {"name": "Say what a node is", "ansible.builtin.set_fact": {**FACTS, "cacheable": True}}
    ]}  # fmt: skip
    wrapper.write_text(yaml.safe_dump([facts, *playbooks]), "utf-8")
    command = [
        str(Path(sys.executable).parent / "ansible-playbook"), str(wrapper), "-i", str(ROOT / "inventories" / "local"),
        "--check", "--diff", "--tags", ",".join(tags), "-e", json.dumps({"ansible_become": False, "plan_secrets": False, **variables}),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def written(playbook: str, directory: Path, **variables: Any) -> dict[str, Any]:
    """The daemon.json that a playbook would write here."""
    result = directory / "daemon.json"
    keep = {"name": "Keep", "hosts": "all", "gather_facts": False, "tags": ["always"], "tasks": [
        {"name": "Keep what would be written", "check_mode": False, "delegate_to": "localhost",
         "ansible.builtin.copy": {"content": "{{ docker_engine_files.diff | map(attribute='after') | first | default('') }}",
                                  "dest": str(result), "mode": "0600"}}
    ]}  # fmt: skip
    code, said = play([{"import_playbook": str(ROOT / "playbooks" / playbook)}, keep], directory, "configure", **variables)
    assert code == 0, said
    content = result.read_text("utf-8") or Path("/etc/docker/daemon.json").read_text("utf-8")
    return dict(json.loads(content))


def test_an_upgraded_engine_keeps_what_the_baseline_wants(tmp_path: Path, sources: None) -> None:
    daemon = written("engine.yml", tmp_path, node_baseline_enabled=True)
    assert {key: daemon.get(key) for key in BASELINE} == BASELINE


def test_an_upgraded_engine_keeps_its_gpus(tmp_path: Path, gpu_machine: GpuMachine, sources: None) -> None:
    daemon = written("engine.yml", tmp_path, mcp_node_gpus=2)
    assert daemon["default-runtime"] == "nvidia"
    assert daemon["runtimes"] == {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}
    assert daemon["node-generic-resources"] == [f"NVIDIA-GPU={FIRST}", f"NVIDIA-GPU={SECOND}"]


def test_slots_of_a_gpu(tmp_path: Path, gpu_machine: GpuMachine, sources: None) -> None:
    gpu_machine.state["gpus"].pop()
    gpu_machine.write()
    daemon = written("engine.yml", tmp_path, mcp_node_gpus=1, mcp_node_gpu_slots=2)
    assert daemon["node-generic-resources"] == [f"NVIDIA-GPU={FIRST}.1", f"NVIDIA-GPU={FIRST}.2"]


def test_without_gpus_nothing_is_asked_of_nvidia(tmp_path: Path, sources: None) -> None:
    daemon = written("engine.yml", tmp_path)
    assert not {"default-runtime", "runtimes", "node-generic-resources", "icc"} & set(daemon)


# A manager that serves, whatever module it is told to run.
ANSWERS = """#!/bin/sh
echo '{"changed": false, "state": "active", "serves": true, "manager": true, "node_id": "b", "nodes": [], "problem": ""}'
"""


@pytest.mark.parametrize(("upgraded", "asked"), [("worker", "second"), ("first", "second"), ("second", "third")])
def test_a_manager_that_answers_empties_each_node(tmp_path: Path, upgraded: str, asked: str) -> None:
    """Which of them is dead does not matter; of those that live it is not the one whose engine is about to restart."""
    (tmp_path / "python").write_text(ANSWERS, "utf-8")
    (tmp_path / "python").chmod(0o755)
    lives = {"ansible_connection": "local", "ansible_python_interpreter": str(tmp_path / "python")}
    dead = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_common_args": "-o ConnectTimeout=1"}
    first = lives if upgraded == "first" else dead
    groups = {
        "mcp_managers": {"hosts": {"first": first, "second": lives, "third": lives}},
        "mcp_nodes": {"children": {"mcp_managers": {}}, "hosts": {"worker": lives}},
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}), "utf-8")
    engine = next(p for p in yaml.safe_load((ROOT / "playbooks" / "engine.yml").read_text("utf-8")) if p["name"] == "Engine")
    del engine["roles"]
    plan = {"name": "Plan", "ansible.builtin.set_fact": {"fleet_plan": {"fleet": "mcp"}, "cacheable": True}}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([engine | {"pre_tasks": [plan, *engine["pre_tasks"]]}]), "utf-8")
    command = [str(Path(sys.executable).parent / "ansible-playbook"), str(tmp_path / "play.yml"), "-i", str(tmp_path / "hosts.yml")]
    command += ["--limit", upgraded, "-e"]

    def run(*, drain: bool) -> str:
        given = json.dumps({"ansible_become": False, "engine_drain": drain})
        env = {**os.environ, "ANSIBLE_NOCOLOR": "1"}
        done = subprocess.run([*command, given], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = run(drain=True)
    for task in ("Empty the node", "Take it back"):
        assert f"changed: [{upgraded} -> {asked}" in said.partition(f"TASK [{task}]")[2].partition("TASK [")[0], said
    # Without that nobody is asked, and nothing fails of it.
    assert "changed=0" in run(drain=False)


def toolkit(directory: Path, **variables: Any) -> tuple[int, str]:
    """The role that installs the toolkit, alone."""
    role = {"name": "Toolkit", "hosts": "all", "gather_facts": False, "roles": [{"role": "sophia_ai.mcp_swarm.nvidia_container_toolkit"}]}
    return play([role], directory, "install", mcp_node_gpus=2, **variables)


def test_a_toolkit_that_does_not_look_at_what_swarm_assigned_is_refused(tmp_path: Path, gpu_machine: GpuMachine, sources: None) -> None:
    code, said = toolkit(tmp_path, nvidia_container_toolkit_version="1.18.2")
    assert code != 0
    assert "nvidia_container_toolkit_version: 1.18.2: at least 1.19.0. The runtime of 1.18 does not look at swarm-resource" in said
    assert "Nothing was changed." in said


def test_what_would_be_installed_is_said(tmp_path: Path, gpu_machine: GpuMachine, sources: None) -> None:
    code, said = toolkit(tmp_path, nvidia_container_toolkit_version="1.20.0")
    assert code == 0, said
    packages = "nvidia-container-toolkit, nvidia-container-toolkit-base, libnvidia-container-tools, libnvidia-container1"
    assert f"{packages} would be installed, as 1.20.0." in said


def test_who_contributes_to_the_engine_is_known_to_it() -> None:
    """A role's variables are there only where the role is in the play, and the engine's role puts it there."""
    contributors = {
        path.relative_to(ROOT / "roles").parts[0]
        for kind in ("vars", "defaults")
        for path in (ROOT / "roles").glob(f"*/{kind}/*.yml")
        for name in yaml.safe_load(path.read_text("utf-8")) or {}
        if name.endswith("_docker_engine_daemon") and not name.startswith("_")
    }
    meta = yaml.safe_load((ROOT / "roles" / "docker_engine" / "meta" / "main.yml").read_text("utf-8"))
    tasks = yaml.safe_load((ROOT / "roles" / "docker_engine" / "tasks" / "main.yml").read_text("utf-8"))
    imported = [task["ansible.builtin.import_role"]["name"] for task in tasks if "ansible.builtin.import_role" in task]
    there = {name.rpartition(".")[2] for name in [*imported, *(each["role"] for each in meta["dependencies"])]}
    assert contributors == there
    assert {"node_baseline", "nvidia_container_toolkit"} <= contributors
