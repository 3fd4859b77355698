"""What the servers offer: lists, kept for a while, asked for once at a time, stale rather than missing."""

from __future__ import annotations

import asyncio
import fnmatch
import time
from dataclasses import dataclass

from mcp_gateway.protocol import LISTS, Json, RpcError
from mcp_gateway.upstream import Call, Upstream

FAN_OUT_SECONDS = 5.0
MAX_PAGES = 100
MAX_TTL_SECONDS = 300.0


@dataclass(frozen=True)
class _Entry:
    items: list[Json]
    fresh_until: float


class Catalog:
    """Lists of every server by method.

    Upstreams see the gateway's own credentials only, so their lists do not differ between principals.
    """

    def __init__(self, ttl_seconds: float) -> None:
        self._ttl = ttl_seconds
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._running: dict[tuple[str, str], asyncio.Task[list[Json]]] = {}

    async def items(self, upstream: Upstream, method: str, deadline: float = FAN_OUT_SECONDS) -> list[Json]:
        """The items of a list method of one server, in the server's order.

        Raises:
            RpcError: the server cannot be asked and nothing was known before.
        """
        key = (upstream.server.name, method)
        entry = self._entries.get(key)
        if entry and time.monotonic() < entry.fresh_until:
            return entry.items
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.ensure_future(self._fetch(upstream, method, key))
            task.add_done_callback(lambda done: (self._running.pop(key, None), done.cancelled() or done.exception()))
        try:
            async with asyncio.timeout(deadline):
                return await asyncio.shield(task)
        except (RpcError, TimeoutError) as failure:
            if entry:
                return entry.items
            if isinstance(failure, RpcError):
                raise
            raise RpcError(-31003, f"server {key[0]} did not list its {LISTS[method]} within {deadline:g} s") from None

    async def _fetch(self, upstream: Upstream, method: str, key: tuple[str, str]) -> list[Json]:
        items: list[Json] = []
        params: Json = {}
        ttl = self._ttl
        for _ in range(MAX_PAGES):
            page = await upstream.request(Call(method, params))
            items += page.get(LISTS[method]) or []
            if isinstance(page.get("ttlMs"), int) and page["ttlMs"] > 0:
                ttl = min(page["ttlMs"] / 1000, MAX_TTL_SECONDS)
            if (cursor := page.get("nextCursor")) is None:
                break
            params = {"cursor": cursor}
        self._entries[key] = _Entry(items, time.monotonic() + ttl)
        return items

    def known(self, server: str, method: str) -> list[Json] | None:
        """What was listed last, however old; None if never."""
        entry = self._entries.get((server, method))
        return entry.items if entry else None

    def forget(self, server: str) -> None:
        """Take the server's lists as stale: it said that they changed, or denied something they hold."""
        for key, entry in list(self._entries.items()):
            if key[0] == server:
                self._entries[key] = _Entry(entry.items, 0.0)


def permitted(upstream: Upstream, tool: str) -> bool:
    """Whether policy offers a tool to clients."""
    server = upstream.server
    return any(fnmatch.fnmatchcase(tool, glob) for glob in server.allow) and not any(
        fnmatch.fnmatchcase(tool, glob) for glob in server.deny
    )
