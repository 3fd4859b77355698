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
from mcp_gateway.upstream.wire import Wire, WrongEra, lines_of

_OWN_ERRORS = (*MODERN_ERRORS, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR)
# Lines of heads by method and name; names come from clients.
MAX_KNOWN = 16_384
MAX_LINES_BYTES = 512
_known: dict[tuple[str, str | None], bytes] = {}


async def request(wire: Wire, replica: Replica, call: Call, changed: Changed) -> Json:
    """The result of one stateless request.

    Raises:
        RpcError: the server's error.
        WrongEra: the replica does not speak 2026-07-28 (any more).
    """
    begun, call.begun = call.begun, None
    identity = begun.identity if begun else wire.next_id()
    relay = Relay(call, identity, changed)
    answer = await wire.request(
        replica.url, message(call, identity), lines(call), relay.take, call.fresh, begun, call.sink, call.safe
    )
    if answer.is_refusal():
        failure = answer.message.get("error")
        if not isinstance(failure, dict) or failure.get("code") not in _OWN_ERRORS:
            raise WrongEra(answer)
    return answer.result()


def message(call: Call, identity: int) -> Json:
    """The request, its envelope of its own ("Request Metadata" of basic/transports/streamable-http)."""
    meta = call.meta(identity)
    # The caller's capabilities, no more and no fewer: the server may ask the client for input by them.
    meta[PROTOCOL_VERSION_META_KEY] = MODERN
    meta[CLIENT_CAPABILITIES_META_KEY] = call.capabilities
    meta[CLIENT_INFO_META_KEY] = GATEWAY_INFO
    if call.log_level:
        meta[LOG_LEVEL_META_KEY] = call.log_level
    return {"jsonrpc": "2.0", "id": identity, "method": call.method, "params": {**call.params, "_meta": meta}}


def lines(call: Call) -> bytes:
    """The body's mirror in the head (same section); unknown ``Mcp-Param-*`` are forwarded."""
    name = call.params.get(NAMED.get(call.method, ""))
    usual = not call.param_headers and call.schema is None
    place = (call.method, name) if isinstance(name, str) else (call.method, None)
    if usual and (known := _known.get(place)):
        return known
    headers = dict(call.param_headers)
    if call.schema is not None:
        arguments = call.params.get("arguments")
        mirrored = mcp_param_headers(x_mcp_header_map(call.schema), arguments if isinstance(arguments, dict) else {})
        headers |= {name.lower(): value for name, value in mirrored.items()}
    headers["mcp-protocol-version"] = MODERN
    headers["mcp-method"] = call.method
    if isinstance(name, str):
        headers["mcp-name"] = encode_header_value(name)
    encoded = lines_of(headers)
    if usual and len(encoded) < MAX_LINES_BYTES:
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        _known[place] = encoded
    return encoded
