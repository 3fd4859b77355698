"""``make bench-gateway``: everything, in a quarter of an hour; writes docs/performance.md.

Environment:
    ROUNDS, SECONDS: how many rounds of how many seconds each candidate gets (5 of 2).
    ONLY: parts to run, comma-separated: names of proxies and gateways, ``ours``, and scenarios (see ``PARTS``).
        With it nothing is written to the document.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from types import FrameType

from bench import chapters, gateways, ours, proxies, report
from bench.lab import ROOT, Candidate, Lab, attempt
from bench.messages import LEGACY, MODERN
from bench.process import Unavailable
from bench.table import Row, measure

ERAS = ((MODERN, MODERN), (LEGACY, LEGACY), (MODERN, LEGACY), (LEGACY, MODERN))
PARTS = (*proxies.ALL, "ours", *gateways.ALL, *chapters.ALL)


def main() -> int:
    """Measure, print, write; returns 1 where answers were wrong or a bar was not met."""
    rounds, seconds = int(os.environ.get("ROUNDS", "5")), float(os.environ.get("SECONDS", "2"))
    only = [name for name in os.environ.get("ONLY", "").split(",") if name]
    if unknown := sorted(set(only) - set(PARTS)):
        print(f"ONLY: there is no {', '.join(unknown)}; choose from {', '.join(PARTS)}", file=sys.stderr)
        return 2
    wanted = set(only or PARTS)
    signal.signal(signal.SIGTERM, _end)
    before = os.getloadavg()[0]
    try:
        lab = Lab()
    except Unavailable as reason:
        print(f"bench-gateway: {reason}", file=sys.stderr)
        return 2
    with lab:
        with lab.stage():
            rows, skipped = _table(lab, wanted, rounds, seconds)
        found = chapters.Found(rows)
        texts = [_introduction(rows, rounds, seconds, before), report.candidates(rows)]
        texts += [f"- {reason}" for reason in skipped]
        for name, chapter in chapters.ALL.items():
            if name in wanted:
                _say(name)
                with lab.stage():
                    texts.append(chapter(lab, found))
        verdicts = found.verdicts()
        texts.insert(1, report.table(["bar", "measured", ""], [verdict.cells() for verdict in verdicts]))
    text = "\n\n".join(texts)
    print(text)
    if not only:
        report.write("gateway", text)
        print(f"written to {report.DOCUMENT.relative_to(ROOT)}", file=sys.stderr)
    for row in rows:
        if row.wrong:
            print(f"{row.name}: {row.wrong} wrong: {row.complaint}", file=sys.stderr)
    for failure in found.failures:
        print(f"failed: {failure}", file=sys.stderr)
    return 1 if found.failures or not all(verdict.met for verdict in verdicts) else 0


def _end(_number: int, _frame: FrameType | None) -> None:
    sys.exit("ended by SIGTERM")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _table(lab: Lab, wanted: set[str], rounds: int, seconds: float) -> tuple[list[Row], list[str]]:
    """All candidates that can be had, measured in turn, and why the others cannot."""
    started: list[Candidate] = []
    skipped: list[str] = []
    proxied = 0
    starts = {name: start for name, start in {**proxies.ALL, **gateways.ALL}.items() if name in wanted}
    for name, start in starts.items():
        _say(f"start {name}")
        made = attempt(name, partial(start, lab))
        if isinstance(made, str):
            skipped.append(made)
        else:
            started.append(made)
            proxied += name in proxies.ALL
    if "ours" in wanted:
        # Between the proxies and the other gateways. Ours must start: that it does not is a failure.
        started[proxied:proxied] = [ours.floor(lab), *(ours.candidate(lab, client, speaks) for client, speaks in ERAS)]
    for reason in skipped:
        _say(reason)
    _say(f"{len(started)} candidates, {rounds} rounds of {seconds:g} s")
    return measure(lab, started, rounds, seconds), skipped


def _introduction(rows: list[Row], rounds: int, seconds: float, load: float) -> str:
    noise = next((row for row in rows if row.name.startswith("nginx")), None)
    machine = report.machine(f"the gateway under {ours.interpreter().name}")
    text = (
        f"Measured {time.strftime('%-d %B %Y')} at {report.commit()} on {machine}; load average before: "
        f"{load:.2f}. Medians of {rounds} rounds of {seconds:g} s, the candidates in turn."
    )
    if noise:
        text += (
            f" The machine's noise: between the rounds nginx's throughput differed by {noise.spread:.0%} of its median."
        )
    return text


if __name__ == "__main__":
    sys.exit(main())
