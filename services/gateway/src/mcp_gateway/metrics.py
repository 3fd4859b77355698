"""Prometheus metrics; labels hold names from the configuration and the protocol only, so their number is bounded."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """One registry per gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "mcp_gateway_requests", "Requests of clients.", ["server", "method", "outcome"], registry=self.registry
        )
        self.seconds = Histogram(
            "mcp_gateway_request_seconds",
            "Time to the response.",
            ["server", "method"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.refused = Counter("mcp_gateway_refused", "Requests refused.", ["reason"], registry=self.registry)
        self.inflight = Gauge("mcp_gateway_inflight", "Calls in flight.", ["server"], registry=self.registry)
        self.queued = Gauge("mcp_gateway_queued", "Calls waiting for a place.", ["server"], registry=self.registry)
        self.replicas = Gauge(
            "mcp_gateway_replicas", "Replicas of a server.", ["server", "state"], registry=self.registry
        )
        self.ejections = Counter(
            "mcp_gateway_ejections", "Times a replica was set aside.", ["server"], registry=self.registry
        )

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)
