# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is tried beside what serves, with what, and how a canary is judged."""

from __future__ import annotations

import re
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import maintenance, trial
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.judging import Terms, judge

Json = dict[str, Any]


def service(**keys: Any) -> Json:
    labels = {"ai.sophia.mcp.server": "a", "ai.sophia.mcp.scale.min": "0", "ai.sophia.mcp.scale.max": "4"}
    deploy = {"replicas": 3, "labels": labels, "update_config": {"order": "start-first"}, **keys.pop("deploy", {})}
    return {"image": "a:1", "secrets": [{"source": "s"}], "networks": {"backend": {}}, "deploy": deploy, **keys}


def document(**services: Json) -> Json:
    return {
        "version": "3.8",
        "services": services,
        "secrets": {"s": {"external": True, "name": "f_s_1"}, "other": {"external": True, "name": "f_o_1"}},
        "networks": {"backend": {"external": True, "name": "f_backend"}},
    }


@pytest.mark.parametrize(
    "change",
    [{"image": "a:2"}, {"environment": {"X": "1"}}, {"deploy": {"resources": {"limits": {"memory": "1G"}}}}],
)
def test_a_server_whose_tasks_change_is_tried(change: Json) -> None:
    assert trial.candidates(document(a=service()), document(a=service(**change))) == (["a"], [])


def test_a_secret_of_the_same_name_with_another_object_is_a_change() -> None:
    after = document(a=service())
    after["secrets"]["s"]["name"] = "f_s_2"
    assert trial.candidates(document(a=service()), after)[0] == ["a"]


@pytest.mark.parametrize("change", [{"deploy": {"replicas": 5}}, {"deploy": {"update_config": {"parallelism": 2}}}, {}])
def test_what_touches_no_task_is_not(change: Json) -> None:
    assert trial.candidates(document(a=service()), document(a=service(**change))) == ([], [])


def test_neither_are_new_servers_nor_what_is_no_server() -> None:
    plain = service(image="g:2", deploy={"labels": {}})
    before = document(gateway=service(image="g:1", deploy={"labels": {}}))
    assert trial.candidates(before, document(a=service(), gateway=plain)) == ([], [])


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"volumes": [{"type": "tmpfs"}, {"type": "volume", "source": "data"}]}, r"share its data \(data\)"),
        ({"deploy": {"update_config": {"order": "stop-first"}}}, "has to stop before"),
        ({"ports": [{"published": 1}]}, "a port of the host"),
        ({"deploy": {"mode": "global"}}, "its mode is global"),
        (
            {
                "deploy": {
                    "resources": {
                        "reservations": {
                            "generic_resources": [{"discrete_resource_spec": {"kind": "NVIDIA-GPU", "value": 1}}]
                        }
                    }
                }
            },
            "for that would take a second NVIDIA-GPU",
        ),
    ],
)
def test_one_that_cannot_run_twice_is_not_tried_and_that_is_said(keys: Json, why: str) -> None:
    changed = service(**{**keys, "image": "a:2"})
    able, words = trial.candidates(document(a=service(**keys)), document(a=changed))
    assert able == []
    assert len(words) == 1
    assert re.search(rf"a: not tried beside the old one, .*{why}", words[0])


def test_a_replica_on_trial_is_the_new_version_and_nobody_elses() -> None:
    made = trial.document_of("f", document(a=service(), b=service()), ["a"])
    assert list(made["services"]) == ["a_canary"]
    mine = made["services"]["a_canary"]
    assert (mine["image"], mine["secrets"], mine["deploy"]["replicas"]) == ("a:1", [{"source": "s"}], 1)
    assert mine["deploy"]["labels"] == {"ai.sophia.mcp.fleet": "f", "ai.sophia.mcp.part": "canary"}
    assert mine["deploy"]["restart_policy"] == {"condition": "none"}
    assert list(made["secrets"]) == ["s"]
    assert made["networks"]["backend"]["external"] is True


def seen(new: tuple[int, int, float], old: tuple[int, int, float]) -> Json:
    sides = {"canary": new, "stable": old}
    return {side: {"calls": calls, "failed": failed, "p95_ms": p95} for side, (calls, failed, p95) in sides.items()}


TERMS = Terms(10.0)


@pytest.mark.parametrize(
    ("new", "old", "over", "verdict"),
    [
        ((60, 0, 30.0), (600, 0, 28.0), False, "open"),
        ((60, 0, 30.0), (600, 0, 28.0), True, "good"),
        ((49, 0, 30.0), (600, 0, 28.0), True, "inconclusive"),
        ((0, 0, 0.0), (0, 0, 0.0), True, "inconclusive"),
        ((60, 3, 30.0), (600, 0, 28.0), False, "bad"),  # 5 % against none
        ((12, 6, 30.0), (600, 0, 28.0), False, "bad"),  # long before its time is over
        ((60, 2, 30.0), (600, 0, 28.0), True, "good"),  # two may be an accident
        ((100, 10, 30.0), (600, 60, 28.0), True, "good"),  # the old one is no better
        ((60, 0, 80.0), (600, 0, 30.0), True, "bad"),
        ((60, 0, 80.0), (600, 0, 30.0), False, "open"),  # its beginning may be slow
        ((60, 0, 15.0), (600, 0, 3.0), True, "good"),  # five times of nothing
        ((60, 0, 15.0), (0, 0, 0.0), True, "good"),
    ],
)
def test_a_canary_is_judged_by_what_the_old_one_does_meanwhile(
    new: tuple[int, int, float], old: tuple[int, int, float], over: bool, verdict: str
) -> None:
    judged = judge("time", seen(new, old), TERMS, over)
    assert judged.verdict == verdict, judged.words
    assert judged.promoted(TERMS) is (verdict == "good")


def test_it_is_told_in_numbers_that_people_read() -> None:
    judged = judge("time", seen((214, 0, 38.0), (1934, 2, 35.4)), TERMS, True)
    assert judged.words == (
        "time: the new version answered 214 calls, 0 failed (0.0 %), 95 % within 38 ms;"
        " the old one answered 1,934 calls, 2 failed (0.1 %), 95 % within 35.4 ms"
    )
    assert "the new version answered no calls; the old one answered no calls" in judge("time", None, TERMS, True).words
    slow = judge("time", seen((60, 0, 80.0), (600, 0, 30.0)), TERMS, True)
    assert slow.words.endswith(": it takes 2.7 times as long, 1.5 may be")
    bad = judge("time", seen((60, 3, 30.0), (600, 0, 28.0)), TERMS, True)
    assert bad.words.endswith(": 5.0 percentage points more fail, 1 may")
    assert judge("time", None, Terms(10.0, inconclusive="promote"), True).promoted(Terms(10.0, inconclusive="promote"))


def test_a_name_on_trial_is_one_that_swarm_takes() -> None:
    """A service's name has 63 characters at most (moby, daemon/cluster/convert)."""
    longest = ["a" * 31 + "b", "a" * 31 + "c", "a" * 29, "a" * 30]
    keys = [trial.key_of(name) for name in longest]
    assert all(len(f"{trial.stack_of('f' * 20)}_{key}") <= 63 for key in keys)
    assert len(set(keys)) == len(keys)
    assert trial.key_of("time") == "time_canary"


def test_terms_that_make_no_sense_are_refused_with_key_and_value() -> None:
    with pytest.raises(SwarmError, match=r"canary: 101: a percentage.*canary_latency: 0.5: at least 1.*nothing was"):
        trial.check(Terms(101.0, latency=0.5))
    trial.check(Terms())


def test_maintenance_is_told_and_ends_by_name() -> None:
    one = maintenance.turned_on({}, "github", "ada", "its token", 0)
    both = maintenance.turned_on(one, "*", "bob", "new disks", 30)
    told = maintenance.lines(both)
    assert told[0].startswith("the fleet: by bob since 20")
    assert ", until 20" in told[0]
    assert told[1].endswith("Z (its token)")
    assert maintenance.turned_on(both, "github", "ada", "its token", 0) is both
    assert list(maintenance.turned_off(both, "github")["maintenance"]) == ["*"]
    assert maintenance.turned_off(both, "*")["maintenance"] == {}
