# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What Swarm and NVIDIA's runtime call GPUs, and which engines keep who has some."""

from __future__ import annotations

# The kind of generic resource by which nodes advertise GPUs and services reserve them.
GPU_KIND = "NVIDIA-GPU"
# Managers before that take each node's update, which a network's attachment is, for the loss of its generic resources
# (github.com/moby/moby/issues/44378).
LEAST_ENGINE = (23, 0, 2)
# By these NVIDIA's runtime gives a container GPUs, and parts of the driver. Which GPUs is what Swarm assigned; without
# an assignment it would be what an image says, and CUDA's say all.
VISIBLE, CAPABILITIES = "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES"
