"""An MCP server whose calls end when the test says so: gate.py PORT NAME."""

from __future__ import annotations

import os
import sys

import uvicorn
from holding import hold
from mcp.server.mcpserver import MCPServer

port, name = int(sys.argv[1]), sys.argv[2]
server = MCPServer(name)


@server.tool()
def whoami() -> str:
    """Which process answers."""
    return str(os.getpid())


@server.tool()
def hidden() -> str:
    """For tests of the policy."""
    return "hidden"


server.add_tool(hold)
uvicorn.run(server.streamable_http_app(), port=port, log_level="warning")
