"""The readiness probe against servers of both eras, and what it costs."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pytest
from runtime_harness import Launcher, Running

pytestmark = pytest.mark.slow

# A third was measured: an interpreter's start and one connection, against an HTTP client and JSON.
CHEAP_SHARE_OF_FULL = 0.7

ONE_TOOL = """
from mcp.server.mcpserver import MCPServer
app = MCPServer("one")

@app.tool()
def ping() -> str:
    return "pong"
"""


def state(running: Running) -> str:
    return Path(running.env["MCP_HEALTH_STATE"]).read_text()


def test_a_server_of_the_older_era_is_ready_and_its_session_is_ended(launch: Launcher, everything_server: str) -> None:
    running = launch({"transport": "http", "command": [everything_server, "streamableHttp"]})
    running.ready()
    assert state(running) == f"http {running.port} legacy"
    end = time.monotonic() + 5
    while "session termination" not in running.log.read_text() and time.monotonic() < end:
        time.sleep(0.1)
    assert running.log.read_text().count("session termination") == 1, running.log.read_text()


def test_a_server_of_the_newer_era_is_asked_in_it(launch: Launcher) -> None:
    launch.application(one=ONE_TOOL)
    running = launch({"transport": "python", "module": "one:app"})
    running.ready()
    assert state(running) == f"python {running.port} modern"


def test_a_server_without_tools_is_not_ready(launch: Launcher) -> None:
    launch.application(none='from mcp.server.mcpserver import MCPServer\napp = MCPServer("none")\n')
    running = launch({"transport": "python", "module": "none:app"})
    end = time.monotonic() + 20
    while "refused" in (probe := running.health()).stdout and time.monotonic() < end:
        time.sleep(0.3)
    assert (probe.returncode, probe.stdout) == (1, "not ready: the server lists no tools\n")


def test_a_server_that_went_away_is_unhealthy_at_the_next_probe(launch: Launcher) -> None:
    launch.application(one=ONE_TOOL)
    running = launch({"transport": "python", "module": "one:app"})
    running.ready()
    running.process.send_signal(signal.SIGTERM)
    running.process.wait(10)
    probe = running.health()
    assert probe.returncode == 1 and f"port {running.port}" in probe.stdout
    # And the next one must prove everything again.
    assert not Path(running.env["MCP_HEALTH_STATE"]).exists()


def test_after_a_minute_the_probe_is_full_again(launch: Launcher) -> None:
    launch.application(one=ONE_TOOL)
    running = launch({"transport": "python", "module": "one:app"})
    running.ready()
    old = time.time() - 61
    os.utime(running.env["MCP_HEALTH_STATE"], (old, old))
    assert running.health().returncode == 0
    assert Path(running.env["MCP_HEALTH_STATE"]).stat().st_mtime > old + 60


def test_without_a_place_to_remember_a_ready_server_is_ready(launch: Launcher) -> None:
    launch.application(one=ONE_TOOL)
    running = launch({"transport": "python", "module": "one:app"}, MCP_HEALTH_STATE="/nonexistent/state")
    running.ready()


def test_without_a_description_the_reason_is_one_line(launch: Launcher) -> None:
    running = launch({"transport": "sse"})
    running.process.wait(20)
    probe = running.health()
    assert probe.returncode == 1 and "transport is 'sse'; use one of" in probe.stdout
    assert probe.stdout.count("\n") == 1 and not probe.stderr


def probe_seconds(running: Running, times: int, full: bool) -> float:
    """CPU time of a probe, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(times):
        if full:
            running.forget_health()
        assert running.health().returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / times


def test_the_cheap_probe_is_cheap(launch: Launcher) -> None:
    launch.application(one=ONE_TOOL)
    running = launch({"transport": "python", "module": "one:app"})
    running.ready()
    full = probe_seconds(running, 5, full=True)
    assert probe_seconds(running, 5, full=False) < CHEAP_SHARE_OF_FULL * full
