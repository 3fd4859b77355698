# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a deploy says that it would change, and what it keeps of what an autoscaler or another deploy decided."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import changes as diff
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError

BOUNDS = {diff.SCALE_MIN: "1", diff.SCALE_MAX: "4"}


def service(image: str, replicas: int = 1, **more: Any) -> dict[str, Any]:
    labels = more.pop("scaled", None)
    return {"image": image, "deploy": {"replicas": replicas} | ({"labels": labels} if labels else {}), **more}


def document(**services: dict[str, Any]) -> dict[str, Any]:
    return {"version": "3.8", "services": services}


def test_each_service_s_change_is_one_line_in_words() -> None:
    before = document(a=service("a:1"), b=service("b:1"), gone=service("x"))
    after = document(a=service("a:2", 3, environment={"X": "1"}), b=service("b:1"), new=service("n:1"))
    assert [change.line for change in diff.changes("f", before, after)] == [
        "f_a: image a:1 -> a:2, replicas 1 -> 3, environment",
        "f_gone: removed",
        "f_new: new, n:1",
    ]


def test_before_and_after_hold_only_what_differs() -> None:
    (change,) = diff.changes("f", document(a=service("a:1", environment={"X": "1", "Y": "2"})), document(a=service("a:1", environment={"X": "3", "Y": "2"})))
    assert (change.before, change.after) == (["environment.X: 1"], ["environment.X: 3"])


def test_a_rotated_secret_is_a_change_though_its_key_is_the_same() -> None:
    def with_secret(name: str) -> dict[str, Any]:
        return document(a=service("a:1", secrets=[{"source": "k"}])) | {"secrets": {"k": {"external": True, "name": name}}}

    (change,) = diff.changes("f", with_secret("f_k_1"), with_secret("f_k_2"))
    assert change.line == "f_a: secrets"
    assert diff.changes("f", with_secret("f_k_1"), with_secret("f_k_1")) == []


def test_nothing_before_makes_everything_new() -> None:
    assert [change.line for change in diff.changes("f", None, document(a=service("a:1")))] == ["f_a: new, a:1"]


@pytest.mark.parametrize(("running", "kept"), [(3, 3), (0, 1), (9, 4)])
def test_a_deploy_keeps_what_was_scaled_within_its_bounds(running: int, kept: int) -> None:
    wanted = document(a=service("a:1", 2, scaled=BOUNDS), b=service("b:1", 2))
    scaled = diff.with_scale(wanted, {"a": running, "b": 7})
    assert scaled["services"]["a"]["deploy"]["replicas"] == kept
    assert scaled["services"]["b"]["deploy"]["replicas"] == 2
    assert diff.without_scale(scaled) == diff.without_scale(wanted)


def test_a_service_that_does_not_run_yet_starts_with_what_the_catalogue_says() -> None:
    wanted = document(a=service("a:1", 2, scaled=BOUNDS))
    assert diff.with_scale(wanted, {}) == wanted


def test_only_moves_the_named_and_keeps_secrets_that_others_use() -> None:
    def both(image: str, secret: str) -> dict[str, Any]:
        services = {name: service(f"{name}:{image}", secrets=[{"source": "k"}]) for name in ("a", "b")}
        return document(**services) | {"secrets": {"k": {"external": True, "name": secret}}}

    merged = diff.only(both("1", "f_k_old"), both("2", "f_k_new"), ["a"])
    assert merged["services"]["b"] == both("1", "f_k_old")["services"]["b"]
    assert merged["services"]["a"]["image"] == "a:2"
    assert diff.settings(merged, "a")["secrets"] != diff.settings(merged, "b")["secrets"]
    assert merged["secrets"]["k"]["name"] == "f_k_old"
    assert merged["secrets"]["k.new"]["name"] == "f_k_new"


def test_only_adds_removes_and_refuses_by_name() -> None:
    now, wanted = document(a=service("a:1"), gone=service("g")), document(a=service("a:2"), new=service("n"))
    assert set(diff.only(now, wanted, ["new", "gone"])["services"]) == {"a", "new"}
    with pytest.raises(SwarmError, match=r"only: nobody: no such service; there are: a, new"):
        diff.only(now, wanted, ["nobody"])
