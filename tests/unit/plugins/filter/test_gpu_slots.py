# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A description of devices in which each GPU is there as often as services may share it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from gpu_machine import FIRST, SECOND, GpuMachine

from ansible_collections.sophia_ai.mcp_swarm.plugins.filter.gpu_slots import FilterModule
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node import cdi
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.gpus import look, units


def generated(machine: GpuMachine) -> dict[str, Any]:
    """What nvidia-ctk says."""
    command = [str(machine.programs / "nvidia-ctk"), "cdi", "generate", "--format=json", "--device-name-strategy=uuid"]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))


def test_every_unit_is_a_device_with_its_gpus_edits(gpu_machine: GpuMachine) -> None:
    spec = generated(gpu_machine)
    made = cdi.slots(spec, 2)
    edits = {device["name"]: device["containerEdits"] for device in spec["devices"]}
    assert [device["name"] for device in made["devices"]] == units(look().gpus, 2)
    assert {device["name"]: device["containerEdits"] for device in made["devices"]} == {
        f"{FIRST}.1": edits[FIRST],
        f"{FIRST}.2": edits[FIRST],
        f"{SECOND}.1": edits[SECOND],
        f"{SECOND}.2": edits[SECOND],
    }
    assert (made["kind"], made["cdiVersion"], made["containerEdits"]) == ("nvidia.com/gpu", spec["cdiVersion"], spec["containerEdits"])
    assert FilterModule().filters()["gpu_slots"](spec, 2) == made


def test_what_nvidia_ctk_says_of_two_gpus_as_two_slots_of_each() -> None:
    """``recorded/cdi.json`` is of nvidia-ctk 1.19.1, built from its source, with tests/gpu/nvml_double.c as its driver."""
    spec = json.loads((Path(__file__).resolve().parents[3] / "gpu" / "recorded" / "cdi.json").read_text("utf-8"))
    made = cdi.slots(spec, 2)
    assert [device["name"] for device in made["devices"]] == [f"{FIRST}.1", f"{SECOND}.1", f"{FIRST}.2", f"{SECOND}.2"]
    assert [device["containerEdits"]["deviceNodes"][0]["path"] for device in made["devices"]] == ["/dev/nvidia0", "/dev/nvidia1"] * 2
    assert made["containerEdits"] == spec["containerEdits"]


def test_a_description_that_is_none_of_gpus(gpu_machine: GpuMachine) -> None:
    spec = generated(gpu_machine)
    with pytest.raises(AnsibleFilterError, match="gpu_slots: kind: 'vendor.com/net': nvidia.com/gpu is what the runtime looks for"):
        FilterModule().filters()["gpu_slots"]({**spec, "kind": "vendor.com/net"}, 2)
    with pytest.raises(cdi.CdiError, match="devices: none is named by the UUID of a GPU; does nvidia-smi -L show one, and is MIG off"):
        cdi.slots({**spec, "devices": [{"name": "0"}, {"name": "all"}]}, 2)
