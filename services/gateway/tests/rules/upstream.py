"""Servers of either era whose every answer a test can script, and that keep what they received."""

from __future__ import annotations

import contextlib
import json
import queue
import select
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
META = "io.modelcontextprotocol/"
SECONDS = 15.0
LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
CAPABILITIES: Json = {
    "tools": {"listChanged": True},
    "prompts": {"listChanged": True},
    "resources": {"subscribe": True, "listChanged": True},
    "completions": {},
    "logging": {},
}


def until[T](condition: Callable[[], T], what: str, seconds: float = SECONDS) -> T:
    """The first true value of ``condition``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.01)
    return value


@dataclass(eq=False)
class Exchange:
    """One HTTP request and the way to answer it."""

    server: Upstream
    handler: BaseHTTPRequestHandler
    verb: str
    headers: dict[str, str]
    message: Json
    streaming: bool = False
    answered: bool = False
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def method(self) -> str:
        return str(self.message.get("method", ""))

    @property
    def id(self) -> Any:
        return self.message.get("id")

    @property
    def params(self) -> Json:
        return dict(self.message.get("params") or {})

    @property
    def meta(self) -> Json:
        return dict(self.params.get("_meta") or {})

    @property
    def session(self) -> str:
        return self.headers.get("mcp-session-id", "")

    # -- answering -------------------------------------------------------------------------------

    def send(self, status: int, body: Json | None = None, headers: Json | None = None) -> None:
        """A whole answer."""
        raw = b"" if body is None else json.dumps(body).encode()
        self.handler.send_response(status)
        for name, value in {**({"Content-Type": "application/json"} if raw else {}), **(headers or {})}.items():
            self.handler.send_header(name, value)
        self.handler.send_header("Content-Length", str(len(raw)))
        self.handler.end_headers()
        self.handler.wfile.write(raw)
        self.answered = True

    def result(self, value: Json, **headers: str) -> None:
        """A result, as the last event where the stream has begun."""
        self.reply({"jsonrpc": "2.0", "id": self.id, "result": value}, headers)

    def error(self, code: int, message: str = "scripted", data: Any = None, status: int = 200) -> None:
        """An error response."""
        body = {"code": code, "message": message} | ({} if data is None else {"data": data})
        message_out = {"jsonrpc": "2.0", "id": self.id, "error": body}
        if self.streaming:
            self.event(message_out)
            self.close()
        else:
            self.send(status, message_out)

    def reply(self, message: Json, headers: Json | None = None) -> None:
        """Any message as the answer."""
        if self.streaming:
            self.event(message)
            self.close()
        else:
            self.send(200, message, headers)

    def open(self, **headers: str) -> None:
        """Begin an event stream."""
        self.handler.send_response(200)
        for name, value in {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked", **headers}.items():
            self.handler.send_header(name, value)
        self.handler.end_headers()
        self.handler.wfile.flush()
        self.streaming = self.answered = True

    def event(self, message: Json) -> None:
        """One event."""
        if not self.streaming:
            self.open()
        raw = f"event: message\ndata: {json.dumps(message)}\n\n".encode()
        self.handler.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
        self.handler.wfile.flush()

    def notify(self, method: str, **params: Any) -> None:
        """A notification on the stream."""
        self.event({"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})})

    def ask(self, method: str, params: Json | None = None, identity: Any = None) -> Json:
        """A request of a server of 2025 on the stream; its response, which comes by another POST."""
        identity = f"question-{id(self)}-{time.monotonic_ns()}" if identity is None else identity
        waiting: queue.Queue[Json] = queue.Queue()
        self.server.questions[(self.session, json.dumps(identity))] = waiting
        asked: Json = {"jsonrpc": "2.0", "id": identity, "method": method}
        self.event({**asked, "params": params} if params is not None else asked)
        return waiting.get(timeout=SECONDS)

    def close(self) -> None:
        """End the stream."""
        with contextlib.suppress(OSError):
            self.handler.wfile.write(b"0\r\n\r\n")
            self.handler.wfile.flush()

    def cut(self) -> None:
        """Break off the connection without an answer."""
        self.handler.connection.shutdown(socket.SHUT_RDWR)
        self.answered = self.handler.close_connection = True

    def gone(self, seconds: float = SECONDS) -> bool:
        """Wait until the gateway closes the connection."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            readable, _, _ = select.select([self.handler.connection], [], [], min(seconds, 0.05))
            if readable:
                try:
                    if self.handler.connection.recv(1, socket.MSG_PEEK) == b"":
                        return True
                except OSError:
                    return True
                time.sleep(0.02)
        return False


Handler = Callable[[Exchange], None]


class Listening(ThreadingHTTPServer):
    """A connection that the gateway resets is no matter."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing."""


class Upstream(ABC):
    """A server that listens; ``on`` maps methods, ``tool`` the names of tools, to what answers them."""

    era = MODERN

    def __init__(self) -> None:
        self.received: list[Exchange] = []
        self.on: dict[str, Handler] = {}
        self.tool: dict[str, Handler] = {}
        self.questions: dict[tuple[str, str], queue.Queue[Json]] = {}
        self.tools: list[Json] = [tool("echo", text={"type": "string"})]
        self.prompts: list[Json] = [{"name": "greet"}]
        self.resources: list[Json] = [{"uri": "test://static", "name": "static"}]
        self.templates: list[Json] = [{"uriTemplate": "test://item/{key}", "name": "item"}]
        self.capabilities: Json = json.loads(json.dumps(CAPABILITIES))
        outer = self

        class Handling(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                raw = self.rfile.read(length) if length else b""
                headers = {name.lower(): value for name, value in self.headers.items()}
                exchange = Exchange(outer, self, self.command, headers, json.loads(raw) if raw else {})
                outer.received.append(exchange)
                try:
                    outer.take(exchange)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    exchange.ended.set()
                if not exchange.answered:
                    self.close_connection = True

            do_GET = do_POST = do_DELETE = handle_one  # noqa: N815 - the standard library's names

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = Listening(("127.0.0.1", 0), Handling)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/mcp"

    def stop(self) -> None:
        """End."""
        self._server.shutdown()
        self._server.server_close()

    def forget(self) -> None:
        """Begin anew: nothing received, nothing scripted."""
        self.received.clear()
        self.on.clear()
        self.tool.clear()

    def of(self, method: str) -> list[Exchange]:
        """What was received of one method."""
        return [exchange for exchange in list(self.received) if exchange.method == method]

    def one(self, method: str) -> Exchange:
        """The first request of one method, when it comes."""
        return until(lambda: self.of(method), f"{method} at the server")[0]

    def take(self, exchange: Exchange) -> None:
        """Answer by script, or as usual."""
        script = self.on.get(exchange.method)
        if exchange.method == "tools/call" and script is None:
            script = self.tool.get(exchange.params.get("name", ""))
        (script or self.usual)(exchange)

    @abstractmethod
    def usual(self, exchange: Exchange) -> None:
        """What a plain server answers."""

    def value(self, exchange: Exchange) -> Json | None:
        """The plain result of a method of both eras."""
        method, params = exchange.method, exchange.params
        if method in LISTS:
            listed = {"tools": self.tools, "prompts": self.prompts, "resources": self.resources}
            return {LISTS[method]: listed.get(LISTS[method], self.templates)}
        if method == "tools/call":
            return {"content": [{"type": "text", "text": f"{params.get('name')} was called"}]}
        if method == "prompts/get":
            return {"messages": [{"role": "user", "content": {"type": "text", "text": "hello"}}]}
        if method == "resources/read":
            return {"contents": [{"uri": params["uri"], "text": f"text of {params['uri']}"}]}
        if method == "completion/complete":
            return {"completion": {"values": ["one", "two"]}}
        return None


class Server2026(Upstream):
    """Stateless; its listen streams tell what ``tell`` is given."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners: list[tuple[Exchange, queue.Queue[Json | None]]] = []
        self.ttl_ms = 3_600_000

    def usual(self, exchange: Exchange) -> None:
        if exchange.verb != "POST":
            return exchange.send(405, None, {"Allow": "POST"})
        if exchange.meta.get(f"{META}protocolVersion") != MODERN:
            data = {"supported": [MODERN], "requested": exchange.headers.get("mcp-protocol-version", "")}
            return exchange.error(-32022, "Unsupported protocol version", data, 400)
        if exchange.method == "server/discover":
            value = {"supportedVersions": [MODERN], "capabilities": self.capabilities}
            return exchange.result({**value, "resultType": "complete", "ttlMs": self.ttl_ms, "cacheScope": "public"})
        if exchange.method == "subscriptions/listen":
            return self.listen(exchange)
        value = self.value(exchange)
        if value is None:
            return exchange.error(-32601, "Method not found", status=404)
        hints = {"ttlMs": self.ttl_ms, "cacheScope": "public"} if exchange.method in LISTS else {}
        if exchange.method == "resources/read":
            hints = {"ttlMs": 0, "cacheScope": "private"}
        return exchange.result({"resultType": "complete", **value, **hints})

    def listen(self, exchange: Exchange) -> None:
        """Acknowledge and tell until the client leaves."""
        events: queue.Queue[Json | None] = queue.Queue()
        tag = {f"{META}subscriptionId": exchange.id}
        granted = exchange.params.get("notifications")
        # Before it says so: whoever hears the acknowledgement may rely on it.
        self.listeners.append((exchange, events))
        try:
            exchange.notify("notifications/subscriptions/acknowledged", _meta=tag, notifications=granted)
            while not exchange.gone(0.001):
                with contextlib.suppress(queue.Empty):
                    event = events.get(timeout=0.05)
                    if event is None:
                        return exchange.result({"resultType": "complete", "_meta": tag})
                    exchange.event({**event, "params": {**event.get("params", {}), "_meta": tag}})
        finally:
            self.listeners = [pair for pair in self.listeners if pair[0] is not exchange]

    def granted(self) -> Json:
        """What all listeners together asked for."""
        found: Json = {}
        for exchange, _ in list(self.listeners):
            for key, value in (exchange.params.get("notifications") or {}).items():
                found[key] = [*found.get(key, []), *value] if isinstance(value, list) else value or found.get(key)
        return found

    def tell(self, method: str, **params: Any) -> None:
        """Send a notification to every listener that asked for it."""
        name = {
            "notifications/tools/list_changed": "toolsListChanged",
            "notifications/prompts/list_changed": "promptsListChanged",
            "notifications/resources/list_changed": "resourcesListChanged",
            "notifications/resources/updated": "resourceSubscriptions",
        }[method]
        for exchange, events in list(self.listeners):
            wanted = (exchange.params.get("notifications") or {}).get(name)
            if wanted is True or (isinstance(wanted, list) and params.get("uri") in wanted):
                events.put({"jsonrpc": "2.0", "method": method, "params": params})


class Server2025(Upstream):
    """With sessions; ``push`` puts a message on the GET stream of a session."""

    era = LEGACY

    def __init__(self) -> None:
        super().__init__()
        self.sessions: dict[str, Json] = {}  # the params of each session's initialize
        self.streams: dict[str, queue.Queue[Json]] = {}
        self._count = 0

    def take(self, exchange: Exchange) -> None:
        """A call in a session that this server does not know (any more) is refused before any script, and is no part of
        what the test wants to see: an earlier one ended the session."""
        scripted = exchange.method == "tools/call" and exchange.params.get("name") in self.tool
        if scripted and exchange.session not in self.sessions and exchange.session:
            self.received.remove(exchange)
            return self.usual(exchange)
        return super().take(exchange)

    def usual(self, exchange: Exchange) -> None:
        method, session = exchange.method, exchange.session
        if method == "initialize":
            self._count += 1
            made = f"session-{self._count}"
            self.sessions[made] = exchange.params
            value = {"protocolVersion": LEGACY, "capabilities": self.capabilities}
            return exchange.result({**value, "serverInfo": {"name": "old", "version": "1"}}, **{"Mcp-Session-Id": made})
        if not session:
            return exchange.error(-32600, "Bad Request: no session", status=400)
        if session not in self.sessions:
            return exchange.error(-32001, "Session not found", status=404)
        if exchange.verb == "DELETE":
            self.sessions.pop(session)
            return exchange.send(200)
        if exchange.verb == "GET":
            return self.stream(exchange)
        if not method:
            waiting = self.questions.pop((session, json.dumps(exchange.id)), None)
            if waiting:
                waiting.put(exchange.message)
            return exchange.send(202)
        if exchange.id is None:
            return exchange.send(202)
        if method in ("ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"):
            return exchange.result({})
        value = self.value(exchange)
        return exchange.error(-32601, "Method not found") if value is None else exchange.result(value)

    def stream(self, exchange: Exchange) -> None:
        """The session's own stream."""
        events = self.streams[exchange.session] = queue.Queue()
        exchange.open()
        try:
            while not exchange.gone(0.001):
                with contextlib.suppress(queue.Empty):
                    exchange.event(events.get(timeout=0.05))
        finally:
            if self.streams.get(exchange.session) is events:
                del self.streams[exchange.session]

    def push(self, method: str, sessions: Iterable[str] | None = None, **params: Any) -> None:
        """A notification on the GET streams."""
        message = {"jsonrpc": "2.0", "method": method, **({"params": params} if params else {})}
        for session in sessions or list(self.streams):
            self.streams[session].put(message)


def tool(name: str, **properties: Json) -> Json:
    """A tool's definition."""
    return {"name": name, "description": name, "inputSchema": {"type": "object", "properties": properties}}
