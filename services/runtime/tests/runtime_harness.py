"""``mcp-runtime`` run as a container would run it, without a container."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp.client import Client

PROGRAM = str(Path(sys.executable).parent / "mcp-runtime")
START_SECONDS = 30.0
MODES = {"modern": "2026-07-28", "legacy": "legacy"}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def children(pid: int) -> list[int]:
    """Living children of a process, those of its children included."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if int(ppid) == pid and state not in "ZX":
            found += [int(entry.name), *children(int(entry.name))]
    return found


@dataclass
class Running:
    """A started ``mcp-runtime run``."""

    process: subprocess.Popen[bytes]
    port: int
    env: dict[str, str]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/mcp"

    def health(self) -> subprocess.CompletedProcess[str]:
        command = [PROGRAM, "health"]
        return subprocess.run(command, check=False, env=self.env, capture_output=True, text=True, timeout=20)

    def ready(self) -> None:
        """Wait until the probe passes."""
        end = time.monotonic() + START_SECONDS
        while (last := self.health()).returncode != 0:
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.log.read_text()}"
            assert time.monotonic() < end, f"{last.stdout} {last.stderr} {self.log.read_text()}"
            time.sleep(0.3)

    def forget_health(self) -> None:
        """Make the next probe a full one, as a minute's wait would."""
        Path(self.env["MCP_HEALTH_STATE"]).unlink(missing_ok=True)

    def client(self, era: str) -> Client:
        return Client(self.url, mode=MODES[era])


class Launcher:
    """Starts servers for one test and ends them after it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Running] = []

    def __call__(self, description: dict[str, Any], **env: str) -> Running:
        """Start it on a free port; ``{port}`` in the command is replaced by that."""
        port = free_port()
        number = len(self.started)
        spec = self.directory / f"server{number}.json"
        text = json.dumps({"name": "test", "port": port, **description}).replace("{port}", str(port))
        spec.write_text(text)
        environment = {
            **os.environ,
            "PORT": str(port),
            "MCP_SERVER_FILE": str(spec),
            "MCP_HEALTH_STATE": str(self.directory / f"health{number}"),
            "MCP_SECRETS_DIR": str(self.directory / "secrets"),
            "MCP_SERVER_DIR": str(self.directory / "server"),
            **env,
        }
        log = self.directory / f"log{number}"
        with log.open("wb") as handle:
            process = subprocess.Popen(
                [PROGRAM, "run"],
                env=environment,
                stdout=handle,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = Running(process, port, environment, log)
        self.started.append(running)
        return running

    def application(self, **modules: str) -> None:
        """Lay an application tree where the image has it, on this environment's own interpreter."""
        root = self.directory / "server"
        (root / "venv" / "bin").mkdir(parents=True)
        # Not a link: the interpreter would find its libraries by the link's place.
        python = root / "venv" / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        (root / "app").mkdir()
        for name, text in modules.items():
            (root / "app" / f"{name}.py").write_text(text)

    def secret(self, name: str, value: str) -> str:
        """Write a secret as Swarm mounts it; returns its path."""
        path = self.directory / "secrets" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(value + "\n")
        return str(path)
