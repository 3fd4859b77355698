"""The ``auth:`` part of the configuration."""

from __future__ import annotations

from dataclasses import dataclass

from mcp_gateway.auth.keys import ApiKey, read_keys
from mcp_gateway.auth.oauth import OAuthSettings, read_oauth
from mcp_gateway.reader import Reader, parts_of


@dataclass(frozen=True)
class AuthSettings:
    """Who may come in.

    Attributes:
        api_keys: secrets are known by digest only.
        oauth: the authorization server whose tokens are good here; None for none.
        resource_url: the gateway's public base URL, without a slash at the end; what its tokens are issued for.
    """

    api_keys: tuple[ApiKey, ...] = ()
    oauth: OAuthSettings | None = None
    resource_url: str = ""

    @property
    def open(self) -> bool:
        """Whether anyone may come in."""
        return not self.api_keys and self.oauth is None

    @property
    def profiles(self) -> frozenset[str]:
        """Names of the client profiles that credentials are mapped to."""
        named = {key.profile for key in self.api_keys}
        if self.oauth is not None:
            named.update(self.oauth.profiles.values())
        return frozenset(named - {""})


def read(reader: Reader) -> AuthSettings:
    """The settings under ``auth:``; mistakes are noted in the reader, with key, value and fix."""
    settings = AuthSettings(
        api_keys=read_keys(reader),
        oauth=read_oauth(reader.section("oauth")) if reader.left.get("oauth") is not None else None,
        resource_url=reader.take("resource_url", str, "").rstrip("/"),
    )
    reader.left.pop("oauth", None)
    reader.done()
    url = parts_of(settings.resource_url)
    if settings.resource_url and (
        url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment or url.username
    ):
        reader.errors.append(
            f"{reader.at('resource_url')}: {settings.resource_url!r} is no base URL; "
            "write scheme, host and path only, such as https://mcp.example.com"
        )
    if settings.oauth is not None and not settings.resource_url:
        reader.errors.append(
            f"{reader.at('resource_url')}: missing; with auth.oauth, clients must learn for which URL they want a "
            "token: give the gateway's public base URL, such as https://mcp.example.com"
        )
    return settings
