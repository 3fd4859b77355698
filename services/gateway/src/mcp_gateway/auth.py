"""Who is calling: API keys, compared by digest in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from mcp_gateway.config import ApiKey

ANONYMOUS = "anonymous"


def digest(secret: str) -> str:
    """SHA-256 in hexadecimal: generated keys have full entropy, so a slow hash would add cost and no safety."""
    return hashlib.sha256(secret.encode()).hexdigest()


class Authenticator:
    """Names the principal of a request from ``Authorization: Bearer`` or ``X-API-Key``."""

    def __init__(self, keys: tuple[ApiKey, ...]) -> None:
        self._keys = keys

    def principal(self, headers: Mapping[str, str]) -> str | None:
        """The key's name; ``anonymous`` where no keys are configured; None for a missing or wrong key."""
        if not self._keys:
            return ANONYMOUS
        scheme, _, token = headers.get("authorization", "").partition(" ")
        secret = token.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        if not secret:
            return None
        given = digest(secret)
        found = [key.name for key in self._keys if hmac.compare_digest(key.sha256, given)]
        return found[0] if found else None
