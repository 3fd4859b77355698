# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventories compile as they are; production says everything that is missing for a deployment at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = ROOT / "inventories" / "prod"
PLAYBOOK = str(Path(sys.executable).with_name("ansible-playbook"))
SERVERS = {
    "ai_memory", "asana", "codacy", "costar", "github", "lambda_labs", "linear", "notion", "portkey_admin",
    "snowflake_admin", "snowflake_cortex", "ui_ux_agent",
}  # fmt: skip


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: planning keeps generated secrets beside the inventory."""
    copy = tmp_path_factory.mktemp("inventory") / "prod"
    return Path(shutil.copytree(INVENTORY, copy, ignore=shutil.ignore_patterns(".state")))


# ansible-test runs on the collection's files alone.
pytestmark = pytest.mark.skipif(not INVENTORY.is_dir(), reason="no inventories in this tree")


def plan_playbook(inventory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Compile the inventory with none of its secrets in the environment."""
    kept = {key: os.environ[key] for key in ("HOME", "PATH", "LANG") if key in os.environ}
    return subprocess.run(
        [PLAYBOOK, "playbooks/plan.yml", "-i", str(inventory), *arguments],
        cwd=ROOT,
        env=kept | {"ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def planned(inventory: Path, directory: Path) -> tuple[dict[str, Any], str]:
    """The plan without secrets, and what was warned of."""
    done = plan_playbook(inventory, "-e", "plan_secrets=false", "-e", f"plan_dir={directory}")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads((directory / "plan.json").read_text("utf-8")), done.stderr


@pytest.fixture(scope="module")
def plan(inventory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    made, warned = planned(inventory, tmp_path_factory.mktemp("plan"))
    # Whatever else lies in the inventory's directory is not read as hosts.
    assert "WARNING" not in warned
    return made


@pytest.fixture(scope="module")
def images(plan: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {image["name"]: image["files"] for image in plan["images"]}


def test_the_twelve_servers_are_planned_from_committed_locks(plan: dict[str, Any]) -> None:
    assert {server["name"] for server in plan["servers"]} == SERVERS
    assert plan["missing_locks"] == []


def test_three_gateways_behind_a_public_certificate(plan: dict[str, Any]) -> None:
    assert plan["gateway"]["replicas"] == 3
    assert plan["stack"]["services"]["gateway"]["deploy"]["replicas"] == 3
    edge = plan["edge"]
    assert (edge["tls"], edge["port"], edge["http_port"]) == ("acme", 443, 80)


def test_the_gpu_node_is_counted(plan: dict[str, Any]) -> None:
    assert [server["name"] for server in plan["servers"] if server["gpu_count"]] == ["ai_memory"]
    reserved = plan["stack"]["services"]["ai-memory"]["deploy"]["resources"]["reservations"]["generic_resources"]
    assert reserved == [{"discrete_resource_spec": {"kind": "NVIDIA-GPU", "value": 1}}]


def test_what_calls_a_vendor_may_leave_and_nothing_else(plan: dict[str, Any]) -> None:
    inside = {name for name, service in plan["stack"]["services"].items() if "egress" not in service["networks"]}
    # The edge is reached through a host port.
    assert inside == {"ai-memory", "gateway", "edge", "edge-config"}


def test_each_lock_and_document_has_a_server(plan: dict[str, Any], images: dict[str, dict[str, str]]) -> None:
    used = {text for files in images.values() for text in files.values()}
    for path in (*INVENTORY.glob("locks/*"), *INVENTORY.glob("openapi/*.json")):
        assert path.read_text("utf-8") in used, path


def test_the_two_snowflakes_have_their_own_configuration(images: dict[str, dict[str, str]]) -> None:
    admin, cortex = (images[name]["files/snowflake.yaml"] for name in ("snowflake-admin", "snowflake-cortex"))
    assert yaml.safe_load(admin)["other_services"]["query_manager"] is True
    assert set(yaml.safe_load(cortex)) == {"search_services", "analyst_services"}
    assert "COPY files/ /etc/mcp/\n" in images["snowflake-admin"]["Dockerfile"]


def test_github_is_called_where_github_runs_it(plan: dict[str, Any]) -> None:
    github = next(server for server in plan["gateway"]["config"]["servers"] if server["name"] == "github")
    assert github["url"] == "https://api.githubcopilot.com/mcp/"
    assert github["headers"] == {"Authorization": {"file": "/run/secrets/github_token", "prefix": "Bearer "}}


def test_every_missing_secret_is_named_at_once(inventory: Path) -> None:
    declared = yaml.safe_load((INVENTORY / "group_vars/all/secrets.yml").read_text("utf-8"))["sophia_secrets"]
    wanted = {source["env"] for source in declared.values()}
    done = plan_playbook(inventory)
    assert done.returncode != 0
    assert set(re.findall(r"the variable (\w+) is\s+not\s+set", done.stdout)) == wanted


# -- its neighbours --------------------------------------------------------------------------------------------------


def copied(name: str, to: Path) -> Path:
    return Path(shutil.copytree(ROOT / "inventories" / name, to / name, ignore=shutil.ignore_patterns(".state")))


def test_three_nodes_run_the_same_catalogue(plan: dict[str, Any], tmp_path: Path) -> None:
    three, warned = planned(ROOT / "inventories/prod-three", tmp_path)
    assert "WARNING" not in warned
    assert three["missing_locks"] == []

    def entries(of: dict[str, Any]) -> list[dict[str, Any]]:
        where = ("image", "constraints")  # which registry, and that data has its node
        return [{key: value for key, value in server.items() if key not in where} for server in of["servers"]]

    assert entries(three) == entries(plan)
    assert [(n["name"], n["manager"], n["gpus"], n["gpu_slots"]) for n in three["nodes"]] == [
        ("gpu-1", True, 1, 1), ("gpu-2", True, 2, 2), ("gpu-3", True, 1, 1),
    ]  # fmt: skip
    assert (three["edge"]["tls"], three["registry"]["kind"]) == ("files", "swarm")
    assert three["stack"]["services"]["ai-memory"]["deploy"]["placement"]["constraints"] == ["node.labels.ai.sophia.mcp.host == gpu-1"]


def test_three_nodes_need_a_certificate_besides(tmp_path: Path) -> None:
    done = plan_playbook(copied("prod-three", tmp_path))
    missing = set(re.findall(r"the variable (\w+) is\s+not\s+set", done.stdout))
    assert {"EDGE_CERTIFICATE", "EDGE_KEY", "GITHUB_TOKEN"} <= missing


def test_staging_has_no_gpu_and_says_what_runs_without(tmp_path: Path) -> None:
    made, warned = planned(ROOT / "inventories/staging", tmp_path)
    assert made["missing_locks"] == []
    assert " ".join(warned.split()) == (
        "[WARNING]: mcp_servers[0].gpu: 'preferred': no node that time may run on has GPUs; it runs on the CPU alone"
    )
    assert {"time", "ai-memory"} == set(made["stack"]["services"]) - {"gateway", "edge", "edge-config"}
    done = plan_playbook(ROOT / "inventories/staging", "-e", "plan_secrets=false", "-e", "mcp_node_gpus=2")
    assert done.returncode != 0
    assert "staging-1: mcp_node_gpus: '2' is not allowed; give how many GPUs the node has" in " ".join(done.stdout.split())
    on_a_gpu = tmp_path / "gpu"
    done = plan_playbook(
        copied("staging", tmp_path), "-e", "plan_secrets=false", "-e", f"plan_dir={on_a_gpu}", "-e", '{"mcp_node_gpus": 2}'
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "time-gpu" in json.loads((on_a_gpu / "plan.json").read_text("utf-8"))["stack"]["services"]
    assert re.search(r"time +pypi +x2 .* gpu preferred x2 ", done.stdout)
