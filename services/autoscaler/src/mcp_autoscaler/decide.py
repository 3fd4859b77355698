"""One server's decisions: from what it has to do, by its rule, to how many replicas, and why. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from mcp_autoscaler.docker import Service
from mcp_autoscaler.history import History
from mcp_autoscaler.hpa import Outcome, largest, of_replicas, of_total
from mcp_autoscaler.readings import Load
from mcp_autoscaler.settings import GPU, IN_FLIGHT, LATENCY, QUEUE, Rule

UNITS = {IN_FLIGHT: " calls a replica", QUEUE: " waiting calls a replica", LATENCY: " ms", GPU: " % a replica"}


class Reason(StrEnum):
    """Why a server has the replicas that it has; label of metrics."""

    STEADY = "steady"
    LOAD = "load"
    WINDOW = "window"
    POLICY = "policy"
    BOUNDS = "bounds"
    IDLE = "idle"
    ASLEEP = "asleep"
    WAKE = "wake"
    OFF = "off"
    UPDATING = "updating"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Decision:
    """What to do.

    Attributes:
        replicas: how many there shall be.
        why: for people.
        outcomes: what each metric wanted.
    """

    replicas: int
    reason: Reason
    why: str
    outcomes: tuple[Outcome, ...] = ()


class Decider:
    """Remembers what a server's decisions depend on."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self._history = History()
        self._idle_since: float | None = None

    def changed(self, now: float, before: int, after: int) -> None:
        """A decision was carried out."""
        if before == 0:
            # It slept: what was recommended before that is no reason to hold anything back.
            self._history = History()
        self._history.changed(now, before, after)

    def decide(self, now: float, service: Service, load: Load, gpus: Mapping[str, float] | None) -> Decision:
        """How many replicas the service shall have.

        Args:
            now: monotonic seconds.
            load: over all gateways.
            gpus: GPU to its use, 0 to 1; None where nobody tells.
        """
        current = service.replicas
        if self._idle_since is None or load.busy or not load.complete:
            self._idle_since = now
        idle = now - self._idle_since
        if service.updating:
            return Decision(
                current, Reason.UPDATING, f"its update is {service.updating}; scaling waits until it is over"
            )
        if current == 0:
            return self._asleep(now, service, load)
        if current > service.most or current < service.least:
            wanted = min(max(current, service.least), service.most)
            return Decision(wanted, Reason.BOUNDS, f"{current} is not within {service.least} to {service.most}")
        if service.least == 0 and idle >= self.rule.idle_seconds:
            return Decision(0, Reason.IDLE, f"no call for {idle:.0f} s")
        outcomes = tuple(self._outcome(metric, service, load, gpus) for metric in self.rule.targets)
        return self._moved(now, service, outcomes)

    def _asleep(self, now: float, service: Service, load: Load) -> Decision:
        if service.least > 0:
            return Decision(0, Reason.OFF, "it was scaled to 0 by hand; scale it to 1 or more and it is scaled again")
        # Counters do not count here: what an autoscaler that was started anew sees first may have been long ago.
        if not load.calls:
            return Decision(0, Reason.ASLEEP, "nobody calls it")
        target = self.rule.targets.get(IN_FLIGHT)
        wanted = max(1, of_total(load.calls, target, 0) if target else 1)
        self._idle_since = now
        return Decision(min(wanted, service.most), Reason.WAKE, f"waiting for it: {load.calls:.0f}")

    def _outcome(self, metric: str, service: Service, load: Load, gpus: Mapping[str, float] | None) -> Outcome:
        target, current, tolerance = self.rule.targets[metric], service.replicas, self.rule.tolerance
        ready = service.ready[:current]  # while replicas are replaced, there may be more than are asked for
        if metric in (IN_FLIGHT, QUEUE):
            total = load.calls if metric == IN_FLIGHT else load.waiting + load.parked
            wanted = of_total(total, target, current, tolerance)
            # With a gateway that did not answer, there may be more: enough to grow by, not to shrink by.
            known = load.complete or wanted > current
            return Outcome(metric, wanted if known else None, total / current if known else None, target)
        if metric == LATENCY:
            if load.latency is None or not (load.complete or load.latency * 1000 > target):
                return Outcome(metric, None, None, target)
            value = load.latency * 1000
            values = [value] * len(ready)
        else:
            values = [use for given in ready if (use := _use(given, gpus)) is not None]
            if not values:
                return Outcome(metric, None, None, target)
            value = sum(values) / len(values)
        wanted = of_replicas(values, target, len(ready) - len(values), current - len(ready), tolerance)
        return Outcome(metric, wanted, value, target)

    def _moved(self, now: float, service: Service, outcomes: tuple[Outcome, ...]) -> Decision:
        current, up, down = service.replicas, self.rule.up, self.rule.down
        wanted, by = largest(outcomes, current)
        bounded = min(max(wanted, service.least, 1), service.most)
        stable = self._history.stabilized(now, current, bounded, up, down)
        final = self._history.limited(now, current, stable, up, down)
        unknown = [outcome.metric for outcome in outcomes if outcome.replicas is None]
        if by is None:
            why = f"{', '.join(unknown)} cannot be measured, so there may be work for all {current}"
            return Decision(final, Reason.UNKNOWN, why, outcomes)
        said = f"{by.metric} is {_short(by.value or 0.0)}{UNITS[by.metric]}, wanted {by.target:g}: {_count(wanted)}"
        if final != current:
            return Decision(final, Reason.LOAD, said, outcomes)
        if stable != current:
            return Decision(
                final, Reason.POLICY, f"{said}; as many as its policies permit were changed just now", outcomes
            )
        if bounded != current:
            window = (up if bounded > current else down).window
            return Decision(final, Reason.WINDOW, f"{said}; not so throughout the last {window:g} s", outcomes)
        if wanted != bounded:
            return Decision(final, Reason.BOUNDS, f"{said}; its bounds are {service.least} to {service.most}", outcomes)
        return Decision(final, Reason.STEADY, said, outcomes)


def _short(value: float) -> str:
    return f"{round(value, 2 if value < 100 else 0):g}"


def _count(replicas: int) -> str:
    return "1 replica" if replicas == 1 else f"{replicas} replicas"


def _use(given: tuple[str, ...], gpus: Mapping[str, float] | None) -> float | None:
    """Mean use of a replica's GPUs in per cent; None where one is unknown. Swarm may know them by a shorter name.

    Replicas that share a GPU each show the use of the whole: what each of them does, nobody tells.
    """
    found = []
    for name in given:
        uses = [use for gpu, use in (gpus or {}).items() if gpu.startswith(name)]
        if len(uses) != 1:
            return None
        found.append(uses[0] * 100)
    return sum(found) / len(found) if found else None
