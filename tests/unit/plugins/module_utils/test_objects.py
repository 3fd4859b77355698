# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet's networks, secrets and configs: made where missing, never another's removed."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import objects
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import stack as stacks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError

OURS = {"ai.sophia.mcp.fleet": "mcp"}


class Api:
    """The engine's API at its edge: what is there, and what it is asked to change."""

    def __init__(self, **there: list[dict[str, Any]]) -> None:
        self.there = there
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        if name in ("secrets", "configs", "networks", "services"):
            return lambda **dummy: self.there.get(name, [])
        if name.startswith(("create_", "remove_")):
            return lambda *arguments, **options: self.asked.append((name, *arguments, options))
        raise AttributeError(name)


class Manager:
    def __init__(self, **there: list[dict[str, Any]]) -> None:
        self.api = Api(**there)

    def services(self, dummy: str) -> dict[str, Any]:
        return {service["Spec"]["Name"]: service for service in self.api.services()}


def item(name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {"ID": f"id-{name}", "Spec": {"Name": name, "Labels": labels}}


def network(subnet: str = "10.98.0.0/22", driver: str = "overlay", internal: bool = False) -> dict[str, Any]:
    return {"Name": "mcp_edge", "Driver": driver, "Internal": internal, "IPAM": {"Config": [{"Subnet": subnet}]}}


WANTED = {"name": "mcp_edge", "subnet": "10.98.0.0/22", "internal": False}


def test_only_what_is_missing_is_made() -> None:
    swarm = Manager(secrets=[item("mcp_a_1", OURS)])
    made = objects.ensure_objects(swarm, "mcp", "secrets", {"mcp_a_1": "x", "mcp_a_2": "ü"}, check=False)
    assert made == ["mcp_a_2"]
    assert swarm.api.asked == [("create_secret", "mcp_a_2", "ü".encode(), {"labels": OURS})]


@pytest.mark.parametrize("kind", ["secrets", "configs"])
def test_check_mode_tells_and_makes_nothing(kind: str) -> None:
    swarm = Manager()
    assert objects.ensure_objects(swarm, "mcp", kind, {"n": "x"}, check=True) == ["n"]
    assert objects.ensure_networks(swarm, "mcp", [WANTED], check=True) == ["mcp_edge"]
    assert swarm.api.asked == []


def test_a_network_is_made_as_the_plan_says() -> None:
    swarm = Manager()
    objects.ensure_networks(swarm, "mcp", [{**WANTED, "internal": True}], check=False)
    ((call, name, options),) = swarm.api.asked
    assert (call, name) == ("create_network", "mcp_edge")
    assert (options["driver"], options["scope"], options["internal"], options["labels"]) == ("overlay", "swarm", True, OURS)
    assert options["ipam"]["Config"] == [{"Subnet": "10.98.0.0/22"}]


def test_a_network_that_is_right_is_left_alone() -> None:
    swarm = Manager(networks=[network()])
    assert objects.ensure_networks(swarm, "mcp", [WANTED], check=False) == []
    assert swarm.api.asked == []


@pytest.mark.parametrize(
    "there", [network("10.99.0.0/22"), network(driver="bridge"), network(internal=True), {**network(), "IPAM": {"Config": None}}]
)
def test_a_network_that_is_another_is_never_used(there: dict[str, Any]) -> None:
    with pytest.raises(SwarmError, match=r"the network mcp_edge exists with subnet .* run the teardown playbook"):
        objects.ensure_networks(Manager(networks=[there]), "mcp", [WANTED], check=False)


def service(secret: str, previous: str = "") -> dict[str, Any]:
    def spec(name: str) -> dict[str, Any]:
        return {"Name": "mcp_x", "TaskTemplate": {"ContainerSpec": {"Secrets": [{"SecretID": f"id-{name}"}]}}}

    return {"Spec": spec(secret), "PreviousSpec": spec(previous) if previous else None}


def test_pruning_spares_what_is_used_kept_or_somebody_elses() -> None:
    swarm = Manager(
        secrets=[
            item("mcp_old", OURS),
            item("mcp_used", OURS),
            item("mcp_rollback", OURS),
            item("mcp_wanted", OURS),
            item("mcp_of_nobody"),
            item("mcp_of_another", {"ai.sophia.mcp.fleet": "mcp2"}),
        ],
        configs=[item("mcp_gateway_old", OURS)],
        services=[service("mcp_used", "mcp_rollback"), {"Spec": {"Name": "bare"}}],
    )
    assert objects.prune_objects(swarm, "mcp", {"mcp_wanted"}) == ["mcp_old", "mcp_gateway_old"]
    assert swarm.api.asked == [("remove_secret", "id-mcp_old", {}), ("remove_config", "id-mcp_gateway_old", {})]


def test_a_port_that_another_program_holds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        stack = {"services": {"edge": {"ports": [{"published": port}]}, "time": {}}}
        (problem,) = stacks.taken_ports(Manager(), "mcp", stack)
        assert problem == f"port {port} of edge: Address already in use"
        # Ours already: redeploying finds its own edge there.
        mine = {"Spec": {"Name": "mcp_edge", "EndpointSpec": {"Ports": [{"PublishedPort": port}]}}}
        assert stacks.taken_ports(Manager(services=[mine]), "mcp", stack) == []
    assert stacks.taken_ports(Manager(), "mcp", stack) == []


def test_the_stack_file_is_replaced_only_by_another(tmp_path: Path) -> None:
    path = tmp_path / "etc" / "stack.yml"
    assert stacks.write_file(str(path), "a") is True
    before = path.stat().st_ino
    assert stacks.write_file(str(path), "a") is False
    assert path.stat().st_ino == before
    assert stacks.write_file(str(path), "b") is True
    assert path.read_text("utf-8") == "b"
    assert path.stat().st_mode & 0o777 == 0o644
    assert [entry.name for entry in path.parent.iterdir()] == ["stack.yml"]


@pytest.mark.parametrize(
    ("answers", "flags"),
    [([(0, "")], [True]), ([(125, "unknown flag: --detach"), (0, "")], [True, False])],
)
def test_clients_of_both_ages_apply_the_stack(
    monkeypatch: pytest.MonkeyPatch, answers: list[tuple[int, str]], flags: list[bool]
) -> None:
    asked: list[tuple[str, ...]] = []
    given: list[bytes] = []

    def command(*arguments: str, stdin: bytes) -> tuple[int, str]:
        asked.append(arguments)
        given.append(stdin)
        return answers[len(asked) - 1]

    monkeypatch.setattr(stacks, "docker_command", command)
    stacks.apply("mcp", {"services": {}})
    assert set(given) == {stacks.document({"services": {}}).encode()}
    assert ["--detach=true" in arguments for arguments in asked] == flags
    assert all("--prune" in arguments and arguments[-1] == "mcp" for arguments in asked)


def test_what_the_engine_refuses_is_said_without_its_chatter(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = (1, "Creating service mcp_a\nUpdating service mcp_b (id: x)\nfailed to create service: bad mount\n")
    monkeypatch.setattr(stacks, "docker_command", lambda *dummy, **options: answer)
    with pytest.raises(SwarmError) as raised:
        stacks.apply("mcp", {"services": {}})
    assert str(raised.value) == (
        "the engine refused the stack mcp: failed to create service: bad mount; what ran before still runs"
    )


@pytest.mark.parametrize(
    ("wanted", "options"),
    [
        ({}, {}),
        ({"encrypted": None, "mtu": 1500}, {}),
        ({"encrypted": False, "mtu": 1500}, {}),
        ({"encrypted": True, "mtu": 1400}, {"encrypted": "true", "com.docker.network.driver.mtu": "1400"}),
    ],
)
def test_the_options_of_a_new_network(wanted: dict[str, Any], options: dict[str, str]) -> None:
    swarm = Manager()
    objects.ensure_networks(swarm, "mcp", [WANTED | wanted], check=False)
    assert swarm.api.asked[0][2]["options"] == options


MARK = {"com.docker.network.driver.overlay.vxlanid_list": "4097"}
NOT_CHANGED = "A network cannot be changed while it is there, and nothing was."


@pytest.mark.parametrize(
    ("there", "wanted", "said"),
    [
        ({}, {"encrypted": True}, "the network mcp_edge is not encrypted between nodes, and is to be encrypted between nodes."),
        # The driver takes the option without a value, too.
        ({"encrypted": ""}, {"encrypted": False}, "is encrypted between nodes, and is to be not encrypted between nodes."),
        ({"encrypted": ""}, {"encrypted": True}, ""),
        ({"encrypted": "true"}, {"encrypted": None}, ""),
        ({}, {"encrypted": None}, ""),
        ({"com.docker.network.driver.mtu": "1400"}, {}, "is for packets of 1400 bytes between nodes, and is to be for 1500."),
        ({"com.docker.network.driver.mtu": "1400"}, {"mtu": 1400}, ""),
    ],
)
def test_a_network_with_other_options_is_refused(there: dict[str, str], wanted: dict[str, Any], said: str) -> None:
    swarm = Manager(networks=[network() | {"Options": MARK | there}])
    if not said:
        assert objects.ensure_networks(swarm, "mcp", [WANTED | wanted], check=False) == []
        return
    with pytest.raises(SwarmError) as raised:
        objects.ensure_networks(swarm, "mcp", [{**WANTED, "name": "mcp_new"}, WANTED | wanted], check=False)
    assert said in str(raised.value)
    assert NOT_CHANGED in str(raised.value)
    assert swarm.api.asked == []
