# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firewall rules against a double of Lambda Cloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.modules import lambda_firewall_rules

SSH = {"ports": "22", "source_network": "198.51.100.0/24", "description": "SSH from the office"}
RULES = [SSH, {"ports": "8000-8100"}, {"protocol": "icmp", "description": "ping"}]


@pytest.fixture
def firewall(run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    return lambda **params: run_module(lambda_firewall_rules, **{"rules": RULES, **params})


def test_the_global_rules_are_replaced_once(cloud: Any, firewall: Any) -> None:
    before = list(cloud.rules)
    assert firewall(check=True)["changed"]
    assert cloud.rules == before
    done = firewall()
    assert done["changed"]
    assert cloud.rules == [
        {
            "protocol": "tcp",
            "port_range": [22, 22],
            "source_network": "198.51.100.0/24",
            "description": "SSH from the office",
        },
        {"protocol": "tcp", "port_range": [8000, 8100], "source_network": "0.0.0.0/0", "description": ""},
        {"protocol": "icmp", "source_network": "0.0.0.0/0", "description": "ping"},
    ]
    assert done["diff"]["before"]["rules"] == ["tcp 22 from 0.0.0.0/0 (Allow SSH)"]
    assert "tcp 8000-8100 from 0.0.0.0/0" in done["diff"]["after"]["rules"]
    assert not firewall()["changed"]
    assert not firewall(rules=RULES[::-1])["changed"], "their order means nothing"


def test_an_address_alone_is_a_network_of_one(cloud: Any, firewall: Any) -> None:
    cloud.rules = [{"protocol": "tcp", "port_range": [22, 22], "source_network": "198.51.100.7", "description": ""}]
    assert not firewall(rules=[{"ports": "22", "source_network": "198.51.100.7/32"}])["changed"]


def test_a_ruleset_of_a_region_is_made_changed_and_removed(cloud: Any, firewall: Any) -> None:
    place = {"name": "workers", "region": "us-east-1"}
    assert firewall(check=True, **place)["changed"]
    assert cloud.rulesets == {}
    made = firewall(**place)
    assert made["ruleset"]["region"]["name"] == "us-east-1"
    assert not firewall(**place)["changed"]
    assert firewall(rules=[SSH], **place)["changed"]
    (ruleset,) = cloud.rulesets.values()
    assert (ruleset["id"], len(ruleset["rules"])) == (made["ruleset"]["id"], 1)
    assert firewall(**place | {"region": "us-west-1"})["changed"], "another region has its own"
    assert firewall(state="absent", check=True, **place)["changed"]
    assert len(cloud.rulesets) == 2
    assert firewall(state="absent", **place)["changed"]
    assert not firewall(state="absent", **place)["changed"]
    assert [one["region"]["name"] for one in cloud.rulesets.values()] == ["us-west-1"]


def test_a_ruleset_that_was_made_without_an_answer_is_not_made_twice(cloud: Any, firewall: Any) -> None:
    cloud.fault(path="/firewall-rulesets", method="POST", drop=True, done=True)
    assert firewall(name="workers", region="us-east-1")["changed"]
    assert len(cloud.rulesets) == 1


def test_a_ruleset_that_instances_use_stays(cloud: Any, firewall: Any) -> None:
    place = {"name": "workers", "region": "us-east-1"}
    cloud.add("mcp-1", firewall_rulesets=[{"id": firewall(**place)["ruleset"]["id"]}])
    refused = firewall(state="absent", **place)
    assert "firewall-rulesets/firewall-ruleset-in-use" in refused["msg"]
    assert "terminate the instances that use it first" in refused["msg"]
    assert len(cloud.rulesets) == 1


@pytest.mark.parametrize(
    "rules", [[], [{"ports": "443"}], [{"protocol": "udp", "ports": "22"}], [{"protocol": "icmp"}]]
)
def test_nobody_locks_themselves_out(cloud: Any, firewall: Any, rules: list[dict[str, Any]]) -> None:
    refused = firewall(rules=rules)
    assert (
        "nobody could connect to port 22, Ansible neither; add a rule for it, or set allow_no_ssh: true"
        in refused["msg"]
    )
    assert cloud.requests == []
    assert firewall(rules=rules, allow_no_ssh=True)["changed"]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"ports": "443-80"}, "no rule was changed: rules[1].ports: '443-80': give ports from 1 to 65535, the smaller first"),
        ({"ports": "0"}, "rules[1].ports: '0': give ports from 1 to 65535"),
        ({"ports": "https"}, "rules[1].ports: 'https': write one port (443) or a range (8000-8100)"),
        ({}, "rules[1].ports: None: write one port"),
        ({"protocol": "icmp", "ports": "1"}, "rules[1].ports: '1': icmp has no ports"),
        (
            {"ports": "80", "source_network": "198.51.100.1/24"},
            "rules[1].source_network: '198.51.100.1/24': 198.51.100.1/24 has host bits",
        ),
        ({"ports": "80", "source_network": "2001:db8::/32"}, "write IPv4 addresses like 198.51.100.0/24"),
        ({"ports": "80", "description": "x" * 129}, "rules[1].description: is longer than 128"),
    ],
)
def test_a_wrong_rule_is_named_and_none_is_set(cloud: Any, firewall: Any, rule: dict[str, Any], said: str) -> None:
    refused = firewall(rules=[SSH, rule])
    assert refused["failed"]
    assert said in refused["msg"]
    assert cloud.requests == []


def test_a_region_that_does_not_exist_is_said_with_those_that_do(firewall: Any) -> None:
    assert "region: there is no us-easy-1; there are: asia-northeast-1" in firewall(name="w", region="us-easy-1")["msg"]


def test_two_rulesets_of_one_name_are_never_guessed_between(cloud: Any, firewall: Any) -> None:
    ids = []
    for number in ("1", "2"):
        made = cloud.create_firewall_ruleset({"name": f"w{number}", "region": "us-east-1", "rules": []})
        cloud.rulesets[made["id"]]["name"] = "w"
        ids.append(made["id"])
    said = firewall(name="w", region="us-east-1")["msg"]
    assert said == f"name: w: 2 rulesets of us-east-1 are called so: {ids[0]}, {ids[1]}; keep one of them"
    assert all(one["rules"] == [] for one in cloud.rulesets.values())


def test_where_the_firewall_is_not_in_force_it_is_said(firewall: Any) -> None:
    assert "Lambda's firewall is not in force there; let the nodes' own do it" in str(firewall(name="w", region="us-south-1")["warnings"])


def test_the_global_rules_cannot_be_removed(firewall: Any) -> None:
    assert "name" in firewall(state="absent")["msg"]
