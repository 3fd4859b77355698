"""One upstream server: its replicas, what it speaks, and the way of a call to it.

``request`` waits for a place, chooses a replica and tries it; ``_attempt`` speaks the replica's era. Another
replica is tried only after nothing was sent, or for a request that is safe to repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine
from typing import Any

from mcp_gateway.config import Server
from mcp_gateway.metrics import Metrics
from mcp_gateway.net.client import Client, ConnectFailed, ExchangeError, Silent
from mcp_gateway.policy import ToolPolicy
from mcp_gateway.protocol import (
    LEGACY,
    LOG_LEVELS,
    MODERN,
    MODERN_ERRORS,
    SERVER_INFO_META_KEY,
    TIMED_OUT,
    UNAVAILABLE,
    Json,
    RpcError,
)
from mcp_gateway.sessions import Address, Pin
from mcp_gateway.upstream import modern
from mcp_gateway.upstream.admission import QUEUE_PER_PLACE, QUEUE_SECONDS, Admission
from mcp_gateway.upstream.call import Call, Changed
from mcp_gateway.upstream.call import Client as CallClient
from mcp_gateway.upstream.legacy import LegacySessions, UpstreamSession
from mcp_gateway.upstream.replicas import Replica, Replicas
from mcp_gateway.upstream.watch import Watch
from mcp_gateway.upstream.wire import Answer, Wire, WrongEra

PROBE_SECONDS = 10.0
WATCH_SECONDS = 0.5
IDLE_SESSION_SECONDS = 600.0
# How soon a stream that ended is opened again; a server that has none is not asked often.
RELAY_SECONDS = 0.5
MAX_RELAY_SECONDS = 60.0

log = logging.getLogger("mcp_gateway.upstream")


class Upstream:
    """A server and everything known about it. Call ``start`` before use and ``stop`` at the end.

    Attributes:
        era: the protocol version line it speaks, None until known.
        capabilities, info, instructions: as it introduced itself last.
        last_error: why it could not be asked last time; empty when all is well.
        latency_ms: of its latest answer.
        probed: set once each replica known was probed, whatever came of it.
        changed: takes the server's word that a list or a resource of its changed: method and params.
    """

    def __init__(self, server: Server, client: Client, metrics: Metrics, session_seconds: float = 86400.0) -> None:
        self.server = server
        self.name = server.name
        self.policy = ToolPolicy(server.allow, server.deny)
        self.era: str | None = None
        self.capabilities: Json = {}
        self.info: Json = {"name": server.name, "version": ""}
        self.instructions: str | None = None
        self.last_error = ""
        self.latency_ms: float | None = None
        self.probed = asyncio.Event()
        self.changed: Changed = lambda _method, _params: None
        self.replicas = Replicas(server.name, server.urls, metrics)
        self._metrics = metrics
        self._seconds = metrics.upstream_seconds.labels(server.name)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wire = Wire(server, client)
        idle = session_seconds if server.sticky else IDLE_SESSION_SECONDS
        self._sessions = LegacySessions(server.name, self._wire, idle, self._background)
        self._watched = Watch(server.name, self._wire, self._sessions, lambda *news: self.changed(*news))
        self._admission = Admission(
            server.name,
            lambda: server.concurrency * max(1, len(self.replicas)),
            QUEUE_PER_PLACE * server.concurrency,
            min(QUEUE_SECONDS, server.timeout_seconds),
            metrics,
        )

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look for replicas and to probe them."""
        if self.server.dns:
            self._background(self.replicas.follow(self.server.dns, self._admission.grant))
        self._background(self._watch())
        watched = self._watched.run(lambda: self.replicas.choose(set(), None, "watch"), lambda: self.capabilities)
        self._background(watched)

    async def retire(self) -> None:
        """Take no new calls, let those in flight end, and stop."""
        deadline = time.monotonic() + self.server.max_seconds
        while any(r.inflight for r in self.replicas.by_url.values()) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        await self.stop()
        self._update_gauges(gone=True)

    async def stop(self) -> None:
        """End the background work and the sessions that nobody else can use."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._sessions.close()

    def watch(self, uris: frozenset[str]) -> None:
        """Tell ``changed`` of updates of these resources."""
        self._watched.want(uris)

    async def settled(self) -> None:
        """Wait until it tells what is wanted of it, or cannot."""
        await self._watched.settled.wait()

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch(self) -> None:
        """Probe replicas that are new or were away before a call has to, and keep house."""
        while True:
            unknown = [r for r in self.replicas.by_url.values() if r.era is None and r.healthy]
            if unknown:
                await asyncio.gather(*(self._era_of(replica) for replica in unknown), return_exceptions=True)
            if self.replicas.by_url:
                self.probed.set()
            self._sessions.reap(set(self.replicas.by_url))
            self._update_gauges()
            await asyncio.sleep(WATCH_SECONDS)

    def _update_gauges(self, *, gone: bool = False) -> None:
        if gone:
            self.replicas.by_url.clear()
            self.era = None
        healthy = sum(1 for replica in self.replicas.by_url.values() if replica.healthy)
        self._metrics.replicas.labels(self.name, "healthy").set(healthy)
        self._metrics.replicas.labels(self.name, "known").set(len(self.replicas))
        self._metrics.sessions.labels(self.name).set(len(self._sessions))
        for era in (MODERN, LEGACY):
            self._metrics.era.labels(self.name, era).set(self.era == era)

    # -- calling ---------------------------------------------------------------------------------

    async def request(self, call: Call) -> Json:
        """The server's result.

        Raises:
            RpcError: the server's own error, or why it could not be asked.
        """
        await self._admission.enter()
        try:
            return await self._request(call)
        finally:
            self._admission.leave()

    async def _request(self, call: Call) -> Json:
        tried: set[str] = set()
        while replica := self._choose(call, tried):
            tried.add(replica.url)
            call.replica = replica.address
            replica.inflight += 1
            start = time.perf_counter()
            try:
                result = await self._attempt(replica, call)
            except ConnectFailed as failure:
                self._failed(replica, failure)  # nothing was sent
            except Silent as failure:
                waited = round(time.perf_counter() - start, 1)
                self.last_error = f"{replica.address}: no answer to {call.method} within {waited:g} s"
                raise RpcError(TIMED_OUT, f"server {self.name}: {self.last_error}; it may still run") from failure
            except RpcError as failure:
                if failure.code != UNAVAILABLE:
                    raise  # the server's own
                self.last_error = f"{replica.address}: {failure.message}"
                raise RpcError(UNAVAILABLE, f"server {self.name}: {failure.message}", failure.data) from failure
            except ExchangeError as failure:
                self._failed(replica, failure)
                if not call.safe:
                    raise RpcError(
                        UNAVAILABLE, f"server {self.name}: the connection broke, the call may have run ({failure})"
                    ) from failure
            else:
                self.replicas.answered(replica)
                seconds = time.perf_counter() - start
                self.latency_ms = round(seconds * 1000, 1)
                self._seconds.observe(seconds)
                return result
            finally:
                replica.inflight -= 1
        why = self.last_error if tried or self.replicas.by_url else "it has no replica"
        raise RpcError(UNAVAILABLE, f"server {self.name} cannot be reached: {why}")

    def _choose(self, call: Call, tried: set[str]) -> Replica | None:
        if not self.server.sticky:
            return self.replicas.choose(tried, None, None)
        prefer = self._sessions.url_of(call.session_key) or (call.pin.url if call.pin else None)
        return self.replicas.choose(tried, prefer, call.session_key)

    async def _attempt(self, replica: Replica, call: Call) -> Json:
        """One try at one replica, in the era it speaks.

        A replica may come back speaking the other era. It then refuses without executing anything, so the
        request can be sent again once the era is known anew.
        """
        era = replica.era or await self._era_of(replica)
        try:
            return await self._speak(era, replica, call)
        except WrongEra as refusal:
            replica.era = None
            if await self._era_of(replica) == era:
                return refusal.answer.result()
        try:
            return await self._speak(replica.era or era, replica, call)
        except WrongEra as refusal:
            return refusal.answer.result()

    async def _speak(self, era: str, replica: Replica, call: Call) -> Json:
        if era == MODERN:
            return await modern.call(self._wire, replica, call, self.changed)
        return await self._sessions.call(replica, call, self.changed)

    def _failed(self, replica: Replica, failure: BaseException) -> None:
        self.replicas.failed(replica)
        self.last_error = f"{replica.address}: {type(failure).__name__}: {failure}"[:300]
        log.warning("replica failed", extra={"server": self.name, "error": self.last_error})

    # -- sessions of clients ---------------------------------------------------------------------

    @property
    def subscribes(self) -> bool:
        """Whether it tells of updated resources."""
        resources = self.capabilities.get("resources")
        return isinstance(resources, dict) and bool(resources.get("subscribe"))

    async def relay(self, key: str, pin: Pin, capabilities: Json, client: CallClient) -> None:
        """Hand a client session all that the server says outside of calls, for as long as it listens."""
        pause = RELAY_SECONDS
        while True:
            with contextlib.suppress(RpcError, WrongEra, OSError):
                call = Call("", {}, session_key=key, pin=pin, log_level=LOG_LEVELS[0], client=client)
                replica = self._choose(call, set())
                if replica and await self._era_of(replica) != MODERN:
                    session = await self._sessions.session(replica, key, pin, capabilities)
                    answer = await self._sessions.relay(session, call, self.changed)
                    pause = RELAY_SECONDS if answer.status < 400 else MAX_RELAY_SECONDS
            await asyncio.sleep(pause)

    async def open_pin(self, key: str, capabilities: Json) -> Pin | None:
        """Open a client session's own session here; None where the server has no sessions or is away."""
        replica = self.replicas.choose(set(), None, key)
        if replica is None:
            return None
        with contextlib.suppress(RpcError, WrongEra, OSError):
            if await self._era_of(replica) == MODERN:
                return None
            session = await self._sessions.session(replica, key, None, capabilities)
            if session.id:
                session.pinned = True
                return Pin(session.url, session.id, session.version)
        return None

    async def deliver(self, address: Address, response: Json) -> None:
        """Hand a client's response to the session that asked; any gateway replica can.

        Raises:
            OSError: the server's replica is gone.
        """
        session = UpstreamSession(address.url, address.version, address.session or None)
        await self._wire.send(address.url, {**response, "id": address.id}, session.headers())

    def end_session(self, key: str, pin: Pin | None) -> None:
        """A client session is over."""
        self._sessions.end(key, pin)

    # -- era -------------------------------------------------------------------------------------

    async def _era_of(self, replica: Replica) -> str:
        """The era that a replica speaks; probed once, and again after it was away.

        Raises:
            RpcError: it answered, but neither era's hello.
            OSError, TimeoutError: it could not be asked.
        """
        async with replica.probing:
            if replica.era is None:
                try:
                    async with asyncio.timeout(PROBE_SECONDS):
                        replica.era = await self._probe(replica)
                except (OSError, RpcError) as failure:
                    self._failed(replica, failure)
                    raise
                self.era = replica.era
                self.last_error = ""
                self._watched.wake()
                self.replicas.answered(replica)
            return replica.era

    async def _probe(self, replica: Replica) -> str:
        """Ask ``server/discover`` first; whatever is no modern answer leads to ``initialize``.

        2026-07-28 basic/versioning, "Backward Compatibility": no single error code decides, and what proves
        neither era is not remembered.
        """
        try:
            hello = await modern.call(self._wire, replica, Call("server/discover", {}, safe=True), self.changed)
        except WrongEra:
            pass
        except RpcError as refusal:
            if refusal.code in MODERN_ERRORS:
                raise RpcError(
                    UNAVAILABLE, f"it speaks a version of the protocol that the gateway does not: {refusal.data}"
                ) from None
        else:
            if MODERN in hello.get("supportedVersions", ()):
                self._learn(hello)
                return MODERN
        try:
            session = await self._sessions.session(replica, "")
        except WrongEra as refusal:
            raise RpcError(
                UNAVAILABLE, f"it answers neither server/discover nor initialize{_said(refusal.answer)}"
            ) from None
        if session.hello:
            self._learn(session.hello)
        return LEGACY

    def _learn(self, hello: Json) -> None:
        capabilities = hello.get("capabilities")
        self.capabilities = capabilities if isinstance(capabilities, dict) else {}
        info = hello.get("serverInfo") or (hello.get("_meta") or {}).get(SERVER_INFO_META_KEY)
        if isinstance(info, dict):
            self.info = info
        instructions = hello.get("instructions")
        self.instructions = instructions if isinstance(instructions, str) else None


def _said(answer: Answer) -> str:
    failure = answer.message.get("error")
    return f": {failure.get('message')}" if isinstance(failure, dict) else f" (HTTP {answer.status})"
