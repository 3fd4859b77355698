"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated client.

    Attributes:
        name: unique among principals; sessions, pools, limits and the audit log go by it.
        profile: name of the client profile in the configuration whose policy applies; empty for the default.
        scopes: OAuth scopes granted; empty for API keys.
    """

    name: str
    profile: str = ""
    scopes: frozenset[str] = frozenset()
