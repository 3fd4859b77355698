"""Where a server's replicas are: what a DNS name resolves to, followed as it changes.

Swarm answers ``tasks.<service>`` with one address per running task.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

POLL_SECONDS = 1.0
CONFIRM_SECONDS = 0.25
RESOLVE_SECONDS = 5.0
KEEP_SECONDS = 60.0
# The name is known not to exist, or to have no address; anything else is the resolver's own failure.
NO_ADDRESS = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})

log = logging.getLogger("mcp_gateway.upstream")


class Name(Protocol):
    """A DNS name whose addresses are replicas."""

    @property
    def name(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def path(self) -> str: ...


Resolve = Callable[[str, int], Awaitable[set[str]]]


async def resolve(name: str, port: int) -> set[str]:
    """The addresses of a name, IPv4 and IPv6; none where it has none.

    Raises:
        OSError: the resolver failed.
    """
    try:
        found = await asyncio.get_running_loop().getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except socket.gaierror as failure:
        if failure.errno in NO_ADDRESS:
            return set()
        raise
    except UnicodeError as failure:
        raise OSError(f"{name!r} is no DNS name") from failure
    return {str(address[4][0]) for address in found}


def url_of(address: str, port: int, path: str) -> str:
    """A replica's URL; IPv6 addresses in brackets (RFC 3986 3.2.2)."""
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}{path}"


class Discovery:
    """Follows one name.

    Args:
        apply: told the URLs after each look that can be trusted.
        lookup: from name and port to addresses; raises OSError where the resolver failed.
        keep_seconds: how long the last answer stands while the resolver fails.
    """

    def __init__(
        self,
        dns: Name,
        apply: Callable[[set[str]], None],
        lookup: Resolve = resolve,
        keep_seconds: float = KEEP_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dns = dns
        self._apply = apply
        self._lookup = lookup
        self._keep = keep_seconds
        self._clock = clock
        self._known: set[str] = set()
        self._doubt = False
        self._good = clock()
        self.last_error = ""

    async def look(self) -> float:
        """Resolve once; returns the seconds until the next look."""
        dns = self._dns
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                addresses = await self._lookup(dns.name, dns.port)
        except OSError as failure:  # TimeoutError is one
            if not self.last_error:
                log.warning("resolver failed", extra={"server": dns.name, "error": repr(failure)})
            self.last_error = repr(failure)
            if self._known and self._clock() - self._good >= self._keep:
                self._set(set())
            return POLL_SECONDS
        self.last_error = ""
        self._good = self._clock()
        if not addresses and self._known and not self._doubt:
            self._doubt = True  # one empty answer is often a resolver that restarts
            return CONFIRM_SECONDS
        self._doubt = False
        self._set({url_of(address, dns.port, dns.path) for address in addresses})
        return POLL_SECONDS

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            pause = await self.look()
            await asyncio.sleep(pause * random.uniform(0.8, 1.2))

    def _set(self, urls: set[str]) -> None:
        self._known = urls
        self._apply(urls)
