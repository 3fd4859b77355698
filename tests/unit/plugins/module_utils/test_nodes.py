# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nodes: how they are found, when the managers may do without one, whose labels are whose."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import nodes as members
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.nodes import (
    Node,
    find,
    quorum_without,
    wanted_labels,
)


def node(name: str, role: str = "manager", reachability: str | None = None, **keys: Any) -> Node:
    said = ("reachable" if role == "manager" else "") if reachability is None else reachability
    given = {"hostname": name, "host": name, "availability": "active", "state": "ready", "leader": False, "address": "10.0.0.1", "engine": ""}
    return Node(id=f"id-{name}", role=role, reachability=said, **{**given, **keys})


def test_what_the_engine_says_of_a_node() -> None:
    item = {
        "ID": "x",
        "Spec": {"Role": "manager", "Availability": "drain", "Labels": {members.HOST: "gpu-1", "zone": "a"}},
        "Description": {"Hostname": "ip-10-0-0-1", "Engine": {"EngineVersion": "26.1.5", "Labels": {"disk": "fast"}}},
        "Status": {"State": "ready", "Addr": "0.0.0.0"},
        "ManagerStatus": {"Leader": True, "Reachability": "reachable", "Addr": "10.0.0.1:2377"},
    }
    found = members.node(item)
    assert (found.name, found.address, found.leader, found.ready) == ("gpu-1", "10.0.0.1", True, False)
    worker = members.node({"ID": "y", "Spec": {}, "Status": {"State": "ready", "Addr": "10.0.0.2"}})
    assert (worker.role, worker.address, worker.votes) == ("worker", "10.0.0.2", False)


def test_a_node_is_found_by_inventory_name_id_or_host_name() -> None:
    there = [node("a"), node("b", hostname="debian"), node("c", hostname="debian", host="")]
    assert find(there, "b").id == "id-b"
    assert find(there, "id-c").id == "id-c"
    assert find(there, "a").id == "id-a"
    with pytest.raises(SwarmError, match="2 nodes have this name: id-b .* give the id of one"):
        find(there, "debian")
    with pytest.raises(SwarmError, match="no such node in this Swarm; there are: a, b, debian"):
        find(there, "z")


@pytest.mark.parametrize(
    ("managers", "leaving", "said"),
    [
        ([node("a")], "a", "is the only manager"),
        ([node("a"), node("b")], "a", ""),
        ([node("a"), node("b", reachability="unreachable")], "a", "of the 1 other managers 0 answer, and 1 must; bring back b"),
        # What is lost may go: the rest is as it was.
        ([node("a"), node("b"), node("c", reachability="unreachable")], "c", ""),
        ([node("a"), node("b"), node("c", reachability="unreachable")], "a", "of the 2 other managers 1 answer, and 2 must"),
        ([node("a"), node("b"), node("c"), node("w", "worker")], "w", ""),
        # A worker that was lost while it was demoted still votes.
        ([node("a"), node("b"), node("g", "worker", "unreachable")], "a", "of the 2 other managers 1 answer, and 2 must; bring back g"),
    ],
)  # fmt: skip
def test_quorum(managers: list[Node], leaving: str, said: str) -> None:
    problem = quorum_without(managers, find(managers, leaving))
    assert said in problem if said else problem == ""


def test_labels_that_are_no_longer_wanted_go_and_those_of_others_stay() -> None:
    first = wanted_labels({"other": "1"}, {"zone": "a", "rack": "7", "ai.sophia.mcp.edge": "true"})
    assert first == {"other": "1", "zone": "a", "rack": "7", "ai.sophia.mcp.edge": "true", members.OWNED: json.dumps(["rack", "zone"])}
    assert wanted_labels(first, {"zone": "a", "rack": "7", "ai.sophia.mcp.edge": "true"}) == first
    second = wanted_labels(first, {"zone": "b", "ai.sophia.mcp.edge": "true"})
    assert second == {"other": "1", "zone": "b", "ai.sophia.mcp.edge": "true", members.OWNED: json.dumps(["zone"])}
    assert wanted_labels(second, {}) == {"other": "1", "ai.sophia.mcp.edge": "true"}


def test_one_that_was_lost_while_it_was_demoted_is_not_promoted() -> None:
    lost = node("b", "worker", "reachable")
    with pytest.raises(SwarmError, match=r"b \(id-b\) was lost while it was demoted, .*leave.yml -e node=b\) and let it join again"):
        members.set_role(None, lost, "manager", print)  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ["manager", "worker"])
def test_the_role_of_a_certificate(tmp_path: Path, role: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    # As SwarmKit names it: the node, its role, the Swarm.
    name = [(NameOID.ORGANIZATION_NAME, "c1"), (NameOID.ORGANIZATIONAL_UNIT_NAME, f"swarm-{role}"), (NameOID.COMMON_NAME, "n1")]
    subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in name])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "swarm-ca")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key()).serial_number(1)
    made = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    place = tmp_path / "swarm" / "certificates" / "swarm-node.crt"
    place.parent.mkdir(parents=True)
    place.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    assert members.certified_role(tmp_path) == role
    place.write_text("no certificate")
    assert members.certified_role(tmp_path) == ""
    assert members.certified_role(tmp_path / "nowhere") == ""
