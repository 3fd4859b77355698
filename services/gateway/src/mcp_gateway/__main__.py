"""``python -m mcp_gateway``: the command line where its script is not installed."""

from __future__ import annotations

from mcp_gateway.cli import main

main()
