"""API keys: known by their digest alone, each with its time, two at once where one replaces the other."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from mcp_gateway.reader import Reader

# No colon: names with one belong to OAuth principals, so that nobody's token can borrow a key's name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def digest(secret: str) -> str:
    """SHA-256 in hexadecimal: generated keys have full entropy, so a slow hash would add cost and no safety."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class ApiKey:
    """A client's key.

    Attributes:
        name: the principal; two keys with one name are one client that is changing its key.
        sha256: hexadecimal digest of the secret, which is kept nowhere.
        profile: the client profile that applies; empty for the default.
        not_before, not_after: when it begins and ceases to be good, in seconds since 1970.
    """

    name: str
    sha256: str
    profile: str = ""
    not_before: float = -math.inf
    not_after: float = math.inf


class Keys:
    """All configured API keys, found by digest.

    A plain dict is safe here: whoever times the lookup learns about the digest of what he sent, from which no
    secret can be worked out.
    """

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._by_digest = {key.sha256: key for key in keys}

    def __bool__(self) -> bool:
        return bool(self._by_digest)

    def find(self, secret: str) -> ApiKey | None:
        """The key whose secret this is, in its time or not."""
        return self._by_digest.get(digest(secret))


def read_keys(reader: Reader) -> tuple[ApiKey, ...]:
    """``auth.api_keys``; mistakes are noted in the reader."""
    items = reader.take("api_keys", list, [])
    keys = tuple(_key(Reader(item, f"{reader.at('api_keys')}[{i}]", reader.errors)) for i, item in enumerate(items))
    by_digest: dict[str, int] = {}
    profiles: dict[str, str] = {}
    for index, key in enumerate(keys):
        at = f"{reader.at('api_keys')}[{index}]"
        if key.sha256 and (other := by_digest.setdefault(key.sha256, index)) != index:
            reader.errors.append(f"{at}: {key.name!r} is the same key as [{other}]; give each entry a key of its own")
        if profiles.setdefault(key.name, key.profile) != key.profile:
            reader.errors.append(
                f"{at}.profile: {key.profile!r}, but another key of {key.name!r} has {profiles[key.name]!r}; "
                "keys of one name are one client, so give both the same"
            )
    return keys


def _key(reader: Reader) -> ApiKey:
    name = reader.take("name", str, "default")
    if not _NAME.fullmatch(name):
        reader.errors.append(
            f"{reader.at('name')}: {name!r} is not allowed; use letters, digits and . _ @ -, at most 128, "
            "a letter or digit first"
        )
    given = {key for key in ("sha256", "file") if reader.left.get(key)}
    before = len(reader.errors)
    sha256, secret = reader.take("sha256", str, "").lower(), reader.secret("file")
    key = ApiKey(
        name=name,
        sha256=sha256 or (digest(secret) if secret else ""),
        profile=reader.take("profile", str, ""),
        not_before=_time(reader, "not_before", -math.inf),
        not_after=_time(reader, "not_after", math.inf),
    )
    reader.done()
    if len(given) == 2:
        reader.errors.append(f"{reader.path}: gives both file and sha256; one key is one entry")
    elif not given:
        reader.errors.append(f"{reader.path}: holds no key; give file or sha256 (mcp-gateway hash-key prints it)")
    elif sha256 and not _SHA256.fullmatch(sha256):
        reader.errors.append(f"{reader.at('sha256')}: not 64 hexadecimal digits; mcp-gateway hash-key prints it")
    elif "file" in given and not secret and len(reader.errors) == before:
        reader.errors.append(f"{reader.at('file')}: the file is empty; put the key into it, in one line")
    if key.not_before >= key.not_after:
        reader.errors.append(f"{reader.at('not_after')}: not later than not_before; the key would never be good")
    return key


def _time(reader: Reader, name: str, default: float) -> float:
    value: Any = reader.left.pop(name, None)
    if value is None:
        return default
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime):
        reader.errors.append(f"{reader.at(name)}: {value!r} is no time; write it as 2027-01-31T12:00:00Z")
        return default
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
