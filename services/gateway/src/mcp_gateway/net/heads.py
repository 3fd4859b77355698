"""Heads of HTTP messages as nearly all of them are, read without a parser (RFC 9112).

llhttp calls back for each line of a head, which in Python costs more than everything else about a short message. Peers
send the same lines again and again, so here a line is taken apart once. Whatever is not quite usual (a line that is
repeated, folded or oddly written, another framing than ``content-length``, a wish to upgrade) is not read here at all,
but by llhttp, from the message's first byte.
"""

from __future__ import annotations

import re

MAX_KNOWN = 16_384
MAX_LINE_BYTES = 512
MAX_SECRETS = 4
# A field name, a colon, a value without control characters (RFC 9110, sections 5.1 and 5.5).
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_LENGTH = re.compile(rb"[0-9]{1,9}")
# What decides how a message is framed, or what follows it, and is not for this module.
_FRAMING = frozenset(
    {"transfer-encoding", "upgrade", "expect", "content-encoding", "te", "trailer", "proxy-connection"}
)
# What is not to be remembered beyond its connection.
_SECRET = frozenset({"authorization", "x-api-key", "cookie", "set-cookie", "mcp-session-id"})
_known: dict[bytes, tuple[str, str]] = {}


def fields(lines: list[bytes], secrets: dict[bytes, tuple[str, str]]) -> dict[str, str] | None:
    """The fields of a head, by name in lower case; None where it is not a usual one.

    Args:
        lines: of the head, without the first one, which is no field.
        secrets: lines that only the connection that they came by may remember.
    """
    found: dict[str, str] = {}
    known = _known
    for line in lines:
        field = known.get(line) or secrets.get(line) or _field(line, secrets)
        if field is None or field[0] in found:
            return None
        found[field[0]] = field[1]
    return found


def _field(line: bytes, secrets: dict[bytes, tuple[str, str]]) -> tuple[str, str] | None:
    """A line's name and value; None where this module is not the one to read it."""
    match = _FIELD.fullmatch(line)
    if match is None:
        return None
    name, value = match[1].decode("ascii").lower(), match[2].decode("latin-1").rstrip(" \t")
    if name in _FRAMING or (name == "connection" and value.lower() != "keep-alive"):
        return None
    if name == "content-length" and not _LENGTH.fullmatch(match[2]):
        return None
    kept, most = (secrets, MAX_SECRETS) if name in _SECRET else (_known, MAX_KNOWN)
    if kept is secrets or len(line) <= MAX_LINE_BYTES:
        if len(kept) >= most:
            kept.clear()
        kept[line] = (name, value)
    return name, value
