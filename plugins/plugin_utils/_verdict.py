# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was seen of a fleet, what it means, and how people read it. Pure: no network, no Ansible."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._services import gpu_service_of, service_of

COLUMNS = ("SERVER", "KIND", "REPLICAS", "ERA", "TOOLS", "P50 ms", "P95 ms", "CALL")
RIGHT = ("TOOLS", "P50 ms", "P95 ms")
RESULT_WIDTH = 44


@dataclass
class Seen:
    """What one server showed through the edge.

    Attributes:
        name, kind: as in the plan.
        desired, healthy: replicas that the plan wants and that the gateway sees; where there is a GPU service too,
            those of the CPU twin.
        gpu_desired, gpu_healthy: the same of the GPU service; 0 where there is none.
        era: protocol version line that the server itself speaks, as the gateway learnt it.
        tools: names, as listed at the server's own endpoint.
        merged: how many of them the merged endpoint lists.
        milliseconds: durations of the calls measured.
        target_ms: slowest acceptable median.
        call: the tool of the check; empty where the catalogue has none.
        result: first text of the check's result.
        expected: what that text must contain.
        error: why it could not be asked; empty when all went well.
    """

    name: str
    kind: str
    desired: int
    target_ms: float
    healthy: int = 0
    era: str = ""
    tools: list[str] = field(default_factory=list)
    merged: int = 0
    milliseconds: list[float] = field(default_factory=list)
    call: str = ""
    result: str = ""
    expected: str = ""
    error: str = ""
    gpu_desired: int = 0
    gpu_healthy: int = 0

    @property
    def p50_ms(self) -> float | None:
        """Median of the calls."""
        return round(statistics.median(self.milliseconds), 1) if self.milliseconds else None

    @property
    def p95_ms(self) -> float | None:
        """95th percentile of the calls, by nearest rank."""
        ordered = sorted(self.milliseconds)
        return round(ordered[-(-len(ordered) * 95 // 100) - 1], 1) if ordered else None

    @property
    def problem(self) -> str:
        """Cause and next step; empty where the server is operational."""
        service = service_of(self.name)
        logs = f"look at: docker service logs --tail 20 <fleet>_{service}"
        if self.error:
            return f"{self.error}; {logs}"
        if self.healthy < self.desired:
            return f"{self.healthy} of {self.desired} replicas answer; look at: docker service ps <fleet>_{service}"
        if self.gpu_healthy < self.gpu_desired:
            pool = gpu_service_of(self.name)
            has = f"{self.gpu_healthy} of {self.gpu_desired}"
            return f"{has} replicas on GPUs answer; look at: docker service ps <fleet>_{pool}"
        if not self.tools:
            return f"it lists no tools; {logs}"
        if self.merged < len(self.tools):
            listed = f"/mcp lists {self.merged} of its {len(self.tools)} tools"
            return f"{listed}; look at: docker service logs <fleet>_gateway"
        if self.call and self.expected not in self.result:
            answered = f"{self.call} answered {_short(self.result)!r}, not {self.expected!r}"
            return f"{answered}; correct its check or the server"
        if self.p50_ms is not None and self.p50_ms > self.target_ms:
            return (
                f"the median call took {self.p50_ms} ms, its latency_target_ms is {self.target_ms:g};"
                " give it more cpus or replicas, or raise the target"
            )
        return ""

    def report(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"p50_ms": self.p50_ms, "p95_ms": self.p95_ms, "problem": self.problem}


def table(servers: Sequence[Seen]) -> list[str]:
    """An aligned table, one line per server."""
    rows = [COLUMNS, *(_row(seen) for seen in servers)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]

    def line(row: Sequence[str]) -> str:
        cells = zip(COLUMNS, row, widths, strict=True)
        return "  ".join(cell.rjust(w) if title in RIGHT else cell.ljust(w) for title, cell, w in cells).rstrip()

    return [line(row) for row in rows]


def _row(seen: Seen) -> tuple[str, ...]:
    call = f"{seen.call}: {_short(seen.result)}" if seen.call and not seen.problem else "ok"
    return (
        seen.name,
        seen.kind,
        f"{seen.healthy}/{seen.desired}" + (f" gpu {seen.gpu_healthy}/{seen.gpu_desired}" if seen.gpu_desired else ""),
        seen.era or "-",
        str(len(seen.tools)),
        "-" if seen.p50_ms is None else f"{seen.p50_ms:.0f}",
        "-" if seen.p95_ms is None else f"{seen.p95_ms:.0f}",
        "FAILED" if seen.problem else call,
    )


def _short(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= RESULT_WIDTH else flat[: RESULT_WIDTH - 1] + "…"


def summary(servers: Sequence[Seen]) -> str:
    """The line that people and scripts look for."""
    return f"{sum(not seen.problem for seen in servers)}/{len(servers)} operational"


def client_lines(client: dict[str, Any]) -> list[str]:
    """How to connect: the URL, where the key lies, and a line to paste into a client.

    ``client`` is the plan's part of that name. The key itself is never shown.
    """
    url, key, ca = client["url"], client["api_key_file"], client["ca_file"]
    trust = f"NODE_EXTRA_CA_CERTS={ca} " if ca else ""
    lines = [f"URL      {url}", f"API key  {key}"]
    if ca:
        lines.append(f"CA       {ca}")
    lines.append(
        f'Connect  {trust}claude mcp add --transport http fleet {url} --header "Authorization: Bearer $(cat {key})"'
    )
    return lines
