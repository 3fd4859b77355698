"""FastMCP's proxy; runs in an environment that has fastmcp. Usage: fastmcp_proxy.py URL PORT kept|fresh

``fresh`` is the proxy as it comes (a client per call), ``kept`` one client that stays connected.
"""

from __future__ import annotations

import asyncio
import sys

from fastmcp import Client
from fastmcp.server import create_proxy


async def main(url: str, port: int, kind: str) -> None:
    """Serve for ever."""
    options = {"transport": "http", "host": "127.0.0.1", "port": port, "stateless_http": True, "show_banner": False}
    options |= {"log_level": "warning"}
    if kind == "fresh":
        await create_proxy(url).run_async(**options)
        return
    async with Client(url) as client:
        await create_proxy(client).run_async(**options)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
