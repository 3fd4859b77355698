# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""daemon.json from what several roles contribute to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# What a running engine reads again on SIGHUP (dockerd reference, "Configuration reload behavior").
RELOADED = {
    "authorization-plugins",
    "debug",
    "default-runtime",
    "features",
    "insecure-registries",
    "labels",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "registry-mirrors",
    "runtimes",
    "shutdown-timeout",
}


class DaemonError(ValueError):
    """Contributions that contradict each other, each named."""


def merge(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """One dictionary of several owners'.

    Dictionaries are merged, lists are joined without doubles; any other key two owners must agree on.

    Args:
        parts: contribution by its owner.

    Raises:
        DaemonError: two owners want different values, or something that Swarm excludes.
    """
    merged: dict[str, Any] = {}
    owners: dict[str, str] = {}
    wrong: list[str] = []
    for owner, part in parts.items():
        if not isinstance(part, Mapping):
            wrong.append(f"{owner}: {part!r}: must be a dictionary of daemon.json's keys")
            continue
        _merge(merged, part, owner, "", owners, wrong)
    if merged.get("live-restore"):
        owner = owners["live-restore"]
        wrong.append(f"live-restore: {owner} wants it, but Swarm mode excludes it; take it away")
    if wrong:
        raise DaemonError("daemon.json: " + "; ".join(wrong))
    return merged


def _merge(
    into: dict[str, Any], part: Mapping[str, Any], owner: str, path: str, owners: dict[str, str], wrong: list[str]
) -> None:
    for key, value in part.items():
        place = f"{path}{key}"
        there = into.get(key)
        if key not in into:
            into[key] = {} if isinstance(value, Mapping) else value
            owners[place] = owner
        if isinstance(value, Mapping) and isinstance(into[key], dict):
            _merge(into[key], value, owner, f"{place}.", owners, wrong)
        elif isinstance(value, list) and isinstance(there, list):
            into[key] = there + [each for each in value if each not in there]
        elif into[key] != value:
            wrong.append(
                f"{place}: {owners.get(place, owner)} wants {into[key]!r}, {owner} wants {value!r};"
                f" decide it in docker_engine_daemon"
            )


def over(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """``top`` over ``base``; lists are replaced, ``None`` takes a key away."""
    result = dict(base)
    for key, value in top.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = over(result[key], value)
        else:
            result[key] = value
    return result


def daemon_json(
    parts: Mapping[str, Mapping[str, Any]], defaults: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """The whole configuration: defaults, over them the contributions, over all what the inventory decides.

    Raises:
        DaemonError: the contributions contradict each other where the inventory has decided nothing.
    """
    undecided = {
        owner: {key: value for key, value in part.items() if key not in own} if isinstance(part, Mapping) else part
        for owner, part in parts.items()
    }
    return merge({"docker_engine": over(over(defaults, merge(undecided)), own)})


def restart_needed(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a running engine must restart for the difference, and a reload will not do."""
    return any(before.get(key) != after.get(key) for key in {*before, *after} - RELOADED)
