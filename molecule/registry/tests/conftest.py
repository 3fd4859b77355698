# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two nodes and their registry: a shell on each, playbooks against them, versions of a server to deploy."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

SCENARIO = Path(__file__).resolve().parents[1]
ROOT = SCENARIO.parents[1]
MANAGER, WORKER = "mcp-registry-1", "mcp-registry-2"
REGISTRY = "mcp-registry:5000"
# Molecule asks for colours, which are no part of a message.
PLAIN = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "PY_COLORS": "0", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}


class Nodes:
    """The nodes under test."""

    def sh(self, command: str, node: str = MANAGER, check: bool = True) -> str:
        done = subprocess.run(["docker", "exec", node, "bash", "-c", command], capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def play(self, playbook: str, **variables: Any) -> tuple[int, str]:
        """Exit code and output of a playbook; messages are wrapped to the terminal's width."""
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(SCENARIO / "inventory"), str(ROOT / playbook)]
        done = subprocess.run(
            [*command, "-e", json.dumps(variables)], cwd=ROOT, env={**os.environ, **PLAIN}, capture_output=True, text=True, timeout=500, check=False
        )
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    def deploy(self, image: str = "", **keys: Any) -> tuple[int, str]:
        """Deploy the fleet with another image of the server, or with other settings of it."""
        time_service = {**({"image": image} if image else {}), **keys}
        options = {"docker_config": "/run/mcp-swarm/mcp"}
        return self.play("molecule/rollback/fault.yml", fault={"services": {"time": time_service}}, fault_options=options)

    def version(self, of: str = "time") -> str:
        """A new version of an image, pushed to the registry and on no node but the manager."""
        tag = secrets.token_hex(6)
        image = self.sh(f"docker service inspect --format '{{{{.Spec.TaskTemplate.ContainerSpec.Image}}}}' mcp_{of}").partition("@")[0]
        name = f"{REGISTRY}/mcp-swarm/{of}:{tag}"
        # With a layer of its own, which a node has to find room for.
        lines = f"FROM {image}\\nLABEL version={tag}\\nRUN head -c 300000 /dev/urandom >/tmp/version\\n"
        self.sh(f"printf '{lines}' | docker build --quiet --tag {name} -")
        self.sh(f"docker --config /run/mcp-swarm/mcp push --quiet {name}")
        return name

    def tasks(self) -> str:
        """What runs; another task is another line."""
        return self.sh("for s in mcp_edge mcp_gateway mcp_time; do docker service ps --filter desired-state=running --quiet $s; done")

    def releases(self) -> list[str]:
        return self.sh("docker config ls --format '{{.Name}}' --filter name=mcp_release_").split()

    def leftovers(self) -> str:
        """Of distribution: jobs, secrets, configs."""
        return self.sh("docker service ls --quiet --filter label=ai.sophia.mcp.pulling; docker secret ls --quiet --filter label=ai.sophia.mcp.pulling; docker config ls --quiet --filter label=ai.sophia.mcp.pulling")

    def has(self, image: str, node: str = WORKER) -> bool:
        """Whether a node has an image, by name, tagged or by its digest."""
        return self.sh(f"docker image inspect {image} >/dev/null 2>&1 && echo yes", node, check=False) == "yes"

    def repair(self) -> None:
        code, output = self.play("playbooks/images.yml")
        assert code == 0, output


def changed(output: str) -> list[int]:
    """What each host of a recap counts as changed."""
    return [int(count) for count in re.findall(r"changed=(\d+)", output)]


def until(done: Any, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.fixture(scope="session")
def nodes() -> Nodes:
    return Nodes()
