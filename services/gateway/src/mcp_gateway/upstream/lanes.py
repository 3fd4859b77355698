"""Where calls go: replicas that are chosen among with the places there, and what all servers share."""

from __future__ import annotations

from functools import partial

from mcp_gateway.config import Config, Dns, Server
from mcp_gateway.metrics import Metrics
from mcp_gateway.net.client import Client
from mcp_gateway.upstream.admission import QUEUE_PER_PLACE, Admission, Gate
from mcp_gateway.upstream.budget import RetryBudget
from mcp_gateway.upstream.replicas import Replicas

GROUP_QUEUE = 64
GROUP_SECONDS = 600.0


class Commons:
    """What all servers share: connections, metrics, the retry budget, and groups with a limit of their own."""

    def __init__(self, config: Config, client: Client, metrics: Metrics) -> None:
        self.client = client
        self.metrics = metrics
        self.session_seconds = config.session_ttl_seconds
        self.budget = RetryBudget(config.retry)
        self.groups: dict[str, Gate] = {}
        self._limits: dict[str, int] = {}
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Go by another configuration from now on.

        A group's gate stays the same one: calls in flight and those that wait are in it. That of a group that is gone
        stays, too, with the limit that it had, for calls of a server that was in it.
        """
        self.budget.configure(config.retry)
        self._limits.update({name: settings.max_in_flight for name, settings in config.groups.items()})
        for name in config.groups:
            if gate := self.groups.get(name):
                gate.grant()  # there may be more places
            else:
                self.groups[name] = Gate(
                    f"group {name}", partial(self._limits.__getitem__, name), GROUP_QUEUE, GROUP_SECONDS
                )


class Lane:
    """Replicas that are chosen among, and the places there.

    Attributes:
        queue: how many calls may wait.
    """

    def __init__(
        self, server: Server, urls: tuple[str, ...], dns: Dns | None, concurrency: int, metrics: Metrics, label: str
    ) -> None:
        self.dns = dns
        self._concurrency = concurrency
        self.replicas = Replicas(server.name, urls, metrics, server.balancing, server.breaker)
        admission = server.admission
        self.queue = admission.queue or QUEUE_PER_PLACE * concurrency
        self.admission = Admission(
            label,
            self.places,
            self.queue,
            min(admission.queue_seconds, server.timeout_seconds),
            metrics,
            admission.max_in_flight_per_principal,
        )

    def places(self) -> int:
        """Calls that may run at once."""
        return self._concurrency * max(1, self.replicas.usable)
