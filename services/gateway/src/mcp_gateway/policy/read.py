"""The ``profiles:`` part of the configuration."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from mcp_gateway import limits
from mcp_gateway.auth.oauth import scope_mistake
from mcp_gateway.policy.patterns import Patterns, pattern_mistake
from mcp_gateway.policy.profiles import Profile, Profiles, ScopeRule
from mcp_gateway.reader import Reader

_PROFILE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_TOOL = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what model interfaces take for a tool's name
_MAGIC = re.compile(r"[*?\[]")


def read(reader: Reader, servers: Collection[str], reserved: Collection[str] = ("find_tools",)) -> Profiles:
    """The profiles under ``profiles:``; mistakes are noted in the reader.

    Args:
        servers: names of the servers that there are.
        reserved: tool names that the gateway itself offers.
    """
    profiles = []
    for name in list(reader.left):
        if not _PROFILE.fullmatch(str(name)):
            reader.errors.append(
                f"{reader.at(str(name))}: not allowed as a profile's name; use letters, digits, _ and -, "
                "at most 64, a letter first"
            )
        profiles.append(_Part(reader.section(name), servers, reserved).profile(str(name)))
    return Profiles(profiles)


class _Part:
    """One profile being read."""

    def __init__(self, reader: Reader, servers: Collection[str], reserved: Collection[str]) -> None:
        self._reader = reader
        self._servers = servers
        self._reserved = reserved

    def profile(self, name: str) -> Profile:
        reader = self._reader
        profile = Profile(
            name=name,
            servers=self._patterns("servers", of_tools=False),
            tools=self._patterns("tools", of_tools=True),
            read_only=reader.take("read_only", bool, False),
            scope_rules=self._scopes(),
            renamed=self._renamed(),
            descriptions=self._by_tool("description"),
            limits=limits.read(reader.section("limits"), self._servers),
            search=reader.take("search", bool, None),
        )
        reader.done()
        return profile

    def _wrong(self, key: str, text: str) -> None:
        self._reader.errors.append(f"{self._reader.at(key)}: {text}")

    def _patterns(self, key: str, *, of_tools: bool) -> Patterns:
        section = self._reader.section(key)
        found = {}
        for part, default in (("allow", ["*"]), ("deny", [])):
            given = section.take(part, list, default)
            found[part] = tuple(str(item) for item in given if self._good(f"{key}.{part}", item, of_tools))
        section.done()
        return Patterns(found["allow"], found["deny"])

    def _good(self, key: str, pattern: Any, of_tools: bool) -> bool:
        """Whether a pattern can be meant as it stands; what names a server must name one that there is."""
        if problem := pattern_mistake(pattern):
            self._wrong(key, problem)
            return False
        server, separator, tool = pattern.partition("__") if of_tools else (pattern, "", "")
        if of_tools and not _MAGIC.search(pattern) and not (separator and tool):
            self._wrong(key, f"{pattern!r} names no tool; write <server>__<tool>, such as {self._example()}__*")
            return False
        if not _MAGIC.search(server) and server not in self._servers:
            self._wrong(key, f"{pattern!r}: no server {server!r}; there are {self._there()}")
        return True

    def _scopes(self) -> tuple[ScopeRule, ...]:
        rules = []
        for pattern, given in self._reader.take("scopes", dict, {}).items():
            key = f"scopes.{pattern}"
            scopes = given if isinstance(given, list) else [given]
            for scope in scopes:
                if problem := scope_mistake(str(scope)):
                    self._wrong(key, problem)
            if not scopes:
                self._wrong(key, "no scope; name one at least, such as [files:read]")
            if self._good(key, pattern, of_tools=True):
                rules.append(ScopeRule(Patterns((str(pattern),)), frozenset(str(scope) for scope in scopes)))
        return tuple(rules)

    def _by_tool(self, key: str) -> dict[tuple[str, str], str]:
        """A mapping by ``<server>.<tool>``; server names hold no dot, tool names may."""
        found: dict[tuple[str, str], str] = {}
        for name, value in self._reader.take(key, dict, {}).items():
            server, _, tool = str(name).partition(".")
            if not tool:
                self._wrong(f"{key}.{name}", f"names no tool; write <server>.<tool>, such as {self._example()}.get")
            elif server not in self._servers:
                self._wrong(f"{key}.{name}", f"no server {server!r}; there are {self._there()}")
            elif not isinstance(value, str) or not value:
                self._wrong(f"{key}.{name}", f"{value!r} is not allowed; expected text")
            else:
                found[server, tool] = value
        return found

    def _renamed(self) -> dict[tuple[str, str], str]:
        renamed = self._by_tool("rename")
        taken: dict[str, str] = {}
        for (server, tool), new in renamed.items():
            old, key = f"{server}.{tool}", f"rename.{server}.{tool}"
            prefix, separator, _ = new.partition("__")
            if not _TOOL.fullmatch(new):
                self._wrong(key, f"{new!r} is not allowed; use letters, digits, _ and -, at most 64")
            elif new in self._reserved:
                self._wrong(key, f"{new!r} is a tool of the gateway itself; choose another name")
            elif separator and prefix in self._servers:
                self._wrong(key, f"{new!r} could be a tool of server {prefix!r}; choose a name without {prefix}__")
            elif (other := taken.setdefault(new, old)) != old:
                self._wrong(key, f"{new!r} is the new name of {other} already; names must differ")
        return renamed

    def _there(self) -> str:
        return ", ".join(sorted(self._servers)) or "none"

    def _example(self) -> str:
        return min(self._servers, default="time")
