"""Lists of what an endpoint's servers offer, as one client sees them, and the tool that finds tools."""

from __future__ import annotations

import asyncio
import logging

from mcp_gateway import names, search
from mcp_gateway.catalog import FAN_OUT_SECONDS, Listed
from mcp_gateway.pages import Page, Pages, SeenBy
from mcp_gateway.policy import Profile
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import INVALID_PARAMS, KEYS, LISTS, PARTIAL_META_KEY, STALE_META_KEY, Json, RpcError
from mcp_gateway.search import Index, SearchSettings
from mcp_gateway.upstream.server import Upstream
from mcp_gateway.views.request import Request
from mcp_gateway.views.site import Site
from mcp_gateway.views.targets import OUTDATED, Targets

log = logging.getLogger("mcp_gateway.views")

CAPABILITY_OF = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resources",
    "prompts/get": "prompts",
    "resources/read": "resources",
    "completion/complete": "completions",
}
_NAMED_LISTS = ("tools/list", "prompts/list")


class Lists:
    """The lists of one endpoint.

    Args:
        search: whether tools are found by a tool instead of listed; on a merged view alone.
        previous: those of the endpoint as it was configured before; what did not change is taken from them.
    """

    def __init__(self, site: Site, targets: Targets, search: SearchSettings, previous: Lists | None = None) -> None:
        self._site = site
        self._targets = targets
        self._search = search
        self._pages = Pages(site.catalog)
        before = previous._indexes if previous else {}
        self._indexes: dict[SeenBy, tuple[int, Index]] = {who: (OUTDATED, index) for who, (_, index) in before.items()}

    def known(self, request: Request) -> Json | None:
        """What ``page`` gives, where no server need be asked and no rate be counted; else None."""
        method, cursor = request.method, request.params.get("cursor")
        profile = self._site.profiles.of(request.principal)
        if profile.limits.metered("") or not (cursor is None or isinstance(cursor, str)):
            return None
        page = self._pages.known(_seen_by(profile, request.principal), method, cursor)
        return _result(method, page) if page else None

    async def page(self, request: Request) -> Json:
        """The page of a list that the request asks for.

        Raises:
            RpcError: its cursor is not one of ours, or the only server's error.
        """
        method, cursor = request.method, request.params.get("cursor")
        if cursor is not None and not isinstance(cursor, str):
            raise RpcError(INVALID_PARAMS, f"invalid cursor {cursor!r}")
        profile = self._site.profiles.of(request.principal)
        self._site.meter(request, profile)
        seen_by = _seen_by(profile, request.principal)
        page = self._pages.known(seen_by, method, cursor)
        if page is None:
            page = await self._read(request.principal, seen_by, method, cursor)
        return _result(method, page)

    async def _read(self, principal: Principal, seen_by: SeenBy, method: str, cursor: str | None) -> Page:
        """Ask the servers that offer such a list; healthy ones work when others are down, and the gap is visible."""
        visible = self._site.servers_of(principal)
        asked = [
            upstream
            for upstream in self._site.upstreams.values()
            if upstream.name in visible and upstream.speaker.may_offer(CAPABILITY_OF[method])
        ]
        generation = self._site.catalog.generation
        if self._site.merged:
            answers = await asyncio.gather(
                *(self._site.catalog.items(u, method, FAN_OUT_SECONDS) for u in asked), return_exceptions=True
            )
        else:
            answers = [await self._site.catalog.items(u, method, u.server.timeout_seconds) for u in asked]
        items: list[Json] = []
        missing: list[str] = []
        stale: list[str] = []
        for upstream, answer in zip(asked, answers, strict=True):
            if isinstance(answer, Listed):
                items += [self._with_scheme(upstream, method, item) for item in answer.items]
                if answer.stale:
                    stale.append(upstream.name)
            else:
                if not isinstance(answer, RpcError):
                    log.error("a list failed", exc_info=answer, extra={"server": upstream.name})
                missing.append(upstream.name)
        if method in _NAMED_LISTS:
            items = self._seen(principal, method, visible)
            if method == "tools/list" and self.searches(self._site.profiles.of(principal)):
                items = self._search.listed(items)
        marks = {PARTIAL_META_KEY: sorted(missing), STALE_META_KEY: sorted(stale)}
        fresh = min((a.fresh_until for a in answers if isinstance(a, Listed)), default=0.0)
        return self._pages.cut(
            seen_by,
            method,
            items,
            cursor,
            {k: v for k, v in marks.items() if v},
            0.0 if missing or stale else fresh,
            generation,
        )

    def _with_scheme(self, upstream: Upstream, method: str, item: Json) -> Json:
        key = KEYS[method]
        if not self._site.merged or method in _NAMED_LISTS:
            return item
        return {**item, key: names.exposed_uri(upstream.server.name, item[key])}

    def _seen(self, principal: Principal, method: str, visible: frozenset[str]) -> list[Json]:
        """The tools or prompts that the principal sees, under the names that it sees."""
        profile, table = self._site.profiles.of(principal), self._targets.names(method)
        if method != "tools/list":
            return [item for server, item in table.items() if server in visible]
        items = []
        for server, item in table.items():
            target = table.find(item["name"])
            if target is None or not profile.permits(server, target.name, item.get("annotations"), principal.scopes):
                continue
            renamed = profile.rename(server, target.name) if self._site.merged else None
            description = profile.description(server, target.name)
            if renamed or description is not None:
                item = {**item, "name": renamed or item["name"], "description": description or item.get("description")}
            items.append(item)
        return items

    def searches(self, profile: Profile) -> bool:
        """Whether clients of the profile find tools by a tool; the servers' own endpoints have none."""
        return self._site.merged and (self._search.enabled if profile.search is None else profile.search)

    async def find_tools(self, request: Request) -> Json:
        """The tool that finds tools: among those that the client may call."""
        principal = request.principal
        profile = self._site.profiles.of(principal)
        seen_by = _seen_by(profile, principal)
        if self._pages.known(seen_by, "tools/list", None) is None:
            await self._read(principal, seen_by, "tools/list", None)
        generation = self._site.catalog.generation
        kept = self._indexes.get(seen_by)
        if kept is None or kept[0] != generation:
            tools = self._seen(principal, "tools/list", self._site.servers_of(principal))
            kept = self._indexes[seen_by] = (generation, Index(tools, kept[1] if kept else None))
        return search.answer(kept[1], request.params.get("arguments"))


def _seen_by(profile: Profile, principal: Principal) -> SeenBy:
    """Who has the same profile and scopes sees the same."""
    return profile.name, principal.scopes if profile.scope_rules else frozenset()


def _result(method: str, page: Page) -> Json:
    result: Json = {LISTS[method]: page.items, "ttlMs": page.ttl_ms(), "cacheScope": "private"}
    if page.next_cursor is not None:
        result["nextCursor"] = page.next_cursor
    if page.marks:
        result["_meta"] = dict(page.marks)
    return result
