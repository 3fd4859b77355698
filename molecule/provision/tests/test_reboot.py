# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine that was restarted is what it was. The last of the tests: what others started ends with it."""

from __future__ import annotations

import subprocess

from commands import sh, until
from conftest import IMAGE, NODES, SSH_PORT, connects, play

LOADED = "nft --stateless list table inet mcp_swarm"


def test_everything_is_back_after_a_restart(images: None, outsider: str) -> None:
    rules = {name: sh(name, LOADED) for name in NODES}
    for name in NODES:
        sh(name, f"docker run --detach --restart always --publish 9000:8000 {IMAGE} python3 -m http.server 8000")
    subprocess.run(["docker", "restart", *NODES], capture_output=True, check=True, timeout=120)
    for name, address in NODES.items():
        until(f"{name} has booted", lambda name=name: sh(name, "systemctl is-system-running", check=False) in ("running", "degraded"), 120)
        until("the engine", lambda name=name: sh(name, "docker info --format '{{.Swarm.LocalNodeState}}'", check=False) == "active", 60)
        assert sh(name, LOADED) == rules[name]
        for unit in ("docker", "mcp-firewall", "mcp-prune.timer", "ssh"):
            assert sh(name, f"systemctl is-active {unit}") == "active", unit
        # Before the network and before the engine, so that there is no moment without it.
        assert "docker.service" in sh(name, "systemctl show mcp-firewall --property Before --value")
        until("the container", lambda name=name: connects(name, "127.0.0.1", 9000))
        assert connects(outsider, address, SSH_PORT)
        assert not connects(outsider, address, 9000)
        assert not connects(outsider, address, 7946)


def test_there_is_nothing_left_to_do() -> None:
    done = play("provision.yml")
    assert done.code == 0, done.output
    assert done.output.count("changed=0") == len(NODES)
