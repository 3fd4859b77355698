# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node, its inventory, and the playbooks run on it, with what each task took."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LOCAL = ROOT / "inventories" / "local"
SCENARIO = ROOT / "molecule" / "default"
NAME = "mcp-bench"
PLAY_SECONDS = 1200
TASK = re.compile(r"^(.*?) -{2,} ([0-9.]+)s$")


class BenchError(Exception):
    """Something that was to be measured did not happen."""


@dataclass(frozen=True)
class Played:
    """A playbook that ran: its lines with the second of each, how long it took, and what each task took, in order."""

    lines: list[tuple[float, str]]
    seconds: float
    tasks: list[tuple[str, float]]

    @property
    def output(self) -> str:
        """All that it said."""
        return "".join(line for dummy, line in self.lines)

    def said(self, text: str) -> float:
        """The second at which something was first said.

        Raises:
            BenchError: it never was.
        """
        for seconds, line in self.lines:
            if text in line:
                return seconds
        raise BenchError(f"{text!r} was not said\n{self.output[-3000:]}")

    def of(self, name: str) -> list[float]:
        """Seconds of each task whose name ends so."""
        return [seconds for task, seconds in self.tasks if task.endswith(name)]


class Node:
    """One node with the local fleet's catalogue, in containers and volumes named mcp-bench.

    Args:
        work: a directory for its inventory.
    """

    def __init__(self, work: Path) -> None:
        self._work = work
        self.inventory = work / "inventory"
        variables = self.inventory / "group_vars" / "all"
        variables.mkdir(parents=True, exist_ok=True)
        shutil.copytree(LOCAL / "locks", self.inventory / "locks", dirs_exist_ok=True)
        hosts = (SCENARIO / "inventory" / "hosts.yml").read_text("utf-8").replace("mcp-molecule", NAME)
        (self.inventory / "hosts.yml").write_text(hosts, "utf-8")
        fleet = yaml.safe_load((SCENARIO / "inventory" / "group_vars" / "all" / "fleet.yml").read_text("utf-8"))
        fleet["node_fleet"] = str(LOCAL / "group_vars" / "all" / "fleet.yml")
        fleet["node_address"] = fleet["node_address"].replace("mcp-molecule", NAME)
        edge = "{'edge': {'hosts': [node_address]}"
        more = f"{edge}, 'images': {{'parallel': bench_parallel | default(4) | int}}"
        fleet["mcp_fleet"] = fleet["mcp_fleet"].replace(edge, more)
        (variables / "fleet.yml").write_text(yaml.safe_dump(fleet), "utf-8")
        self.servers: list[dict[str, Any]] = yaml.safe_load(
            (LOCAL / "group_vars" / "all" / "servers.yml").read_text("utf-8")
        )["mcp_servers"]
        self.write(self.servers)

    def write(self, servers: list[dict[str, Any]]) -> None:
        """The catalogue that the next playbook finds."""
        path = self.inventory / "group_vars" / "all" / "servers.yml"
        path.write_text(yaml.safe_dump({"mcp_servers": servers}, sort_keys=False), "utf-8")

    def changed(self, names: set[str], value: str) -> list[dict[str, Any]]:
        """The catalogue with one variable more for these servers: their tasks are to be replaced, and nothing else."""
        servers = copy.deepcopy(self.servers)
        for server in servers:
            if server["name"] in names:
                server["env"] = {**server.get("env", {}), "BENCH": value}
        return servers

    def create(self) -> None:
        """Boot it, bare."""
        self.destroy()
        self.play(SCENARIO / "create.yml")

    def destroy(self) -> None:
        """Remove it, with its volumes."""
        self.play(SCENARIO / "destroy.yml")

    @property
    def runs(self) -> bool:
        """Whether there is one."""
        done = subprocess.run(
            ["docker", "inspect", "--format", "{{.State.Running}}", NAME], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() == "true"

    def play(self, playbook: Path | str, *arguments: str) -> Played:
        """Run a playbook; see ``play``."""
        own = {"MOLECULE_NODE": NAME, "MOLECULE_SCENARIO_DIRECTORY": str(self._work)}
        return play(self.inventory, playbook, *arguments, **own)

    def sh(self, command: str, check: bool = True) -> str:
        """What a shell command on it prints.

        Raises:
            BenchError: it failed.
        """
        done = subprocess.run(
            ["docker", "exec", NAME, "bash", "-c", command], capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            raise BenchError(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def program(self, path: Path, *arguments: str) -> Any:
        """What a Python program prints as JSON, run on the node with the collection's module_utils."""
        place = "/root/bench/ansible_collections/sophia_ai/mcp_swarm/plugins"
        self.sh(f"mkdir -p {place}")
        for source, target in ((ROOT / "plugins" / "module_utils", f"{place}/"), (path, "/root/bench/program.py")):
            subprocess.run(["docker", "cp", str(source), f"{NAME}:{target}"], capture_output=True, check=True)
        return json.loads(self.sh(f"PYTHONPATH=/root/bench python3 /root/bench/program.py {' '.join(arguments)}"))

    def tasks(self) -> dict[str, str]:
        """Service to the ids of its tasks that are to run."""
        lines = self.sh(
            "docker service ls --format '{{.Name}}' | while read -r name; do"
            ' echo "$name" $(docker service ps --quiet --filter desired-state=running "$name" | sort); done'
        ).splitlines()
        return {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}


def play(inventory: Path, playbook: Path | str, *arguments: str, **environment: str) -> Played:
    """Run a playbook.

    Raises:
        BenchError: it failed; with the end of its output.
    """
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(inventory)]
    command += [str(ROOT / playbook), *arguments]
    env = os.environ | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CALLBACKS_ENABLED": "ansible.posix.profile_tasks",
        "PROFILE_TASKS_SORT_ORDER": "none",
        "PROFILE_TASKS_TASK_OUTPUT_LIMIT": "all",
        **environment,
    }
    begun = time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        timer = threading.Timer(PLAY_SECONDS, process.kill)
        timer.start()
        lines = [(time.monotonic() - begun, line) for line in process.stdout]
        timer.cancel()
    seconds, output = time.monotonic() - begun, "".join(line for dummy, line in lines)
    if process.returncode != 0:
        raise BenchError(f"{playbook}: it failed\n{output[-4000:]}")
    dummy, dummy_line, recap = output.rpartition("TASKS RECAP")
    tasks = [(m[1].strip(), float(m[2])) for line in recap.splitlines() if (m := TASK.match(line))]
    return Played(lines, seconds, tasks)


def until(what: str, done: Callable[[], bool], seconds: float) -> None:
    """Wait for a condition.

    Raises:
        BenchError: it did not come true.
    """
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)
