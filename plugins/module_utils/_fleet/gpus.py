# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which servers get GPUs: what the catalogue wants against what the nodes have. Pure; docs/gpu-placement.md in words.

A node has units: its GPUs times ``mcp_node_gpu_slots``. A replica takes ``gpus`` units, all of one node. Swarm counts
the same way, by generic resources (docs.docker.com/reference/cli/dockerd, "Node generic resources"); what it could
never place is told here, before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils import _constraints, _gpu_terms, _services

from .facts import Host
from .placing import HOST_LABEL, constraints

# What of the driver a container sees: CUDA and nvidia-smi.
NEEDED = "compute,utility"
# So many ways to place replicas of several units are looked at; what is not found by then counts as impossible.
MOST_LOOKS = 20_000
EDGE_LABEL = f"{_services.LABEL}.edge"
# What the inventory says of a node; of other keys only the engine knows.
KNOWN = ("node.labels.", "node.role")


@dataclass(frozen=True)
class Want:
    """What one server wants.

    Attributes:
        server: its name.
        path: of its entry, for messages.
        units: of each replica.
        replicas: how many shall have them: with ``scale`` the most there may be.
        nodes: those with GPUs that it may run on, by name.
        required: whether it runs nowhere else.
        instead: what else its entry's ``gpu`` could be.
    """

    server: str
    path: str
    units: int
    replicas: int
    nodes: tuple[str, ...]
    required: bool = True
    instead: str = "preferred"


@dataclass
class Allotment:
    """What comes of it.

    Attributes:
        replicas: server to how many replicas on GPUs it has; servers without any are absent.
        errors: one line per server that requires what is not there.
        warnings: one line each, of what is less than was asked for, or may fail.
    """

    replicas: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def host_rules(hosts: Iterable[Host], errors: list[str]) -> None:
    """What ``mcp_node_gpus`` and ``mcp_node_gpu_slots`` may be."""
    for host in hosts:
        for key, value, least, what in (
            ("mcp_node_gpus", host.gpus, 0, "how many GPUs the node has"),
            ("mcp_node_gpu_slots", host.gpu_slots, 1, "how many replicas may share each GPU"),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                errors.append(
                    f"{host.name}: {key}: {value!r} is not allowed; give {what}, a whole number of at least {least},"
                    " without quotes"
                )
        if host.gpus == 0 and isinstance(host.gpu_slots, int) and host.gpu_slots > 1:
            errors.append(
                f"{host.name}: mcp_node_gpu_slots: {host.gpu_slots} has no effect without GPUs; set mcp_node_gpus, or"
                " remove it"
            )


def units(host: Host) -> int:
    """How many units a node has."""
    return host.gpus * host.gpu_slots


def server_rules(server: Mapping[str, Any], path: str, errors: list[str]) -> None:
    """What ``gpu`` demands of a server's other keys.

    Args:
        server: the entry, with defaults filled in.
        path: of the entry, for messages.
        errors: takes one line per mistake.
    """
    gpu, kind = server["gpu"], (server["source"] or {}).get("kind")
    pool = {key: value for key, value in server["gpu_pool"].items() if value is not None}
    if gpu != "none" and kind == "remote":
        errors.append(f"{path}.gpu: {gpu!r} has no effect with kind remote, which runs elsewhere; remove it")
    if gpu == "none" and server["gpus"] not in (1, None):
        errors.append(f"{path}.gpus: {server['gpus']} has no effect without a GPU; set gpu, or remove it")
    if gpu != "preferred":
        for key, value in (("gpu_tools", server["gpu_tools"]), ("gpu_pool", pool)):
            if value:
                errors.append(
                    f"{path}.{key}: has no effect with gpu {gpu}: there are not two services to choose from; set gpu:"
                    " preferred, or remove it"
                )
    for where in ("env", "secrets"):
        if _gpu_terms.VISIBLE in server[where]:
            errors.append(
                f"{path}.{where}.{_gpu_terms.VISIBLE}: Swarm assigns GPUs, and what is set here would show others' too;"
                " remove it, and say by gpu and gpus what the server needs"
            )
    if gpu != "preferred":
        return
    if server["volumes"]:
        errors.append(
            f"{path}.gpu: 'preferred' makes two services, and both would write to the server's volumes"
            f" ({', '.join(server['volumes'])}); use 'required' or 'none', or keep its data in a server of its own"
        )
    if server["sessions"] == "sticky":
        errors.append(
            f"{path}.gpu: 'preferred' makes two services, and a sticky server's state is in one replica, which not"
            " every call would reach; use 'required' or 'none', or make it stateless"
        )
    scale = server["scale"]
    if scale and scale.get("min") == 0:
        errors.append(
            f"{path}.scale.min: 0 lets the CPU twin of a server with gpu: preferred sleep, which has to take over at"
            " once when the GPUs are taken; use at least 1"
        )
    if scale and scale["targets"].get("gpu_percent") is not None:
        errors.append(
            f"{path}.scale.targets.gpu_percent: with gpu: preferred the CPU twin is what is scaled, and it uses no GPU;"
            " use in_flight, or gpu: required"
        )


def _said(host: Host, key: str) -> str | None:
    """What a node will say to a constraint, by the inventory."""
    if key == "node.role":
        return "manager" if host.manager else "worker"
    labels = {**host.labels, HOST_LABEL: host.name, EDGE_LABEL: str(host.edge).lower()}
    return labels.get(key.removeprefix("node.labels."))


def _may_run(host: Host, rules: Iterable[str]) -> bool:
    """Whether a node meets what the inventory knows of; the rest it may."""
    return all(_constraints.meets(lambda key: _said(host, key), rule) for rule in rules if _known(rule))


def _known(rule: str) -> bool:
    return _constraints.key(rule).startswith(KNOWN)


def room(wants: Sequence[Want], free: Mapping[str, int]) -> bool:
    """Whether all replicas of all wants fit at once.

    Exact, but for `MOST_LOOKS`: replicas of several units are placed by search, those of one unit by augmenting paths
    (L. R. Ford, D. R. Fulkerson, Maximal flow through a network, 1956).

    Args:
        free: node to its units.
    """
    large = sorted(
        (want for want in wants if want.units > 1 for dummy in range(want.replicas)),
        key=lambda want: (-want.units, len(want.nodes), want.server),
    )
    small = [want for want in wants if want.units == 1 for dummy in range(want.replicas)]
    if sum(want.units * want.replicas for want in wants) > sum(free.values()):
        return False
    # Nodes that the same servers may use, with as much left, are as good as each other.
    users = {node: tuple(node in want.nodes for want in wants) for node in free}
    failed: set[tuple[int, tuple[Any, ...]]] = set()

    def place(position: int, left: dict[str, int]) -> bool:
        if position == len(large):
            return _singles(small, left)
        state = (position, tuple(sorted((users[node], number) for node, number in left.items())))
        if state in failed or len(failed) > MOST_LOOKS:
            return False
        want, tried = large[position], []
        for node in sorted(want.nodes, key=lambda node: (left[node], node)):
            alike = (users[node], left[node])
            if left[node] < want.units or alike in tried:
                continue
            tried.append(alike)
            if place(position + 1, {**left, node: left[node] - want.units}):
                return True
        failed.add(state)
        return False

    return place(0, dict(free))


def _singles(wants: Sequence[Want], free: Mapping[str, int]) -> bool:
    """Whether replicas of one unit each find room: where one does not, others make way."""
    taken: dict[str, list[Want]] = {node: [] for node in free}

    def place(want: Want, seen: set[str]) -> bool:
        for node in want.nodes:
            if node in seen:
                continue
            seen.add(node)
            if len(taken[node]) < free[node]:
                taken[node].append(want)
                return True
            for index, other in enumerate(taken[node]):
                if place(other, seen):
                    taken[node][index] = want
                    return True
        return False

    return all(place(want, set()) for want in wants)


def _most(want: Want, placed: Sequence[Want], free: Mapping[str, int]) -> int:
    """How many of a server's replicas fit beside those that are placed."""
    low, high = 0, min(want.replicas, sum(free[node] // want.units for node in want.nodes))
    while low < high:
        middle = (low + high + 1) // 2
        if room([*placed, replace(want, replicas=middle)], free):
            low = middle
        else:
            high = middle - 1
    return low


def allot(servers: Sequence[Mapping[str, Any]], data_node: str, hosts: Sequence[Host]) -> Allotment:
    """Give GPUs to those that require them, then to those that prefer them.

    Of those that prefer them, in the catalogue's order, each gets one replica before any gets a second. The order of
    the nodes decides nothing.

    Args:
        servers: the catalogue, with defaults filled in.
        data_node: ``mcp_fleet.data_node``.
        hosts: the inventory's nodes.
    """
    hosts = sorted(hosts, key=lambda host: host.name)
    with_gpus = [host for host in hosts if units(host)]
    free = {host.name: units(host) for host in with_gpus}
    made = Allotment()
    wants: list[Want] = []
    for index, server in enumerate(servers):
        if server["gpu"] not in ("required", "preferred"):
            continue
        path, rules = f"mcp_servers[{index}]", constraints(server, data_node, hosts)
        able = [host for host in with_gpus if _may_run(host, rules)]
        shared = [host for host in able if host.gpu_slots > 1]
        if server["gpus"] > 1 and shared:
            made.errors.append(_shared(server, path, shared))
        unknown = [rule for rule in rules if not _known(rule)]
        if unknown and able:
            made.warnings.append(
                f"{path}.constraints: {', '.join(unknown)}: the inventory does not know which nodes meet that, so every"
                f" node with GPUs counts for {server['name']}; use node, or labels of mcp_node_labels"
            )
        if (percent := ((server["scale"] or {}).get("targets") or {}).get("gpu_percent")) and shared:
            made.warnings.append(
                f"{path}.scale.targets.gpu_percent: {percent:g}: on {_names(shared)} several replicas share a GPU, and"
                " each shows the use of all of it, which one more does not lower; use in_flight"
            )
        wants.append(
            Want(
                server["name"],
                path,
                server["gpus"],
                wanted(server),
                tuple(host.name for host in able),
                server["gpu"] == "required",
                "none" if server["volumes"] or server["sessions"] == "sticky" else "preferred",
            )
        )
    placed: list[Want] = []
    for want in (want for want in wants if want.required):
        fit = _most(want, placed, free)
        if fit < want.replicas:
            made.errors.append(_missing(want, fit, wants, with_gpus))
        placed.append(replace(want, replicas=fit))
    preferring = [want for want in wants if not want.required]
    placed += _by_turns(preferring, placed, free)
    given = {want.path: want.replicas for want in placed}
    for want in preferring:
        if given[want.path] < want.replicas:
            made.warnings.append(_fewer(want, given[want.path], placed, with_gpus))
    made.replicas = {want.server: given[want.path] for want in wants if given[want.path]}
    made.warnings += [
        _at_risk(want, placed)
        for want in (replace(want, replicas=given[want.path]) for want in wants)
        if _may_strand(want, placed, free)
    ]
    return made


def wanted(server: Mapping[str, Any]) -> int:
    """On how many replicas of a server there shall be GPUs, at most."""
    if server["gpu"] == "preferred":
        return int(server["replicas"] and (server["gpu_pool"]["replicas"] or server["replicas"]))
    scale = server["scale"]
    return int(scale["max"] if scale else server["replicas"])


def _by_turns(wants: Sequence[Want], placed: Sequence[Want], free: Mapping[str, int]) -> list[Want]:
    """One replica for each that there is room for, then another, until nobody gets more."""
    given = [replace(want, replicas=0) for want in wants]
    open_, most = set(range(len(wants))), max((want.replicas for want in wants), default=0)
    for turn in range(1, most + 1):
        for index, want in enumerate(wants):
            if index not in open_ or want.replicas < turn:
                continue
            more = [*given[:index], replace(want, replicas=turn), *given[index + 1 :]]
            if room([*placed, *more], free):
                given = more
            else:
                open_.discard(index)
    return given


def _may_strand(want: Want, placed: Sequence[Want], free: Mapping[str, int]) -> bool:
    """Whether others may take what the last replica needs, though there is room for all: Swarm does not look ahead."""
    if not want.replicas:
        return False
    left = {node: free[node] for node in want.nodes if free[node] >= want.units}
    able, others = list(left), 0
    for other in placed:
        if other.path != want.path:
            there = sum(free[node] // other.units * other.units for node in able if node in other.nodes)
            others += min(other.units * other.replicas, there)
    # Its own other replicas, where they leave least.
    for dummy in range(want.replicas - 1):
        left[max(able, key=lambda node: left[node])] -= want.units
    # So much must be taken that no node has enough left.
    return others >= sum(number - (want.units - 1) for number in left.values() if number >= want.units)


# -- words ---------------------------------------------------------------------------------------------------------


def _names(hosts: Iterable[Host]) -> str:
    return ", ".join(host.name for host in hosts)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _have(hosts: Iterable[Host]) -> str:
    """What each node has."""
    return ", ".join(
        f"{host.name} has {units(host)}"
        + (f" ({_count(host.gpus, 'GPU')} of {host.gpu_slots} slots)" if host.gpu_slots > 1 else "")
        for host in hosts
    )


def _others(want: Want, others: Iterable[Want], required: bool) -> str:
    """Who else takes units of the same nodes."""
    found = [
        f"{other.server} takes {other.units * other.replicas}"
        for other in others
        if other.path != want.path
        and other.replicas
        and other.required >= required
        and set(other.nodes) & set(want.nodes)
    ]
    return f", {', '.join(found)}" if found else ""


def _shared(server: Mapping[str, Any], path: str, shared: Sequence[Host]) -> str:
    slots = ", ".join(f"{host.name}: {host.gpu_slots}" for host in shared)
    return (
        f"{path}.gpus: {server['gpus']} units could be slots of one GPU where GPUs are shared (mcp_node_gpu_slots of"
        f" {slots}); use gpus: 1, set mcp_node_gpu_slots: 1 there, or keep {server['name']} to other nodes by node or"
        " constraints"
    )


def _missing(want: Want, fit: int, wants: Sequence[Want], hosts: Sequence[Host]) -> str:
    """A server that requires more than there is, the numbers, and what helps."""
    head = f"{want.path}.gpu: 'required'"
    if not hosts:
        return f"{head}, but no node of this inventory has mcp_node_gpus; use {want.instead!r} or add one"
    able = [host for host in hosts if host.name in want.nodes]
    if not able:
        return (
            f"{head}, but none of the nodes with GPUs ({_have(hosts)}) is one that {want.server} may run on; correct"
            " its node or constraints, or the nodes' mcp_node_labels"
        )
    if all(units(host) < want.units for host in able):
        return (
            f"{head}: each replica of {want.server} takes {want.units} units of one node, and none that it may run on"
            f" has as many: {_have(able)}; lower gpus, or use gpu: {want.instead}"
        )
    lower = f"lower its replicas or scale.max to {fit}" if fit else "lower the replicas of others"
    ways = [lower, *_more_slots(want, fit, wants, able), f"use gpu: {want.instead}"]
    return (
        f"{head}: {want.server} wants {_count(want.replicas, 'replica')} of {_count(want.units, 'unit')}, and there is"
        f" room for {fit}: {_have(able)}{_others(want, wants, True)}; {', '.join(ways[:-1])}, or {ways[-1]}"
    )


def _more_slots(want: Want, fit: int, wants: Sequence[Want], able: Sequence[Host]) -> list[str]:
    """How sharing GPUs would make room, where it may."""
    several = {node for other in wants if other.units > 1 for node in other.nodes}
    shareable = [host for host in able if host.name not in several]
    if want.units > 1 or not shareable:
        return []
    host = min(shareable, key=lambda host: (-host.gpus, host.name))
    more = -(-(want.replicas - fit) // host.gpus)
    return [f"set mcp_node_gpu_slots: {host.gpu_slots + more} for {host.name}"]


def _fewer(want: Want, fit: int, placed: Sequence[Want], hosts: Sequence[Host]) -> str:
    """A server that prefers GPUs and gets fewer, or none."""
    able = [host for host in hosts if host.name in want.nodes]
    head = f"{want.path}.gpu: 'preferred'"
    if not able:
        return f"{head}: no node that {want.server} may run on has GPUs; it runs on the CPU alone"
    asked = f"{_count(want.replicas, 'replica')} of {_count(want.units, 'unit')}"
    there = f"{_have(able)}{_others(want, placed, False)}"
    if not fit:
        return f"{head}: no GPU is left for {want.server}, which wants {asked}: {there}; it runs on the CPU alone"
    return (
        f"{head}: {want.server} wants {asked} on GPUs, and there is room for {fit}: {there}; the calls beyond these go"
        " to its CPU twin"
    )


def _at_risk(want: Want, placed: Sequence[Want]) -> str:
    return (
        f"{want.path}.gpu: there is room for {want.server}, but only where Swarm happens to leave it free"
        f"{_others(want, placed, False)}: Swarm spreads replicas without looking ahead; keep the others to other nodes"
        " by node or constraints"
    )
