# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks, secrets and configs of a fleet: made where missing, removed where nothing uses them."""

from __future__ import annotations

import calendar
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import (
    LABEL,
    RECORD,
    Swarm,
    SwarmError,
)

# Options of the overlay driver. The second is the path's between nodes: the driver takes its own part off.
ENCRYPTED, MTU = "encrypted", "com.docker.network.driver.mtu"
DEFAULT_MTU = 1500
# An object that no release names may be one that a deploy waiting for the lock has just made.
FRESH_SECONDS = 3600.0


def owner(fleet: str) -> dict[str, str]:
    """The label that marks an object as this fleet's; nothing without it is ever removed."""
    return {f"{LABEL}.fleet": fleet}


def _existing(swarm: Swarm, kind: str) -> dict[str, dict[str, Any]]:
    return {item["Spec"]["Name"]: item for item in getattr(swarm.api, kind)()}


def ensure_objects(swarm: Swarm, fleet: str, kind: str, contents: Mapping[str, str], check: bool) -> list[str]:
    """Make the ``secrets`` or ``configs`` that do not exist yet; returns their names.

    Names carry a digest of the content, so one that exists is right.
    """
    existing = _existing(swarm, kind)
    made = [name for name in contents if name not in existing]
    if not check:
        create = swarm.api.create_secret if kind == "secrets" else swarm.api.create_config
        for name in made:
            create(name, contents[name].encode(), labels=owner(fleet))
    return made


def ensure_networks(swarm: Swarm, fleet: str, networks: list[dict[str, Any]], check: bool) -> list[str]:
    """Make the overlay networks that do not exist yet; returns their names.

    Args:
        networks: each with ``name``, ``subnet``, ``internal`` and maybe ``mtu`` (bytes, of the path between nodes) and
            ``encrypted`` (None: either will do).

    Raises:
        SwarmError: a network of that name exists and is not what the plan says; nothing was made.
    """
    existing = {network["Name"]: network for network in swarm.api.networks()}
    if problems := [p for network in networks if (p := _other_options(existing.get(network["name"]), network))]:
        raise SwarmError("\n".join([*problems, NO_CHANGE_OF_NETWORKS]))
    made = []
    for network in networks:
        name, subnet = network["name"], network["subnet"]
        there = existing.get(name)
        if there:
            pools = [pool.get("Subnet") for pool in (there.get("IPAM") or {}).get("Config") or []]
            if there["Driver"] != "overlay" or subnet not in pools or there["Internal"] != network["internal"]:
                raise SwarmError(
                    f"the network {name} exists with subnet {pools}, the plan says {subnet}; run the teardown playbook"
                    " to move the fleet to other subnets, or set mcp_fleet.networks to what is there"
                )
            continue
        made.append(name)
        if not check:
            swarm.api.create_network(
                name,
                driver="overlay",
                scope="swarm",
                internal=network["internal"],
                attachable=True,
                ipam={"Driver": "default", "Config": [{"Subnet": subnet}]},
                options=_options(network),
                labels=owner(fleet),
            )
    return made


NO_CHANGE_OF_NETWORKS = (
    "A network cannot be changed while it is there, and nothing was. Either say in mcp_fleet.networks what is there, or"
    " make the networks anew, which takes the fleet down for some minutes and keeps its data: playbooks/teardown.yml"
    " -e teardown_volumes=false, then site.yml"
)


def _options(network: Mapping[str, Any]) -> dict[str, str]:
    options = {ENCRYPTED: "true"} if network.get("encrypted") else {}
    if network.get("mtu", DEFAULT_MTU) != DEFAULT_MTU:
        options[MTU] = str(network["mtu"])
    return options


def _other_options(there: Mapping[str, Any] | None, network: Mapping[str, Any]) -> str:
    """What of a network that exists is not as it is wanted, in words; empty where all is."""
    if there is None:
        return ""
    options = there.get("Options") or {}
    # The driver takes the option without a value, too.
    encrypted = options.get(ENCRYPTED, "false").lower() not in ("false", "0")
    wanted = network.get("encrypted")
    if wanted is not None and encrypted != wanted:
        words = {True: "encrypted between nodes", False: "not encrypted between nodes"}
        return f"the network {network['name']} is {words[encrypted]}, and is to be {words[wanted]}."
    mtu, mine = int(options.get(MTU, DEFAULT_MTU)), network.get("mtu", DEFAULT_MTU)
    if mtu != mine:
        return f"the network {network['name']} is for packets of {mtu} bytes between nodes, and is to be for {mine}."
    return ""


def used_objects(swarm: Swarm) -> set[str]:
    """Ids of the secrets and configs that any service refers to."""
    used: set[str] = set()
    for service in swarm.api.services():
        specs = [service["Spec"], service.get("PreviousSpec") or {}]
        for spec in specs:
            container = (spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}
            used |= {item["SecretID"] for item in container.get("Secrets") or []}
            used |= {item["ConfigID"] for item in container.get("Configs") or []}
    return used


def prune_objects(
    swarm: Swarm,
    fleet: str,
    keep: set[str],
    known: set[str] | None = None,
    seconds: float = FRESH_SECONDS,
    check: bool = False,
) -> list[str]:
    """Remove this fleet's secrets and configs that no service uses and ``keep`` does not name.

    Args:
        swarm: the manager.
        fleet: whose objects.
        keep: names that stay.
        known: names that releases of this fleet had. None removes all, records of releases and the lock too.
        seconds: others than known ones stay for so long, for somebody may be about to use them.
        check: whether only to tell what would go.
    """
    used, removed = used_objects(swarm), []
    for kind in ("secrets", "configs"):
        remove = swarm.api.remove_secret if kind == "secrets" else swarm.api.remove_config
        for name, item in _existing(swarm, kind).items():
            labels = item["Spec"].get("Labels") or {}
            if labels.get(f"{LABEL}.fleet") != fleet or name in keep or item["ID"] in used:
                continue
            if known is not None and (labels.get(RECORD) or (name not in known and age(item["CreatedAt"]) < seconds)):
                continue
            if not check:
                remove(item["ID"])
            removed.append(name)
    return removed


def age(stamp: str) -> float:
    """Seconds since an engine's time stamp."""
    return time.time() - calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))
