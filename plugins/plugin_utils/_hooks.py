# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hooks of a deploy that are playbooks: run on the controller, with the inventory of the play that deploys."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import context

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.hooks import SECONDS, with_lines


def path_of(playbook: str, inventory_dir: str | None) -> Path:
    """Where a playbook lies: relative to the inventory's directory, or to where Ansible was started."""
    places = [Path(base) / playbook for base in (inventory_dir or ".", ".")]
    return next((place for place in places if place.is_file()), places[0])


def seconds(hooks: Any) -> int:
    """How long all of them may take together; wrong ones are the module's to refuse."""
    if not isinstance(hooks, dict):
        return 0
    entries = [entry for moment in hooks.values() if isinstance(moment, list) for entry in moment]

    times = [entry.get("seconds", SECONDS) for entry in entries if isinstance(entry, dict)]
    return int(sum(time for time in times if isinstance(time, (int, float))))


def missing(hooks: Any, inventory_dir: str | None) -> list[str]:
    """A line per playbook that is not there; what else is wrong with hooks the module says."""
    lines = []
    for moment, entries in hooks.items() if isinstance(hooks, dict) else ():
        for index, entry in enumerate(entries if isinstance(entries, list) else ()):
            playbook = entry.get("playbook") if isinstance(entry, dict) else None
            if isinstance(playbook, str) and not path_of(playbook, inventory_dir).is_file():
                where = path_of(playbook, inventory_dir)
                lines.append(f"hooks.{moment}[{index}].playbook: {where} does not exist; write it or correct the path")
    return lines


def run(question: Mapping[str, Any], inventory_dir: str | None) -> dict[str, Any]:
    """Run a playbook; ``problem`` of what is returned is empty where it succeeded.

    Args:
        question: ``playbook``, ``seconds`` and ``facts``, which it gets as the variable ``mcp_hook``.
        inventory_dir: of the play that deploys.
    """
    playbook = path_of(question["playbook"], inventory_dir)
    program = Path(sys.executable).parent / "ansible-playbook"
    command = [str(program) if program.is_file() else "ansible-playbook"]
    arguments = context.CLIARGS
    for source in arguments.get("inventory") or ():
        command += ["--inventory", source]
    for file in arguments.get("vault_password_files") or ():
        command += ["--vault-password-file", file]
    facts = {name.removeprefix("MCP_").lower(): value for name, value in question["facts"].items()}
    command += ["--extra-vars", json.dumps({"mcp_hook": facts}), str(playbook)]
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
                start_new_session=True,
            )
        except OSError as error:
            return {"problem": f"cannot be run: {error.strerror}"}
        try:
            code = process.wait(question["seconds"])
            ended = f"ended with {code}"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code, ended = 1, f"took longer than {question['seconds']:g} s"
        if code == 0:
            return {"problem": ""}
        output.seek(0)
        return {"problem": with_lines(ended, output.read().decode(errors="replace"))}
