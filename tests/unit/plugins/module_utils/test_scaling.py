# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers with ``scale``: what the keys demand of each other, and what the plan makes of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.compile import compile_fleet
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.facts import Facts
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError, validate

TIME: dict[str, Any] = {
    "name": "time",
    "source": {"kind": "pypi", "package": "mcp-server-time", "version": "1.2.3"},
    "command": ["mcp-server-time"],
}
GPU_URL = {"autoscaling": {"gpu": {"url": "http://tasks.gpu:9400/metrics"}}}


def plan(scale: Any = None, settings: Any = None, **changes: Any) -> dict[str, Any]:
    server = {**TIME, **({"scale": scale} if scale else {}), **changes}
    facts = Facts(
        locks={"pypi-mcp-server-time-1.2.3.txt": "mcp-server-time==1.2.3\n"},
        trees={"services/runtime": "r", "services/gateway": "g", "services/autoscaler": "a"},
        files={},
        secret_digests={"gateway_api_key": "b" * 64, "gateway_session_key": "c" * 64},
        api_key_file="/state/key",
        ca_file="/state/ca.crt",
    )
    return compile_fleet([server], settings, facts)


def rules(of: dict[str, Any]) -> dict[str, Any]:
    """The autoscaler's configuration."""
    return dict(json.loads(next(config["content"] for config in of["configs"] if config["name"] == "autoscaler")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"scale": {"min": 3, "max": 2}}, "scale.max: 2 is less than min, 3; raise it"),
        ({"scale": {"max": 2}, "replicas": 3}, "replicas: 3 is not within scale, 1 to 2; correct it or remove it"),
        (
            {"scale": {"max": 2}, "sessions": "sticky"},
            "scale: a sticky server keeps its clients' state in its replicas",
        ),
        ({"scale": {"max": 2}, "volumes": {"data": "/data"}}, "scale.max: 2 replicas would share data"),
        (
            {"scale": {"max": 2, "targets": {"gpu_percent": 70}}, "gpu": "preferred"},
            "set mcp_fleet.autoscaling.gpu.url",
        ),
        ({"scale": {"min": 1}}, "scale.max: missing"),
        ({"scale": {"max": 0}}, "scale.max: 0 is too small; use at least 1"),
        ({"scale": {"max": 2, "up": {"select": "most"}}}, "scale.up.select: 'most' is unknown; use one of max, min, disabled"),
        ({"scale": {"max": 2, "down": {"policies": [{"type": "percent", "value": 10}]}}}, "period_seconds: missing"),
        ({"scale": {"maximum": 2}}, "scale.maximum: unknown key"),
    ],
)
def test_each_mistake_names_key_value_and_fix(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(FleetError) as raised:
        validate([{**TIME, **changes}], None)
    assert any(error.startswith("mcp_servers[0].") and said in error for error in raised.value.errors), (
        raised.value.errors
    )


def test_gpu_use_needs_a_gpu() -> None:
    with pytest.raises(FleetError, match="the server uses no GPU"):
        validate([{**TIME, "scale": {"max": 2, "targets": {"gpu_percent": 70}}}], GPU_URL)


def test_a_fleet_without_scale_has_no_autoscaler() -> None:
    of = plan()
    assert not {"autoscaler", "docker-proxy"} & of["stack"]["services"].keys()
    assert "autoscaler" not in {image["name"] for image in of["images"]}
    assert "mcp_control" not in {network["name"] for network in of["networks"]}


def test_the_autoscaler_reaches_docker_by_its_proxy_alone() -> None:
    services = plan({"max": 3})["stack"]["services"]
    sockets = [name for name, service in services.items() if "/var/run/docker.sock" in str(service.get("volumes"))]
    assert sockets == ["docker-proxy"]
    assert [name for name, service in services.items() if "control" in service["networks"]] == [
        "autoscaler",
        "docker-proxy",
    ]
    assert list(services["docker-proxy"]["networks"]) == ["control"]
    for name in ("autoscaler", "docker-proxy"):
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["deploy"]["placement"] == {"constraints": ["node.role == manager"]}


def test_the_service_says_its_bounds() -> None:
    deploy = plan({"min": 2, "max": 5})["stack"]["services"]["time"]["deploy"]
    assert (deploy["labels"]["ai.sophia.mcp.scale.min"], deploy["labels"]["ai.sophia.mcp.scale.max"]) == ("2", "5")
    assert deploy["replicas"] == 2


def test_a_sleeper_begins_awake_and_is_waited_for() -> None:
    of = plan({"min": 0, "max": 2, "wake_seconds": 30})
    assert of["stack"]["services"]["time"]["deploy"]["replicas"] == 1
    (server,) = of["gateway"]["config"]["servers"]
    assert server["wake_seconds"] == 30
    assert "wake_seconds" not in plan({"min": 1, "max": 2})["gateway"]["config"]["servers"][0]


def test_the_rule_of_a_server() -> None:
    rule = rules(plan({"max": 3}, concurrency=8))["servers"]["time"]
    assert rule["targets"] == {"in_flight": 6}
    assert rule["down"] == {"stabilization_seconds": 300, "select": "max"}
    scale = {
        "max": 3,
        "targets": {"latency_ms": 200},
        "up": {"policies": [{"type": "replicas", "value": 1, "period_seconds": 60}]},
    }
    rule = rules(plan(scale))["servers"]["time"]
    assert rule["targets"] == {"latency_ms": 200}
    assert rule["up"]["policies"] == [{"type": "replicas", "value": 1, "period_seconds": 60}]


def test_gpus_are_read_where_the_settings_say() -> None:
    assert "gpu" not in rules(plan({"max": 2}))
    assert rules(plan({"max": 2}, GPU_URL))["gpu"]["url"] == "http://tasks.gpu:9400/metrics"
