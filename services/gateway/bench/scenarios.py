"""What one table cannot show: offered rates, many connections and sessions, lists, large fleets."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass

from bench import ours
from bench.lab import Candidate, Lab
from bench.messages import LEGACY, MODERN, Endpoint
from bench.process import Process
from bench.table import Row, measure

SESSIONS = 1_000
RATE = 2_000.0
CONNECTIONS = (1, 16, 64, 256)


# -- rates and connections -----------------------------------------------------------------------


def offered(lab: Lab, candidates: list[Candidate], rounds: int, seconds: float) -> list[Row]:
    """Latency at a fixed rate that all of them can serve."""
    return measure(lab, candidates, rounds, seconds, rate=RATE)


def widths(lab: Lab, candidates: list[Candidate], rounds: int, seconds: float) -> dict[int, list[Row]]:
    """The same by number of connections."""
    return {count: measure(lab, candidates, rounds, seconds, connections=count) for count in CONNECTIONS}


# -- sessions ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Memory:
    """RSS in MiB with nothing open and with everything open."""

    kind: str
    before: float
    after: float
    wrong: int


def sessions(lab: Lab, *, sticky: bool) -> Memory:
    """A thousand sessions of 2025, each initialised, used once and left open on a connection of its own."""
    kind = "sticky" if sticky else "stateless"
    url = f"http://127.0.0.1:{lab.upstream.port}/legacy/canned/mcp"
    gateway = ours.start(lab, f"ours-sessions-{kind}", [ours.server("canned", url, sessions=kind)])
    endpoint = gateway.endpoint(LEGACY)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", endpoint.port)) as first:
        _use(endpoint, first)
        before = gateway.process.memory_mb()[0]
    with contextlib.ExitStack() as stack:
        wrong = 0
        for _ in range(SESSIONS):
            connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=30)
            stack.enter_context(contextlib.closing(connection))
            wrong += not _use(endpoint, connection)
        return Memory(kind, before, gateway.process.memory_mb()[0], wrong)


def _use(endpoint: Endpoint, connection: http.client.HTTPConnection) -> bool:
    """Open a session on the connection and call a tool in it; whether the answer is right."""
    session = endpoint.open_session(connection)
    params = {"name": "canned__echo", "arguments": {"text": session[-20:]}}
    status, _, body = endpoint.ask(connection, "tools/call", params, session)
    return status == 200 and session[-20:].encode() in body


# -- fleets --------------------------------------------------------------------------------------

FEW_SERVERS = 12


@dataclass(frozen=True)
class Fleet:
    """A gateway in front of so many servers with so many tools each.

    Attributes:
        call, few: calls to all servers in turn, and to the first ``FEW_SERVERS`` alone.
    """

    process: Process
    call: Candidate
    few: Candidate
    listing: Candidate
    tools: int
    list_bytes: int


def fleet(lab: Lab, servers: int, tools: int) -> Fleet:
    """Start it; calls go to all servers in turn, the list is the merged one.

    Raises:
        RuntimeError: the merged list is not complete.
    """
    upstream = lab.upstream if tools == 10 else lab.upstream_with(tools)
    names = [f"s{index}" for index in range(servers)]
    urls = [f"http://127.0.0.1:{upstream.port}/s/{name}/mcp" for name in names]
    configured = [ours.server(name, url) for name, url in zip(names, urls, strict=True)]
    gateway = ours.start(lab, f"ours-fleet-{servers}", configured)
    endpoint = gateway.endpoint(MODERN)
    pages = list(_pages(endpoint))
    listed = [tool["name"] for page in pages for tool in json.loads(page)["result"]["tools"]]
    if len(set(listed)) != servers * tools:
        raise RuntimeError(f"tools/list over {servers} servers: {len(set(listed))} tools, not {servers * tools}")
    last = json.loads(pages[0])["result"]["tools"][-1]["name"]
    what = f"{servers} servers, {servers * tools:,} tools"
    process, port = gateway.process, gateway.process.port
    calls = [endpoint.call(f"{name}__tool_{index % (tools - 5)}") for index, name in enumerate(names)]
    listing = Candidate(f"tools/list, {what}", process, port, [endpoint.request("tools/list", {})], f'"{last}"')
    call = Candidate(f"tools/call, {what}", process, port, calls)
    few = Candidate(f"tools/call to {FEW_SERVERS} of {what}", process, port, calls[:FEW_SERVERS])
    return Fleet(process, call, few, listing, len(listed), len(pages[0]))


def _pages(endpoint: Endpoint) -> Iterator[bytes]:
    """The pages of the merged list."""
    params: dict[str, str] = {}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=60)) as connection:
        while True:
            status, _, body = endpoint.ask(connection, "tools/list", params)
            if status != 200:
                raise RuntimeError(f"tools/list: HTTP {status}: {body[:300]!r}")
            yield body
            cursor = json.loads(body).get("result", {}).get("nextCursor")
            if not cursor:
                return
            params = {"cursor": cursor}
