# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks: what people want done before and after each stage of a deploy, on this manager or by a playbook."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError

STAGES = ("plan", "trial", "apply", "verify", "record")
MOMENTS = (*(f"{when}_{stage}" for stage in STAGES for when in ("before", "after")), "on_rollback", "on_failure")
KEYS = ("command", "playbook", "seconds", "required")
SECONDS = 60
SHOWN_LINES = 20
# Of the environment that the deploy itself has; the rest may hold what is nobody's business.
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")

Ask = Callable[[dict[str, Any]], dict[str, Any]]


class HookFailed(SwarmError):
    """A hook without which the deploy must not go on has failed."""


@dataclass(frozen=True)
class Hook:
    """One of them.

    Attributes:
        command: arguments of a program on this manager; empty where it is a playbook.
        playbook: its path on the controller.
        seconds: longest time that it may take.
        required: whether the deploy fails with it.
    """

    command: tuple[str, ...]
    playbook: str
    seconds: float
    required: bool

    @property
    def name(self) -> str:
        """For people."""
        return self.playbook or self.command[0]


def read(wanted: Any) -> dict[str, list[Hook]]:
    """The hooks by moment.

    Raises:
        SwarmError: naming each key that is wrong, its value, and what is allowed.
    """
    errors: list[str] = []
    found: dict[str, list[Hook]] = {}
    if not isinstance(wanted, dict):
        raise SwarmError(f"hooks: {wanted!r}: a mapping from moment to hooks; moments are {', '.join(MOMENTS)}")
    for moment, entries in wanted.items():
        if moment not in MOMENTS:
            errors.append(f"hooks.{moment}: no such moment; there are {', '.join(MOMENTS)}")
            continue
        if not isinstance(entries, list):
            errors.append(f"hooks.{moment}: {entries!r}: a list of hooks")
            continue
        for index, entry in enumerate(entries):
            hook = _hook(entry, f"hooks.{moment}[{index}]", moment, errors)
            if hook:
                found.setdefault(moment, []).append(hook)
    if errors:
        raise SwarmError("\n".join([*errors, "Nothing was changed."]))
    return found


def _hook(entry: Any, path: str, moment: str, errors: list[str]) -> Hook | None:
    if not isinstance(entry, dict):
        errors.append(f"{path}: {entry!r}: a mapping with command or playbook")
        return None
    before = len(errors)
    errors += [f"{path}.{key}: unknown; there are {', '.join(KEYS)}" for key in entry if key not in KEYS]
    command, playbook = entry.get("command"), entry.get("playbook")
    if bool(command) == bool(playbook):
        errors.append(f"{path}: give exactly one of command and playbook")
    elif command and not (isinstance(command, list) and all(isinstance(part, (str, int, float)) for part in command)):
        errors.append(f"{path}.command: {command!r}: a list of the program and its arguments")
    elif playbook and not isinstance(playbook, str):
        errors.append(f"{path}.playbook: {playbook!r}: a path on the controller")
    seconds, required = entry.get("seconds", SECONDS), entry.get("required", moment.startswith("before_"))
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 3600:
        errors.append(f"{path}.seconds: {seconds!r}: more than 0, at most 3600")
    if not isinstance(required, bool):
        errors.append(f"{path}.required: {required!r}: true or false")
    elif required and moment.startswith("on_"):
        errors.append(f"{path}.required: true: {moment} can stop nothing; remove it")
    if len(errors) > before:
        return None
    return Hook(tuple(str(part) for part in command or ()), str(playbook or ""), float(seconds), required)


@dataclass
class Hooks:
    """The hooks of one deploy.

    Attributes:
        by_moment: as ``read`` gave them.
        say: takes progress lines.
        ask: has the controller run a playbook; None where nobody is there.
        facts: what hooks are told, by the name of the environment's variable.
        problems: what failed and did not stop the deploy.
    """

    by_moment: dict[str, list[Hook]] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _line: None
    ask: Ask | None = None
    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Run what is to be run before and after a stage; after one that fails nothing is.

        Raises:
            HookFailed: a required one failed.
        """
        self.run(f"before_{name}")
        yield
        self.run(f"after_{name}")

    def run(self, moment: str) -> None:
        """Run the hooks of a moment, one after the other.

        Raises:
            HookFailed: a required one failed; those after it were not run.
        """
        for hook in self.by_moment.get(moment, []):
            self.say(f"hook {moment}: {hook.name}")
            facts = {**self.facts, "MCP_MOMENT": moment, "MCP_STAGE": moment.partition("_")[2]}
            problem = self._on_controller(hook, facts) if hook.playbook else _here(hook, facts)
            if not problem:
                continue
            text = f"hook {moment}: {hook.name} {problem}"
            if hook.required:
                raise HookFailed(text)
            self.problems.append(text)
            self.say(text)

    def _on_controller(self, hook: Hook, facts: dict[str, str]) -> str:
        if self.ask is None:
            return "was not run: a playbook needs the controller, and nobody is there"
        answer = self.ask({"kind": "hook", "playbook": hook.playbook, "seconds": hook.seconds, "facts": facts})
        return str(answer.get("problem") or "")


def _here(hook: Hook, facts: dict[str, str]) -> str:
    """Run a command on this manager; returns what went wrong, with the last lines that it wrote."""
    kept = {key: value for key, value in os.environ.items() if key in KEPT}
    kept["PATH"] = f"{kept.get('PATH', '')}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    program = shutil.which(hook.command[0], path=kept["PATH"])
    if not program:
        return "cannot be run: there is no such program on this manager"
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function,consider-using-with
                [program, *hook.command[1:]],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**kept, **{key: value.replace("\0", "") for key, value in facts.items()}},
                cwd="/",
                start_new_session=True,
            )
        except (OSError, ValueError) as error:  # the latter of arguments that no program can be given
            return f"cannot be run: {getattr(error, 'strerror', None) or error}"
        try:
            code = process.wait(hook.seconds)
            ended = f"ended with {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # and what it started
            process.wait()
            code, ended = 1, f"took longer than {hook.seconds:g} s"
        if code == 0:
            return ""
        output.seek(0)
        return with_lines(ended, output.read().decode(errors="replace"))


def with_lines(ended: str, output: str) -> str:
    """How a hook ended, and what it wrote last."""
    lines = output.strip().splitlines()[-SHOWN_LINES:]
    return "\n".join([f"{ended}{':' if lines else ''}", *(f"    {line[:300]}" for line in lines)])
