# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploy with progress and the gate; see plugins/modules/swarm_stack.py for the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._progress import ANSWER_SECONDS
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _gate
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._progress import run_with_progress

MODULE = "sophia_ai.mcp_swarm.swarm_stack"

display = Display()
# What no option bounds: an engine that is away for a while, images that are looked up, what is removed at the end.
AFTERWARDS_SECONDS = 900


def limit(arguments: Mapping[str, Any]) -> int:
    """Seconds after which a deploy hangs rather than works, hooks left out.

    At the limit it is killed where it is, before it could go back, and so would be the next one. The limit has to
    contain every phase at its longest, one after the other.
    """
    answer = int(arguments.get("verify_timeout", 60)) + ANSWER_SECONDS
    # To recover what a dead deploy left, to distribute, to try, to apply and to restore.
    seconds = 5 * int(arguments.get("timeout", 300))
    # What is new lives for a while in the trial and in the fleet; the trial, the fleet and what is restored are called.
    seconds += 2 * int(arguments.get("settle", 25)) + 3 * answer
    if float(arguments.get("canary", 0) or 0):
        # The last look at it may begin when its time is over.
        seconds += int(arguments.get("canary_seconds", 120)) + answer
    return seconds + int(arguments.get("lock_wait", 60)) + AFTERWARDS_SECONDS


class ActionModule(ActionBase):
    """Runs the module of the same name, shows what it says, and calls the fleet when it asks for that."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        arguments = dict(self._task.args)
        inventory_dir, hooks_seconds = task_vars.get("inventory_dir"), 0
        if hooks := arguments.get("hooks"):
            from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _hooks

            hooks_seconds = _hooks.seconds(hooks)
            if lines := _hooks.missing(hooks, inventory_dir):
                return result | {"failed": True, "msg": "\n".join([*lines, "Nothing was changed."])}
        deploys = arguments.get("state", "present") == "present" and not self._task.check_mode
        if deploys and (idle := self._idle(arguments, task_vars)):
            return result | idle
        timeout = limit(arguments) + hooks_seconds
        arguments.setdefault("who", _gate.who())
        arguments.setdefault("revision", _gate.revision(inventory_dir))
        plan = (task_vars.get("ansible_facts") or {}).get("fleet_plan")
        verify = str(arguments.get("verify", "true")).lower() in ("true", "yes", "1", "on")
        if plan and verify and arguments.get("state", "present") != "absent":
            if (missing := _gate.missing()) and plan["servers"]:
                return result | {"failed": True, "msg": missing}
            arguments.setdefault("verification", _gate.questions(plan))

        if plan and self._task.check_mode and arguments.get("state", "present") == "present":
            # Nothing before this task has made them, as it does outside check mode.
            arguments.setdefault("foreseen", [item["object"] for item in (*plan["secrets"], *plan["configs"])])

        def answer(question: dict[str, Any]) -> dict[str, Any]:
            from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _hooks, _passes, _trial

            if question.get("kind") == "hook":
                return _hooks.run(question, inventory_dir)
            if plan is None:
                return {"problem": "there is no plan to verify by; run the role that compiles it first"}
            wait, headers = int(arguments.get("verify_timeout", 60)), _passes.headers(task_vars, self._templar)
            if question.get("kind"):
                found = _trial.ask(plan, question, wait, headers)
                if line := found.get("line"):
                    display.display(f"    {line}")
                return found
            line, problem = _gate.ask(plan, question, wait, headers)
            display.display(f"    {line}")
            return {"problem": problem}

        ran = run_with_progress(self, MODULE, arguments, task_vars, timeout=timeout, answer=answer)
        return result | ran

    def _idle(self, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """The answer of a deploy that has nothing to do; empty where one is to be run, detached and with the lock."""
        looked: dict[str, Any] = self._execute_module(
            module_name=MODULE, module_args=arguments | {"look": True}, task_vars=task_vars
        )
        return looked if looked.pop("due", True) is False else {}
