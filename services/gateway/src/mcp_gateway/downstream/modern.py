"""Clients of 2026-07-28: every request carries its own envelope (basic/transports/streamable-http)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS, InboundLadderRejection, classify_inbound_request

from mcp_gateway.downstream.reply import Reply
from mcp_gateway.protocol import (
    CACHEABLE,
    GATEWAY_INFO,
    INVALID_PARAMS,
    LEGACY_RESOURCE_NOT_FOUND,
    LEGACY_VERSIONS,
    LOG_LEVEL_META_KEY,
    LOG_LEVELS,
    METHOD_NOT_FOUND,
    MODERN,
    MODERN_ERRORS,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
    Json,
    RpcError,
    error,
    result,
)
from mcp_gateway.views import Request, View

# Methods of 2025 that 2026-07-28 has no more: a modern request for one is an unknown method.
LEGACY_ONLY = frozenset({"initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"})
# Statuses of errors that arise past the envelope; all others travel with 200.
_STATUS = dict.fromkeys(MODERN_ERRORS, 400) | {METHOD_NOT_FOUND: 404}


def is_modern(body: Json, headers: Mapping[str, str]) -> bool:
    """Whether the request speaks 2026-07-28 or later: its version header, its ``_meta`` or its method says so."""
    version = headers.get("mcp-protocol-version", "")
    params = body.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    return (
        (version not in LEGACY_VERSIONS and version >= MODERN)
        or (isinstance(meta, dict) and PROTOCOL_VERSION_META_KEY in meta)
        or body.get("method") == "server/discover"
    )


class Modern:
    """One endpoint for clients of the stateless era."""

    def __init__(self, view: View) -> None:
        self._view = view

    async def open(self, body: Json, headers: Mapping[str, str], principal: str) -> Request | Reply:
        """Check the envelope; a Reply refuses with the mandated code and status."""
        if "id" not in body or "method" not in body:
            return Reply(202)  # a notification or a response: nothing of ours waits for it
        route = classify_inbound_request(body, headers=headers, supported_modern_versions=(MODERN,))
        if isinstance(route, InboundLadderRejection):
            status = ERROR_CODE_HTTP_STATUS.get(route.code, 400)
            return Reply(status, error(body["id"], route.code, route.message, route.data))
        if body["method"] in LEGACY_ONLY:
            return _refusal(body["id"], RpcError(METHOD_NOT_FOUND, f"Method not found: {body['method']}"))
        level = body["params"]["_meta"].get(LOG_LEVEL_META_KEY)
        return Request(
            body["method"],
            body["params"],
            principal,
            capabilities=route.client_capabilities if isinstance(route.client_capabilities, dict) else {},
            param_headers={name: value for name, value in headers.items() if name.startswith("mcp-param-")},
            log_level=level if level in LOG_LEVELS else None,
            set_level=level in LOG_LEVELS,
        )

    async def answer(self, identity: Any, request: Request) -> Reply:
        """Handle the request and dress its result for this era."""
        try:
            value = self._discovered() if request.method == "server/discover" else await self._view.handle(request)
        except RpcError as failure:
            return _refusal(identity, failure)
        value.setdefault("resultType", "complete")
        if request.method in CACHEABLE and value["resultType"] == "complete":
            value.setdefault("ttlMs", 0)
            value.setdefault("cacheScope", "private")
        value["_meta"] = {SERVER_INFO_META_KEY: GATEWAY_INFO} | (value.get("_meta") or {})
        return Reply(200, result(identity, value))

    def _discovered(self) -> Json:
        hello = self._view.hello()
        info = hello.pop("serverInfo")
        return {"supportedVersions": [MODERN], **hello, "_meta": {SERVER_INFO_META_KEY: info}}


def _refusal(identity: Any, failure: RpcError) -> Reply:
    # -32002 of older servers must never be sent in this era (basic/index, "Error codes").
    code = INVALID_PARAMS if failure.code == LEGACY_RESOURCE_NOT_FOUND else failure.code
    return Reply(_STATUS.get(code, 200), error(identity, code, failure.message, failure.data))
