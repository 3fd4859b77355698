"""Two streams of one server for a moment: one that is about to end, and one that takes its place.

A stream of 2026-07-28 (basic/patterns/subscriptions) tells what was asked for when it was opened; for more there has to
be another. The old one goes on until the new one is acknowledged and a little longer, for what it was sent before may
still be under way. While both are open news is held back and each is told once, after the last time that either stream
brought it: notifications have no ids, and all that one says is that something is not as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mcp_gateway.protocol import Json
from mcp_gateway.upstream.call import Changed

LINGER_SECONDS = 0.25
# News is held back no longer, however long the new stream's acknowledgement takes; some may be told twice then.
HELD_SECONDS = 1.0


class Overlap:
    """Of one server.

    Args:
        changed: takes what either stream tells.

    Attributes:
        over: set while there is one stream at most.
    """

    def __init__(self, changed: Changed) -> None:
        self.over = asyncio.Event()
        self.over.set()
        self._changed = changed
        self._before: asyncio.Task[bool] | None = None
        self._held: dict[tuple[str, str], tuple[str, Json]] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def tell(self, method: str, params: Json) -> None:
        """Take a notification of either."""
        if self._held is None:
            self._changed(method, params)
            return
        news = (method, str(params.get("uri", "")))
        self._held.pop(news, None)
        self._held[news] = (method, params)

    def begin(self, before: asyncio.Task[bool]) -> None:
        """Another stream will take the place of this one, which tells until then."""
        self.end()
        self.over.clear()
        self._before, self._held = before, {}
        before.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._set_timer(HELD_SECONDS, self._release)

    def heard(self) -> None:
        """The new stream tells all that is wanted."""
        if self._before:
            self._set_timer(LINGER_SECONDS, self.end)

    def end(self) -> None:
        """End the old stream, and tell what was held back."""
        if self._timer:
            self._timer.cancel()
        if self._before:
            self._before.cancel()
        self._before = self._timer = None
        self._release()
        self.over.set()

    def _release(self) -> None:
        held, self._held = self._held, None
        for news in held.values() if held else ():
            self._changed(*news)

    def _set_timer(self, seconds: float, then: Callable[[], None]) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)
