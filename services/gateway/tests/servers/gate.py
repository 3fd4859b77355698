"""An MCP server whose calls end when the test says so: gate.py PORT NAME."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import uvicorn
from mcp.server.mcpserver import Context, MCPServer

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


@server.tool()
async def hold(directory: str, ctx: Context) -> str:
    """Report progress, leave ``started``, and end when there is ``release``; leave ``cancelled`` when cancelled."""
    place = Path(directory)
    await ctx.report_progress(1, 2, "holding")
    (place / "started").touch()
    try:
        while not (place / "release").exists():  # noqa: ASYNC110 - a file has no event to wait for
            await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        (place / "cancelled").touch()
        raise
    return "released"


uvicorn.run(server.streamable_http_app(), port=port, log_level="warning")
