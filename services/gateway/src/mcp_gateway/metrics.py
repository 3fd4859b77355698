"""Prometheus metrics; labels hold names from the configuration and the protocol only, so their number is bounded."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from mcp_gateway.protocol import CALLS, LISTS, TASKS
from mcp_gateway.tally import Tally

KNOWN_METHODS = frozenset(
    {*LISTS, *CALLS, *TASKS, "initialize", "server/discover", "ping", "logging/setLevel", "subscriptions/listen"}
)
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


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
        for tally in (self.requests, self.seconds, self.upstream_seconds):
            registry.register(tally)
        self.inflight = Gauge("mcp_gateway_inflight", "Calls in flight.", ["server"], registry=registry)
        self.queued = Gauge("mcp_gateway_queued", "Calls waiting for a place.", ["server"], registry=registry)
        self.replicas = Gauge("mcp_gateway_replicas", "Replicas of a server.", ["server", "state"], registry=registry)
        self.era = Gauge("mcp_gateway_era", "1 for the era a server speaks.", ["server", "era"], registry=registry)
        self.sessions = Gauge(
            "mcp_gateway_upstream_sessions", "Sessions of the 2025 protocol held.", ["server"], registry=registry
        )
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
        counts = self.requests.counts
        labels = (server, known, outcome)
        counts[labels] = counts.get(labels, 0) + 1
        if seconds is not None:
            self.seconds.of(server, known).observe(seconds)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
