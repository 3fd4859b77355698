"""One request of a client, its envelope already checked, and who may not make it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import orjson

from mcp_gateway.principal import Principal
from mcp_gateway.protocol import INVALID_PARAMS, Json, RpcError
from mcp_gateway.sessions import Session
from mcp_gateway.tracing import Span
from mcp_gateway.upstream.call import Begun, Client
from mcp_gateway.upstream.server import Upstream

if TYPE_CHECKING:
    from mcp_gateway.downstream.outlet import Outlet


class Forbidden(Exception):
    """The client's scopes do not suffice; ``scopes`` are all that it needs."""

    def __init__(self, message: str, scopes: tuple[str, ...]) -> None:
        super().__init__(message)
        self.message = message
        self.scopes = scopes

    @property
    def error(self) -> RpcError:
        """The refusal where there is no HTTP status, and so no challenge, of its own."""
        return RpcError(INVALID_PARAMS, self.message, {"requiredScopes": list(self.scopes)})


@dataclass(slots=True)
class Request:
    """One request of a client, its envelope already checked.

    Attributes:
        session: the client's session (2025); None in 2026, where there is none.
        capabilities: what the client declared.
        modern: whether it speaks 2026-07-28, by its own word or translated.
        headers: its HTTP headers, where the method looks at them (``Mcp-Param-*``).
        log_level: least severity of log messages wanted; None for none.
        set_level: whether the client asked for that level itself.
        client: takes what precedes the response.
        trace: W3C trace context to send along.
        span: the request's own, where traces are on; what happens on the way is noted there.
        server, replica: who answered, for logs; filled in on the way.
        refused: why policy refused it, for the audit log alone.
        metered: whether it was counted against its client's rate.
        sink: takes a tool's result while it comes.
        begun: the call to the server, where it is under way already.
    """

    method: str
    params: Json
    principal: Principal
    session: Session | None = None
    capabilities: Json = field(default_factory=dict)
    modern: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    log_level: str | None = None
    set_level: bool = False
    client: Client | None = None
    trace: Mapping[str, str] | None = None
    span: Span | None = None
    server: str = ""
    replica: str = ""
    refused: str = ""
    trace_id: str = ""
    metered: bool = False
    sink: Outlet | None = None
    begun: Begun | None = None


def session_key(principal: str, session: Session | None, capabilities: Json, upstream: Upstream) -> str:
    """Whose session at the server a call may use.

    Sticky servers keep state for each client session. The others share one session among the calls of a
    principal whose clients have declared the same capabilities, for a server may use what was declared.
    """
    if session and upstream.server.sticky:
        return f"{principal}/{session.id}"
    if not capabilities:
        return principal
    # No principal's name holds NUL, so that none is another's with capabilities.
    return f"{principal}\0{orjson.dumps(capabilities, option=orjson.OPT_SORT_KEYS).decode()}"
