# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gate says where it cannot call the fleet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _gate


def plan(directory: Path) -> dict[str, Any]:
    return {
        "fleet": "mcp",
        "servers": [],
        "secrets": [{"name": "gateway_api_key", "object": "mcp_gateway_api_key_1"}],
        "edge": {"url": "https://localhost:1"},
        "client": {"api_key_file": str(directory / "key"), "ca_file": ""},
    }


def test_a_release_with_another_key_is_not_called(tmp_path: Path) -> None:
    made = plan(tmp_path)
    line, problem = _gate.ask(made, _gate.questions(made) | {"key": "mcp_gateway_api_key_0"}, 1)
    assert line == "not verified by calls: the API key of that release is not the one on this controller"
    assert problem == ""


def test_without_the_key_nothing_can_be_asked(tmp_path: Path) -> None:
    made = plan(tmp_path)
    line, problem = _gate.ask(made, _gate.questions(made), 1)
    assert line == "not verified"
    assert problem.startswith("the gate could not be asked: ")
