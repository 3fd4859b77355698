# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Draining a node, taking it back, and rebalancing: what is done, and what is said where that fails."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.drain import activate, drain, renew
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.rebalance import rebalance
from ansible_collections.sophia_ai.mcp_swarm.tests.unit.plugins.module_utils import cluster_double as double

NODE = "b (id-b)"


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A manager and two workers."""
    made = double.cluster(monkeypatch)
    made.api.add("a", "manager")
    made.api.add("b")
    made.api.add("c")
    return made


def availability(swarm: Any) -> str:
    return str(swarm.node("b").availability)


def refused(work: Any) -> list[str]:
    with pytest.raises(SwarmError) as raised:
        work()
    return str(raised.value).splitlines()


def emptied(swarm: Any, said: list[str] | None = None, stop_pinned: bool = False) -> dict[str, Any]:
    return drain(swarm, swarm.node("b"), stop_pinned, 30, (said if said is not None else []).append)


# -- draining --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", ["active", "pause"])  # one that died in a drain left it paused
def test_what_runs_there_alone_starts_elsewhere_before_it_ends(swarm: Any, before: str) -> None:
    swarm.api.serve("time", "b")
    swarm.api.serve("many", "a b", replicas=2)
    swarm.api.there["id-b"]["Spec"]["Availability"] = before
    said: list[str] = []
    done = emptied(swarm, said)
    assert done == {"changed": True, "moved": ["mcp_many", "mcp_time"], "stopped": []}
    assert said == [
        "mcp_time: starting elsewhere before it ends on b",
        f"{NODE} is empty; what ran on it runs elsewhere",
    ]
    first, second = (t for t in swarm.api.tasks_ if t["ServiceID"] == "s-time")
    assert (first["NodeID"], first["DesiredState"], second["NodeID"] != "id-b") == ("id-b", "shutdown", True)
    assert availability(swarm) == "drain"


def test_what_may_stop_is_named_when_it_has(swarm: Any) -> None:
    swarm.api.serve("data", "b", Placement={"Constraints": ["node.id == id-b"]})
    said: list[str] = []
    assert refused(lambda: emptied(swarm, said)) == [
        f"{NODE} cannot be emptied without stopping what only it can run; nothing was changed:",
        "mcp_data: no other node can run it (node.id == id-b)",
        "To stop these until the node is back: -e stop_pinned=true. Data stays on the node.",
    ]
    assert (availability(swarm), said) == ("active", [])
    assert emptied(swarm, said, stop_pinned=True)["stopped"] == ["mcp_data"]
    assert said == [f"{NODE} is empty; what ran on it runs elsewhere, but for mcp_data: stopped until it is back"]


def gpus(number: int) -> dict[str, Any]:
    return {"DiscreteResourceSpec": {"Kind": "NVIDIA-GPU", "Value": number}}


def serve_on_gpus(swarm: Any, name: str, on: str, replicas: int = 1) -> None:
    swarm.api.serve(name, on, replicas, Resources={"Reservations": {"GenericResources": [gpus(1)]}})
    for task in swarm.api.tasks_:
        if task["ServiceID"] == f"s-{name}":
            task["GenericResources"] = [gpus(1)]


@pytest.mark.parametrize(("has", "room"), [({"c": 2}, True), ({"c": 1}, False), ({"a": 1}, True), ({}, False)])
def test_what_reserves_a_gpu_needs_one_that_is_free_elsewhere(swarm: Any, has: dict[str, int], room: bool) -> None:
    for name, number in {"b": 1, **has}.items():
        swarm.api.there[f"id-{name}"]["Description"]["Resources"] = {"GenericResources": [gpus(number)]}
    serve_on_gpus(swarm, "asr", "c" if "c" in has else "")
    serve_on_gpus(swarm, "ocr", "b")
    if room:
        assert emptied(swarm)["moved"] == ["mcp_ocr"]
        return
    assert refused(lambda: emptied(swarm)) == [
        f"{NODE} cannot be emptied without stopping what only it can run; nothing was changed:",
        "mcp_ocr: reserves NVIDIA-GPU, and no other node that can run it has enough free",
        "To stop these until the node is back: -e stop_pinned=true. Data stays on the node.",
    ]
    assert emptied(swarm, stop_pinned=True)["stopped"] == ["mcp_ocr"]


def test_two_do_not_count_on_the_same_free_gpu(swarm: Any) -> None:
    for name in "bc":
        swarm.api.there[f"id-{name}"]["Description"]["Resources"] = {"GenericResources": [gpus(2)]}
    serve_on_gpus(swarm, "asr", "b c", 2)
    serve_on_gpus(swarm, "ocr", "b")
    assert "mcp_ocr: reserves NVIDIA-GPU" in refused(lambda: emptied(swarm))[1]


@pytest.mark.parametrize("before", ["active", "pause"])
def test_what_does_not_start_elsewhere_stays(swarm: Any, before: str) -> None:
    swarm.api.serve("time", "b")
    swarm.api.there["id-b"]["Spec"]["Availability"] = before
    swarm.api.broken["time"] = ""  # it is started nowhere, and nobody says why
    swarm.api._emptiest = lambda service: ""
    swarm.api._start = lambda service, where="": swarm.api.tasks_.append(
        swarm.api.tasks_[0] | {"ID": "new", "NodeID": "id-c", "Status": {"State": "starting"}, "Spec": service["Spec"]["TaskTemplate"]}
        | {"CreatedAt": swarm.api.clock.stamp()}
    )  # fmt: skip
    assert refused(lambda: emptied(swarm)) == [
        "service mcp_time: did not start elsewhere in time",
        "  task new on host-c: starting",
        f"{NODE} is {before} as before, and what ran on it goes on; run again when the cause is gone.",
    ]
    assert (availability(swarm), swarm.api.on("time")) == (before, ["b"])


@pytest.mark.parametrize("seconds", [30, 10.2])  # the time is over when it is known
def test_what_no_other_node_takes_is_told_once_with_its_error(swarm: Any, seconds: float) -> None:
    swarm.api.serve("time", "b")
    swarm.api.broken["time"] = "insufficient resources on 2 nodes"
    assert refused(lambda: drain(swarm, swarm.node("b"), False, seconds, lambda dummy: None)) == [
        "service mcp_time: no node can run it",
        "  task t1-time on no node: pending",
        "  error: insufficient resources on 2 nodes",
        f"{NODE} is active as before, and what ran on it goes on; run again when the cause is gone.",
    ]
    assert (availability(swarm), swarm.api.on("time")) == ("active", ["b"])


def test_a_lock_that_is_lost_gives_the_drain_up(swarm: Any) -> None:
    swarm.api.serve("time", "b")

    def alive() -> None:
        raise SwarmError("the lock of mcp was taken from this deploy: somebody freed it; nothing more was changed")

    said = refused(lambda: drain(swarm, swarm.node("b"), False, 30, lambda dummy: None, alive))
    assert said[0].startswith("the lock of mcp was taken")
    assert said[1].startswith(f"{NODE} is active as before")
    assert availability(swarm) == "active"


def test_what_does_not_come_up_in_time_is_told_with_its_cause(swarm: Any) -> None:
    swarm.api.serve("many", "a b b", replicas=3)
    swarm.api.broken["many"] = "no suitable node (insufficient memory on 2 nodes)"

    def one_finds_room() -> None:
        swarm.api.broken.clear()
        swarm.api._start(swarm.api.live["mcp_many"], "id-c")

    swarm.api.clock.then = [(swarm.api.clock.now + 5, one_finds_room)]
    said: list[str] = []
    assert refused(lambda: emptied(swarm, said)) == [
        "service mcp_many: 2/3 replicas run elsewhere",
        "  task t4-many on no node: pending",
        "  error: no suitable node (insufficient memory on 2 nodes)",
        f"{NODE}: elsewhere: mcp_many 2/3; the time is over, the node stays drained. Run again to wait longer, or bring it back:"
        " playbooks/drain.yml -e node=b -e state=active",
    ]
    assert said == [f"{NODE}: elsewhere: mcp_many 1/3", f"{NODE}: elsewhere: mcp_many 2/3"]
    assert availability(swarm) == "drain"


def test_what_does_not_end_is_named(swarm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    swarm.api.serve("many", "a b", replicas=2)
    monkeypatch.setattr(swarm.api, "_end", lambda task: task.update(DesiredState="shutdown"))
    (said,) = refused(lambda: emptied(swarm))
    assert said.startswith(f"{NODE}: still there: mcp_many; the time is over, the node stays drained.")


# -- taking it back --------------------------------------------------------------------------------------------------


def taken_back(swarm: Any, said: list[str]) -> bool:
    return activate(swarm, swarm.node("b"), 30, said.append)


def test_a_node_is_taken_back_when_what_runs_everywhere_runs_there(swarm: Any) -> None:
    swarm.api.there["id-b"]["Spec"]["Availability"] = "drain"
    swarm.api.serve("edge", "a c", replicas=None)
    said: list[str] = []
    assert taken_back(swarm, said)
    assert (said, swarm.api.on("edge")) == ([f"{NODE} takes tasks again"], ["a", "b", "c"])
    assert not taken_back(swarm, said)
    assert len(said) == 1


def test_what_does_not_come_up_on_it_is_told_of_that_node(swarm: Any) -> None:
    swarm.api.there["id-b"]["Spec"]["Availability"] = "drain"
    swarm.api.serve("edge", "a c", replicas=None)
    swarm.api.serve("agent", "a c", replicas=None)
    swarm.api.broken["edge"] = "host-mode port already in use on 1 node"
    swarm.api.broken["agent"] = "no such image"
    # What else happened to them since is not why they do not run there.
    swarm.api.clock.then = [(swarm.api.clock.now + 5, lambda: swarm.api._start(swarm.api.live["mcp_edge"], "id-c"))]
    assert refused(lambda: taken_back(swarm, [])) == [
        f"{NODE} takes tasks again, but not everything came up there:",
        "service mcp_agent: does not run on b",
        "  task t5-agent on host-b: pending",
        "  error: no such image",
        "service mcp_edge: does not run on b",
        "  task t4-edge on host-b: pending",
        "  error: host-mode port already in use on 1 node",
        "Correct what they say, or empty the node again: playbooks/drain.yml -e node=b",
    ]


# -- rebalancing -----------------------------------------------------------------------------------------------------


def even(swarm: Any, said: list[str] | None = None, **options: Any) -> Any:
    return rebalance(swarm, double.FLEET, [], 30, (said if said is not None else []).append, **options)


def test_a_replica_moves_by_one_more_and_one_less(swarm: Any) -> None:
    swarm.api.serve("many", "a a b", replicas=3)
    assert even(swarm, check=True).moves == ["mcp_many: one replica from a to c (a 2, b 1, c 0)"]
    assert swarm.api.on("many") == ["a", "a", "b"]
    assert even(swarm).moves == ["mcp_many: one replica from a to c (a 2, b 1, c 0)"]
    assert swarm.api.on("many") == ["a", "b", "c"]


def test_an_only_replica_moves_by_an_update(swarm: Any) -> None:
    for name in ("x", "y", "z"):
        swarm.api.serve(name, "a")
    assert even(swarm).moves == ["mcp_x: one replica from a to b (a has 3 tasks, b 0)", "mcp_y: one replica from a to c (a has 2 tasks, c 0)"]


def test_what_the_scheduler_puts_no_better_is_left(swarm: Any) -> None:
    swarm.api.serve("many", "a a b", replicas=3)
    swarm.api._emptiest = lambda service: "id-a"
    said: list[str] = []
    assert even(swarm, said).left == {"mcp_many": "Swarm put it no better (a 2, b 1, c 0)"}
    assert said == [
        "mcp_many: one replica from a to c (a 2, b 1, c 0)",
        "mcp_many: Swarm put it no better (a 2, b 1, c 0); left as it is",
    ]


def test_a_replica_that_does_not_start_is_taken_back(swarm: Any) -> None:
    swarm.api.serve("many", "a a b", replicas=3)
    swarm.api.broken["many"] = "no suitable node"
    assert refused(lambda: even(swarm)) == [
        "service mcp_many: no node can run it",
        "  task t3-many on no node: pending",
        "  error: no suitable node",
        "It has 3 replicas as before; run again when the cause is gone.",
    ]
    assert swarm.api.on("many") == ["a", "a", "b"]
    assert swarm.api.live["mcp_many"]["Spec"]["Mode"]["Replicated"]["Replicas"] == 3


def test_a_replica_that_is_not_ready_in_time(swarm: Any) -> None:
    swarm.api.serve("many", "a a b", replicas=3)
    swarm.api.broken["many"] = "waits"
    said = refused(lambda: rebalance(swarm, double.FLEET, [], 5, lambda dummy: None))
    assert said[0] == "service mcp_many: 3/4 replicas after 5 s"
    assert said[-1] == "It has 3 replicas as before; run again when the cause is gone."


def test_an_autoscalers_word_in_between_is_the_newer_one(swarm: Any) -> None:
    swarm.api.serve("many", "a a b", replicas=3)
    swarm.api.broken["many"] = "no suitable node"
    seven = {"Replicated": {"Replicas": 7}}
    swarm.api.clock.then = [(swarm.api.clock.now + 5, lambda: swarm.api.live["mcp_many"]["Spec"].update(Mode=seven))]
    refused(lambda: even(swarm))
    assert swarm.api.live["mcp_many"]["Spec"]["Mode"] == seven


def test_an_only_replica_that_does_not_start_goes_on(swarm: Any) -> None:
    swarm.api.serve("x", "a")
    swarm.api.serve("y", "a", Placement={"Constraints": ["node.id == id-a"]})
    swarm.api.broken["x"] = "no suitable node"
    assert refused(lambda: even(swarm)) == [
        "service mcp_x: no node can run it",
        "  task t2-x on no node: pending",
        "  error: no suitable node",
        "Its replica before that goes on; run again when the cause is gone.",
    ]
    assert swarm.api.on("x") == ["a"]


@pytest.mark.parametrize("placed", ["a", "a a b"])
def test_a_service_that_is_removed_meanwhile(swarm: Any, placed: str) -> None:
    swarm.api.serve("x", placed, replicas=len(placed.split()))
    swarm.api.serve("y", "a", Placement={"Constraints": ["node.id == id-a"]})
    swarm.api.broken["x"] = "no suitable node"
    swarm.api.clock.then = [(swarm.api.clock.now + 1, lambda: swarm.api.live.pop("mcp_x"))]
    assert refused(lambda: even(swarm)) == ["service mcp_x: somebody removed it meanwhile; run again"]


# -- changes ---------------------------------------------------------------------------------------------------------


def test_somebody_elses_change_in_between_is_no_conflict(swarm: Any) -> None:
    swarm.api.serve("time", "b")
    left = [1, 1]

    def busy(what: str, whom: str) -> None:
        if what == "service" and left:
            left.pop()
            swarm.api.live["mcp_time"]["Version"]["Index"] += 1

    swarm.api.refuse = busy
    renew(swarm, "mcp_time")
    assert swarm.api.live["mcp_time"]["Spec"]["TaskTemplate"]["ForceUpdate"] == 1
    left.extend([1] * 20)
    (said,) = refused(lambda: renew(swarm, "mcp_time"))
    assert said == (
        "service mcp_time: the Swarm refused its update: rpc error: code = Unknown desc = update out of sequence; it runs on as it was"
    )


def test_an_update_that_is_refused_is_told(swarm: Any) -> None:
    swarm.api.serve("time", "b")

    def no(what: str, whom: str) -> None:
        if what == "service":
            raise double.refusal("invalid mount config")

    swarm.api.refuse = no
    assert refused(lambda: emptied(swarm)) == [
        "service mcp_time: the Swarm refused its update: invalid mount config; it runs on as it was",
        f"{NODE} is active as before, and what ran on it goes on; run again when the cause is gone.",
    ]
    assert availability(swarm) == "active"


def test_a_service_that_is_gone_cannot_be_renewed(swarm: Any) -> None:
    assert refused(lambda: renew(swarm, "mcp_none")) == ["service mcp_none: somebody removed it meanwhile; run again"]
