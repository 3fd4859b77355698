"""One session's state, field by field: each is a register that goes by its latest write."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from mcp_gateway.hub import Listener
from mcp_gateway.protocol import LOG_LEVELS
from mcp_gateway.sessions import Pin

# Of all subscriptions of a session, those given up not long ago among them.
MAX_RESOURCE_CHARS = 64 * 1024
MAX_STAMP = 2**62

Stamp = tuple[int, str]  # microseconds since the epoch, or later; and the replica
Field = tuple[str, ...]  # ("level",), ("stream",), ("resource", server, its URI) or ("pin", server)
LEVEL: Field = ("level",)
STREAM: Field = ("stream",)


@dataclass(eq=False)
class State:
    """One session's.

    Attributes:
        expires: when the session ends by itself, in seconds since the epoch.
        level: least severity of log messages wanted; None where the client never said.
        stream: the gateway replica with the session's latest stream; None for none.
        resources: subscriptions: server and the server's URI, to the URI as the client knows it.
        pins: sessions at sticky servers that took the place of those in the session id, by server.
        stamps: the latest write of each field, of those given up as well.
        listeners: its open streams, here.
        ended: set when the session is ended.
    """

    principal: str
    expires: int
    level: str | None = None
    stream: str | None = None
    resources: dict[tuple[str, str], str] = field(default_factory=dict)
    pins: dict[str, Pin] = field(default_factory=dict)
    stamps: dict[Field, Stamp] = field(default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def value(self, name: Field) -> Any:
        """A field as JSON; None for what is not, or was given up."""
        if name == LEVEL:
            return self.level
        if name == STREAM:
            return self.stream
        if name[0] == "resource":
            return self.resources.get((name[1], name[2]))
        pin = self.pins.get(name[1])
        return [pin.url, pin.id, pin.version] if pin else None

    def put(self, name: Field, value: Any) -> None:
        """Set a field to what ``value`` gave."""
        if name == LEVEL:
            self.level = value
        elif name == STREAM:
            self.stream = value
        elif name[0] == "resource":
            key = (name[1], name[2])
            if value is None:
                self.resources.pop(key, None)
            else:
                self.resources[key] = value
        elif value is None:
            self.pins.pop(name[1], None)
        else:
            self.pins[name[1]] = Pin(*value)

    def trim(self) -> bool:
        """Forget the oldest subscriptions that were given up; returns whether the others are few enough."""
        names = [name for name in self.stamps if name[0] == "resource"]
        size = sum(len(name[2]) + len(self.resources.get((name[1], name[2]), "")) for name in names)
        given_up = [name for name in names if (name[1], name[2]) not in self.resources]
        for name in sorted(given_up, key=lambda name: self.stamps[name]):
            if size <= MAX_RESOURCE_CHARS:
                break
            size -= len(name[2])
            del self.stamps[name]
        return size <= MAX_RESOURCE_CHARS


def read_field(item: Any) -> tuple[Field, Any, Stamp]:
    """A field as ``States.news`` gives it.

    Raises:
        ValueError: it is none.
    """
    match item:
        case [["level"], str() as level, int() as at, str() as replica] if level in LOG_LEVELS:
            name: Field = LEVEL
            value: Any = level
        case [["stream"], (str() | None) as value, int() as at, str() as replica]:
            name = STREAM
        case [["resource", str() as server, str() as uri], (str() | None) as value, int() as at, str() as replica]:
            name = ("resource", server, uri)
        case [["pin", str() as server], [str(), str(), str()] as value, int() as at, str() as replica]:
            name = ("pin", server)
        case _:
            raise ValueError(f"no field of a session: {str(item)[:200]}")
    if not 0 < at < MAX_STAMP:
        raise ValueError(f"no time: {at}")
    return name, value, (at, replica[:64])
