# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is answered of a trial where the fleet cannot be called, and which playbooks of hooks are there."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _gate, _hooks, _probe, _trial


def plan(directory: Path) -> dict[str, Any]:
    return {
        "fleet": "mcp",
        "servers": [],
        "secrets": [{"name": f"gateway_{key}", "object": f"mcp_gateway_{key}_1"} for key in ("api_key", "session_key")],
        "edge": {"url": "https://localhost:1", "tls": "internal"},
        "client": {"api_key_file": str(directory / "key"), "ca_file": ""},
    }


@pytest.mark.parametrize("key", ["key", "session_key"])
def test_with_other_keys_a_trial_goes_on_without_calls_and_a_canary_does_not(tmp_path: Path, key: str) -> None:
    made = plan(tmp_path)
    question = _gate.questions(made) | {key: "another"}
    why = "not called: the keys of the release that serves are not those on this controller"
    assert _trial.ask(made, question | {"kind": "trial"}, 1, {}) == {"line": why, "problem": ""}
    assert _trial.ask(made, question | {"kind": "canary"}, 1, {})["problem"] == why


def test_without_the_key_nobody_can_call(tmp_path: Path) -> None:
    made = plan(tmp_path)
    answer = _trial.ask(made, _gate.questions(made) | {"kind": "trial"}, 1, {})
    assert answer["problem"].startswith("the replicas on trial could not be called: ")


def test_a_gateway_that_does_not_answer_tells_nothing(tmp_path: Path) -> None:
    made = plan(tmp_path)
    (tmp_path / "key").write_text("k")
    answer = _trial.ask(made, _gate.questions(made) | {"kind": "canary"}, 0, {})
    assert answer["problem"].startswith("the gateway's /status does not tell how it fares: ")
    server = {"name": "time", "kind": "pypi", "replicas": 1, "url": "", "check": None, "latency_target_ms": 1}
    asked = _gate.questions(made) | {"kind": "trial", "servers": [{**server, "upstream": {"dns": "x"}}]}
    answer = _trial.ask(made, asked, 0, {})
    assert answer["line"] == "0/1 operational on trial"
    assert answer["problem"].startswith("server time, on trial: ")


def test_replicas_on_trial_are_called_through_an_edge_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def ask(self: _probe.TrialProbe, *dummy: Any) -> None:
        asked.append(self._base)

    async def known(self: _probe.TrialProbe, dummy: Any) -> dict[str, Any]:
        asked.append(self._base)
        return {}

    monkeypatch.setattr(_probe.TrialProbe, "_ask", ask)
    monkeypatch.setattr(_probe.TrialProbe, "_servers_known", known)
    (tmp_path / "key").write_text("k")
    made = plan(tmp_path)
    server = {"name": "time", "kind": "pypi", "replicas": 1, "url": "", "check": None, "latency_target_ms": 1}
    with socket.create_server(("127.0.0.1", 0)) as edge:
        there = f"https://127.0.0.1:{edge.getsockname()[1]}"
        made["edge"]["urls"] = ["https://localhost:1", there]
        question = _gate.questions(made) | {"servers": [{**server, "upstream": {"dns": "x"}}]}
        for kind in ("trial", "canary"):
            _trial.ask(made, question | {"kind": kind}, 0, {})
    assert asked == [there, there]


def test_playbooks_of_hooks_are_looked_for_before_anything_begins(tmp_path: Path) -> None:
    (tmp_path / "there.yml").write_text("[]")
    wanted = {"after_plan": [{"playbook": "there.yml"}, {"playbook": "gone.yml", "seconds": 5}], "on_failure": "?"}
    assert _hooks.missing(wanted, str(tmp_path)) == [
        f"hooks.after_plan[1].playbook: {tmp_path}/gone.yml does not exist; write it or correct the path"
    ]
    assert (_hooks.seconds(wanted), _hooks.seconds(None), _hooks.missing([], None)) == (65, 0, [])
