# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stack file: a compose 3.8 document that ``docker stack deploy`` accepts as it is."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils import _gpu_terms, _services

from . import edge as edges
from . import gpus
from .dockerfiles import UID
from .facts import Host
from .placing import preferences
from .scaling import PROXY, PROXY_PORT, scaled

LABEL = _services.LABEL
# A service with this deploy label is not watched after it became ready (_swarm/convergence.py).
SETTLED = f"{LABEL}.settled"
CONFIG_TARGET = "/etc/mcp-gateway/config.yaml"
AUTOSCALER_TARGET = "/etc/mcp-autoscaler/config.json"
# Deploy labels with the bounds of a scaled service, by what the catalogue calls them.
SCALE = {f"{LABEL}.scale.min": "min", f"{LABEL}.scale.max": "max"}
ENGINE_SOCKET = "/var/run/docker.sock"

Service = dict[str, Any]


def stack(
    fleet: Mapping[str, Any],
    servers: list[dict[str, Any]],
    refs: Mapping[str, str],
    secrets: Mapping[str, str],
    configs: Mapping[str, str],
    edge: Mapping[str, Any],
    hosts: Sequence[Host] = (),
) -> dict[str, Any]:
    """The whole fleet.

    Args:
        fleet: validated settings.
        servers: the plan's servers.
        refs: image name to reference.
        secrets: secret name to the name of its Swarm object.
        configs: configuration to the name of the Swarm config that holds it.
        edge: the plan's edge.
        hosts: the inventory's nodes.
    """
    name = fleet["name"]
    services = {
        "gateway": _gateway(fleet, servers, refs),
        "edge": _edge(fleet, refs),
        "edge-config": _edge_config(fleet["name"], refs, edge),
    }
    shown = any(gpus.units(host) for host in hosts)
    for server in (server for server in servers if server["image"]):
        services |= _services_of(server, name, secrets, shown)
    if spread := preferences(hosts):
        for part in services.values():
            if part["deploy"].get("mode") != "global":
                part["deploy"].setdefault("placement", {})["preferences"] = spread
    tiers = ["edge", "backend", "egress"]
    if scaled(servers):
        services |= {"autoscaler": _autoscaler(name, refs), PROXY: _docker_proxy(name, refs)}
        tiers.append("control")
    used = {item["source"] for service in services.values() for item in service.get("secrets", [])}
    kept = ["edge_data", *(f"{s['service']}_{v}" for s in servers if s["image"] for v in s["volumes"])]
    volumes = {v: {"name": f"{name}_{v}", "labels": {f"{LABEL}.fleet": name}} for v in kept}
    # What the edge runs with, its certificate's key among it, is in memory: nothing of it outlives its node's start.
    memory = {"type": "tmpfs", "device": "tmpfs", "o": f"size=4m,mode=0700,uid={UID},gid={UID}"}
    volumes["edge_run"] = {"name": f"{name}_edge_run", "driver_opts": memory, "labels": {f"{LABEL}.fleet": name}}
    return {
        "version": "3.8",
        "services": services,
        "networks": {tier: {"external": True, "name": f"{name}_{tier}"} for tier in tiers},
        "volumes": volumes,
        "secrets": {s: {"external": True, "name": secrets[s]} for s in sorted(used)},
        "configs": {config: {"external": True, "name": obj} for config, obj in configs.items()},
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
    return {"source": name, "target": name, "uid": str(UID), "gid": str(UID), "mode": 0o400}


def _config(name: str, target: str) -> dict[str, Any]:
    return {"source": name, "target": target, "uid": str(UID), "gid": str(UID), "mode": 0o440}


def _gateway(fleet: Mapping[str, Any], servers: list[dict[str, Any]], refs: Mapping[str, str]) -> Service:
    service = _common(fleet["name"], "gateway", refs["gateway"])
    headers = {value["secret"] for server in servers for value in server["headers"].values()}
    service["networks"] = {"edge": {"aliases": ["gateway"]}, "backend": {"aliases": ["gateway"]}}
    service["configs"] = [_config("gateway", CONFIG_TARGET)]
    service["secrets"] = [_secret(s) for s in ("gateway_api_key", "gateway_session_key", *sorted(headers))]
    service["stop_grace_period"] = f"{fleet['gateway']['drain_seconds'] + 5}s"
    service["deploy"]["replicas"] = fleet["gateway"]["replicas"]
    service["deploy"]["resources"] = _limits(fleet["gateway"]["cpus"], fleet["gateway"]["memory"])
    return service


def _on_a_manager(service: Service) -> None:
    service["deploy"]["placement"] = {"constraints": ["node.role == manager"]}
    service["deploy"]["resources"] = _limits(0.5, "128M")
    service["deploy"]["replicas"] = 1
    service["stop_grace_period"] = "20s"
    _stop_first(service)  # two of them would decide at the same time


def _autoscaler(fleet_name: str, refs: Mapping[str, str]) -> Service:
    service = _common(fleet_name, "autoscaler", refs["autoscaler"])
    service["networks"] = {"backend": {}, "control": {}}
    service["configs"] = [_config("autoscaler", AUTOSCALER_TARGET)]
    _on_a_manager(service)
    return service


def _docker_proxy(fleet_name: str, refs: Mapping[str, str]) -> Service:
    """The only one that sees the engine's socket; its network has nobody but the autoscaler."""
    service = _common(fleet_name, PROXY, refs["autoscaler"])
    service["command"] = ["proxy", "--fleet", fleet_name, "--port", str(PROXY_PORT)]
    service["environment"] = {"HEALTH_PORT": str(PROXY_PORT)}
    # The socket belongs to root; without capabilities this root can do no more than open it.
    service["user"] = "0:0"
    service["networks"] = {"control": {}}
    service["volumes"].append({"type": "bind", "source": ENGINE_SOCKET, "target": ENGINE_SOCKET, "read_only": True})
    _on_a_manager(service)
    return service


def _on_edge_nodes(service: Service) -> None:
    service["volumes"].append(
        {"type": "volume", "source": "edge_run", "target": edges.RUN_DIR, "volume": {"nocopy": True}}
    )
    service["deploy"]["mode"] = "global"
    service["deploy"]["placement"] = {"constraints": [f"node.labels.{LABEL}.edge == true"]}
    _stop_first(service)


def _edge(fleet: Mapping[str, Any], refs: Mapping[str, str]) -> Service:
    service = _common(fleet["name"], "edge", refs["edge"])
    edge = fleet["edge"]
    service["networks"] = {"edge": {}}
    service["ports"] = [
        {"target": target, "published": published, "protocol": "tcp", "mode": "host"}
        for target, published in ((edges.HTTPS_PORT, edge["port"]), (edges.HTTP_PORT, edge["http_port"]))
        if published
    ]
    service["volumes"].append({"type": "volume", "source": "edge_data", "target": "/data"})
    service["stop_grace_period"] = "20s"
    # A gateway on a node that is lost answers nothing: the system gives such a connection up after 13 s, not after 15
    # minutes (net.ipv4.tcp_retries2 in the kernel's ip-sysctl).
    service["sysctls"] = {"net.ipv4.tcp_retries2": "5"}
    service["deploy"]["resources"] = _limits(1.0, "256M")
    _on_edge_nodes(service)
    return service


def _edge_config(fleet_name: str, refs: Mapping[str, str], edge: Mapping[str, Any]) -> Service:
    """What brings the edge its configuration; another one replaces this task and never the edge's."""
    service = _common(fleet_name, "edge-config", refs["edge"])
    service["command"] = ["edge-config"]
    service["environment"] = edges.environment(edge)
    service["networks"] = {"edge": {}}  # without any, Swarm would make it one of its own
    service["configs"] = [_config("edge", edges.CADDYFILE)]
    service["secrets"] = [_secret(s) for s in edges.SECRETS[edge["tls"]]]
    service["healthcheck"] = {
        "test": ["CMD", "test", "-e", edges.LOADED],
        "interval": "5s",
        "timeout": "5s",
        "start_period": "60s",
        "retries": 3,
    }
    service["stop_grace_period"] = "5s"
    service["deploy"]["resources"] = _limits(0.5, "128M")
    # That it is ready is all that it is for.
    service["deploy"]["labels"][SETTLED] = "true"
    _on_edge_nodes(service)
    # On all nodes at once: what an edge refuses never serves, and it goes on with what it had.
    service["deploy"]["update_config"] |= {"parallelism": 0, "monitor": "1s"}
    return service


def _services_of(
    server: dict[str, Any], fleet_name: str, secrets: Mapping[str, str], gpus_shown: bool
) -> dict[str, Service]:
    """A server's service, or its CPU twin and its GPU service.

    Args:
        gpus_shown: whether there are nodes on which a container may see GPUs.
    """
    plain, pool = _server(server, fleet_name, secrets), server["gpu_pool"]
    if not pool:
        if server["gpu_count"]:
            _reserve(plain, server["gpu_count"])
        elif gpus_shown:
            _hide(plain)
        return {server["service"]: plain}
    on_gpu = copy.deepcopy(plain)
    _hide(plain)
    _reserve(on_gpu, server["gpu_count"])
    on_gpu["deploy"]["replicas"] = pool["replicas"]
    for bound in SCALE:  # the autoscaler moves the CPU twin
        on_gpu["deploy"]["labels"].pop(bound, None)
    for service, kind in ((plain, _services.CPU), (on_gpu, _services.GPU)):
        service["labels"][_services.POOL] = service["deploy"]["labels"][_services.POOL] = kind
    return {server["service"]: plain, pool["service"]: on_gpu}


def _reserve(service: Service, count: int) -> None:
    """Have Swarm assign GPUs to each of its replicas."""
    service["deploy"]["resources"]["reservations"] = {
        "generic_resources": [{"discrete_resource_spec": {"kind": _gpu_terms.GPU_KIND, "value": count}}]
    }
    service["environment"] = {_gpu_terms.CAPABILITIES: gpus.NEEDED, **service.get("environment", {})}
    # A second one may find no unit free; one after the other, so that the others serve meanwhile.
    _stop_first(service)
    service["deploy"]["update_config"]["parallelism"] = 1


def _hide(service: Service) -> None:
    """Have it see no GPU where the nodes' runtime would show those that an image asks for."""
    service["environment"] = {**service.get("environment", {}), _gpu_terms.VISIBLE: "void"}


def _server(server: dict[str, Any], fleet_name: str, secrets: Mapping[str, str]) -> Service:
    service = _common(fleet_name, "server", server["image"])
    service["labels"][_services.SERVER] = service["deploy"]["labels"][_services.SERVER] = server["name"]
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
    if server["scale"]:
        # A deploy keeps the replicas that it finds within these; the autoscaler moves nothing without them.
        deploy["labels"] |= {label: str(server["scale"][bound]) for label, bound in SCALE.items()}
    # Replicas move side by side: a server's update takes one start, not one a replica.
    deploy["update_config"]["parallelism"] = 0 if server["replicas"] < 3 else 2
    deploy["resources"] = _limits(server["cpus"], server["memory"])
    if server["constraints"]:
        deploy["placement"] = {"constraints": server["constraints"]}
    return service
