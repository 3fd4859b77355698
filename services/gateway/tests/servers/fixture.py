"""An MCP server made with the official SDK, both eras: fixture.py PORT NAME."""

import asyncio
import os
import sys

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.transport_security import TransportSecuritySettings

port, name = int(sys.argv[1]), sys.argv[2]
server = MCPServer(name)


@server.tool()
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


@server.tool()
def whoami() -> str:
    """Which process answers."""
    return str(os.getpid())


@server.tool()
async def slow(steps: int, ctx: Context, seconds: float = 0.2) -> str:
    """Report progress before each step."""
    for step in range(steps):
        await ctx.report_progress(step, steps, f"step {step}")
        await asyncio.sleep(seconds)
    return "done"


@server.tool()
def fail() -> str:
    """Always fail."""
    raise ValueError("as asked")


@server.tool(name="a_tool_whose_name_is_as_long_as_names_of_tools_may_be_by_the_spec")
def long_name() -> str:
    """Has a name of 64 characters."""
    return "long"


@server.prompt()
def greet(who: str) -> str:
    """Greet someone."""
    return f"hello {who}"


@server.resource("test://static")
def static() -> str:
    """A text."""
    return "static"


@server.resource("test://item/{key}")
def item(key: str) -> str:
    """A text by key."""
    return f"item {key}"


security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
uvicorn.run(server.streamable_http_app(transport_security=security), port=port, log_level="warning")
