"""A cache for what servers answered: ``resources/read``, and tools that the configuration marks as cacheable.

The rule book is 2026-07-28 server/utilities/caching; quotations in comments are from there. Answers are kept encoded:
their size is known, and whoever takes one may change it. A server without ``cache`` costs one look into a dictionary.
"""

from __future__ import annotations

import asyncio
import fnmatch
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import orjson

from mcp_gateway.protocol import BUSY, STALE_META_KEY, TIMED_OUT, UNAVAILABLE, Json, RpcError
from mcp_gateway.reader import Reader
from mcp_gateway.shelf import Kept, Shelf

READ, CALL = "resources/read", "tools/call"
# How long an answer that could not be kept is taken as a sign that the next cannot either.
PASS_SECONDS = 10.0
# So often a request joins others; while changes are told all the time it must have an answer, too.
MAX_JOINS = 2
_KNOWN_TOOLS = 4096
# Of the request, what does not affect the result, or is for this request alone.
_PASSING_META = frozenset(
    {
        "progressToken",
        "traceparent",
        "tracestate",
        "baggage",
        "io.modelcontextprotocol/protocolVersion",
        "io.modelcontextprotocol/clientInfo",
        "io.modelcontextprotocol/logLevel",
    }
)
# "... as they depend on inputs that are not part of the cache key"; and a task is not its result.
_UNCACHEABLE_PARAMS = ("inputResponses", "requestState", "task")
# What says of the server's state and not of the resource: "network issues, server downtime".
_OUTAGES = frozenset({UNAVAILABLE, BUSY, TIMED_OUT})


@dataclass(frozen=True)
class CacheSettings:
    """What of a server's answers is kept.

    Attributes:
        resources: whether ``resources/read`` is, for as long as the server says by ``ttlMs``.
        resources_ttl_seconds: for how long where the server does not say.
        tools: pattern of the server's own tool names to seconds; the first that matches counts.
        max_ttl_seconds: no longer than this, whatever the server says.
        stale_seconds: how long after its time an answer may stand in for a server that cannot be asked.
    """

    resources: bool = False
    resources_ttl_seconds: float = 0.0
    tools: Mapping[str, float] = field(default_factory=dict)
    max_ttl_seconds: float = 3600.0
    stale_seconds: float = 0.0
    max_bytes: int = 16 * 1024 * 1024
    max_entries: int = 1000


def read(reader: Reader) -> CacheSettings:
    """The section ``servers[].cache``."""
    number, d = (int, float), CacheSettings()
    resources = reader.take("resources", bool, d.resources)
    tools = reader.section("tools")
    ttls = {str(pattern): tools.take(pattern, number, 0.0, lambda v: v > 0) for pattern in list(tools.left)}
    settings = CacheSettings(
        resources,
        float(reader.take("resources_ttl_seconds", number, d.resources_ttl_seconds, lambda v: v >= 0)),
        {pattern: float(ttl) for pattern, ttl in ttls.items()},
        float(reader.take("max_ttl_seconds", number, d.max_ttl_seconds, lambda v: v > 0)),
        float(reader.take("stale_seconds", number, d.stale_seconds, lambda v: v >= 0)),
        reader.take("max_bytes", int, d.max_bytes, lambda v: v > 0),
        reader.take("max_entries", int, d.max_entries, lambda v: v > 0),
    )
    if settings.resources_ttl_seconds and not resources:
        reader.errors.append(
            f"{reader.at('resources_ttl_seconds')}: has no effect while {reader.at('resources')} is not true; set it"
        )
    tools.done()
    reader.done()
    return settings


class Outcome(StrEnum):
    """How an answer was come by; label of metrics and traces."""

    HIT = "hit"
    MISS = "miss"
    SHARED = "shared"  # another request for the same was under way
    STALE = "stale"
    PASS = "pass"


@dataclass(slots=True, eq=False)
class Ask:
    """A request whose answer may be kept.

    Attributes:
        ttl: seconds that it may be kept where the server does not say.
        outcome: known after the answer.
    """

    server: _Server
    method: str
    key: bytes
    context: str
    ttl: float
    uri: str | None
    outcome: Outcome = Outcome.MISS


Fetch = Callable[[], Awaitable[Json]]


class Answers:
    """The caches of all servers."""

    def __init__(
        self, settings: Mapping[str, CacheSettings] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._servers: dict[str, _Server] = {}
        self.configure(settings or {})

    def configure(self, settings: Mapping[str, CacheSettings]) -> None:
        """Go by these settings from now on; what was kept under other ones is forgotten."""
        wanted = {name: each for name, each in settings.items() if each.resources or each.tools}
        self._servers = {
            name: known if (known := self._servers.get(name)) and known.settings == each else _Server(name, each)
            for name, each in wanted.items()
        }

    def keeps(self, server: str, tool: str) -> bool:
        """Whether results of the tool may be kept."""
        known = self._servers.get(server)
        return known is not None and known.tool_ttl(tool) is not None

    def plan(self, view: str, server: str, method: str, params: Json, context: str) -> Ask | None:
        """Whether the answer may be kept: None if not. Whether the client may ask at all is checked before.

        Args:
            view: the endpoint, for the same answer has other URIs in it at another one.
            params: as the server gets them, with its own names and URIs.
            context: the authorisation context; the same only for requests that the server cannot tell apart by who
                asks: principal, capabilities, and the session where the server keeps state for it.
        """
        known = self._servers.get(server)
        return known.plan(view, method, params, context) if known else None

    async def get(self, ask: Ask, fetch: Fetch) -> Json:
        """The answer: a kept one, that of a request under way for the same, or that of ``fetch``.

        When whoever asked first leaves while others wait for the same, ``fetch`` goes on for them.

        Raises:
            RpcError: that of ``fetch``, and no kept answer may stand in.
        """
        server, now = ask.server, self._clock()
        if kept := server.fresh(ask, now):
            ask.outcome = Outcome.HIT
            return _decoded(ask, kept, now)
        try:
            if server.passes(ask, now):
                ask.outcome, version = Outcome.PASS, server.shelf.version
                result = await fetch()
                server.keep(ask, result, version, self._clock())
                return result
            return await self._fly(ask, fetch)
        except RpcError as failure:
            stale = server.stale(ask, self._clock())
            if failure.code not in _OUTAGES:
                server.forget(ask)  # the server has spoken
            elif stale:
                ask.outcome = Outcome.STALE
                return _decoded(ask, stale, None)
            raise

    def notice(self, server: str, method: str, params: Json) -> None:
        """A server said that something changed: "the notification invalidates the cached response"."""
        if known := self._servers.get(server):
            known.notice(method, params)

    def stats(self) -> dict[str, tuple[int, int]]:
        """By server: entries and bytes."""
        return {name: (len(server.shelf), server.shelf.bytes) for name, server in self._servers.items()}

    async def _fly(self, ask: Ask, fetch: Fetch) -> Json:
        server = ask.server
        for _ in range(MAX_JOINS):
            flight = server.flights.get((ask.key, None)) or server.flights.get((ask.key, ask.context))
            # One that began before something changed may bring what was before.
            if flight is None or flight.version != server.shelf.version:
                break
            kept = (await flight.wait())[1]
            if flight.version != server.shelf.version:
                continue
            if kept and kept.context in (None, ask.context):
                ask.outcome = Outcome.SHARED
                return _decoded(ask, kept, self._clock())
            break  # what may not be kept is for one request only
        return await self._own(ask, fetch)

    async def _own(self, ask: Ask, fetch: Fetch) -> Json:
        server, ask.outcome = ask.server, Outcome.MISS
        flight = _Flight(server.shelf.version)
        # Whoever asks next may take part if the last answer was for all; if this one is not, it asks for itself.
        key = (ask.key, None if server.shared(ask) else ask.context)

        async def run() -> tuple[Json, Kept | None]:
            result = await fetch()
            return result, server.keep(ask, result, flight.version, self._clock())

        def landed(task: asyncio.Task[tuple[Json, Kept | None]]) -> None:
            if server.flights.get(key) is flight:
                del server.flights[key]
            if not task.cancelled():
                task.exception()  # seen, even if nobody waits any more

        flight.task = asyncio.ensure_future(run())
        flight.task.add_done_callback(landed)
        server.flights[key] = flight
        return (await flight.wait())[0]


class _Flight:
    """One request to a server, and how many wait for it."""

    __slots__ = ("task", "version", "waiting")

    task: asyncio.Task[tuple[Json, Kept | None]]

    def __init__(self, version: int) -> None:
        self.version = version
        self.waiting = 0

    async def wait(self) -> tuple[Json, Kept | None]:
        self.waiting += 1
        try:
            return await asyncio.shield(self.task)
        finally:
            self.waiting -= 1
            if not self.waiting and not self.task.done():
                self.task.cancel()


class _Server:
    """One server's answers, and the rules for them."""

    def __init__(self, name: str, settings: CacheSettings) -> None:
        self.name = name
        self.settings = settings
        self.shelf = Shelf(settings.max_bytes, settings.max_entries)
        self.flights: dict[tuple[bytes, str | None], _Flight] = {}
        self._ttls: dict[str, float | None] = {}

    def plan(self, view: str, method: str, params: Json, context: str) -> Ask | None:
        uri: str | None = None
        ttl: float | None
        if method == READ and self.settings.resources:
            uri, ttl = params.get("uri"), self.settings.resources_ttl_seconds
            if not isinstance(uri, str):
                return None
        elif method == CALL:
            ttl = self.tool_ttl(params.get("name"))
            if ttl is None:
                return None
        else:
            return None
        for name in _UNCACHEABLE_PARAMS:
            if name in params:
                return None
        return Ask(self, method, _key(view, method, params), context, ttl, uri)

    def tool_ttl(self, name: object) -> float | None:
        """Seconds that results of the tool may be kept where the server does not say; None for not at all."""
        if not isinstance(name, str):
            return None
        try:
            return self._ttls[name]
        except KeyError:
            found = (ttl for pattern, ttl in self.settings.tools.items() if fnmatch.fnmatchcase(name, pattern))
            if len(self._ttls) >= _KNOWN_TOOLS:
                self._ttls.clear()
            return self._ttls.setdefault(name, next(found, None))

    def _candidates(self, ask: Ask) -> tuple[Kept | None, Kept | None]:
        return self.shelf.get(ask.key, None), self.shelf.get(ask.key, ask.context)

    def fresh(self, ask: Ask, now: float) -> Kept | None:
        """The answer while ``now < t_received + ttlMs``."""
        for kept in self._candidates(ask):
            if kept and kept.body is not None and now < kept.fresh_until:
                self.shelf.touch(kept)
                return kept
        return None

    def stale(self, ask: Ask, now: float) -> Kept | None:
        for kept in self._candidates(ask):
            if kept and kept.body is not None and now < kept.fresh_until + self.settings.stale_seconds:
                return kept
        return None

    def shared(self, ask: Ask) -> bool:
        """Whether the last answer was for all."""
        return self.shelf.get(ask.key, None) is not None

    def passes(self, ask: Ask, now: float) -> bool:
        kept = self.shelf.get(ask.key, ask.context)
        return kept is not None and kept.body is None and now < kept.fresh_until

    def forget(self, ask: Ask) -> None:
        self.shelf.remove(ask.key, None)
        self.shelf.remove(ask.key, ask.context)

    def keep(self, ask: Ask, result: Json, version: int, now: float) -> Kept | None:
        """Keep the answer if it may be, received just now; None if not."""
        if version != self.shelf.version:
            return None  # it may be of before the change that was told meanwhile
        ttl = self._ttl(ask, result)
        body: bytes | None = None
        if ttl > 0:
            try:
                body = orjson.dumps(result)
            except TypeError:
                body = None  # nested too deep to be written; the client will be told
        # "absent" and unknown scopes are private: sharing needs the server's word.
        context = None if body is not None and result.get("cacheScope") == "public" else ask.context
        self.forget(ask)
        kept = Kept(ask.key, context, body, now + (ttl if body is not None else PASS_SECONDS), ask.uri)
        return kept if self.shelf.put(kept) and body is not None else None

    def _ttl(self, ask: Ask, result: Json) -> float:
        """Seconds; 0 for what may not be kept."""
        if result.get("resultType", "complete") != "complete" or result.get("isError") is True:
            return 0.0
        told = result.get("ttlMs")
        if not isinstance(told, int) or isinstance(told, bool):
            ttl = ask.ttl
        elif ask.method == CALL:
            ttl = min(ask.ttl, max(0, told) / 1000)
        else:
            ttl = max(0, told) / 1000
        return min(ttl, self.settings.max_ttl_seconds)

    def notice(self, method: str, params: Json) -> None:
        if method == "notifications/resources/updated":
            self.shelf.remove_uri(str(params.get("uri", "")))
        elif method in ("notifications/resources/list_changed", "notifications/tools/list_changed"):
            self.shelf.clear()


def _key(view: str, method: str, params: Json) -> bytes:
    """The request: "method together with the request parameters that affect the result"."""
    meta = params.get("_meta")
    if isinstance(meta, dict):
        affecting = {name: value for name, value in meta.items() if name not in _PASSING_META}
        params = {name: value for name, value in params.items() if name != "_meta"}
        if affecting:
            params["_meta"] = affecting
    return orjson.dumps((view, method, params), option=orjson.OPT_SORT_KEYS)


def _decoded(ask: Ask, kept: Kept, now: float | None) -> Json:
    """The answer, fresh at ``now`` or stale if that is None; clients are told how fresh it is."""
    assert kept.body is not None
    result: Json = orjson.loads(kept.body)
    if ask.method == READ:
        result["ttlMs"] = max(0, int((kept.fresh_until - now) * 1000)) if now is not None else 0
        result.setdefault("cacheScope", "private")
    if now is None:
        meta = result.get("_meta")
        result["_meta"] = {**(meta if isinstance(meta, dict) else {}), STALE_META_KEY: [ask.server.name]}
    return result
