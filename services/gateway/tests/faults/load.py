"""Steady load, bounded: clients of both eras that ask, one after the other, and write down what they got."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
from conftest import LEGACY, MODERN
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

from faults.rig import Caller

nonces = itertools.count()


@dataclass
class Tally:
    """What came of the requests of one kind.

    Attributes:
        longest_gap: seconds; the longest time in which no request of this kind was answered well.
        slowest: seconds; of one answer.
    """

    sent: int = 0
    failed: list[str] = field(default_factory=list)
    longest_gap: float = 0.0
    slowest: float = 0.0
    last: float = 0.0

    def good(self, started: float) -> None:
        now = time.monotonic()
        self.sent += 1
        self.slowest = max(self.slowest, now - started)
        if self.last:
            self.longest_gap = max(self.longest_gap, now - self.last)
        self.last = now

    def bad(self, why: str) -> None:
        self.sent += 1
        self.failed.append(why[:300])


class Load:
    """Workers in threads; each waits for its answer and pauses before the next request.

    Args:
        url: where to.
        pause: seconds between a worker's answer and its next request.
    """

    def __init__(self, url: str, pause: float) -> None:
        self.url = url
        self.tallies: dict[str, Tally] = {}
        self.sessions = Counter[str]()
        self._pause = pause
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, kind: str, work: Callable[[Tally], None]) -> None:
        """Run ``work`` until the end in a thread of its own; it makes one request at a time."""
        tally = self.tallies.setdefault(kind, Tally())

        def run() -> None:
            while not self._end.wait(self._pause):
                try:
                    work(tally)
                except (AssertionError, httpx2.HTTPError, OSError, ValueError, KeyError, TypeError) as failure:
                    tally.bad(f"{type(failure).__name__}: {failure}")

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(60)

    @property
    def ending(self) -> bool:
        return self._end.is_set()

    def wait_for(self, more: int, seconds: float = 30.0) -> None:
        """Until every kind was asked so many times more."""
        until = {kind: tally.sent + more for kind, tally in self.tallies.items()}
        deadline = time.monotonic() + seconds
        while waiting := [kind for kind, sent in until.items() if self.tallies[kind].sent < sent]:
            if time.monotonic() > deadline:
                raise AssertionError(f"no answers within {seconds:g} s: {', '.join(waiting)}")
            time.sleep(0.02)

    # -- kinds of workers ------------------------------------------------------------------------

    def requests(self, kind: str, era: str, asked: list[tuple[str, dict[str, Any]]], **headers: str) -> None:
        """One bare client, one connection, in 2025 one session; ``asked`` in turn."""
        caller = Caller(self.url, era, **headers)
        self.sessions[era] += 1
        turn = itertools.cycle(asked)
        numbers = itertools.count(1)

        def work(tally: Tally) -> None:
            method, params = next(turn)
            if method == "tools/call":
                params = {**params, "arguments": {"nonce": f"n{next(nonces)}"}}
            identity, started = next(numbers), time.monotonic()
            message = caller.well_formed(caller.post(method, params, identity), identity)
            if "error" in message:
                tally.bad(f"{method} {params.get('name') or params.get('uri') or ''}: {message['error']}")
            else:
                tally.good(started)

        self.start(kind, work)

    def new_sessions(self, kind: str, **headers: str) -> None:
        """Clients of 2025 that come, ask once, and go."""

        def work(tally: Tally) -> None:
            started = time.monotonic()
            caller = Caller(self.url, "legacy", **headers)
            try:
                caller.well_formed(caller.post("ping", {}, 1), 1)
                assert caller.http.delete("/mcp", headers=caller.session).status_code in (200, 204)
            finally:
                caller.http.close()
            self.sessions["legacy"] += 1
            tally.good(started)

        self.start(kind, work)

    def official(self, kind: str, era: str, use: Callable[[Client], Any]) -> None:
        """The official SDK's client: connects once, then calls ``use`` again and again."""
        tally = self.tallies.setdefault(kind, Tally())

        async def run() -> None:
            async with httpx2.AsyncClient(timeout=30) as http:
                transport = streamable_http_client(f"{self.url}/mcp", http_client=http)
                async with Client(transport, mode=MODERN if era == "modern" else "legacy") as client:
                    assert client.protocol_version == (MODERN if era == "modern" else LEGACY)
                    while not self.ending:
                        started = time.monotonic()
                        try:
                            await asyncio.wait_for(use(client), 30)
                            tally.good(started)
                        except Exception as failure:
                            tally.bad(f"{type(failure).__name__}: {failure}")
                        await asyncio.sleep(self._pause)

        def thread() -> None:
            try:
                asyncio.run(run())
            except BaseException as failure:
                tally.bad(f"the client ended: {failure!r}")

        self._threads.append(threading.Thread(target=thread, daemon=True))
        self._threads[-1].start()
