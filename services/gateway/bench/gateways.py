"""MCP gateways of the package registries, with the least that each needs to forward a call to the same upstream."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bench.install import node_tool, python_tool
from bench.lab import CACHE, Candidate, Lab
from bench.messages import LEGACY, TEXT, Endpoint
from bench.process import Process, Unavailable, free_port

FASTMCP = "4.1.2"
AUTHMCP = "1.2.74"
CONTEXTFORGE = "1.1.0"
MCP_HUB = "4.2.1"
SETTLE_SECONDS = 30.0
SECRET = "bench-" + "0123456789abcdef" * 3
PEERS = Path(__file__).with_name("peers")


def fastmcp(lab: Lab, kind: str) -> Candidate:
    """FastMCP's proxy, without authentication."""
    tool = python_tool("fastmcp", FASTMCP)
    port = free_port()
    url = f"http://127.0.0.1:{lab.upstream.port}/legacy/canned/mcp"
    command = [str(tool / "python"), str(PEERS / "fastmcp_proxy.py"), url, str(port), kind]
    process = lab.start(f"fastmcp-{kind}", command, port)
    how = "one kept client" if kind == "kept" else "as it comes"
    return _legacy(f"FastMCP {FASTMCP} proxy, {how}", process, Endpoint(port, "/mcp", LEGACY), "echo")


def mcp_hub(lab: Lab) -> Candidate:
    """mcp-hub. Its MCP endpoint answers on a stream apart, so this is its REST call of a tool, which costs it less."""
    folder = node_tool("mcp-hub", MCP_HUB)
    url = f"http://127.0.0.1:{lab.upstream.port}/legacy/canned/mcp"
    file = lab.write("mcp-hub.json", json.dumps({"mcpServers": {"canned": {"url": url}}}))
    port = free_port()
    command = ["node", str(folder / "dist" / "cli.js"), "--port", str(port), "--config", str(file)]
    home = {name: str(lab.work / "mcp-hub") for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    process = lab.start("mcp-hub", command, port, home)
    body = json.dumps({"server_name": "canned", "tool": "echo", "arguments": {"text": TEXT}})
    template = Endpoint(port, "/api/servers/tools", LEGACY).post(body, {})
    candidate = Candidate(f"mcp-hub {MCP_HUB} (REST)", process, port, [template])
    _until_right(lab, candidate)
    return candidate


def authmcp(lab: Lab) -> Candidate:
    """authmcp-gateway with a static bearer token, its limit of calls per minute off."""
    tool = python_tool("authmcp-gateway", AUTHMCP)
    home = lab.fresh("authmcp")
    database, url = str(home / "auth.db"), f"http://127.0.0.1:{lab.upstream.port}/legacy/canned/mcp"
    environment = {
        "AUTH_SQLITE_PATH": database,
        "JWT_SECRET_KEY": SECRET,
        "STATIC_BEARER_TOKENS": SECRET,
        "RATE_LIMIT_ENABLED": "false",
        "ALLOW_INSECURE_HTTP": "true",
    }
    code = (
        "import sys; from authmcp_gateway.mcp.store import init_mcp_database as i, create_mcp_server as c;"
        "i(sys.argv[1]); c(sys.argv[1], 'canned', sys.argv[2], tool_prefix='canned_')"
    )
    admin = ["create-admin", "--username", "bench", "--email", "bench@example.com", "--password", f"Aa1!{SECRET}"]
    for command in (
        [str(tool / "authmcp-gateway"), "init-db", "--db-path", database],
        [str(tool / "authmcp-gateway"), *admin, "--db-path", database],
        [str(tool / "python"), "-c", code, database, url],
    ):
        _set_up("authmcp-gateway", command, home, environment)
    port = free_port()
    command = [str(tool / "authmcp-gateway"), "start", "--host", "127.0.0.1", "--port", str(port)]
    process = lab.start("authmcp", [*command, "--log-level", "WARNING"], port, environment, home)
    endpoint = Endpoint(port, "/mcp/canned", LEGACY, {"authorization": f"Bearer {SECRET}"})
    return _legacy(f"authmcp-gateway {AUTHMCP}", process, endpoint, "echo")


def contextforge(lab: Lab) -> Candidate:
    """ContextForge on SQLite, as one process, without its rate limits; the upstream is one of its gateways."""
    tool = python_tool("mcp-contextforge-gateway", CONTEXTFORGE)
    home = lab.fresh("contextforge")
    port = free_port()
    environment = {
        "DATABASE_URL": f"sqlite:///{home}/mcp.db",
        "JWT_SECRET_KEY": SECRET,
        "AUTH_ENCRYPTION_SECRET": SECRET[::-1],
        "BASIC_AUTH_PASSWORD": f"Aa1!{SECRET}",
        "PLATFORM_ADMIN_PASSWORD": f"Aa1!{SECRET}",
        "DEFAULT_USER_PASSWORD": f"Aa1!{SECRET}",
        "SSRF_ALLOW_LOCALHOST": "true",
        "SSRF_ALLOW_PRIVATE_NETWORKS": "true",
        "RATE_LIMITING_ENABLED": "false",
        "TOOL_RATE_LIMIT": "1000000",
        "LOG_LEVEL": "ERROR",
        "ENVIRONMENT": "development",
    }
    empty = CACHE / f"contextforge-{CONTEXTFORGE}.db"  # its migrations take a minute, so they run once
    if not empty.exists():
        _set_up("ContextForge", [str(tool / "python"), "-m", "mcpgateway.bootstrap_db"], home, environment)
        (home / "mcp.db").rename(empty)
    shutil.copy(empty, home / "mcp.db")
    command = [str(tool / "mcpgateway"), "--host", "127.0.0.1", "--port", str(port)]
    process = lab.start("contextforge", command, port, environment, home)
    code = "import sys; from mcpgateway.utils.create_jwt_token import main; main()"
    token = _set_up(
        "ContextForge",
        [str(tool / "python"), "-c", code, "--username", "admin@example.com", "--exp", "600", "--secret", SECRET],
        home,
        environment,
    ).split()[-1]
    headers = {"authorization": f"Bearer {token}"}
    url = f"http://127.0.0.1:{lab.upstream.port}/legacy/canned/mcp"
    registration = {"name": "canned", "url": url, "transport": "STREAMABLEHTTP"}
    _post(port, "/gateways", registration, headers)
    endpoint = Endpoint(port, "/mcp/", LEGACY, headers)
    return _legacy(f"ContextForge {CONTEXTFORGE}", process, endpoint, "canned-echo")


def _legacy(name: str, process: Process, endpoint: Endpoint, tool: str) -> Candidate:
    """A candidate that speaks 2025; each connection has a session of its own."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            sessions = [endpoint.open_session() for _ in range(16)]
            break
        except (RuntimeError, OSError, http.client.HTTPException) as failure:
            if time.monotonic() > deadline:
                raise Unavailable(f"it does not initialise: {failure}") from failure
            time.sleep(0.5)
    return Candidate(name, process, process.port, [endpoint.call(tool, session) for session in sessions])


def _until_right(lab: Lab, candidate: Candidate) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        load = lab.load(candidate, connections=1, seconds=0.2)
        if load.answers and not load.wrong:
            return
        if time.monotonic() > deadline:
            raise Unavailable(f"it does not forward calls: {load.complaint}")
        time.sleep(0.5)


def _set_up(name: str, command: list[str], home: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        command, cwd=home, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        raise Unavailable(f"{name} cannot be set up: {(done.stdout + done.stderr).strip()[-400:]}")
    return done.stdout


def _post(port: int, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json", **headers})
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status >= 300:
        raise Unavailable(f"POST {path}: HTTP {answer.status}: {text[:300]!r}")


ALL: dict[str, Callable[[Lab], Candidate]] = {
    "mcp-hub": mcp_hub,
    "fastmcp-kept": partial(fastmcp, kind="kept"),
    "fastmcp": partial(fastmcp, kind="fresh"),
    "authmcp": authmcp,
    "contextforge": contextforge,
}
