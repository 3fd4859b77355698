"""What each server has to do now, from the metrics of all the gateway's replicas."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

from mcp_autoscaler.scrape import Scrape

RUNNING, WAITING, PARKED = "mcp_gateway_inflight", "mcp_gateway_queued", "mcp_gateway_wanted"
REQUESTS, SECONDS = "mcp_gateway_requests_total", "mcp_gateway_upstream_seconds"
COUNT, BUCKET = f"{SECONDS}_count", f"{SECONDS}_bucket"
NAMES = (RUNNING, WAITING, PARKED, REQUESTS, COUNT, BUCKET)
# Clients' requests that are work; lists and pings are not.
WORK = frozenset({"tools/call", "prompts/get", "resources/read", "completion/complete"})
QUANTILE = 0.95
# The gateway counts a server's GPU pool apart. That has as many replicas as there are GPUs for; what is scaled is its
# CPU twin, and calls on GPUs are no work of the twin's.
POOL = " (gpu)"

Key = tuple[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Load:
    """One server's, over all replicas of the gateway.

    Attributes:
        running, waiting: calls in flight, and those that wait for a place; with a GPU pool, those of its CPU twin.
        parked: calls that wait because the server has no replica.
        active: whether there was any call since the look before.
        latency: 95th percentile of its answers since then, in seconds; 0 where nothing was asked, None where
            answers are under way or unknown.
        complete: whether every replica of the gateway answered; else the numbers are lower bounds.
    """

    running: float = 0.0
    waiting: float = 0.0
    parked: float = 0.0
    active: bool = False
    latency: float | None = 0.0
    complete: bool = True

    @property
    def calls(self) -> float:
        """All that clients wait for."""
        return self.running + self.waiting + self.parked

    @property
    def busy(self) -> bool:
        """Whether anybody uses it."""
        return self.active or self.calls > 0


UNKNOWN = Load(latency=None, complete=False)


def quantile(q: float, buckets: dict[float, float]) -> float | None:
    """A quantile of a histogram, as Prometheus' histogram_quantile estimates it; None where it is empty.

    Args:
        buckets: upper bound to how many observations there were up to it.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    rank = q * total
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if math.isinf(bound):
                return lower
            inside = buckets[bound] - below
            return lower + (bound - lower) * ((rank - below) / inside if inside else 1.0)
        lower, below = bound, buckets[bound]
    return lower


class Readings:
    """Remembers counters from one look to the next, by replica of the gateway."""

    def __init__(self) -> None:
        self._before: dict[str, dict[Key, float]] = {}

    def of(self, scrape: Scrape) -> dict[str, Load]:
        """Each server's load; servers that no gateway knows are absent."""
        gauges: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        buckets: dict[str, dict[float, float]] = defaultdict(lambda: defaultdict(float))
        active: set[str] = set()
        fresh = False
        for address, samples in scrape.samples.items():
            before = self._before.get(address)
            fresh = fresh or before is None
            now: dict[Key, float] = {}
            for sample in samples:
                label = sample.labels.get("server", "")
                server = label.removesuffix(POOL)
                if sample.name in (RUNNING, WAITING, PARKED):
                    if server == label:
                        gauges[server][sample.name] += sample.value
                    continue
                if sample.name == REQUESTS and sample.labels.get("method") not in WORK:
                    continue
                key = sample.name, tuple(sorted(sample.labels.items()))
                now[key] = sample.value
                # What a replica counted before it was first seen may have been long ago or just now: it keeps a
                # server awake, but says nothing of how fast it is.
                grown = _grown((before or {}).get(key, 0.0), sample.value)
                if sample.name != BUCKET:
                    active |= {server} if grown > 0 else set()
                elif before is not None:
                    buckets[server][float(sample.labels["le"])] += grown
            self._before[address] = now
        if scrape.complete:
            self._before = {address: self._before[address] for address in scrape.samples}
        known = scrape.complete and not fresh
        return {
            server: _load(gauges[server], buckets[server], server in active, scrape.complete, known)
            for server in {*gauges, *active, *buckets}
        }


def _load(gauges: dict[str, float], buckets: dict[float, float], active: bool, complete: bool, known: bool) -> Load:
    running, waiting = gauges[RUNNING], gauges[WAITING]
    latency = quantile(QUANTILE, buckets)
    if latency is None and known and not running + waiting:
        latency = 0.0
    return Load(running, waiting, gauges[PARKED], active, latency, complete)


def _grown(before: float, now: float) -> float:
    """By how much a counter grew; one that is smaller than before began anew."""
    return now - before if now >= before else now


def gpu_use(scrape: Scrape, label: str, full: float) -> dict[str, float]:
    """GPU to its use, 0 to 1. Of several samples of one GPU (its parts) the busiest counts.

    What cannot be is not known: dcgm-exporter shows fields that a GPU does not have now as numbers around 2^63.
    """
    found: dict[str, float] = {}
    for sample in (sample for samples in scrape.samples.values() for sample in samples):
        name, use = sample.labels.get(label), sample.value / full
        if name and 0 <= use <= 1:
            found[name] = max(use, found.get(name, 0.0))
    return found
