"""What the proxy permits, and all that it does not."""

from __future__ import annotations

import copy
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_autoscaler.proxy.rules import (
    ListServices,
    ListTasks,
    OneService,
    Refused,
    Scale,
    bounds,
    difference,
    scaled,
    understood,
)

ID = "x8bnsm5oqh3kzcaj0vjcwhzqv"
SERVICE: dict[str, Any] = {
    "ID": ID,
    "Version": {"Index": 41},
    "Spec": {
        "Name": "mcp_time",
        "Labels": {
            "ai.sophia.mcp.fleet": "mcp",
            "ai.sophia.mcp.scale.min": "1",
            "ai.sophia.mcp.scale.max": "4",
        },
        "TaskTemplate": {"ContainerSpec": {"Image": "mcp-swarm/time:1", "ReadOnly": True, "CapabilityDrop": ["ALL"]}},
        "Mode": {"Replicated": {"Replicas": 2}},
    },
}


def changed(replicas: Any = 3, **paths: Any) -> dict[str, Any]:
    body: dict[str, Any] = copy.deepcopy(SERVICE["Spec"])
    body["Mode"]["Replicated"]["Replicas"] = replicas
    for path, value in paths.items():
        *inner, last = path.split("__")
        place = body
        for key in inner:
            place = place[key]
        place[last] = value
    return body


@pytest.mark.parametrize(
    ("method", "target", "meant"),
    [
        ("GET", "/services", ListServices()),
        ("GET", "/v1.45/services", ListServices()),
        ("GET", f"/services/{ID}", OneService(ID)),
        ("GET", "/services/mcp_time", OneService("mcp_time")),
        ("GET", "/tasks?filters=" + quote('{"service":["mcp_time"]}'), ListTasks(("mcp_time",))),
        ("GET", "/tasks?filters=" + quote('{"service":{"mcp_time":true}}'), ListTasks(("mcp_time",))),
        ("POST", f"/v1.45/services/{ID}/update?version=41", Scale(ID, 41)),
    ],
)
def test_what_is_permitted(method: str, target: str, meant: object) -> None:
    assert understood(method, target) == meant


@pytest.mark.parametrize(
    ("method", "target", "why"),
    [
        ("GET", "/containers/json", "not permitted"),
        ("GET", "/info", "not permitted"),
        ("GET", "/configs", "not permitted"),
        ("GET", "/secrets", "not permitted"),
        ("GET", "/swarm", "not permitted"),  # holds the join tokens
        ("GET", "/swarm/unlockkey", "not permitted"),
        ("GET", f"/services/{ID}/logs?stdout=1", "not permitted"),
        ("POST", "/services/create", "not permitted"),
        ("POST", "/containers/create", "not permitted"),
        ("POST", "/build", "not permitted"),
        ("DELETE", f"/services/{ID}", "not permitted"),
        ("PUT", f"/services/{ID}/update?version=1", "not permitted"),
        ("POST", f"/services/{ID}", "not permitted"),
        ("GET", f"/services/{ID}/update?version=1", "not permitted"),
        ("GET", "/services/", "not permitted"),
        ("GET", "//services", "is not a path"),
        ("GET", "http://docker/services", "is not a path"),
        ("GET", "http://[/services", "cannot be read"),
        ("GET", "/services/../secrets", "not permitted"),
        ("GET", "/services/%2e%2e%2fsecrets", "not permitted"),
        ("GET", "/v1.45/../services", "not permitted"),
        ("GET", "/v1.45/v1.45/services", "not permitted"),
        ("GET", "/services?filters={}", "filters"),
        ("GET", f"/services/{ID}?insertDefaults=true", "insertDefaults"),
        ("GET", "/tasks", "filters"),
        ("GET", "/tasks?filters={}", "filters"),
        ("GET", '/tasks?filters={"service":[]}', "filters"),
        ("GET", '/tasks?filters={"node":["self"]}', "filters"),
        ("GET", '/tasks?filters={"service":["a"],"node":["self"]}', "filters"),
        ("GET", '/tasks?filters={"service":["../a"]}', "is not one"),
        ("GET", "/tasks?filters=" + quote('{"service":["a"]}') + "&filters={}", "twice"),
        ("POST", f"/services/{ID}/update", "version"),
        ("POST", f"/services/{ID}/update?version=-1", "version"),
        ("POST", f"/services/{ID}/update?version=1e3", "version"),
        ("POST", f"/services/{ID}/update?version=1&rollback=previous", "rollback"),
        ("POST", f"/services/{ID}/update?version=1&registryAuthFrom=spec", "registryAuthFrom"),
    ],
)
def test_what_is_not(method: str, target: str, why: str) -> None:
    with pytest.raises(Refused, match=why):
        understood(method, target)


@given(method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "CONNECT"]), target=st.text(max_size=60))
def test_nothing_else_is_understood(method: str, target: str) -> None:
    try:
        meant = understood(method, target)
    except Refused:
        return
    assert method == "GET" and isinstance(meant, (ListServices, OneService)) and "services" in target


def test_replicas_alone_may_differ() -> None:
    spec = scaled(SERVICE, "mcp", 41, changed(3))
    assert spec["Mode"]["Replicated"]["Replicas"] == 3
    spec["Mode"]["Replicated"]["Replicas"] = 2
    assert spec == SERVICE["Spec"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (changed(5), "5 replicas is not within its bounds, 1 to 4"),
        (changed(0), "0 replicas is not within its bounds, 1 to 4"),
        (changed(-1), "bounds"),
        (changed(True), "not a whole number"),
        (changed(3.0), "not a whole number"),
        (changed("3"), "not a whole number"),
        (changed(None), "not a whole number"),
        (changed(TaskTemplate__ContainerSpec__Image="evil:1"), "TaskTemplate.ContainerSpec.Image differs"),
        (changed(TaskTemplate__ContainerSpec__ReadOnly=1), "TaskTemplate.ContainerSpec.ReadOnly differs"),
        (changed(TaskTemplate__ContainerSpec__CapabilityDrop=[]), "CapabilityDrop differs"),
        (changed(TaskTemplate__ContainerSpec__Mounts=[{"Source": "/"}]), "TaskTemplate.ContainerSpec.Mounts"),
        (changed(Labels={}), "Labels.ai.sophia.mcp.fleet differs"),
        (changed(Name="mcp_other"), "Name differs"),
        (changed(Mode__Global={}), "Mode.Global"),
        ({"Mode": {"Replicated": {"Replicas": 3}}}, "Labels differs"),
        ({}, "no Mode.Replicated.Replicas"),
        ([], "no Mode.Replicated.Replicas"),
        (None, "no Mode.Replicated.Replicas"),
        ("x", "no Mode.Replicated.Replicas"),
    ],
)
def test_anything_else_may_not(body: Any, why: str) -> None:
    with pytest.raises(Refused, match=why) as refusal:
        scaled(SERVICE, "mcp", 41, body)
    assert refusal.value.status == 403


def test_an_older_version_is_out_of_sequence() -> None:
    with pytest.raises(Refused, match="out of sequence") as refusal:
        scaled(SERVICE, "mcp", 40, changed(3))
    assert refusal.value.status == 409


@pytest.mark.parametrize("state", ["updating", "paused", "rollback_started", "rollback_paused"])
def test_not_while_it_is_updated(state: str) -> None:
    with pytest.raises(Refused, match=f"its update is {state}") as refusal:
        scaled({**SERVICE, "UpdateStatus": {"State": state}}, "mcp", 41, changed(3))
    assert refusal.value.status == 409


def test_after_its_update_it_may_again() -> None:
    assert scaled({**SERVICE, "UpdateStatus": {"State": "completed"}}, "mcp", 41, changed(3))


@pytest.mark.parametrize(
    ("labels", "mode"),
    [
        ({"ai.sophia.mcp.fleet": "other"}, None),
        ({"ai.sophia.mcp.scale.min": "x"}, None),
        ({"ai.sophia.mcp.scale.min": "5"}, None),
        ({"ai.sophia.mcp.scale.min": "-1"}, None),
        ({}, {"Global": {}}),
    ],
)
def test_a_service_that_is_not_ours(labels: dict[str, str], mode: Any) -> None:
    service = copy.deepcopy(SERVICE)
    service["Spec"]["Labels"] |= labels
    service["Spec"]["Mode"] = mode or service["Spec"]["Mode"]
    assert bounds(service, "mcp") is None
    with pytest.raises(Refused, match="is not scaled"):
        scaled(service, "mcp", 41, service["Spec"])


def test_labels_of_others_give_no_rights() -> None:
    service = copy.deepcopy(SERVICE)
    del service["Spec"]["Labels"]["ai.sophia.mcp.scale.max"]
    assert bounds(service, "mcp") is None
    service["Spec"]["Labels"] = None
    assert bounds(service, "mcp") is None


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=12,
)


@given(one=values, other=values)
def test_what_differs_is_found(one: Any, other: Any) -> None:
    assert (difference(one, other) is None) is (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


@given(value=values)
def test_what_is_equal_is_equal(value: Any) -> None:
    assert difference(value, copy.deepcopy(value)) is None
