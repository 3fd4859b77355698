# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node's containers were assigned of its GPUs, and what they see; and by what that is known to be so."""

from __future__ import annotations

import glob
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._gpu_terms import GPU_KIND
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node import gpus
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.gpus import device_of, visible
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.machine import driver, text
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._process import run

DAEMON = "/etc/docker/daemon.json"
CONFIG = "/etc/nvidia-container-runtime/config.toml"
SLOTS = "/etc/cdi/mcp-swarm-slots.json"
# As SwarmKit names it (api/genericresource/string.go, EnvFormat).
ASSIGNED = f"DOCKER_RESOURCE_{GPU_KIND}="
SECONDS = 60.0
# docker exec's exit codes for a program that is not there, or cannot be run (docker-run(1)).
NO_PROGRAM = (126, 127)
NEXT = (
    "run playbooks/provision.yml, which installs nvidia_container_toolkit_version and writes swarm-resource into"
    " /etc/nvidia-container-runtime/config.toml; docs/gpu.md has the rest"
)


@dataclass(frozen=True)
class Container:
    """A container that runs.

    Attributes:
        id: of the engine.
        name: what people call it: its service, where it has one.
        stack: that it belongs to; empty for none.
        assigned: units.
        pid: of its first process.
    """

    id: str
    name: str
    stack: str
    assigned: tuple[str, ...]
    pid: int


def judge(node: str, toolkit: str, who: str, assigned: Sequence[str], seen: Sequence[str], said: str) -> str:
    """What is wrong with a container's GPUs; empty where nothing is. Pure.

    Args:
        node: its name.
        toolkit: version of NVIDIA's container toolkit there.
        who: the container in people's words.
        assigned: units, as Swarm named them.
        seen: UUIDs of the devices in it.
        said: by ``nvidia-smi -L`` in it.
    """
    if {device_of(unit) for unit in assigned} == set(seen):
        return ""
    told = ", ".join(assigned) or "no GPU"
    shown = ", ".join(seen) or f"none ({' '.join(said.split())[:200] or 'nvidia-smi said nothing'})"
    return (
        f"node {node}: Swarm assigned {told} to {who}, and it sees {shown}; NVIDIA's container toolkit there is"
        f" {toolkit or 'missing'}; {NEXT}"
    )


def containers(inspected: Sequence[Mapping[str, Any]]) -> list[Container]:
    """Those that run, of ``docker inspect``. Pure."""
    found = []
    for each in inspected:
        labels = each["Config"].get("Labels") or {}
        units = [line[len(ASSIGNED) :] for line in each["Config"].get("Env") or () if line.startswith(ASSIGNED)]
        found.append(
            Container(
                id=each["Id"],
                name=labels.get("com.docker.swarm.task.name") or each["Name"].lstrip("/"),
                stack=labels.get("com.docker.stack.namespace", ""),
                assigned=tuple(unit for value in units for unit in value.split(",") if unit),
                pid=int(each["State"].get("Pid") or 0),
            )
        )
    return found


def wrong_uses(running: Sequence[Container], fleet: str, node: str, toolkit: str) -> tuple[list[str], list[str]]:
    """What is wrong with the GPUs of containers that run, and who could not be asked.

    A container without a reservation is to have none where it is the fleet's; an exporter of metrics may have all.
    """
    wrong, mute = [], []
    by_minor = minors()
    for each in running:
        who = f"{each.name} ({each.id[:12]})"
        nodes = devices(each.pid)
        if each.assigned:
            code, said = run(["docker", "exec", each.id, "nvidia-smi", "-L"], timeout=SECONDS)
            seen = visible(said)
            if code in NO_PROGRAM:
                # A runtime that gave it nothing did not give it nvidia-smi either; so do those who ask for less.
                seen = [by_minor.get(minor, "") for minor in nodes]
                if "" in seen or (nodes and any(not unit.startswith("GPU-") for unit in each.assigned)):
                    mute.append(who)
                    continue
                said = "there is no nvidia-smi"
            wrong.append(judge(node, toolkit, who, each.assigned, seen, said))
        elif each.stack == fleet:
            wrong.append(judge(node, toolkit, who, (), [f"/dev/nvidia{minor}" for minor in nodes], ""))
    return [problem for problem in wrong if problem], mute


def devices(pid: int) -> list[int]:
    """The numbers of the GPUs whose devices a process has in its /dev."""
    found = [re.search(r"/dev/nvidia(\d+)$", path) for path in glob.glob(f"/proc/{pid}/root/dev/nvidia[0-9]*")]
    return sorted(int(match[1]) for match in found if match)


def minors() -> dict[int, str]:
    """The UUID of each GPU by its device's number, from the driver's files (its README, "/proc interface")."""
    found = {}
    for path in glob.glob(f"{gpus.DRIVER_FILES}/gpus/*/information"):
        content = text(path)
        uuid = re.search(r"GPU UUID:\s+(GPU-[0-9a-f-]+)", content)
        minor = re.search(r"Device Minor:\s+(\d+)", content)
        if uuid and minor:
            found[int(minor[1])] = uuid[1]
    return found


def look(fleet: str, node: str, marker: str) -> dict[str, Any]:
    """The module's result: nothing is asked of containers where all is as it was when it was proved.

    Args:
        fleet: name of its stack.
        node: what people call this node.
        marker: path of what was written when it was proved.
    """
    code, said = run(["nvidia-ctk", "--version"], timeout=SECONDS) if _there("nvidia-ctk") else (1, "")
    match = re.search(r"version (\d+[\w.~-]*)", said) if code == 0 else None
    toolkit = match[1] if match else ""
    engine, node_id = _engine()
    units = advertised(text(DAEMON))
    proof = json.dumps(
        {
            "toolkit": toolkit,
            "driver": driver(text("/proc/driver/nvidia/version")),
            "engine": engine,
            "units": units,
            "files": {path: hashlib.sha256(text(path).encode()).hexdigest() for path in (DAEMON, CONFIG, SLOTS)},
        },
        indent=1,
        sort_keys=True,
    )
    result: dict[str, Any] = {
        "toolkit": toolkit,
        "node_id": node_id,
        "units": units,
        "marker": proof + "\n",
        "proved": text(marker) == proof + "\n",
        "problems": [],
        "mute": [],
    }
    if engine and not result["proved"]:
        code, ids = run(["docker", "ps", "--quiet", "--no-trunc"], timeout=SECONDS)
        found = json.loads(run(["docker", "inspect", *ids.split()], timeout=SECONDS)[1]) if ids.split() else []
        result["problems"], result["mute"] = wrong_uses(containers(found), fleet, node, toolkit)
    return result


def advertised(daemon: str) -> list[str]:
    """The units in a daemon.json. Pure."""
    try:
        resources = json.loads(daemon or "{}").get("node-generic-resources") or []
    except ValueError:
        return []
    return [str(each)[len(GPU_KIND) + 1 :] for each in resources if str(each).startswith(f"{GPU_KIND}=")]


def _engine() -> tuple[str, str]:
    """Version of the engine and the node's id in the Swarm; empty where no engine answers."""
    if not _there("docker"):
        return "", ""
    code, said = run(["docker", "info", "--format", "{{.ServerVersion}} {{.Swarm.NodeID}}"], timeout=SECONDS)
    version, dummy, node_id = said.strip().partition(" ")
    return (version, node_id) if code == 0 else ("", "")


def _there(program: str) -> bool:
    import shutil

    return shutil.which(program) is not None
