"""The way of a result that reaches its client while it still comes from the server."""

from __future__ import annotations

from collections.abc import Callable

from mcp_gateway.downstream.reply import Channel
from mcp_gateway.passing import Passing
from mcp_gateway.protocol import Json


class Outlet:
    """One call's. Whoever reads the server's answer asks for ``passing`` and hands on what that gives.

    Args:
        identity: of the client's request.
        rest: members of the result beside its content, as the client's era has them.
        content: which member that is.

    Attributes:
        item: an item of the content, as the client's view has it.
    """

    def __init__(self, channel: Channel, identity: object, rest: Callable[[Json], Json], content: str) -> None:
        self._channel = channel
        self._identity = identity
        self._rest = rest
        self._content = content
        self.item: Callable[[Json], Json] = lambda item: item

    def passing(self, expected: int) -> Passing | None:
        """What rewrites the answer, whose id is to be ``expected``; None where nothing more can be sent."""
        if not self._channel.takes_parts:
            return None
        return Passing(expected, self._identity, self.item, self._rest, self._content)

    async def write(self, passing: Passing, data: bytes) -> None:
        """Send a part, and wait while the client takes what was sent before."""
        self._channel.passing = passing
        await self._channel.pass_on(data)

    @property
    def begun(self) -> bool:
        """Whether the client has a part: then no other answer can be given."""
        passing = self._channel.passing
        return passing is not None and passing.begun
