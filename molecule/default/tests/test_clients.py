# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients: the official SDK, from outside the node, over TLS. tests/e2e asks the same fleet with more clients."""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

INVENTORY = Path(__file__).resolve().parents[1] / "inventory"
CATALOGUE = yaml.safe_load((INVENTORY / "group_vars" / "all" / "servers.yml").read_text("utf-8"))["mcp_servers"]
TIMEOUT_SECONDS = 60.0

Call = Callable[[str, str, dict[str, Any]], Coroutine[Any, Any, str]]


def _http(key: str | None) -> httpx2.AsyncClient:
    trusted = ssl.create_default_context(cafile=str(INVENTORY / ".state" / "edge-ca.crt"))
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.AsyncClient(verify=trusted, headers=headers, timeout=TIMEOUT_SECONDS)


@asynccontextmanager
async def _client(url: str, key: str) -> AsyncIterator[Client]:
    async with _http(key) as http, Client(streamable_http_client(url, http_client=http)) as client:
        yield client


async def _call(url: str, key: str, tool: str, arguments: dict[str, Any]) -> str:
    async with _client(url, key) as client:
        result = await client.call_tool(tool, arguments)
    text = "".join(getattr(part, "text", "") for part in result.content)
    assert not result.is_error, text
    return text


@pytest.fixture(scope="session")
def base(plan: dict[str, Any]) -> str:
    return str(plan["edge"]["url"])


@pytest.mark.parametrize("server", CATALOGUE, ids=lambda server: server["name"])
def test_a_call_to_each_server(server: dict[str, Any], base: str, key: str) -> None:
    check = server["check"]
    answer = asyncio.run(_call(f"{base}/servers/{server['name']}/mcp", key, check["tool"], check["arguments"]))
    assert check["expect"] in answer


def test_what_one_client_writes_another_reads(base: str, key: str) -> None:
    url, fact = f"{base}/mcp", f"written by {uuid.uuid4().hex}"
    entity = {"name": "molecule", "entityType": "test", "observations": [fact]}

    async def write_and_read() -> str:
        await _call(url, key, "memory__create_entities", {"entities": [entity]})
        seen = await _call(url, key, "memory__read_graph", {})
        await _call(url, key, "memory__delete_entities", {"entityNames": ["molecule"]})
        return seen

    assert fact in asyncio.run(write_and_read())


def test_the_edge_shows_a_certificate_of_its_own_authority_alone(base: str) -> None:
    """A client that trusts only the public authorities refuses it."""

    async def ask() -> None:
        async with httpx2.AsyncClient(timeout=TIMEOUT_SECONDS) as http:
            await http.get(f"{base}/healthz")

    with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        asyncio.run(ask())


def test_the_gateway_sees_every_replica(base: str, key: str) -> None:
    async def ask() -> dict[str, Any]:
        async with _http(key) as http:
            answer = await http.get(f"{base}/status")
        answer.raise_for_status()
        return {entry["name"]: entry for entry in answer.json()["servers"]}

    seen = asyncio.run(ask())
    for server in CATALOGUE:
        healthy = [replica for replica in seen[server["name"]]["replicas"] if replica["healthy"]]
        assert len(healthy) == server.get("replicas", 1), server["name"]
