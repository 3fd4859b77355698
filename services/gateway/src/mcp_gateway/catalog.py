"""What the servers offer: lists, kept for a while, asked for once at a time, stale rather than missing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field

import orjson

from mcp_gateway.inbound import find_invalid_x_mcp_header, x_mcp_header_map
from mcp_gateway.pinning import Pins
from mcp_gateway.protocol import INVALID_PARAMS, KEYS, LISTS, MODERN, TIMED_OUT, Json, RpcError
from mcp_gateway.upstream.call import Call
from mcp_gateway.upstream.server import Upstream

FAN_OUT_SECONDS = 5.0
MAX_PAGES = 100
MAX_TTL_SECONDS = 300.0
log = logging.getLogger("mcp_gateway.catalog")
# After a failure a server is not asked again for so long: whoever asks meanwhile has the old list at once.
RETRY_SECONDS = 1.0
LEARN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Listed:
    """A list of a server; ``stale`` when it could not be asked again in time."""

    items: list[Json]
    fresh_until: float = 0.0
    stale: bool = False


@dataclass(slots=True)
class _Entry:
    items: list[Json]
    fresh_until: float
    failed_until: float = 0.0
    listed: list[Json] = field(default_factory=list)  # before they were compared with their pins
    # Input schemas by tool, of those alone that want arguments mirrored in Mcp-Param-* headers.
    mirrored: dict[str, Json] = field(default_factory=dict)
    # Tools that say of themselves that calling them again changes nothing more.
    safe: frozenset[str] = frozenset()
    annotations: dict[str, Json] = field(default_factory=dict)


class Catalog:
    """Lists of every server by method.

    Upstreams see the gateway's own credentials only, so their lists do not differ between principals.

    Args:
        ttl_seconds: how long lists without a ``ttlMs`` are kept.
        pins: what tools must be compared with before they are offered.

    Attributes:
        generation: differs whenever any list may.
    """

    def __init__(self, ttl_seconds: float, pins: Pins) -> None:
        self._ttl = ttl_seconds
        self.pins = pins
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._running: dict[tuple[str, str], asyncio.Task[_Entry]] = {}
        self._changes: Counter[str] = Counter()
        self._learn_at: dict[tuple[str, str], float] = {}
        self.generation = 0

    @property
    def ttl_ms(self) -> int:
        """How long what is known without asking may be kept."""
        return int(self._ttl * 1000)

    def configure(self, ttl_seconds: float) -> None:
        """Keep lists without a ``ttlMs`` so long from now on."""
        self._ttl = ttl_seconds

    async def items(self, upstream: Upstream, method: str, deadline: float) -> Listed:
        """The items of a list method of one server, in the server's order, within ``deadline`` seconds.

        Raises:
            RpcError: the server cannot be asked and nothing was known before.
        """
        key = (upstream.name, method)
        entry = self._entries.get(key)
        now = time.monotonic()
        if entry and now < entry.fresh_until:
            return Listed(entry.items, entry.fresh_until)
        if entry and upstream.asleep:
            return Listed(entry.items, now + self._ttl)
        if entry and now < entry.failed_until:
            return Listed(entry.items, stale=True)
        task = self._asked(upstream, method, key)
        try:
            async with asyncio.timeout(deadline):
                fetched = await asyncio.shield(task)
                return Listed(fetched.items, fetched.fresh_until)
        except (RpcError, TimeoutError) as failure:
            if entry:
                entry.failed_until = time.monotonic() + RETRY_SECONDS
                return Listed(entry.items, stale=True)
            if isinstance(failure, RpcError):
                raise
            raise RpcError(
                TIMED_OUT, f"server {upstream.name} did not list its {LISTS[method]} within {deadline:g} s"
            ) from None

    def learn(self, upstream: Upstream, method: str) -> None:
        """Ask for a list that nobody waits for, and seldom again where there is none."""
        key = (upstream.name, method)
        now = time.monotonic()
        if key not in self._entries and now >= self._learn_at.get(key, 0.0):
            self._learn_at[key] = now + LEARN_SECONDS
            self._asked(upstream, method, key)

    def _asked(self, upstream: Upstream, method: str, key: tuple[str, str]) -> asyncio.Task[_Entry]:
        """The request for a list that is under way, or a new one."""
        task = self._running.get(key)
        if task is None:
            # Its own task: when the first who asks leaves, the others still want it.
            task = self._running[key] = asyncio.ensure_future(self._fetch(upstream, method, key))
            task.add_done_callback(lambda done: (self._running.pop(key, None), done.cancelled() or done.exception()))
        return task

    async def _fetch(self, upstream: Upstream, method: str, key: tuple[str, str]) -> _Entry:
        items: list[Json] = []
        params: Json = {}
        ttl = self._ttl
        walks = 2
        changes = self._changes[upstream.name]
        for _ in range(MAX_PAGES):
            try:
                page = await upstream.request(Call(method, params, safe=True))
            except RpcError as failure:
                if failure.code != INVALID_PARAMS or not params or not walks:
                    raise
                # The list changed under the cursor: begin again (2026-07-28 server/utilities/caching, "Pagination").
                walks -= 1
                items, params = [], {}
                continue
            listed = page.get(LISTS[method])
            items += _named(upstream.name, method, listed)
            told = page.get("ttlMs")
            if isinstance(told, int) and not isinstance(told, bool):
                ttl = min(max(told, 0) / 1000, MAX_TTL_SECONDS)
            if (cursor := page.get("nextCursor")) is None:
                break
            params = {"cursor": cursor}
        if changes != self._changes[upstream.name]:
            ttl = 0.0  # it changed while we read it
        entry = _Entry(items, time.monotonic() + ttl)
        if method == "tools/list":
            if upstream.speaker.era == MODERN:  # the annotation means nothing before
                items = _with_valid_headers(upstream.name, items)
            entry.listed, entry.items = items, self._reviewed(upstream.name, items)
            entry.mirrored = _mirrored(items)
            entry.annotations = {t["name"]: a for t in items if isinstance(a := t.get("annotations"), dict)}
            entry.safe = frozenset(tool["name"] for tool in items if _is_safe(tool))
        before = self._entries.get(key)
        self._entries[key] = entry
        if before and before.items == entry.items:
            entry.items = before.items  # as it was: what was made of it is good
        else:
            self.generation += 1
        return entry

    def _reviewed(self, server: str, tools: list[Json]) -> list[Json]:
        """The tools that are offered; what changed about them is told."""
        review = self.pins.review(server, tools)
        for change in review.news:
            log.warning(
                "a tool's definition is not the pinned one",
                extra={
                    "server": server,
                    "tool": change.tool,
                    "kind": change.kind,
                    "withheld": change.withheld,
                    "difference": change.difference,
                    "accept": change.accept,
                },
            )
        return review.offered

    def review(self, pins: Pins | None = None) -> None:
        """Compare all tools with their pins again, for the pins changed."""
        self.pins = pins or self.pins
        for (server, method), entry in self._entries.items():
            if method == "tools/list" and (offered := self._reviewed(server, entry.listed)) != entry.items:
                entry.items = offered
        self.generation += 1

    def changed_tools(self, server: str) -> list[str]:
        """Tools whose definition is not the pinned one."""
        entry = self._entries.get((server, "tools/list"))
        return [change.tool for change in self.pins.review(server, entry.listed).changes] if entry else []

    def known(self, server: str, method: str) -> list[Json] | None:
        """What was listed last, however old, and the same object while it is the same; None if never."""
        entry = self._entries.get((server, method))
        return entry.items if entry else None

    def knows(self, server: str, method: str) -> bool:
        """Whether the server listed it at all."""
        return (server, method) in self._entries

    def mirrored(self, server: str, tool: str) -> Json | None:
        """The tool's input schema if it wants arguments mirrored in headers."""
        entry = self._entries.get((server, "tools/list"))
        return entry.mirrored.get(tool) if entry else None

    def safe(self, server: str, tool: str) -> bool:
        """Whether the tool says that it may be called again (2026-07-28 server/tools, "Tool annotations")."""
        entry = self._entries.get((server, "tools/list"))
        return entry is not None and tool in entry.safe

    def annotations(self, server: str, tool: str) -> Json | None:
        """What the tool says of itself (2026-07-28 server/tools, "Tool annotations")."""
        entry = self._entries.get((server, "tools/list"))
        return entry.annotations.get(tool) if entry else None

    def forget(self, server: str, method: str | None = None) -> None:
        """Ask for the server's lists, or one of them, anew when they are wanted next."""
        self._changes[server] += 1
        self.generation += 1
        for (name, listed), entry in self._entries.items():
            if name == server and method in (None, listed):
                entry.fresh_until = 0.0

    def drop(self, server: str) -> None:
        """The server is no more."""
        self.forget(server)
        for known in (self._entries, self._learn_at):
            for key in [key for key in known if key[0] == server]:
                del known[key]


def _named(server: str, method: str, listed: object) -> list[Json]:
    """The items that have what they are called by; one that has not must not spoil the list of all servers."""
    items = listed if isinstance(listed, list) else []
    named = [
        item for item in items if isinstance(item, dict) and isinstance(item.get(KEYS[method]), str) and _writable(item)
    ]
    if len(named) < len(items):
        log.warning("items without a name, or nested too deep, left out", extra={"server": server, "list": method})
    return named


def _writable(item: Json) -> bool:
    try:
        orjson.dumps(item)
    except TypeError:
        return False
    return True


def _with_valid_headers(server: str, tools: list[Json]) -> list[Json]:
    """Without tools that nobody could call as they want it (2026-07-28 server/tools, "x-mcp-header")."""
    valid = []
    for tool in tools:
        if wrong := find_invalid_x_mcp_header(tool.get("inputSchema")):
            log.warning("tool left out", extra={"server": server, "tool": tool.get("name"), "error": wrong})
        else:
            valid.append(tool)
    return valid


def _mirrored(tools: list[Json]) -> dict[str, Json]:
    return {
        tool["name"]: schema
        for tool in tools
        if isinstance(tool.get("name"), str)
        and isinstance(schema := tool.get("inputSchema"), dict)
        and x_mcp_header_map(schema)
    }


def _is_safe(tool: Json) -> bool:
    annotations = tool.get("annotations")
    if not isinstance(tool.get("name"), str) or not isinstance(annotations, dict):
        return False
    return annotations.get("readOnlyHint") is True or annotations.get("idempotentHint") is True
