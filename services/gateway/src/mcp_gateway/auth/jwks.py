"""An issuer's public keys: found by its metadata, kept, renewed behind the requests' backs, outlived for a while.

RFC 7517; RFC 8414, section 3; OpenID Connect Discovery 1.0, section 4; 2026-07-28
basic/authorization/authorization-server-discovery, "Authorization Server Metadata Discovery".
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from mcp_gateway.auth.fetch import FetchError, fetch_json, is_safe_url

log = logging.getLogger("mcp_gateway.auth")

FETCH_SECONDS = 5.0
# An unknown kid makes the gateway ask again, but not for everyone who makes one up.
UNKNOWN_KID_SECONDS = 10.0
RETRY_SECONDS = 5.0
MAX_KEYS = 100
MIN_RSA_BITS = 2048  # RFC 7518, section 3.3

# Which kind of key an algorithm is good with: the token's header may not choose another (RFC 8725, section 3.1).
KEY_TYPES = {
    **{f"{family}{bits}": ("RSA", "") for family in ("RS", "PS") for bits in (256, 384, 512)},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", ""),
}


class IssuerUnavailable(Exception):
    """No keys of the issuer are at hand, so a token can be called neither good nor bad."""


@dataclass(frozen=True)
class Source:
    """Where an issuer's keys are.

    Attributes:
        jwks_url: empty to ask the issuer's metadata.
        ca_file: PEM file of the authorities to trust instead of the system's; empty for those.
        ttl_seconds: how long keys are used before they are fetched again.
        stale_seconds: how much longer they are used while the issuer does not answer.
    """

    issuer: str
    jwks_url: str = ""
    ca_file: str = ""
    ttl_seconds: float = 300.0
    stale_seconds: float = 3600.0


class KeySet:
    """The keys of one issuer. Not safe across event loops."""

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self.source = source
        self.changes = 0  # grows with each set of keys that differs from the one before
        self._clock = clock
        self._keys: dict[str, list[jwt.PyJWK]] = {}
        self._document: Any = None
        self._fetched = float("-inf")
        self._failed = float("-inf")
        self._asked_unknown = float("-inf")
        self._failing = ""
        self._task: asyncio.Task[None] | None = None

    async def find(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key ``kid`` if it is good for ``algorithm``; without a ``kid`` the only key that is.

        Raises:
            IssuerUnavailable: no keys that are young enough, and none to be had.
        """
        age = self._clock() - self._fetched
        if age > self.source.ttl_seconds:
            if age > self.source.ttl_seconds + self.source.stale_seconds:
                await self._refresh()
                if self._clock() - self._fetched > self.source.ttl_seconds + self.source.stale_seconds:
                    raise IssuerUnavailable(self._failing or f"{self.source.issuer}: no keys yet")
            else:
                self._start()
        if kid is not None and kid not in self._keys:
            now = self._clock()
            if now - self._asked_unknown >= UNKNOWN_KID_SECONDS:
                self._asked_unknown = now
                await self._refresh()
            elif self._task is not None:
                await self._refresh()  # under way already: it may bring the key
        return self._pick(kid, algorithm)

    async def close(self) -> None:
        """End a fetch under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _pick(self, kid: str | None, algorithm: str) -> jwt.PyJWK | None:
        named = self._keys.get(kid, []) if kid is not None else [key for keys in self._keys.values() for key in keys]
        good = [key for key in named if _suits(key, algorithm)]
        return good[0] if len(good) == 1 or (good and kid is not None) else None

    def _start(self) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one unless the last failed just now."""
        if self._task is None and self._clock() - self._failed >= RETRY_SECONDS:
            self._task = asyncio.get_running_loop().create_task(self._fetch())
        return self._task

    async def _refresh(self) -> None:
        if (task := self._start()) is not None:
            # One client that goes away must not end what others wait for.
            await asyncio.shield(task)

    async def _fetch(self) -> None:
        try:
            context = ssl.create_default_context(cafile=self.source.ca_file) if self.source.ca_file else None
            url = self.source.jwks_url or await self._discover(context)
            document = (await fetch_json(url, context, FETCH_SECONDS)).get("keys")
            keys = _parse(document)
            if not keys:
                raise FetchError(f"{url}: holds no public key that tokens could be checked with")
        except (FetchError, OSError) as error:
            self._failed = self._clock()
            if not self._failing:
                log.warning("keys of issuer %s cannot be fetched: %s", self.source.issuer, error)
            self._failing = str(error)
        else:
            if self._failing:
                log.info("keys of issuer %s can be fetched again", self.source.issuer)
            self._failing, self._fetched = "", self._clock()
            if document != self._document:
                self._keys, self._document = keys, document
                self.changes += 1
        finally:
            self._task = None

    async def _discover(self, context: ssl.SSLContext | None) -> str:
        issuer, wrong = self.source.issuer, []
        for url in metadata_urls(issuer):
            try:
                metadata = await fetch_json(url, context, FETCH_SECONDS)
            except FetchError as error:
                wrong.append(str(error))
                continue
            # Not identical: the document is somebody else's and must not be used (RFC 8414, section 3.3).
            if metadata.get("issuer") != issuer:
                wrong.append(f"{url}: its issuer is {str(metadata.get('issuer'))[:200]!r}, not {issuer!r}")
                continue
            found = metadata.get("jwks_uri")
            if isinstance(found, str) and is_safe_url(found):
                return found
            wrong.append(f"{url}: jwks_uri {str(found)[:200]!r} is neither https nor on loopback")
        raise FetchError("; ".join(wrong))


def metadata_urls(issuer: str) -> tuple[str, ...]:
    """Where an issuer's metadata may be, in the order to try."""
    parts = urlsplit(issuer)
    base, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    urls = [f"{base}/.well-known/{name}{path}" for name in ("oauth-authorization-server", "openid-configuration")]
    return (*urls, f"{base}{path}/.well-known/openid-configuration") if path else tuple(urls)


def _parse(document: Any) -> dict[str, list[jwt.PyJWK]]:
    """Public signature keys by ``kid``. What else an issuer publishes (other uses, unknown kinds) is passed over."""
    keys: dict[str, list[jwt.PyJWK]] = {}
    for item in (document if isinstance(document, list) else [])[:MAX_KEYS]:
        # A symmetric key in public would let anyone sign; it is no key.
        if not isinstance(item, dict) or item.get("kty") not in ("RSA", "EC", "OKP"):
            continue
        if item.get("use", "sig") != "sig" or "verify" not in item.get("key_ops", ["verify"]):
            continue
        try:
            key = jwt.PyJWK(item)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError):
            continue
        if isinstance(key.key, RSAPublicKey) and key.key.key_size < MIN_RSA_BITS:
            continue
        keys.setdefault(str(item.get("kid", "")), []).append(key)
    return keys


def _suits(key: jwt.PyJWK, algorithm: str) -> bool:
    data: dict[str, Any] = key._jwk_data
    kind, curve = KEY_TYPES[algorithm]
    if data.get("kty") != kind or data.get("alg", algorithm) != algorithm:
        return False
    if kind == "OKP":
        return data.get("crv") in ("Ed25519", "Ed448")
    return not curve or data.get("crv") == curve
