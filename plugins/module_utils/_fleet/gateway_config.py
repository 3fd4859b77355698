# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's configuration, from the plan's servers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PORT = 8080


def gateway_config(servers: list[dict[str, Any]], fleet: Mapping[str, Any]) -> dict[str, Any]:
    """The document that ``mcp-gateway serve --config`` reads; see services/gateway/README.md."""
    return {
        "listen": {"host": "0.0.0.0", "port": PORT},
        "auth": {"api_keys": [{"name": "default", "file": "/run/secrets/gateway_api_key"}]},
        "sessions": {"key_files": ["/run/secrets/gateway_session_key"]},
        # Of a single replica too: while it is updated, the new one learns from the old one what clients have set.
        "peers": {"dns": {"name": f"tasks.{fleet['name']}_gateway", "port": PORT}},
        # What deploys and people say while it runs; there is no such service most of the time.
        "board": {"dns": {"name": f"tasks.{fleet['name']}_gateway_board", "port": PORT}},
        "http": {"allowed_hosts": ["*"], "allowed_origins": fleet["gateway"]["allowed_origins"]},
        "drain_seconds": fleet["gateway"]["drain_seconds"],
        "servers": [_server(server, fleet["name"]) for server in servers if server["replicas"] or server["url"]],
    }


def _server(server: dict[str, Any], stack: str) -> dict[str, Any]:
    result: dict[str, Any] = {"name": server["name"]}
    if server["url"]:
        result["url"] = server["url"]
    else:
        result["dns"] = _dns(stack, server["service"], server)
    result |= {
        "sessions": server["sessions"],
        "concurrency": server["concurrency"],
        "timeout_seconds": server["timeout_seconds"],
        "tools": server["tools"],
    }
    if server["scale"] and server["scale"]["min"] == 0:
        result["wake_seconds"] = server["scale"]["wake_seconds"]
    if pool := server["gpu_pool"]:
        result["gpu_pool"] = {"dns": _dns(stack, pool["service"], server)}
        result["pools"] = pool["routing"]
    if server["host_header"]:
        result["host_header"] = server["host_header"]
    if server["headers"]:
        result["headers"] = {
            name: {"file": f"/run/secrets/{value['secret']}", "prefix": value["prefix"]}
            for name, value in server["headers"].items()
        }
    return result


def _dns(stack: str, service: str, server: dict[str, Any]) -> dict[str, Any]:
    return {"name": f"tasks.{stack}_{service}", "port": server["port"], "path": server["path"]}
