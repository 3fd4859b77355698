# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the decision about hosts becomes: facts, a warning, or a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.action import swarm_membership
from ansible_collections.sophia_ai.mcp_swarm.tests.unit.plugins.module_utils.test_membership import (
    alone,
    manager,
    node,
)


class Action(swarm_membership.ActionModule):  # type: ignore[misc]
    """With arguments that are valid."""

    def __init__(self, **arguments: Any) -> None:
        self.arguments = {"workers": [], "initialise": False, **arguments}

    def validate_argument_spec(self, dummy: Any) -> Any:
        return None, self.arguments


@pytest.fixture
def warned(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was warned of."""
    warnings: list[str] = []
    monkeypatch.setattr(swarm_membership.ActionBase, "run", lambda *dummy: {})
    monkeypatch.setattr(swarm_membership.display, "warning", warnings.append)
    return warnings


def test_a_refusal_says_that_nothing_was_changed(warned: list[str]) -> None:
    two = {"a": manager("a", [node("a", "a")]), "b": manager("b", [node("b", "b")], "s2")}
    assert Action(managers=["a", "b"], seen=two).run() == {
        "failed": True,
        "msg": (
            "The inventory's hosts are in different Swarms:\na: in the Swarm s1\nb: in the Swarm s2\n"
            "Keep one of them. If nothing in the others is needed, run on each of their hosts: docker swarm leave --force\n"
            "No host's membership was changed."
        ),
    }
    assert warned == []


def test_a_decision_is_a_fact_and_nodes_of_others_are_warned_of(warned: list[str]) -> None:
    seen = {"a": manager("a", [node("a", "a"), node("printer")]), "b": alone()}
    told = Action(managers=["a"], workers=["b"], seen=seen).run()
    assert told["changed"] is False
    facts = told["ansible_facts"]["swarm_membership"]
    assert (facts["ask"], facts["join"]) == ("a", ["b"])
    assert warned == [
        "the Swarm has nodes that the inventory does not: printer (id-printer, ready); playbooks/leave.yml removes one"
    ]
