# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds, on a node that has nothing: side by side and one after the other, cold, again, one server more."""

from __future__ import annotations

from fleetbench.node import Node, Played
from fleetbench.table import Row

CALCULATOR = {
    "name": "calculator",
    "source": {"kind": "pypi", "package": "mcp-server-calculator", "version": "0.2.1"},
    "command": ["mcp-server-calculator"],
    "check": {"tool": "calculate", "arguments": {"expression": "6*7"}, "expect": "42"},
}
BASES = "(root|os|builder|runtime-python|runtime-node|gateway|edge|autoscaler)"
UP_SECONDS, AGAIN_SECONDS, MORE_SECONDS, SIDE_BY_SIDE = 480, 20, 45, 0.6


def _forget(node: Node, kind: str) -> None:
    """Images of the servers, or all of ours, and the build cache with the downloads in it."""
    images = "docker images --format '{{.Repository}}:{{.Tag}}' | grep '^mcp-swarm/'"
    wanted = f"{images} | grep -vE '/{BASES}:'" if kind == "servers" else images
    node.sh(f"{{ {wanted} || :; }} | xargs --no-run-if-empty docker rmi --force >/dev/null; docker builder prune -af")


def _said(played: Played, text: str) -> Played:
    played.said(text)
    return played


def rows(node: Node) -> list[Row]:
    """Leaves the fleet running, with its twelve servers."""
    cold = _said(node.play("site.yml"), "12/12 operational")
    again = _said(node.play("site.yml"), "changed=0")
    node.write([*node.servers, CALCULATOR])
    more = node.play("site.yml")
    node.write(node.servers)
    node.play("playbooks/teardown.yml")
    node.play("playbooks/provision.yml")
    _forget(node, "servers")
    serial = node.play("playbooks/images.yml", "-e", "bench_parallel=1")
    _forget(node, "servers")
    parallel = node.play("playbooks/images.yml")
    node.play("site.yml")
    ratio = parallel.seconds / serial.seconds
    return [
        Row("`make up` on a bare node: nothing installed, built or cached", cold.seconds, UP_SECONDS),
        Row("again, no change (`changed=0`)", again.seconds, AGAIN_SECONDS),
        Row("a thirteenth server, to `13/13 operational`", more.said("13/13 operational"), MORE_SECONDS),
        Row("until it had run for 25 s and the release counted as deployed", more.seconds),
        Row("twelve server images one after the other", serial.seconds),
        Row("twelve server images side by side", parallel.seconds),
        Row("of it", ratio, SIDE_BY_SIDE, "times"),
    ]
