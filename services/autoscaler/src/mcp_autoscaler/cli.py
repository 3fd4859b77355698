"""``mcp-autoscaler run|check|proxy|status``."""

from __future__ import annotations

import argparse
import http.client
import json
import logging
import signal
import sys
import threading
from http.server import ThreadingHTTPServer
from typing import Any

from mcp_autoscaler import __version__, logs, report
from mcp_autoscaler.docker import Docker
from mcp_autoscaler.loop import Loop
from mcp_autoscaler.proxy import server as proxy
from mcp_autoscaler.report import Report
from mcp_autoscaler.settings import Settings, SettingsError, load
from mcp_autoscaler.web import Handler, make_server

PROXY_PORT = 2375
STATUS_SECONDS = 5.0

log = logging.getLogger("mcp_autoscaler")


def _told_to_stop() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *dummy: stop.set())
    return stop


def _served(host: str, port: int, handler: type[Handler]) -> ThreadingHTTPServer:
    """A server in a thread of its own.

    Raises:
        SystemExit: it cannot listen there; the message says why.
    """
    try:
        server = make_server(host, port, handler)
    except OSError as failure:
        sys.exit(f"mcp-autoscaler: cannot listen on {host}:{port}: {failure.strerror or failure}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def _run(settings: Settings) -> None:
    stop, told = _told_to_stop(), Report(settings.fleet)
    server = _served(settings.host, settings.port, report.handler(told))
    log.info("running", extra={"fleet": settings.fleet, "servers": sorted(settings.servers), "port": settings.port})
    Loop(settings, Docker(settings.docker), told).run(stop)
    server.shutdown()
    log.info("stopped")


def _proxy(host: str, port: int, socket_path: str, fleet: str) -> None:
    stop = _told_to_stop()
    server = _served(host, port, proxy.handler(socket_path, fleet))
    log.info("running", extra={"fleet": fleet, "port": port, "socket": socket_path})
    stop.wait()
    server.shutdown()
    log.info("stopped")


def table(status: dict[str, Any]) -> str:
    """The autoscaler's /status as people read it."""
    rows = [("server", "replicas", "ready", "bounds", "why")]
    for name, shown in sorted(status["servers"].items()):
        bounds = f"{shown['min']}-{shown['max']}"
        rows.append((name, str(shown["asked"]), str(shown["ready"]), bounds, f"{shown['reason']}: {shown['why']}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join([*(row[i].ljust(widths[i]) for i in range(4)), row[4]]) for row in rows]
    lines += [f"{source}: {state}" for source, state in status["sources"].items() if state != "ok"]
    lines += [
        f"{c['time']}  {c['server']}  {c['from']} -> {c['to']}  {c['reason']}: {c['why']}"
        + (f" (refused: {c['refused']})" if "refused" in c else "")
        for c in status["changes"]
    ]
    return "\n".join(lines)


def _status(port: int, as_json: bool) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=STATUS_SECONDS)
    try:
        connection.request("GET", "/status")
        value = json.loads(connection.getresponse().read())
        print(json.dumps(value, indent=2) if as_json else table(value))
    except (OSError, http.client.HTTPException, ValueError) as failure:
        print(f"no autoscaler answers on port {port}: {failure}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    return 0


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="mcp-autoscaler", description="Replicas as they are needed.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (("run", "run the autoscaler"), ("check", "check a configuration file")):
        commands.add_parser(name, help=text).add_argument("--config", required=True, help="JSON file")
    command = commands.add_parser("proxy", help="run the proxy to Docker")
    command.add_argument("--fleet", required=True, help="whose services may be scaled")
    command.add_argument("--socket", default="/var/run/docker.sock", help="of the engine")
    command.add_argument("--host", default="0.0.0.0")
    command.add_argument("--port", type=int, default=PROXY_PORT)
    command = commands.add_parser("status", help="what the autoscaler that runs here does")
    command.add_argument("--port", type=int, default=8090)
    command.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.command == "status":
        sys.exit(_status(arguments.port, arguments.json))
    logs.configure()
    if arguments.command == "proxy":
        _proxy(arguments.host, arguments.port, arguments.socket, arguments.fleet)
        return
    try:
        settings = load(arguments.config)
    except SettingsError as error:
        sys.exit("\n".join(["mcp-autoscaler: the configuration cannot be used:", *(f"  {e}" for e in error.errors)]))
    if arguments.command == "check":
        print(f"ok: {len(settings.servers)} servers")
        return
    _run(settings)
