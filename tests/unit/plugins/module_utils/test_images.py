# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images by content: what is resolved, by whom, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.images import pinned
from ansible_collections.sophia_ai.mcp_swarm.tests.unit.plugins.module_utils.swarm_double import IMAGE, Double

ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64


@pytest.fixture
def swarm() -> Any:
    return Double()


def refusal(swarm: Any, image: str) -> str:
    with pytest.raises(SwarmError) as raised:
        pinned(swarm, {"time": image})
    assert str(raised.value).endswith("\nNothing was changed.")
    return str(raised.value)


def test_a_content_tag_that_is_here_is_what_it_says(swarm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm, "inspect_image", lambda image: pytest.fail("the list tells it"))
    assert pinned(swarm, {"a": IMAGE, "b": IMAGE}) == {"a": IMAGE, "b": IMAGE}


def test_a_tag_that_can_move_gets_the_digest_that_its_registry_gives_now(swarm: Any) -> None:
    swarm.tagged["r/thing:1"] = {"RepoTags": ["r/thing:1"], "RepoDigests": [f"r/thing@{ONE}"]}
    swarm.digests["r/thing:1"] = OTHER
    assert pinned(swarm, {"thing": "r/thing:1"}) == {"thing": f"r/thing:1@{OTHER}"}


def test_without_the_registry_it_is_the_digest_that_was_pulled(swarm: Any) -> None:
    swarm.tagged["r:5000/thing:1"] = {"RepoTags": ["r:5000/thing:1"], "RepoDigests": [f"x/y@{OTHER}", f"r:5000/thing@{ONE}"]}
    assert pinned(swarm, {"thing": "r:5000/thing:1"}) == {"thing": f"r:5000/thing:1@{ONE}"}


def test_an_image_by_digest_that_a_registry_has_need_not_be_here(swarm: Any) -> None:
    image = f"r/thing@{ONE}"
    swarm.digests[image] = ONE
    assert pinned(swarm, {"thing": image}) == {"thing": image}


def test_what_is_nowhere_is_refused_by_service(swarm: Any) -> None:
    said = refusal(swarm, "mcp-swarm/time:aaaaaaaaaaaa")
    assert said.startswith("service time: the image mcp-swarm/time:aaaaaaaaaaaa is not on this manager, and no registry gives it")
    assert "requested access to the resource is denied; run the images playbook, or load it again (docker load)" in said
    assert "is not on this manager, and its registry does not give it" in refusal(swarm, "r/thing:1")


def test_a_tag_that_can_move_and_has_no_digest_is_refused(swarm: Any) -> None:
    swarm.tagged["mine:latest"] = {"RepoTags": ["mine:latest"], "RepoDigests": []}
    assert "has no digest: it was built here under a tag that can move" in refusal(swarm, "mine:latest")
