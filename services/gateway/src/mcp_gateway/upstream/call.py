"""One call to a server, and what comes back before its response."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from mcp_gateway.protocol import LOG_LEVELS, Json
from mcp_gateway.sessions import Pin

Notify = Callable[[Json], Awaitable[None]]

log = logging.getLogger("mcp_gateway.upstream")


@dataclass
class Call:
    """One call to a server.

    Attributes:
        session_key: whose upstream session it may use: a principal's, or for sticky servers a client session's.
        pin: the client session's own session at this server, if it has one.
        capabilities: the caller's, mirrored to modern servers.
        param_headers: ``Mcp-Param-*`` headers of the caller, forwarded to modern servers.
        schema: the input schema of the tool called, where it asks for ``Mcp-Param-*`` headers.
        log_level: least severity of log messages wanted; None for none.
        set_level: whether a server with sessions is told that level (a client that never set one takes
            what the server sends by default).
        notify: takes the notifications that precede the response; None drops them.
    """

    method: str
    params: Json
    session_key: str = ""
    pin: Pin | None = None
    capabilities: Json = field(default_factory=dict)
    param_headers: Mapping[str, str] = field(default_factory=dict)
    schema: Json | None = None
    log_level: str | None = None
    set_level: bool = False
    notify: Notify | None = None


class Relay:
    """Hands the notifications that belong to a call to its client, in the client's own terms.

    Progress tokens are unique among the sender's active requests (2026-07-28 basic/patterns/progress), and
    the gateway is the sender for many clients: it asks with the upstream request's id and puts the client's
    token back here. Log messages pass only at the level the request wants (server/utilities/logging).
    """

    def __init__(self, call: Call, identity: int, lists_changed: Callable[[], None]) -> None:
        self._call = call
        self._identity = identity
        self._lists_changed = lists_changed
        meta = call.params.get("_meta") or {}
        self._token = meta.get("progressToken")
        self._least = LOG_LEVELS.index(call.log_level) if call.log_level else len(LOG_LEVELS)

    def meta(self) -> Json:
        """The call's ``_meta`` with the gateway's progress token."""
        meta = dict(self._call.params.get("_meta") or {})
        if self._token is not None:
            meta["progressToken"] = self._identity
        return meta

    async def __call__(self, message: Json) -> None:
        """Take one notification of the server."""
        method = message["method"]
        params = message.get("params")
        if not isinstance(params, dict):
            params = {}
        if method.endswith("/list_changed"):
            self._lists_changed()
        elif self._call.notify is None:
            return
        elif method == "notifications/progress":
            if self._token is not None and params.get("progressToken") == self._identity:
                await self._call.notify({**message, "params": {**params, "progressToken": self._token}})
        elif method == "notifications/message":
            level = params.get("level")
            if level in LOG_LEVELS and LOG_LEVELS.index(level) >= self._least:
                await self._call.notify(message)
        else:
            log.debug("dropped", extra={"method": method})
