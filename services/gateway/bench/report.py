"""What was measured as Markdown, and its place in docs/performance.md."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.lab import ROOT
from bench.table import Row

DOCUMENT = ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Verdict:
    """A bar and what was measured against it."""

    bar: str
    measured: str
    met: bool

    def cells(self) -> list[str]:
        """A row of the table of verdicts."""
        return [self.bar, self.measured, "met" if self.met else "**not met**"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def candidates(rows: Sequence[Row]) -> str:
    """The table of candidates."""
    head = [
        "`tools/call`, 16 connections",
        "requests/s",
        "CPU ms each",
        "p50 ms",
        "p99 ms",
        "RSS MB",
        "PSS MB",
        "wrong",
    ]
    return table(head, (_candidate(row) for row in rows))


def _candidate(row: Row) -> list[str]:
    memory = [f"{row.rss_mb:.0f}", f"{row.pss_mb:.0f}"] if row.candidate.process else ["", ""]
    cpu = "" if row.cpu_ms is None else f"{row.cpu_ms:.3f}"
    latency = [f"{row.latency('p50'):.2f}", f"{row.latency('p99'):.2f}"]
    return [row.name, f"{row.per_second:,.0f}", cpu, *latency, *memory, str(row.wrong)]


def machine(python: str) -> str:
    """What it was measured on, and under which Python."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    system = next((line.partition("=")[2].strip('"') for line in _lines("/etc/os-release") if "PRETTY" in line), "")
    return f"{os.cpu_count()} processors ({model}), {system or platform.system()}, Linux {platform.release()}, {python}"


def commit() -> str:
    """The commit measured, and whether there were changes on top of it."""
    git = ["git", "-C", str(ROOT)]
    try:
        name = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "--", "services/gateway/src"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"
    return f"commit {name.stdout.strip()}{' with changes' if dirty.stdout.strip() else ''}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def write(section: str, text: str) -> None:
    """Replace a section of the document, which stands between ``<!-- section -->`` and ``<!-- /section -->``.

    Raises:
        ValueError: the document lacks the markers.
    """
    begin, end = f"<!-- {section} -->", f"<!-- /{section} -->"
    document = DOCUMENT.read_text("utf-8")
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{DOCUMENT} lacks {begin} or {end}; put both where the tables belong")
    DOCUMENT.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", "utf-8")
