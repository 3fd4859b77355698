# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the node: what plain ``docker stack deploy`` takes. Prints JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import time


def main() -> None:
    """The rounds that the command line asks for."""
    path, rounds = sys.argv[1], int(sys.argv[2])
    # Without asking the registry, as swarm_stack does it: that alone takes seconds where images are local.
    command = ["docker", "stack", "deploy", "--resolve-image", "never", "--compose-file", path, "mcp"]
    seconds = []
    for dummy in range(rounds):
        begun = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.monotonic() - begun)
    print(json.dumps({"seconds": seconds}))


main()
