"""The official clients with all that they can, through both kinds of endpoint, with servers of either era behind."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import yaml
from conformance import packages, suite
from conftest import MODERN, Running, free_port, wait_until

pytestmark = pytest.mark.integration
Start = Callable[..., Running]
CLIENTS = suite.HERE / "clients"
FIXTURES = suite.HERE / "fixtures"
# Features that a client of an era has; what an SDK itself cannot do is in UNABLE.
BOTH = [
    "session",
    "list_tools",
    "call",
    "error_result",
    "progress",
    "logging",
    "resources",
    "read",
    "read_unknown",
    "prompts",
    "completion",
    "sampling",
    "elicitation_form",
    "elicitation_url",
    "roots",
    "several_questions",
    "prompt_that_asks",
    "cancellation",
    "lists_changed",
    "resource_updated",
    "reconnect",
]
LEGACY = ("ping", "end")
PROGRAMS: dict[str, tuple[str, str]] = {
    "python2-modern": ("python2.py", MODERN),
    "python2-legacy": ("python2.py", "legacy"),
    "python1": ("python1.py", "legacy"),
    "typescript2-modern": ("typescript2.mjs", MODERN),
    "typescript2-legacy": ("typescript2.mjs", "legacy"),
    "typescript1": ("typescript1.mjs", "legacy"),
}
# What a client's SDK cannot do, with the reason.
UNABLE: dict[tuple[str, str], str] = {}


def cases() -> list[Any]:
    found = []
    for client, (_, mode) in PROGRAMS.items():
        for server in ("modern", "legacy"):
            for path in ("merged", "single"):
                for feature in (*BOTH, *(LEGACY if mode == "legacy" else ())):
                    reason = UNABLE.get((client, feature))
                    marks = [pytest.mark.xfail(strict=True, reason=reason)] if reason else []
                    found.append(pytest.param(client, server, path, feature, marks=marks))
    return found


@pytest.fixture(scope="module")
def fleet(launch: Start, tmp_path_factory: pytest.TempPathFactory) -> Running:
    """A gateway before a server of 2026-07-28 alone and one of 2025-11-25, which pages its lists."""
    modern, legacy, port = free_port(), free_port(), free_port()
    launch(sys.executable, str(FIXTURES / "modern.py"), str(modern), "modern", port=modern)
    program = [packages.node(), str(FIXTURES / "legacy.mjs"), str(legacy), str(packages.modules()), "7"]
    launch(*program, port=legacy)
    servers = [
        {"name": "modern", "url": f"http://127.0.0.1:{modern}/mcp"},
        {"name": "legacy", "url": f"http://127.0.0.1:{legacy}/mcp"},
    ]
    path = tmp_path_factory.mktemp("clients") / "gateway.yaml"
    path.write_text(yaml.safe_dump({"listen": {"port": port}, "servers": servers}))
    running = launch(sys.executable, "-m", "mcp_gateway", "serve", "--config", str(path), port=port)
    wait_until(lambda: httpx2.get(f"{running.url}/readyz").status_code == 200, "the gateway is ready")
    return running


@pytest.fixture(scope="module")
def outcomes(fleet: Running, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str, str], dict[str, str]]:
    """What each feature came to with a client, a server and a path; each program runs once."""

    @functools.cache
    def run(client: str, server: str, path: str) -> dict[str, str]:
        program, mode = PROGRAMS[client]
        merged = path == "merged"
        target = {
            "url": f"{fleet.url}/mcp" if merged else f"{fleet.url}/servers/{server}/mcp",
            "prefix": f"{server}__" if merged else "",
            "scheme": f"{server}+" if merged else "",
            "mode": mode,
            "directory": str(tmp_path_factory.mktemp("signs")),
            "modules": str(packages.modules()),
        }
        command = [packages.interpreter(program), str(CLIENTS / program), json.dumps(target)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
        try:
            return dict(json.loads(ended.stdout.splitlines()[-1]))
        except (ValueError, IndexError):
            pytest.fail(f"{program} ended with {ended.returncode}:\n{ended.stdout}\n{ended.stderr}")

    return run


@pytest.mark.parametrize(("client", "server", "path", "feature"), cases())
def test_feature(
    outcomes: Callable[[str, str, str], dict[str, str]], client: str, server: str, path: str, feature: str
) -> None:
    assert outcomes(client, server, path).get(feature, "not run") == "ok"
