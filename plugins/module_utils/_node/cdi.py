# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A description of devices for containers, by which several share a GPU.

Source: the Container Device Interface's SPEC.md (names of devices, 0.5 and newer): a name is letters, digits and
``_ - . :`` and begins and ends with a letter or a digit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

KIND = "nvidia.com/gpu"


class CdiError(ValueError):
    """A description that is none of GPUs."""


def slots(spec: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The description in which each GPU is there as often as services may share it, as ``UUID.1``, ``UUID.2``, ...

    Args:
        spec: what ``nvidia-ctk cdi generate --format=json --device-name-strategy=uuid`` says.
        count: slots of each GPU.

    Raises:
        CdiError: it names no GPU by its UUID.
    """
    if spec.get("kind") != KIND:
        raise CdiError(
            f"kind: {spec.get('kind')!r}: {KIND} is what the runtime looks for; is it of nvidia-ctk cdi generate?"
        )
    whole = [device for device in spec.get("devices") or () if re.fullmatch(r"GPU-[0-9A-Za-z-]+", str(device["name"]))]
    if not whole:
        raise CdiError("devices: none is named by the UUID of a GPU; does nvidia-smi -L show one, and is MIG off?")
    named = [{**device, "name": f"{device['name']}.{slot}"} for slot in range(1, count + 1) for device in whole]
    return {**spec, "devices": named}
