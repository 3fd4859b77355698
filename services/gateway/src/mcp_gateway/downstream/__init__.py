"""Clients over streamable HTTP: one module per era, envelope in, envelope out."""

from __future__ import annotations

from mcp_gateway.downstream.legacy import Legacy
from mcp_gateway.downstream.modern import Modern, is_modern
from mcp_gateway.downstream.reply import Reply

__all__ = ["Legacy", "Modern", "Reply", "is_modern"]
