# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who joins whom becomes facts, or a refusal that says that nothing was done."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.action import swarm_membership


def run(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> dict[str, Any]:
    monkeypatch.setattr(swarm_membership.ActionBase, "run", lambda *dummy: {})
    monkeypatch.setattr(swarm_membership.ActionBase, "validate_argument_spec", lambda self, spec: (None, self.arguments))
    action = swarm_membership.ActionModule.__new__(swarm_membership.ActionModule)
    action.arguments = {"workers": [], "initialise": False, **arguments}
    return dict(action.run(task_vars={}))


def test_a_refusal_says_that_nothing_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run(monkeypatch, managers=["a"], seen={})
    assert done == {
        "failed": True,
        "msg": "No manager answers: a. Without one there is no Swarm to join\nNo host's membership was changed.",
    }


def test_a_first_manager_makes_the_swarm(monkeypatch: pytest.MonkeyPatch) -> None:
    look = {"state": "inactive", "nodes": [], "node_id": "", "serves": False, "manager": False, "managers": [], "problem": ""}
    done = run(monkeypatch, managers=["a"], seen={"a": look})
    assert not done["changed"]
    assert done["ansible_facts"]["swarm_membership"]["initialise"] == "a"
