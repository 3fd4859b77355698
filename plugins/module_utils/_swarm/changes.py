# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deploy would change, in people's words. Pure: compose documents in, text out."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._services import on_gpus
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import LABEL, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.documents import name_of

WORDS = {
    "image": "image",
    "command": "command",
    "deploy.replicas": "replicas",
    "deploy.mode": "mode",
    "deploy.resources.limits.cpus": "limit of cpus",
    "deploy.resources.limits.memory": "limit of memory",
    "deploy.placement.constraints": "where it may run",
    "deploy.placement.preferences": "how it is spread",
    "deploy.update_config": "how it is updated",
    "deploy.rollback_config": "how it goes back",
    "stop_grace_period": "time to stop",
    "environment": "environment",
    "secrets": "secrets",
    "configs": "configuration",
    "volumes": "mounts",
    "networks": "networks",
    "ports": "ports",
    "labels": "labels",
    "deploy.labels": "labels",
}
SHORT = 60
SCALE_MIN, SCALE_MAX = f"{LABEL}.scale.min", f"{LABEL}.scale.max"


@dataclass(frozen=True)
class Change:
    """One service's change: a line for people, and its settings before and after."""

    service: str
    line: str
    before: list[str]
    after: list[str]


def settings(document: dict[str, Any] | None, name: str) -> dict[str, str]:
    """A service's settings as ``key: value``, secrets and configs by the names of their objects."""
    service = (document or {}).get("services", {}).get(name)
    if document is None or service is None:
        return {}
    service = copy.deepcopy(service)
    for kind in ("secrets", "configs"):
        for item in service.get(kind) or []:
            if isinstance(item, dict):  # a fleet that ran without a record may have short forms
                item["object"] = name_of(document, kind, item["source"])
    return _flat(service)


def _flat(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, dict) and value:
        found: dict[str, str] = {}
        for key, item in value.items():
            found |= _flat(item, f"{path}.{key}" if path else str(key))
        return found
    return {path: value if isinstance(value, str) else json.dumps(value, sort_keys=True)}


def word(path: str) -> str:
    """A setting's name as people call it."""
    return next((WORDS[key] for key in sorted(WORDS, key=len, reverse=True) if f"{path}.".startswith(f"{key}.")), path)


def changes(fleet: str, before: dict[str, Any] | None, after: dict[str, Any]) -> list[Change]:
    """What differs between two documents, one entry per service, by name."""
    found = []
    for name in sorted({*(before or {}).get("services", {}), *after["services"]}):
        old, new = settings(before, name), settings(after, name)
        if old == new:
            continue
        full = f"{fleet}_{name}"
        if not old:
            line = f"{full}: new, {new.get('image', '')}"
        elif not new:
            line = f"{full}: removed"
        else:
            line = f"{full}: {', '.join(_differences(old, new))}"
        paths = sorted(path for path in {*old, *new} if old.get(path) != new.get(path))
        found.append(
            Change(
                full,
                line,
                [f"{path}: {old[path]}" for path in paths if path in old],
                [f"{path}: {new[path]}" for path in paths if path in new],
            )
        )
    return found


def _differences(old: dict[str, str], new: dict[str, str]) -> list[str]:
    parts: list[str] = []
    for path in sorted({*old, *new}, key=lambda p: (p != "image", p != "deploy.replicas", p)):
        if old.get(path) == new.get(path):
            continue
        text = word(path)
        one, other = old.get(path), new.get(path)
        if (
            one is not None
            and other is not None
            and path in WORDS
            and len(one) + len(other) <= 2 * SHORT
            and one[:1] != "["
        ):
            text += f" {one} -> {other}"
        if text not in parts:
            parts.append(text)
    return parts


def with_scale(document: dict[str, Any], running: dict[str, int]) -> dict[str, Any]:
    """The document with the replicas that an autoscaler chose, within the service's present bounds.

    Args:
        document: the compose document; a scaled service's deploy labels name its bounds.
        running: service to the replicas it has now.
    """
    scaled = copy.deepcopy(document)
    for name, service in scaled["services"].items():
        bounds = scale(service)
        if bounds and name in running:
            service["deploy"]["replicas"] = min(max(running[name], bounds[0]), bounds[1])
    return scaled


def scale(service: dict[str, Any]) -> tuple[int, int] | None:
    """A service's least and most replicas, where an autoscaler moves them."""
    labels = (service.get("deploy") or {}).get("labels") or {}
    if SCALE_MIN not in labels or SCALE_MAX not in labels:
        return None
    return int(labels[SCALE_MIN]), int(labels[SCALE_MAX])


def without_scale(document: dict[str, Any]) -> dict[str, Any]:
    """The document without what an autoscaler decides: two such are compared."""
    plain = copy.deepcopy(document)
    for service in plain["services"].values():
        if scale(service):
            service["deploy"].pop("replicas", None)
    return plain


def only(current: dict[str, Any], wanted: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The current document with the named services as they are wanted, and nothing else changed.

    Raises:
        SwarmError: a name is in neither document, or the gateway would not know of a server's services; the message
            says what to name.
    """
    document = copy.deepcopy(current)
    unknown = [name for name in names if name not in wanted["services"] and name not in current["services"]]
    if unknown:
        there = ", ".join(sorted(wanted["services"]))
        raise SwarmError(f"only: {', '.join(unknown)}: no such service; there are: {there}")
    both = {**current["services"], **wanted["services"]}
    pools = [n for n in names if on_gpus(both[n]) and (n in current["services"]) != (n in wanted["services"])]
    if pools and "gateway" not in names:
        raise SwarmError(
            f"only: {', '.join(pools)}: comes or goes, and the gateway has to be told which of a server's services"
            f" there are; deploy it too: only={','.join([*names, 'gateway'])}"
        )
    for name in names:
        if name not in wanted["services"]:
            del document["services"][name]
            continue
        service = copy.deepcopy(wanted["services"][name])
        for kind in ("secrets", "configs"):
            for item in service.get(kind) or []:
                entry = wanted[kind][item["source"]]
                there = document.setdefault(kind, {}).setdefault(item["source"], entry)
                if there != entry:  # others still use the object that was current
                    item.setdefault("target", item["source"])
                    item["source"] += f".{name_of(wanted, kind, item['source']).rpartition('_')[2]}"
                    document[kind][item["source"]] = entry
        document["services"][name] = service
        for kind in ("networks", "volumes"):
            document[kind] = {**(wanted.get(kind) or {}), **(document.get(kind) or {})}
    return document
