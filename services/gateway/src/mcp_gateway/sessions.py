"""Session ids of the 2025 protocol that any gateway replica can open.

An id is the session itself: version, principal and time of issue, encrypted and authenticated with
AES-GCM under a key all replicas hold. There is no store, and a replica may die at any moment.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
CONTEXT = b"mcp-gateway session 1"


@dataclass(frozen=True)
class Session:
    """A client session: ``id`` names it in pools and logs; the sealed form is what the client holds."""

    id: str
    version: str
    principal: str
    endpoint: str
    issued: int


class Sealer:
    """Seals with the first key, opens with any: put a new key first to rotate.

    Args:
        keys: key material of any length; without any a random key serves this process alone.
        ttl_seconds: how long an id is good.
    """

    def __init__(self, keys: tuple[bytes, ...], ttl_seconds: int) -> None:
        material = keys or (os.urandom(32),)
        self._ciphers = [AESGCM(hashlib.sha256(CONTEXT + key).digest()) for key in material]
        self._ttl = ttl_seconds
        self._ended: dict[str, float] = {}

    def new(self, version: str, principal: str, endpoint: str) -> tuple[Session, str]:
        """A fresh session and its sealed id (visible ASCII, as the transport demands)."""
        session = Session(os.urandom(9).hex(), version, principal, endpoint, int(time.time()))
        nonce = os.urandom(NONCE_BYTES)
        text = json.dumps([session.id, version, principal, endpoint, session.issued]).encode()
        sealed = nonce + self._ciphers[0].encrypt(nonce, text, CONTEXT)
        return session, base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open(self, sealed: str, principal: str, endpoint: str) -> Session | None:
        """The session, or None where the id is forged, expired, ended or another principal's or endpoint's."""
        try:
            raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
        except ValueError:
            return None
        for cipher in self._ciphers:
            try:
                text = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], CONTEXT)
            except (InvalidTag, ValueError):
                continue
            session = Session(*json.loads(text))
            good = session.principal == principal and session.endpoint == endpoint
            return (
                session if good and time.time() - session.issued < self._ttl and session.id not in self._ended else None
            )
        return None

    def end(self, session: Session) -> None:
        """Refuse the session from now on, on this replica; elsewhere its id ends with its time to live."""
        now = time.time()
        self._ended = {key: until for key, until in self._ended.items() if until > now}
        self._ended[session.id] = session.issued + self._ttl
