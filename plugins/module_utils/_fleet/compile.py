# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what people want to everything that anyone needs to know: the fleet plan."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._services import gpu_service_of, service_of

from .edge import caddyfile, plan_edge
from .facts import Facts
from .gateway_config import PORT, gateway_config
from .gpus import allot
from .images import content_digest, plan_images
from .placing import constraints, manager_warnings
from .registry import plan_registry
from .scaling import autoscaler_config, first_replicas, scaled
from .schema import TIERS
from .stack import LABEL, stack
from .validate import validate

PLAN_VERSION = 1
# Keys of an entry that are about making its image, or have another shape in the plan.
BUILD_KEYS = ("source", "resources", "packages", "prepare", "files", "gpus", "gpu_tools")


def compile_fleet(catalogue: Any, settings: Any, facts: Facts) -> dict[str, Any]:
    """The FleetPlan of docs/architecture.md, as plain JSON types.

    Args:
        catalogue: the variable ``mcp_servers``.
        settings: the variable ``mcp_fleet``.
        facts: what was gathered about the world.

    Raises:
        FleetError: with every mistake found.
    """
    entries, fleet = validate(catalogue, settings, facts.hosts)
    name = fleet["name"]
    images, missing_locks = plan_images(entries, fleet, facts)
    refs = {image["name"]: image["remote"] for image in images}
    given = allot(entries, fleet["data_node"], facts.hosts)
    servers = [
        _server(entry, refs, name, given.replicas.get(entry["name"], 0))
        | {"constraints": constraints(entry, fleet["data_node"], facts.hosts)}
        for entry in entries
    ]
    secrets = [
        {
            "name": s,
            "digest": facts.secret_digests.get(s, ""),
            "object": f"{name}_{s}_{facts.secret_digests.get(s, '')[:12]}",
        }
        for s in sorted(fleet["secrets"])
    ]
    gateway = gateway_config(servers, fleet)
    configs = [_config(name, "gateway", _json(gateway))]
    if scaled(servers):
        configs.append(_config(name, "autoscaler", _json(autoscaler_config(servers, fleet))))
    paths = {
        "config_dir": fleet["config_dir"],
        "state_dir": fleet["state_dir"],
        "build_dir": f"{fleet['state_dir']}/build",
        "stack_file": f"{fleet['config_dir']}/docker-compose.cloud.yml",
    }
    edge = plan_edge(fleet, PORT)
    configs.append(_config(name, "edge", caddyfile(edge)))
    objects = {secret["name"]: secret["object"] for secret in secrets}
    plan = {
        "version": PLAN_VERSION,
        "fleet": name,
        "label": LABEL,
        "paths": paths,
        "site": fleet["site"],
        "build": fleet["images"],
        "registry": plan_registry(
            fleet, LABEL, {image["name"]: image["ref"] for image in images}, objects, facts.registry_authority
        ),
        "images": images,
        "missing_locks": missing_locks,
        "secrets": secrets,
        "secret_sources": sorted(fleet["secrets"]),
        "configs": configs,
        "networks": [
            {
                "name": f"{name}_{tier}",
                "tier": tier,
                "subnet": fleet["networks"][tier],
                "internal": tier in ("backend", "control"),
                "encrypted": encrypted(fleet, len(facts.hosts)),
                "mtu": fleet["networks"]["mtu"],
            }
            for tier in TIERS
            if tier != "control" or scaled(servers)
        ],
        "nodes": [
            {
                "name": host.name,
                "manager": host.manager,
                "labels": dict(host.labels),
                "gpus": host.gpus,
                "gpu_slots": host.gpu_slots,
            }
            for host in facts.hosts
        ],
        "warnings": [*manager_warnings(facts.hosts), *given.warnings],
        "servers": servers,
        "gateway": {"replicas": fleet["gateway"]["replicas"], "port": PORT, "config": gateway},
        "edge": edge,
        "stack": stack(fleet, servers, refs, objects, {c["name"]: c["object"] for c in configs}, edge, facts.hosts),
        "client": {
            "url": f"{edge['url']}/mcp",
            "api_key_file": facts.api_key_file,
            "ca_file": {"internal": facts.ca_file, "files": edge["ca_file"], "acme": ""}[edge["tls"]],
        },
    }
    return plan | {"digest": content_digest(plan)}


def encrypted(fleet: dict[str, Any], nodes: int) -> bool | None:
    """Whether traffic between nodes is encrypted; None where there is none, and networks stay as they are."""
    wish = fleet["networks"]["encrypted"]
    if wish == "auto":
        return True if nodes > 1 else None
    return bool(wish == "true")


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _config(fleet: str, name: str, text: str) -> dict[str, str]:
    """A configuration file as a Swarm config named by its content."""
    return {"name": name, "object": f"{fleet}_{name}_{content_digest(text)[:12]}", "content": text}


def _server(entry: dict[str, Any], refs: dict[str, str], stack_name: str, on_gpus: int) -> dict[str, Any]:
    """A server of the plan: the entry with what follows from it.

    Args:
        on_gpus: how many of its replicas have GPUs.
    """
    source, service = entry["source"], service_of(entry["name"])
    kind = source["kind"]
    url = source["url"] if kind == "remote" else ""
    dns = {"dns": f"tasks.{stack_name}_{service}", "port": entry["port"], "path": entry["path"]}
    port = str(entry["port"])
    pool = _gpu_pool(entry, stack_name, on_gpus) if entry["gpu"] == "preferred" and on_gpus else None
    return {key: value for key, value in entry.items() if key not in BUILD_KEYS} | {
        "service": service,
        "services": [service, *([pool["service"]] if pool else [])] if not url else [],
        "kind": kind,
        "url": url,
        "image": None if url else source["image"] if kind == "image" else refs[service],
        "upstream": {"urls": [url]} if url else dns,
        "cpus": entry["resources"]["cpus"],
        "memory": entry["resources"]["memory"],
        "replicas": first_replicas(entry),
        "env": {key: value.replace("{port}", port) for key, value in entry["env"].items()},
        "gpu_count": entry["gpus"] if on_gpus else 0,
        "gpu_pool": pool,
    }


def _gpu_pool(entry: dict[str, Any], stack_name: str, replicas: int) -> dict[str, Any]:
    """Of a server with a CPU twin its GPU service: what it is called, where it is, and how calls get there."""
    service = gpu_service_of(entry["name"])
    routing = {"gpu": "preferred", "gpu_tools": entry["gpu_tools"], "concurrency": entry["concurrency"]}
    limits = {key: value for key, value in entry["gpu_pool"].items() if key != "replicas" and value is not None}
    return {
        "service": service,
        "replicas": replicas,
        "upstream": {"dns": f"tasks.{stack_name}_{service}", "port": entry["port"], "path": entry["path"]},
        "routing": routing | limits,
    }
