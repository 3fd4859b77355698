"""What the autoscaler says of itself: metrics for machines, /status for people, and whether it is alive."""

from __future__ import annotations

import time
from collections import deque
from datetime import UTC, datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from mcp_autoscaler.decide import Decision, Reason
from mcp_autoscaler.docker import Service
from mcp_autoscaler.web import Handler

# Looks that may be missed before it counts as hung: one may wait for timeouts of Docker and of gateways.
ALIVE_SECONDS = 120.0
CHANGES_KEPT = 20


def utc_now() -> str:
    """This moment, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Report:
    """Written by the loop, read by the HTTP service. Whole values are replaced, so reading needs no lock."""

    def __init__(self, fleet: str) -> None:
        self.registry = registry = CollectorRegistry()
        self._replicas = Gauge(
            "mcp_autoscaler_replicas",
            "Replicas of a server: asked, ready, min, max.",
            ["server", "kind"],
            registry=registry,
        )
        self._metric = Gauge(
            "mcp_autoscaler_metric", "What a decision went by, as measured.", ["server", "metric"], registry=registry
        )
        self._target = Gauge(
            "mcp_autoscaler_target", "What a metric is compared with.", ["server", "metric"], registry=registry
        )
        self._reason = Gauge(
            "mcp_autoscaler_reason", "1 for why a server has its replicas.", ["server", "reason"], registry=registry
        )
        self._changes = Counter(
            "mcp_autoscaler_changes",
            "Changes of replicas, by direction (up, down) and reason.",
            ["server", "direction", "reason"],
            registry=registry,
        )
        self._refused = Counter(
            "mcp_autoscaler_refused", "Changes that Docker or its proxy refused.", ["server"], registry=registry
        )
        self._up = Gauge(
            "mcp_autoscaler_source_up", "1 where docker, gateway, gpu answered at the last look.", ["source"],
            registry=registry,
        )  # fmt: skip
        self._seconds = Gauge("mcp_autoscaler_look_seconds", "What the last look took.", registry=registry)
        self._looks = Counter("mcp_autoscaler_looks", "Looks so far.", registry=registry)
        self._since = utc_now()
        self._fleet = fleet
        self._servers: dict[str, dict[str, Any]] = {}
        self._sources: dict[str, str] = {}
        self._latest: deque[dict[str, Any]] = deque(maxlen=CHANGES_KEPT)
        self._refusals: dict[str, tuple[int, str]] = {}
        self._looked = ""
        self._beat = time.monotonic()

    def source(self, name: str, failure: str) -> bool:
        """Whether a source of numbers answered: empty, or why not. True where that is news."""
        news = self._sources.get(name, "") != failure
        self._sources = {**self._sources, name: failure}
        self._up.labels(name).set(not failure)
        return news

    def decided(self, service: Service, decision: Decision) -> bool:
        """What was decided about a server; True where the reason is another than before."""
        server = service.server
        before = self._servers.get(server, {}).get("reason")
        numbers = {"asked": service.replicas, "ready": len(service.ready), "min": service.least, "max": service.most}
        for kind, number in numbers.items():
            self._replicas.labels(server, kind).set(number)
        for reason in Reason:
            self._reason.labels(server, reason).set(reason == decision.reason)
        metrics = []
        for outcome in decision.outcomes:
            self._target.labels(server, outcome.metric).set(outcome.target)
            self._metric.labels(server, outcome.metric).set(float("nan") if outcome.value is None else outcome.value)
            value = None if outcome.value is None else round(outcome.value, 3)
            metrics.append(
                {"name": outcome.metric, "value": value, "target": outcome.target, "wants": outcome.replicas}
            )
        shown = {**numbers, "wanted": decision.replicas, "reason": str(decision.reason), "why": decision.why}
        self._servers = {**self._servers, server: {**shown, "metrics": metrics}}
        return before != decision.reason

    def changed(self, service: Service, decision: Decision, refusal: str = "") -> bool:
        """A change was made, or refused. False where the same was refused before: it is tried again at each look."""
        entry = {
            "time": utc_now(),
            "server": service.server,
            "from": service.replicas,
            "to": decision.replicas,
            "reason": str(decision.reason),
            "why": decision.why,
        }
        if refusal:
            self._refused.labels(service.server).inc()
            entry["refused"] = refusal
            tried = (decision.replicas, refusal)
            if self._refusals.get(service.server) == tried:
                return False
            self._refusals[service.server] = tried
        else:
            self._refusals.pop(service.server, None)
            direction = "up" if decision.replicas > service.replicas else "down"
            self._changes.labels(service.server, direction, decision.reason).inc()
        self._latest.append(entry)
        return True

    def looked(self, seconds: float, servers: set[str]) -> None:
        """A look is over; servers that there are no more are forgotten."""
        for gone in self._servers.keys() - servers:
            for gauge in (self._replicas, self._metric, self._target, self._reason):
                gauge.remove_by_labels({"server": gone})
        self._servers = {name: shown for name, shown in self._servers.items() if name in servers}
        self._seconds.set(seconds)
        self._looks.inc()
        self._looked = utc_now()
        self._beat = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether looks still happen."""
        return time.monotonic() - self._beat < ALIVE_SECONDS

    def status(self) -> dict[str, Any]:
        """All of it, for people and programs."""
        return {
            "fleet": self._fleet,
            "since": self._since,
            "looked": self._looked,
            "sources": {name: failure or "ok" for name, failure in self._sources.items()},
            "servers": self._servers,
            "changes": list(self._latest),
        }

    def text(self) -> str:
        """The exposition format."""
        return generate_latest(self.registry).decode()


class _Handler(Handler):
    report: Report

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        if method not in ("GET", "HEAD"):
            return 405, {"message": f"{method} is not permitted: this only tells"}
        if target == "/metrics":
            return 200, self.report.text()
        if target == "/status":
            return 200, self.report.status()
        if target == "/healthz":
            alive = self.report.alive
            return (200, {"status": "ok"}) if alive else (503, {"status": f"no look for {ALIVE_SECONDS:.0f} s"})
        return 404, {"message": "nothing is here but /metrics, /status and /healthz"}


def handler(report: Report) -> type[Handler]:
    """What answers requests about this report."""
    return type("ReportHandler", (_Handler,), {"report": report})
