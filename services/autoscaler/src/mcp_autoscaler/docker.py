"""Docker through the proxy: the fleet's scaled services, their tasks, and how many replicas they shall have."""

from __future__ import annotations

import copy
import http.client
import json
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from mcp_autoscaler.proxy.rules import LABEL, SCALE_MAX, SCALE_MIN

TIMEOUT_SECONDS = 20.0
CONFLICT = 409
# Nodes advertise the slots of a shared GPU as GPU-<uuid>.1, GPU-<uuid>.2 and so on.
SLOT = re.compile(r"^(GPU-[^.]+)\.\d+$")
ON_THE_WAY = frozenset({"new", "pending", "allocated", "assigned", "accepted", "preparing", "ready", "starting"})


class DockerError(Exception):
    """Docker, or the proxy before it, refused or did not answer.

    Attributes:
        status: HTTP status; 0 where there was no answer.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class Service:
    """A scaled service as it is now.

    Attributes:
        server: the catalogue's name for it.
        replicas: how many are asked for.
        least, most: its bounds.
        updating: what its update does, where one is under way; empty else.
        ready: its replicas that are ready, each by the GPUs that Swarm gave it.
        unready: how many are on their way.
        raw: as Docker gave it.
    """

    identity: str
    name: str
    server: str
    replicas: int
    least: int
    most: int
    updating: str = ""
    ready: tuple[tuple[str, ...], ...] = ()
    unready: int = 0
    raw: dict[str, Any] = field(default_factory=dict, repr=False)


class Docker:
    """The proxy at a URL."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80

    def services(self) -> list[Service]:
        """The scaled services, by name.

        Raises:
            DockerError: there was no answer.
        """
        found = self._ask("GET", "/services")
        tasks: dict[str, list[dict[str, Any]]] = {service["ID"]: [] for service in found}
        if found:
            wanted = quote(json.dumps({"service": sorted(tasks)}))
            for task in self._ask("GET", f"/tasks?filters={wanted}"):
                tasks.setdefault(task["ServiceID"], []).append(task)
        return sorted((_service(raw, tasks[raw["ID"]]) for raw in found), key=lambda service: service.name)

    def scale(self, service: Service, replicas: int) -> None:
        """Ask for so many replicas, where the service has not changed since it was read.

        Raises:
            DockerError: it was refused, or there was no answer.
        """
        spec = copy.deepcopy(service.raw["Spec"])
        spec["Mode"]["Replicated"]["Replicas"] = replicas
        self._ask("POST", f"/services/{service.identity}/update?version={service.raw['Version']['Index']}", spec)

    def _ask(self, method: str, target: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT_SECONDS)
        try:
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, target, data, {"Content-Type": "application/json"} if data else {})
            answer = connection.getresponse()
            value = json.loads(answer.read() or b"null")
        except (OSError, http.client.HTTPException, ValueError) as failure:
            raise DockerError(0, f"{self._host}:{self._port}: {type(failure).__name__}: {failure}") from failure
        finally:
            connection.close()
        if answer.status != 200:
            message = value.get("message") if isinstance(value, dict) else value
            raise DockerError(answer.status, str(message))
        return value


def _service(raw: dict[str, Any], tasks: list[dict[str, Any]]) -> Service:
    spec = raw["Spec"]
    labels = spec["Labels"]
    state = (raw.get("UpdateStatus") or {}).get("State") or ""
    return Service(
        raw["ID"],
        spec["Name"],
        labels.get(f"{LABEL}.server", spec["Name"]),
        spec["Mode"]["Replicated"].get("Replicas", 0),
        int(labels[SCALE_MIN]),
        int(labels[SCALE_MAX]),
        "" if state in ("completed", "rollback_completed") else state,
        tuple(_gpus(task) for task in tasks if task["Status"]["State"] == "running"),
        sum(task["Status"]["State"] in ON_THE_WAY for task in tasks),
        raw,
    )


def _gpus(task: dict[str, Any]) -> tuple[str, ...]:
    """GPUs that Swarm gave a task by name; one that is only counted cannot be told from others.

    ``GenericResources`` is what engines answer (moby's api/types/swarm/task.go), whatever their reference calls it. A
    slot of a GPU that several share, ``GPU-x.2``, is as busy as its GPU.
    """
    given = (item.get("NamedResourceSpec") or {} for item in task.get("GenericResources") or [])
    return tuple(SLOT.sub(r"\1", item["Value"]) for item in given if "GPU" in item.get("Kind", "").upper())
