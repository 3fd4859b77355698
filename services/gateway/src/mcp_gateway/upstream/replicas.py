"""The replicas of one server: which there are, which are well, and which takes the next call."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from mcp_gateway.config import Dns
from mcp_gateway.metrics import Metrics

RESOLVE_SECONDS = 1.0
FIRST_EJECTION_SECONDS = 1.0
MAX_EJECTION_SECONDS = 30.0

log = logging.getLogger("mcp_gateway.upstream")


@dataclass(eq=False)
class Replica:
    """One address of a server. ``era`` is None until it was probed, and again after it was away.

    Replicas of one server may differ in era for a while, when a new version of it is rolled out.
    """

    url: str
    era: str | None = None
    inflight: int = 0
    failures: int = 0
    ejected_until: float = 0.0
    probing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def healthy(self) -> bool:
        """Whether calls should go there; an ejected one is tried again after its time."""
        return time.monotonic() >= self.ejected_until

    @property
    def address(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc


class Replicas:
    """All replicas of one server, by URL."""

    def __init__(self, server: str, urls: Iterable[str], metrics: Metrics) -> None:
        self.by_url: dict[str, Replica] = {url: Replica(url) for url in urls}
        self._server = server
        self._metrics = metrics

    def __len__(self) -> int:
        return len(self.by_url)

    def choose(self, tried: set[str], prefer: str | None, key: str | None) -> Replica | None:
        """The replica for a call, or None where all were tried.

        Args:
            tried: URLs that failed this call already.
            prefer: the URL that holds the caller's session.
            key: of sticky calls. The same key leads to the same replica on every gateway (rendezvous
                hashing); without one it is the less busy of two chosen at random (power of two choices).
        """
        if prefer and prefer not in tried and (replica := self.by_url.get(prefer)):
            return replica
        left = [replica for replica in self.by_url.values() if replica.url not in tried] if tried else None
        candidates = list(self.by_url.values()) if left is None else left
        choice = [replica for replica in candidates if replica.healthy] or candidates
        if len(choice) < 2:
            return choice[0] if choice else None
        if key is not None:
            return max(choice, key=lambda replica: hashlib.sha256(f"{key} {replica.url}".encode()).digest())
        one, other = random.sample(choice, 2)
        return one if one.inflight <= other.inflight else other

    def failed(self, replica: Replica) -> None:
        """Set a replica aside that could not be reached, longer each time."""
        replica.failures += 1
        seconds = min(MAX_EJECTION_SECONDS, FIRST_EJECTION_SECONDS * 2 ** (replica.failures - 1))
        replica.ejected_until = time.monotonic() + seconds
        replica.era = None
        self._metrics.ejections.labels(self._server).inc()

    @staticmethod
    def answered(replica: Replica) -> None:
        """Take a replica back that works."""
        replica.failures = 0
        replica.ejected_until = 0.0

    async def follow(self, dns: Dns, changed: Callable[[], None]) -> None:
        """Keep up with what the name resolves to, for ever; ``changed`` is called when that changes.

        A name that does not resolve has no replicas: Swarm answers so for a service without running tasks.
        """
        while True:
            urls = await _resolve(dns)
            if urls != self.by_url.keys():
                self.by_url = {url: self.by_url.get(url) or Replica(url) for url in sorted(urls)}
                log.info("replicas", extra={"server": self._server, "replicas": sorted(urls)})
                changed()
            await asyncio.sleep(RESOLVE_SECONDS)


async def _resolve(dns: Dns) -> set[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            dns.name, dns.port, family=socket.AF_INET, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError):
        found = []
    return {f"http://{address[4][0]}:{dns.port}{dns.path}" for address in found}
