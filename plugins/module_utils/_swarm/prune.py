# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fleet left behind: releases beyond those that are kept, and objects and images that none of these names.

Only what carries a label of ours is looked at. Volumes are data: they are told, never removed.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import content_name, parts
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import distribution, documents, lock
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import (
    LABEL,
    RECORD,
    Swarm,
    SwarmError,
    patiently,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.images import service_images
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.objects import age, prune_objects
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.releases import Release, Releases, unpack

# Every image that is built here has it, from the base image on.
BUILT = f"{LABEL}.base-source"
# The base image is made from one of this name, with its tag and without labels.
ROOT, OS = "mcp-swarm/root:", "mcp-swarm/os:"


@dataclass
class Pruned:
    """What went, or in check mode would go.

    Attributes:
        releases: numbers of records.
        objects: names of secrets and configs, and of services that gave nodes images for a deploy that died.
        networks, images: names.
        volumes: those of the fleet that no kept release names; they stay.
        kept_images: what must stay on other nodes too.
    """

    releases: list[int] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    kept_images: list[str] = field(default_factory=list)

    def result(self) -> dict[str, Any]:
        """As the module returns it."""
        return {"changed": bool(self.releases or self.objects or self.networks or self.images), **asdict(self)}


def prune(swarm: Swarm, fleet: str, keep: int, keep_images: Iterable[str], seconds: float, check: bool) -> Pruned:
    """Remove what no kept release of the fleet names. The caller holds the lock.

    Args:
        keep: how many deployed releases are kept.
        keep_images: images that stay even if no release names them.
        seconds: how long ago an object or image that no release ever named must have been made.
        check: whether only to tell.

    Raises:
        SwarmError: a deploy was left unfinished: what it needs is not known.
    """
    releases = Releases(swarm, fleet)
    if dead := releases.unfinished:
        raise SwarmError(
            f"{dead} is not finished: nothing was removed. Run the deploy playbook, which finishes it or restores the"
            " release before, and prune then"
        )
    known = {name for release in releases.all for name in release.objects()}
    gone = releases.beyond(keep) if check else releases.drop(keep)
    numbers = {release.number for release in gone}
    stay = [release for release in releases.good if release.number not in numbers]
    found = Pruned(sorted(numbers))
    # In check mode nobody holds the lock: what gives nodes their images may be of a deploy that lives.
    left = [] if check and _deploys(swarm, fleet) else distribution.sweep(swarm, fleet, check)
    named = {name for release in stay for name in release.objects()}
    found.objects = left + [n for n in prune_objects(swarm, fleet, named, known, seconds, check) if n not in left]
    if stay:  # before the first deploy nothing says what networks and volumes are for
        found.networks = _networks(swarm, fleet, _named(stay, "networks"), seconds, check)
        found.volumes = sorted(_volumes(swarm, fleet) - _named(stay, "volumes"))
    found.kept_images = sorted((named_images(swarm, fleet, numbers) | set(keep_images)) - {""})
    found.images = prune_node(swarm.api, found.kept_images, seconds, check)
    return found


def _deploys(swarm: Swarm, fleet: str) -> bool:
    """Whether somebody holds the fleet's lock who is not known to be dead."""
    there = lock.holder_of(swarm, fleet)
    return bool(there and not there.dead(swarm.node_id))


def prune_node(api: Any, kept: Iterable[str], seconds: float, check: bool) -> list[str]:
    """Remove from this node the images that were built by this product and are not to be kept; returns them.

    What a container uses stays in any case: the engine sees to that.

    Args:
        api: the node's engine; it need be no manager.
        kept: references.
        seconds: images that were made or got a name since then stay: they may be for a deploy that is about to begin.
        check: whether only to tell.
    """
    from docker.errors import APIError

    kept = set(kept)
    names = {content_name(ref) for ref in kept}
    names |= {name.replace(OS, ROOT) for name in names}
    # What a node pulled may have no name but its digest's.
    digests = {f"{parts(ref)[0]}@{parts(ref)[2]}" for ref in kept}
    used = {container["ImageID"] for container in api.containers(all=True)}
    removed: list[str] = []
    for image in [*api.images(filters={"label": BUILT}), *api.images(filters={"reference": f"{ROOT}*"})]:
        if _idle(api, image) < seconds:
            continue
        tags = {tag for tag in image.get("RepoTags") or [] if not tag.startswith("<none>")}
        gone = {tag for tag in tags if content_name(tag) not in names}
        if not tags and not digests.intersection(image.get("RepoDigests") or []):
            gone = set(image.get("RepoDigests") or [])
        # Of what a container uses a name can go, but not the last one.
        if image["Id"] in used and gone >= tags:
            continue
        for ref in sorted(gone - set(removed)):
            if not check:
                try:
                    api.remove_image(ref, noprune=True)
                except APIError:  # a container uses it since, or it is gone: either is right
                    continue
            removed.append(ref)
    return sorted(removed)


def _idle(api: Any, image: dict[str, Any]) -> float:
    """Seconds since an image was made, or since this node gave it a name: a pull brings old images too."""
    from docker.errors import NotFound

    made = time.time() - image["Created"]
    try:
        tagged = (api.inspect_image(image["Id"]).get("Metadata") or {}).get("LastTagTime")
    except NotFound:  # somebody else removed it
        return made
    return min(made, age(tagged)) if tagged else made


def _named(releases: list[Release], kind: str) -> set[str]:
    """Networks or volumes that releases name."""
    return {name for release in releases for name in documents.names(release.document, kind)}


def named_images(swarm: Swarm, fleet: str, gone: Collection[int] = ()) -> set[str]:
    """Images that any fleet's releases or services name, but for the releases of this one that are gone."""
    named = set()
    for item in patiently(lambda: swarm.api.configs(filters={"label": f"{RECORD}=release"})):
        labels = item["Spec"]["Labels"]
        number = int(labels[f"{LABEL}.release"])
        if labels.get(f"{LABEL}.fleet") != fleet or number not in gone:
            named |= set(unpack(number, base64.b64decode(item["Spec"]["Data"]), labels).images.values())
    return named | service_images(swarm)


def _volumes(swarm: Swarm, fleet: str) -> set[str]:
    """The fleet's volumes on this node."""
    found = swarm.api.volumes(filters={"label": f"{LABEL}.fleet={fleet}"})["Volumes"] or []
    return {volume["Name"] for volume in found}


def _networks(swarm: Swarm, fleet: str, kept: set[str], seconds: float, check: bool) -> list[str]:
    """Remove the fleet's networks that no kept release names; one that is in use stays."""
    from docker.errors import APIError

    removed = []
    for network in swarm.api.networks(filters={"label": f"{LABEL}.fleet={fleet}"}):
        if network["Name"] in kept or age(network["Created"]) < seconds:
            continue
        if not check:
            try:
                swarm.api.remove_network(network["Id"])
            except APIError:
                continue
        removed.append(network["Name"])
    return sorted(removed)
