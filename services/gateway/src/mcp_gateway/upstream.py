"""One upstream server: its replicas, its era, its sessions, and a call to it.

Follow a call: ``request`` waits for a place, picks a replica, and ``_attempt`` sends it as the server's era
demands. Only what was certainly not executed, or is safe to repeat, is tried on another replica.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
import socket
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
from mcp.shared.inbound import encode_header_value, mcp_param_headers, x_mcp_header_map

from mcp_gateway.config import Server
from mcp_gateway.metrics import Metrics
from mcp_gateway.protocol import (
    BUSY,
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    GATEWAY_INFO,
    LEGACY,
    METHOD_NOT_FOUND,
    MODERN,
    PROTOCOL_VERSION_META_KEY,
    RESERVED_META,
    SAFE,
    TIMED_OUT,
    UNAVAILABLE,
    Json,
    RpcError,
    error,
)
from mcp_gateway.sse import TooLarge, events

RESOLVE_SECONDS = 1.0
PROBE_SECONDS = 15.0
MAX_EJECTION_SECONDS = 30.0
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
QUEUE_PER_PLACE = 8
QUEUE_SECONDS = 30.0
MAX_SESSIONS = 10_000
NAME_PARAMS = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}

Notify = Callable[[Json], Awaitable[None]]

log = logging.getLogger("mcp_gateway.upstream")


class _SessionLost(Exception):
    """The server does not know the session any more; nothing was executed."""


@dataclass(eq=False)
class Replica:
    """One address of a server."""

    url: str
    inflight: int = 0
    failures: int = 0
    ejected_until: float = 0.0

    @property
    def healthy(self) -> bool:
        return time.monotonic() >= self.ejected_until


@dataclass
class _Session:
    """A session of the 2025 protocol with one replica."""

    replica: Replica
    version: str
    id: str | None
    used: float = field(default_factory=time.monotonic)


@dataclass
class Call:
    """One call to a server.

    ``session_key`` says whose upstream session it may use: a principal's, or for sticky servers a client
    session's. ``capabilities`` are the caller's, mirrored to modern servers. ``notify`` takes the
    notifications that precede the response.
    """

    method: str
    params: Json
    session_key: str = ""
    capabilities: Json = field(default_factory=dict)
    notify: Notify | None = None
    tool_schema: Json | None = None


class Upstream:
    """A server and everything known about it. Call ``start`` before use and ``stop`` at the end."""

    def __init__(self, server: Server, http: aiohttp.ClientSession, metrics: Metrics) -> None:
        self.server = server
        self.era: str | None = None
        self.capabilities: Json = {}
        self.info: Json = {"name": server.name, "version": ""}
        self.instructions: str | None = None
        self.last_error = ""
        self.latency_ms: float | None = None
        self.probed = asyncio.Event()
        self.replicas: dict[str, Replica] = {url: Replica(url) for url in server.urls}
        self._http = http
        self._metrics = metrics
        self._ids = itertools.count(1)
        self._era_lock = asyncio.Lock()
        self._sessions: OrderedDict[tuple[str, str], _Session] = OrderedDict()
        self._session_locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._pins: OrderedDict[str, str] = OrderedDict()
        self._waiting = 0
        self._inflight = 0
        self._place_freed = asyncio.Condition()
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to resolve the name and to probe the era."""
        if self.server.dns:
            self._background(self._resolve_for_ever())
        self._background(self._probe_for_ever())

    async def stop(self) -> None:
        """End the background work."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _background(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resolve_for_ever(self) -> None:
        while True:
            await self._resolve()
            await asyncio.sleep(RESOLVE_SECONDS)

    async def _resolve(self) -> None:
        dns = self.server.dns
        assert dns is not None
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                dns.name, dns.port, family=socket.AF_INET, type=socket.SOCK_STREAM
            )
        except socket.gaierror:
            found = []
        urls = sorted({f"http://{address[4][0]}:{dns.port}{dns.path}" for address in found})
        if urls == sorted(self.replicas):
            return
        self.replicas = {url: self.replicas.get(url) or Replica(url) for url in urls}
        self._sessions = OrderedDict((k, s) for k, s in self._sessions.items() if k[0] in self.replicas)
        log.info("replicas", extra={"server": self.server.name, "replicas": len(urls)})

    async def _probe_for_ever(self) -> None:
        """Learn the era early and keep trying while the server is away; later calls learn of changes."""
        delay = 0.25
        while True:
            if self.era is None:
                with contextlib.suppress(RpcError):
                    await self._known_era()
                if self.replicas or self.era:
                    self.probed.set()
            self._update_gauges()
            await asyncio.sleep(delay if self.era is None else 2.0)
            delay = min(delay * 1.5, PROBE_SECONDS) if self.era is None else 0.25

    def _update_gauges(self) -> None:
        healthy = sum(1 for replica in self.replicas.values() if replica.healthy)
        self._metrics.replicas.labels(self.server.name, "healthy").set(healthy)
        self._metrics.replicas.labels(self.server.name, "known").set(len(self.replicas))

    # -- replicas --------------------------------------------------------------------------------

    def _choose(self, tried: set[str], session_key: str) -> Replica:
        """Power of two choices on calls in flight, among healthy replicas not tried yet; pinned if sticky."""
        if self.server.sticky and (pinned := self._pins.get(session_key)):
            replica = self.replicas.get(pinned)
            if replica and replica.url not in tried:
                return replica
        left = [replica for replica in self.replicas.values() if replica.url not in tried]
        choice = [replica for replica in left if replica.healthy] or left
        if not choice:
            raise RpcError(
                UNAVAILABLE, f"server {self.server.name} has no replica; {self.last_error or 'none is running'}"
            )
        replica = min(random.sample(choice, min(2, len(choice))), key=lambda r: r.inflight)
        if self.server.sticky:
            self._pins[session_key] = replica.url
            while len(self._pins) > MAX_SESSIONS:
                self._pins.popitem(last=False)
        return replica

    def _failed(self, replica: Replica, why: BaseException) -> None:
        replica.failures += 1
        seconds = min(MAX_EJECTION_SECONDS, 0.5 * 2**replica.failures)
        replica.ejected_until = time.monotonic() + seconds
        self.last_error = f"{urlsplit(replica.url).netloc}: {type(why).__name__}: {why}"[:300]
        self._metrics.ejections.labels(self.server.name).inc()
        for key in [key for key in self._sessions if key[0] == replica.url]:
            del self._sessions[key]

    # -- admission -------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """A place among the calls in flight; waits in a bounded queue, first come first served."""
        name = self.server.name

        def full() -> bool:
            return self._inflight >= self.server.concurrency * max(1, len(self.replicas))

        if full():
            limit = QUEUE_PER_PLACE * self.server.concurrency
            if self._waiting >= limit:
                raise RpcError(
                    BUSY, f"server {name} is busy: {self._waiting} calls wait already; try again in a second"
                )
            self._waiting += 1
            self._metrics.queued.labels(name).set(self._waiting)
            try:
                async with asyncio.timeout(min(QUEUE_SECONDS, self.server.timeout_seconds)), self._place_freed:
                    await self._place_freed.wait_for(lambda: not full())
            except TimeoutError:
                raise RpcError(
                    BUSY, f"server {name} is busy: no place within {QUEUE_SECONDS:.0f} s; try again"
                ) from None
            finally:
                self._waiting -= 1
                self._metrics.queued.labels(name).set(self._waiting)
        self._inflight += 1
        self._metrics.inflight.labels(name).set(self._inflight)
        try:
            yield
        finally:
            self._inflight -= 1
            self._metrics.inflight.labels(name).set(self._inflight)
            if self._waiting:
                async with self._place_freed:
                    self._place_freed.notify()

    # -- calling ---------------------------------------------------------------------------------

    async def request(self, call: Call) -> Json:
        """The server's result.

        Raises:
            RpcError: the server's own error, or why it could not be asked.
        """
        async with self._place():
            era = await self._known_era()
            tried: set[str] = set()
            while True:
                replica = self._choose(tried, call.session_key)
                tried.add(replica.url)
                try:
                    start = time.monotonic()
                    answer = await self._attempt(replica, era, call)
                    self.latency_ms = round((time.monotonic() - start) * 1000, 1)
                    replica.failures, replica.ejected_until = 0, 0.0
                    return answer
                except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as failure:
                    self._failed(replica, failure)
                    again, note = True, "it could not be reached"
                except TimeoutError as failure:
                    self.last_error = f"no answer to {call.method} within {self.server.timeout_seconds:g} s"
                    raise RpcError(
                        TIMED_OUT, f"server {self.server.name}: {self.last_error}; it may still run"
                    ) from failure
                except (aiohttp.ClientError, OSError) as failure:
                    self._failed(replica, failure)
                    again, note = call.method in SAFE, "the connection broke; the call may have run"
                if not again or len(tried) >= len(self.replicas):
                    self.era = None if not any(r.healthy for r in self.replicas.values()) else self.era
                    raise RpcError(UNAVAILABLE, f"server {self.server.name}: {note} ({self.last_error})")

    async def notify_server(self, session_key: str, method: str, params: Json) -> None:
        """Send a notification over the sessions of ``session_key``; failures do not matter to anyone."""
        for (_, key), session in list(self._sessions.items()):
            if key == session_key:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                    body = {"jsonrpc": "2.0", "method": method, "params": params}
                    async with self._post(session.replica, body, self._session_headers(session)) as response:
                        await response.read()

    async def _attempt(self, replica: Replica, era: str, call: Call) -> Json:
        replica.inflight += 1
        try:
            if era == MODERN:
                return await self._modern(replica, call)
            try:
                return await self._legacy(replica, call)
            except _SessionLost:
                # The server refused before it ran anything, so once more with a new session is safe.
                self._sessions.pop((replica.url, call.session_key), None)
                return await self._legacy(replica, call)
        except _SessionLost:
            raise RpcError(UNAVAILABLE, f"server {self.server.name} does not keep its sessions") from None
        finally:
            replica.inflight -= 1

    async def _modern(self, replica: Replica, call: Call) -> Json:
        """A stateless call of 2026-07-28 (basic/transports/streamable-http)."""
        meta = {k: v for k, v in (call.params.get("_meta") or {}).items()}
        meta |= {
            PROTOCOL_VERSION_META_KEY: MODERN,
            CLIENT_CAPABILITIES_META_KEY: call.capabilities,
            CLIENT_INFO_META_KEY: GATEWAY_INFO,
        }
        params = {**call.params, "_meta": meta}
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": call.method}
        if (key := NAME_PARAMS.get(call.method)) and isinstance(params.get(key), str):
            headers["Mcp-Name"] = encode_header_value(params[key])
        if call.tool_schema is not None:
            headers |= mcp_param_headers(x_mcp_header_map(call.tool_schema), params.get("arguments") or {})
        body: Json = {"jsonrpc": "2.0", "id": next(self._ids), "method": call.method, "params": params}
        async with self._post(replica, body, headers) as response:
            return _result(await self._answer(replica, response, body["id"], call.notify, None))

    async def _legacy(self, replica: Replica, call: Call) -> Json:
        """A call within a session of 2025 (2025-11-25 basic/transports)."""
        session = await self._session(replica, call.session_key)
        params = dict(call.params)
        if "_meta" in params:
            params["_meta"] = {k: v for k, v in params["_meta"].items() if not k.startswith(RESERVED_META)}
        body: Json = {"jsonrpc": "2.0", "id": next(self._ids), "method": call.method, "params": params}
        try:
            async with self._post(replica, body, self._session_headers(session)) as response:
                if response.status in (400, 404) and session.id:
                    message = await _message(response)
                    if not isinstance(message.get("error"), dict) or response.status == 404:
                        raise _SessionLost
                    if "session" in str(message["error"].get("message", "")).lower():
                        raise _SessionLost
                    return _result(message)
                return _result(await self._answer(replica, response, body["id"], call.notify, session))
        except asyncio.CancelledError:
            self._background(self.notify_server(call.session_key, "notifications/cancelled", {"requestId": body["id"]}))
            raise

    async def _session(self, replica: Replica, key: str) -> _Session:
        """The pre-initialised session of ``key`` with this replica, made on first use."""
        pool_key = (replica.url, key)
        lock = self._session_locks.setdefault(pool_key, asyncio.Lock())
        async with lock:
            if session := self._sessions.get(pool_key):
                session.used = time.monotonic()
                self._sessions.move_to_end(pool_key)
                return session
            session, message = await self._initialize(replica)
            if "result" not in message:
                raise RpcError(UNAVAILABLE, f"server {self.server.name} refused initialize: {message.get('error')}")
            self._sessions[pool_key] = session
            while len(self._sessions) > MAX_SESSIONS:
                old, _ = self._sessions.popitem(last=False)
                self._session_locks.pop(old, None)
            return session

    async def _initialize(self, replica: Replica) -> tuple[_Session, Json]:
        params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": GATEWAY_INFO}
        body: Json = {"jsonrpc": "2.0", "id": next(self._ids), "method": "initialize", "params": params}
        async with self._post(replica, body, {}) as response:
            session = _Session(replica, LEGACY, response.headers.get("Mcp-Session-Id"))
            message = await self._answer(replica, response, body["id"], None, None)
        if "result" in message:
            session.version = str(message["result"].get("protocolVersion", LEGACY))
            self._learn(message["result"])
            note = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            async with self._post(replica, note, self._session_headers(session)) as response:
                await response.read()
        return session, message

    @staticmethod
    def _session_headers(session: _Session) -> dict[str, str]:
        headers = {"MCP-Protocol-Version": session.version}
        return headers | ({"Mcp-Session-Id": session.id} if session.id else {})

    # -- era -------------------------------------------------------------------------------------

    async def _known_era(self) -> str:
        """Which era the server speaks; probed once and again after it was away.

        A dual-era client asks ``server/discover`` first and falls back to ``initialize`` on whatever is not
        a modern answer (2026-07-28 basic/versioning). What proves neither is not remembered.
        """
        if self.era:
            return self.era
        async with self._era_lock:
            if self.era:
                return self.era
            replica = self._choose(set(), "")
            try:
                async with asyncio.timeout(PROBE_SECONDS):
                    self.era = await self._probe(replica)
            except (aiohttp.ClientError, OSError, TimeoutError) as failure:
                self._failed(replica, failure)
                raise RpcError(
                    UNAVAILABLE, f"server {self.server.name} cannot be reached ({self.last_error})"
                ) from failure
            self.last_error = ""
            return self.era

    async def _probe(self, replica: Replica) -> str:
        try:
            discovered = await self._modern(replica, Call("server/discover", {}))
        except RpcError as refusal:
            if -32022 <= refusal.code <= -32020:
                raise RpcError(UNAVAILABLE, f"server {self.server.name} speaks no version of ours: {refusal}") from None
        else:
            if MODERN in discovered.get("supportedVersions", []):
                self._learn(discovered)
                return MODERN
        session, message = await self._initialize(replica)
        if "result" not in message:
            self.last_error = f"neither discover nor initialize works: {message.get('error')}"[:300]
            raise RpcError(UNAVAILABLE, f"server {self.server.name}: {self.last_error}")
        self._sessions[(replica.url, "")] = session
        return LEGACY

    def _learn(self, hello: Json) -> None:
        self.capabilities = hello.get("capabilities") or {}
        info = hello.get("serverInfo") or (hello.get("_meta") or {}).get("io.modelcontextprotocol/serverInfo")
        self.info = info or self.info
        self.instructions = hello.get("instructions")

    # -- wire ------------------------------------------------------------------------------------

    def _post(self, replica: Replica, body: Json, headers: dict[str, str]) -> Any:
        sent = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            **self.server.headers,
            **headers,
        }
        if self.server.host_header:
            sent["Host"] = self.server.host_header
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=self.server.timeout_seconds)
        return self._http.post(
            replica.url, data=orjson.dumps(body), headers=sent, timeout=timeout, allow_redirects=False
        )

    async def _answer(
        self,
        replica: Replica,
        response: aiohttp.ClientResponse,
        identity: int,
        notify: Notify | None,
        session: _Session | None,
    ) -> Json:
        """The response message; notifications before it go to ``notify``, requests of the server are declined."""
        if not response.content_type.startswith("text/event-stream"):
            return await _message(response)
        try:
            async for data in events(response.content.iter_any(), MAX_MESSAGE_BYTES):
                message = _parsed(data)
                if message.get("id") == identity and "method" not in message:
                    return message
                if "method" in message and "id" not in message:
                    if notify:
                        await notify(message)
                elif "method" in message and session:
                    refusal = error(message["id"], METHOD_NOT_FOUND, "the gateway declared no such capability")
                    async with self._post(replica, refusal, self._session_headers(session)) as answered:
                        await answered.read()
        except TooLarge as failure:
            raise RpcError(UNAVAILABLE, f"server {self.server.name}: {failure}") from failure
        raise aiohttp.ClientPayloadError("the event stream ended without a response")


async def _message(response: aiohttp.ClientResponse) -> Json:
    """A JSON body as a message; an HTTP failure without one becomes an error message."""
    text = await response.read()
    message = _parsed(text)
    if "result" in message or "error" in message:
        return message
    shown = text[:200].decode(errors="replace").strip()
    return error(None, UNAVAILABLE, f"HTTP {response.status} {shown}".strip())


def _parsed(data: bytes) -> Json:
    try:
        value = orjson.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _result(message: Json) -> Json:
    if "error" in message:
        failure = message["error"] if isinstance(message["error"], dict) else {}
        raise RpcError(failure.get("code", UNAVAILABLE), str(failure.get("message", "error")), failure.get("data"))
    value = message.get("result")
    return value if isinstance(value, dict) else {}
