"""The replicas of one server: which there are, which are well, and which takes the next call."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from mcp_gateway.metrics import Metrics
from mcp_gateway.reader import Reader
from mcp_gateway.upstream.breaker import Breaker, BreakerSettings, BreakerState
from mcp_gateway.upstream.discovery import Discovery, Name

FIRST_EJECTION_SECONDS = 1.0
MAX_EJECTION_SECONDS = 30.0
SWEEP_SECONDS = 1.0
KEYS_KEPT = 8192

log = logging.getLogger("mcp_gateway.upstream")


class State(StrEnum):
    """``probation``: it is new or came back and takes a growing share of the calls."""

    HEALTHY = "healthy"
    EJECTED = "ejected"
    PROBATION = "probation"
    DRAINING = "draining"


@dataclass(frozen=True)
class BalancingSettings:
    """How replicas share calls.

    Attributes:
        slow_start_seconds: time in which a new or returned replica's weight grows from 10 % to 100 %.
        max_ejected_fraction: share of the replicas that breakers alone may set aside.
        latency_decay_seconds: after this time without a call a latency counts 37 %.
    """

    slow_start_seconds: float = 10.0
    max_ejected_fraction: float = 0.5
    latency_decay_seconds: float = 10.0


def read(reader: Reader) -> BalancingSettings:
    """The section ``balancing``."""
    number, d = (int, float), BalancingSettings()
    settings = BalancingSettings(
        reader.take("slow_start_seconds", number, d.slow_start_seconds, lambda v: v >= 0),
        reader.take("max_ejected_fraction", number, d.max_ejected_fraction, lambda v: 0 <= v <= 1),
        reader.take("latency_decay_seconds", number, d.latency_decay_seconds, lambda v: v > 0),
    )
    reader.done()
    return settings


class Replica:
    """One address of a server. ``era`` is None until it was probed, and again after it was away.

    Replicas of one server may differ in era for a while, when a new version of it is rolled out.

    Attributes:
        latency: peak-sensitive moving average of answer times, seconds; 0 while unknown.
        last_ok: when real traffic was last answered, by the clock given.
        unhealthy: active checks have set it aside.
    """

    __slots__ = (
        "_changed", "_clock", "_decay", "_stamp", "address", "breaker", "draining", "ejected_until", "era",
        "failures", "inflight", "last_ok", "latency", "probing", "ramp_start", "ramp_until", "unhealthy", "url",
    )  # fmt: skip

    def __init__(
        self,
        url: str,
        balancing: BalancingSettings | None = None,
        breaker: BreakerSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.url = url
        self.address = urlsplit(url).netloc
        self.era: str | None = None
        self.inflight = 0
        self.failures = 0
        self.ejected_until = 0.0
        self.unhealthy = False
        self.draining = False
        self.ramp_start = self.ramp_until = 0.0
        self.latency = 0.0
        self.last_ok = -math.inf
        self.breaker = Breaker(breaker or BreakerSettings())
        self.probing = asyncio.Lock()
        self._clock = clock
        self._stamp = 0.0
        self._decay = (balancing or BalancingSettings()).latency_decay_seconds
        self._changed = changed

    @property
    def healthy(self) -> bool:
        """Whether calls should go there; an ejected one is tried again after its time."""
        return not self.draining and not self.unhealthy and self._clock() >= self.ejected_until

    @property
    def state(self) -> State:
        """As seen from outside."""
        now = self._clock()
        if self.draining:
            return State.DRAINING
        if self.unhealthy or now < self.ejected_until or not self.breaker.ready(now):
            return State.EJECTED
        return State.PROBATION if now < self.ramp_until else State.HEALTHY

    def weight(self, now: float) -> float:
        """Its share of what it would otherwise get, 0.1 to 1."""
        if now >= self.ramp_until:
            return 1.0
        return max(0.1, (now - self.ramp_start) / (self.ramp_until - self.ramp_start))

    def cost(self, now: float) -> float:
        """Latency as it counts now, seconds: old knowledge fades, so that a once slow replica is tried again.

        While calls are in flight it does not fade: a replica that hangs must not look better with time.
        """
        if self.inflight:
            return self.latency
        return self.latency * math.exp((self._stamp - now) / self._decay)

    def started(self) -> bool:
        """A call goes out; hand what this returns to ``finished`` or ``released``."""
        self.inflight += 1
        return self.breaker.state is not BreakerState.CLOSED and self.breaker.started()

    def finished(self, seconds: float, ok: bool, trial: bool = False, now: float | None = None) -> None:
        """A call is over. ``ok`` is False where the replica failed it (not where a tool did)."""
        self.inflight -= 1
        if now is None:
            now = self._clock()
        latency = self.latency
        if seconds >= latency:
            self.latency = seconds
        elif ok:  # a failure may be quick; that makes nobody fast
            keep = math.exp((self._stamp - now) / self._decay)
            self.latency = latency * keep + seconds * (1.0 - keep)
        self._stamp = now
        if ok:
            self.last_ok = now
            self.failures = 0
        if self.breaker.finished(ok, trial, now) or self.draining:
            self._changed()

    def released(self, trial: bool = False) -> None:
        """A call ended without saying anything of the replica, for one because its client left."""
        self.inflight -= 1
        if trial:
            self.breaker.abandoned()
        if self.draining:
            self._changed()


class Replicas:
    """All replicas of one server, by URL; those that drain are among them until they are idle.

    Args:
        clock: seconds, monotonic.
        chance: a random number from 0 up to 1.
    """

    def __init__(
        self,
        server: str,
        urls: Iterable[str],
        metrics: Metrics,
        balancing: BalancingSettings | None = None,
        breaker: BreakerSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._server = server
        self._balancing = balancing or BalancingSettings()
        self._breaker = breaker or BreakerSettings()
        self._clock = clock
        self._chance = chance
        self._ejections = metrics.ejections.labels(server)
        self._withheld: set[str] = set()
        self._active: list[Replica] = []
        self._usable: list[Replica] = []
        self._halfopen: list[Replica] = []
        self._by_key: dict[str, Replica] = {}
        self._next = 0.0
        self.by_url: dict[str, Replica] = {url: self._new(url) for url in urls}
        self._refresh()

    def __len__(self) -> int:
        """How many take calls or would, were they well."""
        return len(self._active)

    @property
    def usable(self) -> int:
        """How many are well."""
        if self._clock() >= self._next:
            self._refresh()
        return len(self._usable)

    @property
    def inflight(self) -> int:
        """Calls in flight at all of them."""
        return sum(replica.inflight for replica in self._active)

    def choose(self, tried: set[str], prefer: str | None, key: str | None, now: float | None = None) -> Replica | None:
        """The replica for a call, or None where all were tried.

        Args:
            tried: URLs that failed this call already.
            prefer: the URL that holds the caller's session.
            key: of sticky calls. The same key leads to the same replica on every gateway (rendezvous
                hashing); without one it is the cheaper of two chosen at random (power of two choices).
            now: by the clock.
        """
        if now is None:
            now = self._clock()
        if now >= self._next:
            self._refresh()
        if prefer and prefer not in tried and (replica := self.by_url.get(prefer)) and replica.healthy:
            return replica
        if tried:
            choice = [r for r in self._usable if r.url not in tried]
            choice = choice or [r for r in self._active if r.url not in tried]
        else:
            choice = self._usable or self._active  # all are out: any is better than none
        if key is not None:
            return self._by_hash(choice, key, tried, now)
        for replica in self._halfopen:
            if replica.url not in tried and replica.breaker.ready(now):
                return replica
        count = len(choice)
        if count < 2:
            return choice[0] if choice else None
        chance = self._chance
        first = int(chance() * count)
        second = int(chance() * (count - 1))
        one, other = choice[first], choice[second + (second >= first)]
        # Where one's latency is not known yet, calls in flight alone decide.
        costs = one.cost(now), other.cost(now)
        one_cost, other_cost = costs if costs[0] and costs[1] else (1.0, 1.0)
        if (one.inflight + 1) * one_cost > (other.inflight + 1) * other_cost:
            one, other = other, one
        if now < one.ramp_until and now >= other.ramp_until and chance() > one.weight(now):
            return other
        return one

    def _by_hash(self, choice: list[Replica], key: str, tried: set[str], now: float) -> Replica | None:
        trials = [r for r in self._halfopen if r.url not in tried and r.breaker.ready(now)]
        if tried or trials:  # a replica on trial is tried by the keys that are its own
            return max((*choice, *trials), key=lambda r: _rank(key, r.url), default=None)
        if found := self._by_key.get(key):
            return found
        if not choice:
            return None
        if len(self._by_key) >= KEYS_KEPT:
            self._by_key.clear()
        self._by_key[key] = found = max(choice, key=lambda r: _rank(key, r.url))
        return found

    # -- who is well -----------------------------------------------------------------------------

    def failed(self, replica: Replica) -> None:
        """Set a replica aside that refused the connection, longer each time."""
        replica.failures += 1
        pause = min(MAX_EJECTION_SECONDS, FIRST_EJECTION_SECONDS * 2.0 ** min(replica.failures - 1, 30))
        replica.ejected_until = self._clock() + pause
        self._ramp_from(replica, replica.ejected_until)
        replica.era = None
        self._ejections.inc()
        self._refresh()

    def answered(self, replica: Replica) -> None:
        """Take a replica back that works."""
        if replica.failures or replica.ejected_until or replica.unhealthy:
            if not replica.healthy:
                self._ramp_from(replica, self._clock())
            replica.failures = 0
            replica.ejected_until = 0.0
            replica.unhealthy = False
            self._refresh()

    def unhealthy(self, replica: Replica) -> None:
        """Active checks say that it is not well; it stays aside until ``answered``."""
        if not replica.unhealthy:
            replica.unhealthy = True
            replica.era = None
            self._ejections.inc()
            self._refresh()

    def _ramp_from(self, replica: Replica, when: float) -> None:
        replica.ramp_start = when
        replica.ramp_until = when + self._balancing.slow_start_seconds

    # -- which there are -------------------------------------------------------------------------

    def set(self, urls: Iterable[str]) -> bool:
        """These are the replicas now; True where that is news. One that vanished drains."""
        wanted = set(urls)
        self._withheld &= wanted
        wanted -= self._withheld
        news = False
        for url, replica in self.by_url.items():
            if replica.draining is (url in wanted):
                replica.draining = not replica.draining
                news = True
        for url in sorted(wanted - self.by_url.keys()):
            replica = self.by_url[url] = self._new(url)
            if self._active:
                self._ramp_from(replica, self._clock())
            news = True
        if news:
            log.info("replicas", extra={"server": self._server, "replicas": sorted(wanted)})
            self._refresh()
        return news

    def drain(self, url: str) -> bool:
        """Send it no new call, and forget it when it is idle; False where it is not known.

        Discovery may name it still: it stays out until discovery has dropped it, or ``undrain``.
        """
        if (replica := self.by_url.get(url)) is None:
            return False
        self._withheld.add(url)
        replica.draining = True
        self._refresh()
        return True

    def undrain(self, url: str) -> None:
        """Undo ``drain``; a replica already forgotten comes back with the next ``set``."""
        self._withheld.discard(url)
        if replica := self.by_url.get(url):
            replica.draining = False
            self._refresh()

    async def follow(self, dns: Name, changed: Callable[[], None]) -> None:
        """Keep up with what the name resolves to, for ever; ``changed`` is called when that changes."""

        def apply(urls: set[str]) -> None:
            if self.set(urls):
                changed()

        await Discovery(dns, apply).run()

    def _new(self, url: str) -> Replica:
        return Replica(url, self._balancing, self._breaker, self._clock, self._refresh)

    def _refresh(self) -> None:
        """Sort the replicas anew: after a change, and at the time when one is due."""
        now = self._clock()
        idle = [url for url, r in self.by_url.items() if r.draining and not r.inflight]
        for url in idle:
            del self.by_url[url]
        active = sorted((r for r in self.by_url.values() if not r.draining), key=lambda r: r.url)
        reachable = [r for r in active if not r.unhealthy and now >= r.ejected_until]
        due = [r.ejected_until for r in active if now < r.ejected_until]
        if len(active) < len(self.by_url):
            due.append(now + SWEEP_SECONDS)
        broken = sorted((r for r in reachable if r.breaker.until and r.breaker.state != "closed"), key=_opened)
        limit = int(self._balancing.max_ejected_fraction * len(reachable))
        aside = set(broken[:limit])
        for replica in broken:
            replica.breaker.ready(now)  # half-open, where its pause is over
            if replica.breaker.state == "open":
                due.append(replica.breaker.until)
        for replica in reachable:
            if replica.breaker.until and replica.breaker.state == "closed":
                replica.breaker.until = 0.0
                self._ramp_from(replica, now)
        self._active = active
        self._usable = [r for r in reachable if r not in aside]
        self._halfopen = [r for r in aside if r.breaker.state == "half-open"]
        self._by_key.clear()
        self._next = min(due, default=math.inf)


def _opened(replica: Replica) -> float:
    return replica.breaker.opened


def _rank(key: str, url: str) -> bytes:
    return hashlib.blake2b(f"{key} {url}".encode(), digest_size=8).digest()
