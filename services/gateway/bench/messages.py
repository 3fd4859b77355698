"""The requests that are sent, as templates: ``MARK`` stands for the request's id."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

MARK = "@" * 10
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
META = "io.modelcontextprotocol/"
# The result's text: the id, and so much more that it is 100 bytes long.
TEXT = f"m-{MARK}-".ljust(100, "y")
EXPECT = f"m-{MARK}-"
CLIENT = {"name": "bench", "version": "1"}


@dataclass(frozen=True)
class Endpoint:
    """Where an MCP server is to be asked, and how.

    Attributes:
        era: the protocol version spoken.
        headers: added to each request, such as the credential.
    """

    port: int
    path: str
    era: str = MODERN
    headers: Mapping[str, str] = field(default_factory=dict)

    def request(self, method: str, params: Mapping[str, Any], session: str = "") -> bytes:
        """A template of an HTTP request."""
        params = dict(params)
        headers = {"mcp-protocol-version": self.era}
        if self.era == MODERN:
            meta = {"protocolVersion": MODERN, "clientInfo": CLIENT, "clientCapabilities": {}}
            own = {f"{META}{key}": value for key, value in meta.items()}
            params["_meta"] = {**own, **params.get("_meta", {})}
            headers["mcp-method"] = method
            if "name" in params:
                headers["mcp-name"] = params["name"]
        elif session:
            headers["mcp-session-id"] = session
        body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": method, "params": params}, separators=(",", ":"))
        return self.post(body.replace('"id":0,', f'"id":{MARK},', 1), headers)

    def post(self, body: str, headers: Mapping[str, str]) -> bytes:
        """A template of a POST of JSON."""
        headers = {
            "host": f"127.0.0.1:{self.port}",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "content-length": str(len(body)),
            **headers,
            **self.headers,
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"POST {self.path} HTTP/1.1\r\n{lines}\r\n{body}".encode()

    def call(self, tool: str, session: str = "") -> bytes:
        """A template of a ``tools/call`` whose result is ``TEXT``."""
        return self.request("tools/call", {"name": tool, "arguments": {"text": TEXT}}, session)

    def open_session(self, connection: http.client.HTTPConnection | None = None) -> str:
        """Initialise a session of 2025 and return its id; empty where the server gives none.

        Raises:
            RuntimeError: the server refused.
        """
        if connection is None:
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as own:
                return self.open_session(own)
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": CLIENT}
        status, headers, body = self.ask(connection, "initialize", params)
        if status != 200:
            raise RuntimeError(f"initialize: HTTP {status}: {body[:300]!r}")
        session = headers.get("mcp-session-id", "")
        send(connection, self.post('{"jsonrpc":"2.0","method":"notifications/initialized"}', self._session(session)))
        return session

    def _session(self, session: str) -> dict[str, str]:
        return {"mcp-protocol-version": self.era, **({"mcp-session-id": session} if session else {})}

    def ask(
        self, connection: http.client.HTTPConnection, method: str, params: Mapping[str, Any], session: str = ""
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request; status, headers by lower-case name, body."""
        return send(connection, self.request(method, params, session).replace(MARK.encode(), b"1000000000"))


def send(connection: http.client.HTTPConnection, request: bytes) -> tuple[int, Mapping[str, str], bytes]:
    """Send the bytes of a request; status, headers by lower-case name, body."""
    if connection.sock is None:
        connection.connect()
    connection.sock.sendall(request)
    answer = http.client.HTTPResponse(connection.sock, method="POST")
    answer.begin()
    body = answer.read()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body
