# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's half of a deploy: a look first, then the module detached, and answers to what it asks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail

from ansible_collections.sophia_ai.mcp_swarm.plugins.action import swarm_stack
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _progress

QUESTION = {"servers": [], "url": "", "key": ""}


class Action(swarm_stack.ActionModule):  # type: ignore[misc]
    """With the module's answers from a list, instead of a connection."""

    def __init__(self, answers: list[dict[str, Any]], check: bool = False, **arguments: Any) -> None:
        self._task = SimpleNamespace(args=arguments, check_mode=check, async_val=0)
        self.answers, self.ran = answers, []

    def _execute_module(self, module_args: dict[str, Any], **dummy: Any) -> dict[str, Any]:
        self.ran.append(module_args)
        return self.answers.pop(0)


@pytest.fixture
def detached(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the module run detached was given."""
    runs: list[Any] = []

    def run(action: Any, name: str, arguments: dict[str, Any], variables: Any, **options: Any) -> dict[str, Any]:
        runs.append((arguments, options))
        return {"changed": True}

    monkeypatch.setattr(swarm_stack, "run_with_progress", run)
    monkeypatch.setattr(swarm_stack.ActionBase, "run", lambda *dummy: {})
    return runs


def test_a_look_that_finds_nothing_to_do_is_the_answer(detached: list[Any]) -> None:
    action = Action([{"changed": False, "release": 3, "due": False}], name="mcp")
    assert action.run(task_vars={}) == {"changed": False, "release": 3}
    assert action.ran == [{"name": "mcp", "look": True}]
    assert detached == []


@pytest.mark.parametrize("looked", [{"changed": False, "due": True}, {"failed": True, "msg": "no docker"}])
def test_whatever_else_it_finds_is_for_the_deploy(detached: list[Any], looked: dict[str, Any]) -> None:
    action = Action([looked], name="mcp")
    assert action.run(task_vars={}) == {"changed": True}
    ((arguments, options),) = detached
    assert arguments["name"] == "mcp" and "look" not in arguments and "@" in arguments["who"]
    assert options["answer"](QUESTION)["problem"] == (
        "there is no plan to verify by; run the role that compiles it first"
    )


@pytest.mark.parametrize(
    ("arguments", "foreseen"), [({}, ["mcp_key_1", "mcp_gateway_2"]), ({"state": "rollback"}, None), ({"check": False}, None)]
)
def test_in_check_mode_it_says_what_will_have_been_made(
    detached: list[Any], arguments: dict[str, Any], foreseen: list[str] | None
) -> None:
    plan = {"secrets": [{"object": "mcp_key_1"}], "configs": [{"object": "mcp_gateway_2"}]}
    action = Action([{"due": True}], **{"check": True, "name": "mcp", "verify": False, **arguments})
    action.run(task_vars={"ansible_facts": {"fleet_plan": plan}})
    assert detached[0][0].get("foreseen") == foreseen


@pytest.mark.parametrize("arguments", [{"state": "rollback"}, {"state": "absent"}])
def test_only_a_deploy_looks_first(detached: list[Any], arguments: dict[str, Any]) -> None:
    action = Action([], name="mcp", **arguments)
    action.run(task_vars={})
    assert action.ran == [] and len(detached) == 1


LONG = {"timeout": 1000, "settle": 100, "verify_timeout": 200, "lock_wait": 30}


@pytest.mark.parametrize(
    ("arguments", "phases"),
    [
        (LONG, 5 * 1000 + 2 * 100 + 3 * (200 + 40) + 30),
        # A share of the calls has its time, and a last look.
        ({**LONG, "canary": 10, "canary_seconds": 3600}, 5 * 1000 + 2 * 100 + 4 * (200 + 40) + 30 + 3600),
        ({**LONG, "hooks": {"on_rollback": [{"command": ["x"], "seconds": 500}]}}, 5 * 1000 + 2 * 100 + 3 * 240 + 30 + 500),
    ],
)
def test_no_phase_is_cut_short(detached: list[Any], arguments: dict[str, Any], phases: int) -> None:
    """A deploy that is killed at its limit restores nothing, so the limit contains each phase at its longest."""
    Action([{"due": True}], name="mcp", **arguments).run(task_vars={})
    ((dummy, options),) = detached
    assert options["timeout"] == phases + swarm_stack.AFTERWARDS_SECONDS


def test_a_module_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    action: Any = Action([{"results_file": "/r"}], name="mcp")
    action._connection = SimpleNamespace(_shell=SimpleNamespace(join_path=lambda *parts: "/".join(parts), tmpdir="/t"))
    monkeypatch.setattr(action, "_make_tmp_path", lambda: "/t", raising=False)
    monkeypatch.setattr(action, "_low_level_execute_command", lambda dummy: {"stdout": "\n--result--\n"}, raising=False)
    with pytest.raises(AnsibleActionFail, match="swarm_stack did not end within 0 s; its state is in /r"):
        _progress.run_with_progress(action, "swarm_stack", {}, {}, timeout=0)
