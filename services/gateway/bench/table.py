"""Candidates beside each other: several rounds in turn, so that what the machine does besides meets all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from bench.lab import Candidate, Lab
from bench.load import Load

WARM_SECONDS = 0.5
# Who answers less often than this in the warm-up gets so many times the time, lest luck decide.
FEW, LONGER = 30, 4


@dataclass
class Row:
    """One candidate's rounds; figures are medians over them."""

    candidate: Candidate
    loads: list[Load] = field(default_factory=list)
    seconds: float = 0.0
    rss_mb: float = 0.0
    pss_mb: float = 0.0
    broken: str = ""

    @property
    def name(self) -> str:
        """As the tables print it."""
        return self.candidate.name

    @property
    def per_second(self) -> float:
        """Right answers per second."""
        return median(load.per_second for load in self.loads)

    @property
    def cpu_ms(self) -> float | None:
        """Processor time per answer in milliseconds; None for what has no process of its own."""
        found = [load.cpu_ms for load in self.loads if load.cpu_ms is not None]
        return median(found) if found else None

    @property
    def least_cpu_ms(self) -> float | None:
        """The same of the round that was disturbed least: what else the machine does only ever adds."""
        return min((load.cpu_ms for load in self.loads if load.cpu_ms is not None), default=None)

    def latency(self, quantile: str) -> float:
        """``p50``, ``p99`` and so on in milliseconds."""
        return float(median(getattr(load, quantile) for load in self.loads))

    @property
    def wrong(self) -> int:
        """Wrong answers and broken connections, all rounds together."""
        return sum(load.wrong + load.errors for load in self.loads)

    @property
    def complaint(self) -> str:
        """What the first wrong answer was."""
        return next((load.complaint for load in self.loads if load.complaint), self.broken)

    @property
    def spread(self) -> float:
        """(highest - lowest) / median of the throughput over the rounds."""
        values = [load.per_second for load in self.loads]
        return (max(values) - min(values)) / median(values)


def measure(
    lab: Lab,
    candidates: Sequence[Candidate],
    rounds: int,
    seconds: float,
    *,
    connections: int = 16,
    rate: float = 0.0,
    halt: bool = True,
) -> list[Row]:
    """So many rounds of so many seconds each, the candidates in turn.

    Args:
        halt: whether who is not at work is halted, so that it takes nothing from the others. What it does by the clock
            is done all at once when it goes on, which distorts where that is much.
    """
    rows = [Row(candidate, seconds=WARM_SECONDS) for candidate in candidates]
    processes = {process for candidate in candidates if halt and (process := candidate.process)}
    for process in processes:
        process.halt()
    for number in range(rounds + 1):
        for row in rows:
            process = row.candidate.process
            if row.broken:
                continue
            if process in processes:
                process.go_on()
            try:
                if number:
                    # What it did not use meanwhile grew old, its connections and caches.
                    lab.load(row.candidate, connections=connections, seconds=WARM_SECONDS, rate=rate)
                # The first round only warms up: connections, caches, just-in-time compilers.
                load = lab.load(row.candidate, connections=connections, seconds=row.seconds, rate=rate)
            except RuntimeError as failure:
                row.broken = str(failure)
                continue
            if number:
                row.loads.append(load)
            else:
                row.seconds = seconds if load.answers + load.wrong >= FEW else seconds * LONGER
            if process and number == rounds:
                row.rss_mb, row.pss_mb = process.memory_mb()
            if process in processes:
                process.halt()
    for process in processes:
        process.go_on()
    return [row for row in rows if row.loads]
