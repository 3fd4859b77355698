"""Tool definitions pinned on first sight: a definition that changes later is warned about or withheld until accepted.

A server that was reviewed once can change later what its tools say of themselves, and a model obeys what it reads
there: clients must take annotations as untrusted, and descriptions are no better (2026-07-28 server/tools, "Tool" and
"Security Considerations").
"""

from __future__ import annotations

import hashlib
import logging
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

import orjson

from mcp_gateway import pinfile
from mcp_gateway.pindiff import difference
from mcp_gateway.pinfile import Definition, Entry, PinFileError
from mcp_gateway.pinstore import PinStore
from mcp_gateway.protocol import Json
from mcp_gateway.reader import ConfigError, Reader

log = logging.getLogger("mcp_gateway.pinning")
SHORT_HASH = 12
UNREVIEWED = "its definition was not compared with its pin yet; list the tools again"


class Policy(StrEnum):
    """What becomes of a changed definition."""

    OFF = "off"
    WARN = "warn"
    QUARANTINE = "quarantine"


class FirstSight(StrEnum):
    """What becomes of a tool without a pin."""

    TRUST = "trust"
    QUARANTINE = "quarantine"


@dataclass(frozen=True)
class PinSettings:
    """How tools are pinned.

    Attributes:
        file: where the pins are kept; empty for in memory, until the gateway ends.
        servers: policies of servers that differ from ``policy``.
    """

    file: str = ""
    policy: Policy = Policy.OFF
    first_sight: FirstSight = FirstSight.TRUST
    servers: Mapping[str, Policy] = field(default_factory=dict)

    def of(self, server: str) -> Policy:
        """What is in force for the server."""
        return self.servers.get(server, self.policy)

    def holds(self, server: str) -> bool:
        """Whether tools of the server may be withheld."""
        policy = self.of(server)
        return policy is Policy.QUARANTINE or (policy is not Policy.OFF and self.first_sight is FirstSight.QUARANTINE)


def read(reader: Reader) -> PinSettings:
    """The section ``pinning``."""
    file = reader.take("file", str, "")
    policy = _policy(reader, "policy", Policy.WARN if file else Policy.OFF)
    first_sight = reader.take("first_sight", str, FirstSight.TRUST.value, lambda v: v in list(FirstSight))
    section = reader.section("servers")
    servers = {name: _policy(section, name, policy) for name in list(section.left)}
    settings = PinSettings(file, policy, FirstSight(first_sight), servers)
    if not file and any(settings.holds(server) for server in ("", *servers)):
        reader.errors.append(
            f"{reader.at('file')}: missing, but tools are to be quarantined; name a file that outlives the gateway, "
            "or a restart trusts whatever is there"
        )
    section.done()
    reader.done()
    return settings


def _policy(reader: Reader, key: str, default: Policy) -> Policy:
    # Without quotes, "off" is a boolean in YAML 1.1.
    value = reader.take(key, (str, bool), default.value, lambda v: v is False or v in list(Policy))
    return Policy.OFF if value is False else Policy(value)


@dataclass(frozen=True, slots=True)
class Change:
    """A tool whose definition is not the pinned one.

    Attributes:
        kind: ``changed``, or ``new`` for one that waits for its first pin.
        difference: what differs, readable.
        accept: the command that accepts it.
        withheld: whether clients neither see nor may call it.
    """

    server: str
    tool: str
    kind: str
    hash: str
    difference: str
    accept: str
    withheld: bool


@dataclass(frozen=True, slots=True)
class Review:
    """What came of comparing a server's tools with their pins.

    Attributes:
        offered: the tools to show, in the server's order.
        changes: all that differ.
        news: those of ``changes`` that no earlier review of this process told of.
        removed: pinned tools that the server does not list; their pins stay.
        returned: tools that were missing in the last review and are back.
    """

    offered: list[Json]
    changes: tuple[Change, ...] = ()
    news: tuple[Change, ...] = ()
    removed: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()


@dataclass(slots=True)
class _Seen:
    """A server's last review; ``refusals`` has each tool listed, with why it may not be called or None."""

    raw: bytes
    generation: int
    review: Review
    refusals: dict[str, str | None]


class Pins:
    """The pins of all servers. Not for several threads.

    Raises:
        ConfigError: the file is broken; it is left as it is.
    """

    def __init__(self, settings: PinSettings) -> None:
        self._settings = settings
        self._seen: dict[str, _Seen] = {}
        self._told: dict[tuple[str, str], str] = {}
        # Whether anything can be refused at all; a server's name is never empty.
        self._holds = any(settings.holds(server) for server in ("", *settings.servers))
        try:
            self._store = PinStore(settings.file)
        except PinFileError as error:
            raise ConfigError([f"pinning.file: {error}"]) from error

    @property
    def problem(self) -> str:
        """Why the file is not in use as it is or cannot be written; empty if all is well."""
        return self._store.problem

    # -- lists -----------------------------------------------------------------------------------

    def review(self, server: str, tools: list[Json]) -> Review:
        """Compare a server's tools, listed anew, with their pins; pin those seen first."""
        policy = self._settings.of(server)
        if policy is Policy.OFF:
            return Review(tools)
        tools, encoded = _encoded(server, tools)
        raw, seen = hashlib.blake2b(encoded).digest(), self._seen.get(server)
        if seen and seen.raw == raw and seen.generation == self._store.generation:
            return replace(seen.review, offered=_offered(tools, seen.refusals), news=(), returned=())
        refusals: dict[str, str | None] = {}
        changes: list[Change] = []
        for tool in tools:
            name = tool.get("name")
            if not isinstance(name, str):
                continue
            change = self._compare(server, name, pinfile.define(tool), policy)
            if change:
                changes.append(change)
            # Of a tool that is listed twice every definition must be good.
            refusals[name] = refusals.get(name) or (_refusal(change) if change and change.withheld else None)
        news = tuple(change for change in changes if self._told.get((server, change.tool)) != change.hash)
        self._told |= {(server, change.tool): change.hash for change in news}
        pinned = {tool for (owner, tool), entry in self._store.entries.items() if owner == server and entry.pinned}
        before = set(seen.review.removed) if seen else set()
        review = Review(
            offered=_offered(tools, refusals),
            changes=tuple(changes),
            news=news,
            removed=tuple(sorted(pinned - refusals.keys())),
            returned=tuple(sorted(before & refusals.keys())),
        )
        self._seen[server] = _Seen(raw, self._store.generation, review, refusals)
        return review

    def _compare(self, server: str, tool: str, now: Definition, policy: Policy) -> Change | None:
        key = (server, tool)
        entry = self._store.entries.get(key, Entry())
        pinned, waiting = entry.pinned, entry.waiting
        if pinned is None and self._settings.first_sight is FirstSight.TRUST and waiting is None:
            self._store.set(key, Entry(now))
            return None
        if pinned and pinned.hash == now.hash:
            # A hash that was accepted alone gets its definition, for differences to come; what waited is no more.
            self._store.set(key, Entry(now if pinned.fields is None else pinned))
            return None
        self._store.set(key, Entry(pinned, now))
        # One without a pin is here only because it is to be held, under whatever policy.
        withheld = policy is Policy.QUARANTINE or pinned is None
        return Change(
            server,
            tool,
            "changed" if pinned else "new",
            now.hash,
            difference(pinned, now),
            self._accept(server, tool, now.hash),
            withheld,
        )

    def _accept(self, server: str, tool: str, digest: str) -> str:
        if not self._settings.file:
            return f"restart the gateway, or name a pinning.file, to accept {tool} of {server}"
        # Where the definition cannot be noted in the file, the command needs the whole hash.
        return accept_command(
            server, tool, digest if self._store.read_only else digest[:SHORT_HASH], self._settings.file
        )

    # -- calls -----------------------------------------------------------------------------------

    def refusal(self, server: str, tool: str) -> str | None:
        """Why the tool may not be called; None if it may. The tool is meant by the server's own name."""
        if not self._holds:
            return None
        seen = self._seen.get(server)
        refusal = seen.refusals.get(tool, UNREVIEWED) if seen else UNREVIEWED
        return refusal if refusal is not UNREVIEWED or self._settings.holds(server) else None

    async def refresh(self) -> bool:
        """Read the file if somebody changed it, and write what is new; to be called every few seconds and at the end.

        Returns:
            Whether pins changed, so that lists must be reviewed again.
        """
        return await self._store.refresh()


def accept_command(server: str, tool: str, digest: str, file: str) -> str:
    """The command that accepts a definition."""
    return shlex.join(["mcp-gateway", "pins", "accept", server, tool, digest, "--file", file])


def _offered(tools: list[Json], refusals: Mapping[str, str | None]) -> list[Json]:
    return [tool for tool in tools if refusals.get(tool.get("name", ""), UNREVIEWED) is None]


def _refusal(change: Change) -> str:
    what = "its definition changed" if change.kind == "changed" else "it is new"
    # The command is for the operator, who finds it in the log: clients need not know where files are.
    return f"{what} and waits to be accepted by the operator of the gateway (hash {change.hash[:SHORT_HASH]})"


def _encoded(server: str, tools: list[Json]) -> tuple[list[Json], bytes]:
    """The tools that can be written as JSON, and that; one nested without end must not take the others with it."""
    try:
        return tools, orjson.dumps(tools)
    except TypeError:
        written = [tool for tool in tools if _can_be_written(tool)]
        log.warning("tools nested too deep left out", extra={"server": server, "count": len(tools) - len(written)})
        return written, orjson.dumps(written)


def _can_be_written(tool: Json) -> bool:
    try:
        # As deep as it will be in a list.
        return bool(orjson.dumps([tool]))
    except TypeError:
        return False
