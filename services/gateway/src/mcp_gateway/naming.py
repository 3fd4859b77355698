"""Which items of a server are shown, and under which names: include, exclude, rename, and the table of all names.

The order of a merged list is by server name, then the server's own. Both stay as they are when the configuration
is written in another order or another server comes or goes, so the beginning of a model's prompt stays the same
and is found in its cache (2026-07-28 server/tools, "Capabilities": deterministic order); and a server knows best
which of its tools belong together.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mcp_gateway import names
from mcp_gateway.protocol import Json
from mcp_gateway.reader import Reader

_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Selection:
    """What of a server is shown, by the server's own names.

    Attributes:
        include: shell-style patterns, letter case counts; one must match.
        exclude: none of these may match.
        rename: own name to the name after the server's prefix.
    """

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)

    def permits(self, name: str) -> bool:
        """Whether the item is shown."""
        return _matches(name, self.include) and not _matches(name, self.exclude)


EVERYTHING = Selection()


def read(reader: Reader, server: str) -> Selection:
    """``include``, ``exclude`` and ``rename`` of a server's ``tools`` section; its other keys are left to others."""
    include, exclude = reader.words("include", EVERYTHING.include), reader.words("exclude", ())
    rename = {str(old): str(new) for old, new in reader.take("rename", dict, {}).items()}
    selection = Selection(include, exclude, rename)
    room = names.MAX_LENGTH - len(server) - len(names.SEPARATOR)
    owners: dict[str, str] = {}
    for old, new in rename.items():
        key = reader.at(f"rename.{old}")
        if not _NAME.fullmatch(new):
            reader.errors.append(f"{key}: {new!r} is no tool name; use letters, digits, _ and - only")
        elif len(new) > room:
            reader.errors.append(
                f"{key}: {new!r} has {len(new)} characters; with the prefix {server + names.SEPARATOR!r} "
                f"{room} fit into {names.MAX_LENGTH}; shorten it"
            )
        if new in owners:
            reader.errors.append(f"{key}: {owners[new]!r} is called {new!r} already; choose another name")
        if not selection.permits(old):
            reader.errors.append(f"{key}: {old!r} is not shown; drop this key, or include it and do not exclude it")
        owners.setdefault(new, old)
    return selection


class Target(NamedTuple):
    """Whose an item is, and its own name there."""

    server: str
    name: str


@dataclass(frozen=True)
class Problem:
    """A name of a server's that cannot be had as it is.

    Attributes:
        fix: what to write into the configuration.
    """

    server: str
    name: str
    text: str
    fix: str

    def __str__(self) -> str:
        return f"server {self.server}: {self.name!r} {self.text}; {self.fix}"


class Names:
    """All names of one kind of item (tools, prompts) of a view; built anew when a list or the configuration changes.

    Args:
        items: by server: what it listed, each with ``name``. Servers that never listed are absent.
        selections: by server; absent ones show everything. Prompts have none.
        merged: whether names carry their server's; otherwise ``items`` has one server.

    Attributes:
        problems: what could not be shown as it is.
    """

    def __init__(
        self,
        items: Mapping[str, Sequence[Json]],
        selections: Mapping[str, Selection] | None = None,
        *,
        merged: bool = True,
    ) -> None:
        if not merged and len(items) > 1:
            raise ValueError("names without their server's are of one server")
        self.problems: tuple[Problem, ...] = ()
        self._targets: dict[str, Target] = {}
        self._exposed: dict[Target, str] = {}
        self._items: list[tuple[str, Json]] = []
        problems: list[Problem] = []
        for server in sorted(items):
            selection = (selections or {}).get(server, EVERYTHING)
            for exposed, item in _of_server(server, items[server], selection, merged, problems):
                target = Target(server, item["name"])
                self._targets[exposed] = target
                self._exposed[target] = exposed
                self._items.append((server, {**item, "name": exposed}))
        self.problems = tuple(problems)

    def find(self, exposed: str) -> Target | None:
        """Whose name it is; None for one that no list shows."""
        return self._targets.get(exposed)

    def exposed(self, server: str, name: str) -> str | None:
        """The name that clients see; None where they see none."""
        return self._exposed.get(Target(server, name))

    def items(self) -> Iterator[tuple[str, Json]]:
        """Server and item under its merged name, in the list's order."""
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def guess(exposed: str, selections: Mapping[str, Selection]) -> Target | None:
    """Whose name it would be if its server, which could not be asked for its list, has such an item.

    None where it belongs to no server or is hidden, and where only the list can tell, for it may be shortened.
    """
    found = names.split(exposed, selections)
    if not found or names.exposed(*found) != exposed or names.may_be_shortened(exposed):
        return None
    server, rest = found
    selection = selections[server]
    renamed = {new: old for old, new in selection.rename.items()}
    name = renamed.get(rest, rest)
    return Target(server, name) if selection.permits(name) and (name != rest or name not in selection.rename) else None


# -- one server --------------------------------------------------------------------------------------------------------


def _of_server(
    server: str, items: Sequence[Json], selection: Selection, merged: bool, problems: list[Problem]
) -> Iterable[tuple[str, Json]]:
    """Exposed names and items in the server's order: a function of this server's list and configuration alone."""
    shown: dict[str, Json] = {}
    for item in items:
        name = item.get("name")
        if not isinstance(name, str) or not name:
            problems.append(Problem(server, str(name), "is no name", "the server must name its items; left out"))
        elif name in shown:
            problems.append(
                Problem(server, name, "is listed twice", "the server must name each item once; the first is shown")
            )
        elif selection.permits(name):
            shown[name] = item
    offered = {item["name"] for item in items if isinstance(item.get("name"), str)}
    for old in selection.rename:
        if old not in offered:
            close = difflib.get_close_matches(old, sorted(offered), 1)
            fix = f"write {close[0]!r} in tools.rename" if close else "remove it from tools.rename"
            problems.append(Problem(server, old, "is renamed but not offered", fix))
    renamed = _renamed(server, shown, selection.rename, problems)
    exposed = {old: names.exposed(server, new) if merged else new for old, new in renamed.items()}
    owners: dict[str, str] = {}
    # Names that are shown as they are come first, so that none of them can be taken by a shortened one.
    for old in sorted(exposed, key=lambda old: (exposed[old] != f"{server}{names.SEPARATOR}{renamed[old]}", old)):
        if (owner := owners.setdefault(exposed[old], old)) != old:
            problems.append(
                Problem(
                    server,
                    old,
                    f"would be shown as {exposed[old]!r}, which {owner!r} is",
                    f"give it another name in tools.rename: {{{old!r}: ...}}; left out until then",
                )
            )
    return [(exposed[old], item) for old, item in shown.items() if owners[exposed[old]] == old]


def _renamed(
    server: str, shown: Mapping[str, Json], rename: Mapping[str, str], problems: list[Problem]
) -> dict[str, str]:
    """Own name to new name; a new name that another item has is not given."""
    new = {name: rename.get(name, name) for name in shown}
    while True:
        holders: dict[str, list[str]] = {}
        for old, name in new.items():
            holders.setdefault(name, []).append(old)
        clashes = [(name, olds) for name, olds in sorted(holders.items()) if len(olds) > 1]
        if not clashes:
            return new
        # Each round gives at least one item its own name back; own names differ, so there is an end.
        for name, olds in clashes:
            for old in olds:
                if old != name:
                    other = next(o for o in olds if o != old)
                    problems.append(
                        Problem(
                            server,
                            old,
                            f"cannot be renamed to {name!r}, which {other!r} is",
                            f"rename or exclude {other!r} too, or choose another name; it keeps its own",
                        )
                    )
                    new[old] = old


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(pattern == "*" or fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
