"""Passes: whoever deploys the fleet may come in where clients may not, while maintenance lasts and to canaries.

A pass is ``<good until>.<HMAC-SHA256>``, made with a session key, which the deploying controller and the gateway
replicas have and no client has. It says nothing of who may call what: a credential is needed besides.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable

HEADER = "x-mcp-pass"
CONTEXT = b"mcp-gateway pass 1 "


def made(key: bytes, until: int) -> str:
    """A pass that is good until then, in seconds since 1970."""
    return f"{until}.{hmac.new(key, CONTEXT + str(until).encode(), hashlib.sha256).hexdigest()}"


def good(value: str, keys: Iterable[bytes]) -> bool:
    """Whether the pass is one, and its time is not over."""
    until = value.partition(".")[0]
    if not (until.isascii() and until.isdigit()) or len(until) > 12 or int(until) < time.time():
        return False
    return any(hmac.compare_digest(value.encode(), made(key, int(until)).encode()) for key in keys)
