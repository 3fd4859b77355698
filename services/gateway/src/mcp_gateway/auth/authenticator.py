"""From the credential of a request to its principal: remembered, or checked anew."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mcp_gateway.auth.jwks import IssuerUnavailable, KeySet
from mcp_gateway.auth.keys import Keys
from mcp_gateway.auth.metadata import challenge
from mcp_gateway.auth.oauth import InvalidToken, Token, Verifier
from mcp_gateway.auth.settings import AuthSettings
from mcp_gateway.principal import Principal

ANONYMOUS = "anonymous"
MAX_REMEMBERED = 10_000
RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, slots=True)
class _Entry:
    """A credential found good: whose, until when, and whether the issuer's keys vouch for it."""

    principal: Principal
    expires: float
    token: bool = False


class Unauthorized(Exception):
    """The request is refused.

    Attributes:
        status: 401 without a good credential, 403 where its scopes do not suffice, 503 where the issuer's keys
            cannot be had, so that the token may be good (a 401 would send the client to log in again, in vain).
        challenge: the value of ``WWW-Authenticate``; empty with 503.
        message: for people; holds nothing of the credential.
        retry_after: seconds, with 503; else 0.
    """

    def __init__(self, status: int, challenge: str, message: str, retry_after: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.challenge = challenge
        self.message = message
        self.retry_after = retry_after


_LAST = "credential"


class Authenticator:
    """Names the principal of a request by ``Authorization: Bearer`` or ``X-API-Key``.

    A credential is taken from these headers alone, never from the query string (2026-07-28 basic/authorization,
    "Token Requirements"), and only its digest is kept. Of each credential the outcome is remembered for as long as
    it holds: an API key's until its ``not_after``, a token's until its ``exp`` but no longer than
    ``jwks_ttl_seconds``, so that a key that the issuer withdrew ends the tokens signed with it.
    """

    def __init__(self, settings: AuthSettings, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._settings = settings
        self._keys = Keys(settings.api_keys)
        self._verifier: Verifier | None = None
        self._verifier = self._verifier_of(settings)
        self._anonymous = Principal(ANONYMOUS) if settings.open else None
        self._remembered: dict[bytes, _Entry] = {}

    @property
    def settings(self) -> AuthSettings:
        """The settings in force."""
        return self._settings

    def known(
        self, authorization: str, api_key: str, resource: str, memory: dict[str, Any] | None = None
    ) -> Principal | None:
        """The principal of a credential that was found good before and still is; None to ask `authenticate`.

        ``authorization`` and ``api_key`` are the values of the two headers, empty where missing; ``resource`` as
        for `authenticate`. Without configured credentials everyone is ``anonymous``. ``memory`` is the client
        connection's: the credential that came last by it need not be digested again.
        """
        if self._anonymous is not None:
            return self._anonymous
        given = (authorization, api_key, resource)
        last = memory.get(_LAST) if memory else None
        if last and last[0] == given and last[1] is self._remembered:
            entry: _Entry | None = last[2]
        else:
            entry = self._remembered.get(_fingerprint(*given))
            if memory is not None and entry is not None:
                memory[_LAST] = given, self._remembered, entry
        if entry is None or entry.expires <= self._clock():
            return None
        return entry.principal

    async def authenticate(self, authorization: str, api_key: str, resource: str) -> Principal:
        """The principal of a request to ``resource``, the path of an MCP endpoint, such as ``/mcp``.

        Raises:
            Unauthorized: with the challenge to answer with.
        """
        if self._anonymous is not None:
            return self._anonymous
        while True:
            settings, refusal = self._settings, None
            try:
                entry = await self._check(authorization, api_key, resource)
            except Unauthorized as error:
                refusal = error
            if self._settings is settings:
                break
            # The settings changed while the issuer was asked: only the new ones count.
        if refusal is not None:
            raise refusal
        self._remember(_fingerprint(authorization, api_key, resource), entry)
        return entry.principal

    def insufficient_scope(self, resource: str, scopes: Iterable[str], message: str = "") -> Unauthorized:
        """What to answer where an operation at ``resource`` needs ``scopes``, all of them at once
        (2026-07-28 basic/authorization, "Runtime Insufficient Scope Errors")."""
        needed = tuple(scopes)
        message = message or f"the token lacks a scope; needed: {' '.join(needed)}"
        return self._refusal(403, resource, "insufficient_scope", message, needed)

    def update(self, settings: AuthSettings) -> None:
        """Go by ``settings`` from now on. An unchanged issuer's keys are kept; every credential is checked anew."""
        self._settings = settings
        self._keys = Keys(settings.api_keys)
        self._verifier = self._verifier_of(settings)
        self._anonymous = Principal(ANONYMOUS) if settings.open else None
        self._remembered = {}

    async def close(self) -> None:
        """End what is under way in the background."""
        if self._verifier is not None:
            await self._verifier.keys.close()

    async def _check(self, authorization: str, api_key: str, resource: str) -> _Entry:
        if self._anonymous is not None:
            return _Entry(self._anonymous, self._clock())
        scheme, _, token = authorization.partition(" ")
        secret = token.strip() if scheme.lower() == "bearer" else api_key.strip()
        required = self._settings.oauth.required_scopes if self._settings.oauth else ()
        if not secret:
            raise self._refusal(401, resource, "", "a credential is needed: Authorization: Bearer", required)
        now = self._clock()
        key = self._keys.find(secret)
        if key is not None:
            if not key.not_before <= now < key.not_after:
                text = "the key is not valid yet" if now < key.not_before else "the key has expired"
                raise self._refusal(401, resource, "invalid_token", text, required)
            return _Entry(Principal(key.name, key.profile), key.not_after)
        if self._verifier is None or scheme.lower() != "bearer":
            raise self._refusal(401, resource, "invalid_token", "the key is not known", required)
        found = await self._verify(self._verifier, secret, resource)
        if missing := [scope for scope in required if scope not in found.principal.scopes]:
            text = f"the token lacks the scope {' '.join(missing)}"
            raise self._refusal(403, resource, "insufficient_scope", text, required)
        expires = min(found.expires, now + self._verifier.settings.jwks_ttl_seconds)
        return _Entry(found.principal, expires, token=True)

    async def _verify(self, verifier: Verifier, token: str, resource: str) -> Token:
        base = self._settings.resource_url
        path = "" if resource == "/" else resource
        try:
            # A token for the whole gateway is good for each of its endpoints; one for an endpoint for it alone.
            return await verifier.verify(token, (base + path, base, f"{base}/"))
        except InvalidToken as error:
            required = verifier.settings.required_scopes
            raise self._refusal(401, resource, "invalid_token", str(error), required) from None
        except IssuerUnavailable:
            # Why, is in the gateway's log: it is nothing for a client that nobody knows yet.
            text = "the issuer's keys cannot be had now, so the token cannot be checked; try again"
            raise Unauthorized(503, "", text, RETRY_AFTER_SECONDS) from None

    def _remember(self, fingerprint: bytes, entry: _Entry) -> None:
        self._remembered.pop(fingerprint, None)
        if len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[fingerprint] = entry

    def _forget_tokens(self) -> None:
        """A token whose key the issuer withdrew must not stay good."""
        self._remembered = {known: entry for known, entry in self._remembered.items() if not entry.token}

    def _verifier_of(self, settings: AuthSettings) -> Verifier | None:
        if settings.oauth is None:
            return None
        before = self._verifier
        if before is not None and before.keys.source == settings.oauth.source:
            return Verifier(settings.oauth, before.keys)
        return Verifier(settings.oauth, KeySet(settings.oauth.source, self._forget_tokens))

    def _refusal(self, status: int, resource: str, error: str, text: str, scopes: Iterable[str]) -> Unauthorized:
        value = challenge(self._settings, resource, error=error, description=text if error else "", scopes=scopes)
        return Unauthorized(status, value, text)


def _fingerprint(authorization: str, api_key: str, resource: str) -> bytes:
    """What a credential is remembered by: a token good for one resource may not be for another. No header can
    hold the NUL in between."""
    return hashlib.sha256(f"{authorization}\0{api_key}\0{resource}".encode("utf-8", "surrogateescape")).digest()
