# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a stack's images are, exactly: a tag that somebody may move is no answer."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import (
    explain,
    host_of,
    own_name,
    parts,
)
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import said as reason
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError

with contextlib.suppress(ImportError):  # Swarm() says so in its own words
    from docker.errors import APIError, DockerException, ImageNotFound, NotFound

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
    answers: dict[str, str] = {}
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
    digest = _known_digest(swarm, image)
    if digest is None:
        raise SwarmError(
            f"the image {image} is not on this manager, and its registry does not give it: {said};"
            " correct source.image in mcp_servers, or log in to the registry"
        )
    if digest:
        return f"{image}@{digest}"
    raise SwarmError(
        f"the image {image} has no digest: it was built here under a tag that can move, and its registry does not"
        f" know it: {said}; push it, or name it by its digest"
    )


def _known_digest(swarm: Swarm, image: str) -> str | None:
    """The digest that a registry gave this node; empty where none did, None where the image is not here."""
    try:
        digests = swarm.api.inspect_image(image).get("RepoDigests") or []
    except (ImageNotFound, NotFound):
        return None
    repository = parts(image)[0]
    return next((digest.split("@")[1] for digest in digests if digest.split("@")[0] == repository), "")


def _content(swarm: Swarm, image: str) -> str:
    """An image whose tag is its content. What is in a registry gets its digest: then a node that has it asks nobody."""
    digest = _known_digest(swarm, image)
    if not digest and host_of(image):
        try:
            digest = swarm.api.inspect_distribution(image)["Descriptor"]["digest"]
        except (APIError, DockerException) as error:
            raise SwarmError(f"the image {image}: {explain(reason(error))}") from None
    if digest:
        return f"{image}@{digest}"
    _present(swarm, image)
    return image


def _present(swarm: Swarm, image: str) -> None:
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
    wanted = {_content_name(image) for image in kept}
    for service in swarm.api.services():
        for spec in (service["Spec"], service.get("PreviousSpec") or {}):
            image = str(((spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}).get("Image", ""))
            wanted.add(_content_name(image))
    removed = []
    for image in sorted({image.partition("@")[0] for image in dropped}):
        if _content_name(image) in wanted:
            continue
        # Under its own name, and under the one that it was built by here.
        for name in {image, own_name(image)} - {""}:
            try:
                swarm.api.remove_image(name, noprune=True)
            except APIError:  # a container uses it, or it is gone: either is right
                continue
            removed.append(name)
    return removed


def _content_name(image: str) -> str:
    """What two names of the same content have in common, whichever registry it is in."""
    return own_name(image) or image.partition("@")[0]


def images_of(document: dict[str, Any]) -> dict[str, str]:
    """Service to image, as a compose document names them."""
    return {name: str(service["image"]) for name, service in document["services"].items()}
