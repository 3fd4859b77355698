"""The gateway before all the faults, each at a server of its own; what was seen is printed at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import TESTS, Running, free_port, wait_until

from faults.rig import HTTP, Probe, Rig, launch_sites

ROWS: dict[str, list[tuple[str, str, str]]] = {}
Start = Callable[..., Rig]


def serve(
    launch: Callable[..., Running],
    directory: Path,
    servers: list[dict[str, Any]],
    *,
    wait: tuple[str, ...] = (),
    **config: Any,
) -> Running:
    """A gateway before ``servers``, ready; or as soon as it knows those of ``wait``."""
    port = free_port()
    path = directory / f"gateway-{port}.json"
    path.write_text(json.dumps({"listen": {"port": port}, "servers": servers, **config}))
    gateway = launch(sys.executable, "-m", "mcp_gateway", "serve", "--config", str(path), port=port)

    def knows() -> bool:
        if not wait:
            return bool(HTTP.get(f"{gateway.url}/readyz").status_code == 200)
        servers = HTTP.get(f"{gateway.url}/status").json()["servers"]
        return {server["name"] for server in servers if server["era"]} >= set(wait)

    wait_until(knows, "the gateway is ready", 60)
    return gateway


@pytest.fixture(scope="session")
def rig(launch: Callable[..., Running], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts misbehaving sites, good ones in a process of their own, a gateway before all, and a probe."""
    started: list[Rig] = []

    def start(sites: list[dict[str, Any]], settings: dict[str, dict[str, Any]], wait: tuple[str, ...] = ()) -> Rig:
        directory = tmp_path_factory.mktemp("rig")
        bad, reports = launch_sites(launch, directory, TESTS, free_port(), sites)
        good_sites = [{"name": "good", "era": "modern"}, {"name": "good-old", "era": "legacy"}]
        _, good = launch_sites(launch, directory, TESTS, free_port(), good_sites)
        servers = [
            {"name": name, "url": f"http://127.0.0.1:{report['port']}/mcp", **settings.get(name, {})}
            for name, report in (good | reports).items()
        ]
        gateway = serve(launch, directory, servers, wait=wait)
        running = Rig(gateway, bad, Probe(gateway.url, ("good__look", "good-old__look")))
        started.append(running)
        running.probe.rounds(8)
        return running

    yield start
    for running in started:
        if running.probe:
            running.probe.stop()


@pytest.fixture(scope="session")
def seen() -> Callable[[str, str, str, str], None]:
    """Notes a row of the table that is printed at the end: table, fault, what the client saw, what it cost."""

    def note(table: str, fault: str, what: str, cost: str = "") -> None:
        ROWS.setdefault(table, []).append((fault, what, cost))

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for table, rows in ROWS.items():
        terminalreporter.write_sep("=", table)
        width = max(len(row[0]) for row in rows)
        for fault, what, cost in rows:
            terminalreporter.write_line(f"{fault:<{width}}  {cost:<16}  {what[:170]}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.integration)
