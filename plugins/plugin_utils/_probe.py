# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a running fleet the way a client does: the official SDK, through the edge, over TLS, with the key."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._services import GPU
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._verdict import Seen

try:
    import httpx2
    from mcp.client import Client
    from mcp.client.streamable_http import streamable_http_client

    MISSING = ""
except ImportError as error:  # the controller's environment is not ours to assume
    MISSING = f"verification needs the Python package mcp >= 2.3 on the controller ({error}); run: make bootstrap"

SIDE_BY_SIDE = 4
SAMPLES = 5
ATTEMPT_SECONDS = 30.0
RETRY_SECONDS = 1.0
CONNECT_SECONDS = 3.0


class Probe:
    """One fleet, asked as a client.

    Args:
        plan: the fleet plan.
        key: API key of the gateway.
        wait_seconds: how long a server that does not answer is asked again.
        headers: sent with every request that carries the key.
    """

    def __init__(
        self, plan: dict[str, Any], key: str, wait_seconds: float, headers: Mapping[str, str] | None = None
    ) -> None:
        self._plan = plan
        # A server scaled to nothing is meant to be away.
        self._servers = [server for server in plan["servers"] if server["replicas"] or server["url"]]
        self._base = plan["edge"]["url"]
        self._edges = list(dict.fromkeys([self._base, *plan["edge"].get("urls", [])]))
        self._headers = {"Authorization": f"Bearer {key}", **(headers or {})}
        self._deadline = time.monotonic() + wait_seconds
        ca_file = plan["client"]["ca_file"]
        self._tls = ssl.create_default_context(cafile=ca_file or None)

    async def run(self) -> tuple[list[Seen], list[str]]:
        """What each server showed, and what is wrong with the fleet as a whole."""
        gate = asyncio.Semaphore(SIDE_BY_SIDE)
        problems = await self._locked()
        if problems:
            return [self._unseen(server) for server in self._servers], problems
        seen = list(await asyncio.gather(*(self._server(server, gate) for server in self._servers)))
        try:
            await self._merged(seen)
            await self._status(seen)
        except Exception as failure:
            problems.append(f"{self._base}: {cause(failure)}")
        return seen, problems

    def _unseen(self, server: dict[str, Any]) -> Seen:
        seen = Seen(server["name"], server["kind"], _desired(server), server["latency_target_ms"], error="not asked")
        seen.gpu_desired = int((server.get("gpu_pool") or {}).get("replicas", 0))  # releases of before have none
        return seen

    @asynccontextmanager
    async def _http(self, headers: dict[str, str] | None = None) -> AsyncIterator[httpx2.AsyncClient]:
        timeout = httpx2.Timeout(ATTEMPT_SECONDS)
        async with httpx2.AsyncClient(verify=self._tls, headers=headers, timeout=timeout) as http:
            yield http

    @asynccontextmanager
    async def _client(self, path: str) -> AsyncIterator[Client]:
        async with (
            self._http(self._headers) as http,
            Client(streamable_http_client(self._base + path, http_client=http)) as client,
        ):
            yield client

    async def _locked(self) -> list[str]:
        """Without a key nothing may be reached; with it the gateway answers."""
        try:
            async with self._http() as http:

                async def ask() -> httpx2.Response:
                    self._base = await self._answering()
                    return await http.post(f"{self._base}/mcp", json={})

                answer = await self._patiently(ask)
        except Exception as failure:
            edge = f"{self._plan['fleet']}_edge"
            return [f"{self._base} does not answer: {cause(failure)}; look at: docker service ps {edge}"]
        if answer.status_code != 401:
            return [f"{self._base}/mcp answered {answer.status_code} to a request without a key; it must be 401"]
        return []

    async def _answering(self) -> str:
        """The first edge that takes connections: a node may be lost, and clients go on at the next."""
        for url in self._edges:
            parts = urlsplit(url)
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    dummy, writer = await asyncio.open_connection(parts.hostname, parts.port or 443)
            except OSError:
                continue
            writer.close()
            return url
        return self._edges[0]

    async def _patiently(self, ask: Any) -> Any:
        """Ask until it works, or until the time to wait is over."""
        while True:
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    answer = await ask()
                if getattr(answer, "status_code", 0) < 500:
                    return answer
                failure: Exception = ConnectionError(f"HTTP {answer.status_code}")
            except Exception as error:
                failure = error
            if time.monotonic() + RETRY_SECONDS > self._deadline:
                raise failure
            await asyncio.sleep(RETRY_SECONDS)

    async def _server(self, server: dict[str, Any], gate: asyncio.Semaphore) -> Seen:
        seen = self._unseen(server)

        async def ask() -> Any:
            async with gate:
                seen.milliseconds.clear()
                await self._ask(server, seen)

        try:
            await self._patiently(ask)
            seen.error = ""
        except Exception as failure:
            seen.error = cause(failure)
        return seen

    def _path(self, server: dict[str, Any]) -> str:
        """Where a server is asked."""
        return f"/servers/{server['name']}/mcp"

    async def _ask(self, server: dict[str, Any], seen: Seen) -> None:
        check = server["check"]
        async with self._client(self._path(server)) as client:
            seen.tools = await _all_tools(client)
            if check:
                seen.call, seen.expected = check["tool"], check["expect"]
            for dummy in range(SAMPLES):
                start = time.perf_counter()
                if check:
                    result = await client.call_tool(check["tool"], check["arguments"])
                    seen.result = "".join(getattr(part, "text", "") for part in result.content)
                    if result.is_error:
                        raise RuntimeError(f"{check['tool']} failed: {seen.result[:200]}")
                else:
                    await client.list_tools()
                seen.milliseconds.append((time.perf_counter() - start) * 1000)

    async def _merged(self, servers: list[Seen]) -> None:
        """Every server's tools are also listed at the merged endpoint, prefixed by its name."""
        async with self._client("/mcp") as client:
            names = await _all_tools(client)
        for seen in servers:
            seen.merged = sum(name.startswith(f"{seen.name}__") for name in names)

    async def _servers_known(self, http: httpx2.AsyncClient) -> dict[str, dict[str, Any]]:
        """The servers as the gateway's /status has them, by name."""
        answer = await http.get(f"{self._base}/status")
        answer.raise_for_status()
        return {entry["name"]: entry for entry in answer.json()["servers"]}

    async def _status(self, servers: list[Seen]) -> None:
        """Replicas and eras, as the gateway sees them."""
        async with self._http(self._headers) as http:
            known = await self._servers_known(http)
        for seen in servers:
            entry = known.get(seen.name, {})
            well = [replica.get("pool") for replica in entry.get("replicas", ()) if replica["healthy"]]
            seen.gpu_healthy = well.count(GPU) if seen.gpu_desired else 0
            seen.healthy = len(well) - seen.gpu_healthy
            seen.era = entry.get("era") or ""


class TrialProbe(Probe):
    """Replicas on trial, which only their own endpoint at the gateway leads to."""

    def _path(self, server: dict[str, Any]) -> str:
        return f"/servers/{server['name']}/canary/mcp"

    async def run(self) -> tuple[list[Seen], list[str]]:
        """What each of them showed."""
        self._base = await self._answering()
        gate = asyncio.Semaphore(SIDE_BY_SIDE)
        found = list(await asyncio.gather(*(self._server(server, gate) for server in self._servers)))
        for seen in found:  # where clients look they are not to be found
            seen.merged, seen.healthy, seen.gpu_healthy = len(seen.tools), seen.desired, seen.gpu_desired
        return found, []

    async def shares(self) -> dict[str, Any]:
        """What the gateway's replicas saw of canaries and of the old replicas beside them, by server."""
        async with self._http(self._headers) as http:

            async def ask() -> dict[str, dict[str, Any]]:
                self._base = await self._answering()
                return await self._servers_known(http)

            known = await self._patiently(ask)
        return {name: (entry.get("canary") or {}).get("seen") for name, entry in known.items()}


def _desired(server: dict[str, Any]) -> int:
    if "urls" in server["upstream"]:
        return len(server["upstream"]["urls"])
    # A scaled server has what it needs by now; the call that proves it wakes one that slept.
    scale = server.get("scale")  # which releases of before do not know
    return max(1, scale["min"]) if scale else int(server["replicas"])


async def _all_tools(client: Client) -> list[str]:
    names: list[str] = []
    cursor = None
    while True:
        page = await client.list_tools(cursor=cursor)
        names += [tool.name for tool in page.tools]
        cursor = page.next_cursor
        if not cursor:
            return names


def cause(failure: BaseException) -> str:
    """The innermost reason; task groups of the SDK wrap it."""
    while hasattr(failure, "exceptions"):
        failure = failure.exceptions[0]
    text = str(failure) or type(failure).__name__
    if isinstance(failure, TimeoutError):
        text = f"no answer within {ATTEMPT_SECONDS:.0f} s"
    return " ".join(text.split())
