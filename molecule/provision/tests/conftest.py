# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two nodes, somebody else in their network, and playbooks run against them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
from commands import Ansible, Played, sh
from testinfra.host import Host

SCENARIO = Path(__file__).resolve().parents[1]
INVENTORY = SCENARIO / "inventory"
NODES = {"mcp-provision-1": "10.95.7.11", "mcp-provision-2": "10.95.7.12"}
OUTSIDER, OUTSIDE = "mcp-provision-outsider", "10.95.7.66"
SSH_PORT = 2222
PLAY_SECONDS = 300
# What a container of a test runs: an interpreter and what it needs, of the node's own files.
IMAGE = "provision-probe:1"
IMAGE_FILES = "bin lib lib64 usr/bin/sh usr/bin/dash usr/bin/python3* usr/bin/sleep usr/bin/id usr/lib/python3* usr/lib/x86_64-linux-gnu usr/lib64"


def play(playbook: str, *arguments: str, **variables: Any) -> Played:
    """Run a playbook against the nodes."""
    return Ansible(INVENTORY).play(playbook, *arguments, seconds=PLAY_SECONDS, **variables)


def connects(container: str, address: str, port: int) -> bool:
    """Whether a TCP connection from a container to an address comes about."""
    attempt = f"import socket; socket.create_connection(('{address}', {port}), 2)"
    return subprocess.run(["docker", "exec", container, "python3", "-c", attempt], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session", params=NODES)
def node(request: pytest.FixtureRequest) -> Host:
    return testinfra.get_host(f"docker://{request.param}")


@pytest.fixture(scope="session")
def outsider() -> Iterator[str]:
    """A machine of the same network that is none of the inventory's."""
    subprocess.run(["docker", "rm", "-f", OUTSIDER], capture_output=True, check=False)
    image = json.loads(subprocess.check_output(["docker", "inspect", "mcp-provision-1"]))[0]["Image"]
    # It may change its own addresses and routes.
    rights = ["--cap-add=NET_ADMIN", "--security-opt=systempaths=unconfined"]
    command = ["docker", "run", "--detach", f"--name={OUTSIDER}", "--network=mcp-provision-1-net", f"--ip={OUTSIDE}", *rights]
    subprocess.run([*command, image, "sleep", "infinity"], capture_output=True, check=True)
    yield OUTSIDER
    subprocess.run(["docker", "rm", "-f", OUTSIDER], capture_output=True, check=False)


@pytest.fixture(scope="session")
def images() -> None:
    """An image on each node, of its own files: no registry is needed."""
    for name in NODES:
        sh(name, f"cd / && tar --create {IMAGE_FILES} | docker import - {IMAGE}")
