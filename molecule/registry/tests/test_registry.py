# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images come from the registry before services move; what goes wrong is told before anything has changed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest
from conftest import MANAGER, REGISTRY, WORKER, Nodes, changed, until


@pytest.fixture
def untouched(nodes: Nodes) -> Iterator[None]:
    """Nothing is changed by what happens, and nothing is left behind."""
    tasks, releases = nodes.tasks(), nodes.releases()
    yield
    assert (nodes.tasks(), nodes.releases(), nodes.leftovers()) == (tasks, releases, "")


def test_the_worker_runs_what_the_registry_gave_it_by_digest(nodes: Nodes) -> None:
    services = json.loads(nodes.sh("docker service inspect mcp_edge mcp_gateway mcp_time"))
    for service in services:
        image = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
        assert image.startswith(f"{REGISTRY}/mcp-swarm/")
        assert "@sha256:" in image
    assert "mcp_time" in nodes.sh("docker ps --format '{{.Names}}'", WORKER)
    # It has what it runs and not what only builds.
    images = nodes.sh("docker images --format '{{.Repository}}'", WORKER)
    assert f"{REGISTRY}/mcp-swarm/time" in images
    assert "builder" not in images
    assert nodes.leftovers() == ""


def test_a_second_time_nothing_is_changed(nodes: Nodes, untouched: None) -> None:
    for playbook in ("playbooks/images.yml", "playbooks/deploy.yml"):
        code, output = nodes.play(playbook)
        assert code == 0, output
        assert changed(output) == [0, 0] or changed(output) == [0], output
        assert "giving 2 nodes" not in output


def test_the_password_is_for_root_alone_and_nowhere_else(nodes: Nodes) -> None:
    password = nodes.sh("python3 -c \"import base64,json;print(base64.b64decode(next(iter(json.load(open('/run/mcp-swarm/mcp/config.json'))['auths'].values()))['auth']).decode().split(':')[1])\"")
    assert len(password) >= 40
    assert nodes.sh("stat -c %a-%a /run/mcp-swarm/mcp /run/mcp-swarm/mcp/config.json") == "700-700\n600-600"
    assert nodes.sh("stat -f -c %T /run/mcp-swarm/mcp") == "tmpfs"
    assert nodes.sh("ls /run/mcp-swarm 2>/dev/null || echo none", WORKER) == "none"
    for node in (MANAGER, WORKER):
        found = nodes.sh(f"grep -rlF {shlex.quote(password)} /etc /root /tmp /var/log /var/lib/mcp-swarm 2>/dev/null || :", node)
        assert found == "", found
        assert password not in nodes.sh("journalctl --no-pager --lines 5000", node)


def test_nobody_gets_in_without_it(nodes: Nodes) -> None:
    ask = f"curl -so /dev/null -w '%{{http_code}}' --cacert /etc/docker/certs.d/{REGISTRY}/ca.crt https://{REGISTRY}/v2/_catalog"
    python = f"import ssl,urllib.request as u,urllib.error as e\nc=ssl.create_default_context(cafile='/etc/docker/certs.d/{REGISTRY}/ca.crt')\ntry: print(u.urlopen('https://{REGISTRY}/v2/_catalog',context=c).status)\nexcept e.HTTPError as x: print(x.code)"
    assert nodes.sh(f"command -v curl >/dev/null && {ask} || python3 -c {shlex.quote(python)}", WORKER) == "401"


def test_a_node_that_does_not_trust_the_registry(nodes: Nodes, untouched: None) -> None:
    image = nodes.version()
    nodes.sh(f"rm -r /etc/docker/certs.d/{REGISTRY}", WORKER)
    try:
        code, output = nodes.deploy(image)
    finally:
        nodes.repair()
    assert code != 0
    assert f"node {WORKER} cannot have the image of time: this engine does not trust the registry's certificate" in output
    assert "Nothing was changed." in output


def test_a_node_whose_disk_is_full(nodes: Nodes, untouched: None) -> None:
    image = nodes.version()
    # Where an engine keeps what it is pulling.
    nodes.sh("mount -t tmpfs -o size=4k tmpfs /var/lib/docker/tmp", WORKER)
    try:
        code, output = nodes.deploy(image)
    finally:
        nodes.sh("umount /var/lib/docker/tmp", WORKER)
    assert code != 0
    assert f"node {WORKER} cannot have the image of time: the disk is full; free space there" in output


def test_a_wrong_password(nodes: Nodes, untouched: None) -> None:
    image = nodes.version()
    nodes.sh("cp -a /run/mcp-swarm/mcp /run/kept; sed -i 's/\"auth\": \".*\"/\"auth\": \"bWNwOndyb25n\"/' /run/mcp-swarm/mcp/config.json")
    try:
        code, output = nodes.deploy(image)
    finally:
        nodes.sh("cp -a /run/kept/config.json /run/mcp-swarm/mcp/; rm -r /run/kept")
    assert code != 0
    assert f"node {WORKER} cannot have the image of time: the registry refuses these credentials; run playbooks/images.yml" in output


def test_a_registry_that_is_away_stops_only_what_needs_it(nodes: Nodes) -> None:
    image = nodes.version()
    nodes.sh("docker service scale --detach mcp-registry_registry=0")
    until(lambda: not nodes.sh("docker ps --quiet --filter label=com.docker.swarm.service.name=mcp-registry_registry"))
    try:
        tasks, releases = nodes.tasks(), nodes.releases()
        code, output = nodes.deploy(image)
        assert code != 0
        assert f"node {WORKER} cannot have the image of time: the registry cannot be reached; look at it (docker service ps mcp-registry_registry)" in output
        assert (nodes.tasks(), nodes.releases(), nodes.leftovers()) == (tasks, releases, "")
        # What needs no other image is deployed as ever, and what ends is started again.
        code, output = nodes.deploy(environment={"LOG": "1"})
        assert code == 0, output
        nodes.sh("docker rm --force $(docker ps --quiet --filter label=com.docker.swarm.service.name=mcp_time)", WORKER)
        until(lambda: nodes.sh("docker service ls --filter name=mcp_time --format '{{.Replicas}}'") == "2/2")
    finally:
        nodes.repair()
    assert nodes.sh("docker service ls --filter name=mcp-registry_registry --format '{{.Replicas}}'") == "1/1"


def test_access_is_proved_by_itself(nodes: Nodes) -> None:
    nodes.sh(f"rm -r /etc/docker/certs.d/{REGISTRY}", WORKER)
    code, output = nodes.play("molecule/registry/prove.yml")
    assert code != 0
    assert f"registry {REGISTRY}: this engine does not trust the registry's certificate; run playbooks/images.yml" in output
    nodes.repair()


def test_an_image_is_everywhere_before_it_moves_and_after_going_back(nodes: Nodes) -> None:
    code, output = nodes.deploy()
    assert code == 0, output
    before = nodes.sh("docker service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}' mcp_time")
    image = nodes.version()
    code, output = nodes.deploy(image)
    assert code == 0, output
    assert "giving 2 nodes 1 image" in output
    assert "2/2 nodes have time" in output
    assert nodes.has(image)
    # The image of the release before is gone from the worker: it is there again before anything moves.
    until(lambda: not forget(nodes, before))
    code, output = nodes.play("playbooks/rollback.yml")
    assert code == 0, output
    assert "2/2 nodes have time" in output
    assert nodes.has(before.partition("@")[0])
    assert nodes.leftovers() == ""


def forget(nodes: Nodes, image: str) -> bool:
    """Remove an image from the worker, whatever its names are; returns whether it is still there."""
    identity = nodes.sh(f"docker image inspect --format '{{{{.Id}}}}' {image}", WORKER, check=False)
    nodes.sh(f"docker ps --all --quiet --filter status=exited | xargs -r docker rm; docker rmi --force {identity}", WORKER, check=False)
    return nodes.has(image)


def test_what_no_release_needs_goes_from_the_registry_and_from_nodes(nodes: Nodes) -> None:
    kept = nodes.sh("docker service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}' mcp_time")
    stray = nodes.version()
    code, output = nodes.play("playbooks/prune.yml", prune_older_than=0)
    assert code == 0, output
    assert nodes.sh(f"docker --config /run/mcp-swarm/mcp pull --quiet {stray} || echo gone", check=False).endswith("gone")
    assert nodes.sh(f"docker --config /run/mcp-swarm/mcp pull --quiet {kept}")
    # What is kept can still be built on and deployed.
    nodes.repair()
    code, output = nodes.deploy()
    assert code == 0, output
    code, output = nodes.play("playbooks/prune.yml", prune_older_than=0)
    assert (code, changed(output)) == (0, [0, 0]), output
