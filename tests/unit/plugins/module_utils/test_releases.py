# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases and the lock, against a Swarm's configs: names exist once, labels change by version."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import client
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import lock as locks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import releases as records
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import RECORD, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.releases import Release, Releases


class Configs:
    """The configs of a Swarm as the engine keeps them."""

    node_id = "node"

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.index = 0
        self.api = self

    def create_config(self, name: str, data: bytes, labels: dict[str, str]) -> bool:
        if name in self.items:
            return False
        self.index += 1
        spec = {"Name": name, "Labels": labels, "Data": base64.b64encode(data).decode()}
        self.items[name] = {"ID": name, "Version": {"Index": self.index}, "Spec": spec}
        return True

    def relabel_config(self, item: dict[str, Any], labels: dict[str, str]) -> bool:
        there = self.items.get(item["ID"])
        if not there or there["Version"] != item["Version"]:
            return False
        self.index += 1
        self.items[item["ID"]] = {
            **there,
            "Version": {"Index": self.index},
            "Spec": {**there["Spec"], "Labels": labels},
        }
        return True

    def remove_config(self, identity: str) -> None:
        del self.items[identity]

    def records(self, dummy: str, kind: str) -> list[dict[str, Any]]:
        return [item for item in self.items.values() if item["Spec"]["Labels"][RECORD] == kind]


def release(image: str = "a:1", number: int = 0, **keys: Any) -> Release:
    return Release(
        number, {"services": {"a": {"image": image}}}, {"a": image}, {}, "2026-01-01T00:00:00Z", "ada", **keys
    )


def deployed(swarm: Any, *images: str) -> Releases:
    found = Releases(swarm, "f")
    for image in images:
        made = found.begin(release(image))
        made.outcome = records.DEPLOYED
        found.finish(made)
    return found


def test_a_release_comes_back_as_it_was_written() -> None:
    swarm: Any = Configs()
    found = Releases(swarm, "f")
    made = found.begin(release("a:1", why="w", revision="r", catalogue="c"))
    assert (made.number, found.unfinished, found.current) == (1, made, None)
    made.outcome, made.seconds, made.services = records.DEPLOYED, 2.5, {"f_a": "1234"}
    found.finish(made)
    again = Releases(swarm, "f")
    assert again.current == made
    assert again.unfinished is None


def test_a_large_record_is_packed_and_one_too_large_is_refused() -> None:
    large = release()
    large.document = {"services": {"a": {"image": "x" * 600_000}}}
    data = records.pack(large)
    assert len(data) < records.PLAIN_BYTES
    labels = {"ai.sophia.mcp.outcome": "deployed"}
    assert records.unpack(0, data, labels).document == large.document
    import random

    large.document = {"services": {"a": {"image": random.Random(1).randbytes(600_000).hex()}}}
    with pytest.raises(SwarmError, match="Swarm keeps at most 500000"):
        records.pack(large)


def test_previous_is_the_newest_that_is_another() -> None:
    found = deployed(Configs(), "a:1", "a:2", "a:3", "a:3")
    assert found.previous().document == release("a:2").document
    with pytest.raises(SwarmError, match="f has no release before release 1 .*nothing to go back to"):
        deployed(Configs(), "a:1").previous()
    with pytest.raises(SwarmError, match="f has no release: deploy first"):
        deployed(Configs()).previous()


def scaled(replicas: int, image: str = "a:2") -> dict[str, Any]:
    labels = {"ai.sophia.mcp.scale.min": "1", "ai.sophia.mcp.scale.max": "9"}
    return {"services": {"a": {"image": image, "deploy": {"replicas": replicas, "labels": labels}}}}


def test_replicas_that_an_autoscaler_chose_make_no_other_release() -> None:
    """What was changed by hand was put back as release 3, when the autoscaler had another number running."""
    swarm: Any = Configs()
    found = deployed(swarm, "a:1", "a:2", "a:3")
    for one, replicas in zip(found.all[1:], (1, 6), strict=True):
        one.document = scaled(replicas)
    assert found.previous().number == 1


def test_a_record_from_before_it_said_what_was_gone_back_to() -> None:
    content = json.loads(records.pack(release(back_to=7, strangers=["f_a"])))
    labels = {"ai.sophia.mcp.outcome": "deployed"}
    again = records.unpack(9, json.dumps(content).encode(), labels)
    assert (again.back_to, again.strangers, again.origin) == (7, ["f_a"], 7)
    del content["back_to"], content["strangers"]
    old = records.unpack(9, json.dumps(content).encode(), labels)
    assert (old.back_to, old.strangers, old.origin) == (0, [], 9)


def test_a_release_that_failed_is_no_place_to_go_back_to() -> None:
    found = deployed(Configs(), "a:1")
    failed = found.begin(release("a:2"))
    failed.outcome = records.RESTORED
    found.finish(failed)
    with pytest.raises(SwarmError, match=r"release 2 of f was never deployed \(it failed\); there are: 1"):
        found.find(2)
    with pytest.raises(SwarmError, match="f has no release 9; there are: 1"):
        found.find(9)


def test_retention_keeps_the_newest_that_were_deployed() -> None:
    found = deployed(Configs(), "a:1", "a:2", "a:3")
    assert [r.number for r in found.drop(2)] == [1]
    assert [r.number for r in found.all] == [2, 3]
    assert found.drop(2) == []
    # Numbers are never used again.
    assert found.begin(release("a:4")).number == 4


def test_two_deploys_get_two_numbers() -> None:
    swarm: Any = Configs()
    one, other = Releases(swarm, "f"), Releases(swarm, "f")
    assert [one.begin(release()).number, other.begin(release()).number] == [1, 2]


@pytest.mark.parametrize("first", [True, False])
def test_a_record_whose_answer_was_lost_is_not_made_again(monkeypatch: pytest.MonkeyPatch, first: bool) -> None:
    """Else the first stays one of a deploy that died, and the next deploy restores what serves."""
    swarm: Any = Configs()
    real, lost = swarm.create_config, [ConnectionError("reset")]

    def create(*given: Any) -> bool:
        made = real(*given)
        if lost:
            raise lost.pop()
        return bool(made)

    monkeypatch.setattr(swarm, "create_config", create)
    monkeypatch.setattr(client.time, "sleep", lambda dummy: None)
    mine = Releases(swarm, "f")
    if not first:  # meanwhile another deploy took the number
        real("f_release_1", records.pack(release("b:1")), records._labels("f", release("b:1", number=1)))
    made = mine.begin(release())
    assert made.number == (1 if first else 2)
    assert len(Releases(swarm, "f").all) == made.number


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "STALE_SECONDS", 0.3)
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.02)


def take(swarm: Any, who: str = "ada", wait: float = 0.0) -> locks.Lock:
    return locks.acquire(swarm, "f", who, "deploy", wait, lambda line: None)


def holder(swarm: Any) -> str:
    found = locks.read(swarm, "f")
    return found[0].who if found else ""


def test_a_lock_is_one_s_until_it_is_freed() -> None:
    swarm: Any = Configs()
    mine = take(swarm)
    assert holder(swarm) == "ada"
    assert locks.free(swarm, "f", "another token") is None
    assert locks.free(swarm, "f", mine.holder.token) == mine.holder
    assert locks.read(swarm, "f") is None


def test_a_living_holder_is_waited_for_and_then_named(monkeypatch: pytest.MonkeyPatch) -> None:
    swarm: Any = Configs()
    take(swarm)
    real = swarm.records

    def beating(fleet: str, kind: str) -> list[dict[str, Any]]:
        for item in real(fleet, kind):
            swarm.relabel_config(item, item["Spec"]["Labels"])
        return list(real(fleet, kind))

    monkeypatch.setattr(swarm, "records", beating)
    with pytest.raises(
        SwarmError, match=r"f is being deployed by ada since .* \(deploy\); waited 0 s, nothing was changed"
    ):
        take(swarm, "bob")


def test_a_holder_on_another_node_that_beats_no_more_is_succeeded() -> None:
    swarm: Any = Configs()
    take(swarm)
    swarm.node_id = "another"
    start = time.monotonic()
    taken = take(swarm, "bob")
    assert time.monotonic() - start > 0.3
    assert taken.crashed and taken.crashed.who == "ada"
    assert holder(swarm) == "bob"


def test_a_holder_whose_process_is_gone_is_succeeded_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    swarm: Any = Configs()
    monkeypatch.setattr(locks, "STALE_SECONDS", 3600)
    monkeypatch.setattr(locks.os, "getpid", lambda: 2**22 + 1)  # no process has it
    monkeypatch.setattr(locks, "_born", lambda pid: "1")
    take(swarm)
    monkeypatch.undo()
    monkeypatch.setattr(locks, "STALE_SECONDS", 3600)
    assert take(swarm, "bob").crashed is not None


def test_a_lock_by_hand_is_never_taken_until_it_expires() -> None:
    swarm: Any = Configs()
    holder, changed = locks.hold(swarm, "f", "ada", "holidays", "2999-01-01T00:00:00Z")
    assert changed
    assert locks.hold(swarm, "f", "ada", "holidays", "") == (holder, False)
    with pytest.raises(SwarmError, match="f is locked by ada since"):
        locks.hold(swarm, "f", "bob", "no", "")
    for dummy in range(2):
        with pytest.raises(
            SwarmError,
            match=r"f is locked by ada since .*, until 2999-01-01T00:00:00Z \(holidays\); nothing was changed",
        ):
            take(swarm, "bob", 1.0)
        time.sleep(0.4)
    locks.free(swarm, "f")
    locks.hold(swarm, "f", "ada", "over", "2001-01-01T00:00:00Z")
    said: list[str] = []
    assert locks.acquire(swarm, "f", "bob", "deploy", 0, said.append).holder.who == "bob"
    (line,) = said
    assert line.startswith("took over the lock of ada since ")
    assert line.endswith(", until 2001-01-01T00:00:00Z (over), which had expired")


@pytest.mark.parametrize("who", ["ada", "bob"])
def test_a_lock_by_hand_that_has_expired_is_none(who: str) -> None:
    swarm: Any = Configs()
    locks.hold(swarm, "f", "ada", "over", "2001-01-01T00:00:00Z")
    assert locks.holder_of(swarm, "f") is None
    held, changed = locks.hold(swarm, "f", who, "holidays", "2999-01-01T00:00:00Z")
    assert (changed, held.who, held.why) == (True, who, "holidays")
    assert locks.holder_of(swarm, "f") == held
    with pytest.raises(SwarmError, match=rf"f is locked by {who} since .*, until 2999-01-01T00:00:00Z \(holidays\)"):
        take(swarm, "eve")
    assert locks.free(swarm, "f") == held
    locks.hold(swarm, "f", "ada", "over", "2001-01-01T00:00:00Z")
    assert locks.free(swarm, "f") is None
    assert swarm.items == {}


def test_records_of_before_the_edges_configuration_was_in_the_document() -> None:
    content = json.loads(records.pack(release())) | {"files": {"/etc/mcp-swarm/edge/Caddyfile": "x"}}
    labels = {"ai.sophia.mcp.outcome": "deployed"}
    assert records.unpack(1, json.dumps(content).encode(), labels).document == release().document
