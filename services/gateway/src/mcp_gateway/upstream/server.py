"""One upstream server: its replicas, what it speaks, and the way of a call to it.

``request`` waits for a place, chooses a replica and tries it; `Speaker` speaks the replica's era. Another replica is
tried only after nothing was sent, or for a request that is safe to repeat.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Coroutine
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import orjson

from mcp_gateway import tracing
from mcp_gateway.config import Server
from mcp_gateway.net import client as net
from mcp_gateway.net.client import Broken, ConnectFailed, ExchangeError, Silent, Taker
from mcp_gateway.protocol import MODERN, TIMED_OUT, UNAVAILABLE, Json, RpcError
from mcp_gateway.sessions import Pin
from mcp_gateway.sse import sole_event
from mcp_gateway.tracing import Span
from mcp_gateway.upstream import legacy, modern
from mcp_gateway.upstream.admission import Gate
from mcp_gateway.upstream.budget import Hedge
from mcp_gateway.upstream.call import Begun, Call, Changed
from mcp_gateway.upstream.canary import Canary, Unreached
from mcp_gateway.upstream.client_sessions import ClientSessions
from mcp_gateway.upstream.health import HealthChecks
from mcp_gateway.upstream.lanes import Commons, Lane
from mcp_gateway.upstream.legacy import LegacySessions
from mcp_gateway.upstream.pools import Pool, Pools
from mcp_gateway.upstream.race import Runner
from mcp_gateway.upstream.replicas import Replica, Replicas
from mcp_gateway.upstream.speaker import Speaker
from mcp_gateway.upstream.waking import Waking
from mcp_gateway.upstream.watch import Watch
from mcp_gateway.upstream.wire import Wire

IDLE_SESSION_SECONDS = 600.0
LATEST = 512
_NONE: set[str] = set()


class Upstream:
    """A server and everything known about it. Call ``start`` before use and ``stop`` at the end.

    Attributes:
        speaker: speaks to its replicas, and knows what they said of it.
        clients: what client sessions hold here.
        requests, errors: calls answered, and those that it failed.
        probed: set once each replica known was probed, whatever came of it.
        changed: takes the server's word that a list or a resource of its changed: method and params.
        direct: whether calls can be sent without a choice of pool, a group's place or a second thought.
        pool: which of GPU and CPU took the latest call; empty for servers without a choice.
        canary: a new version of it that is tried beside it; None where there is none.
    """

    def __init__(self, server: Server, commons: Commons) -> None:
        self.server = server
        self.name = server.name
        self.requests = 0
        self.errors = 0
        self._latest: deque[float] = deque(maxlen=LATEST)
        self.probed = asyncio.Event()
        self.changed: Changed = lambda _method, _params: None
        self.pool = ""
        self.canary: Canary | None = None
        self._commons = commons
        self._metrics = metrics = commons.metrics
        self._seconds = metrics.upstream_seconds.of(server.name)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._main = Lane(server, server.urls, server.dns, server.concurrency, metrics, server.name)
        self.replicas = self._main.replicas
        self._gpu: Lane | None = None
        self._pools: Pools | None = None
        if server.gpu:
            label = f"{server.name} (gpu)"
            self._gpu = Lane(server, server.gpu.urls, server.gpu.dns, server.pools.concurrency, metrics, label)
            self._pools = Pools(server.pools, self._gpu.replicas, self.replicas)
        self._waking: Waking | None = None
        if server.wake_seconds:
            self._waking = Waking(server.name, server.wake_seconds, self._main.queue, lambda: bool(len(self.replicas)))
        self._probing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._hedge = Hedge(server.hedge) if server.hedge.enabled else None
        self._grouped = bool(server.group or server.tools_in_group)
        self.direct = not (self._pools or self._hedge or self._grouped)
        self._wire = Wire(server, commons.client)
        idle = commons.session_seconds if server.sticky else IDLE_SESSION_SECONDS
        self._sessions = LegacySessions(server.name, self._wire, idle, self._background)
        self._watched = Watch(server.name, self._wire, self._sessions, self._changed)
        self.speaker = Speaker(
            server.name, self._wire, self._sessions, self._changed, self._replicas_of, self._watched.wake
        )
        self.clients = ClientSessions(
            self._wire, self._sessions, self.speaker, lambda call: self._choose(self._main, call, _NONE), self._changed
        )
        self.clients.elsewhere = self._elsewhere
        self._checks = [HealthChecks(lane.replicas, self.speaker.check, server.health) for lane in self.lanes]

    # -- life ------------------------------------------------------------------------------------

    @property
    def lanes(self) -> list[Lane]:
        """The one, or both: GPU first."""
        return [self._gpu, self._main] if self._gpu else [self._main]

    @property
    def by_pool(self) -> dict[Pool, Replicas]:
        """The replicas of each pool that there is: GPU first."""
        return {Pool.CPU if lane is self._main else Pool.GPU: lane.replicas for lane in self.lanes}

    @property
    def all_replicas(self) -> list[Replica]:
        """Of both pools."""
        return [replica for lane in self.lanes for replica in lane.replicas.by_url.values()]

    def start(self) -> None:
        """Begin to look for replicas and to probe them; ``tick`` goes on with it."""
        for lane in self.lanes:
            if lane.dns:
                self._background(lane.replicas.follow(lane.dns, lane.admission.grant))
        self._watching = self._background(self._watched.run(self._told_by, lambda: self.speaker.capabilities))
        self.tick()

    def tick(self) -> None:
        """Keep house, some times each second: probe replicas that are new or were away before a call has to."""
        for checks in self._checks:
            checks.tick()
        if self._probing is None or self._probing.done():
            replicas = self.all_replicas
            unknown = [replica for replica in replicas if replica.era is None and replica.healthy]
            if unknown:
                self._probing = self._background(self._introduce(unknown))
            elif replicas:
                self.probed.set()
        if self._sessions:
            self._sessions.reap({replica.url for replica in self.all_replicas})

    async def _introduce(self, replicas: list[Replica]) -> None:
        await asyncio.gather(*(self.speaker.era_of(replica) for replica in replicas), return_exceptions=True)
        self.probed.set()

    def _told_by(self) -> Replica | None:
        return self.replicas.choose(set(), None, "watch")

    def _elsewhere(self, key: str, pin: Pin | None, new: bool) -> ClientSessions | None:
        """The canary's client sessions, where a session is there, or is new and to be there."""
        canary = self.canary
        if canary and (canary.takes_session(key) if new else canary.has_session(key, pin)):
            return canary.upstream.clients
        return None

    def _changed(self, method: str, params: Json) -> None:
        self.changed(method, params)

    def _replicas_of(self, replica: Replica) -> Replicas:
        return self._gpu.replicas if self._gpu and replica.url in self._gpu.replicas.by_url else self.replicas

    def percentiles(self) -> Json | None:
        """Of the latest answers, in milliseconds."""
        if not self._latest:
            return None
        latest = sorted(self._latest)
        at = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        return {name: round(1000 * latest[int(part * (len(latest) - 1))], 1) for name, part in at.items()}

    def queue(self) -> Json:
        """Calls running and waiting, and how many may."""
        gates = [lane.admission.gate for lane in self.lanes]
        return {
            "running": sum(gate.inflight for gate in gates),
            "places": sum(lane.places() for lane in self.lanes),
            "waiting": sum(gate.waiting for gate in gates),
        }

    @property
    def asleep(self) -> bool:
        """Whether it has no replica because nobody called it: what is known of it stays true."""
        return self._waking is not None and self._waking.asleep

    @property
    def wanted(self) -> int | None:
        """Calls that wait for it to wake, or 1 where it is wanted otherwise; None for servers that do not sleep."""
        return self._waking.wanted if self._waking else None

    @property
    def sessions(self) -> int:
        """Sessions of 2025 held."""
        return len(self._sessions)

    async def retire(self) -> None:
        """Take no new calls, let those in flight end, and stop; what changes another one tells by now."""
        if self._watching:
            self._watching.cancel()
        deadline = time.monotonic() + self.server.max_seconds
        # Calls are counted, not announced: an event for each end would cost every call something.
        while any(r.inflight for r in self.all_replicas) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
        await self.stop()

    async def stop(self) -> None:
        """End the background work and the sessions that nobody else can use."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, *(checks.close() for checks in self._checks), return_exceptions=True)
        await self._sessions.close()

    def watch(self, uris: frozenset[str]) -> None:
        """Tell ``changed`` of updates of these resources."""
        self._watched.want(uris)

    async def settled(self) -> None:
        """Wait until it tells what is wanted of it, or cannot."""
        await self._watched.settled.wait()

    def _background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- calling ---------------------------------------------------------------------------------

    def begin(self, call: Call, taker: Taker) -> Begun | None:
        """Send the call to a replica at once; None, and nothing done, where anything has to be waited for.

        What comes of it is the taker's. Then it is for ``result_of``, or with the call for ``request``; a call that
        is not wanted any more is for ``abandon``.
        """
        lane, now = self._main, time.monotonic()
        if self.canary and self.canary.wants(call):
            return None
        if not self.direct or (replica := self._choose(lane, call, _NONE, now)) is None:
            return None
        era, url, session = replica.era, replica.url, None
        if era is None:
            return None
        if era != MODERN and (session := self._sessions.ready(replica, call)) is None:
            return None
        identity = self._wire.next_id()
        try:
            if session:
                body, lines = orjson.dumps(legacy.message(call, identity)), session.lines
            else:
                body, lines = orjson.dumps(modern.message(call, identity)), modern.lines(call)
        except TypeError:  # nested too deep
            return None
        if (kept := self._wire.kept(url)) is None:
            return None
        connection, head = kept
        if not lane.admission.gate.try_enter(call.principal):
            connection.back()
            return None
        self._commons.budget.request(now)
        call.replica = replica.address
        begun = Begun(call, self, lane, replica, connection, identity, era, session, now)
        self._wire.start(connection, head, body, lines, taker)
        if self.canary:
            self.canary.passed()
        return begun

    def result_of(self, begun: Begun, answer: net.Answer) -> Json | None:
        """The result, with which the call is over; None for an answer of any other kind than most."""
        headers, data = answer.headers, answer.body
        if answer.status != 200 or "content-encoding" in headers:
            return None
        if headers.get("content-type") != "application/json" and answer.streams:
            data = sole_event(answer.so_far())
        try:
            message = orjson.loads(data or b"")
        except ValueError:
            return None
        if not isinstance(message, dict) or message.get("id") != begun.identity or "error" in message:
            return None
        result = message.get("result")
        if not isinstance(result, dict) or result.get("resultType", "complete") != "complete":
            return None
        answer.done()
        self._over(begun.replica, begun.trial, True, begun.start, begun.call)
        begun.lane.admission.gate.leave(begun.call.principal)
        if self.canary:
            self.canary.note_stable(time.monotonic() - begun.start, result)
        return result

    def abandon(self, begun: Begun) -> None:
        """Nobody wants the call any more."""
        begun.replica.released(begun.trial)
        begun.lane.admission.leave(begun.call.principal)
        if begun.answer:
            begun.answer.close()
        elif not begun.failure:
            begun.connection.give_up()
        if begun.session:
            self._sessions.cancel(begun.session, begun.identity)

    async def request(self, call: Call) -> Json:
        """The server's result.

        Raises:
            RpcError: the server's own error, or why it could not be asked.
        """
        return await (self.canary.carry(call, self._admit) if self.canary else self._admit(call))

    async def _admit(self, call: Call) -> Json:
        """Have a place for the call, and its result."""
        if begun := call.begun:
            try:
                return await self._request(begun.lane, call, set())
            finally:
                begun.lane.admission.leave(call.principal)
        tool = _tool_of(call)
        lane = self._main if self._pools is None else self._lane(tool, call.span)
        group = self._group(tool) if self._grouped else None
        principal, admission = call.principal, lane.admission
        if self._waking and self._waking.asleep:
            if principal:
                await self._waking.wait()
            elif self.speaker.era is None:  # its lists are wanted, and nobody knows them
                self._waking.ask()
        if not admission.try_enter(principal, group):
            start = time.monotonic()
            try:
                await admission.wait(principal, group)
            finally:
                if call.span:
                    call.span.set(tracing.QUEUE_SECONDS, time.monotonic() - start)
        try:
            if self._hedge and call.safe:
                return await self._hedged(lane, call, self._hedge)
            return await self._request(lane, call, set())
        finally:
            admission.leave(principal, group)

    def on_gpu(self, call: Call) -> bool:
        """Whether the call would go to a replica on a GPU now."""
        return self._pools is not None and self._pools.choose(_tool_of(call)).pool is Pool.GPU

    def _lane(self, tool: str | None, span: Span | None) -> Lane:
        """Which pool takes the call: GPU or CPU."""
        assert self._pools is not None
        choice = self._pools.choose(tool)
        self.pool = choice.pool
        self._metrics.pool_choices.labels(self.name, choice.pool, choice.reason).inc()
        if span:
            span.set(tracing.POOL, choice.pool)
            span.set(tracing.POOL_REASON, choice.reason)
        return self._gpu if choice.pool is Pool.GPU and self._gpu else self._main

    def _group(self, tool: str | None) -> Gate | None:
        """The group whose limit the call is under as well."""
        name = self.server.group
        if tool is not None:
            for pattern, group in self.server.tools_in_group.items():
                if fnmatchcase(tool, pattern):
                    name = group
        return self._commons.groups.get(name)

    async def _request(self, lane: Lane, call: Call, tried: set[str]) -> Json:
        budget, begun, speaker = self._commons.budget, call.begun, self.speaker
        if begun is None:
            budget.request()
        again, tries = False, 0
        while replica := begun.replica if begun else self._choose(lane, call, tried):
            if tried and not budget.retry():
                speaker.last_error += " (and retries are used up)"
                break
            tried.add(replica.url)
            call.replica = replica.address
            if call.span and tries:
                call.span.set(tracing.RETRIES, tries)
            tries += 1
            trial, start = (begun.trial, begun.start) if begun else (replica.started(), time.monotonic())
            ok = None
            try:
                result = await speaker.attempt(replica, call, begun.era if begun else None)
                ok = True
            except ConnectFailed as failure:
                ok = False
                speaker.failed(replica, failure)  # nothing was sent
            except Silent as failure:
                ok = False
                waited = round(time.monotonic() - start, 1)
                speaker.last_error = f"{replica.address}: no answer to {call.method} within {waited:g} s"
                raise RpcError(TIMED_OUT, f"server {self.name}: {speaker.last_error}; it may still run") from failure
            except RpcError as failure:
                ok = failure.code != UNAVAILABLE
                if ok:
                    raise  # the server's own
                speaker.last_error = f"{replica.address}: {failure.message}"
                raise RpcError(UNAVAILABLE, f"server {self.name}: {failure.message}", failure.data) from failure
            except ExchangeError as failure:
                if call.safe and not again and isinstance(failure, Broken) and failure.stale:
                    # On a new connection, for it most likely never arrived; it says nothing against the replica.
                    again = call.fresh = True
                    speaker.last_error = f"{replica.address}: {failure}"
                    tried.discard(replica.url)
                    continue
                ok = False
                speaker.noted(replica, failure)
                if not call.safe or (call.sink and call.sink.begun):
                    raise RpcError(
                        UNAVAILABLE, f"server {self.name}: the connection broke, the call may have run ({failure})"
                    ) from failure
            else:
                return result
            finally:
                begun = None
                self._over(replica, trial, ok, start, call)
        why = speaker.last_error if tried or lane.replicas.by_url else "it has no replica"
        raise Unreached(UNAVAILABLE, f"server {self.name} cannot be reached: {why}")

    def _over(self, replica: Replica, trial: bool, ok: bool | None, start: float, call: Call) -> None:
        """A try has ended; None for ``ok`` where that says nothing of the replica."""
        if ok is None:
            replica.released(trial)
            return
        now = time.monotonic()
        seconds = now - start
        replica.finished(seconds, ok, trial, now)
        if not ok:
            self.errors += 1
            return
        self.requests += 1
        self._latest.append(seconds)
        self._seconds.observe(seconds)
        if self._hedge and call.safe:
            self._hedge.observe(seconds)

    async def _hedged(self, lane: Lane, call: Call, hedge: Hedge) -> Json:
        """A safe call, sent to a second replica as well when the first takes longer than most calls do."""
        delay = hedge.delay()
        tried: set[str] = set()
        tries: dict[asyncio.Task[Json], Call] = {}
        winner: asyncio.Task[Json] | None = None

        def won(task: asyncio.Task[Json]) -> None:
            """Its client has a part of this one's answer."""
            nonlocal winner
            winner = task
            for other in tries.keys() - {task}:
                other.cancel()

        def begin(one: Call, tried: set[str]) -> asyncio.Task[Json]:
            if call.sink:
                one = replace(one, sink=Runner(call.sink, lambda: won(task)))
            task = asyncio.ensure_future(self._request(lane, one, tried))
            tries[task] = one
            return task

        first = begin(call, tried)
        running = {first}
        try:
            if delay is not None:
                await asyncio.wait(running, timeout=delay)
                if not (first.done() or winner) and len(lane.replicas) > 1 and self._commons.budget.retry():
                    self._metrics.hedges.labels(self.name).inc()
                    # Only one of them may speak to the client before the response.
                    running.add(begin(replace(call, client=None), set(tried)))
            while True:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    if task is winner or not (winner or (running and task.exception())):
                        call.replica = tries[task].replica
                        return task.result()
        finally:
            call.replica = call.replica or tries[first].replica
            for task in running:
                task.cancel()

    def _choose(self, lane: Lane, call: Call, tried: set[str], now: float | None = None) -> Replica | None:
        if not self.server.sticky:
            return lane.replicas.choose(tried, None, None, now)
        prefer = self._sessions.url_of(call.session_key) or (call.pin.url if call.pin else None)
        return lane.replicas.choose(tried, prefer, call.session_key)


def _tool_of(call: Call) -> str | None:
    """The tool that is called; None for other requests."""
    name = call.params.get("name") if call.method == "tools/call" else None
    return name if isinstance(name, str) else None
