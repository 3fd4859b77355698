# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Swarm the inventory's hosts belong to, and whom to ask."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.membership import (
    MembershipError,
    choose,
    decide,
)

Look = dict[str, Any]


def node(name: str, host: str = "", state: str = "ready") -> dict[str, Any]:
    return {"id": f"id-{name}", "name": host or name, "host": host, "hostname": name, "state": state}


def manager(name: str, nodes: list[dict[str, Any]], cluster: str = "s1", serves: bool = True, problem: str = "") -> Look:
    there = {"node_id": f"id-{name}", "cluster_id": cluster, "manager": True, "serves": serves, "address": "10.0.0.1"}
    return {"state": "active", "managers": ["10.0.0.1:2377"], "nodes": nodes if serves else [], "problem": problem, **there}


def worker(name: str) -> Look:
    there = {"node_id": f"id-{name}", "cluster_id": "", "manager": False, "serves": False, "address": "10.0.0.2"}
    return {"state": "active", "managers": ["10.9.9.9:2377"], "nodes": [], "problem": "", **there}


def alone(state: str = "inactive", problem: str = "") -> Look:
    there = {"node_id": "", "cluster_id": "", "manager": False, "serves": False, "address": ""}
    return {"state": state, "managers": [], "nodes": [], "problem": problem, **there}


UNREACHABLE = {"unreachable": True, "msg": "Failed to connect to the host via ssh"}
AB = [node("a", "a"), node("b", "b")]


def test_nothing_is_there_yet() -> None:
    decided = decide(["a", "b", "c"], ["d"], dict.fromkeys("abcd", alone()))
    assert (decided.ask, decided.initialise, decided.join) == ("", "a", ["b", "c", "d"])


def test_a_host_without_an_engine_joins_too() -> None:
    decided = decide(["a", "b"], [], {"a": alone("none", "the engine does not answer"), "b": alone()})
    assert (decided.initialise, decided.join) == ("a", ["b"])


def test_the_first_manager_was_installed_anew() -> None:
    nodes = [node("old", "a", "down"), node("b", "b"), node("c", "c")]
    decided = decide(["a", "b", "c"], [], {"a": alone(), "b": manager("b", nodes), "c": manager("c", nodes)})
    assert (decided.ask, decided.initialise, decided.join) == ("b", "", ["a"])
    assert decided.stale == ["id-old"]


def test_the_first_manager_is_dead() -> None:
    decided = decide(["a", "b"], ["w"], {"b": manager("b", [*AB, node("w", "w")]), "w": worker("w")})
    assert (decided.ask, decided.join, decided.stale) == ("b", [], [])


def test_a_manager_that_became_a_worker_in_the_inventory_is_asked() -> None:
    decided = decide(["new"], ["a"], {"new": alone(), "a": manager("a", AB)})
    assert (decided.ask, decided.join) == ("a", ["new"])


def test_nodes_of_others_are_named() -> None:
    nodes = [*AB, node("printer")]
    assert decide(["a", "b"], [], {"a": manager("a", nodes), "b": manager("b", nodes)}).unknown == ["printer (id-printer, ready)"]


@pytest.mark.parametrize(
    ("managers", "workers", "seen", "said"),
    [
        # Two Swarms.
        (
            ["a", "b"],
            [],
            {"a": manager("a", AB[:1]), "b": manager("b", AB[1:], "s2")},
            ["The inventory's hosts are in different Swarms:\na: in the Swarm s1", "b: in the Swarm s2", "docker swarm leave --force"],
        ),
        # A worker of another one.
        (
            ["a"],
            ["w"],
            {"a": manager("a", AB[:1]), "w": worker("w")},
            ["w: is in another Swarm than a (as node id-w, managers 10.9.9.9:2377)", "docker swarm leave --force"],
        ),
        (["a"], ["w"], {"a": alone(), "w": worker("w")}, ["w: is in a Swarm of other managers (10.9.9.9:2377)"]),
        # No quorum.
        (
            ["a", "b", "c"],
            [],
            {"a": manager("a", [], serves=False, problem="its managers have no leader")},
            ["The Swarm of a has no quorum", "--force-new-cluster"],
        ),
        # Somebody who may have it does not answer.
        (["a", "b", "c"], [], {"c": alone()}, ["c: in no Swarm, and a, b did not answer", "-e swarm_initialise=true"]),
        (["a"], ["w"], {"w": alone()}, ["No manager answers: a"]),
        ([], ["w"], {"w": alone()}, ["mcp_managers is empty"]),
        # Its own Swarm is broken.
        (["a"], [], {"a": alone("locked", "Swarm is encrypted")}, ["a: its Swarm is locked: Swarm is encrypted", "docker swarm unlock"]),
        (
            ["a"],
            [],
            {"a": alone("error", "certificate expired")},
            ["a: its Swarm is error: certificate expired", "docker swarm leave --force makes it forget the Swarm"],
        ),
        (
            ["a"],
            ["w"],
            {"a": manager("a", AB[:1]), "w": alone("pending")},
            [
                "w: its Swarm is pending: no reason is told; it waits for its managers;"
                " look at journalctl --unit docker there, and run again"
            ],
        ),
        # One that was a manager and was removed while it was away.
        (
            ["a", "c"],
            [],
            {"a": manager("a", AB), "c": {**alone("pending", "no leader"), "node_id": "id-c"}},
            ["c: its Swarm is pending: no leader; if that one is not needed, run there: docker swarm leave --force"],
        ),
    ],
)  # fmt: skip
def test_what_is_refused(managers: list[str], workers: list[str], seen: dict[str, Look], said: list[str]) -> None:
    with pytest.raises(MembershipError) as refused:
        decide(managers, workers, seen)
    for text in said:
        assert text in str(refused.value)


def test_a_first_swarm_may_be_wished_for() -> None:
    assert decide(["a", "b"], [], {"b": alone()}, initialise=True).initialise == "b"


def test_the_manager_that_is_asked() -> None:
    seen = {"a": UNREACHABLE, "b": manager("b", AB), "c": manager("c", AB)}
    assert choose(["a", "b", "c"], seen) == "b"
    assert choose(["a", "b", "c"], seen, other_than=["b"]) == "c"
    assert choose(["a", "b", "c"], seen, other_than=["id-b"]) == "c"


def test_none_can_be_asked() -> None:
    lost = manager("c", [], serves=False, problem="its managers have no leader")
    with pytest.raises(MembershipError) as refused:
        choose(["a", "b", "c", "d", "e"], {"a": UNREACHABLE, "b": alone(), "c": lost, "d": worker("d"), "e": manager("e", AB)}, ["e"])
    assert str(refused.value).splitlines()[1:-1] == [
        "a: does not answer: Failed to connect to the host via ssh",
        "b: is in no Swarm",
        "c: its managers have no leader",
        "d: is a worker (active)",
        "e: is what this is about",
    ]
    assert str(refused.value).startswith("No manager of this inventory can be asked:\n")


def test_none_is_needed_where_there_is_nothing() -> None:
    assert choose(["a"], {"a": alone()}, optional=True) == ""
    with pytest.raises(MembershipError):
        choose(["a"], {"a": UNREACHABLE}, optional=True)
