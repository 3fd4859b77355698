# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine with GPUs that are doubled: NVIDIA's programs on PATH, and what the kernel shows of the cards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOUBLE = Path(__file__).with_name("nvidia_double.py")
PROGRAMS = ("nvidia-smi", "nvidia-ctk", "nvidia-container-runtime", "dmesg")
FIRST, SECOND = "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f", "GPU-e91edf3b-b297-37c1-a2a7-7601c3238fa2"
PARTS = [
    {"uuid": "MIG-c9e0e5f3-9d0e-5de3-91c7-45d71c87eb3f", "profile": "3g.20gb"},
    {"uuid": "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", "profile": "1g.5gb"},
]


class GpuMachine:
    """What the doubles say, and where what the kernel shows of it lies."""

    def __init__(self, place: Path) -> None:
        self.programs, self.proc, self.sys = place / "bin", place / "proc", place / "sys"
        self.state_file = place / "double.json"
        self.state: dict[str, Any] = {
            "driver": "550.54.15",
            "cuda": "12.4",
            "toolkit": "1.19.1",
            "gpus": [{"uuid": FIRST, "pci": "0000:07:00.0"}, {"uuid": SECOND, "pci": "0000:0f:00.0"}],
        }
        self.programs.mkdir(parents=True)
        for name in PROGRAMS:
            (self.programs / name).write_text("#!/usr/bin/python3\n" + DOUBLE.read_text("utf-8"), "utf-8")
            (self.programs / name).chmod(0o755)
        for gpu in self.state["gpus"]:
            self.plug(gpu["pci"])
        self.write()

    def plug(self, pci: str, kind: str = "0x030200", vendor: str = "0x10de") -> None:
        """Have the kernel see a device, and the driver have bound it where it is a GPU."""
        device = self.sys / pci
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n", "ascii")
        (device / "class").write_text(f"{kind}\n", "ascii")
        if kind.startswith("0x03") and vendor == "0x10de":
            (self.proc / "gpus" / pci).mkdir(parents=True)

    def write(self, **more: Any) -> None:
        self.state.update(more)
        self.state_file.write_text(json.dumps(self.state), "utf-8")

    def gpu(self, number: int, **more: Any) -> None:
        """Change one of the GPUs."""
        self.state["gpus"][number].update(more)
        self.write()
