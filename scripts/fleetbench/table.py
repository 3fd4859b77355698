# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured, as Markdown."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Row:
    """One line of the table: what, how much, and how much it may be at the most."""

    what: str
    value: float
    most: float | None = None
    unit: str = "s"

    @property
    def met(self) -> bool:
        """Whether it is within its bound."""
        return self.most is None or self.value <= self.most

    def line(self) -> str:
        """As Markdown."""
        digits = 0 if self.unit == "s" and self.value >= 10 else 2
        bar = "" if self.most is None else f"at most {self.most:g}: {'met' if self.met else 'not met'}"
        return f"| {self.what} | {self.value:.{digits}f} {self.unit} | {bar} |"


def table(rows: list[Row]) -> str:
    """All of them."""
    return "\n".join(["| measured | | bar |", "| --- | --- | --- |", *(row.line() for row in rows)])


def introduction(load: float) -> str:
    """When and on what."""
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    day = time.strftime("%d %B %Y").lstrip("0")
    return (
        f"Measured {day} at commit {commit or 'unknown'}, in one run, on a node that is a container on a machine with"
        f" {os.cpu_count()} processors, Linux {platform.release()}; load average before: {load:.2f}."
    )


def write(text: str) -> None:
    """Replace the section of docs/performance.md between its marks.

    Raises:
        ValueError: the document lacks them.
    """
    begin, end = "<!-- fleet -->", "<!-- /fleet -->"
    before, found, rest = DOCUMENT.read_text("utf-8").partition(begin)
    dummy, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{DOCUMENT} lacks {begin} or {end}; put both where the table belongs")
    DOCUMENT.write_text(f"{before}{begin}\n{text.strip()}\n{end}{after}", "utf-8")
