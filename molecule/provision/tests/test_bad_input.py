# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong is said before anything is changed; what is refused later leaves what was there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from commands import sh, until
from conftest import IMAGE, NODES, OUTSIDE, connects, play

FIRST, SECOND = NODES
STATE = "cat /etc/docker/daemon.json; nft --stateless list table inet mcp_swarm; apt-mark showhold; ls /etc/systemd/system"


@contextmanager
def spoilt(name: str, path: str, command: str) -> Iterator[None]:
    """A file that is not what it should be."""
    sh(name, f"cp --archive {path} /root/kept && {command}")
    try:
        yield
    finally:
        sh(name, f"cp --archive /root/kept {path} && rm /root/kept")


def test_a_node_that_is_fit_is_told_so() -> None:
    done = play("preflight.yml")
    assert done.code == 0, done.output
    assert "2 nodes are fit for what the inventory wants" in done.output
    assert "changed=0" in done.output


def test_everything_that_is_wrong_with_all_nodes_is_one_message_and_nothing_is_changed() -> None:
    before = {name: sh(name, STATE) for name in NODES}
    sh(FIRST, "systemd-run --unit taken python3 -m http.server 443")
    until("port 443 is taken", lambda: "443" in sh(FIRST, "ss -ltn sport = :443"))
    wrong_os = "printf 'ID=fedora\\nVERSION_ID=41\\n' >/etc/os-release.new && mv /etc/os-release.new /etc/os-release"
    mirror = "sed -i -E 's#https?://[^ ]+#http://10.95.7.250/debian#' /etc/apt/sources.list"
    try:
        with spoilt(SECOND, "/etc/os-release", wrong_os), spoilt(FIRST, "/etc/apt/sources.list", mirror):
            done = play(
                "provision.yml",
                preflight_disk_gb=100000,
                preflight_memory_mb=10000000,
                # As if they were missing still: only then are mirrors asked for.
                _preflight_packages=["a-package-that-is-missing"],
            )
    finally:
        sh(FIRST, "systemctl stop taken")
    assert done.code != 0
    assert done.output.count("nothing was changed.") == 2, "once when it happens, once in the result"
    for said in (
        "tcp 443, which the edge needs, is taken by python3 (process ",
        "→ stop it (ss -lnp | grep :443), or set mcp_fleet.edge.port",
        "error os: Fedora 41 → MCP Swarm runs on Debian 12 or 13",
        "error disk: /var/lib/docker: ",
        "at least 10000000 MB are needed",
        "error reach: http://10.95.7.250/debian/dists/bookworm/InRelease: ",
    ):
        assert said in done.output, said
    assert {name: sh(name, STATE) for name in NODES} == before


def test_a_login_without_sudo_and_one_that_does_not_answer() -> None:
    with spoilt(SECOND, "/etc/sudoers.d/ubuntu", "rm /etc/sudoers.d/ubuntu"):
        done = play("preflight.yml")
    assert done.code != 0
    assert "1 error on 1 node; nothing was changed." in done.output
    assert "the login user needs sudo: give it NOPASSWD in /etc/sudoers.d, or run with --ask-become-pass" in done.output
    sh(SECOND, "systemctl stop ssh.socket ssh.service")
    try:
        # sshd leaves connections alone that are there, and Ansible keeps one for a minute.
        done = play("preflight.yml", ansible_ssh_args="-o ControlMaster=no")
    finally:
        sh(SECOND, "systemctl start ssh.service")
    assert done.code != 0
    assert "error connection: " in done.output
    assert "check ansible_host and ansible_port" in done.output


def test_contributions_that_disagree_are_both_named() -> None:
    before = sh(SECOND, STATE)
    done = play("provision.yml", "--limit", SECOND, "--tags", "configure", logs_docker_engine_daemon={"icc": True})
    assert done.code != 0
    assert "icc: logs_docker_engine_daemon wants True, node_baseline_docker_engine_daemon wants False" in done.output
    assert sh(SECOND, STATE) == before


def test_a_configuration_that_the_engine_refuses_is_never_in_place(images: None) -> None:
    """From 23 on the engine itself checks it; Debian 12's is older, does not start with it, and gets the old one back."""
    before = {name: sh(name, "cat /etc/docker/daemon.json") for name in NODES}
    done = play("provision.yml", docker_engine_daemon={"storage-driver": "nonsense", "no-such-key": 1}, docker_engine_restart=True)
    assert done.code != 0
    assert "/etc/docker/daemon.json: its new content is refused, and nothing was changed" in done.output
    assert "with the new daemon.json (kept as daemon.json.refused); it runs again" in done.output
    assert {name: sh(name, "cat /etc/docker/daemon.json") for name in NODES} == before
    for name in NODES:
        assert sh(name, "systemctl is-active docker") == "active"
        assert json.loads(sh(name, "docker info --format '{{json .Swarm.LocalNodeState}}'")) == "active"


def test_an_engine_with_containers_restarts_only_when_it_is_told_to(images: None) -> None:
    sh(SECOND, f"docker run --detach --rm --name busy {IMAGE} sleep 600")
    pid = sh(SECOND, "cat /run/docker.pid")
    setting = {"docker_engine_daemon": {"shutdown-timeout": 16}}
    try:
        # One that it reads again while it runs, and one that it does not.
        done = play("provision.yml", "--limit", SECOND, "--tags", "configure,run", **setting)
        assert done.code == 0, done.output
        assert "goes on as it was started" not in done.output
        setting["docker_engine_daemon"]["log-level"] = "warn"
        done = play("provision.yml", "--limit", SECOND, "--tags", "configure,run", **setting)
        assert "the engine goes on as it was started" in done.output
        assert sh(SECOND, "cat /run/docker.pid") == pid
    finally:
        sh(SECOND, "docker rm -f busy")


def newer(name: str, package: str) -> str:
    """Offer a node a later version of a package, with the files that it has; returns that version."""
    version = sh(name, f"dpkg-query --show --showformat '${{Version}}' {package}") + "+later"
    control = f"Package: {package}\\nVersion: {version}\\nArchitecture: amd64\\nMaintainer: Nobody <nobody@localhost>\\nDescription: later\\n"
    sh(name, f"""
        rm -rf /srv/later && mkdir -p /srv/later/tree/DEBIAN && cd /srv/later
        dpkg-query --listfiles {package} | while read -r file; do [ ! -f "$file" ] || install -D "$file" "tree$file"; done
        printf '{control}' >tree/DEBIAN/control && dpkg-deb --build tree later.deb >&2
        {{ cat tree/DEBIAN/control; echo "Filename: ./later.deb"; stat --format 'Size: %s' later.deb
           echo "SHA256: $(sha256sum later.deb | cut -c 1-64)"; }} >Packages
        echo 'deb [trusted=yes] file:/srv/later ./' >/etc/apt/sources.list.d/later.list
    """)  # fmt: skip
    return version


def test_the_engines_are_brought_to_what_is_there_one_after_the_other(images: None) -> None:
    pids = {name: sh(name, "cat /run/docker.pid") for name in NODES}
    replaced = 'cp -a /usr/bin/containerd /usr/bin/later && mv /usr/bin/later /usr/bin/containerd; readlink "/proc/$(pidof containerd)/exe"'
    for name in NODES:
        assert "(deleted)" in sh(name, replaced)
    later = newer(SECOND, "runc")
    # What the test before left undone.
    setting = {"docker_engine_daemon": {"shutdown-timeout": 16, "log-level": "warn"}}
    sh(FIRST, f"docker service create --quiet --detach --no-resolve-image --replicas 2 --name moved {IMAGE} sleep 600")
    try:
        until("both run", lambda: sh(FIRST, "docker service ls --format '{{.Replicas}}'") == "2/2")
        done = play("engine.yml", engine_drain=True, **setting)
        # Each was told to end, and none went down with its engine.
        ended = sh(FIRST, "docker service ps --filter desired-state=shutdown --format '{{.CurrentState}}' moved").splitlines()
    finally:
        sh(FIRST, "docker service rm moved")
    assert done.code == 0, done.output
    assert ended
    assert all(state.startswith("Shutdown") for state in ended), ended
    assert sh(FIRST, "docker node ls --format '{{.Availability}}'").split() == ["Active", "Active"]
    assert {name for name in NODES if sh(name, "cat /run/docker.pid") != pids[name]} == set(NODES)
    assert done.output.index(f"ok: [{FIRST}]") < done.output.rindex(f"ok: [{SECOND}]")
    for name in NODES:
        assert json.loads(sh(name, "docker info --format '{{json .Swarm.LocalNodeState}}'")) == "active"
        assert "(deleted)" not in sh(name, 'readlink "/proc/$(pidof containerd)/exe"')
    # What is held, below the engine, is upgraded with it and stays held.
    assert sh(SECOND, "dpkg-query --show --showformat '${db:Status-Abbrev} ${Version}' runc").split() == ["hi", later]
    # Without them both are as the inventory has it again; for this there is nothing to wait for.
    assert play("engine.yml").code == 0


def test_another_version_is_for_the_playbook_that_upgrades() -> None:
    done = play("provision.yml", "--tags", "install", "--limit", SECOND, docker_engine_version="99")
    assert done.code == 0, done.output
    assert "docker_engine_version is 99. Run playbooks/engine.yml" in done.output
    before = sh(SECOND, "dpkg-query --show docker.io; cat /run/docker.pid")
    done = play("engine.yml", "--limit", SECOND, docker_engine_version="99")
    assert done.code != 0
    assert "The engine's packages could not be installed; what was there goes on." in done.output
    assert sh(SECOND, "dpkg-query --show docker.io; cat /run/docker.pid") == before


def test_the_same_archive_under_another_name_does_not_stop_apt(outsider: str) -> None:
    """As Docker's guide had it for long, and others' roles have it: apt refuses one archive with two keys."""
    archive = f"http://{OUTSIDE}:8082"
    sh(outsider, "mkdir -p /srv/archive/debian && touch /srv/archive/debian/gpg")
    sh(outsider, "setsid --fork python3 -m http.server --directory /srv/archive 8082 >/dev/null 2>&1")
    until("it listens", lambda: connects(outsider, "127.0.0.1", 8082))
    lists = "/etc/apt/sources.list.d"
    other = f"deb [arch=amd64 signed-by=/etc/apt/keyrings/docker.gpg] {archive}/debian trixie stable"
    sh(SECOND, f"touch /etc/apt/keyrings/docker.gpg; printf '# ours\\n{other}\\n' >{lists}/docker.list")
    sh(SECOND, f"printf 'Types: deb\\nURIs: {archive}/debian\\nSuites: trixie\\nComponents: stable\\n' >{lists}/engine.sources")
    try:
        done = play("engine.yml", "--limit", SECOND, docker_engine_source="docker", docker_engine_repository=archive)
        assert "The engine's packages could not be installed" in done.output  # there are none in this archive
        assert sh(SECOND, f"cat {lists}/docker.list; ls {lists}").splitlines().count("# ours") == 1
        assert archive not in sh(SECOND, f"cat {lists}/*.list")
        assert "engine.sources" not in sh(SECOND, f"ls {lists}")
        assert f"URIs: {archive}/debian" in sh(SECOND, f"cat {lists}/docker.sources")
        sh(SECOND, "apt-cache policy")
    finally:
        sh(SECOND, f"rm -f {lists}/docker.list {lists}/docker.sources {lists}/engine.sources /etc/apt/keyrings/docker.gpg")


@pytest.mark.parametrize("tags", [[], ["--tags", "preflight"]])
def test_a_mistake_of_the_plan_is_said_before_any_node_is_asked(tags: list[str]) -> None:
    done = play("provision.yml", *tags, mcp_servers=[{"name": "x"}])
    assert done.code != 0
    assert "nothing was changed" in done.output
