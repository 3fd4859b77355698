# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of scenarios do with their nodes: commands in the nodes' containers, and Ansible with the inventory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Molecule asks for colours, which are no part of a message.
PLAIN = {
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_FORCE_COLOR": "0",
    "PY_COLORS": "0",
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
}
LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Played:
    """What a playbook did.

    Attributes:
        code: its exit status.
        output: of both streams, in one line: messages are wrapped to the terminal's width.
        seconds: that it took.
    """

    code: int
    output: str
    seconds: float

    @property
    def changed(self) -> int:
        """How many tasks changed something, on all hosts."""
        return sum(int(number) for number in re.findall(r"\bchanged=(\d+)", self.output))


def sh(container: str, command: str, check: bool = True, stdin: str | None = None) -> str:
    """The output of a command in a container of this host, trimmed; with ``check`` it has to succeed."""
    done = subprocess.run(
        ["docker", "exec", *(["--interactive"] if stdin is not None else []), container, "bash", "-c", command],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout.strip()


def address(container: str) -> str:
    """A container's address in the engine's own network."""
    ask = ["docker", "inspect", "--format", "{{.NetworkSettings.Networks.bridge.IPAddress}}", container]
    return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()


def until(what: str, holds: Callable[[], Any], seconds: float = 60, said: Callable[[], Any] = lambda: "") -> float:
    """Wait for a condition; returns how many seconds that took.

    Args:
        what: is waited for.
        holds: the condition. One that fails by an assertion does not hold yet, as where nobody answers.
        seconds: how long at most.
        said: what to tell where it comes to nothing.
    """
    begun = time.monotonic()
    while True:
        why = ""
        try:
            if holds():
                return time.monotonic() - begun
        except AssertionError as error:
            why = str(error)[:300]
        assert time.monotonic() - begun < seconds, f"{what}: not within {seconds:g} s {why} {said()}"
        time.sleep(LOOK_SECONDS)


class Ansible:
    """Ansible's commands with a scenario's inventory.

    Attributes:
        inventory: its directory.
        environment: of the commands, beside this process's.
    """

    def __init__(self, inventory: Path, **environment: str) -> None:
        self.inventory = inventory
        self.environment = {**os.environ, **PLAIN, **environment}

    def start(self, playbook: str, *more: str, **variables: Any) -> subprocess.Popen[str]:
        """Begin a playbook, in a session of its own.

        Args:
            playbook: its path below the project's root, or its name among the playbooks.
            more: arguments.
            variables: ``--extra-vars``.
        """
        path = playbook if "/" in playbook else f"playbooks/{playbook}"
        extra = ["-e", json.dumps(variables)] if variables else []
        return self._start("ansible-playbook", path, *more, *extra)

    def play(self, playbook: str, *more: str, seconds: float = 600, **variables: Any) -> Played:
        """Run a playbook to its end, which has to come within ``seconds``."""
        begun = time.monotonic()
        code, output = self._end(self.start(playbook, *more, **variables), seconds)
        return Played(code, " ".join(output.split()), time.monotonic() - begun)

    def command(self, program: str, *words: str, seconds: float = 600) -> tuple[int, str]:
        """Exit status and output of one of Ansible's other commands."""
        return self._end(self._start(program, *words), seconds)

    def ask(self, module: str, arguments: str) -> dict[str, Any]:
        """What one of the collection's modules answers on the manager."""
        words = ["mcp_managers", "-m", f"sophia_ai.mcp_swarm.{module}", "-a", arguments, "-o"]
        code, output = self.command("ansible", *words)
        assert code == 0, output
        answer = next(line for line in output.splitlines() if "=>" in line)
        return dict(json.loads(answer.partition("=>")[2]))

    def _start(self, program: str, *words: str) -> subprocess.Popen[str]:
        command = [str(Path(sys.executable).with_name(program)), "-i", str(self.inventory), *words]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def _end(self, process: subprocess.Popen[str], seconds: float) -> tuple[int, str]:
        with process:
            try:
                output, dummy = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return process.returncode, output
