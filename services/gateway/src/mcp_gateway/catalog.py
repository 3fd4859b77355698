"""What the servers offer: lists, kept for a while, asked for once at a time, stale rather than missing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from mcp.shared.inbound import find_invalid_x_mcp_header, x_mcp_header_map

from mcp_gateway.protocol import LISTS, TIMED_OUT, Json, RpcError
from mcp_gateway.upstream import Call, Upstream

FAN_OUT_SECONDS = 5.0
MAX_PAGES = 100
MAX_TTL_SECONDS = 300.0


@dataclass(frozen=True)
class Listed:
    """A list of a server; ``stale`` when it could not be asked again in time."""

    items: list[Json]
    stale: bool = False


@dataclass
class _Entry:
    items: list[Json]
    fresh_until: float
    # Input schemas by tool, of those alone that want arguments mirrored in Mcp-Param-* headers.
    mirrored: dict[str, Json] = field(default_factory=dict)


class Catalog:
    """Lists of every server by method.

    Upstreams see the gateway's own credentials only, so their lists do not differ between principals.
    """

    def __init__(self, ttl_seconds: float) -> None:
        self._ttl = ttl_seconds
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._running: dict[tuple[str, str], asyncio.Task[list[Json]]] = {}
        self._changes: Counter[str] = Counter()

    async def items(self, upstream: Upstream, method: str, deadline: float) -> Listed:
        """The items of a list method of one server, in the server's order, within ``deadline`` seconds.

        Raises:
            RpcError: the server cannot be asked and nothing was known before.
        """
        key = (upstream.name, method)
        entry = self._entries.get(key)
        if entry and time.monotonic() < entry.fresh_until:
            return Listed(entry.items)
        task = self._running.get(key)
        if task is None:
            # Its own task: when the first who asks leaves, the others still want it.
            task = self._running[key] = asyncio.ensure_future(self._fetch(upstream, method, key))
            task.add_done_callback(lambda done: (self._running.pop(key, None), done.cancelled() or done.exception()))
        try:
            async with asyncio.timeout(deadline):
                return Listed(await asyncio.shield(task))
        except (RpcError, TimeoutError) as failure:
            if entry:
                return Listed(entry.items, stale=True)
            if isinstance(failure, RpcError):
                raise
            raise RpcError(
                TIMED_OUT, f"server {upstream.name} did not list its {LISTS[method]} within {deadline:g} s"
            ) from None

    async def _fetch(self, upstream: Upstream, method: str, key: tuple[str, str]) -> list[Json]:
        items: list[Json] = []
        params: Json = {}
        ttl = self._ttl
        changes = self._changes[upstream.name]
        for _ in range(MAX_PAGES):
            page = await upstream.request(Call(method, params))
            listed = page.get(LISTS[method])
            items += [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
            if isinstance(page.get("ttlMs"), int) and page["ttlMs"] > 0:
                ttl = min(page["ttlMs"] / 1000, MAX_TTL_SECONDS)
            if (cursor := page.get("nextCursor")) is None:
                break
            params = {"cursor": cursor}
        if changes != self._changes[upstream.name]:
            ttl = 0.0  # it changed while we read it
        self._entries[key] = _Entry(items, time.monotonic() + ttl, _mirrored(items) if method == "tools/list" else {})
        return items

    def known(self, server: str, method: str) -> list[Json] | None:
        """What was listed last, however old; None if never."""
        entry = self._entries.get((server, method))
        return entry.items if entry else None

    def knows(self, server: str, method: str) -> bool:
        """Whether the server listed it at all."""
        return (server, method) in self._entries

    def mirrored(self, server: str, tool: str) -> Json | None:
        """The tool's input schema if it wants arguments mirrored in headers."""
        entry = self._entries.get((server, "tools/list"))
        return entry.mirrored.get(tool) if entry else None

    def forget(self, server: str) -> None:
        """Take the server's lists as stale: it said that they changed."""
        self._changes[server] += 1
        for key, entry in self._entries.items():
            if key[0] == server:
                entry.fresh_until = 0.0


def _mirrored(tools: list[Json]) -> dict[str, Json]:
    schemas = {tool.get("name", ""): tool.get("inputSchema") for tool in tools}
    return {
        name: schema
        for name, schema in schemas.items()
        if isinstance(schema, dict) and find_invalid_x_mcp_header(schema) is None and x_mcp_header_map(schema)
    }
