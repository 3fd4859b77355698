# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node, deploys on it with one thing wrong, and a client that calls the fleet all the while."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calls import Calls
from commands import Ansible, address, sh

SCENARIO = Path(__file__).resolve().parents[1]
INVENTORY = Path(os.environ.get("MCP_ROLLBACK_INVENTORY", SCENARIO / "inventory"))
NODE = os.environ.get("MOLECULE_NODE", "mcp-rollback")
FAULT = "molecule/rollback/fault.yml"
rows: list[tuple[str, str, str, str]] = []


class Node:
    """The node under test and its deploys."""

    def __init__(self) -> None:
        self._ansible = Ansible(INVENTORY)

    def sh(self, command: str, check: bool = True) -> str:
        return sh(NODE, command, check)

    def url(self) -> str:
        """Where the server time is called through the edge."""
        return f"https://{address(NODE)}:8443/servers/time/mcp"

    def start(self, playbook: str, **variables: Any) -> subprocess.Popen[str]:
        return self._ansible.start(playbook, **variables)

    def play(self, playbook: str, **variables: Any) -> tuple[int, str]:
        played = self._ansible.play(playbook, seconds=300, **variables)
        return played.code, played.output

    def deploy(self, fault: dict[str, Any] | None = None, **options: Any) -> tuple[int, str]:
        return self.play(FAULT, fault=fault or {}, fault_options=options)

    def services(self) -> dict[str, str]:
        lines = self.sh("docker service ls --format '{{.Name}} {{.Replicas}}'").splitlines()
        return dict(line.split()[:2] for line in lines)

    def info(self) -> dict[str, Any]:
        """What swarm_release_info says."""
        return self._ansible.ask("swarm_release_info", "name=mcp")

    def aside(self) -> list[str]:
        """What runs beside the fleet for a while: replicas on trial, and the gateway's board."""
        return sorted(set(self.services()) - set(self.info()["services"]))

    def objects(self) -> set[str]:
        """Secrets and configs, but for records."""
        names = self.sh("docker secret ls --format '{{.Name}}'; docker config ls --format '{{.Name}}'").split()
        return {name for name in names if "_release_" not in name}


@pytest.fixture(scope="session")
def node() -> Node:
    return Node()


@pytest.fixture
def calls(node: Node) -> Iterator[Calls]:
    """A client that calls during the whole test; the fleet is whole and answers before and after."""
    with Calls(INVENTORY, [node.url()]).going_on() as made:
        yield made


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Fault, what was said, what served, calls lost."""
    if rows:
        terminalreporter.section("fault, message, what served, calls")
        for row in rows:
            terminalreporter.write_line(" | ".join(row))
