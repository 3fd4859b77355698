"""Session ids of the 2025 protocol that any gateway replica can open.

An id is the session itself: version, principal, endpoint, time of issue and the sessions it holds at sticky
servers, encrypted and authenticated with AES-GCM under a key that all replicas hold. There is no store, and
a replica may die at any moment.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE_BYTES = 12
CONTEXT = b"mcp-gateway session 2"


@dataclass(frozen=True)
class Pin:
    """A session at a sticky server: the replica's URL, the id it gave and the version agreed on."""

    url: str
    id: str
    version: str


@dataclass(frozen=True)
class Session:
    """A client session: ``id`` names it in pools and logs; the sealed form is what the client holds.

    ``endpoint`` is the path it was opened at and the only one it is good for; ``issued`` is in seconds since
    the epoch; ``pins`` are by server name.
    """

    id: str
    version: str
    principal: str
    endpoint: str
    issued: int
    pins: Mapping[str, Pin] = field(default_factory=dict)


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

    @staticmethod
    def new_id() -> str:
        """An id for a session to come; nobody can guess it."""
        return os.urandom(9).hex()

    def seal(self, session: Session) -> str:
        """The sealed form, in visible ASCII as the transport demands (2025-11-25 basic/transports)."""
        pins = [[name, pin.url, pin.id, pin.version] for name, pin in session.pins.items()]
        fields = [session.id, session.version, session.principal, session.endpoint, session.issued, pins]
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + self._ciphers[0].encrypt(nonce, orjson.dumps(fields), CONTEXT)
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

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
            identity, version, owner, where, issued, pins = orjson.loads(text)
            held = {name: Pin(*rest) for name, *rest in pins}
            session = Session(identity, version, owner, where, issued, held)
            mine = session.principal == principal and session.endpoint == endpoint
            alive = time.time() - session.issued < self._ttl and session.id not in self._ended
            return session if mine and alive else None
        return None

    def end(self, session: Session) -> None:
        """Refuse the session from now on, on this replica; elsewhere its id ends with its time to live."""
        now = time.time()
        self._ended = {key: until for key, until in self._ended.items() if until > now}
        self._ended[session.id] = session.issued + self._ttl
