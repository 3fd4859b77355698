# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stack's images are, exactly: a tag that somebody may move is no answer."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError

# Images that the fleet builds are named by their content: the tag is a digest.
CONTENT_TAG = re.compile(r":[0-9a-f]{12}$")


def pinned(swarm: Swarm, images: dict[str, str]) -> dict[str, str]:
    """Service to its image by content: a content-named tag as it is, any other with its digest.

    Args:
        swarm: the manager.
        images: service to the image that the stack names.

    Raises:
        SwarmError: naming each service whose image is nowhere or has no digest, and what to do.
    """
    found: dict[str, str] = {}
    here = {tag for image in swarm.api.images() for tag in image.get("RepoTags") or []}
    answers = {image: image for image in images.values() if image in here and CONTENT_TAG.search(image)}
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
        _present(swarm, image)
        return image
    try:
        # The registry first: the tag may have moved since this node pulled it.
        return f"{image}@{swarm.api.inspect_distribution(image)['Descriptor']['digest']}"
    except (APIError, DockerException) as error:
        said = getattr(error, "explanation", None) or str(error)
    try:
        digests = swarm.api.inspect_image(image).get("RepoDigests") or []
    except (ImageNotFound, NotFound):
        raise SwarmError(
            f"the image {image} is not on this manager, and its registry does not give it: {said};"
            " correct source.image in mcp_servers, or log in to the registry"
        ) from None
    repository = re.sub(r":[^/:]*$", "", image)
    for digest in digests:
        if digest.split("@")[0] == repository:
            return f"{image}@{digest.split('@')[1]}"
    raise SwarmError(
        f"the image {image} has no digest: it was built here under a tag that can move, and its registry does not"
        f" know it: {said}; push it, or name it by its digest"
    )


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

    wanted = set(kept) | service_images(swarm)
    removed = []
    for image in sorted(set(dropped) - wanted):
        try:
            swarm.api.remove_image(image, noprune=True)
        except APIError:  # a container uses it, or it is gone: either is right
            continue
        removed.append(image)
    return removed


def service_images(swarm: Swarm) -> set[str]:
    """Images that any service of the Swarm names, now or in what it would go back to."""
    specs = [spec for s in swarm.api.services() for spec in (s["Spec"], s.get("PreviousSpec") or {})]
    return {str(((spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}).get("Image", "")) for spec in specs}


def images_of(document: dict[str, Any]) -> dict[str, str]:
    """Service to image, as a compose document names them."""
    return {name: str(service["image"]) for name, service in document["services"].items()}
