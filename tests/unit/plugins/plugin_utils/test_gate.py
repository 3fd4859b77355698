# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When the gate can ask, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _gate
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import Controller

pytestmark = pytest.mark.usefixtures("sources")
CATALOGUE = [{"name": "far", "source": {"kind": "remote", "url": "https://mcp.example/mcp"}}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": "mcp_gateway_api_key_0"}, "the API key of that release is not the one on this controller"),
        ({"authority": "mcp_edge_ca_0"}, "the edge's authority of that release is not the one on this controller"),
    ],
)
def test_a_release_of_another_key_or_authority_cannot_be_asked(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    plan = Controller(tmp_path).compile(CATALOGUE, {})
    assert _gate.ask(plan, _gate.questions(plan) | change, 1, {}) == (f"not verified by calls: {said}", "")
    # A record from before the fleet had an authority of its own.
    old = {name: value for name, value in _gate.questions(plan).items() if name != "authority"}
    assert "authority" in _gate.ask(plan, old, 1, {})[0]


def test_where_the_authority_is_not_ours_it_does_not_matter(tmp_path: Path) -> None:
    plan = Controller(tmp_path).compile(CATALOGUE, {"edge": {"tls": "acme", "acme_email": "a@mcp.example"}})
    assert _gate.questions(plan)["authority"] == ""


def test_without_the_key_nothing_can_be_asked(tmp_path: Path) -> None:
    plan = Controller(tmp_path).compile(CATALOGUE, {})
    Path(plan["client"]["api_key_file"]).unlink()
    line, problem = _gate.ask(plan, _gate.questions(plan), 1, {})
    assert line == "not verified"
    assert problem.startswith("the gate could not be asked: ")
