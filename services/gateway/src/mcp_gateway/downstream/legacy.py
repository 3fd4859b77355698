"""Clients of 2025: a session opened with ``initialize`` (2025-11-25 basic/transports, basic/lifecycle)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mcp_gateway.downstream.reply import Reply
from mcp_gateway.protocol import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    LEGACY,
    LEGACY_VERSIONS,
    LOG_LEVELS,
    MODERN,
    Json,
    RpcError,
    error,
    result,
)
from mcp_gateway.sessions import Sealer, Session
from mcp_gateway.views import Request, View

# What a client without the header speaks (2025-11-25 basic/transports, "Protocol Version Header").
ASSUMED_VERSION = "2025-03-26"
MAX_LEVELS = 10_000


class Legacy:
    """One endpoint for clients with sessions."""

    def __init__(self, view: View, sealer: Sealer) -> None:
        self._view = view
        self._sealer = sealer
        self._levels: OrderedDict[str, str] = OrderedDict()  # by session, of those that set one

    async def open(self, body: Json, headers: Mapping[str, str], principal: str) -> Request | Reply:
        """Check session and version; a Reply answers at once (``initialize`` and notifications among them)."""
        identity, method, params = body.get("id"), body.get("method"), body.get("params")
        if not isinstance(params, dict):
            params = {}
        if method == "initialize":
            return await self._initialize(identity, params, principal)
        version = headers.get("mcp-protocol-version", ASSUMED_VERSION)
        if version not in LEGACY_VERSIONS:
            supported = ", ".join((MODERN, *LEGACY_VERSIONS))
            return Reply(
                400, error(identity, INVALID_REQUEST, f"unsupported MCP-Protocol-Version {version!r}; use {supported}")
            )
        session = self._session(identity, headers, principal)
        if isinstance(session, Reply):
            return session
        if method is None or identity is None:
            return Reply(202)  # a response or a notification: nothing of ours waits for it
        if not isinstance(method, str):
            return Reply(400, error(identity, INVALID_REQUEST, f"method {method!r} is not a string"))
        if method == "logging/setLevel":
            return self._set_level(identity, params, session)
        level = self._levels.get(session.id)
        return Request(
            method,
            params,
            principal,
            session=session,
            log_level=level or LOG_LEVELS[0],  # who never set one takes what the server sends by itself
            set_level=level is not None,
        )

    async def answer(self, identity: Any, request: Request) -> Reply:
        """Handle the request and take out what only 2026 knows."""
        try:
            value = await self._view.handle(request)
        except RpcError as failure:
            return Reply(200, error(identity, failure.code, failure.message, failure.data))
        if value.get("resultType") == "input_required":
            asking = request.params.get("name") or request.method
            return Reply(
                200, error(identity, INVALID_REQUEST, f"{asking} asks for input, which this client cannot be asked for")
            )
        for key in ("resultType", "ttlMs", "cacheScope"):
            value.pop(key, None)
        return Reply(200, result(identity, value))

    def end(self, headers: Mapping[str, str], principal: str) -> Reply:
        """DELETE: end the session."""
        session = self._session(None, headers, principal)
        if isinstance(session, Reply):
            return session
        self._sealer.end(session)
        self._levels.pop(session.id, None)
        self._view.end_session(session)
        return Reply(204)

    def _session(self, identity: Any, headers: Mapping[str, str], principal: str) -> Session | Reply:
        """The session that the headers name: absent is 400, unknown or ended 404 (basic/transports)."""
        sealed = headers.get("mcp-session-id")
        if not sealed:
            return Reply(400, error(identity, INVALID_REQUEST, "Mcp-Session-Id is missing; send initialize first"))
        session = self._sealer.open(sealed, principal, self._view.name)
        return session or Reply(
            404, error(identity, INVALID_REQUEST, "the session is unknown or has ended; send initialize")
        )

    async def _initialize(self, identity: Any, params: Json, principal: str) -> Reply:
        wanted = params.get("protocolVersion")
        version = wanted if wanted in LEGACY_VERSIONS else LEGACY
        session = Session(self._sealer.new_id(), version, principal, self._view.name, int(time.time()))
        session = replace(session, pins=await self._view.open_pins(principal, session))
        value = {"protocolVersion": version, **self._view.hello()}
        return Reply(200, result(identity, value), {"Mcp-Session-Id": self._sealer.seal(session)})

    def _set_level(self, identity: Any, params: Json, session: Session) -> Reply:
        """Remembered here; servers are told with the session's next call, and each call is filtered by it."""
        level = params.get("level")
        if level not in LOG_LEVELS:
            return Reply(200, error(identity, INVALID_PARAMS, f"level {level!r} is none of {', '.join(LOG_LEVELS)}"))
        self._levels[session.id] = level
        self._levels.move_to_end(session.id)
        while len(self._levels) > MAX_LEVELS:
            self._levels.popitem(last=False)
        return Reply(200, result(identity, {}))
