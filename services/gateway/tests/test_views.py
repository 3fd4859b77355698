"""What an endpoint makes of its servers' lists: only what changed is made anew."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from mcp_gateway import naming, search
from mcp_gateway.answers import Answers
from mcp_gateway.catalog import Catalog
from mcp_gateway.config import Server
from mcp_gateway.limits import Limiter
from mcp_gateway.naming import Names, Selection
from mcp_gateway.pinning import Pins, PinSettings
from mcp_gateway.policy import Profiles
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import MODERN
from mcp_gateway.search import Index, SearchSettings
from mcp_gateway.sessions import Sealer
from mcp_gateway.upstream.call import Call
from mcp_gateway.views import Request, View
from mcp_gateway.views.site import Site

Json = dict[str, Any]
ME = Principal("me")


class Listing:
    """A server that does nothing but list its tools; each time anew, as what is read from the wire is."""

    def __init__(self, name: str, *tools: str, chosen: Selection = naming.EVERYTHING) -> None:
        self.name = name
        self.tools = list(tools)
        self.server = Server(name=name, urls=("http://x/mcp",), tools=chosen)
        self.speaker = SimpleNamespace(era=MODERN, may_offer=lambda _capability: True)
        self.asleep = False
        self.direct = True

    async def request(self, _call: Call) -> Json:
        tools = [
            {"name": name, "description": f"does {name}", "inputSchema": {"type": "object"}} for name in self.tools
        ]
        return {"tools": tools, "ttlMs": 0}


class Work:
    """Counts what the tables and the index are made of: the real functions run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.parts: list[str] = []
        self.indexed: list[str] = []
        part, fields = naming._part, search._fields
        monkeypatch.setattr(naming, "_part", lambda server, *rest: self.parts.append(server) or part(server, *rest))
        monkeypatch.setattr(search, "_fields", lambda tool: self.indexed.append(tool["name"]) or fields(tool))

    def done(self) -> tuple[list[str], list[str]]:
        """Servers whose names were worked out, and tools that were indexed, since it was asked last."""
        work = (self.parts, self.indexed)
        self.parts, self.indexed = [], []
        return work


def view_of(catalog: Catalog, servers: list[Listing], previous: View | None = None) -> View:
    upstreams: Any = {server.name: server for server in servers}
    site = Site("/mcp", upstreams, catalog, Profiles(), Limiter(), merged=True)
    return View(site, SearchSettings(True), Sealer((b"k" * 32,), 60), Answers(), asyncio.Event(), previous)


async def found(view: View, query: str) -> list[str]:
    """What the tool that finds tools answers."""
    call = Request("tools/call", {"name": search.NAME, "arguments": {"query": query}}, ME, modern=True)
    return [tool["name"] for tool in (await view.handle(call))["structuredContent"]["tools"]]


def as_fresh(view: View, servers: list[Listing]) -> bool:
    """Whether names and index are those that would be made of nothing."""
    table = view._targets.names("tools/list")
    lists = {server.name: view._site.catalog.known(server.name, "tools/list") or [] for server in servers}
    fresh = Names(lists, {server.name: server.server.tools for server in servers})
    [(_, index)] = view.lists._indexes.values()
    anew = Index([item for _, item in fresh.items()])
    return (
        list(table.items()) == list(fresh.items())
        and table.problems == fresh.problems
        and all(table.find(item["name"]) == fresh.find(item["name"]) for _, item in fresh.items())
        and index.servers == anew.servers
        and all(index.find(query) == anew.find(query) for query in ("read", "write", "list", "does"))
    )


def test_of_many_servers_only_the_one_that_changed_is_worked_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        servers = [Listing(f"s{number:03}", "read", "write") for number in range(50)]
        catalog, work = Catalog(10, Pins(PinSettings())), Work(monkeypatch)
        view = view_of(catalog, servers)
        assert await found(view, "read")
        parts, indexed = work.done()
        assert len(parts) == 50
        assert len(indexed) == 100
        assert as_fresh(view, servers)
        work.done()

        assert await found(view, "read")
        assert work.done() == ([], []), "lists that were read again and are the same change nothing"

        servers[7].tools.append("list")
        assert await found(view, "list") == ["s007__list"]
        assert work.done() == (["s007"], ["s007__read", "s007__write", "s007__list"])
        assert as_fresh(view, servers)
        work.done()

    asyncio.run(run())


def test_a_configuration_that_changed_one_server_leaves_the_others_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        servers = [Listing(f"s{number:03}", "read", "write") for number in range(50)]
        catalog, work = Catalog(10, Pins(PinSettings())), Work(monkeypatch)
        before = view_of(catalog, servers)
        assert await found(before, "read")
        work.done()
        servers[7] = Listing("s007", "read", "write", chosen=Selection(rename={"write": "store"}))
        servers.pop()
        after = view_of(catalog, servers, before)
        assert await found(after, "store") == ["s007__store"]
        assert work.done() == (["s007"], ["s007__read", "s007__store"])
        assert as_fresh(after, servers)
        assert list(before._targets.names("tools/list").items()) != list(after._targets.names("tools/list").items())

    asyncio.run(run())
