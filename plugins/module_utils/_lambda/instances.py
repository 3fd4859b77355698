# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances by name, launched once and watched until they can be used."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.capacity import (
    REGIONS,
    Place,
    Wish,
    check_wish,
    places,
    price,
    sold_out,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.client import LambdaCloud
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.errors import (
    InsufficientCapacity,
    LambdaError,
    Unavailable,
)

# The rest of the API's states are ends: terminating, terminated, preempted.
LIVE = ("booting", "active", "unhealthy")
POLL_SECONDS = 5.0
CAPACITY_POLL_SECONDS = 30.0
# How long a launch whose answer was lost may take to be listed.
LOST_SECONDS = 30.0
CONNECT_SECONDS = 5.0
SSH_BANNER = b"SSH-"

Instance = dict[str, Any]


class Stuck(LambdaError):
    """An instance did not come up in time.

    Attributes:
        instance: as it was last seen.
    """

    def __init__(self, message: str, instance: Instance) -> None:
        super().__init__(message)
        self.instance = instance


@dataclass(frozen=True)
class Launch:
    """What a new instance is launched with.

    Attributes:
        rulesets: names or ids of firewall rulesets; an instance takes those of its region.
        more: fields of the API's launch request that need no look-up.
    """

    name: str
    wish: Wish
    ssh_key: str
    file_systems: Sequence[str] = ()
    rulesets: Sequence[str] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """A launch that was checked: everything it names exists."""

    launch: Launch
    types: dict[str, dict[str, Any]]
    wish: Wish
    ruleset_ids: Mapping[str, Sequence[str]]

    def body(self, place: Place) -> dict[str, Any]:
        """The request for a place."""
        body = {
            **self.launch.more,
            "name": self.launch.name,
            "region_name": place.region,
            "instance_type_name": place.instance_type,
            "ssh_key_names": [self.launch.ssh_key],
        }
        if self.launch.file_systems:
            body["file_system_names"] = list(self.launch.file_systems)
        if self.launch.rulesets:
            body["firewall_rulesets"] = [{"id": one} for one in self.ruleset_ids[place.region]]
        return body


def find(instances: Sequence[Instance], name: str | None, instance_id: str | None = None) -> Instance | None:
    """The live instance of a name, or of an id where there is one; None where there is none.

    Raises:
        LambdaError: several have the name.
    """
    live = [instance for instance in instances if instance["status"] in LIVE]
    if instance_id:
        return next((instance for instance in live if instance["id"] == instance_id), None)
    named = [instance for instance in live if instance.get("name") == name]
    if len(named) > 1:
        raise LambdaError(
            f"name: {name}: {len(named)} instances are called so: {', '.join(map(line, named))}; Lambda lets several"
            " have one name: say which by id, and terminate or rename the others"
        )
    return named[0] if named else None


def line(instance: Instance) -> str:
    """An instance in a few words."""
    return (
        f"{instance['id']} ({instance.get('name') or 'no name'}, {instance['instance_type']['name']} in"
        f" {instance['region']['name']}, {instance['status']}, {cost(instance)})"
    )


def cost(instance: Instance) -> str:
    """What an hour of it costs."""
    return price(instance["instance_type"]["price_cents_per_hour"])


def check(cloud: LambdaCloud, launch: Launch) -> Ready:
    """Look everything up that a launch names, so that it is refused before anything is paid for.

    Raises:
        LambdaError: naming all that does not exist, and what there is.
    """
    wrong: list[str] = []
    types = cloud.instance_types()
    regions = set(REGIONS) | {r["name"] for t in types.values() for r in t["regions_with_capacity_available"]}
    if not set(launch.wish.regions) <= regions:  # one that is newer than this list
        regions |= {image["region"]["name"] for image in cloud.images()}
    keys = [key["name"] for key in cloud.ssh_keys()]
    if launch.ssh_key not in keys:
        wrong.append(
            f"ssh_key: the account has no key {launch.ssh_key!r}; it has: {', '.join(sorted(keys)) or 'none'};"
            " add it with lambda_ssh_key"
        )
    only: dict[str, set[str]] = {}
    if launch.file_systems:
        systems = {system["name"]: system["region"]["name"] for system in cloud.file_systems()}
        for name in launch.file_systems:
            if name in systems:
                only[f"file system {name}"] = {systems[name]}
            else:
                there = ", ".join(f"{known} in {where}" for known, where in sorted(systems.items()))
                wrong.append(f"file_systems: the account has no {name!r}; it has: {there or 'none'}")
    ruleset_ids: dict[str, list[str]] = {}
    if launch.rulesets:
        rulesets = cloud.firewall_rulesets()
        for name in launch.rulesets:
            named = [one for one in rulesets if name in (one["name"], one["id"])]
            if named:
                only[f"firewall ruleset {name}"] = {one["region"]["name"] for one in named}
            else:
                there = ", ".join(sorted(f"{one['name']} in {one['region']['name']}" for one in rulesets))
                wrong.append(f"firewall_rulesets: the account has no {name!r}; it has: {there or 'none'}")
            for one in named:
                ruleset_ids.setdefault(one["region"]["name"], []).append(one["id"])
    wish = Wish(launch.wish.types, launch.wish.regions, launch.wish.max_price, only)
    try:
        check_wish(wish, types, regions)
    except LambdaError as error:
        wrong.insert(0, str(error))
    if wrong:
        raise LambdaError(f"{launch.name}: nothing was launched: {'; '.join(wrong)}")
    return Ready(launch, types, wish, ruleset_ids)


def start(
    cloud: LambdaCloud, ready: Ready, known: Sequence[Instance], capacity_timeout: float = 0.0
) -> tuple[str, list[Place]]:
    """Launch at the first place that has room; the id, and the places that refused.

    Args:
        cloud: the account.
        ready: what was checked.
        known: instances that were there before.
        capacity_timeout: seconds to go on looking while everything is sold out.

    Raises:
        InsufficientCapacity: nowhere; the message names what was tried and what there is.
        LambdaError: the API refuses for another reason.
    """
    began = cloud.clock()
    tried: list[Place] = []
    types = ready.types
    while True:
        for place in places(ready.wish, types):
            try:
                return _launch_once(cloud, ready, place, known), tried
            except InsufficientCapacity:
                tried.append(place)
        waited = cloud.clock() - began
        if waited + CAPACITY_POLL_SECONDS > capacity_timeout:
            raise sold_out(ready.wish, tried, cloud.instance_types() if tried else types, waited)
        cloud.sleep(CAPACITY_POLL_SECONDS)
        types = cloud.instance_types()


def _launch_once(cloud: LambdaCloud, ready: Ready, place: Place, known: Sequence[Instance]) -> str:
    try:
        return cloud.launch(ready.body(place))
    except Unavailable as error:
        if not error.sent:
            raise
        # The answer is lost; the instance perhaps not, and a second one would be paid for too.
        name, before = ready.launch.name, {instance["id"] for instance in known}
        deadline = cloud.clock() + LOST_SECONDS
        while True:
            cloud.sleep(POLL_SECONDS)
            new = [one for one in cloud.instances() if one["id"] not in before and one.get("name") == name]
            if new:
                return str(new[0]["id"])
            if cloud.clock() > deadline:
                raise LambdaError(
                    f"{error}; whether {place} was launched is unknown: no instance called {name} has appeared in"
                    f" {LOST_SECONDS:.0f} s, and it is not launched twice; the next run takes it over if it appears"
                ) from error


def wait_active(cloud: LambdaCloud, instance: Instance, timeout: float) -> Instance:
    """Look until an instance is active and has an address.

    Raises:
        Stuck: it did not within ``timeout`` seconds, or ended.
    """
    began = cloud.clock()
    name = instance.get("name") or instance["id"]
    while True:
        seen = cloud.instance(instance["id"]) or {**instance, "status": "terminated"}
        if seen["status"] == "active" and seen.get("ip"):
            return seen
        waited = cloud.clock() - began
        if seen["status"] not in ("booting", "active"):
            raise Stuck(
                f"{name}: {line(seen)} became {seen['status']} after {waited:.0f} s, and was never active", seen
            )
        if waited + POLL_SECONDS > timeout:
            raise Stuck(f"{name}: {line(seen)} is still booting after {waited:.0f} s", seen)
        cloud.sleep(POLL_SECONDS)


def wait_ssh(
    cloud: LambdaCloud, instance: Instance, port: int, timeout: float, answers: Callable[[str, int], bool] | None = None
) -> None:
    """Look until SSH answers at an instance's address.

    Raises:
        Stuck: it did not within ``timeout`` seconds.
    """
    began = cloud.clock()
    while not (answers or ssh_answers)(instance["ip"], port):
        waited = cloud.clock() - began
        if waited + POLL_SECONDS > timeout:
            raise Stuck(
                f"{instance.get('name') or instance['id']}: {line(instance)} is active, and nothing answers as SSH at"
                f" {instance['ip']} port {port} after {waited:.0f} s; look whether a firewall rule lets this machine in"
                " (lambda_firewall_rules) and whether the instance boots (Lambda's console shows it), then run again:"
                " it is kept, and costs until it is terminated",
                instance,
            )
        cloud.sleep(POLL_SECONDS)


def ssh_answers(address: str, port: int) -> bool:
    """Whether an SSH server introduces itself there (RFC 4253 section 4.2)."""
    try:
        with socket.create_connection((address, port), CONNECT_SECONDS) as connection:
            connection.settimeout(CONNECT_SECONDS)
            return connection.recv(len(SSH_BANNER)) == SSH_BANNER
    except OSError:
        return False


def end(cloud: LambdaCloud, instance: Instance, timeout: float) -> Instance | None:
    """Terminate an instance and look until it is gone; ``timeout`` 0 does not look.

    Raises:
        LambdaError: it cannot be terminated now, or is not gone in time.
    """
    blocked(instance, "terminate")
    cloud.terminate([instance["id"]])
    if not timeout:
        return cloud.instance(instance["id"])
    began = cloud.clock()
    while True:
        seen = cloud.instance(instance["id"])
        if seen is None or seen["status"] not in (*LIVE, "terminating"):
            return seen
        waited = cloud.clock() - began
        if waited + POLL_SECONDS > timeout:
            raise LambdaError(
                f"{line(seen)} is not gone {waited:.0f} s after it was told to end; look at Lambda's dashboard: it may"
                " still cost"
            )
        cloud.sleep(POLL_SECONDS)


def blocked(instance: Instance, action: str) -> None:
    """Refuse an action that the API says it would refuse.

    Raises:
        LambdaError: with the API's reason.
    """
    state = (instance.get("actions") or {}).get(action) or {}
    if state.get("available", True):
        return
    reason = state.get("reason_description") or "no reason is given"
    code = f" ({state['reason_code']})" if state.get("reason_code") else ""
    raise LambdaError(f"{line(instance)}: {action} is not possible now: {reason.rstrip('.')}{code}; run again later")
