# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""launch.yml and terminate.yml against the double: nothing is half-done, and a second run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from lambda_double import Double, running

ROOT = Path(__file__).resolve().parents[2]
KEY = "secret_double_0123456789"
KEY_OF_ANOTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL0Z3qsDqLQ5kPsFhL0XmL1nC7yqK8pT1oHn6b0Jb1Zr"
LAUNCH = "POST /instance-operations/launch"
TERMINATE = "POST /instance-operations/terminate"
MANAGER = {"name": "mcp-1", "tags": {"fleet": "mcp", "role": "manager"}}
WORKER = {"name": "mcp-2", "tags": {"fleet": "mcp", "role": "worker"}}


@dataclass
class Site:
    """An account, and playbooks with the committed inventory."""

    double: Double
    url: str
    home: Path
    key: str = KEY
    variables: dict[str, Any] = field(default_factory=dict)

    @property
    def known_hosts(self) -> Path:
        return self.home / "known_hosts"

    def play(self, playbook: str, *arguments: str, **variables: Any) -> tuple[int, str]:
        """Exit code, and output in one line: messages are wrapped to the terminal's width."""
        given = {
            "lambda_wait_for_ssh": False,
            "lambda_known_hosts": str(self.known_hosts),
            **self.variables,
            **variables,
        }
        command = [str(Path(sys.executable).with_name("ansible-playbook")), f"playbooks/{playbook}.yml"]
        command += ["-i", "inventories/lambda", "-e", json.dumps(given), *arguments]
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        env = {"ANSIBLE_NOCOLOR": "1", "HOME": str(self.home), "LAMBDA_API_KEY": self.key, "LAMBDA_API_URL": self.url}
        done = subprocess.run(
            command, cwd=ROOT, env=kept | env, capture_output=True, text=True, timeout=300, check=False
        )
        output = " ".join((done.stdout + done.stderr).split())
        assert self.key not in output
        return done.returncode, output

    def refused(self, playbook: str, *arguments: str, **variables: Any) -> str:
        code, output = self.play(playbook, *arguments, **variables)
        assert code != 0, output
        return output

    def done(self, playbook: str, *arguments: str, **variables: Any) -> str:
        code, output = self.play(playbook, *arguments, **variables)
        assert code == 0, output
        return output

    def statuses(self) -> dict[str, str]:
        return {one["name"]: one["status"] for one in self.double.instances.values() if one["status"] != "terminated"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    double = Double(KEY)
    with running(double) as url:
        yield Site(double, url, tmp_path)


def knows(site: Site, *addresses: str) -> None:
    site.known_hosts.write_text("".join(f"{address} {KEY_OF_ANOTHER}\n" for address in addresses), "utf-8")


def known(site: Site) -> list[str]:
    return [line.split()[0] for line in site.known_hosts.read_text("utf-8").splitlines()]


def test_launch_launch_again_and_terminate(site: Site) -> None:
    knows(site, "198.51.100.11", "198.51.100.99")
    assert "mcp-1 would be launched: gpu_1x_a10 in us-east-1" in site.done("launch", "--check")
    assert site.double.instances == {}

    output = site.done("launch")
    assert "mcp-1 launched: gpu_1x_a10 in us-east-1" in output
    assert site.statuses() == {"mcp-1": "active"}
    assert known(site) == ["198.51.100.99"], "what had the address before is forgotten, others are not"

    # An instance that was there keeps what is known of it, be it wrong: that is for a person to look at.
    knows(site, "198.51.100.11", "198.51.100.99")
    output = site.done("launch")
    assert "changed=0" in output
    assert "mcp-1 was there already" in output
    assert known(site) == ["198.51.100.11", "198.51.100.99"]
    assert site.double.requests.count(LAUNCH) == 1

    assert "changed=2" in site.done("terminate", terminate="mcp-1", confirm="mcp-1")
    assert site.statuses() == {}
    assert known(site) == ["198.51.100.99"]
    output = site.done("terminate", terminate="mcp-1", confirm="mcp-1")
    assert "changed=0" in output
    assert "mcp-1: there is no such instance" in output


def test_what_is_wrong_with_the_last_is_said_before_the_first_is_launched(site: Site) -> None:
    wrong = {**WORKER, "instance_types": ["gpu_1x_a1"]}
    assert "there is no gpu_1x_a1; there are: gpu_1x_a10" in site.refused("launch", lambda_instances=[MANAGER, wrong])
    assert site.double.instances == {}


@pytest.mark.parametrize(
    ("instances", "said"),
    [([], "lambda_instances: is empty"), ([MANAGER, MANAGER], "each needs a name of its own; there are: mcp-1, mcp-1")],
)
def test_a_description_that_cannot_be_meant_is_refused(site: Site, instances: list[Any], said: str) -> None:
    assert said in site.refused("launch", lambda_instances=instances)
    assert site.double.launches == []


def test_quota_in_the_middle_keeps_what_is_launched_and_the_next_run_goes_on(site: Site) -> None:
    site.double.world.quota = 1
    both = {"lambda_instances": [MANAGER, WORKER]}
    output = site.refused("launch", **both)
    assert "global/quota-exceeded" in output
    assert "ask Lambda's support for a higher quota" in output
    assert list(site.statuses()) == ["mcp-1"]
    site.double.world.quota = 2
    output = site.done("launch", **both)
    assert "mcp-1 was there already" in output
    assert "mcp-2 launched" in output
    assert site.statuses() == {"mcp-1": "active", "mcp-2": "active"}


def test_one_that_does_not_boot_is_given_back_and_the_next_run_launches_another(site: Site) -> None:
    site.double.world.fates["mcp-1"] = "stuck"
    output = site.refused(
        "launch", lambda_defaults={"instance_types": ["gpu_1x_a10"], "ssh_key": "operations", "wait_timeout": 8}
    )
    assert "is still booting after" in output
    assert "it was terminated; run again" in output
    assert set(site.statuses().values()) <= {"terminating"}
    site.double.world.fates.clear()
    assert "mcp-1 launched" in site.done("launch")


def test_the_key_and_the_firewall_come_first(site: Site) -> None:
    key = {"name": "mine", "public_key": KEY_OF_ANOTHER}
    rules = [{"ports": "22", "source_network": "198.51.100.0/24"}, {"ports": "443"}]
    defaults = {"instance_types": ["gpu_1x_a10"], "ssh_key": "mine"}
    site.variables = {"lambda_ssh_key": key, "lambda_firewall_rules": rules, "lambda_defaults": defaults}
    site.done("launch")
    assert [rule["port_range"] for rule in site.double.rules] == [[22, 22], [443, 443]]
    assert site.double.launches[0]["ssh_key_names"] == ["mine"]
    assert "changed=0" in site.done("launch")


@pytest.fixture
def launched(site: Site) -> Callable[..., str]:
    """An instance that is active; its id."""

    def launched(name: str, region: str = "us-east-1") -> str:
        body = {
            "name": name,
            "region_name": region,
            "instance_type_name": "gpu_1x_a10",
            "ssh_key_names": ["operations"],
        }
        one: str = site.double.launch_instance({**body, "tags": [{"key": "fleet", "value": "mcp"}]})["instance_ids"][0]
        site.double.instances[one].update(
            status="active", ip=site.double.addresses[one], actions=Double._actions("active")
        )
        return one

    return launched


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "terminate: is empty; say which instances"),
        ({"terminate": "mcp-1"}, "confirm: is missing; nothing was terminated"),
        ({"terminate": "mcp-1,mcp-2", "confirm": "mcp-1"}, "repeat the names with -e confirm=mcp-1,mcp-2"),
        ({"terminate": "mcp-1", "confirm": "yes"}, "confirm: is yes; nothing was terminated"),
    ],
)
def test_nothing_is_terminated_without_its_name_twice(
    site: Site, launched: Any, variables: dict[str, str], said: str
) -> None:
    launched("mcp-1")
    assert said in site.refused("terminate", **variables)
    assert TERMINATE not in site.double.requests


def test_where_one_cannot_be_terminated_none_is(site: Site, launched: Any) -> None:
    launched("mcp-1")
    one, other = launched("mcp-2"), launched("mcp-2", "us-west-1")
    # Two of one name are no inventory, either: the plugin says the same.
    output = site.refused("terminate", terminate="mcp-1,mcp-2", confirm="mcp-1,mcp-2")
    assert one in output
    assert other in output
    assert TERMINATE not in site.double.requests


def test_by_name_and_by_id(site: Site, launched: Any) -> None:
    one = launched("mcp-1")
    launched("mcp-2")
    launched("mcp-3", "us-west-1")
    names = f"mcp-2, {one}"
    site.done("terminate", "--check", terminate=names, confirm=names)
    assert TERMINATE not in site.double.requests
    site.done("terminate", terminate=names, confirm=names)
    assert site.statuses() == {"mcp-3": "active"}


@pytest.mark.parametrize("playbook", ["launch", "terminate"])
def test_a_wrong_key_is_one_message(site: Site, launched: Any, playbook: str) -> None:
    launched("mcp-1")
    site.key = "secret_wrong_key_1"
    output = site.refused(playbook, terminate="mcp-1", confirm="mcp-1")
    assert "global/invalid-api-key" in output
    assert "make a key at https://cloud.lambda.ai/api-keys" in output
    assert site.statuses() == {"mcp-1": "active"}


def test_what_an_instance_is_given_is_shown_neither_when_it_goes_wrong_nor_when_asked_for_more(site: Site) -> None:
    """Ansible shows an item whole where it fails, and with -v always."""
    given = {"instance_types": ["gpu_1x_a10"], "ssh_key": "operations", "user_data": "#cloud-config\n# hunter2", "api_key": KEY}
    site.double.world.quota = 0
    output = site.refused("launch", lambda_defaults=given)
    assert "global/quota-exceeded" in output
    assert "hunter2" not in output
    site.double.world.quota = 1
    output = site.done("launch", "-v", lambda_defaults=given)
    assert "mcp-1 launched" in output
    assert "hunter2" not in output
