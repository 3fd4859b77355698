"""Counts and durations of the data path: plain numbers there, Prometheus' types when it asks.

The client library's own counters cost ten times what the numbers in them do.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector


class Count:
    """A counter's number."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0


class Durations:
    """A histogram's numbers."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts by upper bound, as Prometheus wants them."""
        total, buckets = 0, []
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, float(total)))
        return buckets


class Tally(Collector):
    """One counter or histogram with labels.

    Args:
        bounds: upper bounds of a histogram's buckets, in seconds; without any it is a counter.
    """

    def __init__(self, name: str, text: str, labels: tuple[str, ...], bounds: tuple[float, ...] = ()) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._bounds = bounds
        self.counts: dict[tuple[str, ...], Count] = {}
        self.durations: dict[tuple[str, ...], Durations] = {}

    def count(self, *labels: str) -> Count:
        """The counter under these labels."""
        return self.counts.setdefault(labels, Count())

    def of(self, *labels: str) -> Durations:
        """The durations under these labels."""
        found = self.durations.get(labels)
        if found is None:
            found = self.durations[labels] = Durations(self._bounds)
        return found

    def collect(self) -> Iterator[Any]:
        """As Prometheus wants it."""
        if not self._bounds:
            counter = CounterMetricFamily(self._name, self._text, labels=self._labels)
            for labels, count in list(self.counts.items()):
                counter.add_metric(labels, count.value)
            yield counter
            return
        histogram = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, durations in list(self.durations.items()):
            histogram.add_metric(labels, durations.buckets(), durations.sum)
        yield histogram
