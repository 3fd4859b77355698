# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provisioning of nodes that are as they should be, one and three side by side: those of the scenario ``cluster``."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from fleetbench.node import BenchError, play
from fleetbench.table import ROOT, Row

ROUNDS = 5
NODE_SECONDS, SIDE_BY_SIDE = 15.0, 1.3
INVENTORY = ROOT / "molecule" / "cluster" / "inventory"
FIRST = "mcp-cluster-1"


def _molecule(verb: str) -> None:
    command = [str(Path(sys.executable).parent / "molecule"), verb, "--scenario-name", "cluster"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"molecule {verb}: it failed\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _unchanged(*arguments: str) -> float:
    """Seconds of a run that changes nothing."""
    played = play(INVENTORY, "playbooks/provision.yml", *arguments)
    recap = played.output.rpartition("PLAY RECAP")[2]
    if any("changed=" in line and "changed=0" not in line for line in recap.splitlines()):
        raise BenchError(f"provisioning without a change changed something\n{played.output[-3000:]}")
    return played.seconds


def rows() -> list[Row]:
    """Makes three bare nodes, and removes them."""
    _molecule("destroy")
    _molecule("create")
    try:
        play(INVENTORY, "playbooks/provision.yml")
        _unchanged()
        pairs = [(_unchanged("--limit", FIRST), _unchanged()) for dummy in range(ROUNDS)]
    finally:
        _molecule("destroy")
    one, three = (statistics.median(each) for each in zip(*pairs, strict=True))
    return [
        Row("provisioning of a node without a change", one, NODE_SECONDS),
        Row("of three side by side", three),
        Row("of it", three / one, SIDE_BY_SIDE, "times"),
    ]
