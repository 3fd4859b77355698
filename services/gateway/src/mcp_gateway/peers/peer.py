"""One other replica of the gateway: what it has yet to be told, and telling it.

There is one message at a time; what comes up meanwhile goes with the next. Not the news wait but the names of the
sessions that there is news of: however long a replica is away, that is bounded, and it gets the state of then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson

from mcp_gateway.net.client import Answer, Broken, Client
from mcp_gateway.peers.envelope import Envelope, Refused
from mcp_gateway.protocol import Json

PATH = "/internal/peers"
MAX_MESSAGE_BYTES = 1024 * 1024
# Small enough that taking one does not hold up calls.
BATCH_BYTES = 64 * 1024
MAX_PENDING = 60_000
MAX_CANCELS = 1_000
# A call that was to be cancelled so long ago has most likely ended.
CANCEL_SECONDS = 10.0
SILENCE_SECONDS = 2.0
TOTAL_SECONDS = 30.0
RETRY_SECONDS = 0.1
MAX_RETRY_SECONDS = 5.0
# How soon the death of a peer is noticed that there is nothing to tell.
GREET_SECONDS = 2.0

log = logging.getLogger("mcp_gateway.peers")


class Fellow(Protocol):
    """This replica, as its peers' senders see it."""

    @property
    def replica(self) -> str:
        """Its name."""

    def news(self, session: str) -> Json | None:
        """What there is to tell of a session."""

    def recent(self) -> list[str]:
        """The sessions that a replica which was just found must be told of."""

    async def catch_up(self, peer: Peer) -> None:
        """Learn what the peer knows, where that is not known yet."""

    def told(self, outcome: str) -> None:
        """A message was ``sent`` or has ``failed``."""


class Peer:
    """Another replica, or this one under an address of its own.

    Attributes:
        replica: its name, once met.
        tried: whether it was asked at least once, whatever came of it.
        met: whether it answered, and knows of what changed before.
        itself: whether it is this replica.
        failing: whether the latest message failed.
    """

    def __init__(self, url: str, fellow: Fellow, client: Client, envelope: Envelope) -> None:
        self.url = url
        self.replica = ""
        self.tried = self.met = self.itself = self.failing = False
        self._fellow = fellow
        self._client = client
        self._envelope = envelope
        self._sessions: dict[str, None] = {}  # in the order in which they changed
        self._cancels: deque[tuple[float, list[Any]]] = deque(maxlen=MAX_CANCELS)
        self._taken: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._wake.set()

    @property
    def pending(self) -> int:
        """How many things it was not told yet."""
        return len(self._sessions) + len(self._cancels) + len(self._taken)

    @property
    def well(self) -> bool:
        """Whether it is another replica, and takes what it is told."""
        return self.met and not self.failing and not self.itself

    def tell(self, session: str) -> None:
        """There is news of a session."""
        self._sessions[session] = None
        if len(self._sessions) > MAX_PENDING:
            del self._sessions[next(iter(self._sessions))]
        self._wake.set()

    def cancel(self, call: list[Any]) -> None:
        """A client cancels a call: endpoint, session and its id of the request."""
        self._cancels.append((time.monotonic() + CANCEL_SECONDS, call))
        self._wake.set()

    def take(self, taken: Mapping[str, float]) -> None:
        """So much was taken from buckets (`Limiter.taken`). One that is away does not hear of it later: by then they
        are full again."""
        if not self.well or len(self._taken) > MAX_PENDING:
            return
        for bucket, seconds in taken.items():
            self._taken[bucket] = self._taken.get(bucket, 0.0) + seconds
        self._wake.set()

    async def run(self) -> None:
        """Tell it what comes up, until cancelled; one that fails is asked again ever more rarely."""
        failures, said = 0, ""
        while not self.itself:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GREET_SECONDS):
                    await self._wake.wait()
            try:
                if self.met and not self.pending:
                    await self._greet()
                if not self.met:
                    await self._meet()
                while self.pending and not self.itself:
                    await self._send()
            except (OSError, Refused) as failure:
                self.tried = self.failing = True
                self._taken.clear()
                if str(failure) != said:
                    said = str(failure)
                    log.warning("a peer cannot be told", extra={"peer": self.url, "error": said})
                self._fellow.told("failed")
                await asyncio.sleep(min(MAX_RETRY_SECONDS, RETRY_SECONDS * 2**failures) * random.uniform(0.8, 1.2))
                failures = min(failures + 1, 10)
                continue
            if failures:
                log.warning("the peer is told again", extra={"peer": self.url})
            self.failing, failures, said = False, 0, ""
            if not self.pending:
                self._wake.clear()

    async def _meet(self) -> None:
        await self._greet()
        self.itself = self.replica == self._fellow.replica
        if not self.itself:
            await self._fellow.catch_up(self)
            for session in self._fellow.recent():
                self.tell(session)
        self.tried = self.met = True

    async def _greet(self) -> None:
        """Hear that it is there, and which it is."""
        replica = str((await self.ask({})).get("replica"))
        if self.met and replica != self.replica:
            self.met = False  # another in its place
            self._wake.set()
        self.replica = replica

    async def _send(self) -> None:
        """Tell it a part of what is pending, the oldest first."""
        now = time.monotonic()
        cancels = [(until, call) for until, call in self._cancels if until > now]
        self._cancels.clear()
        sessions: list[str] = []
        news: list[orjson.Fragment] = []
        size = 0
        for session in self._sessions:
            item = self._fellow.news(session)
            raw = orjson.dumps(item) if item else b""
            if news and size + len(raw) > BATCH_BYTES:
                break
            sessions.append(session)
            if raw:
                news.append(orjson.Fragment(raw))
                size += len(raw)
        for session in sessions:
            del self._sessions[session]
        taken = next(portions(self._taken), {})
        for bucket in taken:
            del self._taken[bucket]
        if not (news or cancels or taken):
            return
        try:
            await self.ask({"news": news, "cancels": [call for _, call in cancels], "taken": taken})
        except BaseException:
            self._sessions = dict.fromkeys(sessions) | self._sessions
            self._cancels.extendleft(reversed(cancels[: MAX_CANCELS - len(self._cancels)]))
            raise
        self._fellow.told("sent")

    async def ask(self, message: Json) -> Json:
        """Its answer.

        Raises:
            OSError: it cannot be reached, or is silent.
            Refused: it does not take the message, or its answer is none.
        """
        request = self._envelope.request({"replica": self._fellow.replica, **message})
        answer = await self._request(request)
        try:
            body = await answer.read(MAX_MESSAGE_BYTES)
        finally:
            answer.close()
        return self._envelope.open_answer(body or b"", request)

    async def lot(self) -> AsyncIterator[Json]:
        """All that it knows, in parts; of the last one ``done`` is true.

        Raises:
            OSError: it cannot be reached, or is silent.
            Refused: it does not take the message, or its answer is none.
        """
        request = self._envelope.request({"replica": self._fellow.replica, "lot": True})
        answer = await self._request(request)
        rest, number = bytearray(), 0
        try:
            async for chunk in answer.chunks():
                rest += chunk
                while len(rest) >= 4 and len(rest) >= 4 + (size := int.from_bytes(rest[:4])):
                    yield self._envelope.open_answer(bytes(rest[4 : 4 + size]), request, number)
                    del rest[: 4 + size]
                    number += 1
                if len(rest) > 2 * MAX_MESSAGE_BYTES:
                    raise Refused(f"a part of its answer is larger than {MAX_MESSAGE_BYTES} bytes")
        finally:
            answer.close()

    async def _request(self, sealed: bytes) -> Answer:
        url = urlsplit(self.url)
        head = f"POST {PATH} HTTP/1.1\r\nhost: {url.netloc}\r\ncontent-length: {len(sealed)}\r\n\r\n".encode()
        try:
            answer = await self._client.send(url, head + sealed, SILENCE_SECONDS, TOTAL_SECONDS)
        except Broken as failure:
            if not failure.stale:
                raise
            answer = await self._client.send(url, head + sealed, SILENCE_SECONDS, TOTAL_SECONDS, fresh=True)
        if answer.status != 200:
            why = await answer.read(MAX_MESSAGE_BYTES)
            answer.close()
            raise Refused(f"HTTP {answer.status}: {(why or b'')[:200].decode('utf-8', 'replace')}")
        return answer


def portions(buckets: Mapping[str, float]) -> Iterator[dict[str, float]]:
    """What there is to tell of buckets, in parts that fit into a message each."""
    part: dict[str, float] = {}
    size = 0
    for bucket, seconds in buckets.items():
        part[bucket] = seconds
        size += len(bucket) + 32
        if size > BATCH_BYTES:
            yield part
            part, size = {}, 0
    if part:
        yield part


def framed(part: bytes) -> bytes:
    """A part of a lot as it is sent: its length in four bytes, then itself."""
    return len(part).to_bytes(4) + part
