# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""GPUs as nvidia-smi and the kernel tell of them, what is wrong with them, and what the Swarm is told."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from gpu_machine import FIRST, PARTS, SECOND, GpuMachine

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils import _process
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node import gpus
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.gpus import GpuError, look, units

RECORDED = Path(__file__).resolve().parents[3] / "gpu" / "recorded"


def test_two_gpus_are_told_whole(gpu_machine: GpuMachine) -> None:
    gpu_machine.gpu(1, persistence=True, used=1234, name="NVIDIA H100 80GB HBM3", memory=81559)
    seen = look()
    assert (seen.driver, seen.cuda, dict(seen.vanished)) == ("550.54.15", "12.4", {})
    first, second = seen.gpus
    assert (first.index, first.uuid, first.model, first.pci) == (0, FIRST, "NVIDIA A100-SXM4-40GB", "0000:07:00.0")
    assert (first.memory_total_mib, first.memory_used_mib, first.utilisation_percent, first.temperature_celsius) == (40960, 4, 0, 31)
    assert (first.persistence, second.persistence, first.mig, first.problems) == (False, True, False, ())
    assert (second.uuid, second.model, second.memory_total_mib, second.memory_used_mib) == (SECOND, "NVIDIA H100 80GB HBM3", 81559, 1234)
    assert second.pci == "0000:0f:00.0"  # nvidia-smi says 00000000:0F:00.0


def test_an_older_card_that_cannot_be_divided(gpu_machine: GpuMachine) -> None:
    gpu_machine.gpu(0, mig=None, values={"utilization.gpu": "[Not Supported]"})
    first = look().gpus[0]
    assert (first.mig, first.utilisation_percent, first.problems) == (False, None, ())


def test_instances_of_a_divided_gpu(gpu_machine: GpuMachine) -> None:
    gpu_machine.gpu(1, mig=PARTS)
    first, second = look().gpus
    assert (first.mig, first.parts) == (False, ())
    assert second.mig
    assert [(part.uuid, part.profile) for part in second.parts] == [(p["uuid"], p["profile"]) for p in PARTS]
    assert second.utilisation_percent is None
    assert units([first, second]) == [FIRST, PARTS[0]["uuid"], PARTS[1]["uuid"]]
    said = look().as_dict()["gpus"][1]
    assert said["instances"] == [{"uuid": p["uuid"], "profile": p["profile"]} for p in PARTS]
    assert said["healthy"]


@pytest.mark.parametrize("hides", [False, True])
@pytest.mark.parametrize("index", [False, True])
def test_a_lost_gpu_is_named_whatever_the_driver_says_of_the_others(gpu_machine: GpuMachine, hides: bool, index: bool) -> None:
    gpu_machine.write(lost_hides=hides, lost_index=index, log="[  12.3] NVRM: Xid (PCI:0000:07:00): 79, pid='<unknown>', GPU has fallen off the bus.")
    gpu_machine.gpu(0, lost="Unknown Error")
    seen = look()
    assert [gpu.uuid for gpu in seen.gpus] == [SECOND]
    assert seen.vanished == {"0000:07:00.0": "Unknown Error; the kernel logged Xid 79 (fell off the bus)"}


def test_a_gpu_that_the_driver_does_not_show_is_named(gpu_machine: GpuMachine) -> None:
    gpu_machine.gpu(1, hidden=True)
    gpu_machine.plug("0000:07:00.1", kind="0x040300")  # a card's audio
    gpu_machine.plug("0000:01:00.0", kind="0x030000", vendor="0x1a03")  # the board's own display
    seen = look()
    assert [gpu.uuid for gpu in seen.gpus] == [FIRST]
    assert seen.as_dict()["vanished"] == [{"pci": "0000:0f:00.0", "why": "the driver does not show it"}]


def test_all_gpus_gone(gpu_machine: GpuMachine) -> None:
    gpu_machine.gpu(0, hidden=True)
    gpu_machine.gpu(1, hidden=True)
    seen = look()
    assert (seen.gpus, set(seen.vanished)) == ((), {"0000:07:00.0", "0000:0f:00.0"})
    assert units(seen.gpus) == []


def test_what_is_wrong_with_a_gpu(gpu_machine: GpuMachine) -> None:
    log = "NVRM: Xid (PCI:0000:0f:00): 13, pid=9, Graphics Exception\n[9] NVRM: Xid (PCI:0000:0f:00): 48, DBE\nNVRM: Xid (PCI:0000:0f:00): 48, DBE"
    gpu_machine.write(log=log)
    gpu_machine.gpu(0, values={"temperature.gpu": "[Unknown Error]", "memory.used": "[GPU requires reset]"})
    first, second = look().gpus
    assert first.problems == ("memory.used is [GPU requires reset]", "temperature.gpu is [Unknown Error]")
    assert (second.xids, second.problems) == ((13, 48), ("Xid 48: double-bit memory error",))
    assert [gpu["healthy"] for gpu in look().as_dict()["gpus"]] == [False, False]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no_driver", "nvidia-smi reaches no driver: the kernel module nvidia is not loaded; load it (modprobe nvidia)"),
        ("mismatch", "the driver's libraries are of another version than its kernel module that is loaded (Driver/library version"),
    ],
)
def test_a_driver_that_does_not_answer(gpu_machine: GpuMachine, fault: str, said: str) -> None:
    gpu_machine.write(fault=fault)
    with pytest.raises(GpuError) as raised:
        look()
    assert said in str(raised.value)
    assert "restart the machine" in str(raised.value)


def test_a_card_that_hangs_is_not_waited_for(gpu_machine: GpuMachine) -> None:
    gpu_machine.write(fault="hang")
    begun = time.monotonic()
    with pytest.raises(GpuError, match=r"nvidia-smi gave no answer within 0\.5 s: a GPU or its driver hangs; look at dmesg"):
        look(0.5)
    assert time.monotonic() - begun < 5


def test_a_command_that_cannot_be_killed_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in the kernel for a device does not end when it is killed; a child that keeps the pipe looks the same."""
    monkeypatch.setattr(_process, "KILL_SECONDS", 0.2)
    begun = time.monotonic()
    code, said = _process.run(["sh", "-c", "echo before; sleep 5 & wait"], timeout=0.3)
    assert time.monotonic() - begun < 3
    assert (code, said) == (_process.TIMED_OUT, "before\n\ntimed out")


def test_no_nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpus.shutil, "which", lambda *dummy, **more: None)
    with pytest.raises(GpuError, match="nvidia-smi is not installed: install it with NVIDIA's driver"):
        look()


def smi(machine: GpuMachine, script: str) -> None:
    program = machine.programs / "nvidia-smi"
    program.unlink()
    program.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo boom; exit 255", "nvidia-smi ended with 255; it said: boom"),
        ("exit 4", "nvidia-smi ended with 4; it said: nothing"),
        ("echo no library; exit 12", "nvidia-smi ended with 12; libnvidia-ml.so.1 is missing: reinstall the driver; it said: no library"),
        ("echo 'Field \"mig.mode.current\" is not a valid field to query.'; exit 0", "nvidia-smi said what is no row of 11 values: Field"),
    ],
)
def test_an_answer_that_is_none(gpu_machine: GpuMachine, script: str, said: str) -> None:
    smi(gpu_machine, script)
    with pytest.raises(GpuError) as raised:
        look()
    assert said in str(raised.value)


# -- what the Swarm is told ----------------------------------------------------------------------


def test_units_are_whole_gpus_by_their_whole_uuid(gpu_machine: GpuMachine) -> None:
    assert units(look().gpus) == [FIRST, SECOND]


def test_slots_spread_over_gpus_before_they_share_one(gpu_machine: GpuMachine) -> None:
    assert units(look().gpus, 2) == [f"{FIRST}.1", f"{SECOND}.1", f"{FIRST}.2", f"{SECOND}.2"]
    assert [gpus.device_of(unit) for unit in units(look().gpus, 2)] == [FIRST, SECOND, FIRST, SECOND]
    assert gpus.device_of(FIRST) == FIRST
    assert gpus.device_of(PARTS[0]["uuid"]) == PARTS[0]["uuid"]


def test_units_that_cannot_be(gpu_machine: GpuMachine) -> None:
    with pytest.raises(GpuError, match="mcp_node_gpu_slots: 0: at least 1, the number of services that may share a GPU"):
        units(look().gpus, 0)
    gpu_machine.gpu(1, mig_empty=True)
    with pytest.raises(GpuError, match=f"{SECOND} has MIG on and no instances, so that nothing can use it: make some"):
        units(look().gpus)
    gpu_machine.gpu(1, mig=PARTS)
    with pytest.raises(GpuError, match="mcp_node_gpu_slots: 2: .* is divided by MIG, and a MIG instance is handed out as a whole"):
        units(look().gpus, 2)


@pytest.mark.parametrize("uuid", ["GPU-a=b", "[Unknown Error]", FIRST])
def test_names_that_the_swarm_cannot_take(gpu_machine: GpuMachine, uuid: str) -> None:
    gpu_machine.gpu(1, uuid=uuid)
    with pytest.raises(GpuError, match="cannot be the name of a GPU in the Swarm: such a name begins with GPU- or MIG-"):
        units(look().gpus)


def test_what_a_container_sees() -> None:
    said = f"GPU 0: NVIDIA A100 (UUID: {FIRST})\n  MIG 3g.20gb     Device  0: (UUID: {PARTS[0]['uuid']})\nGPU 1: NVIDIA A100 (UUID: {SECOND})\n"
    assert gpus.visible(said) == [PARTS[0]["uuid"], SECOND]
    assert gpus.visible("Failed to initialize NVML: Unknown Error\n") == []


# -- the double is what it stands for ------------------------------------------------------------


def run(machine: GpuMachine, *command: str) -> str:
    return subprocess.run([str(machine.programs / command[0]), *command[1:]], check=True, capture_output=True, text=True).stdout


def test_the_double_writes_what_nvidia_ctk_writes(gpu_machine: GpuMachine, tmp_path: Path) -> None:
    """``recorded`` is the output of nvidia-ctk 1.19.1, each file made of the one before."""
    config, name = tmp_path / "config.toml", "swarm-resource=DOCKER_RESOURCE_NVIDIA-GPU"
    run(gpu_machine, "nvidia-ctk", "--quiet", "config", f"--config-file={config}", "--in-place")
    assert config.read_text("utf-8") == (RECORDED / "config.toml").read_text("utf-8")
    for mode in ("cdi", "auto"):
        said = run(gpu_machine, "nvidia-ctk", "config", "--config-file", str(config), "--set", name, "--set", f"nvidia-container-runtime.mode={mode}")
        assert said == (RECORDED / f"config-{mode}.toml").read_text("utf-8")
        config.write_text(said, "utf-8")
    said = run(gpu_machine, "nvidia-ctk", "runtime", "configure", "--runtime=docker", "--dry-run", f"--config={tmp_path}/none.json", "--nvidia-set-as-default")
    assert said == (RECORDED / "runtime.json").read_text("utf-8")
