"""From a record to its line of JSON: what calls have in common is encoded once."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import Any

from mcp_gateway.audit.redact import encode, hide, target

_MAX_REMEMBERED = 16_384
_MAX_NAMES = 1024


class Lines:
    """Encodes records. What names a call (who, which tool, which replica) repeats, so its JSON is remembered."""

    def __init__(self) -> None:
        self._heads: dict[tuple[tuple[str, str], tuple[str, str, str, str, str]], str] = {}
        self._second = self._ms = -1
        self._until_second = ""
        self._time = ""

    def line(
        self,
        at: float,
        who: tuple[str, str],
        what: tuple[str, str, str, str, str],
        outcome: str,
        code: int,
        reason: str,
        duration_ms: float,
        sent: int,
        got: int,
        trace: str,
        arguments: bytes | None,
    ) -> str:
        """The line of a record, its end included; `Audit.record` says what the values are.

        ``who`` is principal and profile, ``what`` session, method, server, name and replica.
        """
        head = self._heads.get((who, what)) or self._head(who, what)
        more = f',"code":{code}' if code else ""
        if reason:
            more += f',"reason":{_text(hide(reason[:1024]))}'
        end = f',"trace_id":{_text(trace[:64])}' if trace else ""
        if arguments is not None:
            end += f',"arguments":{arguments.decode()}'
        ms = int(at * 1000)
        if ms != self._ms:
            self._ms, self._time = ms, self._time_of(ms)
        return (
            f'{{"time":"{self._time}"{head},"outcome":"{outcome}"{more},"duration_ms":{duration_ms:.3f},'
            f'"request_bytes":{sent},"response_bytes":{got}{end}}}\n'
        )

    def event(self, name: str, **fields: Any) -> str:
        """A line about the log itself."""
        return encode({"time": self._time_of(int(time.time() * 1000)), "event": name, **fields}).decode() + "\n"

    def _head(self, who: tuple[str, str], what: tuple[str, str, str, str, str]) -> str:
        session, method, server, name, replica = what
        fields = {
            "principal": who[0],
            "profile": who[1],
            "session": hashlib.sha256(session.encode("utf-8", "surrogatepass")).hexdigest()[:12] if session else "",
            "method": method[:128],
            "server": server,
            "target": target(name),
            "replica": replica,
        }
        # Fields that say nothing are left out.
        text = encode({field: value for field, value in fields.items() if value}).decode()[1:-1]
        head = f",{text}" if text else ""
        if len(name) + len(session) + len(method) <= _MAX_NAMES:
            if len(self._heads) >= _MAX_REMEMBERED:
                self._heads.clear()
            self._heads[(who, what)] = head
        return head

    def _time_of(self, ms: int) -> str:
        """RFC 3339, in UTC, of milliseconds since the epoch."""
        second = ms // 1000
        if second != self._second:
            self._second = second
            self._until_second = f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
        return f"{self._until_second}.{ms % 1000:03d}Z"


def _text(value: str) -> str:
    # What is plain needs no escapes; of all that is sent, nearly everything is.
    if value.isalnum() and value.isascii():
        return f'"{value}"'
    return encode(value).decode()
