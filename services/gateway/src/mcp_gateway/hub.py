"""News of the servers for the clients that wait for them: changed lists, updated resources."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mcp_gateway.protocol import Json

LISTS_CHANGED = {
    "notifications/tools/list_changed": "toolsListChanged",
    "notifications/prompts/list_changed": "promptsListChanged",
    "notifications/resources/list_changed": "resourcesListChanged",
}
UPDATED = "notifications/resources/updated"
# Servers that restart say so of one list after the other, and so do many of them: one notice will do.
SETTLE_SECONDS = 0.05


@dataclass(eq=False)
class Listener:
    """One client's stream.

    Attributes:
        servers: gives the names of those it can see now.
        lists: methods of ``LISTS_CHANGED`` that it wants.
        resources: those it wants to hear of: server and the server's URI, to the URI as the client knows it.
        put: takes a notification.
    """

    servers: Callable[[], frozenset[str]]
    put: Callable[[str, Json], None]
    lists: frozenset[str] = frozenset()
    resources: dict[tuple[str, str], str] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)


class Hub:
    """Listeners, and what they want.

    Args:
        wanted: called with a server's name when the resources wanted of it may have changed.
    """

    def __init__(self, wanted: Callable[[str], None]) -> None:
        self._wanted = wanted
        self._listeners: set[Listener] = set()

    def __len__(self) -> int:
        return len(self._listeners)

    def add(self, listener: Listener) -> None:
        """Tell the listener from now on."""
        self._listeners.add(listener)
        self._refresh(server for server, _ in listener.resources)

    def remove(self, listener: Listener) -> None:
        """Tell it no more."""
        self._listeners.discard(listener)
        self._refresh(server for server, _ in listener.resources)

    def change(self, listener: Listener, resources: dict[tuple[str, str], str]) -> None:
        """Other resources from now on."""
        servers = {server for server, _ in (*listener.resources, *resources)}
        listener.resources = resources
        self._refresh(servers)

    def _refresh(self, servers: Iterable[str]) -> None:
        for server in set(servers):
            self._wanted(server)

    def resources(self, server: str) -> frozenset[str]:
        """URIs of the server's that anyone wants to hear of."""
        return frozenset(uri for each in self._listeners for owner, uri in each.resources if owner == server)

    def publish(self, server: str, method: str, params: Json) -> None:
        """A server said so."""
        if method == UPDATED:
            key = (server, str(params.get("uri", "")))
            for listener in list(self._listeners):
                if (known := listener.resources.get(key)) is not None and server in listener.servers():
                    listener.put(method, {**params, "uri": known})
            return
        for listener in self._listeners:
            if method in listener.lists and server in listener.servers():
                if not listener.pending:
                    asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._flush, listener)
                listener.pending.add(method)

    def _flush(self, listener: Listener) -> None:
        pending, listener.pending = sorted(listener.pending), set()
        if listener in self._listeners:
            for method in pending:
                listener.put(method, {})
