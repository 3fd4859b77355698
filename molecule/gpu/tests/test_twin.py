# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet with a server that prefers GPUs: its calls go there, to the CPU while nobody is there, and back; none is lost."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from calls import Calls
from conftest import INVENTORY, MANAGER, WORKER, Gpus

EDGE = "https://10.95.9.11:8443"
SERVER: dict[str, Any] = {
    "name": "time",
    "source": {"kind": "pypi", "package": "mcp-server-time", "version": "2026.10.19"},
    "command": ["mcp-server-time", "--local-timezone", "UTC"],
    "check": {"tool": "get_current_time", "arguments": {"timezone": "UTC"}, "expect": "UTC"},
}
PREFERS = {**SERVER, "gpu": "preferred", "gpu_pool": {"return_seconds": 3}}


IMAGES = ("os", "runtime-python", "gateway", "edge", "time")
FILTERS = " ".join(f"--filter reference=mcp-swarm/{name}" for name in IMAGES)
SAVE = f"docker save $(docker images {FILTERS} --format {{{{.Repository}}}}:{{{{.Tag}}}})"


def piped(command: str) -> bool:
    return subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module")
def fleet(gpus: Gpus) -> Iterator[Gpus]:
    """The fleet, with its images on both nodes: there is no registry here."""
    # What this machine's engine has need not be built.
    piped(f"{SAVE} | docker exec --interactive {MANAGER} docker load")
    built = gpus.play("images.yml", mcp_servers=[PREFERS])
    assert built.code == 0, built.output[-3000:]
    assert piped(f"docker exec {MANAGER} bash -c '{SAVE}' | docker exec --interactive {WORKER} docker load")
    yield gpus
    gone = gpus.play("teardown.yml", mcp_servers=[PREFERS])
    assert gone.code == 0, gone.output[-3000:]


def pool(server: str) -> str:
    """Which pool took the latest call, as the gateway says."""
    key = (INVENTORY / ".state" / "secrets" / "gateway_api_key").read_text("utf-8").strip()
    request = urllib.request.Request(f"{EDGE}/status", headers={"Authorization": f"Bearer {key}"})
    trust = ssl.create_default_context(cafile=str(INVENTORY / ".state" / "edge-ca.crt"))
    with urllib.request.urlopen(request, context=trust, timeout=10) as answer:
        status = json.load(answer)
    return str(next(each["pool"] for each in status["servers"] if each["name"] == server))


def replicas(gpus: Gpus) -> dict[str, str]:
    lines = gpus.sh(MANAGER, "docker service ls --format '{{.Name}} {{.Replicas}}'").splitlines()
    return {name.partition("_")[2]: count for name, count in (line.split()[:2] for line in lines)}


def test_a_server_that_prefers_gpus_falls_back_and_returns(fleet: Gpus) -> None:
    deployed = fleet.play("deploy.yml", mcp_servers=[PREFERS])
    assert deployed.code == 0, deployed.output[-3000:]
    assert "1/1 operational" in deployed.output
    assert {name: replicas(fleet)[name] for name in ("time", "time-gpu")} == {"time": "1/1", "time-gpu": "1/1"}
    # One of Swarm's units, and the card that it stands for, and no other.
    ((unit, said),) = fleet.seen("mcp_time-gpu").items()
    assert unit
    assert said.count("UUID") == 1
    assert unit.partition(".")[0] in said
    assert list(fleet.seen("mcp_time")) == [""]
    assert "UUID" not in fleet.seen("mcp_time")[""]
    with Calls(INVENTORY, [f"{EDGE}/servers/time/mcp"]).going_on() as calls:
        fleet.until("calls go to the GPU", lambda: pool("time") == "gpu")
        fleet.sh(MANAGER, "docker service scale --detach mcp_time-gpu=0")
        fleet.until("calls go to the CPU", lambda: pool("time") == "cpu")
        said_of = fleet.play("verify.yml", mcp_servers=[PREFERS], verify_timeout=3)
        assert said_of.code != 0
        assert "0 of 1 replicas on GPUs answer; look at: docker service ps mcp_time-gpu" in said_of.output
        fleet.sh(MANAGER, "docker service scale --detach mcp_time-gpu=1")
        fleet.until("calls return to the GPU", lambda: pool("time") == "gpu", 90)
    assert calls.sent > 50
    assert not calls.failed


def test_a_new_version_of_it_takes_the_gpu_of_the_old_one(fleet: Gpus) -> None:
    """Every unit is in use: the old task has to give its own back first, and the CPU serves meanwhile."""
    fleet.serve("rest", 3)
    try:
        fleet.until("all units are in use", lambda: fleet.states("rest") == {"running": 3})
        with Calls(INVENTORY, [f"{EDGE}/servers/time/mcp"]).going_on() as calls:
            again = fleet.play("deploy.yml", mcp_servers=[{**PREFERS, "env": {"X": "1"}}])
            assert again.code == 0, again.output[-3000:]
            assert "1/1 operational" in again.output
        assert fleet.states("mcp_time-gpu") == {"running": 1}
        assert not calls.failed
    finally:
        fleet.sh(MANAGER, "docker service rm rest")


def test_more_than_there_is_is_refused_before_anything_changes(fleet: Gpus) -> None:
    before = {name: fleet.sh(MANAGER, f"docker service ps --quiet mcp_{name}") for name in ("time", "time-gpu")}
    refused = fleet.play("deploy.yml", mcp_servers=[{**SERVER, "gpu": "required", "replicas": 5}])
    assert refused.code != 0
    assert "and there is room for 4" in refused.output
    assert {name: fleet.sh(MANAGER, f"docker service ps --quiet mcp_{name}") for name in before} == before


def test_a_server_that_needs_gpus_has_them(fleet: Gpus) -> None:
    deployed = fleet.play("deploy.yml", mcp_servers=[{**SERVER, "gpu": "required", "replicas": 4}])
    assert deployed.code == 0, deployed.output[-3000:]
    assert replicas(fleet)["time"] == "4/4"
    assert "time-gpu" not in replicas(fleet)
    seen = fleet.seen("mcp_time")
    assert len(seen) == 4
    assert all(unit.partition(".")[0] in said for unit, said in seen.items())
