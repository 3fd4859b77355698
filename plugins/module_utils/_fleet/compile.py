# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what people want to everything that anyone needs to know: the fleet plan."""

from __future__ import annotations

import json
from typing import Any

from .edge import caddyfile, plan_edge
from .facts import Facts
from .gateway_config import PORT, gateway_config
from .images import content_digest, plan_images
from .placing import constraints, manager_warnings
from .scaling import autoscaler_config, first_replicas, scaled
from .schema import TIERS
from .stack import LABEL, stack
from .validate import validate

PLAN_VERSION = 1
# Keys of an entry that are about making its image, or have another shape in the plan.
BUILD_KEYS = ("source", "resources", "packages", "prepare", "files")


def compile_fleet(catalogue: Any, settings: Any, facts: Facts) -> dict[str, Any]:
    """The FleetPlan of docs/architecture.md, as plain JSON types.

    Args:
        catalogue: the variable ``mcp_servers``.
        settings: the variable ``mcp_fleet``.
        facts: what was gathered about the world.

    Raises:
        FleetError: with every mistake found.
    """
    entries, fleet = validate(catalogue, settings, facts.gpu_nodes, facts.hosts)
    name = fleet["name"]
    images, missing_locks = plan_images(entries, fleet, facts)
    refs = {image["name"]: image["ref"] for image in images}
    servers = [
        _server(entry, refs, name, facts.gpu_nodes)
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
        "nodes": [{"name": host.name, "manager": host.manager, "labels": dict(host.labels)} for host in facts.hosts],
        "warnings": manager_warnings(facts.hosts),
        "servers": servers,
        "gateway": {"replicas": fleet["gateway"]["replicas"], "port": PORT, "config": gateway},
        "edge": edge,
        "stack": stack(
            fleet, servers, refs, objects, {c["name"]: c["object"] for c in configs}, edge, facts.hosts
        ),
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


def _server(entry: dict[str, Any], refs: dict[str, str], stack_name: str, gpu_nodes: int) -> dict[str, Any]:
    """A server of the plan: the entry with what follows from it."""
    source, service = entry["source"], entry["name"].replace("_", "-")
    kind = source["kind"]
    url = source["url"] if kind == "remote" else ""
    dns = {"dns": f"tasks.{stack_name}_{service}", "port": entry["port"], "path": entry["path"]}
    port = str(entry["port"])
    return {key: value for key, value in entry.items() if key not in BUILD_KEYS} | {
        "service": service,
        "kind": kind,
        "url": url,
        "image": None if url else source["image"] if kind == "image" else refs[service],
        "upstream": {"urls": [url]} if url else dns,
        "cpus": entry["resources"]["cpus"],
        "memory": entry["resources"]["memory"],
        "replicas": first_replicas(entry),
        "env": {key: value.replace("{port}", port) for key, value in entry["env"].items()},
        "gpu_count": 1 if entry["gpu"] != "none" and gpu_nodes else 0,
    }
