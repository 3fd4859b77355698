# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes, what is done to them, and services that reserve GPUs on them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from commands import Ansible, Played, sh, until

SCENARIO = Path(__file__).resolve().parents[1]
INVENTORY = SCENARIO / "inventory"
MANAGER, WORKER = "mcp-gpu-1", "mcp-gpu-2"
NODES = (MANAGER, WORKER)
IMAGE = "mcp-gpu-proof:node"
STATE = "/etc/nvidia-double.json"


class Gpus:
    """The two nodes."""

    def sh(self, node: str, command: str, check: bool = True, stdin: str | None = None) -> str:
        return sh(node, command, check, stdin)

    def play(self, playbook: str, *more: str, **variables: Any) -> Played:
        return Ansible(INVENTORY).play(playbook, *more, **variables)

    def state(self, node: str) -> dict[str, Any]:
        return dict(json.loads(self.sh(node, f"cat {STATE}")))

    def change(self, node: str, **more: Any) -> None:
        """Change what a node's doubles say."""
        self.sh(node, f"cat >{STATE}", stdin=json.dumps({**self.state(node), **more}))

    def uuids(self, node: str) -> list[str]:
        return [gpu["uuid"] for gpu in self.state(node)["gpus"]]

    def serve(self, name: str, replicas: int, *options: str, gpus: int = 1) -> None:
        """A service whose replicas reserve GPUs and do nothing."""
        reserved = [f"--generic-resource NVIDIA-GPU={gpus}"] if gpus else []
        words = ["docker service create --detach --quiet --no-resolve-image --name", name, f"--replicas {replicas}", *reserved]
        self.sh(MANAGER, " ".join([*words, "--env NVIDIA_VISIBLE_DEVICES=void", *options, IMAGE, "sleep 3600"]))

    def tasks(self, name: str) -> list[dict[str, Any]]:
        ids = self.sh(MANAGER, f"docker service ps --quiet --no-trunc --filter desired-state=running {name}").split()
        return list(json.loads(self.sh(MANAGER, f"docker inspect --type task {' '.join(ids)}"))) if ids else []

    def states(self, name: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for task in self.tasks(name):
            found[task["Status"]["State"]] = found.get(task["Status"]["State"], 0) + 1
        return found

    def seen(self, name: str) -> dict[str, str]:
        """Unit that Swarm assigned to what nvidia-smi shows in its container, for a service's tasks that run."""
        hosts = {
            line.split()[0]: line.split()[1]
            for line in self.sh(MANAGER, "docker node ls --format '{{.ID}} {{.Hostname}}'").splitlines()
        }
        found = {}
        for task in self.tasks(name):
            if task["Status"]["State"] == "running":
                container = task["Status"]["ContainerStatus"]["ContainerID"]
                unit = ",".join(each["NamedResourceSpec"]["Value"] for each in task.get("GenericResources", ()))
                found[unit] = self.sh(hosts[task["NodeID"]], f"docker exec {container} nvidia-smi -L 2>&1", check=False)
        return found

    def until(self, what: str, condition: Callable[[], bool], seconds: float = 60) -> None:
        until(what, condition, seconds, lambda: self.sh(MANAGER, "docker node ls; docker service ls"))

    def remove(self, *names: str) -> None:
        self.sh(MANAGER, f"docker service rm {' '.join(names)}")
        self.until("no task is left", lambda: not any(self.sh(node, "docker ps --quiet").split() for node in NODES))


@pytest.fixture(scope="session")
def gpus() -> Gpus:
    """The nodes, each with the image that services and the proof run in."""
    found = Gpus()
    image = subprocess.run(["docker", "inspect", "--format", "{{.Config.Image}}", MANAGER], check=True, capture_output=True, text=True).stdout.strip()
    for node in NODES:
        load = f"docker save {image} | docker exec --interactive {node} docker load"
        subprocess.run(["bash", "-o", "pipefail", "-c", load], check=True, capture_output=True)
        found.sh(node, f"docker tag {image} {IMAGE}")
    return found


@pytest.fixture
def changed(gpus: Gpus) -> Iterator[Callable[..., None]]:
    """Change a node's doubles, and what was proved with them, for one test."""
    before: dict[str, Mapping[str, Any]] = {}

    def change(node: str, **more: Any) -> None:
        before.setdefault(node, gpus.state(node))
        gpus.change(node, **more)

    yield change
    for node, state in before.items():
        gpus.sh(node, f"cat >{STATE}", stdin=json.dumps(state))
