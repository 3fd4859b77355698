"""Merged lists in pages, encoded once and kept while the lists behind them are fresh.

A cursor says where the next page begins: after which item of the list, and at which place if that one is gone
by then (2026-07-28 server/utilities/pagination). Any gateway replica understands it.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from mcp_gateway.catalog import Catalog
from mcp_gateway.protocol import INVALID_PARAMS, KEYS, Json, RpcError, encoded

PAGE_ITEMS = 1000
MAX_KEPT = 256
# What decides what a client sees: the name of its profile, and its scopes where the profile looks at them.
SeenBy = tuple[str, frozenset[str]]


@dataclass(slots=True)
class Page:
    """Part of a list.

    Attributes:
        items: encoded JSON, to be put into a result as it is.
        marks: what ``_meta`` must say of it.
        fresh_until: by the monotonic clock, in seconds.
        generation: of the catalogue that it was cut from.
    """

    items: orjson.Fragment
    next_cursor: str | None
    marks: Mapping[str, Any] = field(default_factory=dict)
    fresh_until: float = 0.0
    generation: int = 0

    def ttl_ms(self) -> int:
        """How long clients may keep it (2026-07-28 server/utilities/caching)."""
        return max(0, int((self.fresh_until - time.monotonic()) * 1000))


class Pages:
    """One view's pages."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._kept: dict[tuple[SeenBy, str, str | None], Page] = {}

    def known(self, seen_by: SeenBy, method: str, cursor: str | None) -> Page | None:
        """The page, if nothing behind it changed or grew old."""
        page = self._kept.get((seen_by, method, cursor))
        if page and page.generation == self._catalog.generation and time.monotonic() < page.fresh_until:
            return page
        return None

    def cut(
        self,
        seen_by: SeenBy,
        method: str,
        items: list[Json],
        cursor: str | None,
        marks: Json,
        fresh_until: float,
        generation: int,
    ) -> Page:
        """The page of ``items`` that ``cursor`` names, or the first.

        Raises:
            RpcError: the cursor is not one of ours.
        """
        key = KEYS[method]
        start = 0
        if cursor is not None:
            after, place = _opened(method, cursor)
            if not (0 < place <= len(items) and items[place - 1].get(key) == after):
                found = next((i for i, item in enumerate(items) if item.get(key) == after), None)
                start = min(place, len(items)) if found is None else found + 1
            else:
                start = place
        end = start + PAGE_ITEMS
        following = _cursor(method, str(items[end - 1].get(key)), end) if end < len(items) else None
        page = Page(orjson.Fragment(encoded(items[start:end])), following, marks, fresh_until, generation)
        if fresh_until:
            if len(self._kept) >= MAX_KEPT:
                self._kept.clear()
            self._kept[(seen_by, method, cursor)] = page
        return page


def _cursor(method: str, after: str, place: int) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([method, after, place])).decode().rstrip("=")


def _opened(method: str, cursor: str) -> tuple[str, int]:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        kind, after, place = orjson.loads(raw)
    except (ValueError, TypeError):
        kind, after, place = None, None, None
    if kind != method or not isinstance(after, str) or not isinstance(place, int):
        raise RpcError(INVALID_PARAMS, f"invalid cursor {cursor[:80]!r}")
    return after, place
