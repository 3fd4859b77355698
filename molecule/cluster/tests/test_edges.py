# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several edges: one authority, one configuration on all of them, whoever deploys and whoever was away."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from commands import Ansible, until
from cryptography import x509

SCENARIO = Path(__file__).resolve().parents[1]
INVENTORY = Path(os.environ.get("MCP_CLUSTER_INVENTORY", SCENARIO / "inventory"))
PORT = 8443
SECONDS = 180
CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
        "name": "get_current_time",
        "arguments": {"timezone": "UTC"},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "cluster", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    },
}


def run(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout


class Edges:
    """The nodes of the inventory, each an edge at an address of its own."""

    def __init__(self) -> None:
        variables = yaml.safe_load((INVENTORY / "group_vars" / "all" / "fleet.yml").read_text("utf-8"))
        self.addresses: list[str] = variables["node_addresses"]
        listed = json.loads(run(str(Path(sys.executable).parent / "ansible-inventory"), "-i", str(INVENTORY), "--list"))
        groups = [listed.get(group, {}).get("hosts", []) for group in ("mcp_managers", "mcp_workers")]
        self.nodes: list[str] = [name for group in groups for name in group]
        self.ca = str(INVENTORY / ".state" / "edge-ca.crt")
        self.key = (INVENTORY / ".state" / "secrets" / "gateway_api_key").read_text("utf-8").strip()

    def docker(self, *arguments: str, node: int = 0) -> str:
        return run("docker", "exec", self.nodes[node], "docker", *arguments)

    def play(self, playbook: str, *names: str, limit: str = "all") -> str:
        """A playbook with further names among the edge's hosts, on the first manager within a limit."""
        given = {"node_addresses": [*self.addresses, *names]}
        played = Ansible(INVENTORY).play(playbook, "--limit", limit, **given)
        assert played.code == 0, played.output
        return played.output

    def certificate(self, node: int) -> x509.Certificate:
        context = ssl.create_default_context(cafile=self.ca)
        address = self.addresses[node]
        with (
            socket.create_connection((address, PORT), 5) as plain,
            context.wrap_socket(plain, server_hostname=address) as connection,
        ):
            shown = connection.getpeercert(binary_form=True)
        assert shown
        return x509.load_der_x509_certificate(shown)

    def names(self, node: int) -> list[str]:
        """The names beside the addresses that a node's edge has in its certificate; nothing while it has none."""
        try:
            found = self.certificate(node).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except OSError:
            return ["no edge"]
        return sorted(found.get_values_for_type(x509.DNSName))

    def tasks(self) -> list[str]:
        """The edges' tasks that run."""
        tasks = ["service", "ps", "mcp_edge", "--filter", "desired-state=running", "--no-trunc", "--format", "{{.ID}} {{.Node}}"]
        return sorted(self.docker(*tasks).splitlines())

    def call(self, node: int) -> str:
        """A call through one node's edge; what was wrong with it, or nothing."""
        import http.client

        headers = {
            "Authorization": f"Bearer {self.key}",
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "tools/call",
            "Mcp-Name": "get_current_time",
        }
        context = ssl.create_default_context(cafile=self.ca)
        connection = http.client.HTTPSConnection(self.addresses[node], PORT, context=context, timeout=20)
        try:
            connection.request("POST", "/servers/time/mcp", json.dumps(CALL), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        except OSError as error:
            return repr(error)
        finally:
            connection.close()
        return "" if answer.status == 200 and "UTC" in text else f"{answer.status} {text}"


@pytest.fixture(scope="module")
def edges() -> Iterator[Edges]:
    made = Edges()
    yield made
    made.play("deploy.yml")
    made.play("rebalance.yml")  # a node was away, and Swarm by itself moves nothing back


def all_nodes(edges: Edges) -> range:
    return range(len(edges.nodes))


def test_every_edge_is_trusted_by_one_file_and_answers(edges: Edges) -> None:
    shown = [edges.certificate(node) for node in all_nodes(edges)]
    assert len({certificate.issuer for certificate in shown}) == 1
    assert len({certificate.serial_number for certificate in shown}) == len(edges.nodes)
    assert [edges.call(node) for node in all_nodes(edges)] == [""] * len(edges.nodes)


def test_another_configuration_reaches_every_edge_and_no_task_of_theirs_is_touched(edges: Edges) -> None:
    before = edges.tasks()
    edges.play("deploy.yml", "one.example")
    assert [edges.names(node) for node in all_nodes(edges)] == [["one.example"]] * len(edges.nodes)
    assert edges.tasks() == before
    assert [edges.call(node) for node in all_nodes(edges)] == [""] * len(edges.nodes)


def test_a_node_that_was_away_comes_back_with_the_current_configuration(edges: Edges) -> None:
    last = len(edges.nodes) - 1
    hostname = run("docker", "exec", edges.nodes[last], "hostname").strip()
    run("docker", "kill", edges.nodes[last])
    try:
        state = ["node", "inspect", hostname, "--format", "{{.Status.State}}"]
        until("the node is seen to be down", lambda: edges.docker(*state).strip() == "down", SECONDS)
        edges.play("deploy.yml", "two.example", limit=f"all:!{edges.nodes[last]}")
        assert edges.names(0) == ["two.example"]
    finally:
        run("docker", "start", edges.nodes[last])
    until("its edge has the new name", lambda: edges.names(last) == ["two.example"], SECONDS)
    until("calls pass through it", lambda: edges.call(last) == "", SECONDS)


def test_any_manager_goes_back(edges: Edges) -> None:
    edges.play("rollback.yml", "two.example", limit=edges.nodes[1])
    assert [edges.names(node) for node in all_nodes(edges)] == [["one.example"]] * len(edges.nodes)


def test_a_node_that_becomes_an_edge_later_has_the_configuration(edges: Edges) -> None:
    last = len(edges.nodes) - 1
    hostname = run("docker", "exec", edges.nodes[last], "hostname").strip()
    edges.docker("node", "update", "--label-rm", "ai.sophia.mcp.edge", hostname)
    until("its edge is gone", lambda: edges.names(last) == ["no edge"], SECONDS)
    edges.play("deploy.yml", "three.example")
    edges.docker("node", "update", "--label-add", "ai.sophia.mcp.edge=true", hostname)
    until("its edge has the third name", lambda: edges.names(last) == ["three.example"], SECONDS)
    until("calls pass through it", lambda: edges.call(last) == "", SECONDS)
