# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Have images on every node that may run them, before services move.

Swarm pulls when a task is to start: then a node without room or without access to the registry is found when the old
task may be gone. Here a job that runs once on each node has its engine pull; where a service is bound to some nodes by
constraints the job is bound by the same, so that Swarm itself says which they are. Any manager can do it.
"""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils import _registry as registries
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import jobs, pull_agent
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import (
    LABEL,
    Swarm,
    SwarmError,
    patiently,
)

POLL_SECONDS = 0.7
# Swarm makes a job's tasks at once; where it makes none for so long, no node is eligible.
NO_TASKS_SECONDS = 5.0
# A task's last words come a moment after its end.
WORDS_SECONDS = 5.0
PULLING = f"{LABEL}.pulling"
AGENT = "/run/pull.py"
NOT_RUN = "what would have pulled it did not run there"

Say = Callable[[str], None]


@dataclass
class Group:
    """Images for the nodes that meet the same constraints.

    Attributes:
        constraints: of the services.
        images: image by content to the services that run it.
        nodes: names of the eligible nodes by id, as far as they are known.
        here: image to the ids of the nodes that have it.
        failed: image to node id to what was said.
        job: the service that pulls them.
        ended: when its last task had ended, in seconds after the start; 0 before.
    """

    constraints: tuple[str, ...]
    images: dict[str, list[str]] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    here: dict[str, set[str]] = field(default_factory=dict)
    failed: dict[str, dict[str, str]] = field(default_factory=dict)
    job: str = ""
    ended: float = 0.0

    def listen(self, lines: Iterable[Mapping[str, Any]]) -> list[str]:
        """Take what the nodes have said so far; returns for people what is new."""
        news = []
        for line in lines:
            image, node = line["image"], line["node"]
            if image not in self.images:
                continue
            here = self.here.setdefault(image, set())
            if line["state"] == "failed":
                self.failed.setdefault(image, {})[node] = str(line["error"])
            elif node not in here:
                here.add(node)
                total = max(len(self.nodes), len(here))
                # Who had it is no news, but that all have it is.
                if line["state"] == "pulled" or len(here) == len(self.nodes):
                    news.append(f"{len(here)}/{total} nodes have {', '.join(self.images[image])}")
        return news

    def untold(self) -> list[tuple[str, str]]:
        """Each image and node of which nothing was said."""
        return [
            (image, node)
            for image in self.images
            for node in self.nodes
            if node not in self.here.get(image, ()) and node not in self.failed.get(image, {})
        ]

    def over(self, tasks: Mapping[str, Mapping[str, Any]], waited: float, timeout: float) -> bool:
        """Whether nothing more is to be waited for; then all that was not told is judged by the tasks.

        Args:
            tasks: node id to the job's task there.
            waited: seconds since the start.
            timeout: of all of it, in seconds.
        """
        if not tasks and waited < NO_TASKS_SECONDS:
            return False
        late = waited > timeout
        if not late:
            if any(task["Status"]["State"] not in jobs.ENDED for task in tasks.values()):
                return False
            self.ended = self.ended or waited
            if self.untold() and waited < self.ended + WORDS_SECONDS:
                return False
        for image, node in self.untold():
            status = tasks[node]["Status"]
            if status["State"] == "complete":  # it says that all went well, whoever lost its words
                self.here.setdefault(image, set()).add(node)
                continue
            said = f"{NOT_RUN}: {status.get('Err') or status.get('Message') or status['State']}"
            self.failed.setdefault(image, {})[node] = f"not done within {timeout:.0f} s" if late else said
        return True


def groups(document: Mapping[str, Any], names: Iterable[str]) -> list[Group]:
    """What is to be where, for some services of a document. Pure.

    An image without a digest is in no registry: it is where it was built.
    """
    found: dict[tuple[str, ...], Group] = {}
    for name in sorted(names):
        service = document["services"].get(name)
        if service is None or "@" not in service["image"]:
            continue
        placement = (service.get("deploy") or {}).get("placement") or {}
        constraints = tuple(sorted(placement.get("constraints") or ()))
        group = found.setdefault(constraints, Group(constraints))
        group.images.setdefault(service["image"], []).append(name)
    return list(found.values())


def agent_image(document: Mapping[str, Any]) -> str:
    """An image of ours in a registry, which has Python; empty where the document has none."""
    for name in ("gateway", "edge"):
        image = str(document["services"].get(name, {}).get("image", ""))
        if "@" in image:
            return image
    return ""


def distribute(
    swarm: Swarm,
    fleet: str,
    document: Mapping[str, Any],
    before: Mapping[str, Any],
    names: Iterable[str],
    timeout: float,
    say: Say,
    alive: Callable[[], None],
) -> None:
    """Have each image on each node that may run its service.

    Args:
        swarm: the manager, with the credentials of registries.
        fleet: whose deploy this is.
        document: the compose document, images pinned.
        before: that of the release that serves: what pulls runs in an image of it, which nodes have, so that it can say
            why they cannot have others.
        names: the services that will move.
        timeout: seconds for all of it.
        say: takes progress lines.
        alive: called at each look; raises where the deploy is to end.

    Raises:
        SwarmError: naming each node that cannot have an image; nothing was changed.
    """
    ready = [node for node in patiently(swarm.api.nodes) if node["Status"]["State"] == "ready"]
    wanted, agent = groups(document, names), agent_image(before) or agent_image(document)
    if len(ready) < 2 or not wanted or not agent:
        return
    sweep(swarm, fleet)
    everything = sorted({image for group in wanted for image in group.images})
    say(f"giving {len(ready)} nodes {len(everything)} image{'s' if len(everything) > 1 else ''}")
    made: list[Callable[[], Any]] = []
    try:
        _start(swarm, fleet, wanted, agent, [*everything, agent], made)
        _follow(swarm, wanted, timeout, say, alive)
    finally:
        for undo in reversed(made):
            undo()
    if wrong := [line for group in wanted for line in problems(group, fleet)]:
        raise SwarmError("\n".join([*wrong, "Nothing was changed."]))


def sweep(swarm: Swarm, fleet: str, check: bool = False) -> list[str]:
    """Remove what a deploy that died left of this, a secret with registries' credentials too; returns names.

    Args:
        swarm: the manager.
        fleet: whose. The caller holds its lock, or what goes may be of a deploy that lives.
        check: whether only to tell.
    """
    mine, gone = {"label": f"{PULLING}={fleet}"}, []
    for kind in ("services", "secrets", "configs"):  # objects go after what uses them
        for item in patiently(partial(getattr(swarm.api, kind), filters=mine)):
            if not check:
                getattr(swarm.api, f"remove_{kind[:-1]}")(item["ID"])
            gone.append(str(item["Spec"]["Name"]))
    return gone


def _start(
    swarm: Swarm, fleet: str, wanted: Sequence[Group], agent: str, images: list[str], made: list[Callable[[], Any]]
) -> None:
    labels = {f"{LABEL}.fleet": fleet, PULLING: fleet}
    auths = registries.auth_headers(swarm.api, images)
    stamp = f"{fleet}_pull_{time.time_ns() // 1_000_000:x}"

    def config(name: str, text: str) -> dict[str, Any]:
        identity = swarm.api.create_config(name, text.encode(), labels=labels)["ID"]
        made.append(partial(swarm.api.remove_config, identity))
        return {"ConfigID": identity, "ConfigName": name}

    secret = swarm.api.create_secret(stamp, json.dumps(auths).encode(), labels=labels)["ID"]
    made.append(partial(swarm.api.remove_secret, secret))
    script = config(f"{stamp}_agent", inspect.getsource(pull_agent))
    for number, group in enumerate(wanted):
        wish = config(f"{stamp}_{number}", json.dumps(sorted(group.images)))
        socket = {"Type": "bind", "Source": pull_agent.SOCKET, "Target": pull_agent.SOCKET, "ReadOnly": True}
        container = {
            "Env": ["NODE_ID={{.Node.ID}}"],
            "Mounts": [socket],
            "Configs": [_file(script, AGENT), _file(wish, pull_agent.WISH)],
            "Secrets": [{"SecretID": secret, "SecretName": stamp, **_mount("pull")}],
        }
        name, command = f"{stamp}_{number}", ["python3", AGENT]
        job = jobs.spec(name, agent, command, jobs.once_on_each(), group.constraints, labels, container)
        group.job = jobs.create(swarm, job, auths.get(agent, ""))
        made.append(partial(swarm.api.remove_service, group.job))


def _mount(name: str) -> dict[str, Any]:
    return {"File": {"Name": name, "UID": "0", "GID": "0", "Mode": 0o400}}


def _file(reference: dict[str, Any], path: str) -> dict[str, Any]:
    return {**reference, **_mount(path)}


def _follow(swarm: Swarm, wanted: Sequence[Group], timeout: float, say: Say, alive: Callable[[], None]) -> None:
    """Watch the jobs to their end."""
    start = time.monotonic()
    waiting = list(wanted)
    while waiting:
        alive()
        waited = time.monotonic() - start
        nodes = {node["ID"]: node for node in patiently(swarm.api.nodes)}
        for group in list(waiting):
            tasks = _tasks(swarm, group.job, nodes)
            group.nodes = {node: jobs.node_name(nodes[node]) for node in tasks}
            for line in group.listen(jobs.words(group.job, "image")):
                say(line)
            if group.over(tasks, waited, timeout):
                waiting.remove(group)
        if waiting:
            time.sleep(POLL_SECONDS)


def _tasks(swarm: Swarm, job: str, nodes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The job's task on each node that is there; a node that is lost gets no other task of the fleet either."""
    found = patiently(lambda: swarm.api.tasks(filters={"service": job}))
    return {
        task["NodeID"]: task
        for task in found
        if task.get("NodeID") in nodes and nodes[task["NodeID"]]["Status"]["State"] == "ready"
    }


def problems(group: Group, fleet: str) -> list[str]:
    """One line for each node and cause."""
    lines: dict[tuple[str, str], list[str]] = {}
    for image, nodes in sorted(group.failed.items()):
        for node, said in nodes.items():
            lines.setdefault((group.nodes.get(node, node), said), []).append(", ".join(group.images[image]))
    reports = []
    for (node, said), services in sorted(lines.items()):
        if said.startswith(NOT_RUN):
            why = (
                f"{said}; {registries.IMAGES}, which proves each node's access to the registry, and look at"
                " journalctl --unit docker there"
            )
        else:
            why = registries.explain(said).replace("<fleet>", fleet)
        reports.append(f"node {node} cannot have the image of {', '.join(services)}: {why}")
    return reports
