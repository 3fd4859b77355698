# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A deploy that has nothing to do says so without the lock, and only then."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import lock as locks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import releases as records
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import stack as stacks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.releases import Release, Releases
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.transaction import Transaction, Wish
from ansible_collections.sophia_ai.mcp_swarm.tests.unit.plugins.module_utils.swarm_double import IMAGE, Double

DOCUMENT = {"services": {"time": {"image": IMAGE, "deploy": {"replicas": 1}}}, "secrets": {}, "configs": {}}


@pytest.fixture
def swarm() -> Any:
    return Double()


@pytest.fixture
def transaction(swarm: Any, tmp_path: Path) -> Transaction:
    """Of a fleet whose one release runs."""
    made = Transaction(swarm, "mcp", str(tmp_path / "stack.yml"), lambda line: None, None)
    found = Releases(swarm, "mcp")
    release = found.begin(Release(0, copy.deepcopy(DOCUMENT), {}, {"time": IMAGE}, {}, "2026-01-01T00:00:00Z", "ada"))
    release.outcome = records.DEPLOYED
    release.services = {"mcp_time": stacks.digest(swarm.live["mcp_time"], False)}
    found.finish(release)
    stacks.write_file(made.stack_file, stacks.document(Releases(swarm, "mcp").all[0].document))
    swarm.changed.clear()
    return made


def wish(**service: Any) -> Wish:
    document = copy.deepcopy(DOCUMENT)
    document["services"]["time"] |= service
    return Wish(document)


def test_what_is_as_it_is_wished_for_needs_no_lock(transaction: Transaction, swarm: Any) -> None:
    found = transaction.idle(wish())
    assert found == {"changed": False, "differences": [], "diff": [], "converged": {}, "release": 1, "recovered": ""}
    assert swarm.changed == []
    # It is what the whole deploy answers, and that does take the lock.
    assert transaction.deploy(wish()) == found
    assert swarm.changed == ["mcp_lock", "mcp_lock"]  # made and removed


def test_another_wish_is_to_be_deployed(transaction: Transaction) -> None:
    assert transaction.idle(wish(environment={"X": "1"})) is None


def test_what_was_changed_by_hand_is_to_be_put_back(transaction: Transaction, swarm: Any) -> None:
    swarm.live["mcp_time"]["Spec"]["Mode"]["Replicated"]["Replicas"] = 2
    assert transaction.idle(wish()) is None


def test_who_holds_the_lock_is_heard_first(transaction: Transaction, swarm: Any) -> None:
    locks.hold(swarm, "mcp", "ada", "holidays", "")
    assert transaction.idle(wish()) is None


def test_a_deploy_that_died_is_finished_first(transaction: Transaction, swarm: Any) -> None:
    Releases(swarm, "mcp").begin(Release(0, DOCUMENT, {}, {}, {}, "2026-01-01T00:00:00Z", "ada"))
    assert transaction.idle(wish()) is None


def test_a_fleet_without_a_release_is_to_be_deployed(swarm: Any, tmp_path: Path) -> None:
    assert Transaction(swarm, "mcp", str(tmp_path / "stack.yml"), print, None).idle(wish()) is None


@pytest.mark.parametrize("text", [None, "something else"])
def test_the_file_for_people_is_to_be_written(transaction: Transaction, text: str | None) -> None:
    path = Path(transaction.stack_file)
    path.write_text(text, "utf-8") if text else path.unlink()
    assert transaction.idle(wish()) is None


def test_what_is_refused_is_refused_by_the_deploy(transaction: Transaction) -> None:
    document = wish().document | {"secrets": {"lost": {"external": True, "name": "mcp_lost"}}}
    document["services"]["time"]["secrets"] = [{"source": "lost"}]
    assert transaction.idle(Wish(document)) is None
