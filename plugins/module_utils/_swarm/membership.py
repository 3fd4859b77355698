# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which Swarm the inventory's hosts belong to, whom to ask, and who has still to join. Pure: looks in, decision out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LEAVE = "if that one is not needed, run there: docker swarm leave --force"
HEALTHY = "active"
NOT_IN = ("inactive", "none", "")


class MembershipError(Exception):
    """The hosts cannot be brought into one Swarm as they are."""


@dataclass
class Membership:
    """The decision.

    Attributes:
        ask: a host that is a manager of the Swarm and answers; empty where the Swarm is yet to be made.
        initialise: the host that makes it; empty where there is one.
        join: hosts that are in no Swarm, but for the one that initialises.
        stale: ids of nodes that are down and whose host has been in the Swarm under another id since.
        unknown: nodes that the inventory does not have, as people call them.
    """

    ask: str = ""
    initialise: str = ""
    join: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def choose(
    managers: Sequence[str],
    seen: Mapping[str, Mapping[str, Any] | None],
    other_than: Collection[str] = (),
    optional: bool = False,
) -> str:
    """The first manager that serves.

    Args:
        managers: in the inventory's order.
        seen: host to what ``look`` of it said, or to Ansible's failure (``msg``) where it did not answer.
        other_than: not these, by host, host name or id.
        optional: whether there may be none, where each host answers and none is in a Swarm; then it is empty.

    Raises:
        MembershipError: none serves; the message names each that was tried, and why it cannot be asked.
    """
    reasons = []
    for host in managers:
        look = seen.get(host) or {}
        me: Mapping[str, Any] = next((node for node in look.get("nodes") or [] if node["id"] == look["node_id"]), {})
        if {host, look.get("node_id"), me.get("host"), me.get("hostname")} & set(other_than):
            reasons.append(f"{host}: is what this is about")
        elif look.get("serves"):
            return host
        else:
            reasons.append(f"{host}: {_silence(look)}")
    if optional and all((seen.get(host) or {}).get("state") in NOT_IN for host in managers):
        return ""
    raise MembershipError(
        "\n".join(
            [
                "No manager of this inventory can be asked:",
                *(reasons or ["mcp_managers has no host"]),
                "Bring one back, or run the provision playbook where there is no Swarm yet.",
            ]
        )
    )


def _silence(look: Mapping[str, Any]) -> str:
    """Why a host cannot be asked."""
    if "state" not in look:
        # Ansible's words, of the connection or of the module.
        why = str(look.get("msg") or "it was not asked").strip().splitlines()[0]
        return f"does not answer: {why}"
    if look["problem"]:
        return str(look["problem"])
    if look["state"] in NOT_IN:
        return "is in no Swarm"
    return f"is a worker ({look['state']})" if not look["manager"] else f"is {look['state']}"


def decide(
    managers: Sequence[str],
    workers: Sequence[str],
    seen: Mapping[str, Mapping[str, Any] | None],
    initialise: bool = False,
) -> Membership:
    """Decide from what each host said.

    Args:
        managers, workers: the inventory's hosts, in its order.
        seen: host to what ``look`` of it said; None or missing where it did not answer.
        initialise: whether a new Swarm may be made although managers did not answer.

    Raises:
        MembershipError: hosts are in different Swarms, or none that answers can tell which is right.
    """
    hosts = [*managers, *workers]
    looks = {host: look for host in hosts if (look := seen.get(host)) and "state" in look}
    counted = {node["id"] for look in looks.values() if look["serves"] for node in look["nodes"]}
    problems = [
        f"{host}: its Swarm is {look['state']}: {look['problem'] or 'no reason is told'}; {_repair(look, counted)}"
        for host, look in looks.items()
        if look["state"] not in (HEALTHY, *NOT_IN)
    ]
    if problems:
        raise MembershipError("\n".join(problems))
    members = [host for host, look in looks.items() if look["state"] == HEALTHY]
    clusters: dict[str, list[str]] = {}
    for host in members:
        if looks[host]["serves"]:
            clusters.setdefault(looks[host]["cluster_id"], []).append(host)
    if len(clusters) > 1:
        lines = [f"{', '.join(there)}: in the Swarm {cluster}" for cluster, there in clusters.items()]
        raise MembershipError(
            "\n".join(
                [
                    "The inventory's hosts are in different Swarms:",
                    *lines,
                    "Keep one of them. If nothing in the others is needed, run on each of their hosts:"
                    " docker swarm leave --force",
                ]
            )
        )
    if not clusters:
        return _first(managers, looks, members, initialise)
    there = next(iter(clusters.values()))
    ask = there[0]
    known = {node["id"]: node for node in looks[ask]["nodes"]}
    foreign = [
        f"{host}: is in another Swarm than {ask} (as node {looks[host]['node_id']}, managers"
        f" {', '.join(looks[host]['managers']) or 'unknown'}); {LEAVE}"
        for host in members
        if looks[host]["node_id"] not in known
    ]
    if foreign:
        raise MembershipError("\n".join(foreign))
    ids = {host: look["node_id"] for host, look in looks.items()}
    return Membership(
        ask=ask,
        join=[host for host in looks if host not in members],
        stale=[
            node["id"]
            for node in known.values()
            if node["host"] in ids and node["id"] not in ids.values() and node["state"] != "ready"
        ],
        unknown=[
            f"{node['name']} ({node['id'][:12]}, {node['state']})"
            for node in known.values()
            if node["id"] not in ids.values() and node["host"] not in hosts
        ],
    )


def _first(
    managers: Sequence[str], looks: Mapping[str, Mapping[str, Any]], members: Sequence[str], initialise: bool
) -> Membership:
    """No host that answers manages a Swarm that works: make one, if that cannot be a second one."""
    lost = [host for host in members if looks[host]["manager"]]
    if lost:
        said = "; ".join(f"{host}: {looks[host]['problem']}" for host in lost)
        raise MembershipError(
            f"The Swarm of {', '.join(lost)} has no quorum ({said}). Bring back its other managers; if they are gone"
            f" for good, run on {lost[0]}: docker swarm init --force-new-cluster"
        )
    if members:
        host = members[0]
        raise MembershipError(
            f"{host}: is in a Swarm of other managers ({', '.join(looks[host]['managers']) or 'unknown'}), of which"
            f" none is in this inventory or answers; {LEAVE}"
        )
    silent = [host for host in managers if host not in looks]
    answering = [host for host in managers if host in looks]
    if not answering:
        raise MembershipError(
            f"No manager answers: {', '.join(silent) or 'mcp_managers is empty'}. Without one there is no Swarm to join"
        )
    if silent and not initialise:
        raise MembershipError(
            f"{', '.join(answering)}: in no Swarm, and {', '.join(silent)} did not answer: one of those may have it."
            " Bring them back, or take them out of mcp_managers; if they never were in one: -e swarm_initialise=true"
        )
    first = answering[0]
    return Membership(initialise=first, join=[host for host in looks if host != first])


def _repair(look: Mapping[str, Any], counted: Collection[str]) -> str:
    """What to do about a host that is not well in its Swarm; ``counted`` are the nodes of the managers that serve."""
    state = look["state"]
    if state == "locked":
        return "unlock it there: docker swarm unlock"
    removed = counted and look["node_id"] and look["node_id"] not in counted
    if state == "pending" and removed:  # while it was away
        return LEAVE
    if state == "pending":
        return "it waits for its managers; look at journalctl --unit docker there, and run again"
    return "look at journalctl --unit docker there; docker swarm leave --force makes it forget the Swarm"
