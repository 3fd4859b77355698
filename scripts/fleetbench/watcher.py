# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the node: changes a service, watches it as a deploy does, and compares with the Swarm's own time stamps."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.convergence import same_task, watch


def moment(stamp: str) -> float:
    """Seconds since 1970 of an engine's time stamp, with six digits of its nine."""
    return datetime.fromisoformat(f"{stamp[:26].rstrip('Z')}+00:00").timestamp()


def late(swarm: Swarm, stack: str, name: str, value: str) -> float:
    """Seconds from the last thing that had to happen until it was seen."""
    before = {found: item["UpdatedAt"] for found, item in swarm.services(stack).items()}
    command = ["docker", "service", "update", "--detach", "--env-add", f"BENCH={value}", name]
    subprocess.run(command, check=True, capture_output=True)
    dummy, failures = watch(swarm, stack, before, 120, lambda line: None)
    seen = time.time()
    if failures:
        sys.exit("\n".join(failures))
    service = swarm.services(stack)[name]
    # New tasks that run, old ones that left, and Swarm's own word that the update is over.
    over = [task for task in swarm.tasks(name) if same_task(service, task) or task["DesiredState"] != "running"]
    happened = [task["Status"]["Timestamp"] for task in over]
    happened += [stamp for stamp in [(service.get("UpdateStatus") or {}).get("CompletedAt")] if stamp]
    return seen - max(moment(stamp) for stamp in happened)


def main() -> None:
    """As many rounds as the command line asks for."""
    stack, name, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    swarm = Swarm()
    print(json.dumps({"late": [late(swarm, stack, name, str(number)) for number in range(rounds)]}))


main()
