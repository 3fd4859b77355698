# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container gets by what Swarm assigned, as NVIDIA's runtime decides it; and that slots are devices to it.

With ``NVIDIA_TOOLKIT_BIN`` the directory of NVIDIA's own nvidia-container-runtime and nvidia-cdi-hook 1.19 the same tables are held
against them, as root: ``go build ./cmd/nvidia-container-runtime ./cmd/nvidia-cdi-hook`` in their source makes them. Their driver is
tests/gpu/nvml_double.c then. Otherwise tests/gpu/nvidia_double.py stands for them alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from gpu_machine import FIRST, SECOND, GpuMachine

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node import cdi

RECORDED = Path(__file__).resolve().parents[3] / "gpu" / "recorded"
VENDOR = os.environ.get("NVIDIA_TOOLKIT_BIN", "")
SWARM = "DOCKER_RESOURCE_NVIDIA-GPU="
# Devices that there are on every machine stand for those of the GPUs.
NODES = {FIRST: "/dev/null", SECOND: "/dev/zero"}
DRIVER = "550.54.15"
LIBRARIES = Path("usr/lib/x86_64-linux-gnu")


class Runtime:
    """A runtime that makes no container: what it would run in the end does nothing."""

    def __init__(self, program: str, place: Path, state: Path) -> None:
        self.program, self.place, self.state = program, place, state
        below = place / "below"
        below.write_text("#!/bin/sh\nexit 0\n", "utf-8")
        below.chmod(0o755)
        edits = {uuid: {"deviceNodes": [{"path": node}]} for uuid, node in NODES.items()}
        devices = [{"name": uuid, "containerEdits": edit} for uuid, edit in edits.items()]
        spec = {"cdiVersion": "0.5.0", "kind": cdi.KIND, "devices": devices, "containerEdits": {"env": ["SEEN=1"]}}
        (place / "cdi").mkdir()
        (place / "cdi" / "mcp-swarm-slots.json").write_text(json.dumps(cdi.slots(spec, 2)), "utf-8")
        config = (RECORDED / "config-cdi.toml").read_text("utf-8")
        config = config.replace('["/etc/cdi", "/var/run/cdi"]', f'["{place}/cdi"]').replace('["runc", "crun"]', f'["{below}"]')
        (place / "nvidia-container-runtime").mkdir()
        self.config = place / "nvidia-container-runtime" / "config.toml"
        self.config.write_text(config, "utf-8")

    def auto(self, root: Path) -> None:
        """Be in the mode in which it asks the driver below a root directory."""
        config = self.config.read_text("utf-8").replace('mode = "cdi"', 'mode = "auto"')
        self.config.write_text(config.replace('#root = "/run/nvidia/driver"', f'root = "{root}"'), "utf-8")

    def create(self, *environment: str) -> tuple[int, list[str], str]:
        """Exit code, devices of the container, and what was said."""
        bundle = self.place / "bundle"
        bundle.mkdir(exist_ok=True)
        container: dict[str, Any] = {
            "ociVersion": "1.0.2", "process": {"args": ["true"], "cwd": "/", "env": ["PATH=/bin", *environment], "user": {"uid": 0, "gid": 0}},
            "root": {"path": "rootfs"}, "mounts": [], "linux": {},
        }  # fmt: skip
        (bundle / "config.json").write_text(json.dumps(container), "utf-8")
        asked = {**os.environ, "XDG_CONFIG_HOME": str(self.place), "NVIDIA_DOUBLE": str(self.state)}
        asked["PATH"] = f"{Path(self.program).parent}:{asked['PATH']}"
        done = subprocess.run(
            [self.program, "create", "--bundle", str(bundle), "x"], env=asked, capture_output=True, text=True, check=False, timeout=20
        )
        made = json.loads((bundle / "config.json").read_text("utf-8"))
        return done.returncode, [node["path"] for node in made["linux"].get("devices") or ()], done.stderr


@pytest.fixture(params=["double", *(["vendor"] if VENDOR else [])])
def runtime(request: pytest.FixtureRequest, gpu_machine: GpuMachine, tmp_path: Path) -> Runtime:
    program = f"{VENDOR}/nvidia-container-runtime" if request.param == "vendor" else str(gpu_machine.programs / "nvidia-container-runtime")
    (tmp_path / "runtime").mkdir()
    return Runtime(program, tmp_path / "runtime", gpu_machine.state_file)


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        ([f"{SWARM}{FIRST}.1"], [NODES[FIRST]]),
        ([f"{SWARM}{FIRST}.2"], [NODES[FIRST]]),
        ([f"{SWARM}{SECOND}.2"], [NODES[SECOND]]),
        ([f"{SWARM}{SECOND}.1,{FIRST}.1"], [NODES[SECOND], NODES[FIRST]]),
        # What Swarm assigned counts, whatever an image wishes for.
        (["NVIDIA_VISIBLE_DEVICES=void", f"{SWARM}{FIRST}.1"], [NODES[FIRST]]),
        ([f"NVIDIA_VISIBLE_DEVICES={SECOND}.1", f"{SWARM}{FIRST}.1"], [NODES[FIRST]]),
        # Nothing was assigned.
        (["NVIDIA_VISIBLE_DEVICES=void"], []),
        (["NVIDIA_VISIBLE_DEVICES="], []),
        ([], []),
    ],
)
def test_a_container_gets_what_swarm_assigned(runtime: Runtime, environment: list[str], devices: list[str]) -> None:
    code, got, said = runtime.create(*environment)
    assert (code, got) == (0, devices), said


@pytest.fixture
def asking(runtime: Runtime, gpu_machine: GpuMachine, tmp_path: Path) -> Runtime:
    """The same in the mode of nodes without slots; a driver answers it."""
    root = tmp_path / "root"
    (root / "dev").mkdir(parents=True)
    gpu_machine.write(nodes=str(root))
    for name in ("nvidia0", "nvidia1", "nvidiactl"):
        (root / "dev" / name).touch()
    if runtime.program.startswith(VENDOR or "-"):
        (root / LIBRARIES).mkdir(parents=True)
        library = root / LIBRARIES / f"libnvidia-ml.so.{DRIVER}"
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(library), str(RECORDED.parent / "nvml_double.c")], check=True)
        (root / LIBRARIES / "libnvidia-ml.so.1").symlink_to(library.name)
        shutil.copy(library, root / LIBRARIES / f"libcuda.so.{DRIVER}")
        for node in (root / "dev").iterdir():
            node.unlink()
            os.mknod(node, 0o20666, os.makedev(1, 3))
    runtime.auto(root)
    return runtime


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        ([f"{SWARM}{FIRST}"], ["/dev/nvidia0"]),
        ([f"{SWARM}{SECOND}"], ["/dev/nvidia1"]),
        ([f"{SWARM}{FIRST},{SECOND}"], ["/dev/nvidia0", "/dev/nvidia1"]),
        ([f"{SWARM}{SECOND}", "NVIDIA_VISIBLE_DEVICES=void"], ["/dev/nvidia1"]),
        ([f"{SWARM}{SECOND}", f"NVIDIA_VISIBLE_DEVICES={FIRST}"], ["/dev/nvidia1"]),
        (["NVIDIA_VISIBLE_DEVICES=void"], []),
        ([], []),
    ],
)
def test_a_container_gets_what_swarm_assigned_of_whole_gpus(asking: Runtime, environment: list[str], devices: list[str]) -> None:
    code, got, said = asking.create(*environment)
    assert code == 0, said
    assert sorted(set(got) - {"/dev/nvidiactl"}) == devices


@pytest.mark.parametrize("unit", [f"{FIRST}.1", "GPU-5c89852c"], ids=["a slot", "a beginning"])
def test_what_is_no_whole_uuid_is_no_gpu_without_a_description_of_it(asking: Runtime, unit: str) -> None:
    code, got, said = asking.create(f"{SWARM}{unit}")
    assert (code, got) == (1, [])
    assert "identifier is not a valid UUID or index" in said


def test_a_unit_that_is_no_device_any_more_keeps_the_container_from_starting(runtime: Runtime) -> None:
    code, got, said = runtime.create(f"{SWARM}GPU-gone.1")
    assert (code, got) == (1, [])
    assert "failed to inject CDI devices: unresolvable CDI devices nvidia.com/gpu=GPU-gone.1" in said


@pytest.mark.parametrize("changes", [{"toolkit": "1.18.2"}, {"ignores_swarm": True}])
def test_the_double_of_a_runtime_that_does_not_look(gpu_machine: GpuMachine, tmp_path: Path, changes: dict[str, Any]) -> None:
    """As nvidia-container-runtime 1.18.2, built from its source, does in both modes."""
    gpu_machine.write(**changes)
    (tmp_path / "runtime").mkdir()
    runtime = Runtime(str(gpu_machine.programs / "nvidia-container-runtime"), tmp_path / "runtime", gpu_machine.state_file)
    assert runtime.create(f"{SWARM}{FIRST}.1")[:2] == (0, [])
    assert runtime.create(f"{SWARM}{FIRST}.1", f"NVIDIA_VISIBLE_DEVICES={SECOND}.1")[:2] == (0, [NODES[SECOND]])
