"""A tool whose calls end when the test says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

from mcp.server.mcpserver import Context


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
