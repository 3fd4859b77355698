# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From nothing to a fleet and back, in the order of this file: each test goes on where the one before it ended."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
from commands import ROOT
from conftest import NODE, STATE

KNOWN = STATE / "known_hosts"
KEY = STATE / "id_ed25519"
ELSEWHERE = "192.0.2.7"
LAUNCH = "POST /instance-operations/launch"
TERMINATE = "POST /instance-operations/terminate"


def keygen(*arguments: str) -> str:
    done = subprocess.run(["ssh-keygen", *arguments], capture_output=True, text=True, check=False)
    return done.stdout


def changed(output: str) -> set[str]:
    return set(re.findall(r"changed=(\d+)", output))


@pytest.fixture(scope="module", autouse=True)
def keys(cloud: Any) -> None:
    """A key to log in with; and a list of known hosts that is wrong about the machine's address."""
    if KEY.exists():
        return
    for path in (KEY, STATE / "of_another_machine"):
        keygen("-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path))
    other = (STATE / "of_another_machine.pub").read_text("utf-8").strip()
    KNOWN.write_text(f"{cloud.address} {other}\n{ELSEWHERE} {other}\n", "utf-8")


def test_launch_would_launch(cloud: Any) -> None:
    output = cloud.command(
        "ansible-playbook",
        "playbooks/launch.yml",
        "--check",
        "-e",
        "{lambda_defaults: {instance_types: [gpu_1x_a10], ssh_key: operations}}",
    )
    assert output[0] == 0, output[1]
    assert f"{NODE} would be launched: gpu_1x_a10 in us-east-1" in " ".join(output[1].split())
    assert cloud.requests(LAUNCH) == 0


def test_launch(cloud: Any) -> None:
    output = cloud.play("playbooks/launch.yml")
    assert f"{NODE} launched: gpu_1x_a10 in us-east-1" in output
    # The key of the machine that had the address is forgotten, and this one's known; others are left alone.
    host_key = cloud.sh("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    assert host_key in keygen("-F", cloud.address, "-f", str(KNOWN))
    assert keygen("-F", cloud.address, "-f", str(KNOWN)).count("ssh-ed25519") == 1
    assert "ssh-ed25519" in keygen("-F", ELSEWHERE, "-f", str(KNOWN))


def test_launch_again_changes_nothing(cloud: Any) -> None:
    before = cloud.requests(LAUNCH)  # one, and those that were too soon after other requests
    output = cloud.play("playbooks/launch.yml")
    assert f"{NODE} was there already" in output
    assert changed(output) == {"0"}
    assert cloud.requests(LAUNCH) == before


def test_the_inventory_finds_it(cloud: Any) -> None:
    code, graph = cloud.command("ansible-inventory", "--graph")
    assert code == 0, graph
    print(graph)
    lines = [line.strip(" |-:") for line in graph.splitlines()]
    assert lines[lines.index("@mcp_managers") + 1] == NODE
    for group in ("@lambda_cloud", "@lambda_region_us_east_1", "@lambda_status_active", "@lambda_tag_role_manager"):
        assert lines[lines.index(group) + 1] == NODE


def test_it_is_reached_by_ssh_as_the_cloud_lets_one_in(cloud: Any) -> None:
    code, output = cloud.command(
        "ansible", NODE, "-m", "ansible.builtin.command", "-a", "sh -c 'id -un; echo $SSH_CONNECTION'"
    )
    assert code == 0, output
    assert "ubuntu" in output
    assert f"{cloud.address} 22" in output


def test_site_makes_a_fleet_of_it(cloud: Any) -> None:
    cloud.play("playbooks/provision.yml")
    # Images that this machine's engine has are taken over; what is missing is built on the node.
    code, output = cloud.command("ansible-playbook", "playbooks/plan.yml", "-e", f"plan_dir={STATE / 'plan'}")
    assert code == 0, output
    refs = re.findall(r'"ref": "([^"]+)"', (STATE / "plan" / "plan.json").read_text("utf-8"))
    here = [
        ref
        for ref in refs
        if subprocess.run(["docker", "image", "inspect", ref], capture_output=True, check=False).returncode == 0
    ]
    if here:
        subprocess.run(
            f"docker save {' '.join(here)} | docker exec --interactive {NODE} docker load",
            shell=True,
            check=True,
            capture_output=True,
        )
    output = cloud.play("site.yml")
    assert "1/1 operational" in output


def test_site_again_changes_nothing(cloud: Any) -> None:
    assert changed(cloud.play("site.yml")) == {"0"}


def test_status_says_what_it_costs(cloud: Any) -> None:
    assert "$0.75/h for 1 instance; idle: none" in cloud.play("playbooks/status.yml")


@pytest.mark.parametrize("confirm", ["", "yes"])
def test_terminate_wants_the_name_twice(cloud: Any, confirm: str) -> None:
    code, output = cloud.command(
        "ansible-playbook", "playbooks/terminate.yml", "-e", f"terminate={NODE} confirm={confirm}"
    )
    assert code != 0
    assert f"repeat the names with -e confirm={NODE}" in " ".join(output.split())
    assert cloud.machines() == [NODE]


def test_terminate(cloud: Any) -> None:
    address = cloud.address
    output = cloud.play("playbooks/terminate.yml", terminate=NODE, confirm=NODE)
    assert f"{NODE}: terminated" in output
    assert cloud.machines() == []
    assert cloud.requests(TERMINATE) == 1
    assert keygen("-F", address, "-f", str(KNOWN)) == ""
    assert "ssh-ed25519" in keygen("-F", ELSEWHERE, "-f", str(KNOWN))


def test_terminate_again_changes_nothing(cloud: Any) -> None:
    assert changed(cloud.play("playbooks/terminate.yml", terminate=NODE, confirm=NODE)) == {"0"}
    code, graph = cloud.command("ansible-inventory", "--graph")
    assert code == 0, graph
    assert NODE not in graph
    assert (ROOT / "inventories/lambda/lambda_cloud.yml").samefile(STATE.parent / "lambda_cloud.yml")
