"""The loop: look at the fleet, decide about each server, carry it out, say so."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from mcp_autoscaler.decide import Decider, Decision, Reason
from mcp_autoscaler.docker import CONFLICT, Docker, DockerError, Service
from mcp_autoscaler.readings import NAMES, UNKNOWN, Load, Readings, gpu_use
from mcp_autoscaler.report import Report
from mcp_autoscaler.scrape import Scraper
from mcp_autoscaler.settings import GPU, Settings

# While a server sleeps, somebody may be waiting for it.
WAKE_SECONDS = 1.0

log = logging.getLogger("mcp_autoscaler")


class Loop:
    """One autoscaler.

    Args:
        clock: monotonic seconds.
    """

    def __init__(
        self, settings: Settings, docker: Docker, report: Report, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._docker = docker
        self._report = report
        self._clock = clock
        self._gateway = Scraper(settings.gateway, NAMES)
        self._gpu = Scraper(settings.gpu.url, [settings.gpu.metric]) if settings.gpu else None
        self._readings = Readings()
        self._deciders: dict[str, Decider] = {}

    def run(self, stop: threading.Event) -> None:
        """Look again and again until told to stop."""
        pause = 0.0
        while not stop.wait(pause):
            begun = self._clock()
            try:
                pause = self.look()
            except Exception:  # one look that fails for a reason nobody foresaw must not end all others
                log.exception("a look failed")
                pause = self._settings.interval_seconds
            pause = max(0.1, pause - (self._clock() - begun))

    def look(self) -> float:
        """One look at everything; returns the seconds until the next.

        Nothing is changed of what cannot be seen: without Docker nothing at all, without a gateway's numbers nothing
        but what certainly needs more.
        """
        begun, interval = self._clock(), self._settings.interval_seconds
        # Before Docker is asked: counters are compared with those of the look before, whatever comes of this one.
        scrape = self._gateway.look()
        self._source("gateway", "; ".join(scrape.failed))
        loads = self._readings.of(scrape)
        try:
            services = self._docker.services()
        except DockerError as failure:
            self._source("docker", str(failure))
            self._report.looked(self._clock() - begun, set(self._deciders))
            return interval
        self._source("docker", "")
        gpus = self._gpus(services)
        present = {service.server for service in services}
        self._deciders = {name: decider for name, decider in self._deciders.items() if name in present}
        asleep = False
        for service in services:
            rule = self._settings.servers.get(service.server)
            if rule is None:
                # The stack is newer than this configuration, or older: a deploy is under way.
                continue
            decider = self._deciders.setdefault(service.server, Decider(rule))
            load = loads.get(service.server, UNKNOWN)
            decision = decider.decide(self._clock(), service, load, gpus)
            replicas = self._carry_out(decider, service, decision, load)
            asleep = asleep or replicas == 0
        self._report.looked(self._clock() - begun, present)
        return min(interval, WAKE_SECONDS) if asleep else interval

    def _carry_out(self, decider: Decider, service: Service, decision: Decision, load: Load) -> int:
        """Change the replicas where that was decided; returns how many there are asked for now."""
        news = self._report.decided(service, decision)
        facts = {
            "server": service.server,
            "reason": str(decision.reason),
            "why": decision.why,
            "replicas": service.replicas,
            "ready": len(service.ready),
        }
        if decision.replicas == service.replicas:
            if news and decision.reason is not Reason.STEADY:
                log.info("holds", extra=facts)
            return service.replicas
        facts |= {
            "to": decision.replicas,
            "running": load.running,
            "waiting": load.waiting,
            "parked": load.parked,
            "metrics": {outcome.metric: outcome.value for outcome in decision.outcomes},
        }
        try:
            self._docker.scale(service, decision.replicas)
        except DockerError as failure:
            # Somebody else changed it meanwhile, or the fleet is deployed: the next look decides anew.
            if self._report.changed(service, decision, str(failure)):
                level = logging.INFO if failure.status == CONFLICT else logging.WARNING
                log.log(level, "refused", extra={**facts, "refusal": str(failure)})
            return service.replicas
        decider.changed(self._clock(), service.replicas, decision.replicas)
        log.info("scaled", extra=facts)
        self._report.changed(service, decision)
        return decision.replicas

    def _gpus(self, services: list[Service]) -> dict[str, float] | None:
        rules = self._settings.servers
        wanted = any(GPU in rules[s.server].targets for s in services if s.server in rules)
        if not self._gpu or not self._settings.gpu or not wanted:
            return None
        scrape = self._gpu.look()
        self._source("gpu", "; ".join(scrape.failed))
        return gpu_use(scrape, self._settings.gpu.label, self._settings.gpu.full)

    def _source(self, name: str, failure: str) -> None:
        if self._report.source(name, failure):
            if failure:
                log.warning("source away", extra={"source": name, "why": failure})
            else:
                log.info("source back", extra={"source": name})
