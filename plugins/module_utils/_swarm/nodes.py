# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes of a Swarm: what each is, what the inventory wants it to be, and when the managers may do without one."""

from __future__ import annotations

import base64
import contextlib
import copy
import itertools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import (
    LABEL,
    Api,
    Swarm,
    SwarmError,
    away,
    out_of_sequence,
    patiently,
)

# The node's name in the inventory: host names may be the same on two nodes, and an id dies with a machine.
HOST = f"{LABEL}.host"
# Which labels the inventory set, so that those it no longer has are removed and others stay.
OWNED = f"{LABEL}.labels"
# Of a Swarm that the fleet's role made.
MADE = f"{LABEL}.made"
ROLE_SECONDS = 60.0
POLL_SECONDS = 0.5
ATTEMPTS = 10


@dataclass(frozen=True)
class Node:
    """A node as its managers see it.

    Attributes:
        id: as the Swarm calls it; names are for people.
        hostname, host: the machine's name, and its name in the inventory (empty where the fleet did not add it).
        role, availability, labels: what it is meant to be (manager or worker; active, pause or drain).
        state: ready, down, disconnected or unknown.
        reachability: of a manager for the others: reachable or unreachable; empty for workers.
        leader, address, engine: whether it leads the managers, where it is, the version of its engine.
    """

    id: str
    hostname: str
    host: str
    role: str
    availability: str
    state: str
    reachability: str
    leader: bool
    address: str
    engine: str
    labels: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.host or self.hostname

    @property
    def votes(self) -> bool:
        """Whether it counts among the managers: a node that was lost while it was demoted still may."""
        return self.role == "manager" or bool(self.reachability)

    def is_a(self, role: str) -> bool:
        """Whether it has a role, in the managers' count too."""
        return self.role == role and self.votes == (role == "manager")

    @property
    def ready(self) -> bool:
        """Whether it takes tasks."""
        return self.state == "ready" and self.availability == "active"

    def __str__(self) -> str:
        return f"{self.name} ({self.id[:12]})"


def node(item: Mapping[str, Any]) -> Node:
    """A node of the engine's answer."""
    spec, description = item["Spec"], item.get("Description") or {}
    status, manager = item.get("Status") or {}, item.get("ManagerStatus") or {}
    labels = dict(spec.get("Labels") or {})
    engine = description.get("Engine") or {}
    return Node(
        id=item["ID"],
        hostname=description.get("Hostname", ""),
        host=labels.get(HOST, ""),
        role=spec.get("Role", "worker"),
        availability=spec.get("Availability", "active"),
        state=status.get("State", "unknown"),
        reachability=manager.get("Reachability", ""),
        leader=bool(manager.get("Leader")),
        address=str(manager.get("Addr") or status.get("Addr") or "").rpartition(":")[0] or status.get("Addr", ""),
        engine=engine.get("EngineVersion", ""),
        labels=labels,
        attributes={
            "engine": engine.get("Labels") or {},
            "platform": description.get("Platform") or {},
            "resources": (description.get("Resources") or {}).get("GenericResources") or [],
        },
    )


def nodes(swarm: Swarm) -> list[Node]:
    """All of them, by name."""
    found = [node(item) for item in patiently(swarm.api.nodes)]
    return sorted(found, key=lambda one: (one.name, one.id))


def find(there: Sequence[Node], wanted: str) -> Node:
    """The node that ``wanted`` means: its name in the inventory, its id, or a host name that only one has.

    Raises:
        SwarmError: none or several; the message lists those there are.
    """
    for matches in (
        [n for n in there if n.id == wanted],
        [n for n in there if n.host == wanted],
        [n for n in there if n.hostname == wanted],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            several = ", ".join(f"{n.id} ({n.state}, {n.address})" for n in matches)
            raise SwarmError(f"node {wanted}: {len(matches)} nodes have this name: {several}; give the id of one")
    known = ", ".join(n.name for n in there) or "none"
    raise SwarmError(f"node {wanted}: no such node in this Swarm; there are: {known}")


def quorum_without(there: Sequence[Node], leaving: Node) -> str:
    """Why the managers cannot do without one of them; empty where they can.

    Raft needs more than half of all managers; one that does not answer counts among all, but not among those that do.
    """
    rest = [n for n in there if n.votes and n.id != leaving.id]
    if not leaving.votes:
        return ""
    if not rest:
        return f"{leaving} is the only manager: without it there is no Swarm; playbooks/teardown.yml removes the fleet"
    answer = [n for n in rest if n.reachability == "reachable"]
    needed = len(rest) // 2 + 1
    if len(answer) >= needed:
        return ""
    silent = ", ".join(str(n) for n in rest if n.reachability != "reachable")
    return (
        f"{leaving} is needed: of the {len(rest)} other managers {len(answer)} answer, and {needed} must;"
        f" bring back {silent}, or promote another node first"
    )


def update(swarm: Swarm, target: Node, change: Callable[[dict[str, Any]], None]) -> bool:
    """Change a node's specification; returns whether it changed. Somebody else's change in between is no conflict.

    Raises:
        SwarmError: the Swarm refuses it.
    """
    from docker.errors import APIError

    for attempt in itertools.count(1):
        try:
            item = patiently(lambda: swarm.api.inspect_node(target.id))
            spec = copy.deepcopy(item["Spec"])
            change(spec)
            if spec == item["Spec"]:
                return False
            patiently(partial(swarm.api.update_node, target.id, item["Version"]["Index"], spec))
        except APIError as error:
            if out_of_sequence(error) and attempt < ATTEMPTS:
                continue
            raise SwarmError(
                f"{target}: the Swarm refused to change the node: {error.explanation or error}; correct what it names,"
                " and run again"
            ) from error
        return True
    raise AssertionError


def wanted_labels(has: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """A node's labels with those that the inventory wants, and without those that it once set and no longer wants.

    Labels that others set stay, unless the inventory now wants another value.
    """
    before = json.loads(has.get(OWNED) or "[]")
    labels = {key: value for key, value in has.items() if key not in before or key in wanted}
    labels |= wanted
    labels.pop(OWNED, None)
    owned = sorted(key for key in wanted if not key.startswith(f"{LABEL}."))
    if owned:
        labels[OWNED] = json.dumps(owned)
    return labels


def check_role(swarm: Swarm, target: Node, role: str) -> None:
    """Whether a node can be promoted or demoted as things are.

    Raises:
        SwarmError: the managers cannot do without it, it does not answer, or it is the one that is asked.
    """
    if target.is_a(role):
        return
    if role == "worker" and (problem := quorum_without(nodes(swarm), target)):
        raise SwarmError(f"{problem}; nothing was changed")
    if role == "worker" and target.id == swarm.node_id:
        raise SwarmError(f"{target} cannot demote itself; ask another manager; nothing was changed")
    if role == "manager" and target.state != "ready":
        raise SwarmError(
            f"{target} is {target.state}: only a node that answers can become a manager; bring it back, and run again"
        )
    if role == "manager" and target.role == "worker" and target.votes:
        raise SwarmError(
            f"{target} was lost while it was demoted, and the managers still count it among themselves: take it out"
            f" (playbooks/leave.yml -e node={target.name}) and let it join again (playbooks/provision.yml)"
        )


def set_role(swarm: Swarm, target: Node, role: str, say: Callable[[str], None], seconds: float = ROLE_SECONDS) -> bool:
    """Promote or demote a node and wait until the managers count it so; returns whether anything changed.

    A node that is demoted knows it some seconds after its managers. Lost in between, it comes back as one that still
    votes; then it is promoted and demoted again, which takes its vote, and must leave and join. To make it a manager
    would end its engine: the others expect what it has no more (etcd-io/raft: "tocommit is out of range").

    Raises:
        SwarmError: the managers cannot do without it, or it did not become what it should within ``seconds``.
    """
    if target.is_a(role):
        return False
    check_role(swarm, target, role)
    if target.role == role:
        update(swarm, target, lambda spec: spec.update(Role="manager"))
    update(swarm, target, lambda spec: spec.update(Role=role))
    say(f"{target} becomes a {role}")
    deadline = time.monotonic() + seconds
    while True:
        now = find(nodes(swarm), target.id)
        if now.reachability == ("reachable" if role == "manager" else ""):
            return True
        if time.monotonic() > deadline:
            raise SwarmError(
                f"{target} is to be a {role}, but {seconds:.0f} s later it is not: the others say"
                f" {now.reachability or 'nothing of it'}; look at docker node ls on a manager"
            )
        time.sleep(POLL_SECONDS)


def remove(swarm: Swarm, target: Node, force: bool) -> None:
    """Remove a node that left, or with ``force`` one that is dead, from the list of nodes.

    Raises:
        SwarmError: it lives, or the managers cannot do without it.
    """
    if target.state == "ready":
        raise SwarmError(
            f"{target} is ready: it must leave first (playbooks/leave.yml -e node={target.name} does all of it)"
        )
    from docker.errors import APIError, NotFound

    set_role(swarm, target, "worker", lambda dummy: None)
    deadline = time.monotonic() + ROLE_SECONDS
    while True:
        try:
            swarm.api.remove_node(target.id, force=force)
            return
        except Exception as error:
            if isinstance(error, NotFound):
                return
            if not isinstance(error, APIError) and not away(error):
                raise
            if time.monotonic() > deadline:  # its demotion takes a moment, and so does an engine that restarts
                raise SwarmError(
                    f"{target} was not removed: {getattr(error, 'explanation', None) or error}; look at docker node ls"
                    " on a manager, and run again when the node is down there"
                ) from error
        time.sleep(POLL_SECONDS)


def as_dict(one: Node) -> dict[str, Any]:
    """A node as modules return it."""
    return {
        "id": one.id,
        "name": one.name,
        "hostname": one.hostname,
        "host": one.host,
        "role": one.role,
        "availability": one.availability,
        "state": one.state,
        "reachability": one.reachability,
        "leader": one.leader,
        "address": one.address,
        "engine": one.engine,
        "labels": one.labels,
    }


def certified_role(root: Path) -> str:
    """The role by which a node starts again: its certificate's, ``manager`` or ``worker``; empty without one.

    It is the certificate's organisational unit (Moby's SwarmKit, ``ca/certificates.go``).

    Args:
        root: where the engine keeps its data.
    """
    with contextlib.suppress(OSError, ValueError):
        text = (root / "swarm" / "certificates" / "swarm-node.crt").read_text("ascii")
        body = base64.b64decode(text.partition("-----BEGIN CERTIFICATE-----")[2].partition("-----END")[0])
        return next((role for role in ("manager", "worker") if f"swarm-{role}".encode() in body), "")
    return ""


def look() -> dict[str, Any]:
    """What this host's engine knows of a Swarm; never fails, for a host without one is an answer too.

    ``serves`` is true where it is a manager, and the managers have a leader: only then anything can be asked of it.
    """
    seen: dict[str, Any] = {
        "state": "none",
        "node_id": "",
        "cluster_id": "",
        "manager": False,
        "certificate": "",
        "serves": False,
        "made": False,
        "address": "",
        "managers": [],
        "nodes": [],
        "problem": "",
    }
    api: Any = Api()
    try:
        info = api.info()
    except Exception as error:  # in as many ways as the SDK has errors; without the SDK too
        return seen | {"problem": f"the Docker engine does not answer: {error}"}
    swarm = info.get("Swarm") or {}
    cluster = swarm.get("Cluster") or {}
    seen |= {
        "state": swarm.get("LocalNodeState", "inactive"),
        "node_id": swarm.get("NodeID", ""),
        "cluster_id": cluster.get("ID", ""),
        "made": ((cluster.get("Spec") or {}).get("Labels") or {}).get(MADE) == "true",
        "manager": bool(swarm.get("ControlAvailable")),
        "certificate": certified_role(Path(info.get("DockerRootDir") or "/var/lib/docker")),
        "address": swarm.get("NodeAddr", ""),
        "managers": sorted(m["Addr"] for m in swarm.get("RemoteManagers") or []),
        "problem": swarm.get("Error", ""),
    }
    if seen["manager"]:
        try:
            found = sorted((node(item) for item in api.nodes()), key=lambda one: (one.name, one.id))
            seen |= {"nodes": [as_dict(one) for one in found], "serves": True}
        except Exception as error:
            said = getattr(error, "explanation", None) or str(error)
            seen |= {"problem": f"its managers have no leader: {' '.join(str(said).split())}"}
    return seen
