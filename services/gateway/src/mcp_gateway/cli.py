"""``mcp-gateway serve|check|hash-key``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import getpass
import logging
import signal
import sys
import time
from types import FrameType

import uvicorn

from mcp_gateway import __version__
from mcp_gateway.app import Gateway
from mcp_gateway.auth import digest
from mcp_gateway.config import Config, load
from mcp_gateway.logs import JsonFormatter
from mcp_gateway.reader import ConfigError

log = logging.getLogger("mcp_gateway")


class _Server(uvicorn.Server):
    """uvicorn that drains: from the first signal on /readyz says 503, and the end waits for the calls in flight.

    It keeps accepting meanwhile, so that whoever balances load can see the 503 and nobody meets a closed
    port before it has. A second signal ends it at once.
    """

    def __init__(self, gateway: Gateway, config: uvicorn.Config, drain_seconds: float) -> None:
        super().__init__(config)
        self._gateway = gateway
        self._drain_seconds = drain_seconds
        self._deadline = 0.0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self._gateway.draining:
            super().handle_exit(sig, frame)
            return
        self._deadline = time.monotonic() + self._drain_seconds
        self._gateway.draining = True

    async def on_tick(self, counter: int) -> bool:
        if self._gateway.draining and (not self._gateway.inflight or time.monotonic() > self._deadline):
            self.should_exit = True
        return await super().on_tick(counter)


def serve(config: Config) -> int:
    """Run until SIGTERM or SIGINT; returns 0 after a graceful end."""
    gateway = Gateway(config)
    options = uvicorn.Config(
        gateway,
        host=config.host,
        port=config.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1,  # drained already; what is left did not end in time
    )
    if not config.api_keys:
        log.warning("no auth.api_keys: anyone who reaches %s:%s may call every tool", config.host, config.port)
    log.info("serving", extra={"servers": [server.name for server in config.servers], "port": config.port})
    with contextlib.suppress(KeyboardInterrupt):
        # uvicorn raises the signal again once it has ended; for us a signal is a request, not a failure.
        for sig in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sig, signal.SIG_IGN)
        with asyncio.Runner(loop_factory=options.get_loop_factory()) as runner:
            runner.run(_Server(gateway, options, config.drain_seconds).serve())
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
    commands.add_parser("hash-key", help="read an API key and print its sha256 for the configuration")
    arguments = parser.parse_args()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    if arguments.command == "hash-key":
        print(digest(getpass.getpass("API key: ") if sys.stdin.isatty() else sys.stdin.readline().strip()))
        return
    try:
        config = load(arguments.config)
    except ConfigError as error:
        sys.exit("\n".join(["mcp-gateway: the configuration cannot be used:", *(f"  {line}" for line in error.errors)]))
    if arguments.command == "check":
        print(f"ok: {len(config.servers)} servers")
        return
    sys.exit(serve(config))
