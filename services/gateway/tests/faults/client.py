"""A client that misbehaves: raw sockets, every byte as told."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

from conftest import LEGACY, MODERN

Json = dict[str, Any]
META = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}


class Closed(Exception):
    """The gateway closed the connection where an answer was to come."""


@dataclass
class Answer:
    """An HTTP answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes
    interim: list[int] = field(default_factory=list)

    @property
    def message(self) -> Json:
        """The last JSON-RPC message in it."""
        if self.headers.get("content-type", "").startswith("text/event-stream"):
            return dict(json.loads([line[5:] for line in self.body.splitlines() if line.startswith(b"data:")][-1]))
        return dict(json.loads(self.body))


class Raw:
    """One connection."""

    def __init__(self, port: int, timeout: float = 20.0, receive_buffer: int = 0) -> None:
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self._buffer = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all; that the gateway closes meanwhile is seen when reading."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def drip(self, data: bytes, seconds: float) -> None:
        for byte in data:
            self.send(bytes([byte]))
            time.sleep(seconds)

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # -- reading ---------------------------------------------------------------------------------

    def _more(self) -> None:
        try:
            data = self.socket.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed
        self._buffer += data

    def until(self, mark: bytes) -> bytes:
        """What comes before ``mark``; the mark is taken too."""
        while mark not in self._buffer:
            self._more()
        found, self._buffer = self._buffer.split(mark, 1)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def answer(self, verb: str = "POST") -> Answer:
        """The next answer, checked to be HTTP/1.1 (RFC 9112).

        Raises:
            Closed: the connection ended before it was whole.
            TimeoutError: nothing came in time.
        """
        interim: list[int] = []
        while True:
            first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
            protocol, code, *_ = first.split(" ", 2)
            assert protocol in ("HTTP/1.1", "HTTP/1.0"), first
            headers: dict[str, str] = {}
            for line in lines:
                name, colon, value = line.partition(":")
                assert colon and name == name.strip(), line
                assert name.lower() not in headers or name.lower() == "vary", f"{name} twice"
                headers[name.lower()] = value.strip()
            if int(code) >= 200:
                break
            interim.append(int(code))
        if verb == "HEAD" or int(code) in (204, 304):
            return Answer(int(code), headers, b"", interim)
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while size := int(self.until(b"\r\n"), 16):
                body += self._exactly(size)
                assert self._exactly(2) == b"\r\n"
            assert self._exactly(2) == b"\r\n"
        elif "content-length" in headers:
            body = self._exactly(int(headers["content-length"]))
        else:
            body = self.rest()
        return Answer(int(code), headers, body, interim)

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        with contextlib.suppress(Closed):
            while True:
                self._more()
        found, self._buffer = self._buffer, b""
        return found

    def ended(self, seconds: float = 5.0) -> bool:
        """Whether the gateway ends the connection within so long, without saying more."""
        self.socket.settimeout(seconds)
        try:
            return not self._buffer and not self.socket.recv(1)
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True


def post(
    body: Any,
    *extra: str | bytes,
    path: bytes = b"/mcp",
    verb: bytes = b"POST",
    version: bytes = b"HTTP/1.1",
    host: bytes | None = b"127.0.0.1",
    length: int | None = None,
    kind: bytes = b"application/json",
) -> bytes:
    """A request; ``extra`` are whole header lines."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [verb + b" " + path + b" " + version]
    if host is not None:
        lines.append(b"Host: " + host)
    lines += [b"Content-Type: " + kind, b"Accept: application/json, text/event-stream"]
    lines += [line.encode("latin-1") if isinstance(line, str) else line for line in extra]
    if not any(line.lower().startswith((b"content-length", b"transfer-encoding")) for line in lines):
        lines.append(b"Content-Length: %d" % (len(data) if length is None else length))
    return b"\r\n".join(lines) + b"\r\n\r\n" + data


def modern(method: str, params: Any = None, identity: Any = 1, **more: Any) -> tuple[Json, list[str]]:
    """Body and headers of a request of 2026-07-28."""
    body: Json = {"jsonrpc": "2.0", "id": identity, "method": method}
    body["params"] = {**params, "_meta": META} if isinstance(params, dict) else {"_meta": META}
    headers = [f"MCP-Protocol-Version: {MODERN}", f"Mcp-Method: {method}"]
    if isinstance(params, dict) and isinstance(name := params.get("name"), str):
        headers.append(f"Mcp-Name: {name}")
    return body | more, headers


def good(identity: Any = 1, *extra: str | bytes, **options: Any) -> bytes:
    """A call that works: ``good__look``."""
    body, headers = modern("tools/call", {"name": "good__look", "arguments": {}}, identity)
    return post(body, *headers, *extra, **options)


def hello() -> bytes:
    """``initialize`` of 2025."""
    info = {"name": "test", "version": "1"}
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": info}
    return post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})


def in_session(session: str | bytes, body: Any, *extra: str) -> bytes:
    """A message in a session of 2025."""
    name = session.encode("latin-1") if isinstance(session, str) else session
    return post(body, f"MCP-Protocol-Version: {LEGACY}", b"Mcp-Session-Id: " + name, *extra)
