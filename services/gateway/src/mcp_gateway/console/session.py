"""Signing in to the console: sealed cookies, tokens against forged requests, and a slow gate for guesses."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import time
from dataclasses import dataclass

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mcp_gateway.net.messages import Request
from mcp_gateway.principal import Principal
from mcp_gateway.reader import parts_of

PATH = "/console"
SESSION_COOKIE = "mcp_console_session"
VISITOR_COOKIE = "mcp_console_visitor"
SESSION_SECONDS = 8 * 3600
# Browsers keep cookies of up to 4096 bytes (RFC 6265, section 6.1); name, attributes and sealing need the rest.
MAX_CREDENTIAL_BYTES = 2600
# Wrong keys are answered this late, and only so many attempts wait at once: guesses per process stay below 16 a second.
WRONG_KEY_SECONDS = 0.5
MAX_ATTEMPTS = 8
_NONCE_BYTES = 12
_PURPOSE = b"mcp-gateway console 1"


class TooManyAttempts(Exception):
    """Others are signing in at this moment; the same attempt may succeed a second later."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """What a session cookie holds: the credential, checked again on each use, and the name it stood for."""

    credential: str
    principal: str


class Sessions:
    """Seals and opens session cookies.

    The credential travels inside the cookie, encrypted: a key that is withdrawn ends its sessions at once, and any
    gateway replica that holds the sealing key opens them, without a store.

    Args:
        keys: sealing keys; the first seals, all open, so that one can replace another.
        secure: whether browsers may send the cookies over HTTPS alone.
    """

    def __init__(self, keys: tuple[bytes, ...], secure: bool) -> None:
        derived = [hashlib.sha256(_PURPOSE + key).digest() for key in keys]
        self._boxes = [AESGCM(key) for key in derived]
        self._token_keys = [hashlib.sha256(b"token" + key).digest() for key in derived]
        self._attributes = f"Path={PATH}; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")

    def cookie(self, credential: str, principal: Principal, now: float | None = None) -> str:
        """A ``Set-Cookie`` value that signs in for ``SESSION_SECONDS``."""
        expires = int((time.time() if now is None else now) + SESSION_SECONDS)
        content = orjson.dumps([credential, principal.name, expires])
        nonce = os.urandom(_NONCE_BYTES)
        sealed = base64.urlsafe_b64encode(nonce + self._boxes[0].encrypt(nonce, content, _PURPOSE)).decode()
        return f"{SESSION_COOKIE}={sealed}; Max-Age={SESSION_SECONDS}; {self._attributes}"

    def open(self, request: Request) -> SignedIn | None:
        """The session that the request's cookie holds; None where it is absent, altered, foreign or over."""
        sealed = cookies(request).get(SESSION_COOKIE, "")
        try:
            raw = base64.b64decode(sealed, altchars=b"-_", validate=True)
        except ValueError:
            return None
        for box in self._boxes:
            try:
                content = box.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _PURPOSE)
            except (InvalidTag, ValueError):
                continue
            credential, principal, expires = orjson.loads(content)
            return SignedIn(credential, principal) if expires > time.time() else None
        return None

    def deletion(self) -> str:
        """A ``Set-Cookie`` value that signs out."""
        return f"{SESSION_COOKIE}=; Max-Age=0; {self._attributes}"

    def visitor(self, request: Request) -> tuple[str, str | None]:
        """The browser's random name, and the ``Set-Cookie`` value that gives it one where it has none."""
        name = cookies(request).get(VISITOR_COOKIE, "")
        if len(name) == 32 and name.isalnum():
            return name, None
        name = os.urandom(16).hex()
        return name, f"{VISITOR_COOKIE}={name}; {self._attributes}"

    def token(self, visitor: str, principal: str) -> str:
        """What a form must send along: only a page of ours, shown to this browser and this principal, holds it."""
        return self._token(self._token_keys[0], visitor, principal)

    def token_is_right(self, given: str, request: Request, principal: str) -> bool:
        visitor = cookies(request).get(VISITOR_COOKIE, "")
        if not visitor:
            return False
        expected = [self._token(key, visitor, principal) for key in self._token_keys]
        return any(hmac.compare_digest(given.encode(), one.encode()) for one in expected)

    @staticmethod
    def _token(key: bytes, visitor: str, principal: str) -> str:
        return hmac.new(key, f"{visitor}\0{principal}".encode(), hashlib.sha256).hexdigest()[:32]


class Gate:
    """Slows down guessing of keys: few attempts at once, each wrong one held for a while."""

    def __init__(self) -> None:
        self._waiting = 0

    async def __aenter__(self) -> Gate:
        if self._waiting >= MAX_ATTEMPTS:
            raise TooManyAttempts
        self._waiting += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._waiting -= 1

    async def wrong(self) -> None:
        await asyncio.sleep(WRONG_KEY_SECONDS)


def cookies(request: Request) -> dict[str, str]:
    """The request's cookies; of a name that comes twice, the first, which is that of the longest path (RFC 6265)."""
    found: dict[str, str] = {}
    # HTTP/2 edges may split the header; joined again, its parts are separated by commas.
    for part in request.headers.get("cookie", "").replace(",", ";").split(";"):
        name, separator, value = part.strip().partition("=")
        if separator:
            found.setdefault(name, value)
    return found


def is_same_origin(request: Request, public_url: str) -> bool:
    """Whether a browser that sent this was on a page of ours; a request that names no origin may be (no browser)."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = request.headers.get("origin")
    if origin is None:
        return True
    public, given = parts_of(public_url), parts_of(origin)
    if given.scheme not in ("http", "https"):
        return False
    if (given.scheme, given.netloc) == (public.scheme, public.netloc):
        return True
    # Host is checked before anything else (allowed hosts), so a page of that very host is ours, too.
    return given.netloc == request.headers.get("host")
