"""Who may do what: which tools of a server are offered, on list and call alike."""

from __future__ import annotations

import fnmatch
import re


class ToolPolicy:
    """Shell-style patterns: a tool is offered if one of ``allow`` matches and none of ``deny``."""

    def __init__(self, allow: tuple[str, ...], deny: tuple[str, ...]) -> None:
        self._everything = "*" in allow and not deny
        self._allow = _any_of(allow)
        self._deny = _any_of(deny)

    def permits(self, tool: str) -> bool:
        """Whether clients may see and call the tool, by the server's own name for it."""
        return self._everything or bool(self._allow.fullmatch(tool) and not self._deny.fullmatch(tool))


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or r"(?!)")
