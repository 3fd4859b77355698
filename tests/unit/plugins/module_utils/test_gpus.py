# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers get GPUs: what is refused, what is given, and what is said of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.facts import Host
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.gpus import Want, allot, room, units
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError, validate

IMAGE = {"kind": "image", "image": "registry/x:1"}
EXPORTER = {"autoscaling": {"gpu": {"url": "http://tasks.gpu:9400/metrics"}}}


def entry(name: str = "ocr", gpu: str = "required", **keys: Any) -> dict[str, Any]:
    return {"name": name, "source": IMAGE, "gpu": gpu, **keys}


def node(name: str, gpus: Any = 0, slots: Any = 1, **labels: str) -> Host:
    return Host(name, labels=labels, gpus=gpus, gpu_slots=slots)


def refused(hosts: Sequence[Host], *entries: dict[str, Any], config: Any = None) -> list[str]:
    with pytest.raises(FleetError) as raised:
        validate(list(entries), config, hosts)
    return raised.value.errors


def told(hosts: Sequence[Host], *entries: dict[str, Any], config: Any = None) -> tuple[dict[str, int], list[str]]:
    """What each server gets, and what is said of it."""
    made, fleet = validate(list(entries), config, hosts)
    allotment = allot(made, fleet["data_node"], hosts)
    assert allotment.errors == []
    return allotment.replicas, allotment.warnings


# -- what nodes may say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "said"),
    [
        (node("n", -1), "n: mcp_node_gpus: -1 is not allowed; give how many GPUs the node has, a whole number of at least 0,"),
        (node("n", "1"), "n: mcp_node_gpus: '1' is not allowed; give how many GPUs the node has"),
        (node("n", True), "n: mcp_node_gpus: True is not allowed"),
        (node("n", 1.5), "n: mcp_node_gpus: 1.5 is not allowed"),
        (node("n", 1, 0), "n: mcp_node_gpu_slots: 0 is not allowed; give how many replicas may share each GPU, a whole number of at least 1,"),
        (node("n", 1, "two"), "n: mcp_node_gpu_slots: 'two' is not allowed"),
        (node("n", 0, 2), "n: mcp_node_gpu_slots: 2 has no effect without GPUs; set mcp_node_gpus, or remove it"),
    ],
)  # fmt: skip
def test_each_mistake_of_a_node_names_host_key_value_and_fix(host: Host, said: str) -> None:
    (error,) = refused([host], entry(gpu="none"))
    assert error.startswith(said)


def test_a_node_s_mistakes_come_with_all_others() -> None:
    errors = refused([node("a", "x"), node("b", -1)], entry(gpu="none", replicas=-1))
    assert len(errors) == 3


def test_units_are_gpus_times_slots() -> None:
    assert [units(node("n")), units(node("n", 2)), units(node("n", 2, 3))] == [0, 2, 6]


# -- what the keys demand of each other ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"gpu": "preferred", "source": {"kind": "remote", "url": "https://h/mcp"}},
         "gpu: 'preferred' has no effect with kind remote, which runs elsewhere; remove it"),
        ({"gpu": "none", "gpus": 2}, "gpus: 2 has no effect without a GPU; set gpu, or remove it"),
        ({"gpu": "required", "gpus": 0}, "gpus: 0 is too small; use at least 1"),
        ({"gpu": "required", "gpu_tools": ["embed_*"]},
         "gpu_tools: has no effect with gpu required: there are not two services to choose from; set gpu: preferred, or remove it"),
        ({"gpu": "none", "gpu_pool": {"concurrency": 2}}, "gpu_pool: has no effect with gpu none"),
        ({"gpu": "preferred", "gpu_pool": {"max_utilisation": 0.9}}, "gpu_pool.max_utilisation: unknown key"),
        ({"gpu": "required", "env": {"NVIDIA_VISIBLE_DEVICES": "0"}},
         "env.NVIDIA_VISIBLE_DEVICES: Swarm assigns GPUs, and what is set here would show others' too; remove it,"),
        ({"gpu": "none", "env": {"NVIDIA_VISIBLE_DEVICES": "all"}}, "env.NVIDIA_VISIBLE_DEVICES: Swarm assigns GPUs"),
        ({"gpu": "none", "secrets": {"NVIDIA_VISIBLE_DEVICES": "edge_ca"}}, "secrets.NVIDIA_VISIBLE_DEVICES: Swarm assigns GPUs"),
        ({"gpu": "preferred", "volumes": {"data": "/data"}},
         "gpu: 'preferred' makes two services, and both would write to the server's volumes (data);"),
        ({"gpu": "preferred", "sessions": "sticky"},
         "gpu: 'preferred' makes two services, and a sticky server's state is in one replica"),
        ({"gpu": "preferred", "scale": {"min": 0, "max": 2}},
         "scale.min: 0 lets the CPU twin of a server with gpu: preferred sleep"),
        ({"gpu": "preferred", "scale": {"max": 2, "targets": {"gpu_percent": 70}}},
         "scale.targets.gpu_percent: with gpu: preferred the CPU twin is what is scaled, and it uses no GPU"),
    ],
)  # fmt: skip
def test_each_mistake_names_key_value_and_fix(keys: dict[str, Any], said: str) -> None:
    (error,) = refused([node("n", 4)], entry(**keys), config=EXPORTER)
    assert error.startswith(f"mcp_servers[0].{said}"), error


@pytest.mark.parametrize("other", ["ocr-gpu", "ocr_gpu"])
def test_the_gpu_service_s_name_is_taken(other: str) -> None:
    twin, plain = entry(gpu="preferred"), entry(other, "none")
    assert refused([node("n", 4)], twin, plain) == [
        f"mcp_servers[1].name: {other!r} is also the GPU service of mcp_servers[0]; choose another name"
    ]
    assert refused([node("n", 4)], plain, twin) == [
        "mcp_servers[1].gpu: 'preferred' makes the service ocr-gpu, which is also mcp_servers[0]; choose another name"
    ]
    validate([entry(gpu="required"), plain], None, [node("n", 4)])


# -- what is required ------------------------------------------------------------------------------------------------


def test_without_gpus_nothing_can_be_required() -> None:
    none = "mcp_servers[0].gpu: 'required', but no node of this inventory has mcp_node_gpus; use 'preferred' or add one"
    assert refused([], entry()) == refused([node("n")], entry()) == [none]
    assert refused([node("n")], entry(), entry("asr"))[1].startswith("mcp_servers[1].gpu: 'required', but no node")
    assert told([node("n")], entry(replicas=0)) == ({}, [])


def test_what_is_too_much_is_told_with_numbers_and_the_ways_out() -> None:
    assert refused([node("gpu-1", 1)], entry("asr"), entry("ocr", replicas=2)) == [
        "mcp_servers[1].gpu: 'required': ocr wants 2 replicas of 1 unit, and there is room for 0: gpu-1 has 1, asr takes 1;"
        " lower the replicas of others, set mcp_node_gpu_slots: 3 for gpu-1, or use gpu: preferred"
    ]
    assert told([node("gpu-1", 1, 3)], entry("asr"), entry("ocr", replicas=2)) == ({"asr": 1, "ocr": 2}, [])


def test_all_that_is_too_much_is_told_at_once() -> None:
    hosts = [node("gpu-1", 2, 2), node("gpu-2", 1)]
    errors = refused(hosts, entry("a", replicas=6), entry("b", scale={"max": 2}), entry("c", gpus=9))
    assert errors == [
        "mcp_servers[2].gpus: 9 units could be slots of one GPU where GPUs are shared (mcp_node_gpu_slots of gpu-1: 2); use"
        " gpus: 1, set mcp_node_gpu_slots: 1 there, or keep c to other nodes by node or constraints",
        "mcp_servers[0].gpu: 'required': a wants 6 replicas of 1 unit, and there is room for 5: gpu-1 has 4 (2 GPUs of 2"
        " slots), gpu-2 has 1, b takes 2, c takes 9; lower its replicas or scale.max to 5, or use gpu: preferred",
        "mcp_servers[1].gpu: 'required': b wants 2 replicas of 1 unit, and there is room for 0: gpu-1 has 4 (2 GPUs of 2"
        " slots), gpu-2 has 1, a takes 6, c takes 9; lower the replicas of others, or use gpu: preferred",
        "mcp_servers[2].gpu: 'required': each replica of c takes 9 units of one node, and none that it may run on has as"
        " many: gpu-1 has 4 (2 GPUs of 2 slots), gpu-2 has 1; lower gpus, or use gpu: preferred",
    ]


def test_what_is_preferred_takes_nothing_from_what_is_required() -> None:
    (error,) = refused([node("n", 1)], entry("x", "preferred"), entry("y", replicas=2))
    assert "y wants 2 replicas of 1 unit, and there is room for 1: n has 1; lower" in error


@pytest.mark.parametrize("keys", [{"volumes": {"data": "/data"}}, {"sessions": "sticky"}])
def test_no_way_out_is_named_that_would_be_refused(keys: dict[str, Any]) -> None:
    for hosts in ([node("n")], [node("n", 1)]):
        (error,) = refused(hosts, entry(replicas=2, **keys))
        assert "use 'none' or add one" in error or error.endswith(", or use gpu: none")


@pytest.mark.parametrize(
    "keys",
    [
        {"gpu": 5}, {"gpus": "two"}, {"gpu_pool": "x"}, {"gpu_pool": {"replicas": 0}}, {"gpu_tools": "x"}, {"scale": "x"},
        {"scale": {"max": 2, "targets": "x"}}, {"volumes": 3}, {"env": "x"}, {"constraints": "x"}, {"replicas": None, "name": None},
    ],
)  # fmt: skip
def test_an_entry_with_mistakes_of_another_kind_is_no_reason_to_fail_otherwise(keys: dict[str, Any]) -> None:
    """It is left out, and the others are told of with their own places."""
    errors = refused([node("n", 1)], {**entry("x", "preferred"), **keys}, "no entry", entry("y", replicas=2))
    assert [error for error in errors if "'required'" in error] == [
        "mcp_servers[2].gpu: 'required': y wants 2 replicas of 1 unit, and there is room for 1: n has 1; lower its replicas or"
        " scale.max to 1, set mcp_node_gpu_slots: 2 for n, or use gpu: preferred"
    ]
    assert len(errors) > 2


def test_as_many_slots_are_named_as_are_missing() -> None:
    (error,) = refused([node("one", 1), node("two", 2)], entry(replicas=6))
    assert "room for 3: one has 1, two has 2; lower its replicas or scale.max to 3, set mcp_node_gpu_slots: 3 for two," in error
    assert told([node("one", 1), node("two", 2, 3)], entry(replicas=6))[0] == {"ocr": 6}


def test_what_a_scaled_server_may_come_to_is_what_counts() -> None:
    assert "ocr wants 3 replicas" in refused([node("n", 2)], entry(scale={"max": 3}))[0]
    assert told([node("n", 3)], entry(scale={"min": 0, "max": 3}))[0] == {"ocr": 3}


@pytest.mark.parametrize(
    ("keys", "able"),
    [
        ({"constraints": ["node.labels.zone == east"]}, True),
        ({"constraints": ["node.labels.zone == West"]}, False),  # that node has no GPU
        ({"constraints": ["node.labels.zone != west"]}, True),
        ({"constraints": ["node.labels.none == x"]}, False),
        ({"constraints": ["node.role == worker"]}, False),
        ({"constraints": ["node.role==manager", "node.labels.zone==east"]}, True),
        ({"constraints": ["node.labels.ai.sophia.mcp.edge == true"]}, True),
        ({"node": "a"}, True),
        ({"node": "b"}, False),
    ],
)
def test_a_node_counts_where_it_meets_the_constraints(keys: dict[str, Any], able: bool) -> None:
    hosts = [node("a", 1, zone="east"), node("b", zone="west")]
    if able:
        assert told(hosts, entry(**keys)) == ({"ocr": 1}, [])
    else:
        assert refused(hosts, entry(**keys)) == [
            "mcp_servers[0].gpu: 'required', but none of the nodes with GPUs (a has 1) is one that ocr may run on; correct its"
            " node or constraints, or the nodes' mcp_node_labels"
        ]


def test_data_keeps_a_server_to_its_node() -> None:
    hosts = [node("a", 1), node("b")]
    assert told(hosts, entry(volumes={"data": "/data"}), config={"data_node": "a"})[0] == {"ocr": 1}
    assert "may run on" in refused(hosts, entry(volumes={"data": "/data"}), config={"data_node": "b"})[0]


def test_what_the_inventory_cannot_know_is_told() -> None:
    given_, warnings = told([node("a", 1)], entry(constraints=["node.hostname == x", "node.role == manager"]))
    assert given_ == {"ocr": 1}
    assert warnings == [
        "mcp_servers[0].constraints: node.hostname == x: the inventory does not know which nodes meet that, so every node"
        " with GPUs counts for ocr; use node, or labels of mcp_node_labels"
    ]


def test_a_replica_s_units_are_of_one_node() -> None:
    assert "room for 1: a has 3, b has 1" in refused([node("a", 3), node("b", 1)], entry(gpus=2, replicas=2))[0]
    assert told([node("a", 3), node("b", 2)], entry(gpus=2, replicas=2), entry("asr", replicas=1))[0] == {"ocr": 2, "asr": 1}


def test_others_make_way_where_they_can() -> None:
    hosts = [node("a", 1, disk="fast"), node("b", 1)]
    there = told(hosts, entry("any"), entry("east", constraints=["node.labels.disk == fast"]))
    assert there[0] == {"any": 1, "east": 1}


# -- what is preferred -----------------------------------------------------------------------------------------------


def test_what_is_preferred_takes_what_is_left() -> None:
    hosts = [node("a", 3)]
    assert told(hosts, entry("x", "preferred", replicas=3), entry("y", replicas=2)) == (
        {"x": 1, "y": 2},
        [
            "mcp_servers[0].gpu: 'preferred': x wants 3 replicas of 1 unit on GPUs, and there is room for 1: a has 3, y takes"
            " 2; the calls beyond these go to its CPU twin"
        ],
    )


def test_each_gets_one_before_any_gets_a_second() -> None:
    one, other = entry("x", "preferred", replicas=3), entry("y", "preferred", replicas=3)
    assert told([node("a", 3)], one, other)[0] == {"x": 2, "y": 1}
    assert told([node("a", 3)], other, one)[0] == {"x": 1, "y": 2}


def test_without_any_left_it_is_the_cpu_alone() -> None:
    given_, (warning,) = told([node("a", 1)], entry("x", "preferred"), entry("y"))
    assert given_ == {"y": 1}
    assert warning == (
        "mcp_servers[0].gpu: 'preferred': no GPU is left for x, which wants 1 replica of 1 unit: a has 1, y takes 1;"
        " it runs on the CPU alone"
    )
    for hosts, keys in (([node("a")], {}), ([node("a", 1), node("b")], {"node": "b"})):
        assert told(hosts, entry("x", "preferred", **keys)) == (
            {},
            ["mcp_servers[0].gpu: 'preferred': no node that x may run on has GPUs; it runs on the CPU alone"],
        )


def test_replicas_on_gpus_may_be_others_than_on_cpus() -> None:
    assert told([node("a", 4)], entry("x", "preferred", replicas=1, gpu_pool={"replicas": 4}))[0] == {"x": 4}
    assert told([node("a", 4)], entry("x", "preferred", replicas=0, gpu_pool={"replicas": 4})) == ({}, [])  # it is off
    # With scale the CPU twin is scaled, and the GPUs are for the replicas that are there in any case.
    assert told([node("a", 4)], entry("x", "preferred", replicas=2, scale={"max": 9}))[0] == {"x": 2}


# -- what may go wrong all the same ----------------------------------------------------------------------------------


def test_where_swarm_may_put_another_in_the_way_it_is_told() -> None:
    hosts = [node("a", 1, disk="fast"), node("b", 1)]
    warnings = told(hosts, entry("any"), entry("east", constraints=["node.labels.disk == fast"]))[1]
    assert warnings == [
        "mcp_servers[1].gpu: there is room for east, but only where Swarm happens to leave it free, any takes 1: Swarm"
        " spreads replicas without looking ahead; keep the others to other nodes by node or constraints"
    ]
    assert told(hosts, entry("any", node="b"), entry("east", constraints=["node.labels.disk == fast"]))[1] == []


def test_replicas_of_several_units_are_at_risk_from_small_ones() -> None:
    hosts = [node("a", 2), node("b", 2)]
    assert "room for large, but only where" in told(hosts, entry("large", gpus=2), entry("small", replicas=2))[1][0]
    assert told(hosts, entry("large", gpus=2), entry("small", replicas=1))[1] == []
    assert told(hosts, entry("large", gpus=2, replicas=2))[1] == []


def test_shared_gpus_are_no_measure_for_scaling() -> None:
    scale = {"max": 2, "targets": {"gpu_percent": 70}}
    assert told([node("a", 2)], entry(scale=scale), config=EXPORTER)[1] == []
    (warning,) = told([node("a", 1, 2)], entry(scale=scale), config=EXPORTER)[1]
    assert warning == (
        "mcp_servers[0].scale.targets.gpu_percent: 70: on a several replicas share a GPU, and each shows the use of all of"
        " it, which one more does not lower; use in_flight"
    )


# -- whatever is asked for -------------------------------------------------------------------------------------------

RULES = ([], ["node.labels.zone == a"], ["node.labels.zone != a"], ["node.labels.zone == b", "node.role == manager"])
HOSTS = st.lists(
    st.builds(
        lambda manager, zone, gpus, slots: (manager, zone, gpus, slots if gpus else 1),
        st.booleans(), st.sampled_from("abc"), st.integers(0, 4), st.integers(1, 2),
    ),
    max_size=4,
).map(lambda found: [Host(f"n{i}", m, {"zone": z}, True, g, s) for i, (m, z, g, s) in enumerate(found)])  # fmt: skip
SERVERS = st.lists(
    st.fixed_dictionaries(
        {
            "gpu": st.sampled_from(("required", "preferred", "none")),
            "gpus": st.sampled_from((1, 1, 1, 2, 3)),
            "replicas": st.integers(0, 4),
            "constraints": st.sampled_from(RULES),
        }
    ),
    max_size=4,
).map(
    lambda found: [
        {**keys, "name": f"s{i}", "node": "", "volumes": {}, "sessions": "stateless", "scale": None, "gpu_pool": {"replicas": None}}
        for i, keys in enumerate(found)
    ]
)


def fits(replicas: tuple[tuple[int, frozenset[str]], ...], free: dict[str, int]) -> bool:
    """By trying every node for every replica: what ``room`` must agree with."""

    @cache
    def place(position: int, left: tuple[tuple[str, int], ...]) -> bool:
        if position == len(replicas):
            return True
        size, able = replicas[position]
        return any(
            place(position + 1, (*left[:i], (name, number - size), *left[i + 1 :]))
            for i, (name, number) in enumerate(left)
            if name in able and number >= size
        )

    return place(0, tuple(sorted(free.items())))


def able(server: dict[str, Any], hosts: Sequence[Host]) -> frozenset[str]:
    """The rules above, read anew."""
    zone = {0: lambda h: True, 1: lambda h: h.labels["zone"] == "a", 2: lambda h: h.labels["zone"] != "a",
            3: lambda h: h.labels["zone"] == "b" and h.manager}[RULES.index(server["constraints"])]  # fmt: skip
    return frozenset(host.name for host in hosts if host.gpus and zone(host))


def demand(
    servers: Sequence[dict[str, Any]], counts: dict[str, int], hosts: Sequence[Host]
) -> tuple[tuple[int, frozenset[str]], ...]:
    return tuple((s["gpus"], able(s, hosts)) for s in servers for dummy in range(counts.get(s["name"], 0)))


NODES = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 6), min_size=1)


@given(
    NODES, st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.sets(st.sampled_from("abcd"), min_size=1)), max_size=5)
)  # fmt: skip
@settings(max_examples=1000, deadline=None)
def test_there_is_room_where_some_way_to_place_them_is(free: dict[str, int], asked: list[tuple[int, int, set[str]]]) -> None:
    wants = [
        Want(f"s{i}", f"p{i}", size, replicas, tuple(sorted(able & set(free)))) for i, (size, replicas, able) in enumerate(asked)
    ]
    every = tuple((want.units, frozenset(want.nodes)) for want in wants for dummy in range(want.replicas))
    assert room(wants, free) is fits(every, free)


@given(HOSTS, SERVERS)
@settings(max_examples=300, deadline=None)
def test_no_more_is_promised_than_there_is_and_no_less(hosts: list[Host], servers: list[dict[str, Any]]) -> None:
    made = allot(servers, "", hosts)
    free = {host.name: host.gpus * host.gpu_slots for host in hosts}
    assert fits(demand(servers, made.replicas, hosts), free)
    required = {s["name"]: s["replicas"] for s in servers if s["gpu"] == "required"}
    possible = fits(demand(servers, required, hosts), free)
    missing = any("'required'" in error for error in made.errors)
    assert missing is not possible
    for server in servers:
        has = made.replicas.get(server["name"], 0)
        assert has <= (server["replicas"] if server["gpu"] != "none" else 0)
        assert server["gpu"] != "required" or missing or has == server["replicas"]
        if server["gpu"] == "preferred" and has < server["replicas"]:
            more = {**made.replicas, server["name"]: has + 1}
            assert not fits(demand(servers, more, hosts), free)
            assert any(f"'preferred': {server['name']} wants" in w or f"left for {server['name']}," in w
                       or f"that {server['name']} may run on" in w for w in made.warnings)  # fmt: skip


def sticks(wants: Sequence[tuple[int, frozenset[str], int]], free: dict[str, int]) -> bool:
    """Whether some order of replicas, each put on any node with room, leaves one without: Swarm may take any."""

    @cache
    def stuck(left: tuple[int, ...], has: tuple[tuple[str, int], ...]) -> bool:
        for i, (size, able, dummy) in enumerate(wants):
            if not left[i]:
                continue
            fit = [j for j, (name, number) in enumerate(has) if name in able and number >= size]
            rest = (*left[:i], left[i] - 1, *left[i + 1 :])
            less = [(*has[:j], (has[j][0], has[j][1] - size), *has[j + 1 :]) for j in fit]
            if not fit or any(stuck(rest, then) for then in less):
                return True
        return False

    return stuck(tuple(replicas for size, able, replicas in wants), tuple(sorted(free.items())))


@given(HOSTS, SERVERS)
@settings(max_examples=300, deadline=None)
def test_where_nothing_is_warned_of_swarm_cannot_go_wrong(hosts: list[Host], servers: list[dict[str, Any]]) -> None:
    made = allot(servers, "", hosts)
    if not any("only where Swarm happens to leave it free" in warning for warning in made.warnings):
        wants = [(s["gpus"], able(s, hosts), made.replicas.get(s["name"], 0)) for s in servers]
        assert not sticks(wants, {host.name: host.gpus * host.gpu_slots for host in hosts})


@given(HOSTS, SERVERS, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_the_order_of_the_nodes_decides_nothing(
    hosts: list[Host], servers: list[dict[str, Any]], chance: random.Random
) -> None:
    shuffled = list(hosts)
    chance.shuffle(shuffled)
    assert allot(servers, "", hosts) == allot(servers, "", shuffled) == allot(servers, "", hosts)


def test_many_nodes_and_replicas_take_no_time() -> None:
    free = {f"n{number}": 8 for number in range(40)}
    wants = [Want(f"s{size}", "", size, 40, tuple(free)) for size in (4, 3, 1)]
    assert room(wants, free)
    assert not room([*wants, Want("more", "", 1, 1, tuple(free))], free)
    # Nothing of 5 leaves room for another 4.
    assert not room([Want("five", "", 5, 39, tuple(free)), Want("four", "", 4, 3, tuple(free))], free)
