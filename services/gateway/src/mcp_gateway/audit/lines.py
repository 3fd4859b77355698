"""From a record to its line of JSON, in some two microseconds: what calls have in common is encoded once."""

from __future__ import annotations

import hashlib
import time
from datetime import UTC, datetime
from typing import Any

from mcp_gateway.audit.redact import encode, hide, target

_MAX_REMEMBERED = 4096
_MAX_NAMES = 1024


class Lines:
    """Encodes records. What names a call (who, which tool, which replica) repeats, so its JSON is remembered."""

    def __init__(self) -> None:
        self._heads: dict[tuple[str, ...], str] = {}
        self._second = -1
        self._until_second = ""

    def line(self, record: tuple[Any, ...]) -> str:
        """The line of a record of `Audit.record`, its end included."""
        at, principal, *names, outcome, code, reason, duration, sent, got, trace, arguments = record
        who = (principal.name, principal.profile or "default") if principal is not None else ("", "")
        key = (*who, *names)
        head = self._heads.get(key) or self._head(key)
        more = f',"code":{code}' if code else ""
        if reason:
            more += f',"reason":{_text(hide(reason[:1024]))}'
        end = f',"trace_id":{_text(trace[:64])}' if trace else ""
        if arguments is not None:
            end += f',"arguments":{arguments.decode()}'
        return (
            f'{{"time":"{self._time(at)}"{head},"outcome":"{outcome}"{more},"duration_ms":{duration:.3f},'
            f'"request_bytes":{sent},"response_bytes":{got}{end}}}\n'
        )

    def event(self, name: str, **fields: Any) -> str:
        """A line about the log itself."""
        return encode({"time": self._time(time.time()), "event": name, **fields}).decode() + "\n"

    def _head(self, key: tuple[str, ...]) -> str:
        who, profile, session, method, server, name, replica = key
        fields = {
            "principal": who,
            "profile": profile,
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
            self._heads[key] = head
        return head

    def _time(self, at: float) -> str:
        second = int(at)
        if second != self._second:
            self._second = second
            self._until_second = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        return f"{self._until_second}.{int((at - second) * 1000):03d}Z"


def _text(value: str) -> str:
    # What is plain needs no escapes; of all that is sent, nearly everything is.
    if value.isalnum() and value.isascii():
        return f'"{value}"'
    return encode(value).decode()
