"""Runs features one by one and prints, as JSON, which worked: ``{feature: "ok" or what went wrong}``."""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

LEVELS = ["warning", "error", "critical", "alert", "emergency"]  # what a client that set "warning" wants to see
SECONDS = 15.0


class Target:
    """What to talk to, from the command line: url, prefix of names, scheme of URIs, mode, a directory for signs."""

    def __init__(self) -> None:
        given = json.loads(sys.argv[1])
        self.url: str = given["url"]
        self.prefix: str = given["prefix"]
        self.scheme: str = given["scheme"]
        self.mode: str = given["mode"]
        self.directory = Path(given["directory"])

    def name(self, own: str) -> str:
        """A tool's or prompt's name as the endpoint has it."""
        return self.prefix + own

    def uri(self, own: str) -> str:
        """A resource's URI as the endpoint has it."""
        return self.scheme + own


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for ``condition``; fail when it does not come."""
    for _ in range(int(SECONDS * 50)):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{what} did not come")


def same(found: Any, expected: Any) -> None:
    """Fail unless they are the same."""
    assert found == expected, f"{found!r} instead of {expected!r}"


def contains(found: Any, expected: Any) -> None:
    """Fail unless ``expected`` is in it."""
    assert expected in found, f"{expected!r} is not in {found!r}"


class Report:
    """What worked."""

    def __init__(self) -> None:
        self.outcomes: dict[str, str] = {}

    async def check(self, feature: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run one feature and note its outcome."""
        try:
            async with asyncio.timeout(2 * SECONDS):
                await run()
        except BaseException as failure:  # groups of anyio's included; each feature stands alone
            last = traceback.extract_tb(failure.__traceback__)[-1]
            self.outcomes[feature] = f"{type(failure).__name__}: {failure} ({last.name}:{last.lineno})"
        else:
            self.outcomes[feature] = "ok"

    def print(self) -> None:
        """Say it."""
        print(json.dumps(self.outcomes))
