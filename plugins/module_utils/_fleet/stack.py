# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stack file: a compose 3.8 document that ``docker stack deploy`` accepts as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LABEL = "ai.sophia.mcp"
CONFIG_TARGET = "/etc/mcp-gateway/config.yaml"
EDGE_HTTPS_PORT = 8443
EDGE_HTTP_PORT = 8080

Service = dict[str, Any]


def stack(
    fleet: Mapping[str, Any],
    servers: list[dict[str, Any]],
    refs: Mapping[str, str],
    secrets: Mapping[str, str],
    gateway_config: str,
    edge_dir: str,
) -> dict[str, Any]:
    """The whole fleet.

    Args:
        fleet: validated settings.
        servers: the plan's servers.
        refs: image name to reference.
        secrets: secret name to the name of its Swarm object.
        gateway_config: name of the Swarm config with the gateway's configuration.
        edge_dir: the edge's configuration directory on its node.
    """
    name = fleet["name"]
    services = {
        "gateway": _gateway(fleet, servers, refs, gateway_config),
        "edge": _edge(fleet, refs, edge_dir),
        **{s["service"]: _server(s, name, secrets) for s in servers if s["image"]},
    }
    used = {item["source"] for service in services.values() for item in service.get("secrets", [])}
    kept = ["edge_data", *(f"{s['service']}_{v}" for s in servers if s["image"] for v in s["volumes"])]
    return {
        "version": "3.8",
        "services": services,
        "networks": {tier: {"external": True, "name": f"{name}_{tier}"} for tier in ("edge", "backend", "egress")},
        "volumes": {v: {"name": f"{name}_{v}", "labels": {f"{LABEL}.fleet": name}} for v in kept},
        "secrets": {s: {"external": True, "name": secrets[s]} for s in sorted(used)},
        "configs": {"gateway": {"external": True, "name": gateway_config}},
    }


def _common(fleet_name: str, part: str, image: str) -> Service:
    return {
        "image": image,
        "cap_drop": ["ALL"],
        "read_only": True,
        "volumes": [{"type": "tmpfs", "target": "/tmp", "tmpfs": {"size": 268435456}}],
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
        "labels": {f"{LABEL}.fleet": fleet_name, f"{LABEL}.part": part},
        "deploy": {
            "endpoint_mode": "dnsrr",
            "labels": {f"{LABEL}.fleet": fleet_name, f"{LABEL}.part": part},
            "restart_policy": {"condition": "any", "delay": "2s", "max_attempts": 0},
            # A task that starts and ends is a failed update: Swarm watches each for this long and then goes back.
            "update_config": {"parallelism": 1, "order": "start-first", "failure_action": "rollback", "monitor": "5s"},
            "rollback_config": {"parallelism": 0, "order": "start-first"},
        },
    }


def _stop_first(service: Service) -> None:
    """Two tasks cannot share what this service holds (a host port, a database file): the old one goes first."""
    service["deploy"]["update_config"]["order"] = "stop-first"
    service["deploy"]["rollback_config"]["order"] = "stop-first"


def _limits(cpus: float, memory: str) -> dict[str, Any]:
    return {"limits": {"cpus": f"{cpus:g}", "memory": memory}}


def _secret(name: str) -> dict[str, Any]:
    # The user that servers run as has uid 10001 in every image of ours.
    return {"source": name, "target": name, "uid": "10001", "gid": "10001", "mode": 0o400}


def _gateway(fleet: Mapping[str, Any], servers: list[dict[str, Any]], refs: Mapping[str, str], config: str) -> Service:
    service = _common(fleet["name"], "gateway", refs["gateway"])
    headers = {value["secret"] for server in servers for value in server["headers"].values()}
    service["networks"] = {"edge": {"aliases": ["gateway"]}, "backend": {"aliases": ["gateway"]}}
    service["configs"] = [{"source": "gateway", "target": CONFIG_TARGET, "uid": "10001", "gid": "10001", "mode": 0o440}]
    service["secrets"] = [_secret(s) for s in ("gateway_api_key", "gateway_session_key", *sorted(headers))]
    service["stop_grace_period"] = f"{fleet['gateway']['drain_seconds'] + 5}s"
    service["deploy"]["replicas"] = fleet["gateway"]["replicas"]
    service["deploy"]["resources"] = _limits(fleet["gateway"]["cpus"], fleet["gateway"]["memory"])
    return service


def _edge(fleet: Mapping[str, Any], refs: Mapping[str, str], edge_dir: str) -> Service:
    service = _common(fleet["name"], "edge", refs["edge"])
    edge = fleet["edge"]
    service["networks"] = {"edge": {}}
    service["ports"] = [
        {"target": target, "published": published, "protocol": "tcp", "mode": "host"}
        for target, published in ((EDGE_HTTPS_PORT, edge["port"]), (EDGE_HTTP_PORT, edge["http_port"]))
        if published
    ]
    service["volumes"] += [
        {"type": "volume", "source": "edge_data", "target": "/data"},
        {"type": "bind", "source": edge_dir, "target": "/etc/caddy", "read_only": True},
    ]
    service["stop_grace_period"] = "20s"
    service["deploy"]["mode"] = "global"
    service["deploy"]["placement"] = {"constraints": [f"node.labels.{LABEL}.edge == true"]}
    service["deploy"]["resources"] = _limits(1.0, "256M")
    _stop_first(service)
    return service


def _server(server: dict[str, Any], fleet_name: str, secrets: Mapping[str, str]) -> Service:
    service = _common(fleet_name, "server", server["image"])
    service["labels"][f"{LABEL}.server"] = service["deploy"]["labels"][f"{LABEL}.server"] = server["name"]
    environment = dict(server["env"])
    for variable, secret in server["secrets"].items():
        environment[f"{variable}_FILE"] = f"/run/secrets/{secret}"
    if environment:
        service["environment"] = environment
    if server["secrets"]:
        service["secrets"] = [_secret(s) for s in sorted(set(server["secrets"].values()))]
    service["networks"] = {"backend": {}} | ({"egress": {}} if server["egress"] else {})
    if server["kind"] == "image" and server["command"]:
        service["command"] = server["command"]
    if not server["read_only"]:
        del service["read_only"]
    if server["volumes"]:
        service["volumes"] += [
            {"type": "volume", "source": f"{server['service']}_{name}", "target": path}
            for name, path in server["volumes"].items()
        ]
        _stop_first(service)
    service["stop_grace_period"] = "20s"
    deploy = service["deploy"]
    deploy["replicas"] = server["replicas"]
    # Replicas move side by side: a server's update takes one start, not one a replica.
    deploy["update_config"]["parallelism"] = 0 if server["replicas"] < 3 else 2
    deploy["resources"] = _limits(server["cpus"], server["memory"])
    if server["constraints"]:
        deploy["placement"] = {"constraints": server["constraints"]}
    if server["gpu_count"]:
        deploy["resources"]["reservations"] = {
            "generic_resources": [{"discrete_resource_spec": {"kind": "NVIDIA-GPU", "value": server["gpu_count"]}}]
        }
    return service
