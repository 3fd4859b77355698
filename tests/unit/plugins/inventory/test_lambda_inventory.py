# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances of Lambda Cloud as hosts: asked of a double by ansible-inventory, as people do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.sophia_ai.mcp_swarm.plugins.inventory import lambda_cloud

ROOT = Path(__file__).resolve().parents[4]
INVENTORY = ROOT / "inventories" / "lambda"
COMMAND = Path(sys.executable).with_name("ansible-inventory")
ENVIRONMENT = {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
PLUGIN = {"plugin": "sophia_ai.mcp_swarm.lambda_cloud"}
MANAGER = [{"key": "fleet", "value": "mcp"}, {"key": "role", "value": "manager"}]
WORKER = [{"key": "fleet", "value": "mcp"}, {"key": "role", "value": "worker"}]

# ansible-test runs on the collection's files alone.
from_checkout = pytest.mark.skipif(not INVENTORY.is_dir(), reason="no inventories in this tree")


def plain(value: dict[str, Any]) -> Any:
    """Text that is no template is marked as such in the output."""
    return value.get("__ansible_unsafe", value)


@pytest.fixture
def ask(cloud: Any, tmp_path: Path) -> Any:
    """Run ansible-inventory on a configuration, or on a path; its exit code and output."""

    def ask(source: dict[str, Any] | Path, *arguments: str, **environment: str) -> tuple[int, str]:
        if isinstance(source, dict):
            path = tmp_path / "lambda_cloud.yml"
            path.write_text(yaml.safe_dump(PLUGIN | source), "utf-8")
        else:
            path = source
        kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        env = kept | ENVIRONMENT | {"HOME": str(tmp_path), "LAMBDA_API_KEY": cloud.key, "LAMBDA_API_URL": cloud.url}
        done = subprocess.run(
            [str(COMMAND), "-i", str(path), *(arguments or ("--list",))],
            cwd=ROOT,
            env=env | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return ask


@pytest.fixture
def hosts(ask: Any) -> Any:
    """The hosts of a configuration by name, with their variables; and the groups."""

    def hosts(source: dict[str, Any] | Path, **environment: str) -> tuple[dict[str, Any], dict[str, list[str]]]:
        code, output = ask(source, **environment)
        assert code == 0, output
        told = json.loads(output, object_hook=plain)
        variables = told.pop("_meta")["hostvars"]
        return variables, {name: sorted(group["hosts"]) for name, group in told.items() if group.get("hosts")}

    return hosts


@from_checkout
def test_the_graph_of_the_committed_inventory(cloud: Any, ask: Any) -> None:
    cloud.add("mcp-1", tags=MANAGER)
    cloud.add("mcp-2", tags=WORKER, region_name="us-west-1")
    cloud.instances[cloud.add("mcp-3", tags=WORKER)]["status"] = "booting"
    cloud.add("somebody-else-s", region_name="us-west-1")
    code, graph = ask(INVENTORY, "--graph")
    assert code == 0, graph
    groups: dict[str, set[str]] = {}
    for name in (line.lstrip(" |-") for line in graph.splitlines()):
        if name.startswith("@"):
            here = groups.setdefault(name.strip("@:"), set())
        else:
            here.add(name)
    assert groups == {
        "all": set(),
        "ungrouped": set(),
        "mcp_nodes": set(),
        "mcp_managers": {"mcp-1"},
        "mcp_workers": {"mcp-2"},
        "lambda_cloud": {"mcp-1", "mcp-2", "mcp-3"},
        "lambda_region_us_east_1": {"mcp-1", "mcp-3"},
        "lambda_region_us_west_1": {"mcp-2"},
        "lambda_type_gpu_1x_a10": {"mcp-1", "mcp-2", "mcp-3"},
        "lambda_status_active": {"mcp-1", "mcp-2"},
        "lambda_status_booting": {"mcp-3"},
        "lambda_tag_fleet_mcp": {"mcp-1", "mcp-2", "mcp-3"},
        "lambda_tag_role_manager": {"mcp-1"},
        "lambda_tag_role_worker": {"mcp-2", "mcp-3"},
    }
    assert "somebody" not in graph


@from_checkout
def test_a_host_of_the_committed_inventory(cloud: Any, hosts: Any) -> None:
    cloud.add("mcp-1", tags=MANAGER, file_system_names=["models"])
    found, groups = hosts(INVENTORY)
    variables = found["mcp-1"]
    assert (variables["ansible_host"], variables["ansible_user"]) == ("198.51.100.11", "ubuntu")
    assert variables["mcp_node_gpus"] == 1
    assert variables["lambda_tags"] == {"fleet": "mcp", "role": "manager"}
    assert variables["lambda_file_system_names"] == ["models"]
    assert (variables["lambda_price_cents_per_hour"], variables["lambda_region"]) == (75, "us-east-1")
    assert groups["mcp_managers"] == ["mcp-1"]
    assert "jupyter" not in json.dumps(found)


@from_checkout
def test_an_empty_account_is_an_empty_inventory(hosts: Any) -> None:
    found, groups = hosts(INVENTORY)
    assert (found, groups) == ({}, {})


@from_checkout
@pytest.mark.parametrize("playbook", ["playbooks/plan.yml", "site.yml"])
def test_a_wrong_key_ends_a_playbook_before_it_begins(cloud: Any, tmp_path: Path, playbook: str) -> None:
    """An inventory that cannot be read is no empty one."""
    done = subprocess.run(
        [str(COMMAND.with_name("ansible-playbook")), "-i", str(INVENTORY), playbook, "-e", "plan_secrets=false"],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            **ENVIRONMENT,
            "LAMBDA_API_KEY": "secret_wrong",
            "LAMBDA_API_URL": cloud.url,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    output = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0, output
    assert "global/invalid-api-key" in output
    assert "make a key at https://cloud.lambda.ai/api-keys" in output
    assert "secret_wrong" not in output


# The rest is asked with configurations of its own.


@from_checkout
def test_constructed_groups_and_names(cloud: Any, hosts: Any) -> None:
    one = cloud.add("mcp-1", tags=MANAGER)
    found, groups = hosts(
        {
            "hostname": "id",
            "default_groups": False,
            "compose": {"dollars": "lambda_price_cents_per_hour / 100"},
            "groups": {"cheap": "lambda_price_cents_per_hour < 100"},
            "keyed_groups": [{"key": "lambda_gpu_description", "prefix": "gpu"}],
        }
    )
    assert found[one]["dollars"] == 0.75
    assert groups == {"lambda_cloud": [one], "cheap": [one], "gpu_A10__24_GB_PCIe_": [one]}


@from_checkout
def test_the_key_is_a_template(cloud: Any, hosts: Any, tmp_path: Path) -> None:
    cloud.add("mcp-1")
    key = tmp_path / "key"
    key.write_text(cloud.key + "\n", "utf-8")
    found, dummy = hosts({"api_key": f"{{{{ lookup('ansible.builtin.file', '{key}') }}}}"}, LAMBDA_API_KEY="wrong")
    assert set(found) == {"mcp-1"}


@from_checkout
def test_a_name_is_text_and_no_template(cloud: Any, hosts: Any) -> None:
    cloud.add("mcp-1", tags=[{"key": "note", "value": "{{ 6 * 7 }}"}])
    found, dummy = hosts({})
    assert "42" not in json.dumps(found["mcp-1"]["lambda_tags"])


@from_checkout
def test_answers_are_kept_for_a_while(cloud: Any, hosts: Any, ask: Any, tmp_path: Path) -> None:
    cached = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    cloud.add("mcp-1")
    assert set(hosts(cached)[0]) == set(hosts(cached)[0]) == {"mcp-1"}
    assert cloud.asked("GET /instances") == 1
    (file,) = (tmp_path / "cache").iterdir()
    assert "jupyter" not in file.read_text("utf-8")
    assert cloud.key not in file.read_text("utf-8")
    cloud.add("mcp-2")
    code, output = ask(cached, "--list", "--flush-cache")
    assert code == 0, output
    assert "mcp-2" in output
    assert cloud.asked("GET /instances") == 2


@from_checkout
def test_two_of_one_name_are_an_error_with_a_way_out(cloud: Any, ask: Any, hosts: Any) -> None:
    ids = {cloud.add("mcp-1"), cloud.add("mcp-1")}
    code, output = ask({})
    output = " ".join(output.split())
    assert code != 0
    assert "two instances of Lambda Cloud are called mcp-1" in output
    assert all(one in output for one in ids)
    assert "or set hostname: id" in output
    assert set(hosts({"hostname": "id"})[0]) == ids


@from_checkout
def test_an_api_that_does_not_answer_is_an_error(cloud: Any, ask: Any) -> None:
    cloud.fault(status=503, text="away", times=99)
    code, output = ask({"api_retry_timeout": 2})
    assert code != 0
    assert "https://status.lambda.ai and run again" in " ".join(output.split())


# Pure


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {"mcp-1", "mcp-2", "other"}),
        ({"names": ["mcp-*"]}, {"mcp-1", "mcp-2"}),
        ({"regions": ["us-west-1"]}, {"mcp-2", "other"}),
        ({"tags": {"role": "manager"}}, {"mcp-1"}),
        ({"tags": {"role": "manager", "fleet": "x"}}, set()),
        ({"statuses": ["unhealthy"]}, {"other"}),
    ],
)
def test_only_the_instances_that_are_wanted(cloud: Any, options: dict[str, Any], names: set[str]) -> None:
    cloud.add("mcp-1", tags=MANAGER)
    cloud.instances[cloud.add("ending")]["status"] = "terminating"
    cloud.add("mcp-2", tags=WORKER, region_name="us-west-1")
    cloud.instances[cloud.add("other", region_name="us-west-1")]["status"] = "unhealthy"
    wish = {"statuses": ["booting", "active", "unhealthy"], "regions": [], "names": [], "tags": {}, **options}
    assert {instance["name"] for instance in lambda_cloud.chosen(cloud.instances.values(), **wish)} == names


@pytest.mark.parametrize(
    ("name", "meant"),
    [("lambda_cloud.yml", True), ("prod.lambda_cloud.yaml", True), ("lambda_cloud.json", False), ("hosts.yml", False)],
)
def test_a_file_is_meant_by_its_name(tmp_path: Path, name: str, meant: bool) -> None:
    path = tmp_path / name
    path.write_text("plugin: x\n", "utf-8")
    assert lambda_cloud.InventoryModule().verify_file(str(path)) is meant


def test_one_without_an_address_has_no_ansible_host(cloud: Any) -> None:
    cloud.launch_instance(
        {"name": "", "region_name": "us-east-1", "instance_type_name": "gpu_1x_a10", "ssh_key_names": ["operations"]}
    )
    (instance,) = cloud.instances.values()
    variables = lambda_cloud.host_variables(instance)
    assert "ansible_host" not in variables
    assert (variables["lambda_ip"], variables["lambda_name"], variables["lambda_tags"]) == ("", "", {})
    assert lambda_cloud.default_groups(variables) == [
        "lambda_region_us-east-1",
        "lambda_type_gpu_1x_a10",
        "lambda_status_booting",
    ]
