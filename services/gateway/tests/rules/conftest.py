"""A gateway before two scripted servers, one of each era; what a test scripted is forgotten with it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
import yaml
from conftest import Running, free_port, wait_until

from rules.clients import Client2025, Client2026
from rules.upstream import Server2025, Server2026, tool

Start = Callable[..., Running]
KEYS = ("first", "second")


@pytest.fixture(scope="session")
def start(launch: Start, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts a gateway with servers and settings, and waits until it is ready."""

    def run(servers: list[dict[str, Any]], *, ready: bool = True, **settings: Any) -> Running:
        port, path = free_port(), tmp_path_factory.mktemp("gateway") / "gateway.yaml"
        path.write_text(yaml.safe_dump({"listen": {"port": port}, "servers": servers, **settings}))
        running = launch(sys.executable, "-m", "mcp_gateway", "serve", "--config", str(path), port=port)
        if ready:
            wait_until(lambda: httpx2.get(f"{running.url}/readyz").status_code == 200, "the gateway is ready")
        return running

    return run


@pytest.fixture(scope="session")
def keys() -> dict[str, Any]:
    """Configuration of the keys ``first`` and ``second``."""
    digests = [{"name": key, "sha256": hashlib.sha256(key.encode()).hexdigest()} for key in KEYS]
    return {"api_keys": digests}


@pytest.fixture(scope="session")
def pair() -> Iterator[tuple[Server2026, Server2025]]:
    """The two servers of the shared gateway."""
    new, old = Server2026(), Server2025()
    for server in (new, old):
        region = {"type": "string", "x-mcp-header": "Region"}
        count = {"type": "integer", "x-mcp-header": "Count"}
        server.tools = [tool(name, text={"type": "string"}) for name in ("echo", "long", "asks", "denied")]
        server.tools.append(tool("mirrored", region=region, count=count))
        server.tools.append(tool("broken", region={**region, "x-mcp-header": "not a token"}))
    yield new, old
    new.stop()
    old.stop()


@pytest.fixture(scope="session")
def shared(start: Start, pair: tuple[Server2026, Server2025], keys: dict[str, Any]) -> Running:
    """One gateway for the tests that do not change it."""
    tools = {"deny": ["denied"]}
    return start(
        [
            {"name": "new", "url": pair[0].url, "tools": tools},
            {"name": "old", "url": pair[1].url, "tools": tools},
            {"name": "sticky", "url": pair[1].url, "sessions": "sticky"},
        ],
        auth=keys,
    )


@pytest.fixture
def new(pair: tuple[Server2026, Server2025], shared: Running) -> Iterator[Server2026]:
    """The server of 2026-07-28 behind ``shared``."""
    pair[0].forget()
    yield pair[0]
    pair[0].forget()


@pytest.fixture
def old(pair: tuple[Server2026, Server2025], shared: Running) -> Iterator[Server2025]:
    """The server of 2025-11-25 behind ``shared``."""
    pair[1].forget()
    yield pair[1]
    pair[1].forget()


Connect = Callable[..., Any]


@pytest.fixture
def modern(shared: Running) -> Connect:
    """A client of 2026-07-28: ``modern("new")`` for one server, ``modern()`` for all."""

    def connect(server: str = "", key: str = "first") -> Client2026:
        return Client2026(shared.url, f"/servers/{server}/mcp" if server else "/mcp", key)

    return connect


@pytest.fixture
def legacy(shared: Running) -> Connect:
    """A client of 2025-11-25 with a session, likewise."""

    def connect(server: str = "", key: str = "first", **options: Any) -> Client2025:
        return Client2025(shared.url, f"/servers/{server}/mcp" if server else "/mcp", key, **options)

    return connect
