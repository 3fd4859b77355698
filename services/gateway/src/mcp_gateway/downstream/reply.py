"""What both eras answer with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mcp_gateway.protocol import Json


@dataclass(frozen=True)
class Reply:
    """An HTTP answer: a message, or only a status. ``headers`` are added to the response."""

    status: int
    message: Json | None = None
    headers: Mapping[str, str] | None = None

    @property
    def failed(self) -> bool:
        """Whether it is an error."""
        return self.status >= 400 or (self.message is not None and "error" in self.message)
