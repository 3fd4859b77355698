"""Servers of 2026-07-28: every request stands alone (basic/transports/streamable-http)."""

from __future__ import annotations

from mcp_gateway.inbound import encode_header_value, mcp_param_headers, x_mcp_header_map
from mcp_gateway.protocol import (
    CLIENT_CAPABILITIES_META_KEY,
    CLIENT_INFO_META_KEY,
    GATEWAY_INFO,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    LOG_LEVEL_META_KEY,
    METHOD_NOT_FOUND,
    MODERN,
    MODERN_ERRORS,
    NAMED,
    PROTOCOL_VERSION_META_KEY,
    Json,
)
from mcp_gateway.upstream.call import Call, Changed, Relay
from mcp_gateway.upstream.replicas import Replica
from mcp_gateway.upstream.wire import Wire, WrongEra

_OWN_ERRORS = (*MODERN_ERRORS, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR)


async def call(wire: Wire, replica: Replica, request: Call, changed: Changed) -> Json:
    """The result of one stateless request.

    Raises:
        RpcError: the server's error.
        WrongEra: the replica does not speak 2026-07-28 (any more).
    """
    identity = wire.next_id()
    relay = Relay(request, identity, changed)
    meta = relay.meta()
    # The caller's capabilities, no more and no fewer: the server may ask the client for input by them.
    meta[PROTOCOL_VERSION_META_KEY] = MODERN
    meta[CLIENT_CAPABILITIES_META_KEY] = request.capabilities
    meta[CLIENT_INFO_META_KEY] = GATEWAY_INFO
    if request.log_level:
        meta[LOG_LEVEL_META_KEY] = request.log_level
    body: Json = {
        "jsonrpc": "2.0",
        "id": identity,
        "method": request.method,
        "params": {**request.params, "_meta": meta},
    }
    answer = await wire.request(replica.url, body, _headers(request), relay.take, request.fresh)
    if answer.is_refusal():
        failure = answer.message.get("error")
        if not isinstance(failure, dict) or failure.get("code") not in _OWN_ERRORS:
            raise WrongEra(answer)
    return answer.result()


def _headers(request: Call) -> dict[str, str]:
    """The body's mirror, "Request Metadata" of the transport; unknown ``Mcp-Param-*`` are forwarded."""
    headers = dict(request.param_headers)
    if request.schema is not None:
        arguments = request.params.get("arguments")
        mirrored = mcp_param_headers(x_mcp_header_map(request.schema), arguments if isinstance(arguments, dict) else {})
        headers |= {name.lower(): value for name, value in mirrored.items()}
    headers["mcp-protocol-version"] = MODERN
    headers["mcp-method"] = request.method
    key = NAMED.get(request.method)
    if key and isinstance(name := request.params.get(key), str):
        headers["mcp-name"] = encode_header_value(name)
    return headers
