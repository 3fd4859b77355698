"""Who may do what: shell patterns per server, and client profiles, on list and call alike."""

from __future__ import annotations

from mcp_gateway.policy.patterns import Patterns, ToolPolicy
from mcp_gateway.policy.profiles import DEFAULT, Decision, Profile, Profiles
from mcp_gateway.policy.read import read

__all__ = ["DEFAULT", "Decision", "Patterns", "Profile", "Profiles", "ToolPolicy", "read"]
