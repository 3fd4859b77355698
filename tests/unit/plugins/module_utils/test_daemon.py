# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""daemon.json has several contributors and one owner."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.daemon import (
    DaemonError,
    daemon_json,
    restart_needed,
)

GPU = {"default-runtime": "nvidia", "runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}
REGISTRY: dict[str, Any] = {"insecure-registries": ["a:5000"], "registry-mirrors": ["https://a:5000"]}


def test_contributions_are_merged_over_the_defaults() -> None:
    made = daemon_json(
        {"gpu": GPU, "registry": REGISTRY, "metrics": {"insecure-registries": ["a:5000", "b:5000"]}},
        {"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}},
        {"log-opts": {"max-size": "1m"}},
    )
    assert made == {
        "log-driver": "json-file",
        "log-opts": {"max-size": "1m", "max-file": "3"},
        "default-runtime": "nvidia",
        "runtimes": {"nvidia": {"path": "nvidia-container-runtime"}},
        "insecure-registries": ["a:5000", "b:5000"],
        "registry-mirrors": ["https://a:5000"],
    }


def test_a_contribution_stays_what_it_was() -> None:
    one: dict[str, Any] = {"labels": ["a"], "log-opts": {"tag": "x"}}
    daemon_json({"one": one, "two": {"labels": ["b"], "log-opts": {"env": "y"}}}, {}, {})
    assert one == {"labels": ["a"], "log-opts": {"tag": "x"}}


def test_two_that_disagree_are_both_named_all_at_once() -> None:
    with pytest.raises(DaemonError) as raised:
        daemon_json({"logs": {"log-driver": "loki", "icc": True}, "base": {"log-driver": "local", "icc": False}}, {}, {})
    said = str(raised.value)
    assert "log-driver: logs wants 'loki', base wants 'local'; decide it in docker_engine_daemon" in said
    assert "icc: logs wants True, base wants False" in said


def test_the_inventory_decides() -> None:
    parts = {"logs": {"log-driver": "loki"}, "base": {"log-driver": "local", "icc": False}}
    assert daemon_json(parts, {}, {"log-driver": "journald", "icc": None}) == {"log-driver": "journald"}


def test_a_contribution_overrides_a_default_whatever_its_kind() -> None:
    assert daemon_json({"pools": {"default-address-pools": [{"base": "10.1.0.0/16"}]}}, {"default-address-pools": [{"base": "10.2.0.0/16"}]}, {}) == {
        "default-address-pools": [{"base": "10.1.0.0/16"}]
    }


@pytest.mark.parametrize("where", ["part", "own"])
def test_live_restore_is_refused(where: str) -> None:
    parts, own = ({"x": {"live-restore": True}}, {}) if where == "part" else ({}, {"live-restore": True})
    with pytest.raises(DaemonError, match="live-restore: .* wants it, but Swarm mode excludes it"):
        daemon_json(parts, {}, own)
    assert daemon_json({"x": {"live-restore": False}}, {}, {}) == {"live-restore": False}


def test_what_is_no_dictionary_is_named() -> None:
    with pytest.raises(DaemonError, match="registry_docker_engine_daemon: 'x': must be a dictionary"):
        daemon_json({"registry_docker_engine_daemon": "x"}, {}, {})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("before", "after", "restart"),
    [
        ({}, {}, False),
        ({"registry-mirrors": []}, {"registry-mirrors": ["https://a"]}, False),
        ({}, {"runtimes": {}, "default-runtime": "nvidia"}, False),
        ({"icc": True}, {"icc": False}, True),
        ({"icc": False}, {}, True),
        ({}, {"node-generic-resources": ["NVIDIA-GPU=GPU-1"]}, True),
    ],
)
def test_a_restart_only_for_what_a_reload_does_not_do(before: dict[str, Any], after: dict[str, Any], restart: bool) -> None:
    assert restart_needed(before, after) is restart
