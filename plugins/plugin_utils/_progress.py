# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what a long module does while it does it."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

MARK = "--result--"
FIRST_POLL_SECONDS = 0.1

display = Display()


def run_with_progress(
    action: ActionBase,
    module_name: str,
    module_args: dict[str, Any],
    task_vars: dict[str, Any],
    *,
    poll: float = 1.0,
    timeout: int = 3600,
    answer: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Run a module on the target, showing the lines it writes to its ``progress_file``; returns its result.

    The module runs detached, as with ``async``, so a dropped connection does not end it. It gets the option
    ``progress_file`` and appends JSON objects ``{"time": seconds, "line": text}`` to that file. Its
    arguments are written to the target's disk for the time it runs: they must hold no secrets.

    Args:
        action: the calling action plugin.
        module_name: fully qualified name.
        module_args: its options.
        task_vars: the task's variables.
        poll: seconds between two looks at the most; the first ones follow each other faster.
        timeout: seconds after which the module is given up.
        answer: answers what the module asks on its way (``Progress.ask``).
    """
    if action._task.check_mode:
        return action._execute_module(module_name=module_name, module_args=module_args, task_vars=task_vars)
    progress = action._connection._shell.join_path(action._make_tmp_path(), "progress")
    action._task.async_val = timeout
    try:
        started = action._execute_module(
            module_name=module_name,
            module_args=module_args | {"progress_file": progress},
            task_vars=task_vars,
            wrap_async=True,
        )
    finally:
        action._task.async_val = 0
    results = started.get("results_file")
    if not results:
        return started
    offset, deadline, pause = 0, time.monotonic() + timeout, FIRST_POLL_SECONDS
    # The result is read first: once it is there, every line of progress is too.
    look = "result=$(cat {}); tail -c +{} {} 2>/dev/null; printf '\\n" + MARK + "\\n%s' \"$result\""
    while True:
        done = action._low_level_execute_command(look.format(shlex.quote(results), offset + 1, shlex.quote(progress)))
        lines, dummy, result = done["stdout"].rpartition(MARK)
        read, questions = _show(lines)
        offset += read
        for question in questions if answer else []:
            path = shlex.quote(f"{progress}.{question['number']}")
            action._low_level_execute_command(f": >{path}.seen")
            text = json.dumps(answer(question["ask"])) if answer else ""
            action._low_level_execute_command(f"printf %s {shlex.quote(text)} >{path}.new && mv {path}.new {path}")
        state = _parsed(result)
        if state and "started" not in state:  # until it ends the file holds the wrapper's own note
            break
        if time.monotonic() > deadline:
            raise AnsibleActionFail(f"{module_name} did not end within {timeout} s; its state is in {results}")
        time.sleep(pause)
        pause = min(2 * pause, poll)
    action._low_level_execute_command(f"rm -f {shlex.quote(results)}")
    action._remove_tmp_path(action._connection._shell.tmpdir)
    for key in ("ansible_job_id", "finished", "started", "results_file", "_ansible_suppress_tmpdir_delete"):
        state.pop(key, None)
    return state


def _show(text: str) -> tuple[int, list[dict[str, Any]]]:
    """Display complete lines; returns how many bytes they were, and the questions among them."""
    shown, questions = 0, []
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break
        if entry := _parsed(line):
            if "ask" in entry:
                questions.append(entry)
            else:
                display.display(f"    {entry['line']}")
            shown += len(line.encode())
    return shown, questions


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
