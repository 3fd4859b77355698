"""A server of 2025 that counts the calls of each session: counting.py PORT. A session is lost with the process."""

import json
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

counts: dict[str, int] = {}
TOOL = {"name": "count", "description": "Counts.", "inputSchema": {"type": "object"}}


class Handling(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        method, session = message.get("method"), self.headers.get("mcp-session-id", "")
        if method == "initialize":
            session = uuid.uuid4().hex
            counts[session] = 0
            capabilities = {"tools": {}}
            info = {"name": "counting", "version": "1"}
            hello = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
            self.say(200, {"jsonrpc": "2.0", "id": message["id"], "result": hello}, session)
        elif not session:
            self.say(400, {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no session"}})
        elif session not in counts:
            self.say(404, {"jsonrpc": "2.0", "id": None, "error": {"code": -32001, "message": "Session not found"}})
        elif "id" not in message:
            self.say(202)
        else:
            result: dict[str, Any] = {}
            if method == "tools/list":
                result = {"tools": [TOOL]}
            elif method == "tools/call":
                counts[session] += 1
                result = {"content": [{"type": "text", "text": f"{session} {counts[session]}"}]}
            self.say(200, {"jsonrpc": "2.0", "id": message["id"], "result": result})

    def do_GET(self) -> None:
        """A stream without a message, up to the end of the process."""
        if self.headers.get("mcp-session-id", "") not in counts:
            self.say(404)
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.flush()
        threading.Event().wait()

    def do_DELETE(self) -> None:
        known = counts.pop(self.headers.get("mcp-session-id", ""), None)
        self.say(404 if known is None else 200)

    def say(self, status: int, body: dict[str, Any] | None = None, session: str = "") -> None:
        raw = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if session:
            self.send_header("mcp-session-id", session)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Listening(ThreadingHTTPServer):
    daemon_threads = True


Listening(("127.0.0.1", int(sys.argv[1])), Handling).serve_forever()
