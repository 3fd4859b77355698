# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan's images: which are needed, in which order, under which content-named references."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from . import dockerfiles
from .facts import Facts
from .validate import FleetError

PREFIX = "mcp-swarm"


def content_digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``, in hexadecimal."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


class _Assembly:
    """Images in the order of their needs; a change of one changes the references of all that build on it."""

    def __init__(self, site: Mapping[str, str], address: str) -> None:
        self._address = address
        # Where packages come from is not part of the content, except the mirror that a base is made of.
        self._args = {"debian_mirror": site["debian_mirror"]}
        self.images: list[dict[str, Any]] = []
        self.refs: dict[str, str] = {}

    def add(self, image: dict[str, Any]) -> None:
        content = {
            "files": image["files"],
            "trees": [(tree["dest"], tree["digest"]) for tree in image["trees"]],
            "needs": [self.refs[name] for name in image["needs"]],
            "args": self._args if image["kind"] == "base" else {},
        }
        image["ref"] = f"{PREFIX}/{image['name']}:{content_digest(content)[:12]}"
        # Where an image is kept is not part of its content either.
        image["remote"] = f"{self._address}/{image['ref']}" if self._address else image["ref"]
        self.refs[image["name"]] = image["ref"]
        self.images.append(image)


def plan_images(
    servers: list[dict[str, Any]], fleet: Mapping[str, Any], facts: Facts
) -> tuple[list[dict[str, Any]], list[str]]:
    """Everything to build, and the names of lock files that do not exist yet.

    An image whose lock is missing is planned with an empty one: it must be locked and planned again
    before it can be built.

    Raises:
        FleetError: a source tree or document of the catalogue does not exist.
    """
    errors: list[str] = []
    missing: list[str] = []
    locking: dict[str, tuple[str, dict[str, Any]]] = {}
    assembly = _Assembly(fleet["site"], fleet["registry"]["address"])
    assembly.add(dockerfiles.os_image())
    assembly.add(dockerfiles.builder_image(assembly.refs))
    assembly.add(dockerfiles.runtime_python_image(assembly.refs, facts.trees["services/runtime"]))
    assembly.add(dockerfiles.runtime_node_image(assembly.refs))
    assembly.add(dockerfiles.gateway_image(assembly.refs, facts.trees["services/gateway"]))
    assembly.add(dockerfiles.edge_image(assembly.refs))
    if fleet["registry"]["kind"] == "swarm":
        assembly.add(dockerfiles.registry_image(assembly.refs))
    if any(server["scale"] for server in servers):
        assembly.add(dockerfiles.autoscaler_image(assembly.refs, facts.trees["services/autoscaler"]))
    for index, server in enumerate(servers):
        source, path = server["source"], f"mcp_servers[{index}].source"
        if source["kind"] in ("image", "remote"):
            continue
        lock_name = dockerfiles.lock_name(source)
        if lock_name:
            manifest = {key: source.get(key) for key in ("package", "with")}
            first, other = locking.setdefault(lock_name, (f"mcp_servers[{index}].source", manifest))
            if other != manifest:
                errors.append(f"{path}: locks to {lock_name}, as {first} does, but to other packages; make them equal")
            there = lock_name in facts.locks and dockerfiles.holds_pins(facts.locks[lock_name], source)
            if not there and lock_name not in missing:
                missing.append(lock_name)
        if source["kind"] == "python" and not facts.trees.get(source["path"]):
            errors.append(
                f"{path}.path: {source['path']!r} is no directory with pyproject.toml and uv.lock; correct the path"
            )
            continue
        if source["kind"] == "openapi" and not facts.files.get(source["spec"]):
            errors.append(f"{path}.spec: {source['spec']!r} is no readable JSON file; correct the path")
            continue
        assembly.add(
            dockerfiles.server_image(
                server,
                assembly.refs,
                facts.locks.get(lock_name or "", ""),
                facts.trees.get(source.get("path", ""), ""),
                facts.files.get(source.get("spec", ""), ""),
            )
        )
    if errors:
        raise FleetError(errors)
    return assembly.images, missing
