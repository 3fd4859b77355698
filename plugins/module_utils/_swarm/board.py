# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The board: a small service that tells all gateway replicas what no configuration can: maintenance, and canaries.

Its document is a Swarm config that the service mounts. It is replaced by an update of the service that names the
version seen, so that two who change it at the same time both get their way. Service and config belong to no stack:
deploys leave them alone, and they outlive any manager. What the document means: services/gateway/docs/board.md.
"""

from __future__ import annotations

import base64
import contextlib
import copy
import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import (
    LABEL,
    RECORD,
    Swarm,
    SwarmError,
    patiently,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.convergence import ENDED, Verdict, describe

Document = dict[str, Any]

TARGET = "/etc/mcp-gateway/board.json"
PORT = 8080
SECOND = 1_000_000_000
UP_SECONDS = 60.0
# After so long all gateway replicas have read a document that is up: they look every second.
LEARN_SECONDS = 3.0
KEYS = ("maintenance", "canaries")


def name_of(fleet: str) -> str:
    """The service's name. No server's service has an underscore in its own part."""
    return f"{fleet}_gateway_board"


def read(swarm: Swarm, fleet: str) -> Document:
    """What the board says; empty where there is none."""
    return _document(swarm, _service(swarm, fleet))


def post(swarm: Swarm, fleet: str, change: Callable[[Document], Document]) -> Document:
    """Put up what ``change`` makes of the present document, and wait until it can be read; returns it.

    Raises:
        SwarmError: there is no gateway to tell anything, or the board does not come up.
    """
    for dummy in range(20):
        service = _service(swarm, fleet)
        before = _document(swarm, service)
        after = {key: value for key, value in change(copy.deepcopy(before)).items() if key in KEYS and value}
        if after == {key: value for key, value in before.items() if key in KEYS and value}:
            return before
        after["number"] = max(int(time.time() * 1000), int(before.get("number", 0)) + 1)
        config = _make_config(swarm, fleet, after)
        if not _apply(swarm, fleet, service, config):  # somebody else changed it meanwhile
            _remove_config(swarm, config)
            time.sleep(0.2)
            continue
        _until_up(swarm, fleet, config)
        _remove_others(swarm, fleet, config)
        return after
    raise SwarmError(f"{name_of(fleet)} is changed all the time by somebody else; run again when they are done")


def refresh(swarm: Swarm, fleet: str) -> None:
    """Run the board as the gateway runs now, with its image and its session key; nothing where there is none."""
    service = _service(swarm, fleet)
    if not service:
        return
    config = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Configs"][0]["ConfigID"]
    wanted = _spec(swarm, fleet, config)["TaskTemplate"]["ContainerSpec"]
    present = service["Spec"]["TaskTemplate"]["ContainerSpec"]
    if (wanted["Image"], wanted["Secrets"]) != (present["Image"], present["Secrets"]):
        _apply(swarm, fleet, service, config)
        _until_up(swarm, fleet, config)


def take_down(swarm: Swarm, fleet: str, *, whatever: bool = False) -> bool:
    """Remove a board that says nothing that matters any more; returns whether it did.

    Args:
        swarm: the manager.
        fleet: whose board.
        whatever: remove it although it tells of maintenance.
    """
    from docker.errors import NotFound

    service = _service(swarm, fleet)
    if service and not whatever and _document(swarm, service).get("maintenance"):
        return False
    if service:
        with contextlib.suppress(NotFound):
            patiently(lambda: swarm.api.remove_service(service["ID"]))
    _remove_others(swarm, fleet, "")
    return service is not None


def learn() -> None:
    """Wait until all gateway replicas have read what was posted."""
    time.sleep(LEARN_SECONDS)


# -- the service -----------------------------------------------------------------------------------------------


def _service(swarm: Swarm, fleet: str) -> dict[str, Any] | None:
    name = name_of(fleet)
    found = patiently(lambda: swarm.api.services(filters={"name": name}))
    return next((service for service in found if service["Spec"]["Name"] == name), None)


def _document(swarm: Swarm, service: dict[str, Any] | None) -> Document:
    from docker.errors import NotFound

    if not service:
        return {}
    config = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Configs"][0]["ConfigID"]
    try:
        item = patiently(lambda: swarm.api.inspect_config(config))
    except NotFound:
        return {}
    return dict(json.loads(base64.b64decode(item["Spec"]["Data"])))


def _apply(swarm: Swarm, fleet: str, service: dict[str, Any] | None, config: str) -> bool:
    """Make the service, or update the version seen; False where somebody else did meanwhile."""
    from docker.errors import APIError, NotFound

    try:
        spec = _spec(swarm, fleet, config)
    except NotFound:  # whoever came first took it for one of before
        return False
    if service is None:
        answer = swarm.api._post_json(swarm.api._url("/services/create"), data=spec)
    else:
        url = swarm.api._url("/services/{0}/update", service["ID"])
        answer = swarm.api._post_json(url, data=spec, params={"version": service["Version"]["Index"]})
    if answer.ok:
        return True
    if answer.status_code in (404, 409) or "out of sequence" in answer.text or not _exists(swarm, config):
        return False
    try:
        swarm.api._raise_for_status(answer)
    except APIError as error:
        raise SwarmError(f"{name_of(fleet)}: the engine refused it: {error.explanation or error}") from error
    return False


def _spec(swarm: Swarm, fleet: str, config: str) -> dict[str, Any]:
    """The gateway's own service, with another program, one network and one config."""
    gateway = swarm.services(fleet).get(f"{fleet}_gateway")
    if gateway is None:
        raise SwarmError(f"{fleet} runs no gateway, so nobody can be told anything; deploy the fleet first")
    networks = patiently(lambda: swarm.api.networks(names=[f"{fleet}_backend"]))
    network = next(item["Id"] for item in networks if item["Name"] == f"{fleet}_backend")
    labels = {f"{LABEL}.fleet": fleet, f"{LABEL}.part": "board"}
    task = copy.deepcopy(gateway["Spec"]["TaskTemplate"])
    task.pop("ForceUpdate", None)
    task.pop("Runtime", None)
    container = task["ContainerSpec"]
    key = [secret for secret in container.get("Secrets") or [] if secret["File"]["Name"] == "gateway_session_key"]
    if not key:
        raise SwarmError(f"{fleet}_gateway has no secret gateway_session_key; deploy the fleet first")
    owner = {"UID": "10001", "GID": "10001", "Mode": 0o440}
    name = swarm.api.inspect_config(config)["Spec"]["Name"]
    container |= {
        "Args": ["board", "--file", TARGET, "--key-file", "/run/secrets/gateway_session_key", "--port", str(PORT)],
        "Labels": labels,
        "Secrets": key,
        "Configs": [{"ConfigID": config, "ConfigName": name, "File": {"Name": TARGET, **owner}}],
        "StopGracePeriod": 5 * SECOND,
        # What is asked is the image's; it is asked more often, for whoever posts waits for it.
        "Healthcheck": {"Interval": SECOND, "Timeout": 5 * SECOND, "StartPeriod": 30 * SECOND, "Retries": 5},
    }
    task["Networks"] = [{"Target": network}]
    task["Resources"] = {"Limits": {"NanoCPUs": SECOND // 2, "MemoryBytes": 128 * 1024 * 1024}}
    return {
        "Name": name_of(fleet),
        "Labels": labels,
        "TaskTemplate": task,
        "Mode": {"Replicated": {"Replicas": 1}},
        "UpdateConfig": {"Parallelism": 1, "Order": "start-first", "FailureAction": "pause", "Monitor": SECOND},
        "EndpointSpec": {"Mode": "dnsrr"},
    }


def _until_up(swarm: Swarm, fleet: str, config: str) -> None:
    """Wait until a task with the config runs.

    Raises:
        SwarmError: none does.
    """
    name, deadline = name_of(fleet), time.monotonic() + UP_SECONDS
    while True:
        tasks = [task for task in swarm.tasks(name) if _mounts(task, config)]
        if any(task["Status"]["State"] == "running" for task in tasks):
            return
        ended = [task for task in tasks if task["Status"]["State"] in ENDED]
        if len(ended) > 2 or time.monotonic() > deadline:
            verdict = Verdict("failed", "it does not come up", next(iter(ended or tasks), None))
            raise SwarmError(describe(swarm, name, verdict))
        time.sleep(0.3)


def _exists(swarm: Swarm, config: str) -> bool:
    from docker.errors import NotFound

    try:
        patiently(lambda: swarm.api.inspect_config(config))
    except NotFound:
        return False
    return True


def _mounts(task: dict[str, Any], config: str) -> bool:
    configs = (task["Spec"].get("ContainerSpec") or {}).get("Configs") or []
    return any(item["ConfigID"] == config for item in configs)


# -- its configs -----------------------------------------------------------------------------------------------


def _make_config(swarm: Swarm, fleet: str, document: Document) -> str:
    """The config that holds the document, by its id."""
    data = json.dumps(document, sort_keys=True).encode()
    name = f"{name_of(fleet)}_{hashlib.sha256(data).hexdigest()[:12]}"
    labels = {f"{LABEL}.fleet": fleet, RECORD: "board"}
    return str(patiently(lambda: swarm.api.create_config(name, data, labels=labels))["ID"])


def _remove_config(swarm: Swarm, config: str) -> None:
    from docker.errors import APIError

    with contextlib.suppress(APIError):  # a task that leaves may have it for a moment longer; the next post tries again
        swarm.api.remove_config(config)


def _remove_others(swarm: Swarm, fleet: str, kept: str) -> None:
    for item in swarm.records(fleet, "board"):
        if item["ID"] != kept:
            _remove_config(swarm, item["ID"])
