"""This repository's gateway, configured as it would be used: keys, policy, admission, metrics and audit log on."""

from __future__ import annotations

import hashlib
import http.client
import json
import platform
import sys
import sysconfig
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.lab import CACHE, GATEWAY, Candidate, Lab
from bench.messages import LEGACY, MODERN, Endpoint
from bench.process import Process, Unavailable, free_port
from bench.shipped import Python, shipped

KEY = "bench-key-" + "0" * 22
READY_SECONDS = 60.0
# Paths of the upstream by what it speaks there.
SPEAKS = {MODERN: "modern", LEGACY: "legacy"}


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    process: Process

    def endpoint(self, era: str, path: str = "/mcp") -> Endpoint:
        """The endpoint, asked in the words of an era."""
        return Endpoint(self.process.port, path, era, {"authorization": f"Bearer {KEY}"})


def interpreter() -> Python:
    """The Python that the gateway's image ships; the one that runs this, where that cannot be had."""
    try:
        return shipped()
    except Unavailable as failure:
        name = f"Python {platform.python_version()}{unoptimised()}, for the image's cannot be had: {failure}"
        folder = CACHE / "run"
        return Python((sys.executable,), folder, folder, str(GATEWAY / "src"), name)


def unoptimised() -> str:
    """A remark on an interpreter that takes more time than it could."""
    return "" if "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS")) else " built without PGO"


def server(name: str, url: str, **options: Any) -> dict[str, Any]:
    """The configuration of one server."""
    tools = {"allow": ["echo", "large", "events", "drip", "drip_events", "tool_*"], "deny": ["*_forbidden"]}
    return {"name": name, "url": url, "concurrency": 256, "tools": tools, **options}


def start(lab: Lab, name: str, servers: list[dict[str, Any]], options: Mapping[str, Any] | None = None) -> Gateway:
    """Start a gateway and wait until it knows its servers.

    Raises:
        Unavailable: it does not become ready.
    """
    port = free_port()
    python = interpreter()
    keys = [{"name": "bench", "profile": "bench", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]
    secret = python.file(f"{name}.session-key", "0123456789abcdef0123456789abcdef")
    config = {
        "listen": {"port": port},
        "auth": {"api_keys": keys},
        "profiles": {"bench": {"tools": {"allow": ["*__*"], "deny": ["*__debug_*"]}}},
        "sessions": {"key_files": [secret]},
        "servers": servers,
        **(options or {}),
    }
    file = python.file(f"{name}.json", json.dumps(config))
    command = [*python.command, "-m", "mcp_gateway", "serve", "--config", file]
    process = lab.start(name, command, port, {"PYTHONPATH": python.path})
    deadline = time.monotonic() + READY_SECONDS
    while (status := _status(port, "/readyz")) != 200:
        if time.monotonic() > deadline:
            raise Unavailable(f"/readyz says {status}: {process.last_words()}")
        time.sleep(0.1)
    return Gateway(process)


def _status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def candidate(lab: Lab, client: str, speaks: str, connections: int = 16) -> Candidate:
    """Calls in one era to a server of another, or the same, through a gateway of its own; by ``/mcp``."""
    url = f"http://127.0.0.1:{lab.upstream.port}/{SPEAKS[speaks]}/canned/mcp"
    name = f"mcp-gateway: client {client}, server {speaks}"
    gateway = start(lab, f"ours-{client}-{speaks}", [server("canned", url)])
    return Candidate(name, gateway.process, gateway.process.port, calls(gateway, client, connections))


def calls(gateway: Gateway, era: str, connections: int = 16, tool: str = "canned__echo") -> list[bytes]:
    """Calls to a tool: each connection has a session of its own where the era has sessions."""
    endpoint = gateway.endpoint(era)
    if era == MODERN:
        return [endpoint.call(tool)]
    return [endpoint.call(tool, endpoint.open_session()) for _ in range(connections)]


def floor(lab: Lab) -> Candidate:
    """What a data path in Python costs at the least (``peers/floor.py``)."""
    port = free_port()
    url = f"http://127.0.0.1:{lab.upstream.port}/modern/canned/mcp"
    program = str(Path(__file__).with_name("peers") / "floor.py")
    python = interpreter()
    program = python.file("floor.py", Path(program).read_text("utf-8"))
    process = lab.start("floor", [*python.command, program, url, KEY, str(port)], port, {"PYTHONPATH": python.path})
    call = Endpoint(port, "/mcp", MODERN, {"authorization": f"Bearer {KEY}"}).call("canned__echo")
    return Candidate("the least that Python can do (`floor.py`)", process, port, [call])
