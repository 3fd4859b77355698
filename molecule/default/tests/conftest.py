# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node as tests see it: a shell on it, what runs there, and the plan it was brought up by."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import testinfra
from testinfra.host import Host

INVENTORY = Path(__file__).resolve().parents[1] / "inventory"


@pytest.fixture(scope="session")
def node() -> Host:
    return testinfra.get_host("docker://mcp-molecule")


@pytest.fixture(scope="session")
def plan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the inventory wants, compiled anew."""
    directory = tmp_path_factory.mktemp("plan")
    ask = ["ansible", "mcp_managers", "-i", str(INVENTORY / "hosts.yml"), "-m", "sophia_ai.mcp_swarm.fleet_plan"]
    ask += ["-a", f"write_dir={directory}"]
    # From the project's root, where ansible.cfg names the collections.
    done = subprocess.run(ask, cwd=INVENTORY.parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads((directory / "plan.json").read_text("utf-8")))


@pytest.fixture(scope="session")
def services(node: Host) -> dict[str, dict[str, Any]]:
    """Every Swarm service by name, as inspected."""
    names = node.check_output("docker service ls --format '{{.Name}}'").split()
    found = json.loads(node.check_output("docker service inspect " + " ".join(names)))
    return {service["Spec"]["Name"]: service for service in found}


@pytest.fixture(scope="session")
def containers(node: Host) -> list[dict[str, Any]]:
    """Every running container, as inspected."""
    ids = node.check_output("docker ps --quiet").split()
    return list(json.loads(node.check_output("docker inspect " + " ".join(ids))))


@pytest.fixture(scope="session")
def key() -> str:
    """The gateway's API key, where the controller keeps it."""
    return (INVENTORY / ".state" / "secrets" / "gateway_api_key").read_text("utf-8").strip()
