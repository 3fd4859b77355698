# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks: what is refused, what they are told, what becomes of one that fails."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.hooks import HookFailed, Hooks, read


def sh(script: str, **keys: Any) -> dict[str, Any]:
    return {"command": ["sh", "-c", script], **keys}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ([], r"hooks: \[\]: a mapping"),
        ({"before_lunch": []}, "hooks.before_lunch: no such moment; there are before_plan, after_plan"),
        ({"before_plan": {}}, "hooks.before_plan: {}: a list of hooks"),
        ({"before_plan": ["x"]}, r"hooks.before_plan\[0\]: 'x': a mapping with command or playbook"),
        ({"before_plan": [{"playbook": 7}]}, r"hooks.before_plan\[0\].playbook: 7: a path on the controller"),
        ({"before_plan": [{}]}, r"hooks.before_plan\[0\]: give exactly one of command and playbook"),
        ({"before_plan": [{"command": ["a"], "playbook": "b"}]}, "give exactly one"),
        ({"before_plan": [{"command": "rm -rf"}]}, r"hooks.before_plan\[0\].command: 'rm -rf': a list"),
        ({"before_plan": [sh("", seconds=0)]}, r"\[0\].seconds: 0: more than 0"),
        ({"before_plan": [sh("", seconds=True)]}, r"\[0\].seconds: True"),
        ({"before_plan": [sh("", required="no")]}, r"\[0\].required: 'no'"),
        ({"on_failure": [sh("", required=True)]}, "on_failure can stop nothing; remove it"),
        ({"before_plan": [sh("", user="root")]}, r"\[0\].user: unknown; there are command, playbook"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_value(wanted: Any, said: str) -> None:
    with pytest.raises(SwarmError, match=said):
        read(wanted)


def test_all_mistakes_at_once() -> None:
    with pytest.raises(SwarmError) as refusal:
        read({"nowhere": [], "before_plan": [{}], "after_plan": [sh("", seconds=-1)]})
    assert str(refusal.value).count("hooks.") == 3
    assert str(refusal.value).endswith("Nothing was changed.")


def test_hooks_run_in_order_and_know_what_for(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "not to be passed")
    log = tmp_path / "log"
    script = f'echo "$MCP_MOMENT $MCP_STAGE $MCP_FLEET ${{A_SECRET-nothing}}" >>{log}'
    hooks = Hooks(read({"before_plan": [sh(script), sh(script)], "after_plan": [sh(script)]}), facts={"MCP_FLEET": "f"})
    with hooks.stage("plan"):
        log.write_text(log.read_text() + "here\n")
    before, after = "before_plan plan f nothing", "after_plan plan f nothing"
    assert log.read_text().splitlines() == [before, before, "here", after]
    assert hooks.problems == []


def test_one_before_stops_with_its_last_lines_and_one_after_is_told() -> None:
    hooks = Hooks(read({"before_apply": [sh("echo first; echo last >&2; exit 3")], "after_apply": [sh("exit 5")]}))
    with pytest.raises(HookFailed, match=r"hook before_apply: sh ended with 3:\n    first\n    last"):
        hooks.run("before_apply")
    hooks.run("after_apply")
    assert hooks.problems == ["hook after_apply: sh ended with 5"]


def test_whether_it_is_required_can_be_said() -> None:
    hooks = Hooks(read({"before_apply": [sh("exit 3", required=False)], "after_apply": [sh("exit 5", required=True)]}))
    hooks.run("before_apply")
    with pytest.raises(HookFailed, match="hook after_apply: sh ended with 5"):
        hooks.run("after_apply")


def test_one_that_takes_too_long_is_ended_with_what_it_started() -> None:
    hooks = Hooks(read({"before_plan": [sh("echo begun; sleep 60 & wait", seconds=0.5)]}))
    start = time.monotonic()
    with pytest.raises(HookFailed, match=r"took longer than 0.5 s:\n    begun"):
        hooks.run("before_plan")
    assert time.monotonic() - start < 20


def test_a_program_that_is_not_there() -> None:
    hooks = Hooks(read({"before_plan": [{"command": ["no-such-program-here"]}]}))
    with pytest.raises(HookFailed, match="no-such-program-here cannot be run: there is no such program"):
        hooks.run("before_plan")


def test_what_no_program_can_be_given() -> None:
    """A server's last lines may hold anything; what a hook is told of them is text."""
    hooks = Hooks(read({"on_failure": [sh('test "$MCP_ERROR" = "last words"')]}), facts={"MCP_ERROR": "last\0 words"})
    hooks.run("on_failure")
    assert hooks.problems == []
    hooks = Hooks(read({"on_failure": [{"command": ["sh", "a\0b"]}]}))
    hooks.run("on_failure")
    assert hooks.problems == ["hook on_failure: sh cannot be run: embedded null byte"]


def test_a_playbook_is_the_controllers() -> None:
    asked: list[dict[str, Any]] = []

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        return {"problem": "ended with 2:\n    no such host"}

    wanted = read({"after_record": [{"playbook": "hooks/tell.yml", "seconds": 9}]})
    hooks = Hooks(wanted, ask=answer, facts={"MCP_FLEET": "f"})
    hooks.run("after_record")
    assert hooks.problems == ["hook after_record: hooks/tell.yml ended with 2:\n    no such host"]
    assert (asked[0]["kind"], asked[0]["playbook"], asked[0]["seconds"]) == ("hook", "hooks/tell.yml", 9.0)
    assert asked[0]["facts"] == {"MCP_FLEET": "f", "MCP_MOMENT": "after_record", "MCP_STAGE": "record"}
    nobody = Hooks(wanted)
    nobody.run("after_record")
    assert "was not run: a playbook needs the controller, and nobody is there" in nobody.problems[0]
