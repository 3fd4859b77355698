# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images that the fleet built and nobody needs any more: on a node, and in the fleet's own registry."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._process import run
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import RegistryError, own_name, parts

with contextlib.suppress(ImportError):  # Registry() says so in its own words
    from docker.errors import APIError

COLLECT_SECONDS = 1800.0


def needless(images: Iterable[Mapping[str, Any]], keep: Iterable[str], now: float, fresh: float) -> list[str]:
    """Names of images that the fleet built and ``keep`` does not name. Pure.

    Args:
        images: as the engine lists them.
        keep: names of any form.
        now, fresh: what was made on this node less than ``fresh`` seconds before ``now`` stays.
    """
    kept = {own_name(image) for image in keep} - {""}
    # On nodes that only run it an image may have no name but its digest's.
    digests = {f"{parts(image)[0]}@{parts(image)[2]}" for image in keep if "@" in image}
    found = []
    for image in images:
        tags, by_digest = image.get("RepoTags") or [], image.get("RepoDigests") or []
        names = {own_name(tag) for tag in tags} - {""}
        ours = names or any("/mcp-swarm/" in f"/{digest}" for digest in by_digest)
        if not ours or names & kept or digests.intersection(by_digest) or now - image["Created"] < fresh:
            continue
        foreign = [tag for tag in tags if not own_name(tag) and tag != "<none>:<none>"]
        if not foreign:
            found += [tag for tag in tags if own_name(tag)] + [digest for digest in by_digest if "<none>" not in digest]
    return sorted(found)


def prune_node(api: Any, keep: list[str], fresh: float, check: bool) -> list[str]:
    """Remove such images from a node; returns the names that are gone. What a container uses stays."""
    names = needless(api.images(), keep, time.time(), fresh)
    if check:
        return names
    removed = []
    for name in names:
        with contextlib.suppress(APIError):  # it is used, or has gone with another of its names
            api.remove_image(name)
            removed.append(name)
    return removed


def collect(api: Any, stack: str, keep: list[str], fresh: float) -> dict[str, Any]:
    """Clean the registry, where it runs on this node.

    Raises:
        RegistryError: with what it said.
    """
    label = f"com.docker.swarm.service.name={stack}_registry"
    containers = api.containers(filters={"label": label, "status": "running"})
    if not containers:
        return {"deleted": [], "freed": 0}
    command = [shutil.which("docker") or "docker", "exec", "--interactive", containers[0]["Id"], "registry-collect"]
    wish = json.dumps({"keep": registry_names(keep), "fresh_seconds": fresh})
    code, output = run(command, stdin=wish.encode(), timeout=COLLECT_SECONDS)
    try:
        if code == 0:
            return dict(json.loads(output.splitlines()[-1]))
    except (ValueError, IndexError):
        pass
    raise RegistryError(f"the registry could not be cleaned: {' '.join(output.split())[-500:]}")


def registry_names(keep: Iterable[str]) -> list[str]:
    """Names as the registry has them: without its host, by tag and by digest."""
    found = set()
    for image in keep:
        if not (name := own_name(image)):
            continue
        found.add(name)
        if digest := parts(image)[2]:
            found.add(f"{name.partition(':')[0]}@{digest}")
    return sorted(found)
