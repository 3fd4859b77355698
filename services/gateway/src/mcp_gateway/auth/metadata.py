"""What a client finds the authorization server by: the protected resource's document and the challenge.

2026-07-28 basic/authorization and basic/authorization/authorization-server-discovery; 2025-11-25
basic/authorization; RFC 9728; RFC 6750, section 3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from mcp_gateway.auth.settings import AuthSettings
from mcp_gateway.protocol import Json

WELL_KNOWN = "/.well-known/oauth-protected-resource"
# What may stand in a resource's path: the document must not repeat whatever a client makes up.
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_PRINTABLE = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


def document(settings: AuthSettings, path: str) -> Json | None:
    """The protected resource metadata that the request path ``path`` asks for (RFC 9728, section 3).

    ``path`` is ``/.well-known/oauth-protected-resource``, alone or followed by the path of a resource. Where
    ``resource_url`` has a path of its own, it may stand before the resource's (as RFC 9728, section 3.1 puts it)
    or be missing (a proxy in front took it off): the answer is the same.

    Returns:
        None where no authorization server is configured (the document must name one, so there is none to
        serve), or where ``path`` is no such path. Whether the resource exists is for the caller to know.
    """
    oauth = settings.oauth
    if oauth is None or not path.startswith(WELL_KNOWN):
        return None
    rest = path[len(WELL_KNOWN) :].rstrip("/")
    if not _PATH.fullmatch(rest) or "/.." in rest:
        return None
    prefix = urlsplit(settings.resource_url).path
    if prefix and (rest == prefix or rest.startswith(f"{prefix}/")):
        rest = rest[len(prefix) :]
    answer: Json = {
        "resource": settings.resource_url + rest,
        "authorization_servers": [oauth.issuer],
        "bearer_methods_supported": ["header"],
        "resource_name": "MCP gateway",
    }
    if scopes := _asked(oauth.required_scopes):
        answer["scopes_supported"] = list(scopes)
    return answer


def document_url(settings: AuthSettings, resource: str) -> str:
    """Where the document of the resource at path ``resource`` is: the well-known part follows the host."""
    base = urlsplit(settings.resource_url)
    return f"{base.scheme}://{base.netloc}{WELL_KNOWN}{base.path}{'' if resource == '/' else resource}"


def challenge(
    settings: AuthSettings,
    resource: str,
    *,
    error: str = "",
    description: str = "",
    scopes: Iterable[str] = (),
) -> str:
    """The value of ``WWW-Authenticate``.

    Without ``error`` for a client that sent no credential (RFC 6750, section 3.1). ``scopes`` are all that the
    operation needs, in one challenge; ``offline_access`` is never among them (2026-07-28 basic/authorization,
    "Refresh Tokens").
    """
    parts = ['Bearer realm="mcp"']
    if settings.oauth is not None:
        parts.append(f'resource_metadata="{document_url(settings, resource)}"')
    if error:
        parts.append(f'error="{error}"')
    if description:
        parts.append(f'error_description="{_PRINTABLE.sub("", description)}"')
    if settings.oauth is not None and (asked := _asked(scopes)):
        parts.append(f'scope="{" ".join(asked)}"')
    return ", ".join(parts)


def _asked(scopes: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(scope for scope in scopes if scope != "offline_access"))
