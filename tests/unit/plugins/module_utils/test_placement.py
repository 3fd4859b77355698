# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where tasks may run, whether they are evenly spread, and what draining a node would do to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import placement
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.drain import burden, check
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.nodes import Node


def node(name: str, labels: dict[str, str] | None = None, **keys: Any) -> Node:
    given = {"role": "worker", "availability": "active", "state": "ready", "reachability": "", "leader": False, "address": "", "engine": ""}
    attributes = {"engine": {"disk": "fast"}, "platform": {"OS": "linux", "Architecture": "x86_64"}}
    return Node(id=name, hostname=f"host-{name}", host=name, labels=labels or {}, attributes=attributes, **{**given, **keys})


A, B, C = node("a"), node("b"), node("c")


def service(name: str, replicas: int | None = 1, order: str = "start-first", **task: Any) -> dict[str, Any]:
    mode = {"Global": {}} if replicas is None else {"Replicated": {"Replicas": replicas}}
    return {"ID": f"id-{name}", "Spec": {"Name": name, "Mode": mode, "TaskTemplate": task, "UpdateConfig": {"Order": order}}}


def tasks(**counts: int) -> list[dict[str, Any]]:
    return [
        {"ID": f"{n}{i}", "NodeID": n, "DesiredState": "running", "Status": {"State": "running"}} for n, number in counts.items() for i in range(number)
    ]


@pytest.mark.parametrize(
    ("rule", "met"),
    [
        ("node.id == a", True),
        ("node.id != a", False),
        ("node.hostname==host-a", True),
        ("node.role == manager", False),
        ("node.role != manager", True),
        ("node.labels.zone == East", True),  # as Swarm compares
        ("node.labels.zone != west", True),
        ("node.labels.gone == x", False),
        ("node.labels.gone != x", True),
        ("engine.labels.disk == fast", True),
        ("node.platform.arch == x86_64", True),
        ("nonsense", False),
    ],
)
def test_constraints(rule: str, met: bool) -> None:
    assert placement.meets(node("a", {"zone": "east"}), rule) is met


def test_who_is_eligible() -> None:
    there = [A, node("b", availability="drain"), node("c", state="down"), node("d", {"zone": "x"})]
    assert [n.id for n in placement.eligible(service("s"), there)] == ["a", "d"]
    bound = service("s", Placement={"Constraints": ["node.labels.zone == x"]})
    assert [n.id for n in placement.eligible(bound, there)] == ["d"]


@pytest.mark.parametrize(
    ("counts", "moves"),
    [
        ({"a": 1, "b": 1, "c": 1}, 0),
        ({"a": 2, "b": 1, "c": 0}, 1),
        ({"a": 1, "b": 1, "c": 0}, 0),
        ({"a": 4, "b": 0, "c": 0}, 2),
        ({"a": 3, "b": 3, "c": 0}, 2),
        ({"a": 0, "b": 0, "c": 0}, 0),
    ],
)
def test_unevenness_over_nodes(counts: dict[str, int], moves: int) -> None:
    assert placement.uneven(service("s", 3), counts, [A, B, C]) == moves


@pytest.mark.parametrize(
    ("counts", "moves"),
    [
        # Two nodes in the east and one in the west: half of the replicas is in each.
        ({"a": 1, "b": 1, "c": 2}, 0),
        ({"a": 2, "b": 0, "c": 2}, 1),
        ({"a": 2, "b": 2, "c": 0}, 2),
        ({"a": 1, "b": 1, "c": 1}, 0),
    ],
)
def test_unevenness_over_zones(counts: dict[str, int], moves: int) -> None:
    there = [node("a", {"zone": "east"}), node("b", {"zone": "east"}), node("c", {"zone": "west"})]
    spread = service("s", 4, Placement={"Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.zone"}}]})
    assert placement.uneven(spread, counts, there) == moves


ONE_GPU = {"Reservations": {"GenericResources": [{"DiscreteResourceSpec": {"Kind": "NVIDIA-GPU", "Value": 1}}]}}
VOLUME = {"Mounts": [{"Type": "volume", "Source": "mcp_git_data", "Target": "/data"}, {"Type": "tmpfs", "Target": "/tmp"}]}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (service("s"), ""),
        (service("s", None), "runs on every node"),
        (service("s", ContainerSpec=VOLUME), "keeps data in mcp_git_data"),
        ({**service("s"), "Spec": {**service("s")["Spec"], "Mode": {"ReplicatedJob": {}}}}, "is a job"),
        (
            {**service("s"), "Spec": {**service("s")["Spec"], "EndpointSpec": {"Ports": [{"PublishedPort": 443, "PublishMode": "host"}]}}},
            "holds port 443 of its node",
        ),
        (service("s", Resources=ONE_GPU), "reserves NVIDIA-GPU, of which no node may have another free"),
    ],
)  # fmt: skip
def test_what_is_never_moved(given: dict[str, Any], why: str) -> None:
    assert placement.fixed(given) == why


def move(services: list[dict[str, Any]], placed: dict[str, dict[str, int]], nodes: list[Node], skip: tuple[str, ...] = ()) -> str:
    found = placement.next_move(
        {s["Spec"]["Name"]: s for s in services}, {f"id-{name}": tasks(**on) for name, on in placed.items()}, nodes, skip
    )
    return str(found) if found else ""


def test_nothing_moves_where_all_is_even() -> None:
    assert move([service("s", 3), service("t", 1)], {"s": {"a": 1, "b": 1, "c": 1}, "t": {"b": 1}}, [A, B, C]) == ""


def test_the_most_uneven_service_first() -> None:
    placed = {"s": {"a": 2, "b": 1}, "t": {"a": 4}}
    services = [service("s", 3), service("t", 4)]
    assert move(services, placed, [A, B, C]) == "t: one replica from a to b (a 4, b 0, c 0)"
    assert move(services, placed, [A, B, C], ("t",)) == "s: one replica from a to c (a 2, b 1, c 0)"


def test_a_single_replica_moves_to_a_node_that_has_less_to_do() -> None:
    placed = {"s": {"a": 1}, "t": {"a": 1}, "g": {"a": 1, "b": 1}}
    services = [service("s"), service("t"), service("g", None)]
    assert move(services, placed, [A, B]) == "s: one replica from a to b (a has 3 tasks, b 1)"
    # Not where that would be a gap, nor where its data lies.
    assert move([service("s", order="stop-first"), service("t", ContainerSpec=VOLUME)], placed, [A, B]) == ""


def test_what_fits_a_constraint_is_even_among_the_nodes_that_meet_it() -> None:
    bound = service("s", 2, Placement={"Constraints": ["node.id != c"]})
    assert move([bound], {"s": {"a": 1, "b": 1}}, [A, B, C]) == ""


def test_what_a_drain_finds() -> None:
    services = {
        "alone": service("alone"),
        "many": service("many", 2),
        "data": service("data", ContainerSpec=VOLUME),
        "bound": service("bound", Placement={"Constraints": ["node.id == a"]}),
        "edge": service("edge", None),
        "gone": service("gone"),
        "database": service("database", order="stop-first"),
    }
    on_both = {"a": 1, "b": 1}
    placed = {"alone": {"a": 1}, "many": on_both, "data": {"a": 1}, "bound": {"a": 1}, "edge": on_both, "gone": {"b": 1}, "database": {"a": 1}}
    found = burden(services, {f"id-{name}": tasks(**on) for name, on in placed.items()}, [A, B], A)
    assert found.movable == ["alone", "database", "many"]
    assert found.alone == ["alone"]
    assert found.everywhere == ["edge"]
    assert found.stuck == {"bound": "no other node can run it (node.id == a)", "data": "keeps data on a, in mcp_git_data"}
    with pytest.raises(SwarmError, match="data: keeps data on a, in mcp_git_data\n.*stop_pinned=true"):
        check(found, A)


def compose(**services: int) -> dict[str, Any]:
    def deploy(units: int) -> dict[str, Any]:
        spec = {"discrete_resource_spec": {"kind": "NVIDIA-GPU", "value": units}}
        return {"deploy": {"resources": {"reservations": {"generic_resources": [spec]} if units else {}}}}

    return {"services": {name: deploy(units) for name, units in services.items()}}


OFFER = {"resources": [{"NamedResourceSpec": {"Kind": "NVIDIA-GPU", "Value": "GPU-1"}}]}


@pytest.mark.parametrize(
    ("engine", "able"),
    [("20.10.24+dfsg1", False), ("23.0.1", False), ("23.0.2", True), ("26.1.5+dfsg1", True), ("29.0", True), ("dev", True)],
)
def test_old_managers_keep_no_task_with_a_gpu(engine: str, able: bool) -> None:
    there = [replace(node("a"), engine=engine, role="manager", attributes=OFFER), replace(node("w"), engine="20.10.1")]
    said = placement.unreservable(compose(ocr=1, asr=2, time=0), there)
    assert said == ([] if able else [
        "asr, ocr: to reserve NVIDIA-GPU, managers need Docker 23.0.2 or newer: older ones end such tasks as soon as they"
        f" have a network (github.com/moby/moby/issues/44378), and a runs {engine}; upgrade the managers, or set gpu: none"
    ])  # fmt: skip
    assert placement.unreservable(compose(time=0), there) == []


def test_some_node_must_offer_what_is_reserved() -> None:
    there = [replace(node("a"), engine="28.0.0", role="manager")]
    assert placement.unreservable(compose(ocr=1, time=0), there) == [
        "ocr: no node of this Swarm offers NVIDIA-GPU; run playbooks/provision.yml, by which engines offer what"
        " mcp_node_gpus says"
    ]


def test_what_a_node_has_left_of_its_gpus() -> None:
    def given(*names: str) -> list[dict[str, Any]]:
        return [{"NamedResourceSpec": {"Kind": "NVIDIA-GPU", "Value": name}} for name in names]

    def held(where: str, state: str, resources: list[dict[str, Any]]) -> dict[str, Any]:
        return {"NodeID": where, "Status": {"State": state}, "GenericResources": resources}

    disks = {"DiscreteResourceSpec": {"Kind": "SSD", "Value": 3}}
    there = replace(node("a"), attributes={"resources": [*given("GPU-1.1", "GPU-1.2", "GPU-2.1"), disks]})
    other = held("other", "running", given("GPU-9.1"))
    assert placement.spare(there, [other]) == {"NVIDIA-GPU": 3, "SSD": 3}
    used = [held(there.id, "running", [*given("GPU-1.1"), {"DiscreteResourceSpec": {"Kind": "SSD", "Value": 2}}])]
    # One that ended has given its own back; one that is to end holds it until then.
    ended, ending = held(there.id, "shutdown", given("GPU-1.2")), held(there.id, "running", given("GPU-2.1"))
    assert placement.spare(there, [*used, ended, {**ending, "DesiredState": "shutdown"}]) == {"NVIDIA-GPU": 1, "SSD": 1}
    assert placement.spare(node("b"), used) == {}
