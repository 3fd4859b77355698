# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The edge's configuration: a file that its tasks see, read again in place."""

from __future__ import annotations

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError, docker_command

ADMIN = "unix//tmp/caddy-admin.sock"


def reload_edge(swarm: Swarm, fleet: str) -> int:
    """Have this node's running edge read its configuration again; returns how many tasks did.

    Connections and calls in flight go on. An edge that refuses goes on with what it had.

    Raises:
        SwarmError: with what it said.
    """
    label = f"com.docker.swarm.service.name={fleet}_edge"
    containers = swarm.api.containers(filters={"label": label, "status": "running"})
    for container in containers:
        code, output = docker_command(
            "exec", container["Id"], "caddy", "reload", "--config", "/etc/caddy/Caddyfile", "--address", ADMIN
        )
        if code != 0:
            last = " ".join(output.strip().splitlines()[-1:])
            raise SwarmError(f"the edge refused its configuration and goes on with the one before: {last}")
    return len(containers)
