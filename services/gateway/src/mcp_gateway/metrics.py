"""Prometheus metrics; labels hold names from the configuration and the protocol only, so their number is bounded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from mcp_gateway.protocol import CALLS, LEGACY, LISTS, MODERN, TASKS
from mcp_gateway.tally import Count, Durations, Tally

if TYPE_CHECKING:
    from mcp_gateway.upstream.replicas import Replica

KNOWN_METHODS = frozenset(
    {*LISTS, *CALLS, *TASKS, "initialize", "server/discover", "ping", "logging/setLevel", "subscriptions/listen"}
)
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Spoken(Protocol):
    """What a server speaks."""

    era: str | None


class Known(Protocol):
    """A server, as the gauges show it."""

    name: str

    @property
    def speaker(self) -> Spoken:
        """Its era, as its replicas said."""

    @property
    def all_replicas(self) -> Collection[Replica]:
        """Of all pools."""

    @property
    def sessions(self) -> int:
        """Sessions of 2025 held."""

    @property
    def wanted(self) -> int | None:
        """What wants it awake; None for servers that do not sleep."""


class Fleet(Collector):
    """Gauges of the servers, read when they are asked for.

    Attributes:
        servers: those that there are now.
    """

    def __init__(self) -> None:
        self.servers: Callable[[], Iterable[Known]] = lambda: ()

    def collect(self) -> Iterator[Metric]:
        """As Prometheus wants it."""
        replicas = GaugeMetricFamily("mcp_gateway_replicas", "Replicas of a server.", labels=["server", "state"])
        era = GaugeMetricFamily("mcp_gateway_era", "1 for the era a server speaks.", labels=["server", "era"])
        sessions = GaugeMetricFamily(
            "mcp_gateway_upstream_sessions", "Sessions of the 2025 protocol held.", labels=["server"]
        )
        wanted = GaugeMetricFamily(
            "mcp_gateway_wanted", "Calls that wait for a server that sleeps; 1 where it is wanted otherwise.",
            labels=["server"],
        )  # fmt: skip
        for server in self.servers():
            known = server.all_replicas
            replicas.add_metric([server.name, "healthy"], sum(replica.healthy for replica in known))
            replicas.add_metric([server.name, "known"], len(known))
            for version in (MODERN, LEGACY):
                era.add_metric([server.name, version], server.speaker.era == version)
            sessions.add_metric([server.name], server.sessions)
            if server.wanted is not None:
                wanted.add_metric([server.name], server.wanted)
        yield from (replicas, era, sessions, wanted)


class Metrics:
    """One registry per gateway. Label ``server`` is ``*`` for requests that concern all of them."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Tally(
            "mcp_gateway_requests",
            "Requests of clients, by outcome: ok, error, refused, cancelled.",
            ("server", "method", "outcome"),
        )
        self.seconds = Tally(
            "mcp_gateway_request_seconds",
            "Time from a client's request to the end of its response.",
            ("server", "method"),
            BUCKETS,
        )
        self.refused = Counter(
            "mcp_gateway_refused",
            "Requests refused before they reached the protocol: unauthorized, origin, malformed, too_large.",
            ["reason"],
            registry=registry,
        )
        self.upstream_seconds = Tally(
            "mcp_gateway_upstream_seconds", "Time that a server's replica took to answer.", ("server",), BUCKETS
        )
        self._series: dict[tuple[str, str, str], tuple[Count, Durations]] = {}
        for tally in (self.requests, self.seconds, self.upstream_seconds):
            registry.register(tally)
        self.inflight = Gauge("mcp_gateway_inflight", "Calls in flight.", ["server"], registry=registry)
        self.queued = Gauge("mcp_gateway_queued", "Calls waiting for a place.", ["server"], registry=registry)
        self.fleet = Fleet()
        registry.register(self.fleet)
        self.ejections = Counter(
            "mcp_gateway_ejections", "Times a replica was set aside.", ["server"], registry=registry
        )

        self.pool_choices = Counter(
            "mcp_gateway_pool_choices",
            "Calls by the pool that took them, and why.",
            ["server", "pool", "reason"],
            registry=registry,
        )
        self.hedges = Counter(
            "mcp_gateway_hedges",
            "Safe calls that were sent a second time because the first took long.",
            ["server"],
            registry=registry,
        )
        self.peer_messages = Counter(
            "mcp_gateway_peer_messages",
            "Messages between the gateway's replicas, by outcome: sent, failed, received, refused.",
            ["outcome"],
            registry=registry,
        )
        self.peers = Gauge(
            "mcp_gateway_peers", "Other replicas of the gateway: known, reachable.", ["state"], registry=registry
        )
        self.reloads = Counter(
            "mcp_gateway_config_reloads",
            "Changed configuration files, by outcome: applied, refused.",
            ["outcome"],
            registry=registry,
        )

    def request(self, server: str, method: object, outcome: str, seconds: float | None = None) -> None:
        """Count a client's request; a method that clients made up is ``other``."""
        known = method if isinstance(method, str) and method in KNOWN_METHODS else "other"
        count, durations = self._series.get((server, known, outcome)) or self._serie(server, known, outcome)
        count.value += 1
        if seconds is not None:
            durations.observe(seconds)

    def _serie(self, server: str, method: str, outcome: str) -> tuple[Count, Durations]:
        found = self._series[(server, method, outcome)] = (
            self.requests.count(server, method, outcome),
            self.seconds.of(server, method),
        )
        return found

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
