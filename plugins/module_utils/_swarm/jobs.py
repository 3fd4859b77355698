# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services that run to an end, as Swarm's job modes have them, in an image of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import LABEL, Swarm, docker_command

# States of a task after which it has no other.
ENDED = ("complete", "failed", "rejected", "orphaned", "shutdown", "remove")
MEMORY_BYTES = 128 << 20


def once_on_each() -> dict[str, Any]:
    """The mode of a job that runs once on each eligible node."""
    return {"GlobalJob": {}}


def at_once(count: int) -> dict[str, Any]:
    """The mode of a job with so many tasks, all at the same time."""
    return {"ReplicatedJob": {"MaxConcurrent": count, "TotalCompletions": count}}


def spec(
    name: str,
    image: str,
    command: Sequence[str],
    mode: Mapping[str, Any],
    constraints: Sequence[str],
    labels: Mapping[str, str],
    container: Mapping[str, Any],
    reserved: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """A job as the engine's API takes it; as root, which without capabilities can but open files and the socket.

    Args:
        name: of the service.
        image: that its node has, or can pull.
        command: what runs.
        mode: see above.
        constraints: of its placement.
        labels: of the service and of its containers.
        container: more of ``ContainerSpec``.
        reserved: generic resources of each task.
    """
    resources: dict[str, Any] = {"Limits": {"MemoryBytes": MEMORY_BYTES}}
    if reserved:
        resources["Reservations"] = {"GenericResources": list(reserved)}
    return {
        "Name": name,
        "Labels": dict(labels),
        "Mode": dict(mode),
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": image,
                "Command": list(command),
                "User": "0:0",
                "ReadOnly": True,
                "CapabilityDrop": ["ALL"],
                "Healthcheck": {"Test": ["NONE"]},
                "Labels": dict(labels),
                **container,
            },
            "RestartPolicy": {"Condition": "none"},
            "Placement": {"Constraints": list(constraints)},
            "Resources": resources,
            "LogDriver": {"Name": "json-file"},
        },
    }


def create(swarm: Swarm, wish: Mapping[str, Any], credentials: str = "") -> str:
    """Start a job; returns its id.

    Args:
        swarm: the manager.
        wish: see ``spec``.
        credentials: the header X-Registry-Auth for its image; empty for none.
    """
    headers = {"X-Registry-Auth": credentials} if credentials else {}
    answer = swarm.api._post_json(swarm.api._url("/services/create"), data=dict(wish), headers=headers)
    swarm.api._raise_for_status(answer)
    return str(answer.json()["ID"])


def words(said_by: str, key: str) -> list[dict[str, Any]]:
    """The lines that are JSON objects with a key, of what a job or one of its tasks wrote until now.

    Args:
        said_by: id of the service or of the task.
        key: that each of our lines has; others are of the interpreter or the engine.
    """
    code, output = docker_command("service", "logs", "--raw", "--no-trunc", said_by)
    lines = []
    for line in output.splitlines() if code == 0 else ():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict) and key in value:
            lines.append(value)
    return lines


def node_name(node: Mapping[str, Any]) -> str:
    """What people call a node."""
    labels = node["Spec"].get("Labels") or {}
    return str(labels.get(f"{LABEL}.host") or node["Description"]["Hostname"])
