# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules for GPUs as Ansible starts them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gpu_machine import FIRST, SECOND, GpuMachine

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import NoManager
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.gpu_proof import Node
from ansible_collections.sophia_ai.mcp_swarm.plugins.modules import gpu_info, gpu_proof, gpu_use_info

testing = pytest.importorskip("ansible.module_utils.testing")
NODE = {"name": "gpu-1", "node_id": "n1", "units": [FIRST], "toolkit": "1.19.1"}


def run(module: Any, capsys: pytest.CaptureFixture[str], **params: Any) -> dict[str, Any]:
    with testing.patch_module_args(params), pytest.raises(SystemExit):
        module.main()
    return dict(json.loads(capsys.readouterr().out))


def test_gpu_info(gpu_machine: GpuMachine, capsys: pytest.CaptureFixture[str]) -> None:
    said = run(gpu_info, capsys)
    assert (said["changed"], said["driver"], said["cuda"], said["units"]) == (False, "550.54.15", "12.4", [FIRST, SECOND])
    assert [gpu["uuid"] for gpu in said["gpus"]] == [FIRST, SECOND]
    assert run(gpu_info, capsys, slots=2, _ansible_check_mode=True)["units"][:2] == [f"{FIRST}.1", f"{SECOND}.1"]
    gpu_machine.write(fault="hang")
    said = run(gpu_info, capsys, timeout=0.5)
    assert said["failed"]
    assert said["msg"].startswith("nvidia-smi gave no answer within 0.5 s")


def test_gpu_use_info_without_an_engine(
    gpu_machine: GpuMachine, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(gpu_machine.programs) + ":/usr/bin:/bin")
    docker = gpu_machine.programs / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n", "utf-8")
    docker.chmod(0o755)
    said = run(gpu_use_info, capsys, fleet="mcp", node="gpu-1", marker=str(tmp_path / "none"))
    assert (said["proved"], said["problems"], said["node_id"], said["toolkit"]) == (False, [], "", "1.19.1")


def test_gpu_proof_passes_on_what_it_is_given(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    given: list[Any] = []

    class Swarm:
        def take_credentials(self, directory: str) -> None:
            given.append(directory)

    def prove(swarm: Any, fleet: str, image: str, nodes: Any, timeout: float, say: Any) -> dict[str, list[str]]:
        given.extend([fleet, image, nodes, timeout])
        say("proving")
        return {"gpu-1": [FIRST]}

    monkeypatch.setattr(gpu_proof, "Swarm", Swarm)
    monkeypatch.setattr(gpu_proof, "prove", prove)
    said = run(gpu_proof, capsys, fleet="mcp", image="os", nodes=[NODE], docker_config="/run/x", timeout=9)
    assert given == ["/run/x", "mcp", "os", [Node("gpu-1", "n1", (FIRST,), "1.19.1")], 9.0]
    assert (said["changed"], said["proved"], said["said"]) == (False, {"gpu-1": [FIRST]}, ["proving"])


def test_gpu_proof_needs_a_manager(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def none() -> Any:
        raise NoManager("here is no Swarm manager; run the provision playbook first")

    monkeypatch.setattr(gpu_proof, "Swarm", none)
    said = run(gpu_proof, capsys, fleet="mcp", image="os", nodes=[NODE])
    assert said["failed"]
    assert said["msg"] == "here is no Swarm manager; run the provision playbook first"
