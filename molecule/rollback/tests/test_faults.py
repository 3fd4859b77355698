# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault of a deploy: the cause is named, the release before serves, nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
import time
from typing import Any

import pytest
from calls import Calls
from commands import until
from conftest import FAULT, NODE, Node, rows

WHOLE = {"mcp_edge": "1/1", "mcp_edge-config": "1/1", "mcp_fetch": "1/1", "mcp_gateway": "1/1", "mcp_time": "2/2"}
FULL = "/var/lib/docker/containers/full"
TINI = ["/usr/bin/tini", "--", "/bin/sh", "-c"]
HEALTHY = {"test": ["CMD", "true"], "interval": "1s"}


def server(**keys: Any) -> dict[str, Any]:
    return {"services": {"time": keys}}


def served(output: str) -> str:
    found = re.search(r"Serving now: release (\d+) .*?(untouched|verified|but [^.]*)?\.", output)
    return found.group(0)[:90] if found else "untouched"


def row(name: str, said: str, output: str, calls: Calls) -> None:
    rows.append((name, said, served(output), str(calls)))


REFUSED = "nothing was changed"
CASES = [
    # name, what differs, options, what is said, calls that may be lost
    ("image that is nowhere", server(image="mcp-swarm/gone:0123456789ab"), {}, "service time: the image mcp-swarm/gone:0123456789ab is not on this manager", 0),
    ("image without a digest", server(image="mcp-swarm/movable:latest"), {}, "service time: the image mcp-swarm/movable:latest", 0),
    ("exits at once", server(entrypoint=[*TINI, "echo last words >&2; exit 7"]), {}, "exit code 7", 0),
    ("never becomes healthy", server(healthcheck={"test": ["CMD", "false"], "interval": "1s", "timeout": "1s", "retries": 2, "start_period": "1s"}), {}, "health check: unhealthy: exit code 1", 0),
    ("no node for it", server(deploy={"placement": {"constraints": ["node.labels.moon == full"]}}), {}, "no node can run it", 0),
    ("secret missing", {"secrets": {"lost": {"external": True, "name": "mcp_lost_1"}}, **server(secrets=[{"source": "lost"}])}, {}, "service time: the secret mcp_lost_1 is not in the Swarm", 0),
    # Ready as far as Swarm can tell: only the trial beside the old version finds it.
    ("healthy, speaks no MCP", server(entrypoint=[*TINI, "exec python3 -m http.server 8000"], healthcheck=HEALTHY), {"verify_timeout": 4}, "server time, on trial:", 0),
    ("exits after 20 s", server(entrypoint=[*TINI, "/opt/mcp/bin/mcp-runtime run & until /opt/mcp/bin/mcp-runtime health; do sleep 1; done; sleep 20; exit 9"]), {"settle": 60}, "it became ready and then ended", 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault", "options", "said", "lost"), CASES, ids=[case[0] for case in CASES])
def test_a_fault(
    node: Node, calls: Calls, name: str, fault: dict[str, Any], options: dict[str, Any], said: str, lost: int
) -> None:
    before, objects = node.info(), node.objects()
    code, output = node.deploy(fault, **options)
    assert code != 0, output
    assert said in output, output
    after = node.info()
    assert after["current"]["release"] == before["current"]["release"]
    assert (after["services"], after["drift"], after["lock"]) == (WHOLE, [], "")
    assert node.objects() == objects
    time.sleep(1)
    row(name, said, output, calls)
    assert calls.sent > len(calls.failed)
    assert len(calls.failed) <= lost, calls.failed
    assert node.aside() == []


REFUSED_BY_CADDY = [
    ("refused by all", "https://localhost {\n\tno_such_directive\n}\n", "unrecognized directive: no_such_directive"),
    ("refused when loaded", "{\n\tadmin unix//run/edge/admin.sock\n}\nhttp://localhost:9999 {\n\trespond ok\n}\n", "listen tcp :9999: bind: address already in use"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "said"), REFUSED_BY_CADDY, ids=[case[0] for case in REFUSED_BY_CADDY])
def test_a_configuration_that_the_edge_refuses(node: Node, calls: Calls, name: str, text: str, said: str) -> None:
    """It is named with Caddy's words and the node; the edge goes on, and its task is never touched."""
    before, edge = node.info(), node.sh("docker ps --quiet --filter name=mcp_edge.").split()
    node.sh(f"printf %s {shlex.quote(text)} | docker config create mcp_edge_wrong -")
    node.sh("for id in $(docker ps --quiet --filter name=mcp_edge.); do docker exec --detach $id python3 -m http.server 9999; done")
    code, output = node.deploy({"configs": {"edge": {"name": "mcp_edge_wrong"}}}, timeout=180)
    node.sh("docker config rm mcp_edge_wrong", check=False)
    assert code != 0, output
    assert "service mcp_edge-config:" in output
    assert f"on {NODE}" in output
    assert said in output
    after = node.info()
    assert after["current"]["release"] == before["current"]["release"]
    assert (after["services"], after["drift"], after["lock"]) == (WHOLE, [], "")
    assert set(edge) & set(node.sh("docker ps --quiet --filter label=com.docker.swarm.service.name=mcp_edge").split())
    row(f"edge's configuration {name}", said, output, calls)
    assert not calls.failed


def test_a_port_that_is_taken(node: Node, calls: Calls) -> None:
    node.sh("systemd-run --unit=holder --quiet python3 -m http.server 22222")
    try:
        time.sleep(1)
        ports = [{"target": 8000, "published": 22222, "protocol": "tcp", "mode": "host"}]
        code, output = node.deploy(server(ports=ports))
    finally:
        node.sh("systemctl stop holder")
    assert code != 0
    assert "port 22222 of time: Address already in use" in output
    assert node.info()["services"] == WHOLE
    row("port taken", "port 22222 of time: Address already in use", output, calls)
    assert not calls.failed


def test_the_disk_is_full(node: Node, calls: Calls) -> None:
    # Of the disk where containers keep their own files: a full one refuses new ones and leaves those that run alone.
    mount = node.sh("findmnt --noheadings --output FSTYPE --target /var/lib/docker/containers").strip()
    if mount != "tmpfs":
        pytest.fail(f"/var/lib/docker/containers is on {mount}: filling it would fill this machine's disk")
    node.sh(f"dd if=/dev/zero of={FULL} bs=1M; dd if=/dev/zero of={FULL} bs=1 count=65536 oflag=append conv=notrunc", check=False)
    try:
        code, output = node.deploy(server(environment={"X": "1"}))
    finally:
        node.sh(f"rm -f {FULL}")
    assert code != 0
    assert "no space left on device" in output
    assert node.info()["services"] == WHOLE
    row("disk full", "no space left on device", output, calls)


def test_two_deploys_at_once(node: Node, calls: Calls) -> None:
    first = node.start(FAULT, fault=server(environment={"X": "2"}), fault_options={"settle": 20})
    until("the deploy has the lock", lambda: node.info()["lock"])
    code, output = node.deploy(server(environment={"X": "3"}), lock_wait=3)
    assert code != 0
    assert re.search(r"mcp is being deployed by \S+@\S+ since 20\S+ \(deploy\); waited 3 s, nothing was changed", output)
    row("two at once", "mcp is being deployed by …", output, calls)
    output, dummy = first.communicate(timeout=120)
    assert first.returncode == 0, output
    code, output = node.deploy()
    assert code == 0, output
    assert not calls.failed


def test_the_controller_dies(node: Node, calls: Calls) -> None:
    before = node.info()["current"]["release"]
    process = node.start(FAULT, fault=server(environment={"X": "4"}), fault_options={"verify_timeout": 1})
    until("the deploy has the lock", lambda: node.info()["lock"])
    kill(process)
    until("the lock is free", lambda: not node.info()["lock"], 120)
    info = node.info()
    assert info["current"]["release"] == before
    assert "nobody verified it: the controller went away" in info["releases"][0]["message"]
    assert (info["services"], info["drift"]) == (WHOLE, [])
    row("controller killed", "nobody verified it: the controller went away", "Serving now: release", calls)
    assert not calls.failed


def test_the_manager_dies(node: Node, calls: Calls) -> None:
    """Its engine and the deploy on it are killed; on the only manager calls are lost while it is away."""
    process = node.start(FAULT, fault=server(environment={"X": "5"}), fault_options={"settle": 20})
    until("the trial is on", lambda: "mcp_trial_time_canary" in node.services())
    # In brackets, so that the pattern does not find the shell that looks for it.
    node.sh("pkill -KILL -f '[A]nsiballZ_swarm_stack'; pkill -KILL -x dockerd", check=False)
    kill(process)
    node.sh("for i in $(seq 60); do docker service ls >/dev/null 2>&1 && exit 0; sleep 1; done; exit 1")
    code, output = node.deploy()
    assert code == 0, output
    assert "was left unfinished" in output
    assert "removed replicas on trial that another deploy had left" in output
    until("whole again", lambda: node.info()["services"] == WHOLE)
    info = node.info()
    assert (info["drift"], info["lock"], info["trials"], node.aside()) == ([], "", [], [])
    row("manager killed", "was left unfinished; …", output, calls)


def test_a_lock_by_hand_is_never_taken(node: Node, calls: Calls) -> None:
    code, output = node.play("playbooks/lock.yml", lock_why="inventory count")
    assert code == 0, output
    try:
        refused, said = node.deploy(server(environment={"X": "6"}))
    finally:
        code, output = node.play("playbooks/lock.yml", lock_state="free")
    assert code == 0, output
    assert refused != 0
    assert "(inventory count); nothing was changed. To free it: " in said
    assert not calls.failed


def test_back_and_to_a_release_whose_images_are_gone(node: Node, calls: Calls) -> None:
    info = node.info()
    image, number = info["current"]["images"]["time"], info["current"]["release"]
    node.sh(f"docker tag {image} mcp-swarm/time:aaaaaaaaaaaa")
    code, output = node.deploy(server(image="mcp-swarm/time:aaaaaaaaaaaa"))
    assert code == 0, output
    other = node.info()["current"]["release"]
    code, output = node.play("playbooks/rollback.yml")
    assert code == 0, output
    now = node.info()
    assert now["current"]["images"]["time"] == image
    assert (now["services"], now["drift"]) == (WHOLE, [])
    assert now["current"]["why"] == f"rollback to release {number}"
    node.sh("docker rmi mcp-swarm/time:aaaaaaaaaaaa")
    code, output = node.play("playbooks/rollback.yml", release=other)
    assert code != 0
    assert re.search(rf"release {other} of .* cannot be gone back to:", output)
    assert "the image mcp-swarm/time:aaaaaaaaaaaa is not on this manager" in output
    row("rollback, images gone", "cannot be gone back to: … is not on this manager", output, calls)
    assert not calls.failed


def test_what_was_changed_by_hand_is_told_and_put_back(node: Node) -> None:
    node.sh("docker service scale --detach mcp_time=1")
    assert "has 1 replicas instead of 2" in node.info()["drift"][0]
    fetch = node.sh("docker service ps --quiet mcp_fetch")
    code, output = node.deploy()
    assert code == 0, output
    assert node.info()["services"] == WHOLE
    # What was not changed was not touched.
    assert node.sh("docker service ps --quiet mcp_fetch") == fetch


def kill(process: subprocess.Popen[str]) -> None:
    """A playbook with its workers, which are sessions of their own."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = {int(pid): int(parent) for pid, parent in (line.split() for line in table.splitlines())}
    doomed = {process.pid}
    while more := {pid for pid, parent in parents.items() if parent in doomed} - doomed:
        doomed |= more
    for pid in doomed:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
