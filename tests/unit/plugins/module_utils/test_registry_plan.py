# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry in the plan: which there is, under which names images go, and what is refused."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import yaml

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet import registry
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.compile import compile_fleet
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.facts import Facts, Host
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError, validate

HOSTS = [Host("one", True, {}), Host("two", True, {}), Host("three", False, {})]
SERVER = {
    "name": "time",
    "source": {"kind": "pypi", "package": "mcp-server-time", "version": "1.2.3"},
    "command": ["mcp-server-time"],
}
OTHER = {"name": "ready", "source": {"kind": "image", "image": "ghcr.io/x/y:1"}}
EXTERNAL = {"kind": "external", "address": "registry.example.com:8443/team"}
SECRETS = {"team_password": {"value": "x"}}


def plan(settings: dict[str, Any] | None = None, nodes: int = 1) -> dict[str, Any]:
    names = ("gateway_api_key", "gateway_session_key", "registry_password", "registry_certificate", "registry_ca")
    facts = Facts(
        locks={"pypi-mcp-server-time-1.2.3.txt": "mcp-server-time==1.2.3\n"},
        trees={"services/runtime": "r1", "services/gateway": "g1"},
        secret_digests=dict.fromkeys(names, "a" * 64),
        hosts=HOSTS[:nodes],
        registry_authority="PEM",
    )
    return compile_fleet([SERVER, OTHER], settings or {}, facts)


def images(of: dict[str, Any]) -> dict[str, str]:
    return {name: service["image"] for name, service in of["stack"]["services"].items()}


@pytest.mark.parametrize(
    ("settings", "nodes", "kind"),
    [
        ({}, 1, "none"),
        ({}, 3, "swarm"),
        ({"registry": {"kind": "none"}}, 3, "none"),
        ({"registry": {"kind": "swarm"}}, 1, "swarm"),
        ({"registry": EXTERNAL}, 1, "external"),
    ],
)
def test_which_there_is(settings: dict[str, Any], nodes: int, kind: str) -> None:
    assert plan(settings, nodes)["registry"]["kind"] == kind


def test_one_node_has_nothing_of_it() -> None:
    made = plan()
    assert made["registry"] == {
        "kind": "none", "address": "", "host": "", "username": "", "password": "", "authority": "PEM", "docker_config": "",
    }  # fmt: skip
    assert all(image["remote"] == image["ref"] for image in made["images"])
    assert "registry" not in [image["name"] for image in made["images"]]
    assert not {secret["name"] for secret in made["secrets"]} & {"registry_password", "registry_certificate", "registry_ca"}


@pytest.mark.parametrize(("settings", "address"), [({}, "mcp-registry:5000"), ({"registry": EXTERNAL}, EXTERNAL["address"])])
def test_its_images_have_its_name_and_the_content_they_had(settings: dict[str, Any], address: str) -> None:
    before, after = plan(), plan(settings, nodes=3)
    refs = {image["name"]: image["ref"] for image in before["images"]}
    for image in after["images"]:
        assert refs.get(image["name"], image["ref"]) == image["ref"]
        assert image["remote"] == f"{address}/{image['ref']}"
    assert images(after) == {
        name: ref if name == "ready" else f"{address}/{ref}" for name, ref in images(before).items()
    }
    assert {server["name"]: server["image"] for server in after["servers"]}["time"] == f"{address}/{refs['time']}"
    # What is built names what it builds on as the building engine has it.
    assert f"FROM {refs['os']}" in next(i for i in after["images"] if i["name"] == "edge")["files"]["Dockerfile"]


def test_its_own_stack_stands_alone() -> None:
    made = plan({"registry": {"kind": "swarm", "port": 5443, "node": "two"}}, nodes=2)["registry"]
    assert (made["address"], made["host"], made["name"], made["node"]) == ("mcp-registry:5443", "mcp-registry:5443", "mcp-registry", "two")
    service = made["stack"]["services"]["registry"]
    # It must start where nothing can be pulled, and be found where no virtual address works.
    assert service["image"].startswith("mcp-swarm/registry:")
    assert service["ports"] == [{"target": 5000, "published": 5443, "protocol": "tcp", "mode": "host"}]
    assert service["deploy"]["placement"] == {"constraints": ["node.labels.ai.sophia.mcp.registry.mcp == true"]}
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert {item["source"] for item in service["secrets"]} == {"registry_password", "registry_certificate"}
    assert service["labels"]["ai.sophia.mcp.fleet"] == "mcp-registry"
    assert made["stack"]["secrets"]["registry_password"] == {"external": True, "name": f"mcp_registry_password_{'a' * 12}"}
    assert "registry" not in plan(nodes=3)["stack"]["services"]


def test_its_secrets_are_no_business_of_the_fleets_services() -> None:
    made = plan(nodes=3)
    assert not [name for name in made["stack"]["secrets"] if name.startswith("registry")]
    dummy, fleet = validate([SERVER], {}, hosts=HOSTS)
    assert fleet["secrets"]["registry_certificate"] == {"certificate": {"authority": "registry_ca", "names": ["mcp-registry"]}}


def test_what_runs_in_it_is_whole() -> None:
    files = {image["name"]: image for image in plan(nodes=3)["images"]}["registry"]["files"]
    for name, locked in (("config.yml", False), ("read-only.yml", True)):
        config = yaml.safe_load(files[name])
        assert config["storage"]["maintenance"]["readonly"] == {"enabled": locked}
        assert config["storage"]["delete"] == {"enabled": True}
        assert config["http"]["tls"]["minimumtls"] == "tls1.2"
        assert config["auth"]["htpasswd"]["path"]
    for name in ("registry-collect", "registry-health"):
        ast.parse(files[name])
    assert files["registry"].startswith("#!/bin/sh\n")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"registry": "hub"}, "mcp_fleet.registry: 'hub' is not a mapping"),
        ({"registry": {"kind": "hub"}}, "mcp_fleet.registry.kind: 'hub' is unknown; use one of auto, none, swarm, external"),
        ({"registry": {"kind": "external"}}, "mcp_fleet.registry.address: missing; name the registry"),
        (
            {"registry": {"kind": "external", "address": "https://r.example"}},
            "mcp_fleet.registry.address: 'https://r.example' is not allowed; write host[:port][/path]",
        ),
        ({"registry": {"kind": "external", "address": "team/images"}}, "mcp_fleet.registry.address: 'team/images' is not allowed"),
        ({"registry": {**EXTERNAL, "username": "u"}}, "mcp_fleet.registry.password: missing; username needs it"),
        ({"registry": {**EXTERNAL, "password": "team_password"}, "secrets": SECRETS}, "mcp_fleet.registry.username: missing; password needs it"),
        ({"registry": {**EXTERNAL, "username": "u", "password": "p"}}, "mcp_fleet.registry.password: no secret 'p'; declare it in mcp_fleet.secrets"),
        ({"registry": {**EXTERNAL, "node": "one"}}, "mcp_fleet.registry.node: 'one' has no effect with kind external; remove it"),
        ({"registry": {"kind": "none", "node": "one"}}, "mcp_fleet.registry.node: 'one' has no effect with kind none; remove it"),
        ({"registry": {"ca_file": "x.pem"}}, "mcp_fleet.registry.ca_file: 'x.pem' has no effect with kind auto; remove it"),
        ({"registry": {"kind": "swarm", "address": "r.example"}}, "mcp_fleet.registry.address: 'r.example' has no effect with kind swarm; remove it"),
        ({"registry": {"kind": "swarm", "node": "three"}}, "mcp_fleet.registry.node: 'three' is none of mcp_managers; use one of one, two"),
        ({"registry": {"kind": "swarm", "port": 8443}}, "mcp_fleet.registry.port: 8443 is also a port of the edge; use another"),
        (
            {"registry": {"kind": "swarm"}, "secrets": {"registry_certificate": {"value": "x"}}},
            "mcp_fleet.secrets.registry_certificate: the fleet makes this one itself",
        ),
    ],
)  # fmt: skip
def test_each_mistake(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(FleetError) as raised:
        validate([SERVER], settings, hosts=HOSTS)
    assert len(raised.value.errors) == 1
    assert raised.value.errors[0].startswith(said)


@pytest.mark.parametrize("address", ["registry.example.com", "r.example/a/b-c", "localhost/x", "r:5000", "10.0.0.1:5000/x"])
def test_addresses_of_registries(address: str) -> None:
    dummy, fleet = validate([SERVER], {"registry": {"kind": "external", "address": address}})
    assert fleet["registry"]["address"] == address


def test_a_user_s_own_authority_and_password_are_taken() -> None:
    given = {"registry_ca": {"file": "/ca.pem"}, "registry_password": {"value": "x"}}
    dummy, fleet = validate([SERVER], {"registry": {"kind": "swarm"}, "secrets": given})
    assert fleet["secrets"]["registry_ca"]["file"] == "/ca.pem"
    assert registry.own_secrets(fleet["registry"], "mcp").keys() <= fleet["secrets"].keys()


def test_a_server_cannot_take_its_place() -> None:
    with pytest.raises(FleetError, match="'registry' is also the fleet's own image registry"):
        validate([{**SERVER, "name": "registry"}], {})
