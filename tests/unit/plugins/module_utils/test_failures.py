# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said, and what serves, when a deploy fails, dies, or finds a fleet that it does not know."""

from __future__ import annotations

import base64
import copy
import errno
import time
from pathlib import Path
from typing import Any

import pytest
from docker.errors import APIError

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import client, convergence, hooks, prune
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import lock as locks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import releases as records
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import stack as stacks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import transaction as transactions
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import trial as trials
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.judging import Terms
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.releases import Release, Releases
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.transaction import (
    DeployFailed,
    Transaction,
    Wish,
)
from ansible_collections.sophia_ai.mcp_swarm.tests.unit.plugins.module_utils.swarm_double import IMAGE, OLD, Double

DOCUMENT = {"services": {"time": {"image": IMAGE, "deploy": {"replicas": 1}}}}
OTHER = {"services": {"time": {"image": IMAGE, "deploy": {"replicas": 1}, "environment": {"X": "1"}}}}


class World:
    """A transaction on a double of a Swarm, whose applies come true or fail in turn."""

    def __init__(self, swarm: Any, directory: Path) -> None:
        self.swarm, self.said, self.applied = swarm, [], []
        self.failures: list[list[str]] = []
        self.transaction = Transaction(swarm, "mcp", str(directory / "stack.yml"), self.said.append, None)

    def apply(self, dummy: str, document: dict[str, Any], docker_config: str) -> None:
        self.applied.append(copy.deepcopy(document))

    def watch(self, *dummy: Any) -> tuple[dict[str, float], list[str]]:
        return {}, self.failures.pop(0) if self.failures else []

    def record(self, document: dict[str, Any], outcome: str) -> Release:
        found = Releases(self.swarm, "mcp")
        made = found.begin(Release(0, copy.deepcopy(document), {"time": IMAGE}, {}, OLD, "ada"))
        made.outcome = outcome
        made.services = {"mcp_time": stacks.digest(self.swarm.live["mcp_time"], False)}
        found.finish(made)
        return made

    def deploy(self, document: dict[str, Any]) -> dict[str, Any]:
        return self.transaction.deploy(Wish(copy.deepcopy(document), settle=0))

    @property
    def releases(self) -> list[tuple[int, str]]:
        return [(release.number, release.outcome) for release in Releases(self.swarm, "mcp").all]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(Double(), tmp_path)
    monkeypatch.setattr(stacks, "apply", made.apply)
    monkeypatch.setattr(transactions, "watch", made.watch)
    return made


def test_a_first_deploy_that_fails_leaves_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.swarm.live.clear()
    world.failures = [["service mcp_time: 3 tasks ended"]]

    def apply(*dummy: Any) -> None:
        world.swarm.live["mcp_time"] = {"ID": "time", "UpdatedAt": OLD, "Spec": {"Name": "mcp_time"}}

    monkeypatch.setattr(stacks, "apply", apply)
    with pytest.raises(DeployFailed) as raised:
        world.deploy(DOCUMENT)
    assert raised.value.serving == (
        "Serving now: nothing. No release ran before, so what this one started was removed."
    )
    assert world.said[-1] == "removed 1 services that did not run before"
    assert world.swarm.live == {}
    assert world.releases == [(1, records.RESTORED)]
    # The next one is a first deploy again.
    assert world.deploy(DOCUMENT)["release"] == 2


NEW = {"services": {**DOCUMENT["services"], "new": {"image": IMAGE}}}


def start(world: World, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have the next applies start services."""

    def apply(*dummy: Any) -> None:
        for name in names:
            world.swarm.live[name] = {"ID": name, "UpdatedAt": OLD, "Spec": {"Name": name}}

    monkeypatch.setattr(stacks, "apply", apply)


def test_a_first_deploy_that_fails_leaves_what_ran_without_a_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    up = {"ServiceStatus": {"RunningTasks": 1, "DesiredTasks": 1}}
    world.swarm.live["mcp_time"] |= up
    # One that is kept has containers for as long as it likes.
    kept = {"Labels": {"com.docker.swarm.service.name": "mcp_time"}}
    monkeypatch.setattr(world.swarm, "containers", lambda **dummy: [kept])
    monkeypatch.setattr(stacks, "REMOVAL_SECONDS", 0.0)
    for dummy in range(2):  # nor does a second one take it for what the first had started
        start(world, monkeypatch, "mcp_new")
        world.failures = [["service mcp_new: 3 tasks ended"]]
        with pytest.raises(DeployFailed) as raised:
            world.deploy(NEW)
        assert raised.value.serving == (
            "Serving now: what Swarm kept of mcp_time: 1 of 1 services run."
            " They ran without a record, so there is nothing to go back to."
        )
        assert list(world.swarm.live) == ["mcp_time"]
    assert world.releases == [(1, records.RESTORED), (2, records.RESTORED)]


def test_what_a_first_deploy_that_died_has_left_is_no_release(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its stack file and its services are there as those of a fleet from before there were records would be."""
    world.record(DOCUMENT, records.RUNNING)
    stacks.write_file(world.transaction.stack_file, stacks.document(DOCUMENT))
    start(world, monkeypatch, "mcp_time", "mcp_new")
    world.failures = [["service mcp_new: 3 tasks ended"]]
    with pytest.raises(DeployFailed) as raised:
        world.deploy(NEW)
    assert raised.value.serving == (
        "Serving now: nothing. No release ran before, so what this one started was removed."
    )
    assert world.swarm.live == {}
    assert world.releases == [(1, records.ABANDONED), (2, records.RESTORED)]


def test_what_ran_before_one_that_died_is_still_not_ours(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Releases(world.swarm, "mcp").begin(Release(0, NEW, {}, {}, OLD, "ada", strangers=["mcp_time"]))
    assert dead.outcome == records.RUNNING
    start(world, monkeypatch, "mcp_new")
    world.failures = [["service mcp_new: 3 tasks ended"]]
    with pytest.raises(DeployFailed, match="Serving now: what Swarm kept of mcp_time: "):
        world.deploy(NEW)
    assert list(world.swarm.live) == ["mcp_time"]


def test_nor_does_one_that_a_hook_stops_say_that_nothing_serves(world: World) -> None:
    world.transaction.hooks.by_moment = hooks.read({"before_apply": [{"command": ["sh", "-c", "exit 3"]}]})
    with pytest.raises(DeployFailed, match="Serving now: mcp_time, untouched."):
        world.deploy(NEW)


def test_a_failed_deploy_goes_back(world: World) -> None:
    world.record(DOCUMENT, records.DEPLOYED)
    world.failures = [["service mcp_time: no node can run it"]]
    with pytest.raises(DeployFailed) as raised:
        world.deploy(OTHER)
    assert str(raised.value).startswith(
        "The fleet did not come up; services that ran before go on serving.\nservice mcp_time: no node can run it\n"
    )
    assert f"going back to release 1 of {OLD} by ada" in world.said
    assert raised.value.serving == f"Serving now: release 1 of {OLD} by ada, 1/1 services."
    assert world.applied == [OTHER, DOCUMENT]
    assert world.releases == [(1, records.DEPLOYED), (2, records.RESTORED)]


OWN = {
    "services": {"time": {"image": IMAGE, "secrets": [{"source": "pw"}], "ports": [{"target": 80}], "networks": ["net"]}},
    "secrets": {"pw": {"external": True}},
    "networks": {"net": {"external": True}, "other": None},
    "volumes": {"mcp_old_data": None},
}


def test_names_are_their_keys_where_none_is_given(world: World) -> None:
    """As in any compose document; ours name each object."""
    for name in ("pw", "pw_2"):
        world.swarm.there["secrets"].append({"ID": name, "CreatedAt": OLD, "Spec": {"Name": name, "Labels": {}}})
    world.swarm.there["networks"].append({"Id": "net", "Name": "net", "Created": OLD})
    assert world.deploy(OWN)["release"] == 1
    changed = copy.deepcopy(OWN)
    changed["secrets"]["pw"]["name"] = "pw_2"
    done = world.transaction.deploy(Wish(changed, settle=0, only=["time"]))
    assert done["differences"] == ["mcp_time: secrets"]
    assert world.applied[-1]["services"]["time"]["secrets"] == [{"source": "pw.2", "target": "pw"}]
    assert [release.objects() for release in Releases(world.swarm, "mcp").all] == [{"pw"}, {"pw", "pw_2"}]
    assert prune.prune(world.swarm, "mcp", 2, [], 0, check=True).volumes == ["mcp_time_data"]


def test_short_forms_are_refused_all_at_once(world: World) -> None:
    short = copy.deepcopy(OWN)
    ports = ["80:80", "53:53/udp", 443, "127.0.0.1:81:81", {"target": 82, "published": 82}]
    short["services"] |= {"web": {"image": IMAGE, "ports": ports}, "time": {"image": IMAGE, "secrets": ["pw"]}}
    with pytest.raises(SwarmError) as raised:
        world.deploy(short)
    assert str(raised.value).splitlines() == [
        'service time: secrets: "pw": write it in the long form: {source: pw}',
        'service web: ports: "80:80": write it in the long form: {target: 80, published: 80}',
        'service web: ports: "53:53/udp": write it in the long form: {target: 53, published: 53, protocol: udp}',
        "service web: ports: 443: write it in the long form: {target: 443}",
        'service web: ports: "127.0.0.1:81:81": write it in the long form:'
        " {target: <of the container>, published: <of the host>}",
        "Nothing was changed.",
    ]
    assert (world.applied, world.releases) == ([], [])


def test_a_fleet_without_a_record_may_have_them(world: World) -> None:
    short = copy.deepcopy(OWN)
    short["services"]["time"] |= {"secrets": ["pw"], "ports": ["80:80"]}
    stacks.write_file(world.transaction.stack_file, stacks.document(short))
    world.swarm.there["secrets"].append({"ID": "pw", "CreatedAt": OLD, "Spec": {"Name": "pw", "Labels": {}}})
    world.swarm.there["networks"].append({"Id": "net", "Name": "net", "Created": OLD})
    assert world.deploy(OWN)["release"] == 2


def test_what_goes_with_old_releases_is_of_no_other_fleet(world: World) -> None:
    mine, shared = "mcp-swarm/time:aaaaaaaaaaaa", "mcp-swarm/time:bbbbbbbbbbbb"
    for image in (mine, shared):
        made = world.record(DOCUMENT, records.DEPLOYED)
        world.swarm.items[f"mcp_release_{made.number}"]["Spec"]["Data"] = base64.b64encode(
            records.pack(Release(0, DOCUMENT, {"time": image}, {}, OLD, "ada"))
        ).decode()
    Releases(world.swarm, "other").begin(Release(0, {"services": {}}, {"time": shared}, {}, OLD, "bob"))
    world.record(DOCUMENT, records.DEPLOYED)
    world.swarm.changed.clear()
    world.transaction.deploy(Wish(copy.deepcopy(OTHER), settle=0, keep=2))
    assert {"mcp_release_1", "mcp_release_2", mine} <= {*world.swarm.changed}
    assert shared not in world.swarm.changed


def test_going_back_may_fail_too(world: World) -> None:
    world.record(DOCUMENT, records.DEPLOYED)
    world.swarm.live["mcp_time"]["ServiceStatus"] = {"RunningTasks": 0, "DesiredTasks": 1}
    world.failures = [["service mcp_time: 3 tasks ended"], ["service mcp_time: no node can run it"]]
    with pytest.raises(DeployFailed, match="Serving now: 0 of 1 services run. Going back to release 1 .* failed too:\n"):
        world.deploy(OTHER)
    assert world.releases == [(1, records.DEPLOYED), (2, records.FAILED)]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), APIError("the leader is gone")])
def test_what_nobody_foresaw_is_told_and_what_served_restored(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    world.record(DOCUMENT, records.DEPLOYED)

    def known(*dummy: Any) -> None:
        raise error

    monkeypatch.setattr(transactions, "ended", known)
    with pytest.raises(DeployFailed) as raised:
        world.deploy(OTHER)
    assert raised.value.reports == [
        f"the deploy met an error that nobody foresaw: {type(error).__name__}: {error}"
    ]
    assert raised.value.serving == f"Serving now: release 1 of {OLD} by ada, 1/1 services."
    assert world.applied == [OTHER, DOCUMENT]
    assert world.releases == [(1, records.DEPLOYED), (2, records.RESTORED)]
    assert locks.read(world.swarm, "mcp") is None


def test_nor_does_it_end_going_back_without_a_word(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.swarm.live.clear()
    start(world, monkeypatch, "mcp_time")
    world.failures = [["service mcp_time: 3 tasks ended"]]

    def remove(dummy: str) -> None:
        raise APIError("the leader is gone")

    monkeypatch.setattr(world.swarm, "remove_service", remove)
    with pytest.raises(DeployFailed, match="Going back to how it was failed too:\nthe deploy met .*: the leader is gone"):
        world.deploy(DOCUMENT)
    assert world.releases == [(1, records.FAILED)]


def test_a_full_disk_keeps_no_release_from_people(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.record(DOCUMENT, records.DEPLOYED)

    def write(*dummy: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stacks, "write_file", write)
    world.failures = [["service mcp_time: 3 tasks ended"]]
    with pytest.raises(DeployFailed, match="Serving now: release 1 of"):
        world.deploy(OTHER)
    assert world.deploy(OTHER)["release"] == 3
    assert world.said[-1].endswith("stack.previous.yml could not be written: No space left on device; the next deploy writes it")


def test_what_cannot_be_pruned_hides_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.record(DOCUMENT, records.DEPLOYED)

    def prune(*dummy: Any) -> None:
        raise APIError("the leader is gone")

    monkeypatch.setattr(transactions, "prune_objects", prune)
    assert world.deploy(OTHER)["release"] == 2
    assert "what no release needs was not removed: the leader is gone; the next deploy, or make prune, removes it" in world.said


@pytest.mark.parametrize("verdict", ["", "server time: no answer"])
def test_what_was_gone_back_to_is_asked_too(world: World, verdict: str) -> None:
    before = world.record(DOCUMENT, records.DEPLOYED)
    before.verification = {"servers": [{"name": "time"}]}
    answers = ["server time: no answer", verdict]
    world.transaction.ask = lambda question: {"problem": answers.pop(0)}
    world.swarm.items.clear()
    found = Releases(world.swarm, "mcp")
    again = found.begin(before)
    again.outcome = records.DEPLOYED
    found.finish(again)
    wish = Wish(copy.deepcopy(OTHER), settle=0, verification=before.verification)
    with pytest.raises(DeployFailed) as raised:
        world.transaction.deploy(wish)
    assert world.said.count("asking every server through the edge") == 1
    assert raised.value.serving.endswith("verified." if not verdict else "1/1 services, but server time: no answer.")


SERVER = {"labels": {"ai.sophia.mcp.server": "time"}}
TRIED = {"services": {"time": {"image": IMAGE, "deploy": SERVER}}}
TRIED_OTHER = {"services": {"time": {"image": IMAGE, "deploy": SERVER, "environment": {"X": "1"}}}}


def scaled(replicas: int, **more: Any) -> dict[str, Any]:
    labels = {"ai.sophia.mcp.scale.min": "1", "ai.sophia.mcp.scale.max": "5"}
    return {"services": {"time": {"image": IMAGE, "deploy": {"replicas": replicas, "labels": labels}, **more}}}


@pytest.mark.parametrize(("running", "kept"), [(4, 4), (9, 5), (0, 1)])
@pytest.mark.parametrize("died", [False, True])
def test_what_is_gone_back_to_keeps_the_replicas_that_run(world: World, running: int, kept: int, died: bool) -> None:
    """The record has one replica; the autoscaler had more running, because they were needed."""
    world.record(scaled(1), records.DEPLOYED)
    world.swarm.live["mcp_time"]["Spec"]["Mode"]["Replicated"]["Replicas"] = running
    if died:
        world.record(scaled(1, environment={"X": "1"}), records.RUNNING)
        world.deploy(scaled(1))
        assert world.said[0].endswith(f"was left unfinished: restoring release 1 of {OLD} by ada")
        assert world.applied[0] == scaled(kept)
    else:
        world.failures = [["service mcp_time: 3 tasks ended"]]
        with pytest.raises(DeployFailed, match="Serving now: release 1 of"):
            world.deploy(scaled(1, environment={"X": "1"}))
        assert world.applied == [scaled(kept, environment={"X": "1"}), scaled(kept)]


def version(number: int) -> dict[str, Any]:
    return {"services": {"time": {"image": IMAGE, "deploy": {"replicas": 1}, "environment": {"X": str(number)}}}}


def test_each_rollback_goes_one_release_further_back(world: World) -> None:
    for number in (1, 2, 3):
        world.record(version(number), records.DEPLOYED)

    def back(number: int | None = None) -> str:
        world.transaction.rollback(Wish({}, settle=0), number)
        return str(world.applied[-1]["services"]["time"]["environment"]["X"])

    assert back() == "2"
    # What ran before, for people, is what ran before; not what would be gone back to.
    assert '"X": "3"' in Path(world.transaction.stack_file).with_suffix(".previous.yml").read_text("utf-8")
    # What was changed by hand is put back; that is no step forward.
    world.swarm.live["mcp_time"]["Spec"]["Mode"]["Replicated"]["Replicas"] = 4
    assert world.deploy(version(2))["changed"]
    assert back() == "1"
    with pytest.raises(SwarmError, match="there is nothing to go back to"):
        back()
    assert back(4) == "2"  # itself one that had gone back
    assert back() == "1"
    assert world.deploy(version(4))["changed"]
    assert back() == "1"
    assert [(r.number, r.back_to) for r in Releases(world.swarm, "mcp").all] == [
        (1, 0), (2, 0), (3, 0), (4, 2), (5, 2), (6, 1), (7, 2), (8, 1), (9, 0), (10, 1),
    ]  # fmt: skip


def test_a_new_version_that_fails_its_trial_touches_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.record(TRIED, records.DEPLOYED)
    report = "service mcp_trial_time_canary: 3 tasks ended\n  exit code 7"
    monkeypatch.setattr(trials, "watch", lambda *dummy: ({}, [report]))
    with pytest.raises(DeployFailed) as raised:
        world.deploy(TRIED_OTHER)
    assert str(raised.value) == (
        "The new version did not pass its trial; nothing of what serves was touched.\n"
        "service mcp_time, in its trial: 3 tasks ended\n  exit code 7\n"
        f"Serving now: release 1 of {OLD} by ada, untouched."
    )
    assert [list(document["services"]) for document in world.applied] == [["time_canary"]]
    assert world.releases == [(1, records.DEPLOYED), (2, records.RESTORED)]


def test_one_that_passes_is_not_waited_for_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.record(TRIED, records.DEPLOYED)
    waited: list[set[str]] = []
    monkeypatch.setattr(trials, "watch", lambda *dummy: ({}, []))
    monkeypatch.setattr(trials, "settle", lambda dummy, stack, names, *rest: waited.append(names) or [])
    monkeypatch.setattr(transactions, "settle", lambda dummy, stack, names, *rest: waited.append(names) or [])
    done = world.deploy(TRIED_OTHER)
    assert waited == [{"mcp_trial_time_canary"}, set()]
    assert done["trial"] == ["time: tried without calls: nobody is there to call them"]
    assert world.applied[-1] == TRIED_OTHER


def test_one_that_ends_while_it_is_called_does_not_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.record(TRIED, records.DEPLOYED)
    spec = {"Name": "mcp_trial_time_canary", "TaskTemplate": {"ContainerSpec": {"Image": IMAGE}}}
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    task = {
        "ID": "t", "Spec": {"ContainerSpec": {"Image": IMAGE}}, "Status": {"State": "failed", "Timestamp": moment},
        "CreatedAt": moment, "DesiredState": "shutdown",
    }  # fmt: skip

    def watched(*dummy: Any) -> tuple[dict[str, float], list[str]]:
        world.swarm.live["mcp_trial_time_canary"] = {"ID": "c", "Spec": spec}
        return {}, []

    monkeypatch.setattr(trials, "watch", watched)
    monkeypatch.setattr(world.swarm, "stack_tasks", lambda dummy: {"c": [task]})
    monkeypatch.setattr(world.swarm, "remove_service", lambda dummy: world.swarm.live.pop("mcp_trial_time_canary"))
    monkeypatch.setattr(convergence, "docker_command", lambda *dummy: (0, "last words\n"))
    with pytest.raises(DeployFailed, match="service mcp_time, in its trial: it became ready and then ended"):
        world.deploy(TRIED_OTHER)
    assert [list(document["services"]) for document in world.applied] == [["time_canary"]]


def test_who_cannot_be_called_and_why(world: World) -> None:
    before = world.record(TRIED, records.DEPLOYED)
    silent = world.transaction._why_silent
    world.transaction.ask = lambda question: {"problem": ""}
    assert silent(before, []) == "nobody is there to call them"
    assert silent(before, [{}]).startswith("the gateway that serves knows no trials; the one that is deployed now does")
    before.verification = {"session_key": "s"}
    assert silent(before, [{}]) == "gateway and edge of what serves are not up"
    up = {"ServiceStatus": {"RunningTasks": 1, "DesiredTasks": 1}}
    world.swarm.live |= {f"mcp_{part}": {"Spec": {"Name": part}, **up} for part in ("gateway", "edge")}
    assert silent(before, [{}]) == ""


def test_a_canary_that_nobody_can_judge_is_refused(world: World) -> None:
    world.record(TRIED, records.DEPLOYED)
    with pytest.raises(DeployFailed, match="canary: 10 %: nobody can judge it: nobody is there .*; deploy without"):
        world.transaction.deploy(Wish(copy.deepcopy(TRIED_OTHER), terms=Terms(10.0)))
    assert world.applied == []


def test_a_canary_that_ends_is_told_as_any_task(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.swarm.live["mcp_trial_time_canary"] = {"ID": "c", "Spec": {"Name": "mcp_trial_time_canary"}}
    world.swarm.stack_tasks = lambda dummy: {"c": [{"ID": "t", "Status": {"State": "failed"}}]}
    monkeypatch.setattr(convergence, "docker_command", lambda *dummy: (0, "last words\n"))
    trial = trials.Trial(world.swarm, "mcp", world.said.append, lambda: None, None)
    with pytest.raises(trials.TrialFailed, match="service mcp_time, in its trial: it ended as a canary\n.*\n.*\n.*last w"):
        trial._fail(trial._ended())


def test_what_a_trial_left_is_swept(world: World) -> None:
    world.record(DOCUMENT, records.DEPLOYED)
    world.swarm.live["mcp_trial_time_canary"] = {"ID": "mcp_trial_time_canary", "Spec": {"Name": "mcp_trial_time_canary"}}
    world.deploy(OTHER)
    assert world.said[0] == "removed replicas on trial that another deploy had left"
    assert list(world.swarm.live) == ["mcp_time"]


def test_a_hook_that_stops_and_one_that_undoes(world: World) -> None:
    world.record(DOCUMENT, records.DEPLOYED)
    fails = [{"command": ["sh", "-c", "exit 3"]}]
    world.transaction.hooks.by_moment = hooks.read({"before_apply": fails})
    with pytest.raises(DeployFailed, match="A hook stopped the deploy; nothing of what serves was touched.\nhook before_ap"):
        world.deploy(OTHER)
    assert world.applied == []
    world.transaction.hooks.by_moment = hooks.read({"after_record": [{**fails[0], "required": True}]})
    with pytest.raises(DeployFailed, match="hook after_record: sh ended with 3\nServing now: release 1 of"):
        world.deploy(OTHER)
    assert world.applied == [OTHER, DOCUMENT]
    assert [outcome for dummy, outcome in world.releases] == [records.DEPLOYED, records.RESTORED, records.RESTORED]


def test_a_deploy_that_died_is_finished_where_the_same_is_wanted(world: World) -> None:
    world.record(DOCUMENT, records.DEPLOYED)
    world.record(OTHER, records.RUNNING)
    done = world.deploy(OTHER)
    assert done["recovered"] == f"release 2 of {OLD} by ada was left unfinished; this deploy finishes it"
    assert world.releases == [(1, records.DEPLOYED), (2, records.ABANDONED), (3, records.DEPLOYED)]


def test_else_what_served_is_restored_first(world: World) -> None:
    world.record(DOCUMENT, records.DEPLOYED)
    world.record(OTHER, records.RUNNING)
    assert world.deploy(DOCUMENT)["recovered"] == (
        f"release 2 of {OLD} by ada was left unfinished; restored release 1 of {OLD} by ada first"
    )
    assert f"release 2 of {OLD} by ada was left unfinished: restoring release 1 of {OLD} by ada" in world.said
    assert world.applied[0] == DOCUMENT


def test_what_served_may_not_come_up_any_more(world: World) -> None:
    world.record(DOCUMENT, records.DEPLOYED)
    world.record(OTHER, records.RUNNING)
    world.failures = [["service mcp_time: 3 tasks ended"]]
    third = copy.deepcopy(OTHER)
    third["services"]["time"]["environment"] = {"X": "2"}
    assert world.deploy(third)["recovered"].endswith("does not come up any more: service mcp_time: 3 tasks ended")
    assert world.releases[-1] == (3, records.DEPLOYED)


def test_a_fleet_from_before_there_were_records_becomes_a_release(world: World) -> None:
    stacks.write_file(world.transaction.stack_file, stacks.document(DOCUMENT))
    assert world.deploy(DOCUMENT) == {
        "changed": False, "differences": [], "diff": [], "converged": {}, "release": 1, "recovered": "",
        "trial": [], "hook_problems": [],
    }  # fmt: skip
    (adopted,) = Releases(world.swarm, "mcp").all
    assert (adopted.why, adopted.document) == ("it ran before releases were recorded", DOCUMENT)
    assert world.applied == []
    # And is gone back to like any other.
    world.failures = [["service mcp_time: 3 tasks ended"]]
    with pytest.raises(DeployFailed, match="Serving now: release 1 of"):
        world.deploy(OTHER)
    assert world.applied == [OTHER, DOCUMENT]


def test_such_a_fleet_s_values_are_plain_in_its_release(world: World) -> None:
    document = copy.deepcopy(OTHER)
    document["services"]["time"]["environment"] = {"X": "pa$word"}
    stacks.write_file(world.transaction.stack_file, stacks.document(document))
    assert not world.deploy(document)["changed"]
    (adopted,) = Releases(world.swarm, "mcp").all
    assert adopted.document == document


@pytest.mark.parametrize("text", ["no JSON", stacks.document({"services": {"another": {"image": IMAGE}}})])
def test_one_whose_file_tells_of_something_else_is_deployed_anew(world: World, text: str) -> None:
    stacks.write_file(world.transaction.stack_file, text)
    done = world.deploy(DOCUMENT)
    assert (done["changed"], world.releases) == (True, [(1, records.DEPLOYED)])


def test_what_is_missing_or_taken_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    document = DOCUMENT | {"secrets": {"lost": {"external": True, "name": "mcp_lost"}}}
    document["services"] = {"time": {"image": IMAGE, "secrets": [{"source": "lost"}]}}
    with pytest.raises(SwarmError, match="the secret mcp_lost is not in the Swarm\nNothing was changed; run the deploy"):
        world.deploy(document)
    monkeypatch.setattr(stacks, "taken_ports", lambda *dummy: ["port 1 of edge: Address already in use"])
    with pytest.raises(SwarmError, match=r"Stop what listens there \(ss -ltnp shows it\) or set another"):
        world.deploy(OTHER)
    assert world.releases == []


def test_drift_in_people_s_words(world: World, tmp_path: Path) -> None:
    release = world.record(DOCUMENT, records.DEPLOYED)
    live = world.swarm.live["mcp_time"]
    since = f"since release 1 of {OLD} by ada"
    live["Spec"]["TaskTemplate"]["ContainerSpec"] = {"Image": "evil:1"}
    live["Spec"]["Mode"]["Replicated"]["Replicas"] = 3
    stranger = {"Spec": {"Name": "mcp_stranger"}}
    assert transactions.drift("mcp", release, {"mcp_time": live, "mcp_stranger": stranger}) == [
        f"mcp_time: runs evil:1 instead of {IMAGE}, has 3 replicas instead of 1 {since}",
        f"mcp_stranger: runs, though release 1 of {OLD} by ada does not have it",
    ]
    assert transactions.drift("mcp", release, {}) == [f"mcp_time: is gone, though release 1 of {OLD} by ada has it"]


def test_a_record_that_somebody_removed(world: World) -> None:
    release = world.record(DOCUMENT, records.DEPLOYED)
    world.swarm.items.clear()
    with pytest.raises(SwarmError, match="the record of release 1 .* is gone: somebody removed the config mcp_release_1"):
        Releases(world.swarm, "mcp").finish(release)


def test_the_lock_says_who_and_what_to_do(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.01)
    mine = locks.acquire(world.swarm, "mcp", "ada", "deploy", 0, world.said.append)
    with pytest.raises(SwarmError, match=r"mcp is locked by ada since .*; wait until it is free, or free it: "):
        locks.hold(world.swarm, "mcp", "bob", "holidays", "")
    monkeypatch.setattr(locks, "STALE_SECONDS", 0.1)
    world.swarm.node_id = "another"  # where the process of the holder cannot be looked for
    locks.acquire(world.swarm, "mcp", "bob", "deploy", 0, world.said.append)
    assert world.said[-2].startswith("waiting for ada since ")
    assert world.said[-1].startswith("took over the lock of ada since ")
    assert world.said[-1].endswith(", whose deploy ended without freeing it")
    mine.lost = "it is held by bob"
    with pytest.raises(SwarmError, match="the lock of mcp was taken from this deploy: it is held by bob; nothing more"):
        mine.check()


def test_no_docker_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.shutil, "which", lambda *dummy, **options: None)
    with pytest.raises(SwarmError, match="there is no docker command on this host; run the provision playbook first"):
        client.docker_command("version")


def test_what_does_not_go_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacks, "REMOVAL_SECONDS", 0.0)
    monkeypatch.setattr(stacks.time, "sleep", lambda dummy: None)
    with pytest.raises(SwarmError, match="the network mcp_edge: still there after 0 s; look at docker ps and run again"):
        stacks._until(lambda: False, "the network mcp_edge")


def test_jobs_and_services_that_are_not_started_again() -> None:
    policy = {"TaskTemplate": {"ContainerSpec": {}, "RestartPolicy": {"Condition": "none"}}}
    ended = {"ID": "t", "Spec": {"ContainerSpec": {}}, "Status": {"State": "failed"}, "CreatedAt": "2027", "DesiredState": ""}
    job = {"Spec": {**policy, "Mode": {"ReplicatedJob": {"TotalCompletions": 1}}}}
    assert convergence.judge(job, [ended], OLD, 1).note == "1 of its tasks failed"
    service = {"Spec": {**policy, "Mode": {"Replicated": {}}}, "ServiceStatus": {"DesiredTasks": 1}}
    assert convergence.judge(service, [ended], OLD, 1).note == "its task ended and is not started again"


def test_what_is_new_is_watched_for_a_while(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    task = {
        "ID": "t", "Spec": {"ContainerSpec": {"Image": IMAGE}}, "Status": {"State": "running"}, "CreatedAt": now,
        "DesiredState": "running",
    }  # fmt: skip
    ended = task | {"Status": {"State": "failed", "Timestamp": now}, "NodeID": "n"}
    looks = [[task], [ended]]
    world.swarm.stack_tasks = lambda dummy: {"time": looks.pop(0)}
    monkeypatch.setattr(convergence, "docker_command", lambda *dummy: (0, "last words\n"))
    monkeypatch.setattr(convergence.time, "sleep", lambda dummy: None)
    (report,) = convergence.settle(world.swarm, "mcp", {"mcp_time"}, 60, world.said.append)
    assert world.said == ["watching what is new until it has run for 60 s"]
    assert report.splitlines() == [
        "service mcp_time: it became ready and then ended, after 0 s", "  task t on here: failed", "  last lines:",
        "    last words",
    ]  # fmt: skip


def test_all_that_run_what_they_should_are_told(world: World) -> None:
    task = {"ID": "t", "Spec": {"ContainerSpec": {"Image": IMAGE}}, "Status": {"State": "running"}, "CreatedAt": "2027"}
    world.swarm.live["mcp_time"]["ServiceStatus"] = {"DesiredTasks": 1, "RunningTasks": 1}
    world.swarm.stack_tasks = lambda dummy: {"time": [task | {"DesiredState": "running"}]}
    assert convergence.watch(world.swarm, "mcp", {}, 1, world.said.append) == ({"mcp_time": 0.0}, [])
    assert world.said == ["1/1 services converged after 0 s"]
