# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients that call the fleet all the while, and what became of their calls."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

PAUSE_SECONDS = 0.1
CALL_SECONDS = 20.0
# With several edges a client that hears nothing for so long tries the next: the call is a safe one.
ATTEMPT_SECONDS = 5.0


@dataclass
class Calls:
    """Calls of a tool through the edge, each client's one after the other.

    With one URL a call that fails is lost. With several a client does what one of a name with several addresses does:
    it goes on at the next and asks again. A call is lost when that fails at every edge, twice.

    Attributes:
        inventory: where the controller keeps the key and the certificates to trust.
        urls: of the endpoint, one an edge.
        tool, arguments: of each call.
        clients: how many call side by side, beginning at the edges in turn.
        sent, failed: calls, and what was said of those that were lost.
        elsewhere: why calls were asked again at another edge, one line for each time.
        note: for whoever reports.
        longest: seconds that the slowest call took, all attempts together.
    """

    inventory: Path
    urls: list[str]
    tool: str = "get_current_time"
    arguments: dict[str, str] = field(default_factory=lambda: {"timezone": "UTC"})
    clients: int = 1
    sent: int = 0
    elsewhere: list[str] = field(default_factory=list)
    longest: float = 0.0
    failed: list[str] = field(default_factory=list)
    note: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def going_on(self) -> Iterator[Calls]:
        """Calls are made inside of the block."""
        thread = threading.Thread(target=lambda: asyncio.run(self._every()))
        thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            thread.join(2 * CALL_SECONDS)

    def __str__(self) -> str:
        text = f"{self.sent} sent, {len(self.failed)} lost"
        if len(self.urls) > 1:
            text += f", {len(self.elsewhere)} asked again at another edge, longest {self.longest:.1f} s"
        return text

    async def _every(self) -> None:
        await asyncio.gather(*(self._one(number % len(self.urls)) for number in range(self.clients)))

    async def _one(self, at: int) -> None:
        key = (self.inventory / ".state" / "secrets" / "gateway_api_key").read_text("utf-8").strip()
        headers = {"Authorization": f"Bearer {key}"}
        most = 2 * len(self.urls) if len(self.urls) > 1 else 1
        seconds = ATTEMPT_SECONDS if len(self.urls) > 1 else CALL_SECONDS
        attempts, begun = 0, 0.0
        while attempts or not self._stop.is_set():
            trust = ssl.create_default_context(cafile=str(self.inventory / ".state" / "edge-ca.crt"))
            try:
                async with (
                    httpx2.AsyncClient(verify=trust, headers=headers, timeout=seconds) as http,
                    Client(streamable_http_client(self.urls[at], http_client=http)) as client,
                ):
                    while attempts or not self._stop.is_set():
                        if not attempts:
                            self.sent, attempts, begun = self.sent + 1, 1, time.monotonic()
                        async with asyncio.timeout(seconds):
                            result = await client.call_tool(self.tool, self.arguments)
                        if result.is_error:
                            self.failed.append(str(result.content)[:200])
                        self.longest = max(self.longest, time.monotonic() - begun)
                        attempts = 0
                        await asyncio.sleep(PAUSE_SECONDS)
            except Exception as error:  # whatever a client may meet is a call that was lost, or is asked again
                while isinstance(getattr(error, "exceptions", None), tuple):  # task groups of the SDK wrap it
                    error = error.exceptions[0]
                if not attempts:  # it was to be made, and there was no connection for it
                    self.sent, attempts, begun = self.sent + 1, 1, time.monotonic()
                said = f"{type(error).__name__}: {error}"[:200]
                if attempts >= most:
                    self.failed.append(said)
                    attempts = 0
                else:
                    self.elsewhere.append(f"{self.urls[at]}: {said}")
                    attempts, at = attempts + 1, (at + 1) % len(self.urls)
                await asyncio.sleep(PAUSE_SECONDS)
