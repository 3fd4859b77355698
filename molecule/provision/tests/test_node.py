# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a provisioned node is; docs/hardening.md names the items of the CIS Docker Benchmark that are checked here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from commands import sh
from conftest import IMAGE, NODES
from testinfra.host import Host


@pytest.fixture
def info(node: Host) -> dict[str, Any]:
    return dict(json.loads(node.check_output("docker info --format '{{json .}}'")))


@pytest.fixture
def daemon(node: Host) -> dict[str, Any]:
    return dict(json.loads(node.file("/etc/docker/daemon.json").content_string))


def test_the_engine_is_a_service_that_comes_back(node: Host) -> None:
    assert node.service("docker").is_running
    assert node.service("docker").is_enabled


def test_the_engine_keeps_its_version(node: Host) -> None:
    held = set(node.check_output("apt-mark showhold").split())
    assert held >= {"docker.io", "containerd", "runc"}


def test_contributions_of_others_are_in_the_configuration_that_runs(node: Host, daemon: dict[str, Any]) -> None:
    assert daemon["metrics-addr"] == "127.0.0.1:9323"
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:9323/metrics').status)"
    assert node.check_output(f'python3 -c "{ask}"') == "200"


def test_the_node_is_in_a_swarm(info: dict[str, Any]) -> None:
    assert info["Swarm"]["LocalNodeState"] == "active"


# -- the engine's configuration: CIS Docker Benchmark, section 2 ---------------------------------


def test_2_2_containers_of_the_default_network_are_apart(node: Host) -> None:
    options = json.loads(node.check_output("docker network inspect bridge --format '{{json .Options}}'"))
    assert options["com.docker.network.bridge.enable_icc"] == "false"


def test_2_3_2_4_2_5_2_6_logging_iptables_registries_and_storage(info: dict[str, Any], daemon: dict[str, Any]) -> None:
    assert daemon.get("log-level", "info") == "info"
    assert daemon.get("iptables", True) is True
    assert info["RegistryConfig"]["InsecureRegistryCIDRs"] == ["127.0.0.0/8"] or set(
        info["RegistryConfig"]["InsecureRegistryCIDRs"]
    ) <= {"127.0.0.0/8", "::1/128"}
    assert info["Driver"] != "aufs"


def test_2_7_the_engine_listens_on_no_network(node: Host, daemon: dict[str, Any]) -> None:
    assert "hosts" not in daemon
    assert not node.socket("tcp://0.0.0.0:2375").is_listening
    assert not node.socket("tcp://0.0.0.0:2376").is_listening


def test_2_8_open_files_are_limited(node: Host, images: None) -> None:
    wanted = str(min(65536, int(node.check_output("awk '/open files/ {print $5}' /proc/1/limits"))))
    assert node.check_output(f"docker run --rm {IMAGE} sh -c 'ulimit -n; ulimit -Hn'").split() == [wanted, wanted]


def test_2_14_containers_gain_no_privileges(node: Host, images: None) -> None:
    # Debian 12's engine does not tell; a container's own status does.
    assert node.check_output(f"docker run --rm {IMAGE} python3 -c \"print(open('/proc/self/status').read())\"").count("NoNewPrivs:\t1") == 1


def test_2_15_live_restore_is_off_in_a_swarm(info: dict[str, Any]) -> None:
    assert info["LiveRestoreEnabled"] is False


def test_2_17_2_18_seccomp_is_on_and_experiments_are_off(info: dict[str, Any]) -> None:
    assert any(option.startswith("name=seccomp") for option in info["SecurityOptions"])
    assert info["ExperimentalBuild"] is False


# -- files of the engine: sections 1.1.2 and 3 ----------------------------------------------------


def test_1_1_2_nobody_else_controls_the_engine(node: Host) -> None:
    assert node.group("docker").members == []


@pytest.mark.parametrize(
    ("path", "owner", "most"),
    [
        ("/usr/lib/systemd/system/docker.service", "root:root", 0o644),
        ("/usr/lib/systemd/system/docker.socket", "root:root", 0o644),
        ("/etc/docker", "root:root", 0o755),
        ("/etc/docker/daemon.json", "root:root", 0o644),
        ("/etc/default/docker", "root:root", 0o644),
        ("/run/docker.sock", "root:docker", 0o660),
        ("/run/containerd/containerd.sock", "root:root", 0o660),
        ("/etc/mcp-node", "root:root", 0o700),
    ],
)
def test_3_files_are_their_owners(node: Host, path: str, owner: str, most: int) -> None:
    file = node.file(path)
    assert file.exists, path
    assert f"{file.user}:{file.group}" == owner
    assert file.mode & ~most == 0, oct(file.mode)


# -- the machine: section 1.2 -----------------------------------------------------------------------


def test_security_updates_are_installed_and_leave_the_engine_alone(node: Host) -> None:
    settings = node.check_output("apt-config dump")
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
    assert 'APT::Periodic::Update-Package-Lists "1";' in settings
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in settings
    assert 'Unattended-Upgrade::Package-Blacklist:: "^docker";' in settings
    assert node.service("apt-daily-upgrade.timer").is_enabled
    # It reads its settings, and where security updates come from.
    said = node.run("unattended-upgrade --dry-run --debug 2>&1 | head -n 20").stdout
    assert "Allowed origins are" in said
    assert "ecurity" in said


def test_kernel_settings_are_in_force(node: Host) -> None:
    wanted = dict(line.split(" = ") for line in node.file("/etc/sysctl.d/60-mcp-swarm.conf").content_string.splitlines() if " = " in line)
    assert wanted["net.core.somaxconn"] == "4096"
    # A container's network has settings of its own; the machine's are not for it to change.
    assert not any(key.startswith(("kernel.", "fs.")) for key in wanted)
    for key, value in wanted.items():
        if key.startswith("net.ipv6."):  # this test's network has none
            continue
        assert node.check_output(f"sysctl --values {key}").split() == value.split(), key


def test_the_journal_is_limited(node: Host) -> None:
    assert "SystemMaxUse=1G" in node.check_output("systemd-analyze cat-config systemd/journald.conf")


def test_old_build_cache_is_removed_and_nothing_else(node: Host, images: None) -> None:
    assert node.service("mcp-prune.timer").is_running
    assert node.service("mcp-prune.timer").is_enabled
    before = node.check_output("docker images --quiet --no-trunc; docker network ls --quiet; docker ps -aq; docker volume ls -q")
    node.check_output("systemctl start mcp-prune.service")
    assert node.check_output("systemctl show mcp-prune --property Result --value") == "success"
    assert "Total" in node.check_output("journalctl --unit mcp-prune --output cat")
    after = node.check_output("docker images --quiet --no-trunc; docker network ls --quiet; docker ps -aq; docker volume ls -q")
    assert before == after


def test_what_a_container_cannot_have_is_left_to_its_host(node: Host) -> None:
    assert not node.package("auditd").is_installed
    assert not node.file("/etc/audit/rules.d/60-mcp-swarm.rules").exists
    assert not node.file("/etc/modules-load.d/mcp-swarm.conf").exists


def test_both_distributions_are_here() -> None:
    assert {sh(name, ". /etc/os-release; echo $VERSION_ID") for name in NODES} == {"12", "13"}
