"""Messages between gateway replicas: sealed with AES-GCM under keys derived from the session keys.

Who cannot seal is no replica. A message is good for some time and once; an answer is good for its request alone.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mcp_gateway.protocol import Json

CONTEXT = b"mcp-gateway peers 1"
NONCE_BYTES = 12
# Clocks of machines may differ by so much, the way included.
GOOD_SECONDS = 60.0
MAX_SEEN = 100_000


class Refused(Exception):
    """The message is not to be taken; the text says why."""


class Envelope:
    """Seals with the first key, opens with any, as ``Sealer`` does: keys are rotated together.

    Args:
        keys: the session keys.
        clock: seconds since the epoch.
        context: between whom; what is sealed in another one is not taken.
    """

    def __init__(
        self, keys: tuple[bytes, ...], clock: Callable[[], float] = time.time, context: bytes = CONTEXT
    ) -> None:
        self._ciphers = [AESGCM(hashlib.sha256(context + key).digest()) for key in keys]
        self._context = context
        self._clock = clock
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        self._forgotten = 0.0  # of what was sent up to then it is not known whether it was seen

    def request(self, message: Json) -> bytes:
        """A request's sealed form."""
        return self._seal({**message, "sent": self._clock()}, b"request")

    def open_request(self, sealed: bytes) -> Json:
        """A request, taken for the first time.

        Raises:
            Refused: it is forged, too old, too new or came before.
        """
        message = self._open(sealed, b"request")
        now, sent, nonce = self._clock(), message.get("sent"), sealed[:NONCE_BYTES]
        if not isinstance(sent, int | float) or abs(now - sent) > GOOD_SECONDS:
            raise Refused(f"its time is more than {GOOD_SECONDS:g} s from ours; do the clocks agree?")
        if nonce in self._seen or sent <= self._forgotten:
            raise Refused("it came before")
        self._seen[nonce] = sent
        while self._seen:
            oldest, its = next(iter(self._seen.items()))
            if len(self._seen) <= MAX_SEEN and its >= now - GOOD_SECONDS:
                break
            del self._seen[oldest]
            self._forgotten = max(self._forgotten, its)
        return message

    def answer(self, message: Json, request: bytes, number: int = 0) -> bytes:
        """An answer's sealed form, or that of its part with this number."""
        return self._seal(message, b"answer" + request[:NONCE_BYTES] + number.to_bytes(4))

    def open_answer(self, sealed: bytes, request: bytes, number: int = 0) -> Json:
        """An answer to this request.

        Raises:
            Refused: it is forged, or the answer to something else.
        """
        return self._open(sealed, b"answer" + request[:NONCE_BYTES] + number.to_bytes(4))

    def _seal(self, message: Json, purpose: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, orjson.dumps(message), self._context + purpose)

    def _open(self, sealed: bytes, purpose: bytes) -> Json:
        message: Any = None
        for cipher in self._ciphers:
            try:
                text = cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], self._context + purpose)
            except (InvalidTag, ValueError):
                continue
            message = orjson.loads(text)
            break
        if not isinstance(message, dict):
            raise Refused("it is not sealed with one of our session keys (sessions.key_files)")
        return message
