# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Apply a stack file and remove a stack."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Collection
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import (
    LABEL,
    Swarm,
    SwarmError,
    docker_command,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.documents import name_of
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.objects import prune_objects

REMOVAL_SECONDS = 120.0
# The engine's own label of a container, with the name of the service that it is of.
SERVICE = "com.docker.swarm.service.name"


def document(stack: dict[str, Any]) -> str:
    """The stack file's text. JSON is YAML, and PyYAML need not be on the node.

    Docker's command line takes ``$`` in a value for a variable of its own environment, and ``$$`` for the character.
    """
    head = "# Written by sophia_ai.mcp_swarm; docker stack deploy -c takes it as it is.\n"
    return head + json.dumps(_replaced(stack, "$", "$$"), indent=2) + "\n"


def read(text: str) -> Any:
    """What a stack file's text describes: the inverse of ``document``.

    Raises:
        ValueError: it is not such a text.
    """
    return _replaced(json.loads(text.partition("\n")[2]), "$$", "$")


def _replaced(value: Any, old: str, new: str) -> Any:
    """A document with ``new`` for ``old`` in each text, but for keys: Docker leaves those alone."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, dict):
        return {key: _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, old, new) for item in value]
    return value


def same_file(path: str, text: str) -> bool:
    """Whether a file is there and holds this."""
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read() == text
    except OSError:
        return False


def write_file(path: str, text: str) -> bool:
    """Replace a file in one step; returns whether its contents changed."""
    if same_file(path, text):
        return False
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    handle_fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path))
    with os.fdopen(handle_fd, "w", encoding="utf-8") as handle:
        handle.write(text)
    os.chmod(temporary, 0o644)
    os.replace(temporary, path)
    return True


def comparable(service: dict[str, Any]) -> dict[str, Any]:
    """A service's specification without what every deploy rewrites."""
    spec: dict[str, Any] = json.loads(json.dumps(service["Spec"]))
    spec.get("TaskTemplate", {}).pop("ForceUpdate", None)
    return spec


def digest(service: dict[str, Any], scaled: bool) -> str:
    """A service's specification in short; without its replicas where an autoscaler moves them."""
    spec = comparable(service)
    if scaled:
        spec.pop("Mode", None)
    return hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]


def missing_objects(swarm: Swarm, document: dict[str, Any], foreseen: Collection[str] = ()) -> list[str]:
    """Secrets, configs and networks that services refer to and the Swarm does not have, one line each.

    Args:
        swarm: the manager.
        document: the compose document.
        foreseen: names of secrets and configs that will have been made by the time it is deployed.
    """
    problems = []
    for kind in ("secrets", "configs", "networks"):
        entries = document.get(kind) or {}
        there = {item["Name"] if kind == "networks" else item["Spec"]["Name"] for item in getattr(swarm.api, kind)()}
        for service, wanted in sorted(document["services"].items()):
            used = wanted.get(kind) or []
            keys = [item["source"] if isinstance(item, dict) else item for item in used]
            for key in keys:
                name = name_of(document, kind, key)
                if kind != "networks" and name in foreseen:
                    continue
                if (entries.get(key) or {}).get("external") and name not in there:
                    problems.append(f"service {service}: the {kind[:-1]} {name} is not in the Swarm")
    return problems


def taken_ports(swarm: Swarm, stack_name: str, stack: dict[str, Any]) -> list[str]:
    """Host ports the stack wants that something else on this node holds."""
    ours = {
        port["PublishedPort"]
        for service in swarm.services(stack_name).values()
        for port in (service["Spec"].get("EndpointSpec") or {}).get("Ports") or []
    }
    problems = []
    for name, service in stack["services"].items():
        for port in service.get("ports") or []:
            published = int(port.get("published") or 0)
            if not published or published in ours:  # Swarm chooses one where none is said
                continue
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("0.0.0.0", published))
                except OSError as error:
                    problems.append(f"port {published} of {name}: {error.strerror}")
    return problems


def apply(stack_name: str, stack: dict[str, Any], docker_config: str = "") -> None:
    """``docker stack deploy``; convergence is watched by the caller.

    No file is needed: a full disk must not keep a release from being gone back to.

    Args:
        stack_name: the stack.
        stack: the compose document.
        docker_config: directory with credentials of registries, which nodes are given to pull; empty for none.

    Raises:
        SwarmError: with what the engine refused.
    """
    command = ["stack", "deploy", "--prune", "--resolve-image", "never", "--compose-file", "-"]
    if docker_config:
        command = ["--config", docker_config, *command, "--with-registry-auth"]
    text = document(stack).encode()
    code, output = docker_command(*command, "--detach=true", stack_name, stdin=text)
    if code != 0 and "unknown flag: --detach" in output:  # clients before 26 never wait
        code, output = docker_command(*command, stack_name, stdin=text)
    if code != 0:
        wrong = [line for line in output.splitlines() if not re.match(r"(?:Updating|Creating) ", line)]
        raise SwarmError(f"the engine refused the stack {stack_name}: {' '.join(wrong)}; what ran before still runs")


def remove_services(swarm: Swarm, fleet: str, kept: Collection[str] = ()) -> list[str]:
    """Remove the fleet's services but for those that are kept, and wait until the containers of the others are gone.

    Returns the names of what was removed.

    Raises:
        SwarmError: something did not go within two minutes.
    """
    gone = sorted(set(swarm.services(fleet)) - set(kept))
    for name in gone:
        swarm.api.remove_service(name)

    def left() -> list[dict[str, Any]]:
        found = swarm.api.containers(all=True, filters={"label": f"com.docker.stack.namespace={fleet}"})
        return [item for item in found if (item.get("Labels") or {}).get(SERVICE) not in kept]

    _until(lambda: not left(), "containers of the fleet")
    return gone


def remove(swarm: Swarm, fleet: str, volumes: bool) -> list[str]:
    """Remove the fleet: services, secrets, configs, networks and, if told, volumes; returns what went.

    Waits until containers and network endpoints are gone, for only then can networks and volumes go.

    Raises:
        SwarmError: something did not go within two minutes.
    """
    gone = remove_services(swarm, fleet)
    gone += prune_objects(swarm, fleet, set())
    mine = {"label": f"{LABEL}.fleet={fleet}"}
    for network in swarm.api.networks(filters=mine):
        _until(lambda n=network: _removed(swarm.api.remove_network, n["Id"]), f"the network {network['Name']}")
        gone.append(network["Name"])
    if volumes:
        for volume in swarm.api.volumes(filters=mine)["Volumes"] or []:
            _until(lambda v=volume: _removed(swarm.api.remove_volume, v["Name"]), f"the volume {volume['Name']}")
            gone.append(volume["Name"])
    return gone


def _removed(function: Any, identity: str) -> bool:
    from docker.errors import APIError, NotFound

    try:
        function(identity)
    except NotFound:
        return True
    except APIError:  # still in use; the caller tries again for a while
        return False
    return True


def _until(done: Any, what: str) -> None:
    deadline = time.monotonic() + REMOVAL_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise SwarmError(f"{what}: still there after {REMOVAL_SECONDS:.0f} s; look at docker ps and run again")
        time.sleep(0.5)
