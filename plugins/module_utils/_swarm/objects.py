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

    Raises:
        SwarmError: a network of that name exists and is not what the plan says.
    """
    existing = {network["Name"]: network for network in swarm.api.networks()}
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
                labels=owner(fleet),
            )
    return made


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
