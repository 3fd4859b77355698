"""Real servers, real clients, the gateway as its own process; everything on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

TESTS = Path(__file__).resolve().parent
NODE = TESTS.parents[2] / ".cache" / "gateway-node"
PACKAGES = {"@modelcontextprotocol/server-everything": "2026.8.31", "@modelcontextprotocol/sdk": "1.32.2"}
BIN = Path(sys.executable).parent
MODERN = "2026-07-28"
LEGACY = "2025-11-25"


# Where outgoing connections take their ports from: one of those may be taken between being found free and being used.
_FIRST_OUTGOING = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text("ascii").split()[0])
_chance = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """A port of loopback that nobody listens on and that no outgoing connection takes; never the same one twice."""
    while True:
        port = _chance.randrange(10_000, max(20_000, _FIRST_OUTGOING))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    """The first true value of ``condition``; fails the test after ``seconds``."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, httpx2.HTTPError):
            if value := condition():
                return value
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {seconds} s")
        time.sleep(0.05)


@dataclass
class Running:
    """A process that listens on ``port``."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self, sig: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(sig)
        return self.process.wait(40)


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    """Starts a process and waits until it listens; all are ended with the session."""
    started: list[Running] = []

    def run(*command: str, port: int, env: dict[str, str] | None = None) -> Running:
        log = tmp_path_factory.mktemp("process") / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **(env or {})})
        running = Running(process, port, log)
        started.append(running)

        def listens() -> bool:
            if process.poll() is not None:
                pytest.fail(f"{command[0]} ended with {process.returncode}:\n{log.read_text()}")
            with socket.create_connection(("127.0.0.1", port), 1):
                return True

        wait_until(listens, f"{command} listens")
        return running

    yield run
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


@pytest.fixture(scope="session")
def fixture_server(launch: Callable[..., Running]) -> Callable[..., Running]:
    """Starts tests/servers/fixture.py: the official SDK's server, both eras."""

    def start(port: int | None = None, name: str = "fixture") -> Running:
        port = port or free_port()
        return launch(sys.executable, str(TESTS / "servers" / "fixture.py"), str(port), name, port=port)

    return start


@pytest.fixture(scope="session")
def gate_server(launch: Callable[..., Running]) -> Callable[..., Running]:
    """Starts tests/servers/gate.py, whose calls end when the test says so."""

    def start() -> Running:
        port = free_port()
        return launch(sys.executable, str(TESTS / "servers" / "gate.py"), str(port), "gate", port=port)

    return start


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The npm packages that tests use, installed once."""
    manifest = json.dumps({"private": True, "type": "module", "dependencies": PACKAGES})
    there = NODE / "package.json"
    if not there.is_file() or there.read_text() != manifest or not (NODE / "node_modules").is_dir():
        if not shutil.which("npm"):
            pytest.fail("npm is not installed; these tests need it (apt-get install npm)")
        NODE.mkdir(parents=True, exist_ok=True)
        there.write_text(manifest)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=NODE, check=True)
    return NODE / "node_modules"


@pytest.fixture(scope="session")
def everything(launch: Callable[..., Running], node_modules: Path) -> Running:
    """The reference server: 2025 only, with sessions."""
    port = free_port()
    program = node_modules / ".bin" / "mcp-server-everything"
    return launch(str(program), "streamableHttp", port=port, env={"PORT": str(port)})


@pytest.fixture
def gateway(launch: Callable[..., Running], tmp_path: Path) -> Callable[..., Running]:
    """Starts ``mcp-gateway serve`` with the given configuration and waits until it is ready."""

    def start(servers: list[dict[str, Any]], *, ready: bool = True, **settings: Any) -> Running:
        port = free_port()
        path = tmp_path / f"gateway-{port}.yaml"
        path.write_text(yaml.safe_dump({"listen": {"port": port}, "servers": servers, **settings}))
        running = launch(str(BIN / "mcp-gateway"), "serve", "--config", str(path), port=port)
        if ready:
            wait_until(lambda: httpx2.get(f"{running.url}/readyz").status_code == 200, "the gateway is ready")
        return running

    return start


class Modern:
    """A bare client of 2026-07-28: sends exactly what it is told to."""

    def __init__(self, url: str, **headers: str) -> None:
        self.http = httpx2.Client(base_url=url, headers=headers, timeout=20)

    def post(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        headers: dict[str, str | None] | None = None,
        meta: dict[str, Any] | None = None,
        path: str = "/mcp",
    ) -> httpx2.Response:
        envelope = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {**(params or {}), "_meta": envelope if meta is None else meta}
        sent: dict[str, str | None] = {
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": method,
        }
        for key in ("name", "uri"):
            if isinstance(params.get(key), str) and method in ("tools/call", "prompts/get", "resources/read"):
                sent["Mcp-Name"] = params[key]
        sent |= headers or {}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self.http.post(path, json=body, headers={k: v for k, v in sent.items() if v is not None})

    def call(self, tool: str, arguments: dict[str, Any], **options: Any) -> dict[str, Any]:
        answer = self.post("tools/call", {"name": tool, "arguments": arguments}, **options)
        return message_of(answer)


def message_of(answer: httpx2.Response) -> dict[str, Any]:
    """The JSON-RPC response in an HTTP answer, JSON or event stream."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        lines = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        return dict(json.loads(lines[-1]))
    return dict(answer.json())
