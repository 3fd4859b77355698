"""Access tokens: the gateway as an OAuth 2.1 resource server.

2026-07-28 basic/authorization, "Token Handling"; basic/authorization/security-considerations, "Token Audience
Binding and Validation"; RFC 9068, section 4; RFC 8725.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt

from mcp_gateway.auth.fetch import is_safe_url
from mcp_gateway.auth.jwks import KEY_TYPES, KeySet, Source
from mcp_gateway.principal import Principal
from mcp_gateway.reader import Reader

ALGORITHMS = ("RS256", "ES256", "EdDSA")
MAX_TOKEN_BYTES = 16384
PREFIX = "oauth:"
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749, section 3.3
_SUBJECT = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,256}")


@dataclass(frozen=True)
class OAuthSettings:
    """Whose tokens are good, and what they say.

    Attributes:
        issuer: compared with the token's ``iss``, character by character.
        audience: one of them must be in ``aud``; empty for the resource that the request is for.
        jwks_url: where the issuer's keys are; empty to ask its metadata.
        algorithms: accepted signature algorithms; asymmetric ones only.
        required_scopes: every token must have all of them.
        scope_includes: a scope and those that having it implies.
        principal_claim: the claim that names the principal.
        profile_claim: the claim, a string or a list of them, that ``profiles`` maps to a client profile.
        profiles: claim value to profile; of several that apply, the first in this order.
        ca_file: PEM file of the authorities to trust for the issuer; empty for the system's.
        leeway_seconds: how far clocks may be apart.
        jwks_ttl_seconds: how long fetched keys, and tokens checked with them, are taken for good.
        jwks_stale_seconds: how much longer while the issuer does not answer.
    """

    issuer: str
    audience: tuple[str, ...] = ()
    jwks_url: str = ""
    algorithms: tuple[str, ...] = ALGORITHMS
    required_scopes: tuple[str, ...] = ()
    scope_includes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    principal_claim: str = "sub"
    profile_claim: str = ""
    profiles: Mapping[str, str] = field(default_factory=dict)
    ca_file: str = ""
    leeway_seconds: float = 30.0
    jwks_ttl_seconds: float = 300.0
    jwks_stale_seconds: float = 3600.0

    @property
    def source(self) -> Source:
        return Source(self.issuer, self.jwks_url, self.ca_file, self.jwks_ttl_seconds, self.jwks_stale_seconds)


class InvalidToken(Exception):
    """The token is not good here; the message says why and holds nothing of the token."""


@dataclass(frozen=True, slots=True)
class Token:
    """A checked token: whose it is, and until when (seconds since 1970, the leeway included)."""

    principal: Principal
    expires: float


class Verifier:
    """Checks tokens by the settings, with the keys of the issuer."""

    def __init__(self, settings: OAuthSettings, keys: KeySet) -> None:
        self.settings = settings
        self.keys = keys

    async def verify(self, token: str, resources: tuple[str, ...]) -> Token:
        """The principal of ``token``; ``resources`` are the audiences that are good where none is configured.

        Raises:
            InvalidToken: it is not good.
            IssuerUnavailable: whether it is good cannot be told now.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        try:
            header = jwt.get_unverified_header(token)
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise InvalidToken("neither a known key nor a JSON Web Token") from None
        algorithm, kid = header.get("alg"), header.get("kid")
        # Before anything is looked up: the header is the sender's word (RFC 8725, sections 2.1 and 3.1).
        if algorithm not in self.settings.algorithms:
            raise InvalidToken("the token's algorithm is not allowed")
        if kid is not None and (not isinstance(kid, str) or len(kid) > 512):
            raise InvalidToken("the token's kid is no key's name")
        key = await self.keys.find(kid, algorithm)
        if key is None:
            raise InvalidToken("the token's key is not among the issuer's")
        return self._principal(self._claims(token, key, algorithm, resources))

    def _claims(self, token: str, key: jwt.PyJWK, algorithm: str, resources: tuple[str, ...]) -> dict[str, Any]:
        try:
            return jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self.settings.audience or resources,
                issuer=self.settings.issuer,
                leeway=self.settings.leeway_seconds,
                options={"require": ["exp", "iss", "aud"], "verify_jti": False},
            )
        except jwt.ExpiredSignatureError:
            raise InvalidToken("the token has expired") from None
        except jwt.ImmatureSignatureError:
            raise InvalidToken("the token is not valid yet") from None
        except jwt.InvalidAudienceError:
            raise InvalidToken("the token was issued for another resource") from None
        except jwt.InvalidIssuerError:
            raise InvalidToken("the token is from another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise InvalidToken(f"the token has no {error.claim}") from None
        except jwt.InvalidSignatureError:
            raise InvalidToken("the token's signature is wrong") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            raise InvalidToken("the token is malformed") from None

    def _principal(self, claims: dict[str, Any]) -> Token:
        settings = self.settings
        # A token bound to its holder's key is no bearer token (RFC 9449, section 7.2; RFC 8705, section 3).
        if claims.get("cnf"):
            raise InvalidToken("the token is bound to a key of its holder, which cannot be checked here")
        subject = claims.get(settings.principal_claim)
        if not isinstance(subject, str) or not _SUBJECT.fullmatch(subject):
            raise InvalidToken(f"the token's {settings.principal_claim} names nobody")
        # Compared in time to the cache's entry, so a float: what cannot be one was refused above.
        expires = float(claims["exp"]) + settings.leeway_seconds
        if expires <= time.time():
            raise InvalidToken("the token has expired")
        return Token(Principal(f"{PREFIX}{subject}", self._profile(claims), self._scopes(claims)), expires)

    def _scopes(self, claims: dict[str, Any]) -> frozenset[str]:
        """Scopes granted, those that they imply included (2026-07-28 basic/authorization, "Step-Up
        Authorization Flow": servers must account for hierarchies)."""
        granted = _words(claims.get("scope")) | _words(claims.get("scp"))
        todo = list(granted)
        while todo:
            for implied in self.settings.scope_includes.get(todo.pop(), ()):
                if implied not in granted:
                    granted.add(implied)
                    todo.append(implied)
        return frozenset(granted)

    def _profile(self, claims: dict[str, Any]) -> str:
        if not self.settings.profile_claim:
            return ""
        value = claims.get(self.settings.profile_claim)
        values = value if isinstance(value, list) else [value]
        return next((profile for claimed, profile in self.settings.profiles.items() if claimed in values), "")


def _words(claim: Any) -> set[str]:
    if isinstance(claim, str):
        return set(claim.split())
    return {item for item in claim if isinstance(item, str)} if isinstance(claim, list) else set()


def read_oauth(reader: Reader) -> OAuthSettings:
    """The settings under ``auth.oauth``; mistakes are noted in the reader."""
    audience = reader.take("audience", (str, list), [])
    includes = reader.take("scope_includes", dict, {})
    settings = OAuthSettings(
        issuer=reader.take("issuer", str, ""),
        audience=(audience,) if isinstance(audience, str) else tuple(str(item) for item in audience),
        jwks_url=reader.take("jwks_url", str, ""),
        algorithms=reader.words("algorithms", ALGORITHMS),
        required_scopes=reader.words("required_scopes", ()),
        scope_includes={
            str(scope): tuple(str(item) for item in (implied if isinstance(implied, list) else [implied]))
            for scope, implied in includes.items()
        },
        principal_claim=reader.take("principal_claim", str, "sub", lambda v: bool(v)),
        profile_claim=reader.take("profile_claim", str, ""),
        profiles={str(value): str(name) for value, name in reader.take("profiles", dict, {}).items()},
        ca_file=reader.take("ca_file", str, ""),
        leeway_seconds=float(reader.take("leeway_seconds", (int, float), 30.0, lambda v: 0 <= v <= 600)),
        jwks_ttl_seconds=float(reader.take("jwks_ttl_seconds", (int, float), 300.0, lambda v: 1 <= v <= 86400)),
        jwks_stale_seconds=float(reader.take("jwks_stale_seconds", (int, float), 3600.0, lambda v: 0 <= v <= 86400)),
    )
    reader.done()
    reader.errors += _mistakes(settings, reader)
    return settings


def _mistakes(settings: OAuthSettings, reader: Reader) -> list[str]:
    errors = []
    if not settings.issuer:
        errors.append(f"{reader.at('issuer')}: missing; give the authorization server's issuer URL")
    for key, url in (("issuer", settings.issuer), ("jwks_url", settings.jwks_url)):
        if url and not is_safe_url(url):
            errors.append(f"{reader.at(key)}: {url!r} is not allowed; keys are fetched by https, or http on loopback")
    for name in settings.algorithms:
        if name not in KEY_TYPES:
            errors.append(
                f"{reader.at('algorithms')}: {name!r} is not allowed; use some of {', '.join(KEY_TYPES)} "
                "(never none, and never HS*: a public key would be the secret)"
            )
    if not settings.algorithms:
        errors.append(f"{reader.at('algorithms')}: empty; no token would be good. Leave it out for the default")
    for key, scopes in (
        ("required_scopes", settings.required_scopes),
        *((f"scope_includes.{scope}", (scope, *implied)) for scope, implied in settings.scope_includes.items()),
    ):
        errors += [f"{reader.at(key)}: {problem}" for scope in scopes if (problem := scope_mistake(scope))]
    if bool(settings.profile_claim) != bool(settings.profiles):
        errors.append(f"{reader.at('profiles')}: give profile_claim and profiles together, or neither")
    if settings.ca_file and not Path(settings.ca_file).is_file():
        errors.append(f"{reader.at('ca_file')}: {settings.ca_file}: no such file")
    return errors


def scope_mistake(scope: str) -> str:
    """What is wrong with a configured scope; empty for nothing."""
    if scope == "offline_access":
        return "'offline_access' asks for refresh tokens, which no resource requires; leave it out"
    return "" if _SCOPE.fullmatch(scope) else f"{scope!r} is no scope; a scope has no spaces, quotes or backslashes"
