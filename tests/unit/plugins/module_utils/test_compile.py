# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: what follows from the catalogue, and that nothing else does."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet import edge as edges
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.compile import compile_fleet
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.facts import Facts, Host
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError

TIME: dict[str, Any] = {
    "name": "time",
    "source": {"kind": "pypi", "package": "mcp-server-time", "version": "1.2.3"},
    "command": ["mcp-server-time"],
    "replicas": 2,
}
MEMORY: dict[str, Any] = {
    "name": "memory",
    "source": {"kind": "npm", "package": "@scope/server-memory", "version": "4.5.6"},
    "command": ["mcp-server-memory"],
    "volumes": {"data": "/data"},
    "packages": ["git"],
    "env": {"PORT": "{port}"},
}
OURS: dict[str, Any] = {
    "name": "ai_memory",
    "source": {"kind": "python", "path": "servers", "module": "backend.mcp_servers.ai_memory:app"},
    "gpu": "preferred",
    "secrets": {"TOKEN": "token"},
}
API: dict[str, Any] = {
    "name": "api",
    "source": {"kind": "openapi", "spec": "api.json", "base_url": "https://h", "credential": "KEY"},
    "secrets": {"KEY": "token"},
}
IMAGE: dict[str, Any] = {"name": "ready", "source": {"kind": "image", "image": "registry/x:1"}, "read_only": False}
REMOTE: dict[str, Any] = {
    "name": "far",
    "source": {"kind": "remote", "url": "https://h/mcp"},
    "headers": {"Authorization": {"secret": "token", "prefix": "Bearer "}},
}
ALL = [TIME, MEMORY, OURS, API, IMAGE, REMOTE]
SETTINGS: dict[str, Any] = {"secrets": {"token": {"env": "TOKEN"}}}


def facts(**changes: Any) -> Facts:
    given: dict[str, Any] = {
        "locks": {"pypi-mcp-server-time-1.2.3.txt": "mcp-server-time==1.2.3\n", "npm-scope-server-memory-4.5.6.json": "{}"},
        "trees": {"services/runtime": "r1", "services/gateway": "g1", "servers": "s1"},
        "files": {"api.json": "{}"},
        "secret_digests": {"token": "a" * 64, "gateway_api_key": "b" * 64, "gateway_session_key": "c" * 64, "edge_ca": "e" * 64},
        "api_key_file": "/state/key",
        "ca_file": "/state/ca.crt",
    }
    return Facts(**{**given, **changes})


def plan(servers: list[dict[str, Any]] | None = None, settings: Any = None, **changes: Any) -> dict[str, Any]:
    return compile_fleet(copy.deepcopy(servers or ALL), copy.deepcopy(settings or SETTINGS), facts(**changes))


def refs(of: dict[str, Any]) -> dict[str, str]:
    return {image["name"]: image["ref"] for image in of["images"]}


def dockerfile(of: dict[str, Any], name: str) -> str:
    return next(image for image in of["images"] if image["name"] == name)["files"]["Dockerfile"]


def reordered(value: Any) -> Any:
    """The same mapping, its keys the other way round."""
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(list(value))}
    return [reordered(item) for item in value] if isinstance(value, list) else value


# -- determinism and names that carry content ----------------------------------------------------------------------


def test_the_same_input_gives_the_same_bytes() -> None:
    assert json.dumps(plan()) == json.dumps(plan())
    assert plan(reordered(ALL), reordered(SETTINGS))["digest"] == plan()["digest"]


def test_the_plan_is_plain_data() -> None:
    assert json.loads(json.dumps(plan())) == plan()


def test_a_change_of_one_server_touches_only_its_image() -> None:
    before = refs(plan())
    after = refs(plan([{**TIME, "command": ["mcp-server-time", "--utc"]}, *ALL[1:]]))
    assert {name for name in before if before[name] != after[name]} == {"time"}


@pytest.mark.parametrize(
    ("changes", "touched"),
    [
        ({"trees": {"services/runtime": "r1", "services/gateway": "g2", "servers": "s1"}}, {"gateway"}),
        ({"trees": {"services/runtime": "r1", "services/gateway": "g1", "servers": "s2"}}, {"ai-memory"}),
        ({"files": {"api.json": '{"a": 1}'}}, {"api"}),
        (
            {"trees": {"services/runtime": "r2", "services/gateway": "g1", "servers": "s1"}},
            {"runtime-python", "runtime-node", "time", "memory", "ai-memory", "api"},
        ),
    ],
)
def test_content_names_follow_content(changes: dict[str, Any], touched: set[str]) -> None:
    before, after = refs(plan()), refs(plan(**changes))
    assert {name for name in before if before[name] != after[name]} == touched


@pytest.mark.parametrize("change", [{"replicas": 3}, {"env": {"A": "1"}}, {"resources": {"cpus": 0.5}}, {"sessions": "sticky"}])
def test_what_the_stack_sets_needs_no_new_image(change: dict[str, Any]) -> None:
    assert refs(plan([{**TIME, **change}, *ALL[1:]])) == refs(plan())


def test_a_secret_changes_only_the_name_of_its_object() -> None:
    before = {item["name"]: item["object"] for item in plan()["secrets"]}
    digests = {**facts().secret_digests, "token": "d" * 64}
    after = {item["name"]: item["object"] for item in plan(secret_digests=digests)["secrets"]}
    assert {name for name in before if before[name] != after[name]} == {"token"}
    assert after["token"] == "mcp_token_" + "d" * 12


def test_the_gateways_configuration_is_named_by_its_content() -> None:
    before = plan()["configs"][0]
    after = plan([{**TIME, "concurrency": 3}, *ALL[1:]])["configs"][0]
    assert before["object"] != after["object"]
    assert before["object"] == plan()["configs"][0]["object"]
    assert plan()["stack"]["configs"]["gateway"]["name"] == before["object"]


# -- images --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["time", "memory", "ai-memory", "api"])
def test_every_servers_dockerfile(name: str) -> None:
    text = dockerfile(plan(), name)
    final = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert re.search(r"^EXPOSE 8000$", final, re.MULTILINE)
    assert "HEALTHCHECK" in final
    assert 'ENTRYPOINT ["/usr/bin/tini", "--", "/opt/mcp/bin/mcp-runtime"]' in final
    for label in ("org.opencontainers.image.title", "ai.sophia.mcp.server"):
        assert label in final
    for tool in ("uv pip", "npm ", "gcc", "mcp-swarm/builder"):
        assert tool not in final
    assert "# syntax=" not in text
    assert f"FROM {refs(plan())['runtime-node' if name == 'memory' else 'runtime-python']}" in text


def test_packages_are_installed_from_their_locks() -> None:
    images = {image["name"]: image for image in plan()["images"]}
    assert images["time"]["files"]["requirements.txt"] == "mcp-server-time==1.2.3\n"
    assert "--require-hashes" in dockerfile(plan(), "time")
    assert images["memory"]["files"]["package-lock.json"] == "{}"
    assert "npm ci" in dockerfile(plan(), "memory")
    assert "uv sync --frozen" in dockerfile(plan(), "ai-memory") or "--locked" in dockerfile(plan(), "ai-memory")


def test_missing_locks_are_named() -> None:
    assert plan()["missing_locks"] == []
    assert plan(locks={})["missing_locks"] == ["pypi-mcp-server-time-1.2.3.txt", "npm-scope-server-memory-4.5.6.json"]


def with_pins(*pins: str) -> dict[str, Any]:
    return {**TIME, "source": {**TIME["source"], "with": list(pins)}}


@pytest.mark.parametrize(
    ("pin", "locked", "missing"),
    [
        ("mcp==1.9.9", "mcp==1.9.9 \\\n    --hash=sha256:aa\n", False),
        ("My_Pkg.x[cli]==1.0", "my-pkg-x==1.0.0\n", False),
        ("mcp==1.9.9 ; python_version > '3'", "mcp==1.9.9 ; python_full_version > '3' \\\n", False),
        ("mcp==1.9.9", "", True),
        ("mcp==1.9.9", "mcp==1.9.10\n", True),
        ("mcp==1.10", "mcp==1.1\n", True),
        ("mcp==1.9.9", "fastmcp==1.9.9\n", True),
    ],
)
def test_a_lock_of_other_pins_is_resolved_anew(pin: str, locked: str, missing: bool) -> None:
    name = "pypi-mcp-server-time-1.2.3.txt"
    made = plan([with_pins(pin)], locks={name: f"mcp-server-time==1.2.3\n{locked}"})
    assert made["missing_locks"] == ([name] if missing else [])


def test_two_servers_of_one_package_share_its_lock_or_say_so() -> None:
    other = {**TIME, "name": "other"}
    assert plan([TIME, other], locks={})["missing_locks"] == ["pypi-mcp-server-time-1.2.3.txt"]
    with pytest.raises(FleetError) as raised:
        plan([TIME, {**with_pins("mcp==1.9.9"), "name": "other"}])
    assert raised.value.errors == [
        "mcp_servers[1].source: locks to pypi-mcp-server-time-1.2.3.txt, as mcp_servers[0].source does, but to other"
        " packages; make them equal"
    ]


def test_labels_say_what_the_description_says() -> None:
    made = plan([{**TIME, "description": 'costs $HOME — "much" \\ a\nlot'}])
    assert r'image.description="costs \$HOME — \"much\" \\ a lot"' in dockerfile(made, "time")


def test_images_come_after_those_they_need() -> None:
    seen: set[str] = set()
    for image in plan()["images"]:
        assert set(image["needs"]) <= seen
        seen.add(image["name"])


def test_sources_that_are_not_there() -> None:
    with pytest.raises(FleetError) as raised:
        plan(trees={"services/runtime": "r1", "services/gateway": "g1"}, files={})
    assert [line.split(":")[0] for line in raised.value.errors] == [
        "mcp_servers[2].source.path",
        "mcp_servers[3].source.spec",
    ]


# -- the stack -----------------------------------------------------------------------------------------------------


def test_every_service_is_confined() -> None:
    services = plan()["stack"]["services"]
    assert set(services) == {"gateway", "edge", "edge-config", "time", "memory", "ai-memory", "api", "ready"}
    for name, service in services.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("read_only", False) is (name != "ready"), name
        assert service["deploy"]["resources"]["limits"], name
        assert service["deploy"]["endpoint_mode"] == "dnsrr", name
        assert {"type": "tmpfs", "target": "/tmp", "tmpfs": {"size": 268435456}} in service["volumes"], name


def test_only_the_edge_publishes_ports_and_only_in_host_mode() -> None:
    services = plan()["stack"]["services"]
    assert [name for name, service in services.items() if service.get("ports")] == ["edge"]
    assert [port["mode"] for port in services["edge"]["ports"]] == ["host"]
    with_http = plan(settings={**SETTINGS, "edge": {"port": 443, "http_port": 80}})["stack"]["services"]["edge"]["ports"]
    assert [port["published"] for port in with_http] == [443, 80]


def test_a_service_gets_its_own_secrets_only() -> None:
    services = plan()["stack"]["services"]
    mounted = {name: [item["source"] for item in service.get("secrets", [])] for name, service in services.items()}
    assert mounted == {
        "gateway": ["gateway_api_key", "gateway_session_key", "token"],
        "edge": [],
        "edge-config": ["edge_ca"],
        "time": [],
        "memory": [],
        "ai-memory": ["token"],
        "api": ["token"],
        "ready": [],
    }
    assert services["ai-memory"]["environment"]["TOKEN_FILE"] == "/run/secrets/token"
    assert all(item["mode"] == 0o400 for service in services.values() for item in service.get("secrets", []))


def test_networks_by_need() -> None:
    services = plan([{**TIME, "egress": True}, *ALL[1:]])["stack"]["services"]
    networks = {name: sorted(service["networks"]) for name, service in services.items()}
    assert networks["edge"] == ["edge"]
    assert networks["time"] == ["backend", "egress"]
    assert networks["memory"] == ["backend"]
    assert {item["name"]: item["internal"] for item in plan()["networks"]} == {
        "mcp_edge": False,
        "mcp_backend": True,
        "mcp_egress": False,
    }


def test_what_keeps_files_is_stopped_before_it_is_started_anew() -> None:
    services = plan()["stack"]["services"]
    orders = {name: service["deploy"]["update_config"]["order"] for name, service in services.items()}
    assert orders == {
        "gateway": "start-first",
        "edge": "stop-first",
        "edge-config": "stop-first",
        "time": "start-first",
        "memory": "stop-first",
        "ai-memory": "start-first",
        "api": "start-first",
        "ready": "start-first",
    }
    assert plan()["stack"]["volumes"]["memory_data"]["name"] == "mcp_memory_data"


def test_ports_are_filled_in() -> None:
    assert plan()["stack"]["services"]["memory"]["environment"]["PORT"] == "8000"


# -- gateway, edge, clients ----------------------------------------------------------------------------------------


def test_the_gateways_servers() -> None:
    config = json.loads(plan([*ALL, {**TIME, "name": "off", "replicas": 0}])["configs"][0]["content"])
    servers = {server["name"]: server for server in config["servers"]}
    assert set(servers) == {"time", "memory", "ai_memory", "api", "ready", "far"}
    assert servers["ai_memory"]["dns"] == {"name": "tasks.mcp_ai-memory", "port": 8000, "path": "/mcp"}
    assert servers["far"]["url"] == "https://h/mcp"
    assert servers["far"]["headers"] == {"Authorization": {"file": "/run/secrets/token", "prefix": "Bearer "}}


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("stack", ["mcp", "other"])
def test_the_gateways_replicas_know_where_the_others_are(replicas: int, stack: str) -> None:
    """One too: it is updated start-first, so that it learns from the one before."""
    made = plan(settings={**SETTINGS, "name": stack, "gateway": {"replicas": replicas}})
    config = json.loads(made["configs"][0]["content"])
    assert made["stack"]["services"]["gateway"]["deploy"]["update_config"]["order"] == "start-first"
    assert config["peers"] == {"dns": {"name": f"tasks.{stack}_gateway", "port": config["listen"]["port"]}}
    assert config["sessions"]["key_files"] == ["/run/secrets/gateway_session_key"]


@pytest.mark.parametrize(
    ("edge", "url", "sni"),
    [
        ({}, "https://localhost:8443", "127.0.0.1"),
        ({"hosts": ["mcp.example"], "port": 443}, "https://mcp.example", "mcp.example"),
        ({"hosts": ["192.0.2.7"], "port": 444}, "https://192.0.2.7:444", "192.0.2.7"),
    ],
)
def test_the_edge(edge: dict[str, Any], url: str, sni: str) -> None:
    made = plan(settings={**SETTINGS, "edge": edge})
    assert made["edge"]["url"] == url
    assert made["edge"]["default_sni"] == sni
    assert made["client"] == {"url": f"{url}/mcp", "api_key_file": "/state/key", "ca_file": "/state/ca.crt"}


FILES = {"edge_certificate": {"file": "/fullchain.pem"}, "edge_key": {"file": "/privkey.pem"}}


@pytest.mark.parametrize(
    ("edge", "ca_file", "secrets"),
    [
        ({}, "/state/ca.crt", ["edge_ca"]),
        ({"tls": "acme", "acme_email": "ops@mcp.example"}, "", []),
        ({"tls": "files"}, "", ["edge_certificate", "edge_key"]),
        ({"tls": "files", "ca_file": "/company.pem"}, "/company.pem", ["edge_certificate", "edge_key"]),
    ],
)
def test_where_certificates_come_from(edge: dict[str, Any], ca_file: str, secrets: list[str]) -> None:
    made = plan(settings={"secrets": SETTINGS["secrets"] | FILES, "edge": edge})
    services = made["stack"]["services"]
    assert made["client"]["ca_file"] == ca_file
    assert [item["source"] for item in services["edge-config"]["secrets"]] == secrets
    # What faces the clients has none of it: they are loaded into it.
    assert not services["edge"].get("secrets")
    assert ("tls {$EDGE_FILES}/certificate.pem" in caddyfile(made)) == bool(secrets)


def caddyfile(made: dict[str, Any]) -> str:
    return str(next(config["content"] for config in made["configs"] if config["name"] == "edge"))


@pytest.mark.parametrize("change", [{"hosts": ["mcp.example"]}, {"http_port": 8080}, {"tls": "acme", "acme_email": "a@b"}])
def test_another_configuration_leaves_the_edges_task_alone(change: dict[str, Any]) -> None:
    """But for its ports, which are its own."""
    before, after = plan(), plan(settings={**SETTINGS, "edge": change})
    assert before["stack"]["configs"]["edge"] != after["stack"]["configs"]["edge"]
    edges = [{k: v for k, v in made["stack"]["services"]["edge"].items() if k != "ports"} for made in (before, after)]
    assert edges[0] == edges[1]


def test_hosts_that_are_addresses_of_both_kinds() -> None:
    made = plan(settings={**SETTINGS, "edge": {"hosts": ["2001:DB8:0::7", "192.0.2.7", "mcp.example"], "http_port": 80}})
    assert made["edge"]["url"] == "https://[2001:db8::7]:8443"
    assert made["edge"]["default_sni"] == "2001:db8::7"
    text = caddyfile(made)
    assert "https://[2001:db8::7], https://192.0.2.7, https://mcp.example {" in text
    assert "http://[2001:db8::7] {\n\tredir https://[2001:db8::7]:8443{uri} 308\n}" in text
    names = made["stack"]["services"]["edge-config"]["environment"]["EDGE_NAMES"]
    assert names == "IP:2001:db8::7,IP:192.0.2.7,DNS:mcp.example"


def test_the_edge_and_what_configures_it_run_on_the_same_nodes_and_share_memory() -> None:
    stack = plan()["stack"]
    edge, config = stack["services"]["edge"], stack["services"]["edge-config"]
    for key in ("mode", "placement"):
        assert edge["deploy"][key] == config["deploy"][key]
    shared = [[v for v in service["volumes"] if v.get("source") == "edge_run"] for service in (edge, config)]
    assert shared[0] == shared[1] != []
    assert stack["volumes"]["edge_run"]["driver_opts"]["type"] == "tmpfs"


@pytest.mark.parametrize("script", [edges.SERVE, edges.CONFIGURE], ids=["edge", "edge-config"])
def test_the_edges_programs_are_clean(script: str, tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text(script, "utf-8")
    done = subprocess.run([Path(sys.executable).parent / "shellcheck", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("setting", "nodes", "wanted"),
    [
        ("auto", 1, None),
        ("auto", 3, True),
        (True, 1, True),
        ("true", 3, True),
        (False, 1, False),
        ("false", 3, False),
    ],
)
def test_networks_are_encrypted_where_there_are_several_nodes(setting: Any, nodes: int, wanted: bool | None) -> None:
    settings = {**SETTINGS, "networks": {"encrypted": setting, "mtu": 1400}}
    made = plan([TIME], settings=settings, hosts=[Host(f"n{number}") for number in range(nodes)])
    assert {network["encrypted"] for network in made["networks"]} == {wanted}
    assert {network["mtu"] for network in made["networks"]} == {1400}


def test_no_value_of_a_secret_is_in_the_plan() -> None:
    settings = {"secrets": {"token": {"value": "s3cret-value"}}}
    assert "s3cret-value" not in json.dumps(plan(settings=settings))
