"""Bare clients of either era: they send exactly what they are told to."""

from __future__ import annotations

import contextlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import httpx2

Json = dict[str, Any]
MODERN = "2026-07-28"
LEGACY = "2025-11-25"
META = "io.modelcontextprotocol/"
SECONDS = 15.0
ACCEPT = "application/json, text/event-stream"
NAMED = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
ALL: Json = {"sampling": {}, "elicitation": {"form": {}, "url": {}}, "roots": {}}


class Stream:
    """An answer that is read as it comes; a JSON answer is a stream of one message."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def __iter__(self) -> Iterator[Json]:
        if self.response.headers.get("content-type", "").startswith("application/json"):
            yield dict(json.loads(self.response.read()))
            return
        data: list[str] = []
        begun = time.monotonic()
        for line in self._lines:
            if line.startswith(":"):
                # Comments keep the connection's own timeout from being reached.
                assert time.monotonic() - begun < SECONDS, f"no message within {SECONDS:g} s"
            elif line.startswith("data:"):
                data.append(line[5:].removeprefix(" "))
            elif not line and data:
                text, data = "\n".join(data), []
                if text:
                    yield dict(json.loads(text))
                begun = time.monotonic()

    def next(self) -> Json:
        """The next message."""
        for message in self:
            return message
        raise AssertionError("the stream ended without another message")

    def wait_for_comment(self) -> None:
        """Read until a comment comes."""
        for line in self._lines:
            if line.startswith(":"):
                return
        raise AssertionError("the stream ended without a comment")

    def rest(self) -> list[Json]:
        """All messages to the end."""
        return list(self)


def message_of(response: httpx2.Response) -> Json:
    """The response message in a whole HTTP answer."""
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        return dict(json.loads([line for line in response.text.splitlines() if line.startswith("data: ")][-1][6:]))
    return dict(response.json())


class Client(ABC):
    """HTTP to one endpoint."""

    def __init__(self, url: str, path: str = "/mcp", key: str = "", timeout: float = 20) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self.http = httpx2.Client(base_url=url, headers=headers, timeout=timeout)
        self.path = path

    def raw(self, body: Any, headers: dict[str, str] | list[tuple[str, str]] | None = None) -> httpx2.Response:
        """POST any body."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(self.path, content=content, headers=headers)

    @abstractmethod
    def request_parts(self, method: str, params: Json | None, **options: Any) -> tuple[Json, dict[str, str]]:
        """Body and headers of a request."""

    def post(self, method: str, params: Json | None = None, **options: Any) -> httpx2.Response:
        """Send a request and read the whole answer."""
        body, headers = self.request_parts(method, params, **options)
        return self.raw(body, headers)

    def ask(self, method: str, params: Json | None = None, **options: Any) -> Json:
        """Send a request; the response message."""
        return message_of(self.post(method, params, **options))

    def call(self, name: str, arguments: Json | None = None, **options: Any) -> Json:
        """``tools/call``; the response message."""
        return self.ask("tools/call", {"name": name, "arguments": arguments or {}}, **options)

    @contextlib.contextmanager
    def stream(self, method: str, params: Json | None = None, **options: Any) -> Iterator[Stream]:
        """Send a request and read the answer as it comes; leaving closes the connection."""
        body, headers = self.request_parts(method, params, **options)
        # A connection of its own: leaving it is what says that the client is gone.
        with (
            httpx2.Client(base_url=self.http.base_url, headers=self.http.headers, timeout=20) as http,
            http.stream("POST", self.path, content=json.dumps(body).encode(), headers=headers) as response,
        ):
            yield Stream(response)


class Client2026(Client):
    """Stateless."""

    def request_parts(
        self,
        method: str,
        params: Json | None,
        *,
        id: Any = 1,
        capabilities: Json | None = None,
        meta: Json | None = None,
        envelope: Json | None = None,
        headers: dict[str, str | None] | None = None,
    ) -> tuple[Json, dict[str, str]]:
        """``meta`` adds to the envelope, ``envelope`` replaces it; a header of None is left out."""
        usual = {
            f"{META}protocolVersion": MODERN,
            f"{META}clientInfo": {"name": "test", "version": "1"},
            f"{META}clientCapabilities": capabilities or {},
        }
        sent = {**(params or {}), "_meta": ({**usual, **(meta or {})} if envelope is None else envelope)}
        mirrored: dict[str, str | None] = {
            "Content-Type": "application/json",
            "Accept": ACCEPT,
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": method,
        }
        if method in NAMED and isinstance(sent.get(NAMED[method]), str):
            mirrored["Mcp-Name"] = sent[NAMED[method]]
        mirrored |= headers or {}
        body = {"jsonrpc": "2.0", "id": id, "method": method, "params": sent}
        return body, {name: value for name, value in mirrored.items() if value is not None}


class Client2025(Client):
    """With a session, which it opens at once."""

    def __init__(
        self,
        url: str,
        path: str = "/mcp",
        key: str = "",
        capabilities: Json | None = None,
        version: str = LEGACY,
    ) -> None:
        super().__init__(url, path, key)
        self.version, self.session = version, ""
        info = {"name": "test", "version": "1"}
        params = {"protocolVersion": version, "capabilities": capabilities or {}, "clientInfo": info}
        answer = self.post("initialize", params, id=0)
        self.session = answer.headers["mcp-session-id"]
        self.hello = message_of(answer)["result"]
        self.notify("notifications/initialized")

    def headers(self) -> dict[str, str]:
        """What each request of the session carries."""
        usual = {"Content-Type": "application/json", "Accept": ACCEPT}
        if self.session:
            usual |= {"Mcp-Session-Id": self.session, "MCP-Protocol-Version": self.version}
        return usual

    def request_parts(
        self,
        method: str,
        params: Json | None,
        *,
        id: Any = 1,
        meta: Json | None = None,
        headers: dict[str, str | None] | None = None,
    ) -> tuple[Json, dict[str, str]]:
        sent = {**(params or {}), **({"_meta": meta} if meta else {})}
        body = {"jsonrpc": "2.0", "id": id, "method": method, "params": sent}
        return body, {k: v for k, v in {**self.headers(), **(headers or {})}.items() if v is not None}

    def notify(self, method: str, params: Json | None = None) -> httpx2.Response:
        """Send a notification."""
        return self.raw({"jsonrpc": "2.0", "method": method, "params": params or {}}, self.headers())

    def respond(self, question: Json, result: Json) -> httpx2.Response:
        """Answer a request of the server's."""
        return self.raw({"jsonrpc": "2.0", "id": question["id"], "result": result}, self.headers())

    @contextlib.contextmanager
    def listen(self) -> Iterator[Stream]:
        """The session's own stream, by GET."""
        headers = {k: v for k, v in self.headers().items() if k != "Content-Type"} | {"Accept": "text/event-stream"}
        with (
            httpx2.Client(base_url=self.http.base_url, headers=self.http.headers, timeout=20) as http,
            http.stream("GET", self.path, headers=headers) as response,
        ):
            yield Stream(response)

    def end(self) -> httpx2.Response:
        """End the session."""
        return self.http.delete(self.path, headers=self.headers())
