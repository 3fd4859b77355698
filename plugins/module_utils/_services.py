# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which services a server has in the stack: one, or with ``gpu: preferred`` its CPU twin and its GPU service.

The one place that knows their names. On nodes a service's server is read from its label.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

LABEL = "ai.sophia.mcp"
# Deploy labels of a server's services: its name in the catalogue, and, where it has two of them, which one it is.
SERVER, POOL = f"{LABEL}.server", f"{LABEL}.pool"
GPU, CPU = "gpu", "cpu"


def service_of(server: str) -> str:
    """The compose service of a server: the only one, or the CPU twin."""
    return server.replace("_", "-")


def gpu_service_of(server: str) -> str:
    """The compose service of a server's replicas on GPUs, where it has a CPU twin."""
    return f"{service_of(server)}-{GPU}"


def server_of(service: Mapping[str, Any]) -> str:
    """The server that a service of a compose document belongs to; empty for the fleet's own."""
    return str(((service.get("deploy") or {}).get("labels") or {}).get(SERVER, ""))


def on_gpus(service: Mapping[str, Any]) -> bool:
    """Whether a service of a compose document is the GPU service of a server with a CPU twin."""
    return ((service.get("deploy") or {}).get("labels") or {}).get(POOL) == GPU


def reserved(service: Mapping[str, Any]) -> dict[str, int]:
    """The generic resources that each replica of a compose service reserves, such as GPUs: kind to how many."""
    reservations = ((service.get("deploy") or {}).get("resources") or {}).get("reservations") or {}
    specs = [item["discrete_resource_spec"] for item in reservations.get("generic_resources") or []]
    return {spec["kind"]: int(spec["value"]) for spec in specs}


def whole(names: Iterable[str], *documents: Mapping[str, Any]) -> list[str]:
    """Services by their names, each with the other service of its server: neither is deployed without the other.

    Args:
        names: of services, or of servers as services are named.
        documents: compose documents; a service may be in one of them alone.
    """
    found: dict[str, None] = {}
    servers = {
        name: server for document in documents for name, service in document["services"].items()
        if (server := server_of(service))
    }  # fmt: skip
    for name in names:
        found[name] = None
        mine = servers.get(name)
        found |= dict.fromkeys(sorted(other for other, server in servers.items() if mine and server == mine))
    return list(found)
