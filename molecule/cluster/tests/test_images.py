# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images come from the registry before services move; what goes wrong is told before anything has changed."""

from __future__ import annotations

import base64
import json
import re
import secrets
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import NODES, Cluster

# Where images are built and the registry is, and a node that gets all it has from there.
KEEPER, OTHER = NODES[0], NODES[1]
REGISTRY = "mcp-registry:5000"
SERVICES = ("mcp_edge", "mcp_fetch", "mcp_gateway", "mcp_time")


class Nodes:
    """The nodes, as those who build and deploy images see them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def sh(self, command: str, node: str = KEEPER, check: bool = True) -> str:
        return self.cluster.sh(node, command, check).strip()

    def play(self, playbook: str, **variables: Any) -> tuple[int, str]:
        played = self.cluster.play(playbook, **variables)
        return played.code, played.output

    def deploy(self, image: str = "", **keys: Any) -> tuple[int, str]:
        """Deploy the fleet with another image of the server, or with other settings of it."""
        time_service = {**({"image": image} if image else {}), **keys}
        options = {"docker_config": "/run/mcp-swarm/mcp"}
        return self.play("molecule/rollback/fault.yml", fault={"services": {"time": time_service}}, fault_options=options)

    def version(self, of: str = "time") -> str:
        """A new version of an image, pushed to the registry and on no node but the one that built it."""
        tag = secrets.token_hex(6)
        image = self.sh(f"docker service inspect --format '{{{{.Spec.TaskTemplate.ContainerSpec.Image}}}}' mcp_{of}").partition("@")[0]
        name = f"{REGISTRY}/mcp-swarm/{of}:{tag}"
        # With a layer of its own, which a node has to find room for.
        lines = f"FROM {image}\\nLABEL version={tag}\\nRUN head -c 300000 /dev/urandom >/tmp/version\\n"
        self.sh(f"printf '{lines}' | docker build --quiet --tag {name} -")
        self.sh(f"docker --config /run/mcp-swarm/mcp push --quiet {name}")
        return name

    def tasks(self) -> str:
        """What runs; another task is another line."""
        services = " ".join(SERVICES)
        return self.sh(f"for s in {services}; do docker service ps --filter desired-state=running --quiet $s; done")

    def releases(self) -> list[str]:
        return self.sh("docker config ls --format '{{.Name}}' --filter name=mcp_release_").split()

    def leftovers(self) -> str:
        """Of distribution: jobs, secrets, configs."""
        return self.sh(
            "for what in service secret config; do docker $what ls --quiet --filter label=ai.sophia.mcp.pulling; done"
        )

    def has(self, image: str, node: str = OTHER) -> bool:
        """Whether a node has an image, by name, tagged or by its digest."""
        return self.sh(f"docker image inspect {image} >/dev/null 2>&1 && echo yes", node, check=False) == "yes"

    def repair(self) -> None:
        code, output = self.play("images.yml")
        assert code == 0, output


def changed(output: str) -> list[int]:
    """What each host of a recap counts as changed."""
    return [int(count) for count in re.findall(r"changed=(\d+)", output)]


@pytest.fixture(scope="module")
def nodes(cluster: Cluster) -> Iterator[Nodes]:
    yield Nodes(cluster)
    assert cluster.play("rebalance.yml").code == 0


@pytest.fixture
def untouched(nodes: Nodes) -> Iterator[None]:
    """Nothing is changed by what happens, and nothing is left behind."""
    tasks, releases = nodes.tasks(), nodes.releases()
    yield
    assert (nodes.tasks(), nodes.releases(), nodes.leftovers()) == (tasks, releases, "")


def test_another_node_runs_what_the_registry_gave_it_by_digest(nodes: Nodes) -> None:
    services = json.loads(nodes.sh("docker service inspect mcp_edge mcp_gateway mcp_time"))
    for service in services:
        image = service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"]
        assert image.startswith(f"{REGISTRY}/mcp-swarm/")
        assert "@sha256:" in image
    assert "mcp_time" in nodes.sh("docker ps --format '{{.Names}}'", OTHER)
    # It has what it runs and not what only builds.
    images = nodes.sh("docker images --format '{{.Repository}}'", OTHER)
    assert f"{REGISTRY}/mcp-swarm/time" in images
    assert "builder" not in images
    assert nodes.leftovers() == ""


def test_a_second_time_nothing_is_changed(nodes: Nodes, untouched: None) -> None:
    nodes.repair()  # a manager that was restarted has no credentials before
    for playbook in ("images.yml", "deploy.yml"):
        code, output = nodes.play(playbook)
        assert code == 0, output
        assert not any(changed(output)), output
        assert "giving 3 nodes" not in output


def test_the_password_is_for_root_alone_and_nowhere_else(nodes: Nodes) -> None:
    stored = json.loads(nodes.sh("cat /run/mcp-swarm/mcp/config.json"))["auths"]
    password = base64.b64decode(next(iter(stored.values()))["auth"]).decode().partition(":")[2]
    assert len(password) >= 40
    assert nodes.sh("stat -c %a-%a /run/mcp-swarm/mcp /run/mcp-swarm/mcp/config.json") == "700-700\n600-600"
    assert nodes.sh("stat -f -c %T /run/mcp-swarm/mcp") == "tmpfs"
    for node in NODES:
        found = nodes.sh(f"grep -rlF {shlex.quote(password)} /etc /root /tmp /var/log /var/lib/mcp-swarm 2>/dev/null || :", node)
        assert found == "", found
        assert password not in nodes.sh("journalctl --no-pager --lines 5000", node)


def test_nobody_gets_in_without_it(nodes: Nodes) -> None:
    ask = f"""
import ssl, urllib.error, urllib.request
trust = ssl.create_default_context(cafile="/etc/docker/certs.d/{REGISTRY}/ca.crt")
try:
    print(urllib.request.urlopen("https://{REGISTRY}/v2/_catalog", context=trust).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
    assert nodes.sh(f"python3 -c {shlex.quote(ask)}", OTHER) == "401"


def test_a_node_that_does_not_trust_the_registry(nodes: Nodes, untouched: None) -> None:
    image = nodes.version()
    nodes.sh(f"rm -r /etc/docker/certs.d/{REGISTRY}", OTHER)
    try:
        code, output = nodes.deploy(image)
    finally:
        nodes.repair()
    assert code != 0
    assert f"node {OTHER} cannot have the image of time: this engine does not trust the registry's certificate" in output
    assert "Nothing was changed." in output


def test_a_node_whose_disk_is_full(nodes: Nodes, untouched: None) -> None:
    image = nodes.version()
    # Where an engine keeps what it is pulling.
    nodes.sh("mount -t tmpfs -o size=4k tmpfs /var/lib/docker/tmp", OTHER)
    try:
        code, output = nodes.deploy(image)
    finally:
        nodes.sh("umount /var/lib/docker/tmp", OTHER)
    assert code != 0
    assert f"node {OTHER} cannot have the image of time: the disk is full; free space there" in output


def test_a_wrong_password(nodes: Nodes, untouched: None) -> None:
    image = nodes.version()
    nodes.sh("cp -a /run/mcp-swarm/mcp /run/kept; sed -i 's/\"auth\": \".*\"/\"auth\": \"bWNwOndyb25n\"/' /run/mcp-swarm/mcp/config.json")
    try:
        code, output = nodes.deploy(image)
    finally:
        nodes.sh("cp -a /run/kept/config.json /run/mcp-swarm/mcp/; rm -r /run/kept")
    assert code != 0
    assert f"node {OTHER} cannot have the image of time: the registry refuses these credentials; run playbooks/images.yml" in output


def test_a_registry_that_is_away_stops_only_what_needs_it(nodes: Nodes) -> None:
    image = nodes.version()
    nodes.sh("docker service scale --detach mcp-registry_registry=0")
    registry = "docker ps --quiet --filter label=com.docker.swarm.service.name=mcp-registry_registry"
    nodes.cluster.until("no registry", lambda: not nodes.sh(registry), 120)
    try:
        tasks, releases = nodes.tasks(), nodes.releases()
        code, output = nodes.deploy(image)
        assert code != 0
        assert f"node {OTHER} cannot have the image of time: the registry cannot be reached; look at it (docker service ps mcp-registry_registry)" in output
        assert (nodes.tasks(), nodes.releases(), nodes.leftovers()) == (tasks, releases, "")
        # What needs no other image is deployed as ever, and what ends is started again.
        code, output = nodes.deploy(environment={"LOG": "1"})
        assert code == 0, output
        other = next(name for name in nodes.cluster.placed()["mcp_time"] if name != KEEPER)
        nodes.sh("docker rm --force $(docker ps --quiet --filter label=com.docker.swarm.service.name=mcp_time)", other)
        nodes.cluster.until("whole", nodes.cluster.whole, 120)
    finally:
        nodes.repair()
    assert nodes.sh("docker service ls --filter name=mcp-registry_registry --format '{{.Replicas}}'") == "1/1"


def test_access_is_proved_by_itself(nodes: Nodes) -> None:
    nodes.sh(f"rm -r /etc/docker/certs.d/{REGISTRY}", OTHER)
    code, output = nodes.play("molecule/cluster/prove.yml")
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
    assert "giving 3 nodes 1 image" in output
    assert "3/3 nodes have time" in output
    assert nodes.has(image)
    # The image of the release before is gone from the worker: it is there again before anything moves.
    nodes.cluster.until("the old image gone", lambda: not forget(nodes, before), 120)
    code, output = nodes.play("rollback.yml")
    assert code == 0, output
    assert "3/3 nodes have time" in output
    assert nodes.has(before.partition("@")[0])
    assert nodes.leftovers() == ""


def forget(nodes: Nodes, image: str) -> bool:
    """Remove an image from the worker, whatever its names are; returns whether it is still there."""
    identity = nodes.sh(f"docker image inspect --format '{{{{.Id}}}}' {image}", OTHER, check=False)
    nodes.sh(f"docker ps --all --quiet --filter status=exited | xargs -r docker rm; docker rmi --force {identity}", OTHER, check=False)
    return nodes.has(image)


def test_what_no_release_needs_goes_from_the_registry_and_from_nodes(nodes: Nodes) -> None:
    kept = nodes.sh("docker service inspect --format '{{.Spec.TaskTemplate.ContainerSpec.Image}}' mcp_time")
    stray = nodes.version()
    code, output = nodes.play("prune.yml", prune_older_than=0)
    assert code == 0, output
    assert nodes.sh(f"docker --config /run/mcp-swarm/mcp pull --quiet {stray} || echo gone", check=False).endswith("gone")
    assert nodes.sh(f"docker --config /run/mcp-swarm/mcp pull --quiet {kept}")
    # What is kept can still be built on and deployed.
    nodes.repair()
    code, output = nodes.deploy()
    assert code == 0, output
    code, output = nodes.play("prune.yml", prune_older_than=0)
    assert (code, any(changed(output))) == (0, False), output
