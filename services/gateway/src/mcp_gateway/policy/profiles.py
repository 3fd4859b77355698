"""Client profiles: what a client sees and may do, worked out once per tool and then looked up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mcp_gateway.limits import Limits
from mcp_gateway.policy.patterns import Patterns
from mcp_gateway.principal import Principal

DEFAULT = "default"
_MAX_REMEMBERED = 16_384
_MAX_NAME = 256


@dataclass(frozen=True, slots=True)
class Decision:
    """What a profile says to a tool.

    Attributes:
        permitted: whether the client sees it and may call it: the same on ``tools/list`` and ``tools/call``.
        reason: why not, for the audit log; empty if permitted.
        scopes: where scopes alone are missing, all that the tool needs, for the challenge.
    """

    permitted: bool
    reason: str = ""
    scopes: tuple[str, ...] = ()


_PERMITTED = Decision(True)


@dataclass(frozen=True)
class ScopeRule:
    """Tools, by ``<server>__<tool>``, that need ``scopes``; of several rules that match, all count."""

    pattern: Patterns
    scopes: frozenset[str]


@dataclass(frozen=True)
class Profile:
    """What the clients of one profile may do. Tools go by their servers' own names, whatever they are renamed to.

    Attributes:
        servers: patterns of server names.
        tools: patterns of ``<server>__<tool>``.
        read_only: only tools whose definition has ``readOnlyHint: true``.
        scope_rules: OAuth scopes that tools need. API keys have none: what needs a scope is closed to them.
        renamed: (server, tool) to the name on ``/mcp``.
        descriptions: (server, tool) to the description shown instead of the server's.
        limits: of each client by itself.
        search: whether ``/mcp`` offers a tool that finds tools instead of all of them; None to leave it to the
            gateway's setting.
    """

    name: str = DEFAULT
    servers: Patterns = field(default_factory=Patterns)
    tools: Patterns = field(default_factory=Patterns)
    read_only: bool = False
    scope_rules: tuple[ScopeRule, ...] = ()
    renamed: Mapping[tuple[str, str], str] = field(default_factory=dict)
    descriptions: Mapping[tuple[str, str], str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    search: bool | None = None
    _statics: dict[tuple[str, str], tuple[Decision, frozenset[str]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _originals: dict[str, tuple[str, str]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._originals.update({new: old for old, new in self.renamed.items()})

    def sees_server(self, name: str) -> bool:
        """Whether the server exists for these clients, with its tools, prompts and resources."""
        return self.servers.permits(name)

    def decide(self, server: str, tool: str, annotations: Mapping[str, Any] | None, scopes: frozenset[str]) -> Decision:
        """Whether a client with ``scopes`` sees and may call ``tool``, whose definition has ``annotations``."""
        decision, needed = self._statics.get((server, tool)) or self._static(server, tool)
        if not decision.permitted:
            return decision
        if self.read_only and not (annotations and annotations.get("readOnlyHint") is True):
            return Decision(False, f"profile {self.name} is read-only, and the tool is not marked readOnlyHint")
        if needed and not needed <= scopes:
            missing = " ".join(sorted(needed - scopes))
            return Decision(False, f"profile {self.name} wants scopes that are missing: {missing}", _sorted(needed))
        return decision

    def permits(self, server: str, tool: str, annotations: Mapping[str, Any] | None, scopes: frozenset[str]) -> bool:
        """`decide` without the reason."""
        return self.decide(server, tool, annotations, scopes).permitted

    def rename(self, server: str, tool: str) -> str | None:
        """The tool's name on ``/mcp`` for these clients; None if it keeps the usual one."""
        return self.renamed.get((server, tool))

    def original(self, name: str) -> tuple[str, str] | None:
        """Server and tool that ``name`` was given to by `rename`."""
        return self._originals.get(name)

    def description(self, server: str, tool: str) -> str | None:
        """The description shown instead of the server's; None for the server's."""
        return self.descriptions.get((server, tool))

    def _static(self, server: str, tool: str) -> tuple[Decision, frozenset[str]]:
        """What depends on the names alone."""
        full, needed = f"{server}__{tool}", frozenset[str]()
        if not self.servers.permits(server):
            decision = Decision(False, f"profile {self.name} does not see server {server}")
        elif not self.tools.permits(full):
            decision = Decision(False, f"profile {self.name} does not allow this tool")
        else:
            decision = _PERMITTED
            needed = needed.union(*(rule.scopes for rule in self.scope_rules if rule.pattern.permits(full)))
        if len(full) <= _MAX_NAME:
            if len(self._statics) >= _MAX_REMEMBERED:
                self._statics.clear()
            self._statics[server, tool] = (decision, needed)
        return decision, needed


class Profiles:
    """All profiles, and whose is which."""

    def __init__(self, profiles: Iterable[Profile] = ()) -> None:
        self._by_name = {profile.name: profile for profile in profiles}
        self._default = self._by_name.setdefault(DEFAULT, Profile())
        self._by_name[""] = self._default
        # A name that no longer exists must not open what it closed.
        self._nothing = Profile(name="(unknown)", servers=Patterns(()), tools=Patterns(()))

    def of(self, principal: Principal) -> Profile:
        """The principal's profile; the default if it names none, and one that permits nothing if there is no
        profile of the name."""
        return self._by_name.get(principal.profile, self._nothing)

    def names(self) -> list[str]:
        """Names of the profiles, the default's included."""
        return sorted(name for name in self._by_name if name)

    def mistakes(self, used: Iterable[str], at: str = "auth") -> list[str]:
        """One line for each of the ``used`` profile names that there is none of; ``at`` is the key using them."""
        there = ", ".join(self.names())
        return [
            f"{at}: profile {name!r} does not exist; there are {there}"
            for name in sorted(set(used))
            if name not in self._by_name
        ]


def _sorted(scopes: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(scopes))
