"""The gateway. One request, by eye:

``handle`` routes → ``Endpoint.serve`` checks whence, who and what → an era of ``downstream`` opens the envelope →
``View.handle`` finds the server → ``Upstream.request`` calls a replica → the era dresses the result → ``Channel``
sends JSON, or an event stream as soon as something precedes the result.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import time
from collections.abc import Coroutine
from functools import partial
from typing import Any

import orjson

from mcp_gateway import passes, peers
from mcp_gateway.answers import Answers
from mcp_gateway.auth import Unauthorized, metadata
from mcp_gateway.backend import Backend
from mcp_gateway.board import Board, Document
from mcp_gateway.canaries import SUFFIX, Canaries, replicas_of
from mcp_gateway.catalog import Catalog
from mcp_gateway.config import Config, Server
from mcp_gateway.console import Console
from mcp_gateway.downstream.parking import Parking
from mcp_gateway.endpoint import Endpoint, Shared, unauthorized
from mcp_gateway.hub import LISTS_CHANGED, Hub
from mcp_gateway.metrics import Metrics
from mcp_gateway.net.client import Client
from mcp_gateway.net.messages import Response
from mcp_gateway.net.server import Exchange
from mcp_gateway.net.server import Server as HttpServer
from mcp_gateway.pinning import Pins, PinSettings
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import INVALID_REQUEST, Json, error
from mcp_gateway.sessions import Pin, Sealer
from mcp_gateway.states import States
from mcp_gateway.upstream.lanes import Commons
from mcp_gateway.upstream.server import Upstream
from mcp_gateway.views import Site, View

READY_GRACE_SECONDS = 20.0
# A name that resolves to nothing may do so a moment later; a server that is not there at all is not waited for.
ABSENT_GRACE_SECONDS = 3.0
TICK_SECONDS = 1.0
# How often each server's house is kept, and in how many parts.
KEEP_SECONDS = 0.25
KEEP_PARTS = 5

log = logging.getLogger("mcp_gateway")


class Gateway:
    """The whole: ``start`` and ``stop`` bracket its life, ``handle`` takes each HTTP request.

    Attributes:
        draining: whether it is about to end; calls in flight may, new ones still can.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.metrics = Metrics()
        self.draining = False
        self.http = HttpServer(self.handle, self._unreadable)
        self._started = 0.0
        self._client = Client()
        self._upstreams: dict[str, Upstream] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._views: dict[str, View] = {}
        self._catalog = Catalog(config.list_ttl_seconds, Pins(config.pinning))
        self._sealer = Sealer(config.session_keys, config.session_ttl_seconds)
        self._commons = Commons(config, self._client, self.metrics)
        self._hub = Hub(self._wanted)
        address = peers.own_address(config.host, config.port)
        self._states = States(self._sealer, self._hub)
        self._states.pinned, self._states.over = self._pinned, self._over
        self._parking = Parking(self._sealer, address)
        self._closed = asyncio.Event()
        self._answers = Answers()
        self.metrics.fleet.servers = lambda: self._upstreams.values()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._shared = Shared(config, self.metrics, self._client, address, self._states)
        self._canaries = Canaries(config, self._client, lambda: self._upstreams, self._met, self.background)
        self._board: Board | None = None
        if config.board.enabled:
            self._board = Board(
                config.board, config.session_keys, self._client, f"{address} {os.urandom(4).hex()}",
                self._canaries.report, self._heard,
            )  # fmt: skip
            self.metrics.registry.register(self._canaries)
            self.metrics.fleet.closed = lambda: self._shared.maintenance.notices
        if config.peers.enabled:
            self._shared.peers = peers.Peers(
                config.peers,
                config.session_keys,
                self._states,
                self._shared.limiter,
                self._client,
                self.metrics,
                self._cancelled,
            )
        backend = Backend(
            self._shared,
            self.status,
            self._principal_of,
            lambda: self._views["/mcp"],
        )
        keys = [hashlib.sha256(b"console" + key).digest() for key in config.session_keys]
        self._console = Console(backend, keys or [os.urandom(32)], config.public_url)

    # -- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to look for the servers."""
        self._client.start()
        self._started = time.monotonic()
        self._shared.audit.start()
        self._apply(self.config)
        if self._shared.peers:
            self._shared.peers.start()
        if self._board:
            self.background(self._board.run())
        self.background(self._tick())
        self.background(self._keep())

    def update(self, config: Config) -> None:
        """Serve by another configuration from now on; calls in flight end as they began.

        Servers whose part did not change keep their connections, sessions and lists.

        Raises:
            ConfigError: the pin file cannot be used; nothing changed.
        """
        if config.pinning != self.config.pinning:
            self._catalog.review(Pins(config.pinning))  # before anything else changes: it may be refused
        self._catalog.configure(config.list_ttl_seconds)
        self._commons.configure(config)
        self._canaries.configure(config)
        self._shared.auth.update(config.auth)
        self._shared.audit.update(config.audit)
        self._apply(config)
        log.info("configuration changed", extra={"servers": [server.name for server in config.servers]})

    def _apply(self, config: Config) -> None:
        self.config = config
        self._answers.configure({server.name: server.cache for server in config.servers})
        self._shared.configure(config)
        before, self._upstreams = self._upstreams, {}
        met = []
        for server in config.servers:
            old = before.get(server.name)
            if old and old.server == server:
                self._upstreams[server.name] = before.pop(server.name)
            else:
                self._upstreams[server.name] = self._met(server, self._commons)
                met.append(server.name)
        for upstream in before.values():
            self._catalog.drop(upstream.name)
            self._relisted(upstream.name)
            self.background(upstream.retire())
        views = {"/mcp": self._view("/mcp", self._upstreams, merged=True, previous=self._views.get("/mcp"))}
        for name, upstream in self._upstreams.items():
            path = f"/servers/{name}/mcp"
            views[path] = self._view(path, {name: upstream}, merged=False, previous=self._views.get(path))
        self._views = views
        # Endpoints stay what they are to their sessions; only what they show changes.
        for path, view in views.items():
            if endpoint := self._endpoints.get(path):
                endpoint.show(view)
            else:
                self._endpoints[path] = Endpoint(path, view, self._shared, self._sealer, self._parking, self._hub)
        for path in self._endpoints.keys() - views.keys():
            del self._endpoints[path]
        self._canaries.refresh()
        for name in met:  # each knows nothing yet of what clients wait for
            self._wanted(name)
            self._relisted(name)

    def _relisted(self, server: str) -> None:
        """What the server offers may not be what it was: those who see it now are told, once all of this is done."""
        for method in LISTS_CHANGED:
            self._hub.publish(server, method, {})

    def _heard(self, said: Document) -> None:
        """The board says something new."""
        self._shared.maintenance.notices = said.maintenance
        self._canaries.apply(said.canaries)

    def _met(self, server: Server, commons: Commons) -> Upstream:
        upstream = Upstream(server, commons)
        upstream.changed = partial(self._changed, server.name)
        if server.sticky and self._shared.peers:
            upstream.clients.follow(partial(self._states.repin, server.name))
        upstream.start()
        return upstream

    def _view(self, path: str, upstreams: dict[str, Upstream], *, merged: bool, previous: View | None = None) -> View:
        site = Site(path, upstreams, self._catalog, self.config.profiles, self._shared.limiter, merged=merged)
        return View(site, self.config.search, self._sealer, self._answers, self._closed, previous)

    def _changed(self, server: str, method: str, params: Json) -> None:
        """A server says that something of its changed."""
        self._answers.notice(server, method, params)
        if method.endswith("/list_changed"):
            self._catalog.forget(server)
        # What the server says of our subscription concerns nobody else's.
        self._hub.publish(server, method, {key: value for key, value in params.items() if key != "_meta"})

    def _wanted(self, server: str) -> None:
        if upstream := self._upstreams.get(server):
            upstream.watch(self._hub.resources(server))

    # -- what other replicas tell ----------------------------------------------------------------

    def _pinned(self, server: str, key: str, pin: Pin) -> None:
        if upstream := self._upstreams.get(server):
            upstream.clients.adopt(key, pin)

    def _over(self, key: str) -> None:
        for upstream in self._upstreams.values():
            if upstream.server.sticky:
                upstream.clients.end(key, None)

    def _cancelled(self, endpoint: str, session: str, identity: Any) -> None:
        if found := self._endpoints.get(endpoint):
            found.cancel(session, identity)

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run what nobody waits for."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self) -> None:
        """Keep house for the servers, in turn: with hundreds of them no call waits for all at once."""
        part = 0
        while True:
            await asyncio.sleep(KEEP_SECONDS / KEEP_PARTS)
            part = (part + 1) % KEEP_PARTS
            for upstream in list(self._upstreams.values())[part::KEEP_PARTS]:
                upstream.tick()
                if upstream.canary:
                    upstream.canary.upstream.tick()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if await self._catalog.pins.refresh():
                self._catalog.review()
            now = time.monotonic()
            self._parking.sweep(now)
            for waiting in list(self._shared.open):
                waiting.keep_alive(now)

    def drain(self) -> None:
        """Say that the end is near: /readyz, connections, and streams without an end of their own."""
        self.draining = True
        self.http.draining = True
        self._closed.set()

    def reopen(self) -> None:
        """Open log files anew, after a rotation."""
        self._shared.audit.reopen()

    @property
    def inflight(self) -> int:
        """Calls in flight."""
        return self._shared.inflight

    async def stop(self) -> None:
        """End the background work and the connections."""
        await self.http.close(1.0)
        if self._shared.peers:
            await self._shared.peers.stop()
        self._parking.close()
        await self._catalog.pins.refresh()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(upstream.stop() for upstream in self._upstreams.values()))
        await self._canaries.stop()
        await self._shared.auth.close()
        if self._shared.tracer:
            await asyncio.to_thread(self._shared.tracer.close)
        await self._shared.audit.close()
        self._client.close()

    # -- routes ----------------------------------------------------------------------------------

    def handle(self, exchange: Exchange) -> None:
        """Answer a request, at once or by a task of its own."""
        path = exchange.request.path
        if endpoint := self._endpoints.get(path):
            endpoint.take(exchange)
        elif path == "/healthz":
            exchange.respond(_text(200, "ok"))
        elif path == "/readyz":
            ready, why = self._ready()
            exchange.respond(_text(200 if ready else 503, why))
        elif path == "/metrics":
            exchange.respond(Response(200, self.metrics.text(), "text/plain; version=0.0.4; charset=utf-8"))
        elif path.endswith(SUFFIX) and (canary := self._canary_endpoint(path, exchange.request.headers)):
            canary.take(exchange)
        elif path == peers.PATH and self._shared.peers:
            self._shared.peers.take(exchange)
        elif path == "/status":
            self.background(self._told(exchange))
        elif (document := metadata.document(self.config.auth, path)) is not None:
            exchange.respond(Response(200, orjson.dumps(document)))
        elif path == "/console" or path.startswith("/console/"):
            self.background(self._shown(exchange))
        elif path == "/":
            exchange.respond(_text(200, "MCP gateway: connect a client to /mcp or /servers/<name>/mcp\n"))
        else:
            exchange.respond(Response(404, orjson.dumps({"error": f"nothing is at {path}"})))

    def _canary_endpoint(self, path: str, headers: dict[str, str]) -> Endpoint | None:
        """``/servers/<name>/canary/mcp``: a new version by itself, for whoever tries it; others do not see it."""
        name = self._canaries.server_of(path)
        if not name or not passes.good(headers.get(passes.HEADER, ""), self.config.session_keys):
            return None
        canary = self._canaries.by_name[name]
        if canary.endpoint is None:
            catalog = Catalog(0.0, Pins(PinSettings()))
            site = Site(
                path, {name: canary.upstream}, catalog, self.config.profiles, self._shared.limiter, merged=False
            )
            view = View(site, self.config.search, self._sealer, Answers(), self._closed)
            canary.endpoint = Endpoint(path, view, self._shared, self._sealer, self._parking, self._hub)
        return canary.endpoint

    def _unreadable(self, status: int, why: str) -> Response:
        """The answer to what is no request, or too large for one."""
        if status in (413, 431):
            self.metrics.refused.labels("too_large").inc()
        return Response(status, orjson.dumps(error(None, INVALID_REQUEST, why)))

    async def _shown(self, exchange: Exchange) -> None:
        """The console, which is a page: it is behind the same Host check and the same credentials."""
        if not self._shared.host_allowed(exchange.request.headers):
            exchange.respond(Response(403, orjson.dumps({"error": "Host is not allowed"})))
            return
        try:
            response = await self._console.handle(exchange.request)
        except Exception:
            log.exception("the console failed")
            response = Response(500, orjson.dumps({"error": "the console failed; the log says why"}))
        exchange.respond(response or Response(404, orjson.dumps({"error": "nothing is there"})))

    async def _told(self, exchange: Exchange) -> None:
        """/status, for those with a credential."""
        headers = exchange.request.headers
        try:
            await self._shared.auth.authenticate(
                headers.get("authorization", ""), headers.get("x-api-key", ""), exchange.request.path
            )
        except Unauthorized as refusal:
            exchange.respond(unauthorized(refusal))
        else:
            exchange.respond(Response(200, orjson.dumps(self.status(), option=orjson.OPT_INDENT_2)))

    async def _principal_of(self, credential: str) -> Principal | None:
        """Whose credential it is, as for the merged endpoint."""
        try:
            return await self._shared.auth.authenticate(f"Bearer {credential}" if credential else "", "", "/mcp")
        except Unauthorized:
            return None

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
        if self._shared.peers and not self._shared.peers.ready:
            waiting.append("what its peers know")
        if self._board and not self._board.ready:
            waiting.append("the board")
        if waiting:
            return False, f"waiting for {', '.join(waiting)}"
        return True, "ready"

    def status(self) -> Json:
        """Per server: era, replicas, tools, last error; described in servers/openapi/fleet_status.json."""
        servers, maintenance = [], self._shared.maintenance.state()
        for name, upstream in self._upstreams.items():
            tools = self._catalog.known(name, "tools/list")
            servers.append(
                {
                    "name": name,
                    "era": upstream.speaker.era,
                    "replicas": replicas_of(upstream),
                    "tools": None if tools is None else sum(upstream.server.tools.permits(t["name"]) for t in tools),
                    "pins": {"changed": changed} if (changed := self._catalog.changed_tools(name)) else None,
                    "latency_ms": upstream.percentiles(),
                    "requests": upstream.requests,
                    "errors": upstream.errors,
                    "asleep": upstream.asleep,
                    "queue": upstream.queue(),
                    "pool": upstream.pool or None,
                    "sessions": upstream.sessions,
                    "last_error": upstream.speaker.last_error,
                    "maintenance": maintenance.get(name),
                    "canary": self._canaries.state(name, self._board.seen if self._board else {}),
                }
            )
        return {
            "servers": servers,
            "draining": self.draining,
            "inflight": self.inflight,
            "maintenance": maintenance or None,
            "board": {"number": self._board.document.number, "error": self._board.last_error} if self._board else None,
        }


def _text(status: int, text: str) -> Response:
    return Response(status, text.encode(), "text/plain; charset=utf-8")
