"""Published stdio servers behind the bridge, spoken to by the official client in both eras."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from runtime_harness import Launcher, Running, children

pytestmark = pytest.mark.slow
ERAS = ("modern", "legacy")


def time_spec(program: str) -> dict[str, Any]:
    return {"transport": "stdio", "command": [program, "--local-timezone", "UTC"]}


def call(running: Running, era: str, tool: str, arguments: dict[str, Any], times: int = 1) -> list[str]:
    """The text of ``times`` calls at once, each by a client of its own."""

    async def one() -> str:
        async with running.client(era) as client:
            result = await client.call_tool(tool, arguments)
            assert not result.is_error, result.content
            return str(getattr(result.content[0], "text", ""))

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(one() for _ in range(times)))

    return asyncio.run(all_of_them())


def tools(running: Running, era: str) -> set[str]:
    async def go() -> set[str]:
        async with running.client(era) as client:
            assert client.protocol_version == ("2026-07-28" if era == "modern" else "2025-11-25")
            return {tool.name for tool in (await client.list_tools()).tools}

    return asyncio.run(go())


def test_a_python_server_in_both_eras_by_many_clients_with_one_child(launch: Launcher, time_server: str) -> None:
    running = launch(time_spec(time_server))
    running.ready()
    child = children(running.process.pid)
    for era in ERAS:
        assert tools(running, era) == {"get_current_time", "convert_time"}
        texts = call(running, era, "get_current_time", {"timezone": "Europe/Berlin"}, times=10)
        assert {json.loads(text)["timezone"] for text in texts} == {"Europe/Berlin"}
    assert children(running.process.pid) == child and len(child) == 1


def test_a_node_server_of_the_older_era_in_both(launch: Launcher, memory_server: str, tmp_path: Path) -> None:
    running = launch(
        {"transport": "stdio", "command": [memory_server]}, MEMORY_FILE_PATH=str(tmp_path / "memory.jsonl")
    )
    running.ready()
    entity = {"name": "Ada", "entityType": "person", "observations": ["wrote the first program"]}
    call(running, "modern", "create_entities", {"entities": [entity]})
    assert "wrote the first program" in call(running, "legacy", "read_graph", {})[0]
    assert "read_graph" in tools(running, "modern")


@pytest.mark.parametrize("era", ERAS)
def test_after_the_child_was_killed_the_next_call_works(launch: Launcher, time_server: str, era: str) -> None:
    running = launch(time_spec(time_server))
    running.ready()
    call(running, era, "get_current_time", {"timezone": "UTC"})
    (child,) = children(running.process.pid)
    os.kill(child, signal.SIGKILL)
    assert "UTC" in call(running, era, "get_current_time", {"timezone": "UTC"})[0]
    assert children(running.process.pid) not in ([], [child])


def test_the_cheap_probe_starts_a_killed_child_again(launch: Launcher, time_server: str) -> None:
    running = launch(time_spec(time_server))
    running.ready()
    (child,) = children(running.process.pid)
    os.kill(child, signal.SIGKILL)
    time.sleep(2.5)  # longer than an answer is kept
    probe = running.health()
    assert probe.returncode == 0, probe.stdout
    assert children(running.process.pid) not in ([], [child])


def test_a_child_that_died_and_cannot_start_again_turns_unhealthy(
    launch: Launcher, time_server: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    script = f'[ -e {gate} ] || {{ echo "the licence expired" >&2; exit 1; }}; exec {time_server}'
    running = launch({"transport": "stdio", "command": ["sh", "-c", script]})
    running.ready()
    gate.unlink()
    for child in children(running.process.pid):
        os.kill(child, signal.SIGKILL)
    time.sleep(2.5)
    probe = running.health()
    assert probe.returncode == 1 and "the licence expired" in probe.stdout
    gate.touch()
    running.ready()


def test_a_server_that_only_ever_ends_ends_the_container_with_its_own_words(launch: Launcher) -> None:
    code = 'import sys; sys.exit("API_TOKEN is not set")'
    running = launch({"transport": "stdio", "command": [sys.executable, "-c", code]})
    assert running.process.wait(30) == 1
    last = running.log.read_text().splitlines()[-1]
    assert last.startswith("mcp-runtime: the stdio server")
    assert "it ended, its last words: API_TOKEN is not set" in last


def test_a_secret_reaches_the_child_and_not_the_bridge(launch: Launcher, time_server: str) -> None:
    path = launch.secret("token", "s3cret-value")
    running = launch(time_spec(time_server), TOKEN_FILE=path)
    running.ready()
    (child,) = children(running.process.pid)
    assert b"TOKEN=s3cret-value" in Path(f"/proc/{child}/environ").read_bytes()
    mine = Path(f"/proc/{running.process.pid}/environ").read_bytes()
    assert f"TOKEN_FILE={path}".encode() in mine and b"s3cret-value" not in mine
    assert "s3cret-value" not in running.log.read_text()


def test_sigterm_ends_the_bridge_and_its_child(launch: Launcher, time_server: str) -> None:
    running = launch(time_spec(time_server))
    running.ready()
    before = children(running.process.pid)
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(10) == 0
    end = time.monotonic() + 3
    while (left := [pid for pid in before if Path(f"/proc/{pid}").exists()]) and time.monotonic() < end:
        time.sleep(0.1)
    assert before and not left
