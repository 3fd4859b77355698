# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules about nodes: what check mode says is what would be done, and what is refused changes nothing."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.modules import swarm_node, swarm_rebalance
from ansible_collections.sophia_ai.mcp_swarm.tests.unit.plugins.module_utils import cluster_double as double
from ansible_collections.sophia_ai.mcp_swarm.tests.unit.plugins.modules.test_swarm_modules import run


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A manager and two workers; w runs a server that only it can."""
    made = double.cluster(monkeypatch)
    made.api.add("a", "manager")
    made.api.add("w", zone="east")
    made.api.add("x")
    made.api.serve("data", "w", Placement={"Constraints": ["node.id == id-w"]})
    return made


def asked(swarm: Any, monkeypatch: pytest.MonkeyPatch, check: bool = False, **params: Any) -> dict[str, Any]:
    return run(swarm_node, monkeypatch, lambda: swarm, check, **{"node": "w", **params})


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"availability": "drain"}, "w (id-w) cannot be emptied without stopping what only it can run; nothing was changed:"),
        ({"node": "a", "role": "worker"}, "a (id-a) is the only manager: without it there is no Swarm;"),
        ({"node": "x", "role": "manager"}, "x (id-x) is down: only a node that answers can become a manager"),
        ({"node": "z"}, "node z: no such node in this Swarm; there are: a, w, x"),
        ({"state": "absent"}, "w (id-w) is ready: it must leave first"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_changed(
    swarm: Any, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], said: str, check: bool
) -> None:
    swarm.api.there["id-x"]["Status"]["State"] = "down"
    swarm.api.refuse = lambda what, whom: pytest.fail(f"{what} {whom} was changed")
    result = asked(swarm, monkeypatch, check, **{"labels": {"zone": "west"}, **params})
    assert result["failed"] and result["msg"].startswith(said)


def test_the_manager_that_is_asked_does_not_demote_itself(swarm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    swarm.api.add("b", "manager")
    for check in (True, False):
        result = asked(swarm, monkeypatch, check, node="a", role="worker")
        assert result["msg"] == "a (id-a) cannot demote itself; ask another manager; nothing was changed"


def test_check_mode_tells_what_is_done_then(swarm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    swarm.api.serve("time", "w")
    params = {"labels": {"zone": "west"}, "role": "manager", "availability": "drain", "stop_pinned": True}
    told = asked(swarm, monkeypatch, True, **params)
    assert (told["changed"], told["moved"], told["stopped"]) == (True, ["mcp_time"], ["mcp_data"])
    assert told["diff"]["after"].splitlines() == [
        "role: manager",
        "availability: drain",
        "label ai.sophia.mcp.host: w",
        "label zone: west",
    ]
    assert (swarm.node("w").availability, swarm.node("w").labels["zone"]) == ("active", "east")
    done = asked(swarm, monkeypatch, **params)
    assert {key: done[key] for key in ("changed", "moved", "stopped", "diff")} == {
        key: told[key] for key in ("changed", "moved", "stopped", "diff")
    }
    now = swarm.node("w")
    assert (now.role, now.availability, now.labels["zone"]) == ("manager", "drain", "west")
    again = asked(swarm, monkeypatch, **params)
    assert again["changed"] is False
    back = asked(swarm, monkeypatch, availability="active")
    assert (back["changed"], back["node"]["availability"]) == (True, "active")


def test_a_vote_that_is_taken_is_a_change(swarm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    swarm.api.there["id-w"]["ManagerStatus"] = {"Reachability": "unreachable"}
    assert asked(swarm, monkeypatch, True, role="worker")["changed"] is True
    assert asked(swarm, monkeypatch, role="worker")["changed"] is True
    assert asked(swarm, monkeypatch, role="worker")["changed"] is False


def test_what_is_gone_is_absent(swarm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    swarm.api.there["id-w"]["Status"]["State"] = "down"
    assert asked(swarm, monkeypatch, True, state="absent")["changed"] is True
    assert asked(swarm, monkeypatch, state="absent")["changed"] is True
    assert asked(swarm, monkeypatch, state="absent") == {"changed": False, "node": {}}


def test_rebalancing_fails_with_what_is_wrong(swarm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(swarm_rebalance, monkeypatch, lambda: swarm, name=double.FLEET, only=["none"])
    assert result == {"failed": True, "msg": "only: mcp_none: no such service; there are: mcp_data"}
    assert run(swarm_rebalance, monkeypatch, lambda: swarm, name=double.FLEET) == {"changed": False, "moves": [], "left": {}}
