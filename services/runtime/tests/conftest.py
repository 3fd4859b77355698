"""Real published servers, installed once below .cache/, and a launcher that ends what it started."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from runtime_harness import Launcher

CACHE = Path(__file__).resolve().parents[3] / ".cache" / "servers"
TIME_PACKAGE = "mcp-server-time==2026.10.19"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: starts real servers (seconds each)")


@pytest.fixture(scope="session")
def time_server() -> str:
    """The published ``mcp-server-time``, installed once."""
    program = CACHE / "time" / "bin" / "mcp-server-time"
    if not program.exists():
        subprocess.run(["uv", "venv", "-q", "--clear", CACHE / "time", "--python", sys.executable], check=True)
        subprocess.run(
            ["uv", "pip", "install", "-q", "--python", CACHE / "time" / "bin" / "python", TIME_PACKAGE],
            check=True,
        )
    return str(program)


def npm_server(name: str, package: str, program: str) -> str:
    path = CACHE / name / "node_modules" / ".bin" / program
    if not path.exists():
        (CACHE / name).mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", package], cwd=CACHE / name, check=True)
    return str(path)


@pytest.fixture(scope="session")
def memory_server() -> str:
    """The published Node.js server ``server-memory``: stdio, the older era."""
    return npm_server("memory", "@modelcontextprotocol/server-memory@2026.8.31", "mcp-server-memory")


@pytest.fixture(scope="session")
def everything_server() -> str:
    """The published Node.js server ``server-everything``: speaks HTTP with sessions, the older era."""
    return npm_server("everything", "@modelcontextprotocol/server-everything@2026.8.31", "mcp-server-everything")


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launcher]:
    launcher = Launcher(tmp_path)
    yield launcher
    for running in launcher.started:
        if running.process.poll() is None:
            # Its own session: the whole group goes, whatever state a failed test left it in.
            os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait(10)
