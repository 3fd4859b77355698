"""The report's chapters: each runs its scenario, returns Markdown and leaves its figures for the verdicts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from bench import ours, proxies, scenarios, streaming
from bench.lab import Candidate, Lab
from bench.messages import LEGACY, MODERN, Endpoint
from bench.process import Unavailable
from bench.report import Verdict, table
from bench.table import Row, measure

ROUNDS, SECONDS = 3, 1.0
MINE = "mcp-gateway"
SAME_ERA = (f"client {MODERN}, server {MODERN}", f"client {LEGACY}, server {LEGACY}")


@dataclass
class Found:
    """What was measured so far.

    Attributes:
        rows: of the table of candidates.
        failures: wrong answers and breakdowns of ours.
    """

    rows: list[Row]
    offered: list[Row] = field(default_factory=list)
    memory: list[scenarios.Memory] = field(default_factory=list)
    fleets: dict[str, Row] = field(default_factory=dict)
    lags: list[streaming.Lag] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def check(self, rows: list[Row]) -> list[Row]:
        """Note wrong answers of ours."""
        for row in rows:
            if row.wrong and row.name.startswith((MINE, "tools/")):
                self.failures.append(f"{row.name}: {row.wrong} wrong or broken answers: {row.complaint}")
        return rows

    def verdicts(self) -> list[Verdict]:
        """The bars that the measurements at hand say something about."""
        self.check(self.rows)
        named = {row.name.split(" ")[0]: row for row in self.rows}
        mine = [row for row in self.rows if row.name.startswith(MINE) and row.name.endswith(SAME_ERA)]
        verdicts = []
        for row in mine:
            era = row.name.partition(": ")[2]
            if nginx := named.get("nginx"):
                share = row.per_second / nginx.per_second
                verdicts.append(Verdict(f"throughput at least 0.5 of nginx's; {era}", f"{share:.2f}", share >= 0.5))
                cost = (row.cpu_ms or 0) / (nginx.cpu_ms or 1)
                verdicts.append(Verdict(f"CPU each at most 2.5 times nginx's; {era}", f"{cost:.1f}", cost <= 2.5))
            if direct := named.get("direct"):
                verdicts.append(_added(f"closed loop; {era}", row, direct))
        direct = next((row for row in self.offered if row.name == "direct"), None)
        for row in self.offered:
            if direct and row.name.startswith(MINE):
                rate = f"{scenarios.RATE:,.0f} requests/s"
                verdicts.append(_added(f"{rate}; {row.name.partition(': ')[2]}", row, direct))
        for memory in self.memory:
            bar = f"{scenarios.SESSIONS:,} open sessions below 150 MB; {memory.kind} server"
            verdicts.append(Verdict(bar, f"{memory.after:.0f} MB", memory.after < 150))
        if self.fleets:
            call, listing, few = (self.fleets[name] for name in ("call", "list", "few"))
            share = listing.per_second / call.per_second
            verdicts.append(
                Verdict("`tools/list` of 12 servers at least as fast as a call", f"{share:.2f}", share >= 1)
            )
            slope = (few.least_cpu_ms or 0) / (call.least_cpu_ms or 1) - 1
            bar = "calls to 12 servers cost beside 188 others, 5,000 tools in all, at most 10 % more"
            verdicts.append(Verdict(bar, f"{slope:+.1%}", slope <= 0.1))
        for name in ("JSON", "SSE"):
            lags = [lag for lag in self.lags if name in lag.name and MINE in lag.name]
            if lags:
                worst = max(lag.median for lag in lags)
                # The upstream takes 1,000 ms for the whole; what is held arrives hundreds of ms late.
                verdicts.append(Verdict(f"{name} streams through (median lag < 50 ms)", f"{worst:.1f} ms", worst < 50))
        return verdicts


def _added(what: str, row: Row, direct: Row) -> Verdict:
    added = row.latency("p99") - direct.latency("p99")
    return Verdict(f"added p99 at 16 connections below 2 ms; {what}", f"{added:.2f} ms", added < 2)


def _rivals(lab: Lab) -> list[Candidate]:
    """What ours is held against in the scenarios."""
    mine = [ours.candidate(lab, era, era) for era in (MODERN, LEGACY)]
    try:
        return [proxies.direct(lab), proxies.nginx(lab), *mine]
    except Unavailable:
        return [proxies.direct(lab), *mine]


def rate(lab: Lab, found: Found) -> str:
    """Latency well below saturation."""
    found.offered = found.check(scenarios.offered(lab, _rivals(lab), 2 * ROUNDS, SECONDS))
    head = [f"{scenarios.RATE:,.0f} requests/s offered, 16 connections", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms"]
    quantiles = ("p50", "p90", "p99", "p999")
    return table(head, ([row.name, *(f"{row.latency(q):.2f}" for q in quantiles)] for row in found.offered))


def connections(lab: Lab, found: Found) -> str:
    """Throughput and latency by number of connections."""
    by_count = scenarios.widths(lab, _rivals(lab), ROUNDS, SECONDS)
    head = ["requests/s (p99 ms) by connections", *map(str, by_count)]
    cells: dict[str, list[str]] = {}
    for rows in by_count.values():
        for row in found.check(rows):
            cells.setdefault(row.name, []).append(f"{row.per_second:,.0f} ({row.latency('p99'):.1f})")
    return table(head, ([name, *values] for name, values in cells.items()))


def sessions(lab: Lab, found: Found) -> str:
    """Memory of open sessions."""
    found.memory = [scenarios.sessions(lab, sticky=False), scenarios.sessions(lab, sticky=True)]
    for memory in found.memory:
        if memory.wrong:
            found.failures.append(f"{memory.wrong} of {scenarios.SESSIONS} sessions had wrong answers ({memory.kind})")
    head = [f"{scenarios.SESSIONS:,} open sessions, each on its own connection", "RSS before", "RSS after", "each"]
    return table(head, (_memory(memory) for memory in found.memory))


def _memory(memory: scenarios.Memory) -> list[str]:
    each = (memory.after - memory.before) * 1024 / scenarios.SESSIONS
    return [f"{memory.kind} server", f"{memory.before:.0f} MB", f"{memory.after:.0f} MB", f"{each:.1f} KiB"]


def fleet(lab: Lab, found: Found) -> str:
    """Lists, and whether calls get dearer with the fleet."""
    small, large = scenarios.fleet(lab, 12, 10), scenarios.fleet(lab, 200, 25)
    candidates = [small.call, small.listing, large.few, large.call]
    # What spreading over more connections costs a program that does nothing else.
    with contextlib.suppress(Unavailable):
        candidates += [proxies.nginx_fleet(lab, servers) for servers in (12, 200)]
    # 200 servers are asked for their health by the clock: halted gateways would catch up on that.
    rows = found.check(measure(lab, candidates, ROUNDS, SECONDS, halt=False))
    found.fleets = dict(zip(("call", "list", "few"), rows, strict=False))
    head = ["calls to servers in turn, and the merged list", "requests/s", "CPU ms each", "p99 ms", "RSS MB"]
    cells = (
        [row.name, f"{row.per_second:,.0f}", f"{row.cpu_ms:.3f}", f"{row.latency('p99'):.2f}", f"{row.rss_mb:.0f}"]
        for row in rows
    )
    return (
        f"{table(head, cells)}\n\nThe list's first page has {small.list_bytes:,} bytes. Who calls 200 servers in turn"
        " finds nothing of any of them in the processor's caches, here and in the kernel; nginx's rows show what that"
        " alone costs."
    )


def large(lab: Lab, found: Found) -> str:
    """Large answers and event streams."""
    mine = {era: ours.candidate(lab, era, era) for era in (MODERN, LEGACY)}
    direct = proxies.direct(lab)
    ways = [(direct, Endpoint(direct.port, proxies.PATH), "", "")]
    for era, made in mine.items():
        endpoint = Endpoint(made.port, "/mcp", era, {"authorization": f"Bearer {ours.KEY}"})
        ways.append((made, endpoint, "canned__", endpoint.open_session() if era == LEGACY else ""))
    for candidate, endpoint, prefix, session in ways:
        for kind, tool in (("JSON", "drip"), ("SSE", "drip_events")):
            try:
                found.lags.append(streaming.lag(f"{kind}, {candidate.name}", endpoint, prefix + tool, session))
            except (RuntimeError, OSError) as failure:
                found.failures.append(str(failure))
    head = ["an answer sent in 20 parts over 1,000 ms: lag of the parts", "first ms", "median ms", "worst ms"]
    lags = table(head, ([g.name, f"{g.first:.1f}", f"{g.median:.1f}", f"{g.worst:.1f}"] for g in found.lags))
    volumes = []
    for candidate, endpoint, prefix, session in ways:
        rows = found.check(streaming.throughput(lab, candidate, endpoint, prefix, session))
        volumes.append([candidate.name, *(f"{row.per_second:,.0f} ({row.latency('p50'):.1f})" for row in rows)])
    head = ["answers/s over 4 connections (p50 ms)", "1 MB of JSON", "1,000 events"]
    return f"{lags}\n\n{table(head, volumes)}"


ALL: dict[str, Callable[[Lab, Found], str]] = {
    "rate": rate,
    "connections": connections,
    "sessions": sessions,
    "fleet": fleet,
    "large": large,
}
