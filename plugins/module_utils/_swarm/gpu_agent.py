# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which GPUs a container was assigned, and which it sees.

Its text is run by ``_swarm/gpu_proof.py`` in a container of ours: it uses the standard library alone. It writes a line,
a JSON object with ``assigned`` (as Swarm names it), ``said`` (by ``nvidia-smi -L``) and ``nodes`` (devices in /dev).
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys
import time

# SwarmKit's prefix and the kind of the resource in capitals (api/genericresource/string.go, EnvFormat).
ASSIGNED = "DOCKER_RESOURCE_NVIDIA-GPU"
SMI_SECONDS = 40
# The tasks of one job are to be there at the same time: what one has given back, another would get.
STAY_SECONDS = 5


def seen() -> str:
    """What nvidia-smi lists; why it lists nothing, where it does not."""
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            ["nvidia-smi", "-L"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SMI_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        return "there is no nvidia-smi"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi did not run to its end: {error}"
    return done.stdout.decode(errors="replace")


def main() -> None:
    """Say it, and stay a while."""
    nodes = sorted(glob.glob("/dev/nvidia[0-9]*"))
    sys.stdout.write(json.dumps({"assigned": os.environ.get(ASSIGNED, ""), "said": seen(), "nodes": nodes}) + "\n")
    sys.stdout.flush()
    time.sleep(STAY_SECONDS)


if __name__ == "__main__":
    main()
