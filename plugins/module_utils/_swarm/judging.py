# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a canary is as good as the old replicas beside it: pure, numbers in, people's words out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# So many failures at least: one of few calls is an accident.
MIN_FAILURES = 3
# A difference that nobody feels is none, in milliseconds.
MIN_SLOWER_MS = 20.0
# A canary is withdrawn before its time is over, if it fails after so many calls.
EARLY_CALLS = 10


@dataclass(frozen=True)
class Terms:
    """On which it is judged.

    Attributes:
        share: percent of the calls that it takes; 0 is no canary.
        seconds: for how long.
        calls: fewer are too few to judge.
        errors: percentage points that its error rate may lie above the old one.
        latency: how many times as long the 95th percentile of its calls may take.
        inconclusive: ``withdraw`` or ``promote`` it after too few calls.
    """

    share: float = 0.0
    seconds: float = 120.0
    calls: int = 50
    errors: float = 1.0
    latency: float = 1.5
    inconclusive: str = "withdraw"


@dataclass(frozen=True)
class Judgement:
    """``good``, ``bad``, ``inconclusive``, or ``open`` while it is too early; and why, in people's words."""

    verdict: str
    words: str

    def promoted(self, terms: Terms) -> bool:
        """Whether the new version takes the old one's place."""
        return self.verdict == "good" or (self.verdict == "inconclusive" and terms.inconclusive == "promote")


def judge(server: str, seen: dict[str, Any] | None, terms: Terms, over: bool) -> Judgement:
    """Judge a canary by what all gateway replicas saw of it and of the old replicas during the same time.

    Args:
        server: its name.
        seen: of ``stable`` and ``canary`` each ``calls``, ``failed`` and ``p95_ms``; None where nobody told.
        terms: the thresholds.
        over: whether its time is over.
    """
    nothing: dict[str, Any] = {"calls": 0, "failed": 0, "p95_ms": None}
    new, old = ((seen or {}).get(side) or nothing for side in ("canary", "stable"))
    words = f"{server}: {_words('the new version', new)}; {_words('the old one', old)}"
    more = _rate(new) - _rate(old)
    if new["failed"] >= MIN_FAILURES and new["calls"] >= min(EARLY_CALLS, terms.calls) and 100 * more > terms.errors:
        return Judgement("bad", f"{words}: {100 * more:.1f} percentage points more fail, {terms.errors:g} may")
    enough = new["calls"] >= terms.calls
    if enough and over and new["p95_ms"] is not None and old["p95_ms"] is not None:
        slower = new["p95_ms"] - old["p95_ms"]
        if new["p95_ms"] > terms.latency * old["p95_ms"] and slower > MIN_SLOWER_MS:
            times = new["p95_ms"] / old["p95_ms"] if old["p95_ms"] else float("inf")
            return Judgement("bad", f"{words}: it takes {times:.1f} times as long, {terms.latency:g} may be")
    if not over:
        return Judgement("open", words)
    if not enough:
        return Judgement("inconclusive", f"{words}: too few calls to judge, {terms.calls} are needed")
    return Judgement("good", words)


def _rate(side: dict[str, Any]) -> float:
    return float(side["failed"] / side["calls"]) if side["calls"] else 0.0


def _words(who: str, side: dict[str, Any]) -> str:
    if not side["calls"]:
        return f"{who} answered no calls"
    within = "" if side["p95_ms"] is None else f", 95 % within {side['p95_ms']:g} ms"
    return f"{who} answered {side['calls']:,} calls, {side['failed']:,} failed ({100 * _rate(side):.1f} %){within}"
