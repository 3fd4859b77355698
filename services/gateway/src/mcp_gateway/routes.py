"""What a call of a tool means for a client, worked out once: whose the tool is, and whether the client may call it.

Nothing of it can change without the catalogue's generation changing, or the configuration, with which views begin anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mcp_gateway.policy.profiles import Decision, Profile
from mcp_gateway.protocol import Json

if TYPE_CHECKING:
    from mcp_gateway.upstream.server import Upstream

MAX_ROUTES = 16_384
MAX_NAME = 256


@dataclass(slots=True, eq=False)
class Route:
    """The way of one tool's calls.

    Attributes:
        upstream: the tool's server.
        name: the server's own name for it.
        profile: the client's.
        decision: what the profile says to it.
        withheld: why it is not offered at all, for its definition changed; None if it is.
        schema: the input schema, where it asks for arguments in headers.
        safe: whether it may be called again although it may have run.
        direct: whether a call needs nothing but to be sent.
        metered: whether calls are counted against a rate.
    """

    upstream: Upstream
    name: str
    profile: Profile
    decision: Decision
    withheld: str | None
    schema: Json | None
    safe: bool
    direct: bool
    metered: bool


class Routes:
    """The ways known, by profile, scopes and the name that clients use."""

    __slots__ = ("_generation", "_known")

    def __init__(self) -> None:
        self._known: dict[tuple[str, frozenset[str], str], Route] = {}
        self._generation = -1

    def find(self, generation: int, profile: str, scopes: frozenset[str], name: str) -> Route | None:
        """The way, if it was worked out in this generation of the catalogue."""
        if generation != self._generation:
            self._known.clear()
            self._generation = generation
        return self._known.get((profile, scopes, name))

    def keep(self, generation: int, profile: str, scopes: frozenset[str], name: str, route: Route) -> None:
        """Remember it; names come from clients, so there is an end to that."""
        if generation == self._generation and len(name) <= MAX_NAME:
            if len(self._known) >= MAX_ROUTES:
                self._known.clear()
            self._known[(profile, scopes, name)] = route
