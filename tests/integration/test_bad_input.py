# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input, on the real engine: each ends in one clear message with the cause and the next step, and non-zero."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

import pytest
from conftest import GOOD, PORT, ROOT, Fleet, docker, replicas


def snapshot() -> list[str]:
    """Everything of Docker's that a run could touch."""
    kinds = ("service", "network", "volume", "secret", "config")
    return [line for kind in kinds for line in docker(kind, "ls", "--format", "{{.Name}}")]


def test_three_mistakes_are_reported_at_once_and_nothing_is_touched(fleet: Fleet) -> None:
    before = snapshot()
    fleet.write(
        [
            {**GOOD, "replica": 2},
            {"name": "Time!", "source": {"kind": "pypi", "package": "x", "version": "1.0"}, "command": ["x"]},
            {"name": "x", "source": {"kind": "npm", "package": "x", "version": "latest"}, "command": ["x"]},
        ]
    )
    done = fleet.run("site.yml")
    assert done.returncode != 0
    assert "3 mistakes; nothing was changed" in done.stdout
    assert "mcp_servers[0].replica: unknown key; did you mean 'replicas'?" in done.stdout
    assert "mcp_servers[1].name: 'Time!'" in done.stdout
    assert "mcp_servers[2].source.version: 'latest'" in done.stdout
    assert "changed=0" in done.stdout
    assert snapshot() == before


NO_PACKAGE = "the package does not exist; correct source.package in mcp_servers"
NO_VERSION = "this version does not exist; correct source.version in mcp_servers"


@pytest.mark.parametrize(
    ("kind", "package", "version", "said"),
    [
        ("pypi", "mcp-server-that-nobody-published", "1.0.0", NO_PACKAGE),
        ("pypi", "mcp-server-time", "1.2.3", NO_VERSION),
        ("npm", "@modelcontextprotocol/server-nobody", "1.0.0", NO_PACKAGE),
        ("npm", "@modelcontextprotocol/server-memory", "1.2.3", NO_VERSION),
    ],
)
def test_an_unknown_package_or_version(fleet: Fleet, kind: str, package: str, version: str, said: str) -> None:
    source = {"kind": kind, "package": package, "version": version}
    fleet.write([GOOD, {"name": "lost", "source": source, "command": ["x"]}])
    done = fleet.run("site.yml")
    assert done.returncode != 0
    assert f"server lost: {said}" in done.stdout
    assert package.rpartition("/")[2] in done.stdout


def test_an_index_out_of_reach(fleet: Fleet) -> None:
    site = fleet.settings["site"] | {"pypi_index": "http://127.0.0.1:9/simple"}
    source = {"kind": "pypi", "package": "mcp-server-calculator", "version": "0.2.0"}
    fleet.write([GOOD, {"name": "far", "source": source, "command": ["x"]}], site=site)
    done = fleet.run("site.yml")
    assert done.returncode != 0
    assert "server far: the package index cannot be reached; check the build host's network" in done.stdout


def test_a_server_that_exits_at_start(fleet: Fleet) -> None:
    broken = {**GOOD, "name": "quitter", "command": ["mcp-server-time", "--no-such-option"]}
    fleet.write([GOOD, broken])
    done = fleet.run("site.yml")
    assert done.returncode != 0
    assert "The fleet did not come up; services that ran before go on serving." in done.stdout
    assert "bad_quitter" in done.stdout
    assert "unrecognized arguments: --no-such-option" in done.stdout


def test_a_server_that_listens_but_speaks_no_mcp(fleet: Fleet) -> None:
    mute = {**GOOD, "name": "mute", "transport": "http", "command": ["python3", "-m", "http.server", "{port}"]}
    fleet.write([GOOD, mute])
    done = fleet.run("site.yml", "-e", "stack_timeout=120")
    assert done.returncode != 0
    assert "bad_mute" in done.stdout
    assert "initialize" in done.stdout


def test_a_port_that_something_else_holds(fleet: Fleet) -> None:
    with socket.socket() as holder:
        holder.bind(("0.0.0.0", PORT + 1))
        holder.listen()
        fleet.write([GOOD], edge=fleet.settings["edge"] | {"port": PORT + 1})
        done = fleet.run("site.yml")
    assert done.returncode != 0
    assert f"tcp {PORT + 1}, which the edge needs, is taken by" in done.stdout
    assert "or set mcp_fleet.edge.port" in done.stdout


def test_no_room_for_the_build(fleet: Fleet, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", tmp_path], check=True)
    try:
        fleet.write([GOOD, {**GOOD, "name": "again"}], state_dir=f"{tmp_path}/state")
        before = fleet.run("site.yml")
        # What fills up between the preflight and the build.
        done = fleet.run("playbooks/images.yml")
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert before.returncode != 0
    assert f"disk: {tmp_path}/state: 0.0 GB free" in before.stdout
    assert done.returncode != 0
    assert "No space left on device" in done.stdout
    assert "state_dir" in done.stdout


def test_no_root() -> None:
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*nobody, "scripts/playbook", "-i", "inventories/local", "site.yml"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "root" in done.stdout
    assert "sudo" in done.stdout


def test_verification_fails_when_a_server_is_away(fleet: Fleet) -> None:
    subprocess.run(["docker", "service", "scale", "--detach", "bad_time=0"], check=True, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60  # what is told to stop finishes its calls first, and answers meanwhile
        while docker("ps", "--quiet", "--filter", "name=bad_time") and time.monotonic() < until:
            time.sleep(0.5)
        done = fleet.run("playbooks/verify.yml", "-e", "verify_timeout=5")
        assert done.returncode != 0
        assert "0/1 operational" in done.stdout
        assert "docker service logs --tail 20 bad_time" in done.stdout
    finally:
        subprocess.run(["docker", "service", "scale", "bad_time=1"], check=True, stdout=subprocess.DEVNULL)
    assert replicas("time") == "1/1"
