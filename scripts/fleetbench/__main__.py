# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make bench``: everything, in half an hour; writes docs/performance.md. Exits with 1 where a bar is not met.

Environment:
    ONLY: ``builds``, ``deploys`` or ``nodes``. With it nothing is written to the document; with ``deploys`` the node
        gets the images that this machine's engine has.
    KEEP: with 1 the node is left as it is, and the next run with ONLY=deploys and KEEP=1 takes it as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fleetbench import builds, deploys, nodes
from fleetbench.node import BenchError, Node
from fleetbench.table import DOCUMENT, ROOT, Row, introduction, table, write

PARTS = ("builds", "deploys", "nodes")


def measure(only: str, keep: bool) -> list[Row]:
    """The rows of one run: on a node of its own, and on three."""
    found: list[Row] = []
    if only != "nodes":
        with tempfile.TemporaryDirectory() as temporary:
            node = Node(ROOT / ".cache" / "bench" if keep else Path(temporary))
            try:
                found += _on_one(node, only, keep)
            finally:
                if not keep:
                    node.destroy()
    if only in ("", "nodes"):
        _say("nodes")
        found += nodes.rows()
    return found


def _on_one(node: Node, only: str, keep: bool) -> list[Row]:
    found: list[Row] = []
    if not (keep and only == "deploys" and node.runs):
        _say("booting a node")
        node.create()
        if only == "deploys":
            _say("bringing the fleet up, with this machine's images")
            node.play("molecule/rollback/converge.yml")
    if only != "deploys":
        _say("builds")
        found += builds.rows(node)
    if only != "builds":
        _say("deploys")
        found += deploys.rows(node)
    return found


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def main() -> int:
    """Measure, print, write."""
    only, keep = os.environ.get("ONLY", ""), os.environ.get("KEEP") == "1"
    if only and only not in PARTS:
        print(f"ONLY: there is no {only}; choose from {', '.join(PARTS)}", file=sys.stderr)
        return 2
    before = os.getloadavg()[0]
    try:
        found = measure(only, keep)
    except (BenchError, subprocess.SubprocessError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    text = f"{introduction(before)}\n\n{table(found)}"
    print(text)
    if not only:
        write(text)
        print(f"written to {DOCUMENT.relative_to(ROOT)}", file=sys.stderr)
    return 0 if all(row.met for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
