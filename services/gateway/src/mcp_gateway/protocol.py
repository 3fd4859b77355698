"""What both eras of the protocol have in common, and what tells them apart."""

from __future__ import annotations

from typing import Any

import orjson
from mcp_types import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    LOG_LEVEL_META_KEY,
    METHOD_NOT_FOUND,
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    PARSE_ERROR,
    PROTOCOL_VERSION_META_KEY,
    SERVER_INFO_META_KEY,
    UNSUPPORTED_PROTOCOL_VERSION,
)

from mcp_gateway import __version__

Json = dict[str, Any]

MODERN = "2026-07-28"
LEGACY_VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26")
LEGACY = LEGACY_VERSIONS[0]
RESERVED_META = "io.modelcontextprotocol/"
GATEWAY_INFO = {"name": "mcp-gateway", "version": __version__}
# In _meta of a merged list: servers whose part is missing, and those whose part is older than it should be.
PARTIAL_META_KEY = "ai.sophia.mcp/partial"
STALE_META_KEY = "ai.sophia.mcp/stale"

# Own codes lie outside the range that JSON-RPC and MCP reserve (2026-07-28 basic/index, "Error codes").
UNAVAILABLE = -31001
BUSY = -31002
TIMED_OUT = -31003
# 2025 servers send these; 2026-07-28 forbids them.
LEGACY_RESOURCE_NOT_FOUND = -32002
LEGACY_URL_ELICITATION = -32042
# What only a server of 2026-07-28 answers (basic/index, "Error codes"); it proves the era.
MODERN_ERRORS = (HEADER_MISMATCH, MISSING_REQUIRED_CLIENT_CAPABILITY, UNSUPPORTED_PROTOCOL_VERSION)

UNWRITABLE = "the message cannot be written as JSON"

LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
# What the items of a list are called by.
KEYS = {
    "tools/list": "name",
    "prompts/list": "name",
    "resources/list": "uri",
    "resources/templates/list": "uriTemplate",
}
# Results that 2026-07-28 wants ttlMs and cacheScope on (server/utilities/caching).
CACHEABLE = (*LISTS, "resources/read", "server/discover")
CALLS = ("tools/call", "prompts/get", "resources/read", "completion/complete")
# Requests whose result may ask for input (basic/patterns/mrtr, "Supported Requests").
INPUT_METHODS = frozenset({"tools/call", "prompts/get", "resources/read"})
# The parameter that Mcp-Name mirrors (basic/transports/streamable-http, "Request Metadata"; SEP-2663 for tasks).
TASKS = ("tasks/get", "tasks/update", "tasks/cancel")
NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"} | dict.fromkeys(TASKS, "taskId")
SUBSCRIPTION_META_KEY = RESERVED_META + "subscriptionId"
# Requests that can be sent again: they change nothing.
SAFE = frozenset({*CACHEABLE, "prompts/get", "completion/complete", "initialize", "ping"})
# RFC 5424 severities, least first (server/utilities/logging).
LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

__all__ = [
    "BUSY",
    "CACHEABLE",
    "CALLS",
    "CLIENT_CAPABILITIES_META_KEY",
    "CLIENT_INFO_META_KEY",
    "GATEWAY_INFO",
    "HEADER_MISMATCH",
    "INPUT_METHODS",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "KEYS",
    "LEGACY",
    "LEGACY_RESOURCE_NOT_FOUND",
    "LEGACY_URL_ELICITATION",
    "LEGACY_VERSIONS",
    "LISTS",
    "LOG_LEVELS",
    "LOG_LEVEL_META_KEY",
    "METHOD_NOT_FOUND",
    "MISSING_REQUIRED_CLIENT_CAPABILITY",
    "MODERN",
    "MODERN_ERRORS",
    "NAMED",
    "PARSE_ERROR",
    "PARTIAL_META_KEY",
    "PROTOCOL_VERSION_META_KEY",
    "RESERVED_META",
    "SAFE",
    "SERVER_INFO_META_KEY",
    "STALE_META_KEY",
    "SUBSCRIPTION_META_KEY",
    "TASKS",
    "TIMED_OUT",
    "UNAVAILABLE",
    "UNSUPPORTED_PROTOCOL_VERSION",
    "UNWRITABLE",
    "Json",
    "RpcError",
    "encoded",
    "error",
    "result",
]


def encoded(value: Any) -> bytes:
    """JSON.

    Raises:
        RpcError: it is nested deeper than can be written.
    """
    try:
        return orjson.dumps(value)
    except TypeError as failure:
        raise RpcError(INTERNAL_ERROR, f"{UNWRITABLE}: {failure}") from None


class RpcError(Exception):
    """A JSON-RPC error to answer with."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data


def error(identity: Any, code: int, message: str, data: Any = None) -> Json:
    """An error response."""
    body: Json = {"code": code, "message": message}
    if data is not None:
        body["data"] = data
    return {"jsonrpc": "2.0", "id": identity, "error": body}


def result(identity: Any, value: Json) -> Json:
    """A success response."""
    return {"jsonrpc": "2.0", "id": identity, "result": value}
