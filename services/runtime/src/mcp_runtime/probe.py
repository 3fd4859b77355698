"""The full readiness probe: a real MCP handshake and ``tools/list`` over streamable HTTP.

Standard library only. The protocol's two eras are tried in turn, the stateless one of 2026-07-28 first; a
session that the older handshake opened is ended again.
"""

from __future__ import annotations

import http.client
import json
import signal
from types import FrameType
from typing import Any

from mcp_runtime.health import NotReady
from mcp_runtime.spec import Spec, load

# The whole probe, below the 12 s after which Docker kills it without a reason in the log.
DEADLINE_SECONDS = 10
MODERN = "2026-07-28"
LEGACY = "2025-06-18"
CLIENT = {"name": "mcp-runtime-health", "version": "1"}


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
    session = got.get("mcp-session-id")
    if session:
        headers["Mcp-Session-Id"] = session
    try:
        _post(connection, path, {"jsonrpc": "2.0", "method": "notifications/initialized"}, headers)
        body = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
        status, _, message = _post(connection, path, body, headers)
    finally:
        if session:
            connection.request("DELETE", path, headers={**headers, "Host": f"localhost:{connection.port}"})
            connection.getresponse().read()
    return _count(status, message)


def tools(port: int, path: str, era: str = "") -> tuple[int, str]:
    """The number of tools the server on this machine lists (at least 1) and the era it speaks.

    Args:
        port: TCP port on 127.0.0.1.
        path: HTTP path of the MCP endpoint.
        era: ``legacy`` skips the question for the newer one.

    Raises:
        NotReady: nothing listens, it speaks no MCP, or it lists no tools.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
    try:
        count = None if era == "legacy" else _modern(connection, path)
        era = "modern"
        if count is None:
            connection.close()
            count, era = _legacy(connection, path), "legacy"
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotReady(f"port {port}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()
    if count < 1:
        raise NotReady("the server lists no tools")
    return count, era


def _bridge(port: int) -> None:
    """Ask the bridge's ``/ready``: it lists the child's tools and knows why it cannot."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_SECONDS)
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


def _too_late(_: int, __: FrameType | None) -> None:
    raise NotReady(f"no tool list within {DEADLINE_SECONDS} s")


def full(era: str = "", spec: Spec | None = None) -> tuple[str, str, str]:
    """Probe the server that server.json describes; returns its transport, port and era.

    Raises:
        NotReady, SpecError: with the reason.
    """
    spec = spec or load()
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(DEADLINE_SECONDS)
    try:
        if spec.transport == "stdio":
            _bridge(spec.port)
            era = "bridge"
        else:
            _, era = tools(spec.port, spec.path, era)
    finally:
        signal.alarm(0)
    return spec.transport, str(spec.port), era
