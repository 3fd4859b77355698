# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The official clients through the edge: list every tool, call one, and get nothing without a key."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import httpx2
import pytest
from conftest import ROOT, Fleet
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

SERVERS = 12
TOOL, ARGUMENTS = "time__get_current_time", {"timezone": "UTC"}


def python_client(fleet: Fleet, mode: str, path: str = "/mcp"):
    tls = ssl.create_default_context(cafile=str(fleet.ca_file))
    http = httpx2.AsyncClient(verify=tls, headers={"Authorization": f"Bearer {fleet.key}"}, timeout=30)
    return Client(streamable_http_client(fleet.base + path, http_client=http), mode=mode)


@pytest.fixture(scope="session")
def tools(fleet: Fleet) -> list[str]:
    """Every server's tools, asked one by one at their own endpoints."""

    async def ask() -> list[str]:
        tls = ssl.create_default_context(cafile=str(fleet.ca_file))
        async with httpx2.AsyncClient(verify=tls, headers={"Authorization": f"Bearer {fleet.key}"}) as http:
            names = [entry["name"] for entry in (await http.get(f"{fleet.base}/status")).json()["servers"]]
        assert len(names) == SERVERS
        found = []
        for name in names:
            async with python_client(fleet, "auto", f"/servers/{name}/mcp") as client:
                found += [f"{name}__{tool.name}" for tool in (await client.list_tools()).tools]
        return sorted(found)

    return asyncio.run(ask())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_python_client_lists_everything_and_calls(fleet: Fleet, tools: list[str], mode: str) -> None:
    async def ask() -> None:
        async with python_client(fleet, mode) as client:
            assert client.protocol_version == ("2026-07-28" if mode == "auto" else "2025-11-25")
            assert sorted(tool.name for tool in (await client.list_tools()).tools) == tools
            result = await client.call_tool(TOOL, ARGUMENTS)
            assert not result.is_error
            assert "UTC" in result.content[0].text

    asyncio.run(ask())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_progress_arrives_while_the_call_runs(fleet: Fleet, mode: str) -> None:
    """Neither the edge nor the gateway holds a stream back."""

    async def ask() -> list[float]:
        seen: list[float] = []
        loop = asyncio.get_running_loop()

        async def progress(value: float, total: float | None, message: str | None) -> None:
            seen.append(loop.time())

        async with python_client(fleet, mode, "/servers/everything/mcp") as client:
            arguments = {"duration": 3, "steps": 3}
            await client.call_tool("trigger-long-running-operation", arguments, progress_callback=progress)
            return [loop.time() - moment for moment in seen]

    before_the_end = asyncio.run(ask())
    assert len(before_the_end) == 3
    assert before_the_end[0] > 1.5


def test_reload_of_the_edge_cuts_no_stream(fleet: Fleet) -> None:
    """A configuration reload under an open stream: the call goes on, new connections are served."""
    host = os.environ.get("MCP_FLEET_NODE")  # the container that is the node, where the fleet is not on this machine
    inside = ["docker", "exec", host] if host else []
    containers = [*inside, "docker", "ps", "--quiet", "--filter", "name=_edge\\."]
    edge = subprocess.run(containers, capture_output=True, text=True, check=True).stdout.split()[0]
    command = ["caddy", "reload", "--force", "--config", "/run/edge/current/caddy.json", "--address", "unix//run/edge/admin.sock"]

    async def ask() -> int:
        seen = 0
        reloaded = False

        async def progress(value: float, total: float | None, message: str | None) -> None:
            nonlocal seen, reloaded
            seen += 1
            if not reloaded:
                reloaded = True
                done = await asyncio.create_subprocess_exec(*inside, "docker", "exec", edge, *command)
                assert await done.wait() == 0

        async with python_client(fleet, "auto", "/servers/everything/mcp") as client:
            arguments = {"duration": 15, "steps": 15}
            result = await client.call_tool("trigger-long-running-operation", arguments, progress_callback=progress)
            assert not result.is_error
        async with python_client(fleet, "auto") as client:
            assert (await client.call_tool(TOOL, ARGUMENTS)).content
        return seen

    assert asyncio.run(ask()) == 15


def node(directory: Path, fleet: Fleet, *arguments: str) -> subprocess.CompletedProcess[str]:
    binaries = directory / "node_modules" / ".bin"
    path = f"{binaries}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "NODE_EXTRA_CA_CERTS": str(fleet.ca_file)}
    return subprocess.run(arguments, cwd=directory, env=env, capture_output=True, text=True, timeout=90, check=False)


def inspector(directory: Path, fleet: Fleet, *arguments: str, key: str = "") -> subprocess.CompletedProcess[str]:
    header = ["--header", f"Authorization: Bearer {key}"] if key else []
    return node(directory, fleet, "mcp-inspector", "--cli", fleet.url, "--transport", "http", *arguments, *header)


def test_inspector_lists_everything_and_calls(fleet: Fleet, tools: list[str], node_tools: Path) -> None:
    listed = inspector(node_tools, fleet, "--method", "tools/list", key=fleet.key)
    assert listed.returncode == 0, listed.stderr
    assert sorted(tool["name"] for tool in json.loads(listed.stdout)["tools"]) == tools
    call = ["--method", "tools/call", "--tool-name", TOOL, "--tool-arg", "timezone=UTC"]
    called = inspector(node_tools, fleet, *call, key=fleet.key)
    assert called.returncode == 0, called.stderr
    assert "UTC" in json.loads(called.stdout)["content"][0]["text"]


def test_inspector_without_the_key(fleet: Fleet, node_tools: Path) -> None:
    refused = inspector(node_tools, fleet, "--method", "tools/list", "--stored-auth-only")
    assert refused.returncode != 0
    assert json.loads(refused.stderr)["error"]["code"] == "auth_required"  # its word for 401
    assert "get_current_time" not in refused.stdout


def test_typescript_client_lists_everything_and_calls(fleet: Fleet, tools: list[str], node_tools: Path) -> None:
    script = (ROOT / "tests" / "e2e" / "client.mjs").read_text()
    program = node_tools / "client.mjs"  # beside node_modules, where imports are resolved
    program.write_text(script)
    done = node(node_tools, fleet, "node", str(program), fleet.url, fleet.key, TOOL, json.dumps(ARGUMENTS))
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert sorted(answer["tools"]) == tools
    assert "UTC" in answer["text"]


@pytest.mark.parametrize("key", ["", "wrong"])
@pytest.mark.parametrize("path", ["/mcp", "/servers/time/mcp", "/status"])
def test_nothing_without_the_key(fleet: Fleet, path: str, key: str) -> None:
    request = urllib.request.Request(fleet.base + path, data=None if path == "/status" else b"{}")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, context=ssl.create_default_context(cafile=str(fleet.ca_file)), timeout=10)
    assert refusal.value.code == 401
    assert "Bearer" in refusal.value.headers.get("WWW-Authenticate", "")


@pytest.mark.parametrize("path", ["/metrics", "/secret"])
def test_the_edge_hides_the_rest(fleet: Fleet, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        tls = ssl.create_default_context(cafile=str(fleet.ca_file))
        urllib.request.urlopen(fleet.base + path, context=tls, timeout=10)
    assert refusal.value.code == 404
