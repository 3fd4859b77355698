"""A stdio server behind streamable HTTP, spoken in both protocol eras.

fastmcp's proxy keeps one child for all clients and starts it again when it dies. ``mode="auto"`` is
essential: without it the proxy mirrors each caller's era and restarts the child at every change.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping

os.environ.setdefault("FASTMCP_CHECK_FOR_UPDATES", "off")
os.environ.setdefault("FASTMCP_SHOW_SERVER_BANNER", "false")

import anyio  # noqa: E402  (fastmcp reads its settings on import)
import fastmcp  # noqa: E402
from fastmcp.client.transports import StdioTransport  # noqa: E402
from fastmcp.server import create_proxy  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import PlainTextResponse  # noqa: E402

from mcp_runtime.spec import Spec, SpecError  # noqa: E402

READY_CACHE_SECONDS = 2.0
READY_TIMEOUT_SECONDS = 8.0


def serve(spec: Spec, env: Mapping[str, str]) -> int:
    """Bridge until SIGTERM; returns 0.

    ``GET /ready`` answers 200 when the child lists at least one tool, else 503 with the reason. It asks
    through the proxy itself: a second client on the same transport would restart the child.

    Raises:
        SpecError: the command does not exist in this image.
    """
    if shutil.which(spec.command[0], path=env.get("PATH")) is None:
        raise SpecError(f"command {spec.command[0]!r} is not in this image; PATH={env.get('PATH')}")
    transport = StdioTransport(spec.command[0], list(spec.command[1:]), env=dict(env), keep_alive=True)
    proxy = create_proxy(transport, mode="auto", name=spec.name)
    last: tuple[float, str] = (-READY_CACHE_SECONDS, "not probed yet")

    async def ready(_: Request) -> PlainTextResponse:
        nonlocal last
        if time.monotonic() - last[0] > READY_CACHE_SECONDS:
            last = (time.monotonic(), await _problem(proxy))
        return PlainTextResponse(last[1] or "ready", status_code=503 if last[1] else 200)

    proxy.custom_route("/ready", methods=["GET"])(ready)
    proxy.run(
        transport="http",
        host="0.0.0.0",
        port=spec.port,
        path=spec.path,
        show_banner=False,
        log_level="warning",
    )
    return 0


async def _problem(proxy: fastmcp.FastMCP) -> str:
    """Why the child is not ready; empty when it is."""
    try:
        with anyio.fail_after(READY_TIMEOUT_SECONDS):
            async with fastmcp.Client(proxy) as client:
                tools = await client.list_tools()
    except TimeoutError:
        return f"the stdio server did not list its tools within {READY_TIMEOUT_SECONDS:.0f} s"
    except Exception as error:
        # Whatever the child or the client library raises means the same thing here: not ready.
        return f"the stdio server cannot list its tools: {type(error).__name__}: {error}"[:500]
    return "" if tools else "the stdio server lists no tools"
