"""What clients hold for the gateway, sealed: session ids of 2025, and whatever else any gateway replica must be able
to open: the states of parked calls, the ids of questions and tasks.

A sealed value is encrypted and authenticated with AES-GCM under a key that all replicas hold, for one purpose.
There is no store, and a replica may die at any moment.
"""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mcp_gateway.protocol import Json

NONCE_BYTES = 12
CONTEXT = b"mcp-gateway session 2"
MAX_SEALED_CHARS = 32 * 1024
REMEMBERED = 10_000
MAX_ENDED = 50_000


@dataclass(frozen=True)
class Pin:
    """A session at a sticky server: the replica's URL, the id it gave and the version agreed on."""

    url: str
    id: str
    version: str


@dataclass(frozen=True)
class Address:
    """Where the response to a server's own request goes: its session with us, and its id for the request."""

    server: str
    url: str
    session: str
    version: str
    id: Any


@dataclass(frozen=True)
class Session:
    """A client session: ``id`` names it in pools and logs; the sealed form is what the client holds.

    ``endpoint`` is the path it was opened at and the only one it is good for; ``issued`` is in seconds since
    the epoch; ``pins`` are by server name; ``capabilities`` are what the client declared of those that concern
    servers.
    """

    id: str
    version: str
    principal: str
    endpoint: str
    issued: int
    pins: Mapping[str, Pin] = field(default_factory=dict)
    capabilities: Json = field(default_factory=dict)


class Sealer:
    """Seals with the first key, opens with any: put a new key first to rotate.

    Args:
        keys: key material of any length; without any a random key serves this process alone.
        ttl_seconds: how long a session id is good.
    """

    def __init__(self, keys: tuple[bytes, ...], ttl_seconds: int) -> None:
        material = keys or (os.urandom(32),)
        self._ciphers = [AESGCM(hashlib.sha256(CONTEXT + key).digest()) for key in material]
        self._ttl = ttl_seconds
        self._ended: OrderedDict[str, int] = OrderedDict()
        # Sessions opened before: a client sends the same id with each of its requests.
        self._opened: OrderedDict[str, Session] = OrderedDict()
        self._sealed: dict[str, str] = {}  # by session id, of the same

    @staticmethod
    def new_id() -> str:
        """An id for a session to come; nobody can guess it."""
        return os.urandom(9).hex()

    # -- any value -------------------------------------------------------------------------------

    def seal_value(self, purpose: str, value: Any) -> str:
        """The sealed form of a JSON value, in visible ASCII."""
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + self._ciphers[0].encrypt(nonce, orjson.dumps(value), CONTEXT + purpose.encode())
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def open_value(self, purpose: str, sealed: object) -> Any:
        """The value, or None where it is forged or sealed for something else."""
        if not isinstance(sealed, str) or len(sealed) > MAX_SEALED_CHARS:
            return None
        try:
            raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), b"-_", validate=True)
        except ValueError:
            return None
        if base64.urlsafe_b64encode(raw).decode().rstrip("=") != sealed:
            return None  # one value has one spelling
        for cipher in self._ciphers:
            try:
                text = cipher.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], CONTEXT + purpose.encode())
            except (InvalidTag, ValueError):
                continue
            return orjson.loads(text)
        return None

    # -- sessions --------------------------------------------------------------------------------

    def seal(self, session: Session) -> str:
        """The sealed form, in visible ASCII as the transport demands (2025-11-25 basic/transports)."""
        pins = [[name, pin.url, pin.id, pin.version] for name, pin in session.pins.items()]
        fields = [session.id, session.version, session.principal, session.endpoint, session.issued, pins]
        return self.seal_value("session", [*fields, session.capabilities])

    def open(self, sealed: str, principal: str, endpoint: str) -> Session | None:
        """The session, or None where the id is forged, expired, ended or another principal's or endpoint's."""
        session = self._opened.get(sealed)
        if session is None:
            fields = self.open_value("session", sealed)
            if fields is None:
                return None
            identity, version, owner, where, issued, pins, capabilities = fields
            held = {name: Pin(*rest) for name, *rest in pins}
            session = self._opened[sealed] = Session(identity, version, owner, where, issued, held, capabilities)
            self._sealed[identity] = sealed
            if len(self._opened) > REMEMBERED:
                self._sealed.pop(self._opened.popitem(last=False)[1].id, None)
        mine = session.principal == principal and session.endpoint == endpoint
        alive = time.time() - session.issued < self._ttl and session.id not in self._ended
        return session if mine and alive else None

    def session(self, identity: str) -> Session | None:
        """The session with this id that was opened here not long ago."""
        return self._opened.get(self._sealed.get(identity, ""))

    def expires(self, session: Session) -> int:
        """When the session ends by itself, in seconds since the epoch."""
        return session.issued + self._ttl

    def latest_end(self) -> int:
        """When a session that begins now ends by itself, in seconds since the epoch."""
        return int(time.time()) + self._ttl

    def end(self, session: Session) -> None:
        """Refuse the session from now on."""
        self.refuse(session.id, self.expires(session))

    def refuse(self, identity: str, until: int) -> None:
        """Refuse the session with this id from now on, up to its own end (seconds since the epoch)."""
        self._opened.pop(self._sealed.pop(identity, ""), None)
        self._ended[identity] = until
        now = time.time()
        while self._ended and (len(self._ended) > MAX_ENDED or next(iter(self._ended.values())) <= now):
            self._ended.popitem(last=False)

    def ended_until(self, identity: str) -> int | None:
        """Up to when a session that was ended is refused; None for others."""
        return self._ended.get(identity)
