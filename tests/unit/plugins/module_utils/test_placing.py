# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What several nodes demand of the catalogue, and where they put its servers."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.compile import compile_fleet
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.facts import Facts, Host
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.placing import manager_warnings
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError

ONE, THREE = [Host("a")], [Host("a"), Host("b"), Host("w", manager=False)]
IMAGE: dict[str, Any] = {"kind": "image", "image": "registry/x:1"}
TREES = dict.fromkeys(("services/runtime", "services/gateway", "services/autoscaler"), "t1")
PLAIN = {"name": "plain", "source": IMAGE}
DATA = {"name": "data", "source": IMAGE, "volumes": {"data": "/data"}}


def plan(servers: list[dict[str, Any]], hosts: list[Host], **settings: Any) -> dict[str, Any]:
    return compile_fleet(servers, settings, Facts(trees=TREES, hosts=hosts))


def placement(made: dict[str, Any], service: str) -> dict[str, Any]:
    return dict(made["stack"]["services"][service]["deploy"].get("placement", {}))


def refused(servers: list[dict[str, Any]], hosts: list[Host], **settings: Any) -> list[str]:
    with pytest.raises(FleetError) as raised:
        plan(servers, hosts, **settings)
    return [error for error in raised.value.errors if "placed" not in error]


def test_one_node_demands_nothing() -> None:
    made = plan([PLAIN, DATA], ONE)
    assert placement(made, "plain") == placement(made, "data") == {}
    assert made["nodes"] == [{"name": "a", "manager": True, "labels": {}, "gpus": 0, "gpu_slots": 1}]


def test_data_has_a_home_where_there_are_several_nodes() -> None:
    made = plan([PLAIN, DATA], THREE, data_node="b")
    assert placement(made, "data") == {"constraints": ["node.labels.ai.sophia.mcp.host == b"]}
    assert placement(made, "plain") == {}


@pytest.mark.parametrize(
    ("extra", "constraints"),
    [
        ({"node": "w"}, ["node.labels.ai.sophia.mcp.host == w"]),
        ({"constraints": ["node.labels.disk == fast"]}, ["node.labels.disk == fast"]),
        ({"constraints": ["node.role != manager"], "node": "w"}, ["node.role != manager", "node.labels.ai.sophia.mcp.host == w"]),
    ],
)
def test_a_server_may_choose_its_node(extra: dict[str, Any], constraints: list[str]) -> None:
    assert placement(plan([{**DATA, **extra}], THREE), "data") == {"constraints": constraints}


def test_data_without_a_home_is_refused_once_for_all() -> None:
    other = {**DATA, "name": "other"}
    assert refused([DATA, PLAIN, other], THREE) == [
        "mcp_fleet.data_node: missing; data, other keep data in volumes, and a volume lies on one node alone: name the node"
        " that has them (one of a, b, w), or set node for each such server"
    ]
    assert "data keeps data in volumes" in refused([DATA], THREE)[0]
    # A rule that excludes a node chooses none.
    assert refused([{**DATA, "constraints": ["node.hostname != a"]}], THREE)


def test_nodes_that_are_not_there() -> None:
    assert refused([{**PLAIN, "node": "z"}], THREE, data_node="y") == [
        "mcp_fleet.data_node: 'y' is no node of this inventory; there are: a, b, w",
        "mcp_servers[0].node: 'z' is no node of this inventory; there are: a, b, w",
    ]


def test_replicas_are_spread_over_zones() -> None:
    zones = [Host("a", labels={"zone": "east"}), Host("b", labels={"zone": "west"})]
    made = plan([PLAIN], zones)
    spread = {"preferences": [{"spread": "node.labels.zone"}]}
    assert placement(made, "plain") == placement(made, "gateway") == spread
    assert "preferences" not in placement(made, "edge")  # it runs on every node
    assert placement(plan([PLAIN], [Host("a", labels={"zone": "east"})] * 2), "plain") == {}  # one zone is none


def test_a_zone_for_some_nodes_is_refused() -> None:
    assert refused([PLAIN], [Host("a", labels={"zone": "east"}), Host("b")]) == [
        "mcp_node_labels.zone: missing for b; replicas are spread over zones, so give every node one or none"
    ]


@pytest.mark.parametrize(("count", "said"), [(1, ""), (2, "bear the loss of none, as 1 do"), (3, ""), (4, "bear the loss of 1, as 3 do"), (9, "at most 7")])
def test_the_number_of_managers(count: int, said: str) -> None:
    warnings = manager_warnings([Host(str(number)) for number in range(count)] + [Host("w", manager=False)])
    assert said in warnings[0] if said else warnings == []


def test_every_edge_is_known() -> None:
    made = plan([PLAIN], THREE, edge={"hosts": ["mcp.example", "10.0.0.1"]})
    assert made["edge"]["urls"] == ["https://mcp.example:8443", "https://10.0.0.1:8443"]
