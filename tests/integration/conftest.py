# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small fleet of its own on this machine's engine: name ``bad``, its own port and subnets, one good server."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PORT = 18443
GOOD = {
    "name": "time",
    "source": {"kind": "pypi", "package": "mcp-server-time", "version": "2026.10.19"},
    "command": ["mcp-server-time", "--local-timezone", "UTC"],
    "check": {"tool": "get_current_time", "arguments": {"timezone": "UTC"}, "expect": "UTC"},
}
HOSTS = {
    "all": {
        "children": {
            "mcp_nodes": {
                "children": {
                    "mcp_managers": {
                        "hosts": {
                            "localhost": {
                                "ansible_connection": "local",
                                "ansible_python_interpreter": "{{ ansible_playbook_python }}",
                            }
                        }
                    }
                }
            }
        }
    }
}


@dataclass
class Fleet:
    """An inventory that tests write, and the playbooks run on it."""

    directory: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def write(self, servers: list[dict[str, Any]], **settings: Any) -> None:
        values = copy.deepcopy(self.settings) | settings
        (self.directory / "hosts.yml").write_text(yaml.safe_dump(HOSTS))
        variables = self.directory / "group_vars" / "all"
        variables.mkdir(parents=True, exist_ok=True)
        (variables / "fleet.yml").write_text(yaml.safe_dump({"mcp_fleet": values, "mcp_servers": servers}))

    def run(self, playbook: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [Path(sys.executable).parent / "ansible-playbook", "-i", self.directory, ROOT / playbook, *arguments]
        env = {**os.environ, "ANSIBLE_NOCOLOR": "1", **environment}
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.run(command, cwd=ROOT, env=env, timeout=600, check=False, **output)


def docker(*arguments: str) -> list[str]:
    """Lines of a docker command."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def replicas(service: str) -> str:
    """Running and wanted tasks of a service, such as ``1/1``."""
    return next(iter(docker("service", "ls", "--filter", f"name=bad_{service}", "--format", "{{.Replicas}}")), "")


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The fleet with its one good server, running; removed at the end."""
    directory = tmp_path_factory.mktemp("inventory")
    shutil.copytree(ROOT / "inventories" / "local" / "locks", directory / "locks")
    settings = ROOT / "inventories" / "local" / "group_vars" / "all" / "fleet.yml"
    base = yaml.safe_load(settings.read_text())["mcp_fleet"]
    state = tmp_path_factory.mktemp("node")
    made = Fleet(
        directory,
        {
            "name": "bad",
            "site": base["site"],
            "config_dir": f"{state}/config",
            "state_dir": f"{state}/state",
            "networks": {"edge": "10.99.0.0/22", "backend": "10.99.4.0/22", "egress": "10.99.8.0/22"},
            "edge": {"hosts": ["localhost", "127.0.0.1"], "port": PORT, "tls": "internal"},
        },
    )
    made.write([GOOD])
    try:
        done = made.run("site.yml")
        assert done.returncode == 0, done.stdout
        assert "1/1 operational" in done.stdout
        yield made
    finally:
        made.write([GOOD])
        done = made.run("playbooks/teardown.yml")
        assert done.returncode == 0, done.stdout
        # A Swarm that was made for this fleet is gone too, and with it all that could be left in it.
        managed = docker("info", "--format", "{{.Swarm.ControlAvailable}}") == ["true"]
        for kind in ("network", "volume", *(("service", "secret", "config") if managed else ())):
            assert not [name for name in docker(kind, "ls", "--format", "{{.Name}}") if name.startswith("bad_")]


@pytest.fixture(autouse=True)
def still_serving(fleet: Fleet) -> Iterator[None]:
    """Whatever a test breaks, what ran before still runs."""
    yield
    assert replicas("time") == "1/1"
    assert replicas("gateway") == "1/1"
    fleet.write([GOOD])
