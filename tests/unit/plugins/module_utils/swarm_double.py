# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Swarm with one service, at the edge of the engine's API: what its lists say, and what it is asked to change."""

from __future__ import annotations

import base64
from typing import Any

from docker.errors import APIError, ImageNotFound

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import LABEL, RECORD

IMAGE = "mcp-swarm/time:0123456789ab"
OLD = "2026-01-01T00:00:00.123456789Z"


class Double:
    """Stands for ``Swarm`` and for its ``api``.

    Attributes:
        changed: names of the configs, services, networks and images that were made, changed or removed.
        live: services as listed.
        tagged: images by reference, as listed.
        there: secrets, configs (but for records) and networks as listed.
    """

    node_id = "node"

    def __init__(self) -> None:
        self.api = self
        self.changed: list[str] = []
        self.items: dict[str, dict[str, Any]] = {}
        spec = {
            "Name": "mcp_time",
            "Mode": {"Replicated": {"Replicas": 1}},
            "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}},
        }
        self.live: dict[str, dict[str, Any]] = {"mcp_time": {"ID": "time", "UpdatedAt": OLD, "Spec": spec}}
        self.tagged: dict[str, dict[str, Any]] = {IMAGE: {"Id": "i", "RepoTags": [IMAGE], "Created": 0}}
        self.there: dict[str, list[dict[str, Any]]] = {"secrets": [], "configs": [], "networks": []}
        self.digests: dict[str, str] = {}

    # -- lists -------------------------------------------------------------------------------------------------------

    def services(self, stack: str | None = None, filters: dict[str, str] | None = None) -> Any:
        if stack:
            return {name: service for name, service in self.live.items() if name.startswith(f"{stack}_")}
        prefix = (filters or {}).get("name", "")
        return _labelled([s for s in self.live.values() if s["Spec"]["Name"].startswith(prefix)], filters)

    def images(self, filters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        return [] if filters and "reference" in filters else list(self.tagged.values())

    def containers(self, **dummy: Any) -> list[dict[str, Any]]:
        return []

    def secrets(self, filters: dict[str, str] | None = None) -> list[dict[str, Any]]:
        return _labelled(self.there["secrets"], filters)

    def networks(self, **dummy: Any) -> list[dict[str, Any]]:
        return self.there["networks"]

    def volumes(self, **dummy: Any) -> dict[str, Any]:
        return {"Volumes": [{"Name": "mcp_old_data"}, {"Name": "mcp_time_data"}]}

    def configs(self, filters: dict[str, str] | None = None) -> list[dict[str, Any]]:
        return _labelled([*self.there["configs"], *self.items.values()], filters)

    def records(self, fleet: str, kind: str) -> list[dict[str, Any]]:
        wanted = {RECORD: kind, f"{LABEL}.fleet": fleet}
        return [item for item in self.items.values() if wanted.items() <= item["Spec"]["Labels"].items()]

    def stack_tasks(self, dummy: str) -> dict[str, list[dict[str, Any]]]:
        return {}

    def inspect_image(self, image: str) -> dict[str, Any]:
        for name, found in self.tagged.items():
            if image in (name, found.get("Id")):
                return {"RepoDigests": found.get("RepoDigests", []), "Metadata": found.get("Metadata")}
        raise ImageNotFound("no such image")

    def inspect_distribution(self, image: str) -> dict[str, Any]:
        if image in self.digests:
            return {"Descriptor": {"digest": self.digests[image]}}
        raise APIError("denied", explanation="requested access to the resource is denied")

    def node_name(self, dummy: str) -> str:
        return "here"

    # -- changes -----------------------------------------------------------------------------------------------------

    def create_config(self, name: str, data: bytes, labels: dict[str, str]) -> bool:
        if name in self.items:
            return False
        self.changed.append(name)
        spec = {"Name": name, "Labels": labels, "Data": base64.b64encode(data).decode()}
        self.items[name] = {"ID": name, "Version": {"Index": 1}, "CreatedAt": OLD, "Spec": spec}
        return True

    def relabel_config(self, item: dict[str, Any], labels: dict[str, str]) -> bool:
        self.changed.append(item["ID"])
        self.items[item["ID"]]["Spec"]["Labels"] = labels
        return True

    def remove_config(self, identity: str) -> None:
        self.changed.append(identity)
        self.items.pop(identity, None)

    def _removed(self, identity: str, **dummy: Any) -> None:
        self.changed.append(identity)

    remove_secret = remove_network = remove_image = _removed

    def remove_service(self, name: str) -> None:
        self.changed.append(name)
        self.live.pop(name)


def _labelled(items: list[dict[str, Any]], filters: dict[str, str] | None) -> list[dict[str, Any]]:
    """Those with the label that is asked for, if any."""
    if "label" not in (filters or {}):
        return items
    key, dummy, value = (filters or {})["label"].partition("=")
    return [item for item in items if (item["Spec"].get("Labels") or {}).get(key) == value]
