"""Who is calling: API keys and OAuth 2.1 access tokens, and what a client without either is told.

`settings` reads the ``auth:`` part of the configuration, `keys` compares API keys, `oauth` checks tokens with the
keys that `jwks` keeps, `metadata` is what clients discover the authorization server by, and `authenticator`
holds them together and remembers who was seen.
"""

from __future__ import annotations

from mcp_gateway.auth.authenticator import ANONYMOUS, Authenticator, Unauthorized
from mcp_gateway.auth.keys import ApiKey, digest
from mcp_gateway.auth.oauth import OAuthSettings
from mcp_gateway.auth.settings import AuthSettings, read

__all__ = [
    "ANONYMOUS",
    "ApiKey",
    "AuthSettings",
    "Authenticator",
    "OAuthSettings",
    "Unauthorized",
    "digest",
    "read",
]
