"""Handing a request to the gateway replica that holds what it goes on with.

A parked call, and a question to a client of 2025, live on the gateway replica that holds the connection to the server.
What the client was given names that replica, sealed, so any other can hand the client's next message on to it.
"""

from __future__ import annotations

import logging
import socket
from urllib.parse import urlsplit

from mcp_gateway.net.client import Client, ConnectFailed
from mcp_gateway.net.messages import Response
from mcp_gateway.net.server import Exchange

# A message is handed on once: two replicas that disagree about who holds it must not play ball.
FORWARDED = "x-mcp-gateway-forwarded"
MAX_ANSWER_BYTES = 64 * 1024 * 1024
SILENCE_SECONDS = 60.0
TOTAL_SECONDS = 3600.0
# They concern one connection (RFC 9110, section 7.6.1), or are written anew.
_HOP = frozenset(
    {"connection", "keep-alive", "te", "trailer", "upgrade", "expect", "transfer-encoding", "content-length", "host"}
)
_RETURNED = ("mcp-session-id", "www-authenticate", "retry-after")

log = logging.getLogger("mcp_gateway.peers")


def own_address(host: str, port: int) -> str:
    """The URL that other replicas reach this one by; on every address, the one that its host name has (Swarm gives a
    container's name the address of its task)."""
    if host in ("0.0.0.0", "::", ""):
        try:
            host = socket.gethostbyname(socket.gethostname())
        except OSError:
            host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def hand_over(client: Client, exchange: Exchange, holder: str) -> bool:
    """Let the replica at ``holder`` answer; False if it is gone, so that nobody holds it any more."""
    request = exchange.request
    lines = [f"{name}: {value}\r\n" for name, value in request.headers.items() if name not in _HOP]
    head = (
        f"{request.method} {request.path} HTTP/1.1\r\nhost: {request.headers.get('host', '')}\r\n{''.join(lines)}"
        f"{FORWARDED}: 1\r\ncontent-length: {len(request.body)}\r\n\r\n"
    )
    data = head.encode("latin-1", "replace") + request.body
    try:
        answer = await client.send(urlsplit(holder), data, SILENCE_SECONDS, TOTAL_SECONDS)
    except ConnectFailed as failure:
        log.info("the replica that held it is gone", extra={"holder": holder, "error": str(failure)})
        return False
    kind = answer.headers.get("content-type", "application/json")
    try:
        if answer.streams:
            exchange.open_stream(kind.encode("latin-1"), b"cache-control: no-cache\r\nx-accel-buffering: no\r\n")
            async for chunk in answer.chunks():
                await exchange.send(chunk)
            exchange.finish()
            return True
        body = await answer.read(MAX_ANSWER_BYTES)
    finally:
        answer.close()
    headers = tuple((name, answer.headers[name]) for name in _RETURNED if name in answer.headers)
    exchange.respond(Response(answer.status if body is not None else 502, body or b"", kind, headers))
    return True
