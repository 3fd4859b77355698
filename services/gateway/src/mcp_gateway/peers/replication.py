"""The gateway's replicas tell each other what clients set in their sessions, which ended, which calls to cancel, and
what was taken from the buckets of rates.

Whatever is set is pushed to all replicas at once, and nothing waits for it. Each one finds the others by DNS or from a
list; one that starts asks another for all that is known. There is no store and no leader: a replica that is alone, or
whose peers are away, works as if there were none.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import orjson

from mcp_gateway.limits import Limiter
from mcp_gateway.metrics import Metrics
from mcp_gateway.net.client import Client
from mcp_gateway.net.messages import Response
from mcp_gateway.net.server import Exchange
from mcp_gateway.peers.envelope import Envelope, Refused
from mcp_gateway.peers.peer import BATCH_BYTES, MAX_MESSAGE_BYTES, PATH, Peer, framed, portions
from mcp_gateway.peers.settings import PeersSettings
from mcp_gateway.protocol import Json
from mcp_gateway.states import States
from mcp_gateway.upstream.discovery import Discovery

__all__ = ["PATH", "Peers"]

MAX_PEERS = 64
MAX_REQUEST_ID_CHARS = 1024
# How long a replica that starts is not ready for want of its peers' knowledge, at most.
READY_SECONDS = 3.0
LOT_SECONDS = 30.0
FAREWELL_SECONDS = 1.0
# How often others are told what was taken from buckets, and how often where that is a good part of one.
TAKEN_SECONDS = 0.2
MUCH_TAKEN_SECONDS = 0.02

log = logging.getLogger("mcp_gateway.peers")

Cancel = Callable[[str, str, Any], object]


class Peers:
    """This replica among the others. Call ``start`` in the loop and ``stop`` at the end.

    Args:
        keys: the session keys, the same on all replicas.
        limiter: whose buckets are those of all replicas together.
        cancel: cancels a call that runs here: endpoint, session and the client's id of the request.
    """

    def __init__(
        self,
        settings: PeersSettings,
        keys: tuple[bytes, ...],
        states: States,
        limiter: Limiter,
        client: Client,
        metrics: Metrics,
        cancel: Cancel,
    ) -> None:
        self._settings = settings
        self._envelope = Envelope(keys)
        self._states = states
        self._limiter = limiter
        self._client = client
        self._metrics = metrics
        self._cancel = cancel
        self._peers: dict[str, Peer] = {}
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._looked = False
        self._learnt = False  # all that another replica knew
        self._learning = asyncio.Lock()
        self._started = 0.0
        self._taken_told = 0.0  # when, by the loop's clock
        self._taken_due: asyncio.TimerHandle | None = None
        states.tell, states.alive = self.tell, self.alive
        limiter.share(self._taken)
        metrics.peers.labels("known").set_function(lambda: sum(not peer.itself for peer in self._peers.values()))
        metrics.peers.labels("reachable").set_function(lambda: sum(peer.well for peer in self._peers.values()))

    # -- life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to look for the others."""
        self._started = time.monotonic()
        if self._settings.dns:
            self._background(Discovery(self._settings.dns, self.found).run())
        else:
            self.found(set(self._settings.urls))

    def found(self, urls: set[str]) -> None:
        """The others, and maybe this one, are at these URLs now."""
        self._looked = True
        wanted = set(sorted(urls)[:MAX_PEERS])
        for url in self._peers.keys() - wanted:
            del self._peers[url]
            self._runs.pop(url).cancel()
        fresh = sorted(wanted - self._peers.keys())
        if fresh and len(urls) > MAX_PEERS:
            log.error("too many gateway replicas; some are not told", extra={"found": len(urls), "told": MAX_PEERS})
        for url in random.sample(fresh, len(fresh)):  # replicas that start do not all ask the same one first
            peer = self._peers[url] = Peer(url, self, self._client, self._envelope)
            self._runs[url] = asyncio.ensure_future(peer.run())

    @property
    def ready(self) -> bool:
        """Whether it knows what the others do, or had its time to learn it."""
        return (
            self._learnt
            or (self._looked and all(peer.tried for peer in self._peers.values()))
            or time.monotonic() - self._started > READY_SECONDS
        )

    async def stop(self) -> None:
        """Tell what is left to tell, and be gone."""
        deadline = time.monotonic() + FAREWELL_SECONDS
        # An event for each message sent would be for this alone.
        while time.monotonic() < deadline and any(p.well and p.pending for p in self._peers.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        if self._taken_due:
            self._taken_due.cancel()
        tasks = [*self._runs.values(), *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def alive(self, replica: str) -> bool:
        """Whether a replica is well, as far as is known."""
        return any(peer.replica == replica and peer.well for peer in self._peers.values())

    # -- telling ---------------------------------------------------------------------------------

    def tell(self, session: str) -> None:
        """There is news of a session for all."""
        for peer in self._peers.values():
            if not peer.itself:
                peer.tell(session)

    def cancel(self, endpoint: str, session: str, identity: str | int) -> None:
        """A client cancels a call that does not run here: whoever runs it shall (2025-11-25
        basic/utilities/cancellation)."""
        if isinstance(identity, str) and len(identity) > MAX_REQUEST_ID_CHARS:
            return
        for peer in self._peers.values():
            if not peer.itself:
                peer.cancel([endpoint, session, identity])

    def _taken(self, much: bool) -> None:
        """Something was taken from buckets: tell it, at once or when it is time again."""
        loop = asyncio.get_running_loop()
        due = self._taken_told + (MUCH_TAKEN_SECONDS if much else TAKEN_SECONDS)
        if self._taken_due:
            self._taken_due.cancel()
        self._taken_due = loop.call_later(max(0.0, due - loop.time()), self._tell_taken)

    def _tell_taken(self) -> None:
        self._taken_told, self._taken_due = asyncio.get_running_loop().time(), None
        taken = self._limiter.taken()
        for peer in self._peers.values():
            peer.take(taken)

    # -- as its peers' senders see it ------------------------------------------------------------

    @property
    def replica(self) -> str:
        """Its name."""
        return self._states.replica

    def news(self, session: str) -> Json | None:
        """What there is to tell of a session."""
        return self._states.news(session)

    def recent(self) -> list[str]:
        """The sessions that a replica which was just found must be told of."""
        return self._states.recent()

    def told(self, outcome: str) -> None:
        """A message was ``sent`` or has ``failed``."""
        self._metrics.peer_messages.labels(outcome).inc()

    async def catch_up(self, peer: Peer) -> None:
        """Learn what the peer knows, where that is not known yet: one replica that has it all is enough."""
        async with self._learning:
            if self._learnt:
                return
            async with asyncio.timeout(LOT_SECONDS):
                async for part in peer.lot():
                    self._learn(part)
                    if part.get("done") is True:
                        self._learnt = part.get("whole") is True
                        return
                    await asyncio.sleep(0)  # calls go first
            raise Refused("what it knows broke off")

    # -- listening -------------------------------------------------------------------------------

    def take(self, exchange: Exchange) -> None:
        """Answer another replica."""
        request = exchange.request
        if request.method != "POST":
            exchange.respond(Response(405, headers=(("allow", "POST"),)))
            return
        try:
            if len(request.body) > MAX_MESSAGE_BYTES:
                raise Refused(f"it is larger than {MAX_MESSAGE_BYTES} bytes")
            message = self._envelope.open_request(request.body)
        except Refused as refusal:
            self._metrics.peer_messages.labels("refused").inc()
            log.info("a message was refused", extra={"error": str(refusal)})
            exchange.respond(Response(403, orjson.dumps({"error": str(refusal)})))
            return
        self._metrics.peer_messages.labels("received").inc()
        if message.get("lot") is True:
            self._background(self._give(exchange, request.body))
            return
        if message.get("replica") != self.replica:
            self._learn(message)
        answer = self._envelope.answer({"replica": self.replica}, request.body)
        exchange.respond(Response(200, answer, "application/octet-stream"))

    def _learn(self, message: Json) -> None:
        """Take what can be understood: another replica may be of another version."""
        for news in _list(message, "news"):
            try:
                self._states.learn(news if isinstance(news, dict) else {})
            except ValueError as failure:
                log.info("news not understood", extra={"error": str(failure)})
        for key, learn in (("taken", self._limiter.also_taken), ("levels", self._limiter.at_most)):
            for bucket, seconds in _seconds(message, key):
                learn(bucket, seconds)
        for call in _list(message, "cancels"):
            match call:
                case [str() as endpoint, str() as session, str() | int() as identity]:
                    self._cancel(endpoint, session, identity)

    async def _give(self, exchange: Exchange, request: bytes) -> None:
        """All that is known, in parts."""
        task = asyncio.current_task()
        assert task is not None
        exchange.on_gone = task.cancel
        whole = self._learnt or (self._looked and all(peer.met for peer in self._peers.values()))
        exchange.open_stream(b"application/octet-stream")
        number, size = 0, 0
        news: list[orjson.Fragment] = []
        for session in self._states:
            if item := self._states.news(session):
                raw = orjson.dumps(item)
                news.append(orjson.Fragment(raw))
                size += len(raw)
            if size > BATCH_BYTES:
                await exchange.send(framed(self._envelope.answer({"news": news}, request, number)))
                number, size, news = number + 1, 0, []
        for part in portions(self._limiter.levels()):
            await exchange.send(framed(self._envelope.answer({"levels": part}, request, number)))
            number += 1
        last = {"news": news, "whole": whole, "done": True}
        await exchange.send(framed(self._envelope.answer(last, request, number)))
        exchange.on_gone = None
        exchange.finish()


def _list(message: Json, key: str) -> list[Any]:
    value = message.get(key)
    return value if isinstance(value, list) else []


def _seconds(message: Json, key: str) -> list[tuple[str, float]]:
    value = message.get(key)
    named = value.items() if isinstance(value, dict) else ()
    return [(name, float(seconds)) for name, seconds in named if isinstance(seconds, int | float) and seconds > 0]
