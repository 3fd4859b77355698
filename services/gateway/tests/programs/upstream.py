"""An MCP server of the official SDK, both eras: ``upstream.py PORT NAME``. What the tests call lies here.

``hold`` ends when the file named exists: tests decide the moment, no clock does.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver import Context

PORT, NAME = int(sys.argv[1]), sys.argv[2]

server = MCPServer(NAME)


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def whoami() -> str:
    """The process that answers."""
    return f"{NAME} {os.getpid()}"


@server.tool()
def secret_tool() -> str:
    """Nobody may call this through the gateway."""
    return "secret"


@server.tool()
async def steps(count: int, ctx: Context) -> str:
    """Report progress, then answer."""
    for step in range(1, count + 1):
        await ctx.report_progress(step, count, f"step {step}")
    return f"{count} steps"


@server.tool()
async def hold(started: str, release: str) -> str:
    """Say that the call has begun by a file, and end when another exists."""
    Path(started).touch()
    while not Path(release).exists():  # noqa: ASYNC110 - a file has no event to wait for
        await asyncio.sleep(0.01)
    return "released"


@server.prompt()
def greet(who: str) -> str:
    """Greet someone."""
    return f"Hello, {who}"


@server.resource("note://one")
def note() -> str:
    """A note."""
    return f"the note of {NAME}"


if __name__ == "__main__":
    uvicorn.run(server.streamable_http_app(), host="127.0.0.1", port=PORT, log_level="warning")
