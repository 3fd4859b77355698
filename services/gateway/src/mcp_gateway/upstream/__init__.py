"""Upstream MCP servers: ``server`` (a call's way), ``replicas``, ``admission``, and the two eras on the wire."""

from __future__ import annotations

from mcp_gateway.upstream.call import Call, Changed, Client
from mcp_gateway.upstream.server import Upstream

__all__ = ["Call", "Changed", "Client", "Upstream"]
