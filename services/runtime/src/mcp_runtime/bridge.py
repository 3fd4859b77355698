"""A stdio server behind streamable HTTP, spoken in both protocol eras.

fastmcp's proxy keeps one child for all clients and starts it again when it dies. ``mode="auto"`` is
essential: without it the proxy mirrors each caller's era and restarts the child at every change.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping

import anyio
import fastmcp
from fastmcp.client.transports import StdioTransport
from fastmcp.server import create_proxy
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from mcp_runtime.logs import StderrPump
from mcp_runtime.spec import Spec, SpecError

READY_CACHE_SECONDS = 2.0
READY_TIMEOUT_SECONDS = 8.0
# A server that ended this often before it was ever ready will not start by itself.
FIRST_STARTS = 3


class NeverReady(Exception):
    """The server ends each time it is started; the message holds its last words."""


def child_lives(parent: int | None = None) -> bool:
    """Whether a process (ours by default) has a child that is no zombie, as the kernel tells it."""
    parent = parent or os.getpid()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as handle:
                # The second field is the name in brackets and may hold anything, brackets and blanks too.
                state, ppid = handle.read().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):  # gone in the meantime
            continue
        if int(ppid) == parent and state not in "ZX":
            return True
    return False


def serve(spec: Spec, env: Mapping[str, str]) -> int:
    """Bridge until SIGTERM; returns an exit code, 1 where the server never came up.

    ``GET /ready`` answers 200 when the child lists at least one tool, else 503 with the reason; it asks
    through the proxy itself, since a second client on the same transport would restart the child.
    ``GET /alive`` answers 200 while the child's process lives and asks as ``/ready`` does where it does not,
    which is also what starts it again.

    Raises:
        SpecError: the command does not exist in this image.
    """
    if shutil.which(spec.command[0], path=env.get("PATH")) is None:
        raise SpecError(f"command {spec.command[0]!r} is not in this image; PATH={env.get('PATH')}")
    stderr = StderrPump()
    transport = StdioTransport(
        spec.command[0], list(spec.command[1:]), env=dict(env), keep_alive=True, log_file=stderr.child_end
    )
    proxy = create_proxy(transport, mode="auto", name=spec.name)
    asking = anyio.Lock()
    last: tuple[float, str] = (-READY_CACHE_SECONDS, "not probed yet")

    async def problem() -> str:
        """Why the child is not ready, empty when it is; the answer is kept for a moment."""
        nonlocal last
        async with asking:
            if time.monotonic() - last[0] > READY_CACHE_SECONDS:
                found = await _problem(proxy)
                if found and not child_lives() and stderr.last_words:
                    found += f"; it ended, its last words: {stderr.last_words}"
                last = (time.monotonic(), found)
        return last[1]

    async def ready(_: Request) -> PlainTextResponse:
        found = await problem()
        return PlainTextResponse(found or "ready", status_code=503 if found else 200)

    async def alive(request: Request) -> PlainTextResponse:
        return PlainTextResponse("alive") if child_lives() else await ready(request)

    async def start() -> None:
        """Start the child now, not at the first question; give up on one that only ever ends."""
        ends = 0
        while found := await problem():
            ends = 0 if child_lives() else ends + 1
            if ends >= FIRST_STARTS:
                raise NeverReady(found)
            await anyio.sleep(READY_CACHE_SECONDS)

    async def run() -> None:
        options = {"host": "0.0.0.0", "port": spec.port, "path": spec.path}
        async with anyio.create_task_group() as group:
            group.start_soon(start)
            await proxy.run_async(transport="http", show_banner=False, log_level="warning", **options)
            group.cancel_scope.cancel()

    proxy.custom_route("/ready", methods=["GET"])(ready)
    proxy.custom_route("/alive", methods=["GET"])(alive)
    given_up = ""
    try:
        anyio.run(run)
    except* NeverReady as failures:
        given_up = str(failures.exceptions[0])
        print(f"mcp-runtime: {given_up}", file=sys.stderr)
    except* SystemExit:
        pass  # uvicorn raises a signal again once it has shut down, and run.py takes SIGTERM for an orderly end
    return 1 if given_up else 0


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
