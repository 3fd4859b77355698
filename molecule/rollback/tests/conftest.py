# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node, deploys on it with one thing wrong, and a client that calls the fleet all the while."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from calls import Calls

SCENARIO = Path(__file__).resolve().parents[1]
ROOT = SCENARIO.parents[1]
INVENTORY = Path(os.environ.get("MCP_ROLLBACK_INVENTORY", SCENARIO / "inventory"))
NODE = os.environ.get("MOLECULE_NODE", "mcp-rollback")
# Molecule asks for colours, which are no part of a message.
PLAIN = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "PY_COLORS": "0", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
rows: list[tuple[str, str, str, str]] = []


class Node:
    """The node under test and its deploys."""

    def sh(self, command: str, check: bool = True) -> str:
        done = subprocess.run(["docker", "exec", NODE, "bash", "-c", command], capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, playbook: str, **variables: Any) -> subprocess.Popen[str]:
        path = ROOT / playbook if "/" in playbook else SCENARIO / playbook
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(INVENTORY), str(path)]
        command += ["-e", json.dumps(variables)]
        env = {**os.environ, **PLAIN}
        return subprocess.Popen(
            command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )

    def play(self, playbook: str, **variables: Any) -> tuple[int, str]:
        process = self.start(playbook, **variables)
        output, dummy = process.communicate(timeout=300)
        return process.returncode, " ".join(output.split())  # messages are wrapped to the terminal's width

    def deploy(self, fault: dict[str, Any] | None = None, **options: Any) -> tuple[int, str]:
        return self.play("fault.yml", fault=fault or {}, fault_options=options)

    def services(self) -> dict[str, str]:
        lines = self.sh("docker service ls --format '{{.Name}} {{.Replicas}}'").splitlines()
        return dict(line.split()[:2] for line in lines)

    def info(self) -> dict[str, Any]:
        """What swarm_release_info says."""
        ask = ["ansible", "mcp_managers", "-i", str(INVENTORY), "-m", "sophia_ai.mcp_swarm.swarm_release_info"]
        env = {**os.environ, **PLAIN, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"}
        done = subprocess.run([*ask, "-a", "name=mcp", "-o"], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads(done.stdout.partition("=>")[2]))

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
    address = json.loads(
        subprocess.run(["docker", "inspect", NODE], capture_output=True, text=True, check=True).stdout
    )[0]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    with Calls(INVENTORY, [f"https://{address}:8443/servers/time/mcp"]).going_on() as made:
        yield made


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Fault, what was said, what served, calls lost."""
    if rows:
        terminalreporter.section("fault, message, what served, calls")
        for row in rows:
            terminalreporter.write_line(" | ".join(row))
