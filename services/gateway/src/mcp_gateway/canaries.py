"""The canaries of all servers, as the board says: made, retuned, let go; their endpoints, numbers and metrics."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from mcp_gateway.board.document import CanaryAt
from mcp_gateway.board.sides import BOUNDS, NAMES
from mcp_gateway.config import Config, Dns, Server
from mcp_gateway.metrics import Metrics
from mcp_gateway.net.client import Client
from mcp_gateway.protocol import Json
from mcp_gateway.upstream.canary import Canary
from mcp_gateway.upstream.lanes import Commons
from mcp_gateway.upstream.pools import PoolSettings
from mcp_gateway.upstream.server import Upstream

SUFFIX = "/canary/mcp"


class Canaries(Collector):
    """All of them, by server.

    Args:
        stable: the servers as clients know them.
        make: an upstream that is begun.
        background: runs work that nobody waits for.
    """

    def __init__(
        self,
        config: Config,
        client: Client,
        stable: Callable[[], Mapping[str, Upstream]],
        make: Callable[[Server, Commons], Upstream],
        background: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        # Counted for itself: what it does must not look like the old replicas' doing.
        self._commons = Commons(config, client, Metrics())
        self._stable = stable
        self._make = make
        self._background = background
        self._wanted: Mapping[str, CanaryAt] = {}
        self.by_name: dict[str, Canary] = {}

    def configure(self, config: Config) -> None:
        """Go by another configuration from now on."""
        self._commons.configure(config)

    def apply(self, wanted: Mapping[str, CanaryAt]) -> None:
        """These are there from now on."""
        self._wanted = wanted
        self.refresh()

    def refresh(self) -> None:
        """Make what is wanted of the servers that there are now, and let go what is not wanted any more."""
        stable = self._stable()
        for name, canary in list(self.by_name.items()):
            at, upstream = self._wanted.get(name), stable.get(name)
            if at and upstream and upstream.canary is canary and _same_place(at, canary.at):
                canary.retune(at)
                continue
            del self.by_name[name]
            if upstream and upstream.canary is canary:
                upstream.canary = None
            self._background(canary.upstream.retire())
        for name, at in self._wanted.items():
            if name in self.by_name or not (upstream := stable.get(name)):
                continue
            made = self._make(_server(upstream.server, at), self._commons)
            upstream.canary = self.by_name[name] = Canary(at, upstream, made)

    async def stop(self) -> None:
        """Let all go at once."""
        for canary in self.by_name.values():
            await canary.upstream.stop()

    def server_of(self, path: str) -> str | None:
        """Whose canary a path of its endpoint names; None where it is no such path, or there is no such canary."""
        parts = path.split("/")
        return parts[2] if path.endswith(SUFFIX) and len(parts) == 5 and parts[2] in self.by_name else None

    def report(self) -> Json:
        """What this gateway replica saw, for the board."""
        return {name: canary.sides.report() for name, canary in self.by_name.items() if canary.at.share}

    def state(self, name: str, seen: Json) -> Json | None:
        """For /status; None where there is no canary.

        Args:
            seen: what all gateway replicas saw, as the board has it.
        """
        if not (canary := self.by_name.get(name)):
            return None
        upstream = canary.upstream
        return {
            "share": canary.at.share,
            "active": canary.active,
            "era": upstream.speaker.era,
            "replicas": replicas_of(upstream),
            "last_error": upstream.speaker.last_error,
            "seen": seen.get(name),
        }

    def collect(self) -> Iterable[Metric]:
        """As Prometheus wants it; there are series while there are canaries, two a server."""
        share = GaugeMetricFamily(
            "mcp_gateway_canary_share", "Percent of a server's calls that its canary takes.", labels=["server"]
        )
        calls = CounterMetricFamily(
            "mcp_gateway_canary_calls",
            "Calls beside a canary, by who took them (stable, canary) and outcome (ok, failed).",
            labels=["server", "pool", "outcome"],
        )
        seconds = HistogramMetricFamily("mcp_gateway_canary_seconds", "Time that they took.", labels=["server", "pool"])
        for name, canary in list(self.by_name.items()):
            share.add_metric([name], canary.at.share)
            for pool in NAMES:
                side = getattr(canary.sides, pool)
                calls.add_metric([name, pool, "ok"], side.ok)
                calls.add_metric([name, pool, "failed"], side.failed)
                seconds.add_metric([name, pool], list(_buckets(side.counts)), None)
        yield from (share, calls, seconds)


def replicas_of(upstream: Upstream) -> list[Json]:
    """A server's replicas, for /status."""
    return [
        {
            "address": r.address,
            "pool": pool if len(upstream.lanes) > 1 else None,
            "healthy": r.healthy,
            "state": r.state,
            "breaker": r.breaker.state,
            "inflight": r.inflight,
            "latency_ms": round(r.latency * 1000, 1),
        }
        for pool, replicas in upstream.by_pool.items()
        for r in replicas.by_url.values()
    ]


def _same_place(one: CanaryAt, other: CanaryAt) -> bool:
    return replace(one, share=0, since=0, until=0) == replace(other, share=0, since=0, until=0)


def _server(server: Server, at: CanaryAt) -> Server:
    """The canary as a server: where it is differs, and it has one pool and nothing that it shares with others."""
    return replace(
        server,
        urls=(),
        dns=Dns(at.name, at.port, at.path),
        wake_seconds=0.0,
        gpu=None,
        pools=PoolSettings(),
        group="",
        tools_in_group={},
    )


def _buckets(counts: list[int]) -> Iterator[tuple[str, float]]:
    total = 0
    for bound, count in zip((*(f"{b:.6g}" for b in BOUNDS), "+Inf"), counts, strict=True):
        total += count
        yield bound, float(total)
