"""Names of the merged endpoint: ``<server>__<name>``, stable and at most 64 characters.

A name depends on its server's name and its own alone, never on who else is there. One that is too long or
has characters that model interfaces refuse keeps its beginning and ends in a digest of the whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

MAX_LENGTH = 64
SEPARATOR = "__"
DIGEST_LENGTH = 8
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")
_SHORTENED = re.compile(rf"_[0-9a-f]{{{DIGEST_LENGTH}}}")


def exposed(server: str, name: str) -> str:
    """The merged name of ``name`` of ``server``."""
    full = f"{server}{SEPARATOR}{name}"
    if len(full) <= MAX_LENGTH and not _UNSAFE.search(full):
        return full
    digest = hashlib.sha256(full.encode()).hexdigest()[:DIGEST_LENGTH]
    return f"{_UNSAFE.sub('_', full)[: MAX_LENGTH - DIGEST_LENGTH - 1]}_{digest}"


def split(merged: str, servers: Iterable[str]) -> tuple[str, str] | None:
    """Server and the rest of a merged name; the rest is the original name unless it was shortened.

    Server names hold no ``__``, so the first one ends the prefix.
    """
    server, separator, rest = merged.partition(SEPARATOR)
    return (server, rest) if separator and rest and server in servers else None


def may_be_shortened(merged: str) -> bool:
    """Whether the name ends as ``exposed`` ends what it shortens: then only the server's list can tell."""
    return bool(_SHORTENED.fullmatch(merged[-DIGEST_LENGTH - 1 :]))


def scheme(server: str) -> str:
    """The server's part of a merged URI's scheme, which may not hold ``_`` (RFC 3986, section 3.1)."""
    return server.replace("_", "-")


def exposed_uri(server: str, uri: str) -> str:
    """A resource's URI with its server in the scheme: ``<server>+<uri>``. Any replica can route it."""
    return f"{scheme(server)}+{uri}"


def split_uri(uri: str, servers: Iterable[str]) -> tuple[str, str] | None:
    """Server and original URI of a merged one."""
    prefix, separator, rest = uri.partition("+")
    if not separator or not rest:
        return None
    return next(((server, rest) for server in servers if scheme(server) == prefix), None)
