"""``mcp-gateway serve|check|board|hash-key|pins``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import getpass
import logging
import os
import signal
import sys
import time

import uvloop

from mcp_gateway import __version__, pinscli
from mcp_gateway.app import Gateway
from mcp_gateway.auth import digest
from mcp_gateway.board import service as board
from mcp_gateway.config import Config, load
from mcp_gateway.logs import JsonFormatter
from mcp_gateway.reader import ConfigError

log = logging.getLogger("mcp_gateway")


WATCH_SECONDS = 1.0
# Whoever balances load hears within this time that the gateway is about to end: by /readyz, or by a name that does not
# lead here any more. Until then a request may be on its way on any open connection; closing that would lose it.
LINGER_SECONDS = 2.0


async def _serve(config: Config, path: str) -> None:
    """Serve until a signal, then drain.

    From the first signal on /readyz says 503 and each answer asks its client to close the connection. The end waits
    for the calls in flight, and some time for open connections; new ones are accepted meanwhile. A second signal ends
    it at once.
    """
    gateway = Gateway(config)
    await gateway.start()
    await gateway.http.listen(config.host, config.port)
    # What is there now stays; looking through it again and again would hold calls up.
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 20, 100)
    log.info("serving", extra={"servers": [server.name for server in config.servers], "port": config.port})
    asked, hurried = asyncio.Event(), asyncio.Event()

    def ask() -> None:
        (hurried if asked.is_set() else asked).set()

    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, ask)
    loop.add_signal_handler(signal.SIGHUP, gateway.reopen)
    reloading = asyncio.ensure_future(_follow(gateway, path))
    await asked.wait()
    reloading.cancel()
    gateway.drain()
    start, seconds = time.monotonic(), gateway.config.drain_seconds
    while (waited := time.monotonic() - start) < seconds and not hurried.is_set():
        if not gateway.inflight and (waited > LINGER_SECONDS or not gateway.http.connections):
            break
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(hurried.wait(), 0.05)
    await gateway.stop()


async def _follow(gateway: Gateway, path: str) -> None:
    """Read the configuration file again when it changed; one with mistakes changes nothing, and says so."""
    seen = _stamp(path)
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        if (now := _stamp(path)) == seen:
            continue
        seen = now
        try:
            config = await asyncio.to_thread(load, path)
            fixed = [
                f"{key}: needs a restart"
                for key in ("host", "port", "session_keys", "session_ttl_seconds", "tracing", "peers", "board")
                if getattr(config, key) != getattr(gateway.config, key)
            ]
            if fixed:
                raise ConfigError(fixed)
            gateway.update(config)
        except ConfigError as refusal:
            gateway.metrics.reloads.labels("refused").inc()
            log.error("configuration refused; the one before goes on", extra={"file": path, "errors": refusal.errors})
            continue
        except Exception:  # whatever it is, the next file may be good
            gateway.metrics.reloads.labels("refused").inc()
            log.exception("the configuration could not be read or applied", extra={"file": path})
            continue
        gateway.metrics.reloads.labels("applied").inc()


def _stamp(path: str) -> tuple[int, int, int] | None:
    """What tells two states of a file apart: a changed file, or another in its place."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def serve(config: Config, path: str) -> int:
    """Run until SIGTERM or SIGINT; returns 0 after a graceful end."""
    if config.auth.open:
        log.warning("no auth.api_keys: anyone who reaches %s:%s may call every tool", config.host, config.port)
    try:
        uvloop.run(_serve(config, path))
    except ConfigError as refusal:
        log.error("the configuration cannot be used", extra={"errors": refusal.errors})
        return 1
    except OSError as failure:
        log.error("cannot listen on %s:%s: %s", config.host, config.port, failure.strerror or failure)
        return 1
    log.info("stopped")
    return 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="mcp-gateway", description="One MCP endpoint for many servers.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("serve", "run the gateway"), ("check", "check a configuration file")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--config", required=True, help="YAML or JSON file")
    command = commands.add_parser(
        "board", help="tell the gateway's replicas what they must all know; see docs/board.md"
    )
    command.add_argument("--file", required=True, help="the document")
    command.add_argument("--key-file", required=True, action="append", help="sessions.key_files of the gateway")
    command.add_argument("--port", type=int, default=8080)
    commands.add_parser("hash-key", help="read an API key and print its sha256 for the configuration")
    commands.add_parser("pins", help="the pinned tool definitions: list, diff, accept, write", add_help=False)
    arguments, rest = parser.parse_known_args()
    if arguments.command == "pins":
        sys.exit(pinscli.main(rest))
    if rest:
        parser.error(f"unknown arguments: {' '.join(rest)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    if arguments.command == "hash-key":
        print(digest(getpass.getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline().strip()))
        return
    if arguments.command == "board":
        sys.exit(board.serve(arguments.file, arguments.key_file, arguments.port) or 0)
    try:
        config = load(arguments.config)
    except ConfigError as error:
        sys.exit("\n".join(["mcp-gateway: the configuration cannot be used:", *(f"  {line}" for line in error.errors)]))
    if arguments.command == "check":
        print(f"ok: {len(config.servers)} servers")
        return
    sys.exit(serve(config, arguments.config))
