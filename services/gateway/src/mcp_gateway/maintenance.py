"""Maintenance: who asks something new is refused in so many words; what was begun goes on to its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from mcp_gateway import passes
from mcp_gateway.board.document import EVERYTHING, Notice
from mcp_gateway.net.messages import Response
from mcp_gateway.protocol import TASKS, UNAVAILABLE, Json, error

# What is told where nobody knows when it ends, in seconds; and at the most.
RETRY_SECONDS = 30
MAX_RETRY_SECONDS = 3600
# Of what goes on with something begun before: a session that is kept, a task that runs.
GOES_ON = frozenset({"ping", *TASKS})


class Maintenance:
    """What is closed.

    Args:
        keys: the session keys, with which passes are made.

    Attributes:
        notices: by server; ``*`` is the whole fleet.
    """

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._keys = keys
        self.notices: Mapping[str, Notice] = {}

    def of(self, server: str) -> tuple[str, Notice] | None:
        """What closes a server, or with ``*`` the fleet: whose notice it is, and the notice."""
        for name in (EVERYTHING, server):
            if notice := self.notices.get(name):
                return name, notice
        return None

    def passed(self, headers: Mapping[str, str]) -> bool:
        """Whether the request comes from whoever does the work."""
        return passes.good(headers.get(passes.HEADER, ""), self._keys)

    def refusal(self, server: str, body: Any) -> Response | None:
        """The answer to a message for a closed server; None where the message may go on.

        HTTP 503 with ``Retry-After`` (RFC 9110, 15.6.4 and 10.2.3), and in it a JSON-RPC error for the request's id.
        """
        found = self.of(server)
        if found is None or _goes_on(body):
            return None
        identity = body.get("id") if isinstance(body, dict) else None
        return closed(*found, identity if isinstance(identity, str | int) else None)

    def state(self) -> Json:
        """For /status, by what is closed."""
        return {name: told(notice) for name, notice in self.notices.items()}


def told(notice: Notice) -> Json:
    """A notice as JSON."""
    return {
        "why": notice.why,
        "who": notice.who,
        "since": _time(notice.since),
        "until": _time(notice.until) if notice.until else None,
    }


def closed(name: str, notice: Notice, identity: str | int | None) -> Response:
    """The refusal itself."""
    what = "the fleet is" if name == EVERYTHING else f"server {name} is"
    text = f"{what} in maintenance{f', until {_time(notice.until)}' if notice.until else ''}: {notice.why}"
    left = int(notice.until - time.time()) if notice.until else RETRY_SECONDS
    seconds = min(max(left, RETRY_SECONDS if left <= 0 else 1), MAX_RETRY_SECONDS)
    data = {"maintenance": told(notice), "retryAfterMs": 1000 * seconds}
    message = orjson.dumps(error(identity, UNAVAILABLE, text, data))
    return Response(503, message, headers=(("retry-after", str(seconds)),))


def _goes_on(body: Any) -> bool:
    """Whether a message belongs to something that was begun: an answer, a notification, a poll, an input given."""
    if not isinstance(body, dict):
        return False
    if "method" not in body or "id" not in body or body["method"] in GOES_ON:
        return True
    params = body.get("params")
    return isinstance(params, dict) and ("requestState" in params or "inputResponses" in params)


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
