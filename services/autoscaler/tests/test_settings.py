"""The configuration file: what it says, and each mistake by its key, its value and the fix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_autoscaler.history import DOWN, UP, Direction, Policy
from mcp_autoscaler.settings import Rule, SettingsError, load, parse

GOOD: dict[str, Any] = {
    "fleet": "mcp",
    "docker": "http://tasks.mcp_docker-proxy:2375",
    "gateway": "http://tasks.mcp_gateway:8080/metrics",
    "servers": {"time": {"targets": {"in_flight": 8}}},
}


def with_rule(**keys: Any) -> dict[str, Any]:
    return {**GOOD, "servers": {"time": {"targets": {"in_flight": 8}, **keys}}}


def test_what_is_left_out_is_as_in_kubernetes() -> None:
    settings = parse(GOOD)
    assert settings.servers == {"time": Rule({"in_flight": 8})}
    assert (settings.servers["time"].tolerance, UP.window, DOWN.window) == (0.1, 0, 300)
    assert UP.policies == (Policy("replicas", 4, 15), Policy("percent", 100, 15))
    assert DOWN.policies == (Policy("percent", 100, 15),)


def test_all_of_it() -> None:
    down = {
        "stabilization_seconds": 60,
        "select": "min",
        "policies": [{"type": "replicas", "value": 1, "period_seconds": 30}],
    }
    document = {**with_rule(tolerance=0.2, idle_seconds=90, down=down), "gpu": {"url": "http://tasks.gpu:9400/metrics"}}
    document["servers"]["time"]["targets"]["gpu_percent"] = 70
    rule = parse(document).servers["time"]
    assert rule == Rule(
        {"in_flight": 8, "gpu_percent": 70}, 0.2, 90, UP, Direction(60, (Policy("replicas", 1, 30),), "min")
    )


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "configuration: [] is not a mapping"),
        ({**GOOD, "fleet": ""}, "fleet: '' is not allowed; give a text"),
        ({**GOOD, "docker": "tasks.x:1"}, "docker: 'tasks.x:1' is not allowed; give a URL such as"),
        ({**GOOD, "docker": "https://x"}, "docker: 'https://x' is not allowed"),
        ({**GOOD, "gateway": "http://x:99999"}, "gateway: 'http://x:99999' is not allowed"),
        ({**GOOD, "extra": 1}, "extra: unknown key; remove it"),
        ({**GOOD, "interval_seconds": 0}, "interval_seconds: 0 is not allowed; give a number from 0.1 to 300"),
        ({**GOOD, "listen": {"port": "8090"}}, "listen.port: '8090' is not allowed; give a whole number from 0 to 65535"),
        (with_rule(targets={}), "servers.time.targets: empty; name at least one of in_flight, queue, latency_ms, gpu_percent"),
        (with_rule(targets={"in_flight": 0}), "servers.time.targets.in_flight: 0 is not allowed"),
        (with_rule(targets={"in_flight": True}), "servers.time.targets.in_flight: True is not allowed"),
        (with_rule(targets={"in_flight": float("nan")}), "servers.time.targets.in_flight: nan is not allowed"),
        (with_rule(targets={"cpu": 1}), "servers.time.targets.cpu: unknown key; remove it"),
        (with_rule(targets={"gpu_percent": 70}), "servers.time.targets.gpu_percent: nothing tells of GPUs; add gpu.url"),
        (with_rule(tolerance=2), "servers.time.tolerance: 2 is not allowed; give a number from 0 to 1"),
        (with_rule(up={"select": "Max"}), "servers.time.up.select: 'Max' is not allowed; use max, min or disabled"),
        (with_rule(up={"stabilization_seconds": 3601}), "servers.time.up.stabilization_seconds: 3601 is not allowed"),
        (with_rule(up={"policies": []}), "servers.time.up.policies: [] is not allowed; give a list"),
        (with_rule(up={"policies": [{"type": "pods"}]}), "servers.time.up.policies[0].type: 'pods' is not allowed"),
        (with_rule(up={"policies": [{"value": 1.5}]}), "servers.time.up.policies[0].value: 1.5 is not allowed; give a whole"),
    ],
)  # fmt: skip
def test_a_mistake(document: Any, said: str) -> None:
    with pytest.raises(SettingsError) as failure:
        parse(document)
    assert any(line.startswith(said) for line in failure.value.errors), failure.value.errors


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(SettingsError) as failure:
        parse({**with_rule(tolerance=9, idle_seconds=0), "extra": 1})
    assert len(failure.value.errors) == 3


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["servers", "gpu", "url", "targets", "up", "policies", "value", "time"]), inner
        )
    ),
    max_leaves=10,
)


@given(document=json_values, part=st.sampled_from(["servers", "gpu", "listen", "docker", "interval_seconds"]))
def test_whatever_stands_there_it_is_a_mistake_or_settings(document: Any, part: str) -> None:
    for value in (document, {**GOOD, part: document}):
        try:
            parse(value)
        except SettingsError as failure:
            assert failure.errors


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(SettingsError, match="No such file"):
        load(str(path))
    path.write_text("{", "utf-8")
    with pytest.raises(SettingsError, match="is no JSON"):
        load(str(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is no JSON"):
        load(str(path))
    path.write_text(json.dumps(GOOD), "utf-8")
    assert load(str(path)) == parse(GOOD)
