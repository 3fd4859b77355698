"""What differs between two definitions of a tool, for people to judge."""

from __future__ import annotations

import difflib
from typing import Any

import orjson

from mcp_gateway.pinfile import FIELDS, Definition

CONTEXT_LINES = 2


def difference(pinned: Definition | None, now: Definition) -> str:
    """A unified difference of each field that differs.

    What cannot be seen (zero-width and bidirectional characters, terminal sequences) is written as escapes: a
    description may hold text for models that people are not meant to notice.
    """
    if pinned and pinned.fields is None:
        head = f"the pin holds the hash {pinned.hash[:12]}... alone, so this is the whole new definition:\n"
    else:
        head = ""
    old, new = (pinned.fields or {} if pinned else {}), now.fields or {}
    parts: list[str] = []
    for name in FIELDS:
        before, after = _lines(old.get(name)), _lines(new.get(name))
        if before != after:
            parts += difflib.unified_diff(
                before, after, f"{name} (pinned)", f"{name} (now)", n=CONTEXT_LINES, lineterm=""
            )
    return head + "\n".join(parts)


def visible(text: str) -> str:
    """The text with what cannot be seen as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _lines(value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, str):
        return [visible(line) for line in value.split("\n")]
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS).decode()
    return [visible(line) for line in text.split("\n")]
