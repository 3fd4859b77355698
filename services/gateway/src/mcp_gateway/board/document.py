"""The board's document, typed. What is not understood is no document: half of it would be worse than the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_gateway.reader import Reader

EVERYTHING = "*"


@dataclass(frozen=True)
class Notice:
    """Maintenance of one server, or of the whole fleet.

    Attributes:
        why, who: in people's words.
        since, until: seconds since 1970; 0 for ``until`` where nobody said when it ends. It does not end by itself.
    """

    why: str
    who: str = ""
    since: float = 0.0
    until: float = 0.0


@dataclass(frozen=True)
class CanaryAt:
    """Where the new version of a server is, and which part of its calls it gets.

    Attributes:
        name, port, path: as of a server's ``dns``.
        share: percent of the calls.
        since, until: seconds since 1970, when the share began and when it ends, whoever forgot to end it.
        number: of this trial; what was seen of another one does not count.
    """

    name: str
    port: int
    path: str
    share: float
    since: float
    until: float
    number: int


@dataclass(frozen=True)
class Document:
    """All of it. ``number`` grows with each one."""

    number: int = 0
    maintenance: Mapping[str, Notice] = field(default_factory=dict)
    canaries: Mapping[str, CanaryAt] = field(default_factory=dict)


def read(value: Any) -> Document:
    """The document.

    Raises:
        ValueError: with every mistake found.
    """
    errors: list[str] = []
    root = Reader(value, "", errors)
    number = root.take("number", int, 0, lambda v: v > 0)
    if not number:
        errors.append("number: missing")
    notices, canaries = {}, {}
    moment = (int, float)
    for server, entry in root.take("maintenance", dict, {}).items():
        reader = Reader(entry, f"maintenance.{server}", errors)
        notices[str(server)] = Notice(
            reader.take("why", str, ""),
            reader.take("who", str, ""),
            reader.take("since", moment, 0.0),
            reader.take("until", moment, 0.0),
        )
        reader.done()
    for server, entry in root.take("canaries", dict, {}).items():
        reader = Reader(entry, f"canaries.{server}", errors)
        canaries[str(server)] = CanaryAt(
            reader.take("name", str, ""),
            reader.take("port", int, 8000, lambda v: 0 < v < 65536),
            reader.take("path", str, "/mcp", lambda v: v.startswith("/")),
            reader.take("share", moment, 0.0, lambda v: 0 <= v <= 100),
            reader.take("since", moment, 0.0),
            reader.take("until", moment, 0.0),
            reader.take("number", int, 0),
        )
        reader.done()
        if not canaries[str(server)].name:
            errors.append(f"canaries.{server}.name: missing")
    root.done()
    if errors:
        raise ValueError("; ".join(errors))
    return Document(number, notices, canaries)
