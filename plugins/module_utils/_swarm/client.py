# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's API, with failures in people's words."""

from __future__ import annotations

import os
import shutil
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._process import run

try:
    import docker
    from docker.errors import DockerException

    DOCKER_IMPORT_ERROR: str | None = None
except ImportError as failure:  # the module says so in its own words
    DOCKER_IMPORT_ERROR = str(failure)

LABEL = "ai.sophia.mcp"


class SwarmError(Exception):
    """Something about the Swarm; the message says what, why and what to do."""


class NoManager(SwarmError):
    """The engine answers, but manages no Swarm."""


class Swarm:
    """A manager's engine.

    Raises:
        NoManager: the engine is no manager.
        SwarmError: the SDK is missing or the engine does not answer.
    """

    def __init__(self) -> None:
        if DOCKER_IMPORT_ERROR:
            raise SwarmError(
                f"the Python package docker is missing here ({DOCKER_IMPORT_ERROR}); install python3-docker"
            )
        try:
            self.api: Any = docker.APIClient(version="auto", timeout=60)
            info = self.api.info()
        except DockerException as error:
            raise SwarmError(f"the Docker engine does not answer: {error}; run the provision playbook first") from error
        if not (info.get("Swarm") or {}).get("ControlAvailable"):
            raise NoManager(f"{info.get('Name')} is no Swarm manager; run the provision playbook first")
        self.node_id: str = info["Swarm"]["NodeID"]

    def services(self, stack: str) -> dict[str, Any]:
        """The services of a stack by full name, each with its ``ServiceStatus``."""
        found = self.api.services(filters={"label": f"com.docker.stack.namespace={stack}"}, status=True)
        return {service["Spec"]["Name"]: service for service in found}

    def tasks(self, service: str) -> list[dict[str, Any]]:
        """The tasks of a service, newest first."""
        found: list[dict[str, Any]] = self.api.tasks(filters={"service": service})
        return sorted(found, key=lambda task: task["CreatedAt"], reverse=True)

    def node_name(self, node_id: str) -> str:
        """A node's host name; its id where the node is gone."""
        try:
            return str(self.api.inspect_node(node_id)["Description"]["Hostname"])
        except DockerException:
            return node_id or "no node"


def docker_command(*arguments: str) -> tuple[int, str]:
    """Exit code and output of the docker command line."""
    command = shutil.which("docker", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if not command:
        raise SwarmError("there is no docker command on this host; run the provision playbook first")
    return run([command, *arguments])
