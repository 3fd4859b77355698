# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers whose replicas the autoscaler moves: what their keys demand of each other, and its configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .gateway_config import PORT as GATEWAY_PORT

PORT = 8090
PROXY_PORT = 2375
PROXY = "docker-proxy"
# Of a server's places, the part that is to be taken: what is left bridges the time until a new replica is ready.
BUSY = 0.75


def scale_rules(server: Mapping[str, Any], path: str, gpu_url: str, errors: list[str]) -> None:
    """What ``scale`` demands of a server's other keys.

    Args:
        server: the entry, with defaults filled in.
        path: of the entry, for messages.
        gpu_url: the exporter of the GPUs' use; empty where there is none.
        errors: takes one line per mistake.
    """
    scale = server["scale"]
    if not scale or not all(isinstance(scale.get(key), int) for key in ("min", "max")):
        return
    least, most = scale["min"], scale["max"]
    if server["source"].get("kind") == "remote":
        errors.append(f"{path}.scale: has no effect with kind remote, which runs elsewhere; remove it")
    if most < least:
        errors.append(f"{path}.scale.max: {most} is less than min, {least}; raise it")
    elif server["replicas"] != 1 and not least <= (server["replicas"] or 0) <= most:
        errors.append(
            f"{path}.replicas: {server['replicas']} is not within scale, {least} to {most}; correct it or remove it"
        )
    if server["sessions"] == "sticky":
        errors.append(
            f"{path}.scale: a sticky server keeps its clients' state in its replicas, which shrinking would end;"
            " remove scale, or make it stateless"
        )
    if server["volumes"] and most > 1:
        errors.append(
            f"{path}.scale.max: {most} replicas would share {', '.join(server['volumes'])}, each on its own node;"
            " use 1, or remove the volumes"
        )
    if scale["targets"].get("gpu_percent") is not None:
        if server["gpu"] == "none":
            errors.append(f"{path}.scale.targets.gpu_percent: the server uses no GPU; set gpu, or remove it")
        if not gpu_url:
            errors.append(
                f"{path}.scale.targets.gpu_percent: nothing tells of GPUs;"
                " set mcp_fleet.autoscaling.gpu.url, or remove it"
            )


def first_replicas(entry: Mapping[str, Any]) -> int:
    """How many replicas a server begins with: one at least, so that a first deploy proves that it works."""
    scale = entry["scale"]
    if not scale:
        return int(entry["replicas"])
    return int(min(max(entry["replicas"], scale["min"], 1), scale["max"]))


def scaled(servers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those whose replicas the autoscaler moves."""
    return [server for server in servers if server["scale"]]


def autoscaler_config(servers: list[dict[str, Any]], fleet: Mapping[str, Any]) -> dict[str, Any]:
    """The document that ``mcp-autoscaler run --config`` reads; see services/autoscaler/README.md."""
    name = fleet["name"]
    config: dict[str, Any] = {
        "fleet": name,
        "listen": {"host": "0.0.0.0", "port": PORT},
        "docker": f"http://tasks.{name}_{PROXY}:{PROXY_PORT}",
        "gateway": f"http://tasks.{name}_gateway:{GATEWAY_PORT}/metrics",
        "interval_seconds": fleet["autoscaling"]["interval_seconds"],
        "servers": {server["name"]: _rule(server) for server in scaled(servers)},
    }
    if fleet["autoscaling"]["gpu"]["url"]:
        config["gpu"] = fleet["autoscaling"]["gpu"]
    return config


def _rule(server: dict[str, Any]) -> dict[str, Any]:
    scale = server["scale"]
    targets = {metric: value for metric, value in scale["targets"].items() if value is not None}
    rule = {
        "targets": targets or {"in_flight": max(1, server["concurrency"] * BUSY)},
        "tolerance": scale["tolerance"],
        "idle_seconds": scale["idle_seconds"],
    }
    for direction in ("up", "down"):
        rule[direction] = {key: value for key, value in scale[direction].items() if value != []}
    return rule
