"""The container's readiness probe: does the server list at least one tool?

A full probe (handshake and ``tools/list``) until the first success, then once a minute; in between only
that the port accepts a connection. The stdio bridge answers ``/ready`` itself, each time: its child may die
while its port stays open.
Standard library only.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
from typing import Any

from mcp_runtime.spec import SpecError, load

FULL_PROBE_SECONDS = 60.0
TIMEOUT_SECONDS = 8.0
STATE_FILE = "/tmp/.mcp-health"
MODERN = "2026-07-28"
LEGACY = "2025-06-18"
CLIENT = {"name": "mcp-runtime-health", "version": "1"}


class NotReady(Exception):
    """The server cannot be used yet; the message says why."""


def _post(
    connection: http.client.HTTPConnection, path: str, body: dict[str, Any], headers: dict[str, str]
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """POST one JSON-RPC message; returns status, lower-case headers and the response message ({} if none)."""
    sent = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "Host": f"localhost:{connection.port}",
        **headers,
    }
    connection.request("POST", path, json.dumps(body).encode(), sent)
    response = connection.getresponse()
    got = {key.lower(): value for key, value in response.getheaders()}
    if got.get("content-type", "").startswith("text/event-stream"):
        for raw in response:
            line = raw.decode().rstrip("\r\n")
            if line.startswith("data:") and (data := line[5:].strip()):
                message = json.loads(data)
                if message.get("id") == body.get("id"):
                    # The rest of the stream is of no interest, and cannot be reused.
                    connection.close()
                    return response.status, got, message
        raise NotReady("the event stream ended without a response")
    text = response.read().decode(errors="replace")
    try:
        message = json.loads(text) if text else {}
    except ValueError:
        message = {}
    return response.status, got, message if isinstance(message, dict) else {}


def _count(status: int, message: dict[str, Any]) -> int:
    """Tools in a ``tools/list`` response."""
    if "result" not in message:
        raise NotReady(f"tools/list failed: HTTP {status} {json.dumps(message.get('error', {}))[:200]}")
    return len(message["result"].get("tools", []))


def _modern(connection: http.client.HTTPConnection, path: str) -> int | None:
    """Tools by the stateless protocol of 2026-07-28; None where the server does not speak it."""

    def request(method: str) -> tuple[int, dict[str, Any]]:
        meta = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": CLIENT,
        }
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta}}
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        status, _, message = _post(connection, path, body, headers)
        return status, message

    # Some older servers answer a bare modern tools/list without meaning it: only discover proves the era.
    status, message = request("server/discover")
    if status != 200 or "result" not in message:
        return None
    return _count(*request("tools/list"))


def _legacy(connection: http.client.HTTPConnection, path: str) -> int:
    """Tools by the handshake of 2025; the session it opens is ended again."""
    hello = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}
    body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    status, got, message = _post(connection, path, body, {})
    if "result" not in message:
        raise NotReady(f"initialize failed: HTTP {status} {json.dumps(message.get('error', {}))[:200]}")
    headers = {"MCP-Protocol-Version": str(message["result"].get("protocolVersion", LEGACY))}
    if session := got.get("mcp-session-id"):
        headers["Mcp-Session-Id"] = session
    _post(connection, path, {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
    body = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
    status, _, message = _post(connection, path, body, headers)
    if session:
        connection.request("DELETE", path, headers=headers)
        connection.getresponse().read()
    return _count(status, message)


def probe(port: int, path: str) -> int:
    """The number of tools the server lists, at least 1.

    Raises:
        NotReady: nothing listens, it speaks no MCP, or it lists no tools.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        count = _modern(connection, path)
        if count is None:
            connection.close()
            count = _legacy(connection, path)
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"port {port}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if count < 1:
        raise NotReady("the server lists no tools")
    return count


def _bridge_ready(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS + 1)
    try:
        connection.request("GET", "/ready")
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"port {port}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise NotReady(text)


def check(state_file: str = STATE_FILE) -> None:
    """One probe, full or cheap as the last success demands.

    Raises:
        NotReady, SpecError: with the reason.
    """
    spec = load()
    if spec.transport == "stdio":
        _bridge_ready(spec.port)
        return
    try:
        age = time.time() - os.stat(state_file).st_mtime
    except OSError:
        age = FULL_PROBE_SECONDS + 1
    if 0 <= age < FULL_PROBE_SECONDS:
        try:
            socket.create_connection(("127.0.0.1", spec.port), timeout=TIMEOUT_SECONDS).close()
        except OSError as error:
            raise NotReady(f"port {spec.port}: {error}") from error
        return
    probe(spec.port, spec.path)
    with open(state_file, "w", encoding="utf-8"):
        pass


def main() -> int:
    """Exit code 0 (ready) or 1, with one line that says why."""
    try:
        check()
    except (NotReady, SpecError) as error:
        print(f"not ready: {error}")
        return 1
    return 0
