"""Clients over streamable HTTP: one module per era, envelope in, envelope out."""

from __future__ import annotations

from mcp_gateway.downstream.legacy import Legacy
from mcp_gateway.downstream.modern import Modern, is_modern
from mcp_gateway.downstream.parking import Parking
from mcp_gateway.downstream.reply import Channel, Reply

__all__ = ["Channel", "Legacy", "Modern", "Parking", "Reply", "is_modern"]
