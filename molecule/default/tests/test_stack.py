# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stack as Swarm runs it, and every container from inside and outside."""

from __future__ import annotations

import json
from typing import Any

from testinfra.host import Host

STACK_FILE = "/etc/mcp-swarm/docker-compose.cloud.yml"
CANNOT_START = 126  # of docker exec
NO_CAPABILITIES = "0000000000000000"
MCP_USER = "10001"

Objects = list[dict[str, Any]]


def test_every_service_of_the_plan_and_no_other_runs(services: dict[str, Any], plan: dict[str, Any]) -> None:
    assert set(services) == {f"mcp_{name}" for name in plan["stack"]["services"]}
    assert len(services) == 15  # twelve servers, the gateway, the edge and what configures it


def test_every_service_runs_at_its_replicas(node: Host, plan: dict[str, Any]) -> None:
    lines = node.check_output("docker service ls --format '{{.Name}} {{.Replicas}}'").splitlines()
    seen = dict(line.split()[:2] for line in lines)
    for name, service in plan["stack"]["services"].items():
        replicas = service["deploy"].get("replicas", 1)
        assert seen[f"mcp_{name}"] == f"{replicas}/{replicas}"
    assert seen["mcp_time"] == "2/2"


def test_services_are_found_by_their_tasks(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["Spec"]["EndpointSpec"]["Mode"] == "dnsrr", name


def test_only_the_edge_publishes_and_only_its_port(node: Host, containers: Objects) -> None:
    published = {
        (box["Config"]["Labels"]["com.docker.swarm.service.name"], bound["HostPort"])
        for box in containers
        for bindings in box["NetworkSettings"]["Ports"].values()
        for bound in bindings or []
    }
    assert published == {("mcp_edge", "8443")}
    assert node.socket("tcp://0.0.0.0:8443").is_listening


def test_containers_are_healthy(containers: Objects) -> None:
    assert len(containers) == 16
    for box in containers:
        assert box["State"]["Health"]["Status"] == "healthy", box["Name"]
        assert box["RestartCount"] == 0, box["Name"]


def test_processes_have_no_capabilities_and_are_not_root(node: Host, containers: Objects) -> None:
    for box in containers:
        assert box["HostConfig"]["CapDrop"] == ["ALL"], box["Name"]
        assert not box["HostConfig"]["CapAdd"], box["Name"]
        pids = node.check_output(f"docker top {box['Id']} -o pid").split()[1:]
        # A probe may have ended since it was listed.
        texts = [text for pid in pids if (text := node.run(f"cat /proc/{pid}/status").stdout)]
        assert texts, box["Name"]
        for text in texts:
            status = {name: value.split() for name, _, value in (line.partition(":") for line in text.splitlines())}
            assert status["Uid"] == [MCP_USER] * 4, (box["Name"], status["Name"])
            for held in ("CapEff", "CapPrm", "CapInh", "CapAmb", "CapBnd"):
                assert status[held] == [NO_CAPABILITIES], (box["Name"], status["Name"], held)


def test_roots_are_read_only(node: Host, containers: Objects) -> None:
    for box in containers:
        assert box["HostConfig"]["ReadonlyRootfs"], box["Name"]
        # As root: it is the mount that refuses, not the file's owner.
        for _ in range(5):
            answer = node.run(f"docker exec --user root {box['Id']} touch /etc/mcp-molecule")
            if answer.rc != CANNOT_START:  # a busy engine now and then fails to start the command at all
                break
        assert answer.rc != 0, box["Name"]
        assert "Read-only file system" in answer.stderr, (box["Name"], answer.stdout, answer.stderr)


def test_limits_are_those_of_the_stack(services: dict[str, Any], containers: Objects, plan: dict[str, Any]) -> None:
    units = {"M": 2**20, "G": 2**30}
    for name, wanted in plan["stack"]["services"].items():
        limits = wanted["deploy"]["resources"]["limits"]
        memory = int(limits["memory"][:-1]) * units[limits["memory"][-1]]
        cpus = round(float(limits["cpus"]) * 1e9)
        seen = services[f"mcp_{name}"]["Spec"]["TaskTemplate"]["Resources"]["Limits"]
        assert (seen["MemoryBytes"], seen["NanoCPUs"]) == (memory, cpus), name
    for box in containers:
        assert box["HostConfig"]["Memory"] > 0, box["Name"]
        assert box["HostConfig"]["NanoCpus"] > 0, box["Name"]


def test_secrets_are_files_of_their_reader_alone(node: Host, containers: Objects, services: dict[str, Any]) -> None:
    readers = set()
    for box in containers:
        service = box["Config"]["Labels"]["com.docker.swarm.service.name"]
        secrets = services[service]["Spec"]["TaskTemplate"]["ContainerSpec"].get("Secrets", [])
        for secret in secrets:
            path = f"/run/secrets/{secret['File']['Name']}"
            assert node.check_output(f"docker exec {box['Id']} stat -c '%a %u' {path}") == f"400 {MCP_USER}"
            readers.add(service)
    assert readers == {"mcp_gateway", "mcp_fleet-status", "mcp_edge-config"}


def test_the_key_is_in_its_secret_alone(
    node: Host, key: str, containers: Objects, services: dict[str, Any]
) -> None:
    assert len(key) >= 32
    for where in (json.dumps(containers), json.dumps(services), node.file(STACK_FILE).content_string):
        assert key not in where
    # The pattern comes through standard input: in the arguments, grep would find itself.
    places = "/etc/mcp-swarm /var/lib/mcp-swarm"
    answer = node.run(f"printf %%s %s | grep --recursive --files-with-matches --file=- {places}", key)
    assert (answer.rc, answer.stdout) == (1, ""), answer


def test_the_stack_file_is_valid_and_is_what_was_deployed(node: Host, plan: dict[str, Any]) -> None:
    answer = node.run(f"docker stack config --compose-file {STACK_FILE}")
    assert answer.rc == 0, answer.stderr
    deployed = node.check_output("docker service ls --format '{{.Image}}'").split()
    assert sorted(service["image"] for service in plan["stack"]["services"].values()) == sorted(deployed)
    for image in deployed:
        assert f"image: {image}" in answer.stdout
