# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that are refused, by key, value and fix; what the modules say where there is no Swarm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import distribution
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import lock as locks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import NoManager, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.modules import (
    swarm_lock,
    swarm_prune,
    swarm_release_info,
    swarm_stack,
)
from ansible_collections.sophia_ai.mcp_swarm.tests.unit.plugins.module_utils.swarm_double import IMAGE, Double

DEPLOY = {"name": "mcp", "stack": {"services": {}}, "stack_file": "/none/stack.yml"}


class Ended(Exception):
    """What a module ended with."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(str(result))
        self.result = result


def run(module: Any, monkeypatch: pytest.MonkeyPatch, swarm: Any, check: bool = False, **params: Any) -> dict[str, Any]:
    """What the module's main ends with, as Ansible would start it but for the parsing of arguments."""

    class Module:
        _diff, check_mode = False, check

        def __init__(self, argument_spec: dict[str, Any], **dummy: Any) -> None:
            self.params = {key: spec.get("default") for key, spec in argument_spec.items()} | params

        def fail_json(self, **result: Any) -> None:
            raise Ended({**result, "failed": True})

        def exit_json(self, **result: Any) -> None:
            raise Ended(result)

    monkeypatch.setattr(module, "AnsibleModule", Module)
    monkeypatch.setattr(module, "Swarm", swarm)
    with pytest.raises(Ended) as raised:
        module.main()
    return raised.value.result


def none() -> Any:
    raise NoManager("here is no Swarm manager; run the provision playbook first")


@pytest.mark.parametrize(
    ("module", "params", "said"),
    [
        (swarm_lock, {"name": "f", "hours": -1.0}, "hours: -1.0: at least 0; 0 locks until the lock is freed"),
        (swarm_stack, {**DEPLOY, "keep": 1}, "keep: 1: at least 2, or there is nothing to go back to"),
        (swarm_prune, {"name": "f", "keep": 0}, "keep: 0: at least 2, or there is nothing to go back to"),
    ],
)
def test_what_is_refused(module: Any, params: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(module, monkeypatch, Double, **params) == {"msg": said, "failed": True}


@pytest.mark.parametrize("module", [swarm_lock, swarm_stack, swarm_prune])
def test_where_there_is_no_swarm(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(module, monkeypatch, none, **DEPLOY)
    assert result == {"msg": "here is no Swarm manager; run the provision playbook first", "failed": True}


def test_where_there_is_no_swarm_there_is_no_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(swarm_stack, monkeypatch, none, name="mcp", state="absent") == {"changed": False, "removed": []}


def test_a_lock_that_has_expired_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    swarm = Double()

    def told(module: Any, **params: Any) -> dict[str, Any]:
        return run(module, monkeypatch, lambda: swarm, check=True, name="mcp", **params)

    for expires, holder in (("2001-01-01T00:00:00Z", ""), ("2999-01-01T00:00:00Z", "ada since ")):
        locks.hold(swarm, "mcp", "ada", "holidays", expires)
        assert bool(told(swarm_release_info)["lock"]) == bool(holder)
        for state in ("held", "free"):
            done = told(swarm_lock, state=state, who="ada", why="holidays", hours=0.0)
            assert done["holder"].startswith(holder) and bool(done["holder"]) == bool(holder)
            assert done["changed"] == ((state == "free") == bool(holder))


def test_a_look_says_whether_something_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(swarm_stack, monkeypatch, Double, **DEPLOY, look=True) == {"changed": False, "due": True}


def secret_of(key: str, kind: str = "secrets") -> dict[str, Any]:
    service = {"image": IMAGE, kind: [{"source": "key"}] if kind == "secrets" else ["key"]}
    return {"services": {"time": service}, kind: {"key": {"external": True, "name": key}}}


def test_check_mode_foresees_what_a_deploy_finds_made(monkeypatch: pytest.MonkeyPatch) -> None:
    params: dict[str, Any] = {**DEPLOY, "stack": secret_of("mcp_key_2"), "only": [], "hooks": {}, "foreseen": ["mcp_key_2"]}
    assert run(swarm_stack, monkeypatch, Double, check=True, **params)["changed"] is True
    lacks = "service time: the {} {} is not in the Swarm"
    for given, said in (
        ({"foreseen": ["mcp_key_3"]}, lacks.format("secret", "mcp_key_2")),
        # Networks are not made by a deploy, and would be refused by it.
        ({"stack": secret_of("mcp_key_2", "networks")}, lacks.format("network", "mcp_key_2")),
    ):
        assert said in run(swarm_stack, monkeypatch, Double, check=True, **{**params, **given})["msg"]
    # A deploy itself foresees nothing.
    assert lacks.format("secret", "mcp_key_2") in run(swarm_stack, monkeypatch, Double, **params)["msg"]


@pytest.mark.parametrize("there", [True, False])
def test_check_mode_takes_the_credentials_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if there:
        (tmp_path / "config.json").write_text("{}", "utf-8")
    swarm, taken = Double(), []
    monkeypatch.setattr(swarm, "take_credentials", taken.append, raising=False)
    run(swarm_stack, monkeypatch, lambda: swarm, check=True, **DEPLOY, docker_config=str(tmp_path))
    assert taken == [str(tmp_path)] * there


def test_check_mode_of_pruning_takes_no_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    swarm: Any = Double()
    old = "mcp-swarm/time:dddddddddddd"
    swarm.tagged[old] = {"Id": "o", "RepoTags": [old], "Created": 0}
    told = run(swarm_prune, monkeypatch, lambda: swarm, check=True, name="mcp", keep_images=[])
    assert (told["changed"], told["images"], swarm.changed) == (True, [old], [])
    assert run(swarm_prune, monkeypatch, lambda: swarm, name="mcp", keep_images=[]) == told
    assert swarm.changed == ["mcp_lock", old, "mcp_lock"]


def test_a_fleet_that_goes_takes_along_what_a_dead_deploy_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """What gave nodes their images is no part of the stack, and its secret has the credentials of registries."""
    swarm: Any = Double()
    swarm.live.clear()
    labels = {"ai.sophia.mcp.fleet": "mcp", distribution.PULLING: "mcp"}
    used = {"ContainerSpec": {"Secrets": [{"SecretID": "mcp_pull_1"}]}}
    swarm.live["mcp_pull_1_0"] = {"ID": "mcp_pull_1_0", "Spec": {"Name": "mcp_pull_1_0", "Labels": labels, "TaskTemplate": used}}
    swarm.there["secrets"].append({"ID": "mcp_pull_1", "CreatedAt": "", "Spec": {"Name": "mcp_pull_1", "Labels": labels}})
    # Its name alone makes the double count it to the stack.
    monkeypatch.setattr(swarm, "services", lambda stack=None, filters=None: {} if stack else list(swarm.live.values()))
    monkeypatch.setattr(swarm_stack.board, "take_down", lambda *dummy, **options: None)
    left = ["mcp_pull_1_0", "mcp_pull_1"]
    told = run(swarm_stack, monkeypatch, lambda: swarm, check=True, name="mcp", state="absent")
    assert (told, swarm.changed) == ({"changed": True, "removed": left}, [])
    done = run(swarm_stack, monkeypatch, lambda: swarm, name="mcp", state="absent")
    assert done["removed"][:2] == left
    assert [name for name in swarm.changed if name.startswith("mcp_pull")][:2] == left


def test_errors_of_the_swarm_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Any:
        raise SwarmError("the Docker engine does not answer: gone; run the provision playbook first")

    assert run(swarm_lock, monkeypatch, broken, name="f")["msg"].startswith("the Docker engine does not answer")


def test_a_look_does_without_the_docker_sdk() -> None:
    """Importing it takes as long as the rest of a deploy without changes."""
    name = "ansible_collections.sophia_ai.mcp_swarm.plugins.modules.swarm_stack"
    script = f"import sys, {name}; print(sorted({{'docker', 'requests'}} & set(sys.modules)))"
    path = os.pathsep.join([str(Path(swarm_stack.__file__).parents[5]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
