# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The account at the double, the machine behind it, and playbooks with the inventory that asks it."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from commands import Ansible, address, sh

SCENARIO = Path(__file__).resolve().parents[1]
INVENTORY = SCENARIO / "inventory"
STATE = INVENTORY / ".state"
NODE = "mcp-lambda"
DOUBLE = "http://127.0.0.1:18431"
KEY = "secret_molecule_lambda"
ENVIRONMENT = {
    "LAMBDA_API_KEY": KEY,
    "LAMBDA_API_URL": f"{DOUBLE}/api/v1",
    "MOLECULE_LAMBDA_STATE": str(STATE),
    # What the inventory keeps of the cloud is this scenario's.
    "ANSIBLE_INVENTORY_CACHE_CONNECTION": str(STATE / "cache"),
}


class Cloud:
    """What the double tells, and the machine."""

    def requests(self, request: str) -> int:
        """How often something was asked."""
        with urllib.request.urlopen(f"{DOUBLE}/double", timeout=10) as answer:
            told = json.loads(answer.read())
        assert told["mistakes"] == [], "the double answered otherwise than the API would"
        return int(told["requests"].count(request))

    def machines(self) -> list[str]:
        """The container, while it runs."""
        ask = ["docker", "ps", "--filter", f"name=^{NODE}$", "--format", "{{.Names}}"]
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()

    def sh(self, command: str) -> str:
        """What a command on the machine says."""
        return sh(NODE, command)

    @property
    def address(self) -> str:
        return address(NODE)

    def command(self, *words: str) -> tuple[int, str]:
        """Exit code and output of one of Ansible's commands."""
        code, output = Ansible(INVENTORY, **ENVIRONMENT).command(*words, seconds=400)
        assert KEY not in output
        return code, output

    def play(self, playbook: str, **variables: Any) -> str:
        """A playbook that succeeds; its output in one line, for messages are wrapped to the terminal's width."""
        # The container has no card, whatever the type of its instance says.
        code, output = self.command("ansible-playbook", playbook, "-e", json.dumps({"mcp_node_gpus": 0, **variables}))
        assert code == 0, output
        return " ".join(output.split())


@pytest.fixture(scope="session")
def cloud() -> Cloud:
    return Cloud()
