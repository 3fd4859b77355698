"""A small document fetched over HTTP(S): one GET, bounded in time and size, no redirects, no cookies, no cache."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from typing import Any
from urllib.parse import urlsplit

import httptools
import orjson

MAX_BYTES = 1 << 20


class FetchError(Exception):
    """The document could not be had; the message says which and why."""


def is_loopback(host: str) -> bool:
    """Whether ``host`` names this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_safe_url(url: str) -> bool:
    """Whether keys may be fetched from ``url``: https, or http on loopback (basic/authorization/
    security-considerations, "Communication Security")."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if not parts.hostname or parts.username is not None or parts.fragment or not url.isascii() or " " in url:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


class _Body:
    """Collects an answer; httptools calls these by name."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.location = ""
        self.done = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"location":
            self.location = value.decode("latin-1")[:200]

    def on_body(self, data: bytes) -> None:
        self.data += data

    def on_message_complete(self) -> None:
        self.done = True


async def fetch_json(url: str, context: ssl.SSLContext | None, seconds: float) -> dict[str, Any]:
    """The JSON object at ``url``.

    Args:
        context: trust for https; None for the system's.
        seconds: for all of it, from the name's resolution to the last byte.

    Raises:
        FetchError: the URL is neither https nor on loopback, the host cannot be reached or trusted, the answer is
            not 200, longer than 1 MiB, late, or no JSON object.
    """
    if not is_safe_url(url):
        raise FetchError(f"{url}: neither https nor on loopback")
    try:
        async with asyncio.timeout(seconds):
            status, body = await _get(url, context)
    except TimeoutError:
        raise FetchError(f"{url}: no whole answer within {seconds:g} s") from None
    except (OSError, ssl.SSLError, httptools.HttpParserError) as error:
        raise FetchError(f"{url}: {str(error) or type(error).__name__}") from error
    if status != 200:
        if not status:
            raise FetchError(f"{url}: the connection was closed without an answer")
        hint = f" to {body.location}; give the final URL" if body.location else ""
        raise FetchError(f"{url}: HTTP {status}{hint}")
    try:
        value = orjson.loads(body.data)
    except orjson.JSONDecodeError as error:
        raise FetchError(f"{url}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise FetchError(f"{url}: not a JSON object")
    return value


async def _get(url: str, context: ssl.SSLContext | None) -> tuple[int, _Body]:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(
        parts.hostname,
        parts.port or (443 if secure else 80),
        ssl=(context or ssl.create_default_context()) if secure else None,
        limit=1 << 16,
    )
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: application/json\r\n"
            "User-Agent: mcp-gateway\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        body, received = _Body(), 0
        parser = httptools.HttpResponseParser(body)
        while not body.done:
            data = await reader.read(1 << 16)
            if not data:
                # Without Content-Length the end of the connection is the end of the body (RFC 9112, section 6.3).
                break
            received += len(data)
            if received > MAX_BYTES:
                raise FetchError(f"{url}: longer than {MAX_BYTES} bytes")
            parser.feed_data(data)
        return parser.get_status_code(), body
    finally:
        writer.transport.abort()  # all that was wanted is here; nobody waits for the other side's goodbye
