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
    remove,
    set_role,
    wanted_labels,
)
from ansible_collections.sophia_ai.mcp_swarm.tests.unit.plugins.module_utils import cluster_double as double


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


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Three managers, of which a is asked, and a worker."""
    made = double.cluster(monkeypatch)
    for name in "abc":
        made.api.add(name, "manager")
    made.api.add("w")
    return made


def role(swarm: Any, name: str, wanted: str, said: list[str] | None = None) -> bool:
    return set_role(swarm, swarm.node(name), wanted, (said if said is not None else []).append)


def refused(work: Any) -> str:
    with pytest.raises(SwarmError) as raised:
        work()
    return str(raised.value)


def test_a_role_is_changed_when_the_managers_count_the_node_so(swarm: Any) -> None:
    said: list[str] = []
    assert role(swarm, "w", "manager", said)
    assert role(swarm, "b", "worker", said)
    assert not role(swarm, "b", "worker", said)
    assert said == ["w (id-w) becomes a manager", "b (id-b) becomes a worker"]
    assert {n.name: n.role for n in members.nodes(swarm)} == {"a": "manager", "b": "worker", "c": "manager", "w": "manager"}


def test_a_worker_that_still_votes_loses_its_vote(swarm: Any) -> None:
    swarm.api.there["id-w"]["ManagerStatus"] = {"Reachability": "unreachable"}
    assert role(swarm, "w", "worker")
    assert not swarm.node("w").votes


def test_roles_that_are_refused_change_nothing(swarm: Any) -> None:
    swarm.api.refuse = lambda what, whom: pytest.fail(f"{what} {whom} was changed")
    assert refused(lambda: role(swarm, "a", "worker")) == ("a (id-a) cannot demote itself; ask another manager; nothing was changed")
    swarm.api.there["id-w"]["Status"]["State"] = "down"
    assert refused(lambda: role(swarm, "w", "manager")) == (
        "w (id-w) is down: only a node that answers can become a manager; bring it back, and run again"
    )
    swarm.api.there["id-c"]["ManagerStatus"]["Reachability"] = "unreachable"
    assert refused(lambda: role(swarm, "b", "worker")) == (
        "b (id-b) is needed: of the 2 other managers 1 answer, and 2 must; bring back c (id-c), or promote another node"
        " first; nothing was changed"
    )


def test_a_role_that_does_not_come_is_told(swarm: Any) -> None:
    swarm.api.demotes = False
    assert refused(lambda: role(swarm, "b", "worker")) == (
        "b (id-b) is to be a worker, but 60 s later it is not: the others say reachable; look at docker node ls on a manager"
    )


def test_somebody_elses_change_in_between_is_no_conflict(swarm: Any) -> None:
    left = [1, 1]

    def busy(what: str, whom: str) -> None:
        if left:
            left.pop()
            swarm.api.there[whom]["Version"]["Index"] += 1

    swarm.api.refuse = busy
    assert members.update(swarm, swarm.node("w"), lambda spec: spec.update(Availability="pause"))
    assert swarm.node("w").availability == "pause"
    assert not members.update(swarm, swarm.node("w"), lambda spec: spec.update(Availability="pause"))
    left.extend([1] * 20)
    assert refused(lambda: members.update(swarm, swarm.node("w"), lambda spec: spec.update(Availability="active"))) == (
        "w (id-w): the Swarm refused to change the node: rpc error: code = Unknown desc = update out of sequence; correct"
        " what it names, and run again"
    )
    assert len(left) == 10


def test_a_change_that_the_swarm_refuses_is_told(swarm: Any) -> None:
    def no(what: str, whom: str) -> None:
        raise double.refusal("invalid label")

    swarm.api.refuse = no
    assert refused(lambda: members.update(swarm, swarm.node("w"), lambda spec: spec.update(Labels={}))) == (
        "w (id-w): the Swarm refused to change the node: invalid label; correct what it names, and run again"
    )
    lost = swarm.node("w")
    del swarm.api.there["id-w"]
    assert "node id-w not found" in refused(lambda: members.update(swarm, lost, lambda spec: spec.update(Labels={})))


def test_only_a_node_that_is_away_is_removed(swarm: Any) -> None:
    assert refused(lambda: remove(swarm, swarm.node("w"), force=True)) == (
        "w (id-w) is ready: it must leave first (playbooks/leave.yml -e node=w does all of it)"
    )
    swarm.api.there["id-w"]["Status"]["State"] = "down"
    lost = swarm.node("w")
    remove(swarm, lost, force=False)
    assert "id-w" not in swarm.api.there


@pytest.mark.parametrize("lasts", [False, True])
@pytest.mark.parametrize(
    ("error", "why"),
    [
        (double.refusal("node w is not down and can't be removed"), "node w is not down and can't be removed"),
        (double.refusal("the swarm has no leader", 503), "the swarm has no leader"),
        (ConnectionError("the engine restarts"), "the engine restarts"),
    ],
)
def test_a_removal_is_tried_for_a_while(swarm: Any, error: Exception, why: str, lasts: bool) -> None:
    swarm.api.there["id-w"]["Status"]["State"] = "down"
    until = swarm.api.clock.now + (100 if lasts else 20)

    def no(what: str, whom: str) -> None:
        if what == "remove" and swarm.api.clock.now < until:
            raise error

    swarm.api.refuse = no
    if lasts:
        assert refused(lambda: remove(swarm, swarm.node("w"), force=False)) == (
            f"w (id-w) was not removed: {why}; look at docker node ls on a manager, and run again when the node is down there"
        )
    else:
        remove(swarm, swarm.node("w"), force=False)
        assert "id-w" not in swarm.api.there


def test_what_is_removed_already_is_no_error(swarm: Any) -> None:
    swarm.api.there["id-w"]["Status"]["State"] = "down"

    def gone(what: str, whom: str) -> None:
        if what == "remove":
            raise double.no_such("node", whom)

    swarm.api.refuse = gone
    remove(swarm, swarm.node("w"), force=False)


def test_an_error_of_our_own_is_not_waited_for(swarm: Any) -> None:
    swarm.api.there["id-w"]["Status"]["State"] = "down"
    swarm.api.remove_node = None
    with pytest.raises(TypeError):
        remove(swarm, swarm.node("w"), force=False)


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
