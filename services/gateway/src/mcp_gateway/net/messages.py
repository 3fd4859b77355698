"""A request as it came and an answer as it leaves."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Request:
    """One HTTP request, its body read.

    Attributes:
        path: decoded, without the query and without a trailing slash (but ``/`` itself).
        query: the raw query string.
        headers: by lower-case name; of a repeated header the values joined by ``", "``.
        repeated: lower-case names of headers that came more than once.
    """

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    repeated: frozenset[str] = frozenset()


@dataclass(slots=True)
class Response:
    """One HTTP answer, whole."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
