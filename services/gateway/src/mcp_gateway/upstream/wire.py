"""HTTP to one server: a message goes out, its response comes back, what precedes that is handed on.

2025-11-25 basic/transports and 2026-07-28 basic/transports/streamable-http agree on this much: a request is
one POST, and the answer is one JSON object or an event stream that ends with it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp
import orjson

from mcp_gateway.config import Server
from mcp_gateway.protocol import METHOD_NOT_FOUND, UNAVAILABLE, Json, RpcError, error, result
from mcp_gateway.sse import TooLarge, events

CONNECT_SECONDS = 5.0
MAX_MESSAGE_BYTES = 64 * 1024 * 1024

# These say nothing about what a server speaks: who may, how often, how much.
_ERALESS_STATUS = (401, 403, 408, 413, 429)

Take = Callable[[Json], Awaitable[None]]


class WrongEra(Exception):
    """The server refused, and not as a server of the era would that it was taken for; nothing was executed."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"HTTP {answer.status}")
        self.answer = answer


@dataclass
class Answer:
    """An HTTP answer: its status, the session it names, and the message in it (empty if it held none)."""

    status: int
    session_id: str | None
    message: Json

    def is_refusal(self) -> bool:
        """Whether the status says that the request was not understood."""
        return 400 <= self.status < 500 and self.status not in _ERALESS_STATUS

    def result(self) -> Json:
        """The result.

        Raises:
            RpcError: the server's error, or what it sent in place of a message.
        """
        failure = self.message.get("error")
        if isinstance(failure, dict):
            code = failure.get("code")
            raise RpcError(
                code if isinstance(code, int) else UNAVAILABLE, str(failure.get("message", "")), failure.get("data")
            )
        value = self.message.get("result")
        if not isinstance(value, dict):
            raise RpcError(UNAVAILABLE, f"the server answered HTTP {self.status} without a JSON-RPC response")
        return value


class Wire:
    """Sends messages to any replica of one server."""

    def __init__(self, server: Server, http: aiohttp.ClientSession) -> None:
        self._server = server
        self._http = http
        self._ids = itertools.count(1)
        self._headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            **server.headers,
        }
        if server.host_header:
            self._headers["Host"] = server.host_header
        self._timeout = aiohttp.ClientTimeout(
            total=server.max_seconds, sock_connect=CONNECT_SECONDS, sock_read=server.timeout_seconds
        )

    def next_id(self) -> int:
        """A request id that no other request to this server has."""
        return next(self._ids)

    async def request(
        self, url: str, body: Json, headers: Mapping[str, str], take: Take | None, *, sessions: bool
    ) -> Answer:
        """Send a request and read up to its response.

        Args:
            take: gets the notifications that precede the response.
            sessions: whether the server may send requests of its own (it may in 2025). They are declined,
                but for ping: the gateway declared no capability that they would need.

        Raises:
            aiohttp.ClientError, OSError, TimeoutError: the exchange failed.
            RpcError: the answer is larger than the gateway takes.
        """
        async with self._post(url, body, headers) as response:
            session_id = response.headers.get("Mcp-Session-Id")
            if not response.content_type.startswith("text/event-stream"):
                return Answer(response.status, session_id, _parsed(await _read(response)))
            try:
                async for data in events(response.content.iter_any(), MAX_MESSAGE_BYTES):
                    message = _parsed(data)
                    if "method" not in message:
                        if message.get("id") == body["id"]:
                            return Answer(response.status, session_id, message)
                    elif "id" not in message:
                        if take and isinstance(message["method"], str):
                            await take(message)
                    elif sessions:
                        await self._decline(url, message, headers)
            except TooLarge as failure:
                raise RpcError(UNAVAILABLE, str(failure)) from failure
        raise aiohttp.ClientPayloadError("the event stream ended without a response")

    async def send(self, url: str, body: Json, headers: Mapping[str, str]) -> None:
        """Send a notification or a response."""
        async with self._post(url, body, headers) as response:
            await response.read()

    async def delete(self, url: str, headers: Mapping[str, str]) -> None:
        """End a session."""
        async with self._http.delete(
            url, headers={**self._headers, **headers}, timeout=self._timeout, allow_redirects=False
        ) as response:
            await response.read()

    async def _decline(self, url: str, message: Json, headers: Mapping[str, str]) -> None:
        if message["method"] == "ping":
            reply = result(message["id"], {})
        else:
            reply = error(message["id"], METHOD_NOT_FOUND, "the gateway declared no such capability")
        await self.send(url, reply, headers)

    def _post(self, url: str, body: Json, headers: Mapping[str, str]) -> aiohttp.client._RequestContextManager:
        return self._http.post(
            url,
            data=orjson.dumps(body),
            headers={**self._headers, **headers},
            timeout=self._timeout,
            allow_redirects=False,
        )


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, up to the largest message that the gateway takes."""
    if (response.content_length or 0) <= MAX_MESSAGE_BYTES:
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > MAX_MESSAGE_BYTES:
                break
        else:
            return parts[0] if len(parts) == 1 else b"".join(parts)
    raise RpcError(UNAVAILABLE, f"an answer of the server is larger than {MAX_MESSAGE_BYTES} bytes")


def _parsed(data: bytes) -> Json:
    try:
        value = orjson.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


async def quietly(work: Awaitable[None], seconds: float) -> None:
    """Do what nobody waits for; that it fails matters to no one."""
    try:
        async with asyncio.timeout(seconds):
            await work
    except (aiohttp.ClientError, OSError, TimeoutError, RpcError):
        return
