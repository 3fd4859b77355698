"""Small HTTP services of the standard library: JSON out, a bounded body in, no connection that hangs for ever."""

from __future__ import annotations

import json
import sys
from abc import abstractmethod
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

IDLE_SECONDS = 30.0
BODY_BYTES = 1 << 20
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Handler(BaseHTTPRequestHandler):
    """One connection; ``answer`` is the subclass's."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS

    @abstractmethod
    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON value of the answer, or text as it is."""

    def any_method(self) -> None:
        """Read the request's body, whatever the method, so that it is never taken for another request."""
        lengths = self.headers.get_all("Content-Length") or []
        if self.headers.get("Transfer-Encoding") or len(lengths) > 1 or not all(n.isdigit() for n in lengths):
            return self._reply(400, {"message": "give one Content-Length, and no Transfer-Encoding"})
        length = int(lengths[0]) if lengths else 0
        if length > BODY_BYTES:
            return self._reply(413, {"message": f"the body has {length} bytes; {BODY_BYTES} are permitted"})
        return self._reply(*self.answer(self.command, self.path, self.rfile.read(length)))

    def _reply(self, status: int, value: Any) -> None:
        text = isinstance(value, str)
        data = value.encode() if text else json.dumps(value).encode() + b"\n"
        self.send_response_only(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8" if text else "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status >= 400:
            # What is left of a request that was refused is not read as another one.
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *dummy: Any) -> None:
        """Requests are not logged one by one."""


for _method in METHODS:  # the base class looks for one function a method
    setattr(Handler, f"do_{_method}", Handler.any_method)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early, as health checks do, is no fault; the rest is for the log."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def make_server(host: str, port: int, handler: type[Handler]) -> ThreadingHTTPServer:
    """A server that listens; ``serve_forever`` runs it.

    Raises:
        OSError: it cannot listen there.
    """
    return _Server((host, port), handler)
