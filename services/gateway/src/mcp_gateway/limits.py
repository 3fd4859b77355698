"""How much a client may ask for: requests per minute, and how many at once.

A bucket is one number, the time at which it will be full again (the generic cell rate algorithm, as in ITU-T
I.371): full buckets need no memory, and nothing runs in the background to refill the others.

Several replicas of the gateway have one bucket together: each tells the others what it took from its own (``peers``),
and they take the same from theirs. What was let through before they knew makes a bucket emptier than empty, so it is
paid back before anything more passes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from mcp_gateway.protocol import BUSY, RpcError
from mcp_gateway.reader import Reader

MAX_BUCKETS = 20_000
# The other replicas hear of it soon when so much of a bucket was taken.
GOOD_PART = 1 / 8


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket: ``burst`` tokens at most, one more every ``interval`` seconds. 0 for no limit."""

    interval: float = 0.0
    burst: int = 0

    @property
    def depth(self) -> float:
        """Seconds that an empty bucket takes to fill."""
        return self.interval * self.burst


@dataclass(frozen=True, slots=True)
class Limits:
    """What one principal may have.

    Attributes:
        rate: of all its requests.
        servers: of its requests to a server, besides ``rate``; by the server's name.
        max_in_flight: requests at once; 0 for no limit.
    """

    rate: Rate = Rate()
    servers: Mapping[str, Rate] = field(default_factory=dict)
    max_in_flight: int = 0

    def metered(self, server: str) -> bool:
        """Whether there is a rate for requests to the server."""
        return bool(self.rate.burst) or server in self.servers

    def crowded(self, principal: str) -> RpcError:
        """The refusal of one request more than may be in flight."""
        why = f"{principal} has {self.max_in_flight} requests in flight, as many as its profile allows"
        return RpcError(BUSY, why, {"retryAfterMs": 1000})


class Limiter:
    """The buckets and the requests in flight of all principals.

    Not thread-safe: it belongs to one event loop, and none of its methods waits.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_buckets: int = MAX_BUCKETS) -> None:
        self._clock = clock
        self._max = max_buckets
        self._full_at: dict[str, float] = {}
        self._in_flight: dict[str, int] = {}
        self._notice: Callable[[bool], None] | None = None
        self._taken: dict[str, float] = {}
        self._much = False

    def take(self, principal: str, limits: Limits, server: str = "") -> float:
        """One request of ``principal``, to ``server`` where one is named.

        Returns:
            0.0 if it is allowed; else the seconds after which it would be, and nothing is taken from any bucket.
        """
        rate = limits.rate
        other = limits.servers.get(server) if limits.servers else None
        if other is None:
            return self._take(principal, rate) if rate.burst else 0.0
        now, full_at = self._clock(), self._full_at
        key = f"{principal}\0{server}"
        wait = full_at.get(key, now) + other.interval - now - other.depth if other.burst else 0.0
        if rate.burst:
            wait = max(wait, full_at.get(principal, now) + rate.interval - now - rate.depth)
        if wait > 1e-9:
            return wait
        if rate.burst:
            self._spend(principal, rate, now)
        if other.burst:
            self._spend(key, other, now)
        return 0.0

    def enter(self, principal: str, limits: Limits) -> bool:
        """Count one more request in flight; False, and nothing counted, if that would be too many."""
        count = self._in_flight.get(principal, 0)
        if limits.max_in_flight and count >= limits.max_in_flight:
            return False
        self._in_flight[principal] = count + 1
        return True

    def leave(self, principal: str) -> None:
        """The end of a request for which `enter` said True."""
        count = self._in_flight.get(principal, 0) - 1
        if count > 0:
            self._in_flight[principal] = count
        else:
            self._in_flight.pop(principal, None)

    def in_flight(self, principal: str) -> int:
        """How many requests of ``principal`` are under way."""
        return self._in_flight.get(principal, 0)

    # -- with other replicas -----------------------------------------------------------------------

    def share(self, notice: Callable[[bool], None]) -> None:
        """Note from now on what is taken.

        Args:
            notice: told that ``taken`` has something to tell; with True that it is a good part of a bucket.
        """
        self._notice = notice

    def taken(self) -> dict[str, float]:
        """What was taken here since it was asked last: by bucket, the seconds that it takes to fill it again."""
        taken, self._taken, self._much = self._taken, {}, False
        return taken

    def also_taken(self, key: str, seconds: float) -> None:
        """Another replica took so much."""
        now = self._clock()
        self._put(key, max(self._full_at.get(key, now), now) + seconds, now)

    def levels(self) -> dict[str, float]:
        """The buckets that are not full, and in how many seconds each will be."""
        now = self._clock()
        return {key: full_at - now for key, full_at in self._full_at.items() if full_at > now}

    def at_most(self, key: str, seconds: float) -> None:
        """A bucket of another replica will be full in so many seconds: here no sooner."""
        now = self._clock()
        self._put(key, max(self._full_at.get(key, now), now + seconds), now)

    def __len__(self) -> int:
        return len(self._full_at)

    def _take(self, key: str, rate: Rate) -> float:
        now = self._clock()
        full_at = self._full_at.get(key, now)
        full_at = (full_at if full_at > now else now) + rate.interval
        wait = full_at - now - rate.interval * rate.burst
        if wait > 1e-9:  # rounding must not turn a token that is just there into one that is not
            return wait
        self._put(key, full_at, now)
        if self._notice:
            self._note(key, rate)
        return 0.0

    def _spend(self, key: str, rate: Rate, now: float) -> None:
        self._put(key, max(self._full_at.get(key, now), now) + rate.interval, now)
        if self._notice:
            self._note(key, rate)

    def _note(self, key: str, rate: Rate) -> None:
        """For the other replicas."""
        assert self._notice
        if not self._taken:
            self._notice(False)
        seconds = self._taken[key] = self._taken.get(key, 0.0) + rate.interval
        if seconds >= rate.depth * GOOD_PART and not self._much:
            self._much = True
            self._notice(True)

    def _put(self, key: str, full_at: float, now: float) -> None:
        buckets = self._full_at
        if key not in buckets and len(buckets) >= self._max:
            self._reap(now)
        buckets[key] = full_at

    def _reap(self, now: float) -> None:
        """Forget full buckets, which are as good as none; if most are in use, the fullest half too.

        Half at least goes, so that the cost per new bucket stays small whoever comes.
        """
        used = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        if len(used) > self._max // 2:
            emptiest = sorted(used.items(), key=lambda item: item[1])[len(used) - self._max // 2 :]
            used = dict(emptiest)
        self._full_at.clear()
        self._full_at.update(used)


def read(reader: Reader, servers: Collection[str]) -> Limits:
    """``{requests_per_minute, burst, max_in_flight, servers: {<name>: {requests_per_minute, burst}}}``.

    ``servers`` are the names that there are; mistakes are noted in the reader.
    """
    rate = _rate(reader)
    max_in_flight = reader.take("max_in_flight", int, 0, lambda v: v >= 0)
    per_server = reader.section("servers")
    rates = {}
    for name in list(per_server.left):
        if name not in servers:
            reader.errors.append(f"{per_server.at(str(name))}: no such server; there are {_names(servers)}")
        section = per_server.section(name)
        rates[str(name)] = _rate(section)
        section.done()
    reader.done()
    return Limits(rate, rates, max_in_flight)


def _rate(reader: Reader) -> Rate:
    per_minute = float(reader.take("requests_per_minute", (int, float), 0.0, lambda v: 0 <= v <= 60_000_000))
    burst = reader.take("burst", int, None, lambda v: 1 <= v <= 1_000_000)
    if burst is not None and not per_minute:
        reader.errors.append(f"{reader.at('burst')}: {burst}, but no requests_per_minute that it would belong to")
    if not per_minute:
        return Rate()
    # Without a burst of its own, ten seconds' worth: clients come in bunches.
    return Rate(60.0 / per_minute, burst or max(1, round(per_minute / 6)))


def _names(servers: Collection[str]) -> str:
    return ", ".join(sorted(servers)) or "none"
