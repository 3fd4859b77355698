"""The ASGI application. One request, by eye:

``__call__`` routes → ``_mcp`` checks who, whence and what → an era of ``downstream`` opens the envelope →
``View.handle`` finds the server → ``Upstream.request`` calls a replica → the era dresses the result →
``_respond`` sends JSON, or an event stream as soon as something precedes the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
from mcp.shared.inbound import find_duplicated_routing_header

from mcp_gateway import http, sse
from mcp_gateway.auth import Authenticator
from mcp_gateway.catalog import Catalog
from mcp_gateway.config import Config
from mcp_gateway.downstream import Legacy, Modern, Reply, is_modern
from mcp_gateway.http import Receive, Scope, Send
from mcp_gateway.metrics import Metrics
from mcp_gateway.protocol import (
    CALLS,
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    LISTS,
    PARSE_ERROR,
    Json,
    error,
)
from mcp_gateway.sessions import Sealer
from mcp_gateway.upstream import Upstream
from mcp_gateway.views import Request, View

STREAM_AFTER_SECONDS = 10.0
KEEPALIVE_SECONDS = 10.0
READY_GRACE_SECONDS = 20.0
# A name that resolves to nothing may do so a moment later; a server that is not there at all is not waited for.
ABSENT_GRACE_SECONDS = 3.0
KNOWN_METHODS = frozenset({*LISTS, *CALLS, "initialize", "server/discover", "ping", "logging/setLevel"})

log = logging.getLogger("mcp_gateway.access")


class Gateway:
    """The gateway as an ASGI application; ``start`` and ``stop`` bracket its life."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.metrics = Metrics()
        self.draining = False
        self.inflight = 0
        self._auth = Authenticator(config.api_keys)
        self._sealer = Sealer(config.session_keys, config.session_ttl_seconds)
        self._started = 0.0
        self._http: aiohttp.ClientSession | None = None
        self._upstreams: dict[str, Upstream] = {}
        self._eras: dict[str, tuple[Modern, Legacy]] = {}
        # Calls in flight of sessions, by sealed session id and request id: what clients of 2025 may cancel.
        self._running: dict[tuple[str, str], asyncio.Task[Reply]] = {}

    async def start(self) -> None:
        """Open the connections' pool and begin to look for the servers."""
        # Servers close idle connections after some seconds (uvicorn: 5); close ours first.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4, ttl_dns_cache=10)
        self._http = aiohttp.ClientSession(connector=connector, auto_decompress=True)
        self._upstreams = {
            s.name: Upstream(s, self._http, self.metrics, self.config.session_ttl_seconds) for s in self.config.servers
        }
        catalog = Catalog(self.config.list_ttl_seconds)
        views = {"/mcp": View("/mcp", self._upstreams, catalog, merged=True)}
        for name, upstream in self._upstreams.items():
            path = f"/servers/{name}/mcp"
            views[path] = View(path, {name: upstream}, catalog, merged=False)
        self._eras = {path: (Modern(view), Legacy(view, self._sealer)) for path, view in views.items()}
        self._catalog = catalog
        for upstream in self._upstreams.values():
            upstream.lists_changed = partial(catalog.forget, upstream.name)
            upstream.start()
        self._started = time.monotonic()

    async def stop(self) -> None:
        """End the background work and close the connections."""
        await asyncio.gather(*(upstream.stop() for upstream in self._upstreams.values()))
        if self._http:
            await self._http.close()

    # -- routes ----------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        path = scope["path"].rstrip("/") or "/"
        if path in self._eras:
            await self._mcp(path, scope, receive, send)
        elif path == "/healthz":
            await http.text(send, 200, "ok")
        elif path == "/readyz":
            ready, why = self._ready()
            await http.text(send, 200 if ready else 503, why)
        elif path == "/metrics":
            await http.body(send, 200, self.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")
        elif path == "/status":
            if self._auth.principal(http.headers(scope)) is None:
                await self._unauthorized(send)
            else:
                await http.body(send, 200, orjson.dumps(self.status(), option=orjson.OPT_INDENT_2), "application/json")
        elif path == "/":
            await http.text(send, 200, "MCP gateway: connect a client to /mcp or /servers/<name>/mcp\n")
        else:
            await http.body(send, 404, orjson.dumps({"error": f"nothing is at {path}"}), "application/json")

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _ready(self) -> tuple[bool, str]:
        """Ready once every server was reached, or had its time: the others must not wait for a broken one."""
        if self.draining:
            return False, "draining"
        age = time.monotonic() - self._started
        waiting = [
            name
            for name, upstream in self._upstreams.items()
            if not upstream.probed.is_set()
            and age < (READY_GRACE_SECONDS if len(upstream.replicas) else ABSENT_GRACE_SECONDS)
        ]
        if waiting:
            return False, f"waiting for {', '.join(waiting)}"
        return True, "ready"

    def status(self) -> Json:
        """Per server: era, replicas, tools, last error; described in servers/openapi/fleet_status.json."""
        servers = []
        for name, upstream in self._upstreams.items():
            tools = self._catalog.known(name, "tools/list")
            replicas = [
                {"address": r.address, "healthy": r.healthy, "inflight": r.inflight}
                for r in upstream.replicas.by_url.values()
            ]
            servers.append(
                {
                    "name": name,
                    "era": upstream.era,
                    "replicas": replicas,
                    "tools": None if tools is None else sum(upstream.policy.permits(t.get("name", "")) for t in tools),
                    "latency_ms": upstream.latency_ms,
                    "last_error": upstream.last_error,
                }
            )
        return {"servers": servers, "draining": self.draining, "inflight": self.inflight}

    # -- MCP -------------------------------------------------------------------------------------

    async def _mcp(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        headers = http.headers(scope)
        if not self._host_allowed(headers) or not self._origin_allowed(headers):
            self.metrics.refused.labels("origin").inc()
            await http.message(
                send, Reply(403, error(None, INVALID_REQUEST, "this Host or Origin is not allowed here"))
            )
            return
        principal = self._auth.principal(headers)
        if principal is None:
            self.metrics.refused.labels("unauthorized").inc()
            await self._unauthorized(send)
            return
        modern, legacy = self._eras[path]
        if scope["method"] == "DELETE":
            await http.message(send, legacy.end(headers, principal))
            return
        if scope["method"] != "POST":
            await http.body(send, 405, b"", "text/plain", {"Allow": "POST, DELETE"})
            return
        raw = await http.read(receive)
        if raw is None:
            self.metrics.refused.labels("too_large").inc()
            await http.message(
                send, Reply(413, error(None, INVALID_REQUEST, f"the body is larger than {http.MAX_BODY_BYTES} bytes"))
            )
            return
        try:
            body = orjson.loads(raw)
        except ValueError:
            self.metrics.refused.labels("malformed").inc()
            await http.message(send, Reply(400, error(None, PARSE_ERROR, "the body is not JSON")))
            return
        if not isinstance(body, dict) or body.get("jsonrpc") != "2.0":
            self.metrics.refused.labels("malformed").inc()
            await http.message(
                send, Reply(400, error(None, INVALID_REQUEST, "the body is not one JSON-RPC 2.0 message"))
            )
            return
        if "method" in body and not isinstance(body["method"], str):
            self.metrics.refused.labels("malformed").inc()
            await http.message(send, Reply(400, error(None, INVALID_REQUEST, "method is not a string")))
            return
        # Whoever reads the first copy of a doubled header and whoever reads the last would disagree.
        if doubled := find_duplicated_routing_header((k.decode("latin-1"), "") for k, _ in scope["headers"]):
            self.metrics.refused.labels("malformed").inc()
            await http.message(send, Reply(400, error(body.get("id"), HEADER_MISMATCH, f"{doubled} is given twice")))
            return
        era: Modern | Legacy = modern if is_modern(body, headers) else legacy
        if body.get("method") == "notifications/cancelled" and era is legacy:
            self._cancel(headers.get("mcp-session-id", ""), body.get("params"))
        opened = await era.open(body, headers, principal)
        if isinstance(opened, Reply):
            if opened.failed:
                self.metrics.requests.labels(_server_of(path), _known(body.get("method")), "refused").inc()
            await http.message(send, opened)
            return
        await self._run(path, era, body["id"], opened, headers, receive, send)

    def _cancel(self, sealed: str, params: Any) -> None:
        identity = params.get("requestId") if isinstance(params, dict) else None
        if task := self._running.get((sealed, repr(identity))):
            task.cancel()

    async def _run(
        self,
        path: str,
        era: Modern | Legacy,
        identity: Any,
        request: Request,
        headers: dict[str, str],
        receive: Receive,
        send: Send,
    ) -> None:
        """Handle a request while watching its client, and count it."""
        queue: asyncio.Queue[Json] = asyncio.Queue()
        streams = "text/event-stream" in headers.get("accept", "")
        if streams:
            request.notify = queue.put
        start = time.monotonic()
        task = asyncio.ensure_future(era.answer(identity, request))
        key = (headers.get("mcp-session-id", ""), repr(identity))
        if request.session:
            self._running[key] = task
        gone = asyncio.ensure_future(http.disconnected(receive))
        self.inflight += 1
        outcome = "cancelled"
        try:
            outcome = await self._respond(
                task, queue, gone, send, streams=streams, cancel_on_disconnect=isinstance(era, Modern)
            )
        finally:
            self.inflight -= 1
            if self._running.get(key) is task:
                del self._running[key]
            gone.cancel()
            if not task.done():
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone
            seconds = time.monotonic() - start
            server, method = _server_of(path), _known(request.method)
            self.metrics.requests.labels(server, method, outcome).inc()
            self.metrics.seconds.labels(server, method).observe(seconds)
            if log.isEnabledFor(logging.INFO):
                log.info(
                    "call",
                    extra={
                        "principal": request.principal,
                        "server": server,
                        "method": request.method,
                        "target": str(request.params.get("name") or request.params.get("uri") or "")[:128],
                        "outcome": outcome,
                        "ms": round(seconds * 1000, 1),
                    },
                )

    async def _respond(
        self,
        task: asyncio.Task[Reply],
        queue: asyncio.Queue[Json],
        gone: asyncio.Task[None],
        send: Send,
        *,
        streams: bool,
        cancel_on_disconnect: bool,
    ) -> str:
        """Send the answer; returns the outcome.

        JSON where nothing precedes the result; an event stream from the first notification on, or when the
        call takes so long that something between here and the client might give up. A client that leaves
        cancels its call in 2026 (basic/patterns/cancellation) and does not in 2025 (basic/transports).
        """
        first = asyncio.ensure_future(queue.get())
        try:
            if not streams:
                await asyncio.wait(
                    {task, gone} if cancel_on_disconnect else {task}, return_when=asyncio.FIRST_COMPLETED
                )
                if not task.done():
                    return "cancelled"
            else:
                await asyncio.wait(
                    {task, first, gone}, timeout=STREAM_AFTER_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
            if task.done() and not first.done():
                reply = _reply_of(task)
                if reply is None:
                    await http.body(send, 202, b"", "text/plain")
                    return "cancelled"
                await http.message(send, reply)
                return "error" if reply.failed else "ok"
            if not gone.done():
                await http.start(
                    send, 200, "text/event-stream", {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
                )
            while not task.done() or first.done() or not queue.empty():
                if first.done():
                    if not gone.done():
                        await http.chunk(send, sse.event(orjson.dumps(first.result())))
                    first = asyncio.ensure_future(queue.get())
                    await asyncio.sleep(0)
                    continue
                if gone.done() and cancel_on_disconnect:
                    task.cancel()
                watched: set[asyncio.Future[Any]] = {task, first} if gone.done() else {task, first, gone}
                done, _ = await asyncio.wait(watched, timeout=KEEPALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                if not done and not gone.done():
                    await http.chunk(send, sse.KEEPALIVE)
            reply = _reply_of(task)
            if gone.done():
                return "cancelled"
            if reply and reply.message:
                await http.chunk(send, sse.event(orjson.dumps(reply.message)))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return "cancelled" if reply is None else "error" if reply.failed else "ok"
        finally:
            first.cancel()

    # -- who and whence --------------------------------------------------------------------------

    def _host_allowed(self, headers: dict[str, str]) -> bool:
        allowed = self.config.allowed_hosts
        if "*" in allowed:
            return True
        host = headers.get("host", "")
        name = host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdigit() else host
        return name in allowed or host in allowed

    def _origin_allowed(self, headers: dict[str, str]) -> bool:
        origin = headers.get("origin")
        if origin is None or origin in self.config.allowed_origins:
            return True
        return "*" not in self.config.allowed_hosts and urlsplit(origin).hostname in self.config.allowed_hosts

    async def _unauthorized(self, send: Send) -> None:
        body = orjson.dumps({"error": "give an API key as Authorization: Bearer or X-API-Key"})
        await http.body(send, 401, body, "application/json", {"WWW-Authenticate": 'Bearer realm="mcp"'})


def _reply_of(task: asyncio.Task[Reply]) -> Reply | None:
    """The reply; None where the client cancelled the call."""
    if task.cancelled():
        return None
    if failure := task.exception():
        log.error("a request failed in the gateway itself", exc_info=failure)
        return Reply(500, error(None, INTERNAL_ERROR, "the gateway failed; its log says why"))
    return task.result()


def _server_of(path: str) -> str:
    """The metrics' label of an endpoint."""
    return path.split("/")[2] if path != "/mcp" else "*"


def _known(method: object) -> str:
    """The metrics' label of a method; clients must not be able to make up labels."""
    return method if isinstance(method, str) and method in KNOWN_METHODS else "other"
