"""Clients of both eras over streamable HTTP: envelope in, envelope out.

2026-07-28 is stateless and every request carries its own envelope (basic/transports/streamable-http);
2025-11-25 and older open a session with ``initialize`` (2025-11-25 basic/transports, basic/lifecycle).
A request is modern when its version header or its ``_meta`` says so, or when it says neither and has no
session to belong to but a modern-only method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS, InboundLadderRejection, classify_inbound_request

from mcp_gateway.gateway import Request, View
from mcp_gateway.protocol import (
    CACHEABLE,
    GATEWAY_INFO,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LEGACY,
    LEGACY_RESOURCE_NOT_FOUND,
    LEGACY_VERSIONS,
    METHOD_NOT_FOUND,
    MODERN,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
    Json,
    RpcError,
    error,
    result,
)
from mcp_gateway.sessions import Sealer, Session

# Methods of 2025 that 2026-07-28 has no more: a modern request for one is an unknown method.
LEGACY_ONLY = frozenset({"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"})


@dataclass
class Reply:
    """An HTTP answer: a message, or only a status. ``headers`` are added to the response."""

    status: int
    message: Json | None = None
    headers: Mapping[str, str] | None = None


def is_modern(body: Json, headers: Mapping[str, str]) -> bool:
    """Whether the request speaks 2026-07-28 or later."""
    version = headers.get("mcp-protocol-version", "")
    params = body.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return (
        (bool(version) and version not in LEGACY_VERSIONS and version >= MODERN)
        or (isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta)
        or (body.get("method") == "server/discover")
    )


class Modern:
    """The stateless era."""

    def __init__(self, view: View) -> None:
        self._view = view

    def open(self, body: Json, headers: Mapping[str, str], principal: str) -> Request | Reply:
        """Check the envelope; a Reply refuses with the mandated code and status."""
        if "id" not in body:
            return Reply(202)
        route = classify_inbound_request(body, headers=headers, supported_modern_versions=(MODERN,))
        if isinstance(route, InboundLadderRejection):
            return self._refusal(body["id"], RpcError(route.code, route.message, route.data))
        if body["method"] in LEGACY_ONLY:
            return self._refusal(body["id"], RpcError(METHOD_NOT_FOUND, f"Method not found: {body['method']}"))
        capabilities = route.client_capabilities if isinstance(route.client_capabilities, dict) else {}
        return Request(body["method"], body["params"], principal, capabilities=capabilities)

    async def answer(self, identity: Any, request: Request) -> Reply:
        """Handle the request and dress its result for this era."""
        try:
            if request.method == "server/discover":
                hello = self._view.hello()
                value: Json = {"supportedVersions": [MODERN], "capabilities": hello["capabilities"]}
                value["_meta"] = {SERVER_INFO_META_KEY: hello["serverInfo"]}
                if "instructions" in hello:
                    value["instructions"] = hello["instructions"]
            else:
                value = await self._view.handle(request)
        except RpcError as failure:
            return self._refusal(identity, failure)
        value.setdefault("resultType", "complete")
        if request.method in CACHEABLE and value["resultType"] == "complete":
            value.setdefault("ttlMs", 0)
            value.setdefault("cacheScope", "private")
        value["_meta"] = {SERVER_INFO_META_KEY: GATEWAY_INFO} | (value.get("_meta") or {})
        return Reply(200, result(identity, value))

    @staticmethod
    def _refusal(identity: Any, failure: RpcError) -> Reply:
        # -32002 of older servers must never be sent in this era (basic/index, "Error codes").
        code = INVALID_PARAMS if failure.code == LEGACY_RESOURCE_NOT_FOUND else failure.code
        mandated = {METHOD_NOT_FOUND: 404, -32020: 400, -32021: 400, -32022: 400}
        status = mandated.get(code, 200)
        if code == INVALID_PARAMS and "envelope" in failure.message:
            status = ERROR_CODE_HTTP_STATUS[code]
        return Reply(status, error(identity, code, failure.message, failure.data))


class Legacy:
    """The era of sessions."""

    def __init__(self, view: View, sealer: Sealer) -> None:
        self._view = view
        self._sealer = sealer

    def open(self, body: Json, headers: Mapping[str, str], principal: str) -> Request | Reply | Session:
        """Check session and version.

        A Reply answers at once (``initialize`` and notifications among them).
        """
        identity, method = body.get("id"), body.get("method")
        if method == "initialize":
            return self._initialize(identity, body.get("params") or {}, principal)
        version = headers.get("mcp-protocol-version", "2025-03-26")
        if version not in LEGACY_VERSIONS:
            supported = ", ".join((MODERN, *LEGACY_VERSIONS))
            return Reply(
                400, error(identity, INVALID_REQUEST, f"unsupported MCP-Protocol-Version {version!r}; use {supported}")
            )
        session = self.session(headers, principal)
        if isinstance(session, Reply):
            return session
        if method is None or identity is None:
            return Reply(202)  # a response or a notification: nothing of ours waits for it
        params = body.get("params")
        return Request(method, params if isinstance(params, dict) else {}, principal, session=session.id)

    def session(self, headers: Mapping[str, str], principal: str) -> Session | Reply:
        """The session that the headers name: absent is 400, unknown or ended 404 (basic/transports)."""
        sealed = headers.get("mcp-session-id")
        if not sealed:
            return Reply(400, error(None, INVALID_REQUEST, "Mcp-Session-Id is missing; send initialize first"))
        session = self._sealer.open(sealed, principal, self._view.name)
        return session or Reply(
            404, error(None, INVALID_REQUEST, "the session is unknown or has ended; send initialize")
        )

    def end(self, headers: Mapping[str, str], principal: str) -> Reply:
        """DELETE: end the session."""
        session = self.session(headers, principal)
        if isinstance(session, Reply):
            return session
        self._sealer.end(session)
        return Reply(204)

    def _initialize(self, identity: Any, params: Json, principal: str) -> Reply:
        wanted = params.get("protocolVersion")
        version = wanted if wanted in LEGACY_VERSIONS else LEGACY
        _, sealed = self._sealer.new(version, principal, self._view.name)
        value = {"protocolVersion": version, **self._view.hello()}
        return Reply(200, result(identity, value), {"Mcp-Session-Id": sealed})

    async def answer(self, identity: Any, request: Request) -> Reply:
        """Handle the request and take out what only 2026 knows."""
        try:
            value = await self._view.handle(request)
        except RpcError as failure:
            return Reply(200, error(identity, failure.code, failure.message, failure.data))
        if value.get("resultType") == "input_required":
            message = (
                f"server of {request.params.get('name') or request.method} asks for input this client did not offer"
            )
            return Reply(200, error(identity, INVALID_REQUEST, message))
        for key in ("resultType", "ttlMs", "cacheScope"):
            value.pop(key, None)
        return Reply(200, result(identity, value))
