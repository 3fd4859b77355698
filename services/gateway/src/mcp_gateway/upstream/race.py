"""One call that is tried at two replicas: who has a part of the answer first passes it on, the other is left."""

from __future__ import annotations

from collections.abc import Callable

from mcp_gateway.passing import Passing
from mcp_gateway.upstream.call import Sink


class Runner:
    """A try's way to the sink that both would have.

    Args:
        won: called when this one is the first to write, before it does; the other must not write any more.

    Attributes:
        begun: whether it wrote anything.
    """

    def __init__(self, sink: Sink, won: Callable[[], None]) -> None:
        self.begun = False
        self._sink = sink
        self._won = won

    def passing(self, expected: int) -> Passing | None:
        """What rewrites the answer with this id; None where it has to be held."""
        return self._sink.passing(expected)

    async def write(self, passing: Passing, data: bytes) -> None:
        """Take what that rewrote."""
        if not self.begun:
            self.begun = True
            self._won()
        await self._sink.write(passing, data)
