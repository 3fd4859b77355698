"""What must not stand in a log is taken out before it gets there."""

from __future__ import annotations

import fnmatch
import json
import re
from typing import Any

import orjson

HIDDEN = "[redacted]"
CUT = "[cut]"
_MAX_DEPTH = 16
# Credentials inside text: what follows Bearer or Basic, JSON Web Tokens, PEM private keys, users in URLs.
_SECRET = re.compile(
    r"\b(?:Bearer|Basic)\s+[\w.~+/=-]{8,}"
    r"|\beyJ[\w-]{5,}\.[\w-]{5,}(?:\.[\w-]*)*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*"
    r"|(?<=://)[^/\s@]{1,256}@",
    re.IGNORECASE,
)
# orjson escapes what JSON demands. These too end lines, delete or turn text around on some screen.
_UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")


class Redactor:
    """Copies arguments without secrets and within a budget, so that its cost is bounded by ``max_bytes`` and
    not by what the client sent."""

    def __init__(self, patterns: tuple[str, ...], max_bytes: int) -> None:
        self._hidden = re.compile("|".join(fnmatch.translate(pattern.lower()) for pattern in patterns) or r"(?!)")
        self._max = max_bytes
        self._left = 0

    def encode(self, arguments: Any) -> bytes:
        """``arguments`` as JSON of at most ``max_bytes``; what had to go is marked ``[redacted]`` or ``[cut]``."""
        self._left = self._max
        text = encode(self._copy(arguments, 0))
        if len(text) <= self._max:
            return text
        # Escapes made it longer than was reckoned; half of it as text cannot be.
        return encode({CUT: text[: self._max // 4].decode("utf-8", "ignore")})

    def _copy(self, value: Any, depth: int) -> Any:
        self._left -= 4
        if self._left <= 0 or depth > _MAX_DEPTH:
            return CUT
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            copy: dict[str, Any] = {}
            for key, item in value.items():
                if self._left <= 0:
                    copy[CUT] = True
                    break
                name = self._text(str(key))
                copy[name] = HIDDEN if self._hidden.fullmatch(str(key)[:256].lower()) else self._copy(item, depth + 1)
            return copy
        if isinstance(value, list):
            items = []
            for item in value:
                if self._left <= 0:
                    items.append(CUT)
                    break
                items.append(self._copy(item, depth + 1))
            return items
        return value

    def _text(self, text: str) -> str:
        # A secret that the cut would go through must still be seen whole enough to be recognised.
        known = hide(text[: max(self._left, 0) + 4096])
        shown = known if len(known) <= self._left and len(text) <= len(known) + 4096 else None
        if shown is None or len(shown) > self._left:
            shown = known[: max(self._left, 0)] + CUT
        self._left -= len(shown)
        return shown


def hide(text: str) -> str:
    """``text`` without the credentials that can be recognised in it."""
    return _SECRET.sub(HIDDEN, text)


def target(name: str, limit: int = 512) -> str:
    """A tool's name or a resource's URI, for the log: without query, fragment and user, which may hold secrets."""
    if "://" in name:
        name = hide(name.partition("#")[0].partition("?")[0][: limit + 4096])
    return name if len(name) <= limit else f"{name[:limit]}{CUT}"


def encode(value: Any) -> bytes:
    """``value`` as one line of JSON that no screen or log reader takes for several, or for commands."""
    try:
        line = orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        # Lone surrogates, integers of more than 64 bits: rare, and no reason to lose a record.
        line = json.dumps(value, default=str, separators=(",", ":")).encode()
    if line.isascii() and b"\x7f" not in line:
        return line
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", line.decode()).encode()
