"""The proxy as a process: HTTP in, what the rules permit out to the engine, every refusal in the log."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from typing import Any

from mcp_autoscaler.proxy import rules
from mcp_autoscaler.proxy.engine import NO_ANSWER, Engine, EngineError
from mcp_autoscaler.proxy.rules import ListServices, ListTasks, OneService, Refused, Scale
from mcp_autoscaler.web import Handler

# A deploy beats its lock every two seconds; one that stands still this long is a dead one's.
DEAD_LOCK_SECONDS = 60.0

log = logging.getLogger("mcp_autoscaler.proxy")


class Proxy:
    """Answers requests by the rules.

    Args:
        engine: where they go.
        fleet: whose services may be read and scaled.
    """

    def __init__(self, engine: Engine, fleet: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._fleet = fleet
        self._clock = clock
        self._lock_seen: tuple[int, float] = (-1, 0.0)

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        """Status and JSON value of the answer; never raises."""
        try:
            return 200, self._answer(rules.understood(method, target), body)
        except Refused as refusal:
            # The autoscaler says it once; each of its tries is for those who look for them.
            level = logging.DEBUG if refusal.status == 409 else logging.WARNING
            log.log(level, "refused", extra={"method": method, "target": target[:200], "why": str(refusal)})
            return refusal.status, {"message": str(refusal)}
        except EngineError as failure:
            log.warning("engine", extra={"method": method, "target": target[:200], "why": str(failure)})
            return failure.status, {"message": str(failure)}

    def _answer(self, request: rules.Request, body: bytes) -> Any:
        match request:
            case ListServices():
                return self._ours()
            case OneService(identity):
                return self._one(identity)
            case ListTasks(names):
                known = {name: s["ID"] for s in self._ours() for name in (s["ID"], s["Spec"]["Name"])}
                if strange := [name for name in names if name not in known]:
                    raise Refused(404, f"{strange[0]} is no scaled service of {self._fleet}")
                return self._engine.tasks(sorted({known[name] for name in names}))
            case Scale(identity, version):
                return self._scale(identity, version, body)

    def _ours(self) -> list[rules.Json]:
        return [service for service in self._engine.services() if rules.bounds(service, self._fleet)]

    def _one(self, identity: str) -> rules.Json:
        try:
            service = self._engine.service(identity)
        except EngineError as failure:
            if failure.status != 404:
                raise
            service = {}
        # A stranger's service answers like one that does not exist.
        if not service or rules.bounds(service, self._fleet) is None:
            raise Refused(404, f"{identity} is no scaled service of {self._fleet}")
        return service

    def _scale(self, identity: str, version: int, body: bytes) -> Any:
        try:
            wanted = json.loads(body)
        except ValueError:
            raise Refused(400, "the body is no JSON") from None
        service = self._one(identity)
        spec = rules.scaled(service, self._fleet, version, wanted)
        self._no_deploy()
        answer = self._engine.update(service["ID"], version, spec)
        log.info("scaled", extra={"service": spec["Name"], "replicas": spec["Mode"]["Replicated"]["Replicas"]})
        return answer

    def _no_deploy(self) -> None:
        """Refuse while the fleet is deployed: a deploy fails over a service that changes under its hands."""
        found = self._engine.lock()
        if found is None or found[0].get("kind") != "deploy":
            return
        holder, version = found
        now = self._clock()
        if version != self._lock_seen[0]:
            self._lock_seen = version, now
        if now - self._lock_seen[1] < DEAD_LOCK_SECONDS:
            raise Refused(409, f"{self._fleet} is being deployed by {holder.get('who')} since {holder.get('since')}")


class _Handler(Handler):
    """Hands requests to the proxy; /healthz says whether there is an engine."""

    proxy: Proxy

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        if (method, target) != ("GET", "/healthz"):
            return self.proxy.answer(method, target, body)
        # An engine that answers with an error is there: starting the proxy anew would not help it.
        status, value = self.proxy.answer("GET", "/services", b"")
        return (503, value) if status == NO_ANSWER else (200, {"status": "ok"})


def handler(socket_path: str, fleet: str) -> type[Handler]:
    """What answers requests for this engine and fleet."""
    return type("ProxyHandler", (_Handler,), {"proxy": Proxy(Engine(socket_path, fleet), fleet)})
