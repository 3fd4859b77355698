# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Swarm and NVIDIA's runtime call GPUs, and which engines keep who has some."""

from __future__ import annotations

import re

# The kind of generic resource by which nodes advertise GPUs and services reserve them.
GPU_KIND = "NVIDIA-GPU"
# Managers before that take each node's update, which a network's attachment is, for the loss of its generic resources
# (github.com/moby/moby/issues/44378).
LEAST_ENGINE = "23.0.2"
# By these NVIDIA's runtime gives a container GPUs, and parts of the driver. Which GPUs is what Swarm assigned; without
# an assignment it would be what an image says, and CUDA's say all.
VISIBLE, CAPABILITIES = "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"


def too_old(engine: str) -> bool:
    """Whether a manager's engine ends tasks with GPUs.

    Args:
        engine: its version as it tells it, such as 20.10.24+dfsg1, or as a package has it, such as 5:28.5.2-1~debian.
            One without numbers, such as ``dev`` or an empty one, is not known to be old.
    """
    return bool(found := _numbers(engine)) and found < _numbers(LEAST_ENGINE)


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"(?:\d+:)?(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(part or 0) for part in found.groups()) if found else ()
