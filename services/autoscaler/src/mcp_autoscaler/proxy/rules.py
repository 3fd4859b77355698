"""What the proxy permits. Pure: requests and specifications in, a verdict out.

A request is taken apart into one of four kinds; what is sent on is put together anew from that, so nothing that was
not understood can pass.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

LABEL = "ai.sophia.mcp"
SCALE_MIN, SCALE_MAX = f"{LABEL}.scale.min", f"{LABEL}.scale.max"
FLEET, RECORD, LOCK = f"{LABEL}.fleet", f"{LABEL}.record", f"{LABEL}.lock"
# Swarm's updater keeps what it would go back to in the service; any change of the service makes it forget.
BUSY_STATES = frozenset({"updating", "paused", "rollback_started", "rollback_paused"})
IDENTITY = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"

Json = dict[str, Any]


class Refused(Exception):
    """The request is not permitted.

    Attributes:
        status: of the HTTP answer: 403 never permitted, 400 malformed, 404 no such service of ours, 409 not now.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class ListServices:
    """GET /services"""


@dataclass(frozen=True)
class OneService:
    """GET /services/{id}"""

    identity: str


@dataclass(frozen=True)
class ListTasks:
    """GET /tasks of named services."""

    services: tuple[str, ...]


@dataclass(frozen=True)
class Scale:
    """POST /services/{id}/update"""

    identity: str
    version: int


Request = ListServices | OneService | ListTasks | Scale


def understood(method: str, target: str) -> Request:
    """What a request asks for.

    Args:
        target: path and query as they came; a version of the API may precede the path.

    Raises:
        Refused: it is none of the four kinds.
    """
    try:
        parts = urlsplit(target)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise Refused(400, f"{target[:100]!r} cannot be read") from None
    if parts.scheme or parts.netloc or parts.fragment:
        raise Refused(400, f"{target[:100]!r} is not a path")
    query = dict(pairs)
    if len(query) < len(pairs):
        raise Refused(400, "a parameter is given twice")
    path = re.sub(r"\A/v1\.[0-9]{1,2}(?=/)", "", parts.path)
    if method == "GET" and path == "/services":
        _only(query, set(), path)
        return ListServices()
    if method == "GET" and path == "/tasks":
        _only(query, {"filters"}, path)
        return ListTasks(_services_of(query.get("filters", "")))
    if method == "GET" and (found := re.fullmatch(rf"/services/({IDENTITY})", path)):
        _only(query, set(), path)
        return OneService(found[1])
    if method == "POST" and (found := re.fullmatch(rf"/services/({IDENTITY})/update", path)):
        _only(query, {"version"}, path)
        if not re.fullmatch(r"[0-9]{1,19}", version := query.get("version", "")):
            raise Refused(400, f"version: {version[:40]!r} is not the index of a service's version")
        return Scale(found[1], int(version))
    raise Refused(403, f"{method} {parts.path[:100]} is not permitted: this proxy reads and scales services, no more")


def _only(query: Mapping[str, str], known: set[str], path: str) -> None:
    if more := sorted(set(query) - known):
        raise Refused(403, f"{path}: the parameter {more[0][:40]!r} is not permitted")


def _services_of(filters: str) -> tuple[str, ...]:
    try:
        value = json.loads(filters)
    except ValueError:
        value = None
    names = value.get("service") if isinstance(value, dict) and set(value) == {"service"} else None
    if isinstance(names, dict):  # the other form that Docker knows: {"service": {"x": true}}
        names = [name for name, wanted in names.items() if wanted is True]
    if not isinstance(names, list) or not names:
        raise Refused(403, 'tasks: give filters={"service": [...]} with the services that are asked about')
    if not all(isinstance(name, str) and re.fullmatch(IDENTITY, name) for name in names):
        raise Refused(400, "tasks: a service's name is not one")
    return tuple(names)


def bounds(service: Json, fleet: str) -> tuple[int, int] | None:
    """A service's least and most replicas; None where it is none of ours to scale.

    It is ours where its labels name the fleet and both bounds, and its mode is replicated.
    """
    labels = service.get("Spec", {}).get("Labels") or {}
    try:
        least, most = int(labels[SCALE_MIN]), int(labels[SCALE_MAX])
    except (KeyError, ValueError):
        return None
    replicated = "Replicated" in (service["Spec"].get("Mode") or {})
    return (least, most) if labels.get(FLEET) == fleet and replicated and 0 <= least <= most else None


def scaled(service: Json, fleet: str, version: int, body: Any) -> Json:
    """The specification to send on: the service's own with the replicas that the body asks for.

    Args:
        service: as the engine knows it now.
        version: that the request names.
        body: the specification that the request holds.

    Raises:
        Refused: it is not ours, is being updated, has changed since, or the body differs in anything but replicas.
    """
    name = str(service.get("Spec", {}).get("Name", ""))
    limits = bounds(service, fleet)
    if limits is None:
        raise Refused(403, f"service {name} is not scaled: its labels do not name {SCALE_MIN} and {SCALE_MAX}")
    if version != service["Version"]["Index"]:
        raise Refused(409, f"service {name}: update out of sequence: it has changed since version {version}")
    if (state := (service.get("UpdateStatus") or {}).get("State")) in BUSY_STATES:
        raise Refused(409, f"service {name}: its update is {state}; scaling would make Swarm forget what came before")
    spec: Json = copy.deepcopy(service["Spec"])
    try:
        replicas = body["Mode"]["Replicated"]["Replicas"]
    except (KeyError, TypeError, IndexError):
        raise Refused(403, f"service {name}: the body has no Mode.Replicated.Replicas") from None
    if type(replicas) is not int:
        raise Refused(403, f"service {name}: Mode.Replicated.Replicas: {str(replicas)[:40]!r} is not a whole number")
    spec["Mode"]["Replicated"]["Replicas"] = replicas
    if (path := difference(spec, body)) is not None:
        raise Refused(403, f"service {name}: {path} differs from what it is; only Mode.Replicated.Replicas may")
    if not limits[0] <= replicas <= limits[1]:
        raise Refused(403, f"service {name}: {replicas} replicas is not within its bounds, {limits[0]} to {limits[1]}")
    return spec


def difference(one: Any, other: Any, path: str = "") -> str | None:
    """The first place where two JSON values differ; None where they are equal. True is not 1."""
    if type(one) is not type(other):
        return path or "the whole"
    if isinstance(one, dict):
        for key in sorted({*one, *other}):
            place = f"{path}.{key}" if path else key
            if key not in one or key not in other:
                return place
            if (found := difference(one[key], other[key], place)) is not None:
                return found
        return None
    if isinstance(one, list):
        if len(one) != len(other):
            return path or "the whole"
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            if (found := difference(a, b, f"{path}[{index}]")) is not None:
                return found
        return None
    return None if one == other else path or "the whole"
