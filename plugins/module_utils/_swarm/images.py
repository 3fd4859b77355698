# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stack's images are, exactly: a tag that somebody may move is no answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import (
    content_name,
    explain,
    host_of,
    own_name,
    parts,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError

# Images that the fleet builds are named by their content: the tag is a digest.
CONTENT_TAG = re.compile(r":[0-9a-f]{12}$")


def pinned(swarm: Swarm, images: dict[str, str]) -> dict[str, str]:
    """Service to its image by content: with its digest, or where no registry has it by its content-named tag.

    Args:
        swarm: the manager.
        images: service to the image that the stack names.

    Raises:
        SwarmError: naming each service whose image is nowhere or has no digest, and what to do.
    """
    found: dict[str, str] = {}
    here = {tag: image for image in swarm.api.images() for tag in image.get("RepoTags") or []}
    answers = {
        image: pin
        for image in images.values()
        if image in here and CONTENT_TAG.search(image) and (pin := _known(image, here[image]))
    }
    problems = []
    for service, image in sorted(images.items()):
        try:
            if image not in answers:
                answers[image] = _pin(swarm, image)
            found[service] = answers[image]
        except SwarmError as error:
            problems.append(f"service {service}: {error}")
    if problems:
        raise SwarmError("\n".join([*problems, "Nothing was changed."]))
    return found


def _pin(swarm: Swarm, image: str) -> str:
    """The image by content."""
    from docker.errors import APIError, DockerException, ImageNotFound, NotFound

    if "@sha256:" in image:
        _present(swarm, image)
        return image
    if CONTENT_TAG.search(image):
        return _content(swarm, image)
    try:
        # The registry first: the tag may have moved since this node pulled it.
        return f"{image}@{swarm.api.inspect_distribution(image)['Descriptor']['digest']}"
    except (APIError, DockerException) as error:
        said = getattr(error, "explanation", None) or str(error)
    try:
        there = swarm.api.inspect_image(image)
    except (ImageNotFound, NotFound):
        raise SwarmError(
            f"the image {image} is not on this manager, and its registry does not give it: {said};"
            " correct source.image in mcp_servers, or log in to the registry"
        ) from None
    if digest := _digest(image, there):
        return f"{image}@{digest}"
    raise SwarmError(
        f"the image {image} has no digest: it was built here under a tag that can move, and its registry does not"
        f" know it: {said}; push it, or name it by its digest"
    )


def _digest(image: str, there: Mapping[str, Any]) -> str:
    """The digest that an image's registry gave this node for it; empty where it gave none."""
    repository = parts(image)[0]
    digests = there.get("RepoDigests") or []
    return next((digest.split("@")[1] for digest in digests if digest.split("@")[0] == repository), "")


def _known(image: str, there: Mapping[str, Any]) -> str:
    """A content-named image that is here, as it is pinned; empty where its registry is to be asked.

    What is in a registry gets its digest: a node that has it by that asks nobody.
    """
    digest = _digest(image, there)
    return f"{image}@{digest}" if digest else "" if host_of(image) else image


def _content(swarm: Swarm, image: str) -> str:
    """The same of one of which this node does not know enough."""
    from docker.errors import APIError, DockerException

    if not host_of(image):
        _present(swarm, image)
        return image
    try:
        return f"{image}@{swarm.api.inspect_distribution(image)['Descriptor']['digest']}"
    except (APIError, DockerException) as error:
        said = getattr(error, "explanation", None) or str(error)
        raise SwarmError(f"the image {image}: {explain(str(said))}") from None


def _present(swarm: Swarm, image: str) -> None:
    from docker.errors import APIError, DockerException, ImageNotFound, NotFound

    try:
        swarm.api.inspect_image(image)
        return
    except (ImageNotFound, NotFound):
        pass
    try:
        swarm.api.inspect_distribution(image)
    except (APIError, DockerException) as error:
        said = getattr(error, "explanation", None) or str(error)
        raise SwarmError(
            f"the image {image} is not on this manager, and no registry gives it: {said};"
            " run the images playbook, or load it again (docker load)"
        ) from None


def prune_images(swarm: Swarm, dropped: Iterable[str], kept: Iterable[str]) -> list[str]:
    """Remove from this node the images of dropped releases that nothing names or uses any more; returns them.

    Args:
        swarm: the manager.
        dropped: images that releases named which are no more.
        kept: images that other releases and the plan name.
    """
    from docker.errors import APIError

    wanted = {content_name(image) for image in {*kept, *service_images(swarm)}}
    removed = []
    for image in sorted({image.partition("@")[0] for image in dropped}):
        if content_name(image) in wanted:
            continue
        # Under its name in the registry, and under the one that it was built by here.
        for name in sorted({image, own_name(image)} - {""}):
            try:
                swarm.api.remove_image(name, noprune=True)
            except APIError:  # a container uses it, or it is gone: either is right
                continue
            removed.append(name)
    return removed


def service_images(swarm: Swarm) -> set[str]:
    """Images that any service of the Swarm names, now or in what it would go back to."""
    specs = [spec for s in swarm.api.services() for spec in (s["Spec"], s.get("PreviousSpec") or {})]
    return {str(((spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}).get("Image", "")) for spec in specs}


def images_of(document: dict[str, Any]) -> dict[str, str]:
    """Service to image, as a compose document names them."""
    return {name: str(service["image"]) for name, service in document["services"].items()}
