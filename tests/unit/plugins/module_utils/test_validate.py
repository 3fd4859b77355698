# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the catalogue may say: every mistake at once, each with its place, its value and the fix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.facts import Host
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError, validate

PYPI = {"kind": "pypi", "package": "mcp-server-time", "version": "1.2.3"}


def server(**changes: Any) -> dict[str, Any]:
    return {"name": "time", "source": PYPI, "command": ["mcp-server-time"], **changes}


def errors(servers: Any, settings: Any = None, hosts: Sequence[Host] = ()) -> list[str]:
    with pytest.raises(FleetError) as raised:
        validate(servers, settings, hosts)
    return raised.value.errors


def test_defaults_are_filled_in() -> None:
    servers, fleet = validate([server()], None)
    assert servers[0]["port"] == 8000
    assert servers[0]["resources"] == {"cpus": 1.0, "memory": "512M"}
    assert servers[0]["tools"] == {"allow": ["*"], "deny": []}
    assert fleet["edge"]["tls"] == "internal"
    assert set(fleet["secrets"]) == {"gateway_api_key", "gateway_session_key", "edge_ca"}


def test_the_input_is_left_alone() -> None:
    given = [server(env={"A": "1"})]
    settings: dict[str, Any] = {"secrets": {}}
    validate(given, settings)
    assert given == [server(env={"A": "1"})]
    assert settings == {"secrets": {}}


def test_many_mistakes_are_reported_together_with_place_value_and_fix() -> None:
    found = errors(
        [
            server(replica=2),
            server(name="Time!"),
            server(name="x", source={"kind": "npm", "package": "x", "version": "latest"}),
            server(name="y", resources={"memory": "lots"}),
        ],
        {"edge": {"tls": "acme"}},
    )
    assert found == [
        "mcp_servers[0].replica: unknown key; did you mean 'replicas'?",
        "mcp_servers[1].name: 'Time!' is not allowed; use lower-case letters and digits, single - or _ between them,"
        " starting with a letter, at most 32",
        "mcp_servers[2].source.version: 'latest' is not allowed; pin one exact version, such as 1.2.3",
        "mcp_servers[3].resources.memory: 'lots' is not allowed; such as 512M or 2G",
        "mcp_fleet.edge.acme_email: missing; ACME needs a contact address",
    ]


def test_the_message_counts_them_and_says_that_nothing_happened() -> None:
    with pytest.raises(FleetError, match=r"has 2 mistakes; nothing was changed\.\n1\. .*\n2\. "):
        validate([server(replicas="two", port=80)], None)


@pytest.mark.parametrize("name", ["a", "a1", "ai_memory", "fleet-status", "a" * 32])
def test_good_names(name: str) -> None:
    validate([server(name=name)], None)


@pytest.mark.parametrize("name", ["", "A", "1a", "a__b", "a-", "_a", "a--b", "a" * 33, "a b", "é", "a\n"])
def test_bad_names(name: str) -> None:
    assert errors([server(name=name)])[0].startswith("mcp_servers[0].name: ")


@pytest.mark.parametrize(
    ("servers", "said"),
    [
        (None, "mcp_servers: None is not a list with at least one server"),
        ([], "mcp_servers: [] is not a list with at least one server"),
        ({"time": {}}, "mcp_servers: {'time': {}} is not a list with at least one server"),
        (["time"], "mcp_servers[0]: 'time' is not a mapping"),
        ([server(), server()], "mcp_servers[1].name: 'time' is also mcp_servers[0]; choose another name"),
        (
            [server(name="a_b"), server(name="a-b")],
            "mcp_servers[1].name: 'a-b' is also mcp_servers[0]; choose another name",
        ),
        ([server(name="edge")], "mcp_servers[0].name: 'edge' is also the fleet's own service edge; choose another name"),
        ([server(command=[])], "mcp_servers[0].command: missing; name the program that the package installs"),
        (
            [{"name": "time", "command": ["x"]}],
            "mcp_servers[0].source: missing; Where the server comes from.",
        ),
        (
            [server(source={"kind": "cargo"})],
            "mcp_servers[0].source.kind: 'cargo' is unknown; use one of python, pypi, npm, openapi, image, remote",
        ),
        (
            [server(source={**PYPI, "with": ["mcp<2"]})],
            "mcp_servers[0].source.with[0]: 'mcp<2' is not pinned; write name==version",
        ),
        (
            [server(secrets={"TOKEN": "github_token"})],
            "mcp_servers[0].secrets.TOKEN: no secret 'github_token'; declare it in mcp_fleet.secrets",
        ),
        (
            [server(gpu="required")],
            "mcp_servers[0].gpu: 'required', but no node of this inventory has mcp_node_gpus; use 'preferred' or add one",
        ),
        ([server(port=80)], "mcp_servers[0].port: 80 is too small; use at least 1024"),
        ([server(replicas=-1)], "mcp_servers[0].replicas: -1 is too small; use at least 0"),
        ([server(replicas=True)], "mcp_servers[0].replicas: True is not a whole number"),
        ([server(read_only="yes")], "mcp_servers[0].read_only: 'yes' is not true or false"),
        ([server(volumes={"data": "data"})], "mcp_servers[0].volumes.data: 'data' is not allowed; use an absolute path of letters, digits and . _ - /"),
        (
            [{"name": "far", "source": {"kind": "remote", "url": "https://h/mcp"}, "env": {"A": "1"}}],
            "mcp_servers[0].env: has no effect with kind remote; remove it (credentials go to headers)",
        ),
        (
            [{"name": "x", "source": {"kind": "image", "image": "untagged"}}],
            "mcp_servers[0].source.image: 'untagged' is not allowed; pin a tag or a digest, such as registry/name@sha256:…",
        ),
        # Images are named after servers: the fleet's own would be replaced by the server's.
        *(
            ([server(name=name)], f"mcp_servers[0].name: {name!r} is also the fleet's own image {image}; choose another name")
            for name, image in (("os", "os"), ("builder", "builder"), ("runtime_python", "runtime-python"))
        ),
        (
            [server(source={**PYPI, "kind": ["pypi"]})],
            "mcp_servers[0].source.kind: ['pypi'] is unknown; use one of python, pypi, npm, openapi, image, remote",
        ),
        (
            [server(source={**PYPI, "version": 1.10})],
            "mcp_servers[0].source.version: 1.1 was read as a number, which drops zeros at its end; put it in quotes",
        ),
        ([server(port=65536)], "mcp_servers[0].port: 65536 is too large; use at most 65535"),
        ([server(resources={"cpus": float("nan")})], "mcp_servers[0].resources.cpus: nan is not a number"),
        ([server(resources={"cpus": float("inf")})], "mcp_servers[0].resources.cpus: inf is not a number"),
        # What a shell would run.
        (
            [server(packages=["git; id"])],
            "mcp_servers[0].packages[0]: 'git; id' is not allowed; write the name of one Debian package",
        ),
        (
            [server(volumes={"data": "/data;id"})],
            "mcp_servers[0].volumes.data: '/data;id' is not allowed; use an absolute path of letters, digits and . _ - /",
        ),
        ([server(volumes={"data": "/opt"})], "mcp_servers[0].volumes.data: '/opt' would hide /opt/mcp; choose another path"),
        ([server(volumes={"data": "/data/../tmp/"})], "mcp_servers[0].volumes.data: '/data/../tmp/' would hide /tmp; choose another path"),
        (
            [server(volumes={"a": "/data", "b": "/data/"})],
            "mcp_servers[0].volumes.b: '/data/' is also the path of a; choose another",
        ),
        (
            [server(env={"KEY": "1"}, secrets={"KEY": "gateway_api_key"})],
            "mcp_servers[0].env.KEY: is also set by secrets.KEY; remove one of them",
        ),
        (
            [server(env={"KEY_FILE": "1"}, secrets={"KEY": "gateway_api_key"})],
            "mcp_servers[0].env.KEY_FILE: is also set by secrets.KEY; remove one of them",
        ),
    ],
)
def test_each_mistake_of_a_server(servers: Any, said: str) -> None:
    assert said in errors(servers)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"edges": {}}, "mcp_fleet.edges: unknown key; did you mean 'edge'?"),
        ({"edge": {"hosts": []}}, "mcp_fleet.edge.hosts: empty; name at least one host that clients use"),
        ({"edge": {"port": 80, "http_port": 80}}, "mcp_fleet.edge.http_port: 80 is also edge.port; use another"),
        (
            {"secrets": {"a": {"env": "A", "value": "x"}}},
            "mcp_fleet.secrets.a: has 2 sources; give exactly one of generate, env, value, file",
        ),
        (
            {"secrets": {"digest_key": {"env": "A"}}},
            "mcp_fleet.secrets.digest_key: the controller keeps a key of its own by this name; use another",
        ),
        ({"secrets": {"a": {}}}, "mcp_fleet.secrets.a: has 0 sources; give exactly one of generate, env, value, file"),
        (
            {"networks": {"edge": "10.98.0.0/21", "backend": "10.98.4.0/22"}},
            "mcp_fleet.networks.backend: 10.98.4.0/22 overlaps networks.edge; choose another",
        ),
        ({"edge": {"port": 70000}}, "mcp_fleet.edge.port: 70000 is too large; use at most 65535"),
        *(
            (
                {"edge": {"hosts": [host]}},
                f"mcp_fleet.edge.hosts[0]: {host!r} is not allowed; write a host name or an address, without scheme, port or brackets",
            )
            for host in ("https://mcp.example", "mcp.example:443", "[::1]", "a b", "")
        ),
        (
            {"secrets": {"a" * 31: {"env": "A"}}},
            f"mcp_fleet.secrets: the key {'a' * 31!r} is not allowed; it must match [a-z][a-z0-9_]{{0,29}}",
        ),
        ({"images": {"base": "scratch"}}, "mcp_fleet.images.base: 'scratch' is unknown; use one of auto, pull, bootstrap"),
    ],
)
def test_each_mistake_of_the_settings(settings: Any, said: str) -> None:
    assert said in errors([server()], settings)


@pytest.mark.parametrize("path", ["/data", "/opt/data", "/tmp/cache", "/home/mcp", "/opt/server/data"])
def test_volumes_where_nothing_is_hidden(path: str) -> None:
    validate([server(volumes={"data": path})], None)


@pytest.mark.parametrize("package", ["git", "libgl1", "g++", "python3.13-dev", "git=1:2.47.3-0+deb13u1"])
def test_debian_packages(package: str) -> None:
    validate([server(packages=[package])], None)


def test_one_mistake_is_one_error() -> None:
    assert errors([server(command="mcp-server-time")]) == ["mcp_servers[0].command: 'mcp-server-time' is not a list"]


def test_a_subnet_that_is_none() -> None:
    found = errors([server()], {"networks": {"edge": "10.98.0.1/22"}})
    assert len(found) == 1
    assert found[0].startswith("mcp_fleet.networks.edge: '10.98.0.1/22' is no subnet")
    assert found[0].endswith("write 10.98.0.0/22")


def test_a_value_of_a_secret_is_never_shown() -> None:
    found = errors([server()], {"secrets": {"a": {"value": "s3cret", "env": "A"}}})
    assert "s3cret" not in "\n".join(found)


def test_gpu_required_with_a_gpu_node() -> None:
    validate([server(gpu="required")], None, hosts=[Host("a", gpus=1)])


def test_private_keys_of_people_are_left_to_them() -> None:
    validate([server(**{"x-owner": "platform"})], None)


def test_public_certificates_with_several_edges() -> None:
    settings = {"edge": {"tls": "acme", "acme_email": "a@mcp.example"}}
    validate([server()], settings, hosts=[Host("a"), Host("b", edge=False)])
    assert errors([server()], settings, hosts=[Host(name) for name in "abc"]) == [
        "mcp_fleet.edge.tls: 'acme' with 3 edge nodes: the authority's challenge reaches any of them, and only the one that"
        " asked for the certificate can answer; use files or internal, or one edge node"
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"edge": {"tls": "files"}},
            [
                "mcp_fleet.secrets.edge_certificate: missing; edge.tls files needs it, such as {file: /path/fullchain.pem}",
                "mcp_fleet.secrets.edge_key: missing; edge.tls files needs it, such as {file: /path/privkey.pem}",
            ],
        ),
        ({"edge": {"ca_file": "/x"}}, ["mcp_fleet.edge.ca_file: has no effect with edge.tls internal; remove it"]),
        (
            {"edge": {"hosts": ["h", "1::2::3"]}},
            ["mcp_fleet.edge.hosts[1]: '1::2::3' is no IPv6 address; write one such as 2001:db8::7"],
        ),
        (
            {"edge": {"tls": "acme", "acme_email": "a b"}},
            ["mcp_fleet.edge.acme_email: 'a b' is not allowed; write one address, such as operations@mcp.example"],
        ),
        (
            {"networks": {"encrypted": "maybe", "mtu": 100}},
            [
                "mcp_fleet.networks.encrypted: 'maybe' is unknown; use one of auto, true, false",
                "mcp_fleet.networks.mtu: 100 is too small; use at least 1280",
            ],
        ),
    ],
)
def test_mistakes_about_edge_and_networks(settings: Any, said: list[str]) -> None:
    assert errors([server()], settings) == said


def test_only_an_internal_edge_has_an_authority() -> None:
    for tls, more in (("internal", {}), ("acme", {"acme_email": "a@b"})):
        dummy, fleet = validate([server()], {"edge": {"tls": tls, **more}})
        assert ("edge_ca" in fleet["secrets"]) == (tls == "internal")
    dummy, fleet = validate([server()], {"secrets": {"edge_ca": {"env": "CA"}}})
    assert fleet["secrets"]["edge_ca"]["env"] == "CA"
    assert not fleet["secrets"]["edge_ca"]["generate"]
