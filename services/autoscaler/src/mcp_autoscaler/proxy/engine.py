"""The engine behind its socket: the five requests that the proxy makes, and no others."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import quote, urlencode

from mcp_autoscaler.proxy.rules import FLEET, LOCK, RECORD, SCALE_MAX, Json

TIMEOUT_SECONDS = 15.0
NO_ANSWER = 502


class EngineError(Exception):
    """The engine answered with an error, or not at all.

    Attributes:
        status: its HTTP status; NO_ANSWER where there is none.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Socket(http.client.HTTPConnection):
    """HTTP over a socket of the file system."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """A manager's engine.

    Args:
        path: its socket.
        fleet: whose services these requests are about.
    """

    def __init__(self, path: str, fleet: str) -> None:
        self._path = path
        self._fleet = fleet

    def services(self) -> list[Json]:
        """Services of the fleet that have an upper bound."""
        found: list[Json] = self._ask("GET", "/services", filters={"label": [f"{FLEET}={self._fleet}", SCALE_MAX]})
        return found

    def service(self, identity: str) -> Json:
        """One service, whoever's it is."""
        found: Json = self._ask("GET", f"/services/{quote(identity, safe='')}")
        return found

    def tasks(self, services: list[str]) -> list[Json]:
        """Tasks of these services that are meant to run."""
        found: list[Json] = self._ask("GET", "/tasks", filters={"service": services, "desired-state": ["running"]})
        return found

    def update(self, identity: str, version: int, spec: Json) -> Json:
        """Give a service this specification, where it still has this version."""
        path = f"/services/{quote(identity, safe='')}/update"
        answer: Json = self._ask("POST", path, spec, version=str(version))
        return answer

    def lock(self) -> tuple[Json, int] | None:
        """Who holds the fleet's lock, as its label says, and the version of that; None where nobody does."""
        labels = [f"{FLEET}={self._fleet}", f"{RECORD}=lock"]
        for config in self._ask("GET", "/configs", filters={"label": labels}):
            try:
                holder = json.loads(config["Spec"]["Labels"][LOCK])
            except (KeyError, ValueError):
                continue
            return holder, config["Version"]["Index"]
        return None

    def _ask(self, method: str, path: str, body: Any = None, **query: Any) -> Any:
        pairs = {key: value if isinstance(value, str) else json.dumps(value) for key, value in query.items()}
        target = f"{path}?{urlencode(pairs)}" if pairs else path
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection = _Socket(self._path)
        try:
            connection.request(method, target, None if body is None else json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as failure:
            raise EngineError(NO_ANSWER, f"the Docker engine at {self._path} does not answer: {failure!r}") from failure
        finally:
            connection.close()
        try:
            value = json.loads(data or b"null")
        except ValueError:
            value = None
        if answer.status >= 400:
            message = value.get("message") if isinstance(value, dict) else None
            raise EngineError(answer.status, str(message or f"the Docker engine answered {answer.status}"))
        return value
