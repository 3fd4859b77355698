"""Shell patterns over names, each name matched once."""

from __future__ import annotations

import fnmatch
import re

MAX_PATTERN = 256
# Names come from clients: what is remembered of them is bounded, in number and in length.
_MAX_REMEMBERED = 4096
_MAX_NAME = 256


class Patterns:
    """Whether a name matches one of ``allow`` and none of ``deny``; ``*``, ``?`` and ``[...]``, case matters."""

    def __init__(self, allow: tuple[str, ...] = ("*",), deny: tuple[str, ...] = ()) -> None:
        self.allow = allow
        self.deny = deny
        self.everything = "*" in allow and not deny
        self._allow = _any_of(allow)
        self._deny = _any_of(deny)
        self._known: dict[str, bool] = {}

    def permits(self, name: str) -> bool:
        """Whether the name is let through."""
        if self.everything:
            return True
        found = self._known.get(name)
        return self._match(name) if found is None else found

    def _match(self, name: str) -> bool:
        found = bool(self._allow.fullmatch(name) and not self._deny.fullmatch(name))
        if len(name) <= _MAX_NAME:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[name] = found
        return found


class ToolPolicy(Patterns):
    """Which tools of a server are offered, by the server's own names for them."""


def pattern_mistake(pattern: object) -> str:
    """What is wrong with a configured pattern; empty for nothing."""
    if not isinstance(pattern, str) or not pattern:
        return f"{pattern!r} is no pattern; write text such as time__*"
    if len(pattern) > MAX_PATTERN:
        return f"a pattern of {len(pattern)} characters; {MAX_PATTERN} are allowed"
    rest = pattern
    while "[" in rest:
        # As fnmatch reads it: a ] right after [ or [! belongs to the set.
        rest = rest[rest.index("[") + 1 :].removeprefix("!")
        end = rest.find("]", 1)
        if end < 0:
            return f"{pattern!r} has a [ without ]; write [[] for a bracket itself"
        rest = rest[end + 1 :]
    if any(ord(character) < 32 for character in pattern):
        return f"{pattern!r} has a control character"
    return ""


def _any_of(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns) or r"(?!)")
