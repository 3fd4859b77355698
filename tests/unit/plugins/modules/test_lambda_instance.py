# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances against a double of Lambda Cloud: launched once, where there is room, and never terminated by accident."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.modules import lambda_instance, lambda_instance_info

LAUNCH = "POST /instance-operations/launch"
TERMINATE = "POST /instance-operations/terminate"
RESTART = "POST /instance-operations/restart"
MACHINE = {"name": "mcp-1", "instance_types": ["gpu_1x_a10"], "ssh_key": "operations"}


@pytest.fixture
def instance(run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The module with what a launch needs; what it returned."""
    return lambda **params: run_module(lambda_instance, **{**MACHINE, **params})


@pytest.fixture
def refused(instance: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """What it says where it fails."""

    def refused(**params: Any) -> str:
        result = instance(**params)
        assert result.get("failed"), result
        return str(result["msg"])

    return refused


# Launched


def test_it_is_launched_and_waited_for(cloud: Any, instance: Any) -> None:
    done = instance(tags={"fleet": "mcp", "number": 1}, hostname="node-1", image_family="lambda-stack-22-04")
    assert (done["changed"], done["launched"], done["tried"]) == (True, True, [])
    assert (done["instance"]["status"], done["instance"]["ip"]) == ("active", "198.51.100.11")
    (body,) = cloud.launches
    assert body == {
        "name": "mcp-1",
        "region_name": "us-east-1",
        "instance_type_name": "gpu_1x_a10",
        "ssh_key_names": ["operations"],
        "tags": [{"key": "fleet", "value": "mcp"}, {"key": "number", "value": "1"}],
        "hostname": "node-1",
        "image": {"family": "lambda-stack-22-04"},
    }
    assert done["diff"]["before"] == {}
    assert done["diff"]["after"]["status"] == "active"


def test_one_that_is_there_is_not_launched_again(cloud: Any, instance: Any) -> None:
    instance()
    again = instance()
    assert (again["changed"], again["launched"]) == (False, False)
    assert cloud.asked(LAUNCH) == 1
    assert again["diff"]["before"] == again["diff"]["after"]


def test_one_that_has_ended_is_launched_anew(cloud: Any, instance: Any) -> None:
    cloud.instances[cloud.add("mcp-1")]["status"] = "preempted"
    assert instance()["launched"]


def test_not_waiting_returns_what_boots(cloud: Any, instance: Any) -> None:
    assert instance(wait=False)["instance"]["status"] == "booting"
    waited = instance()
    assert (waited["changed"], waited["instance"]["status"]) == (False, "active")


def test_check_mode_says_where_and_launches_nothing(cloud: Any, instance: Any) -> None:
    done = instance(check=True, user_data="password: x")
    assert (done["changed"], done["launched"]) == (True, True)
    assert (done["instance"]["region_name"], done["instance"]["instance_type_name"]) == ("us-east-1", "gpu_1x_a10")
    assert "password" not in json.dumps(done["instance"])
    assert cloud.asked(LAUNCH) == 0


def test_user_data_reaches_the_machine_and_no_log(cloud: Any, instance: Any) -> None:
    done = instance(user_data="#cloud-config\npassword: hunter2")
    assert cloud.launches[0]["user_data"] == "#cloud-config\npassword: hunter2"
    assert "hunter2" not in json.dumps(done)


# Capacity


def test_where_it_is_sold_out_the_next_place_is_tried(cloud: Any, instance: Any) -> None:
    cloud.world.capacity = {"gpu_1x_a10": {"us-west-1": 1}}
    cloud.world.listed = ["gpu_1x_a10/us-east-1"]
    done = instance()
    assert done["tried"] == ["gpu_1x_a10 in us-east-1"]
    assert done["instance"]["region"]["name"] == "us-west-1"
    assert len(cloud.launches) == 2
    assert max(cloud.clock.pauses) > 10, "launches are twelve seconds apart"


def test_then_the_next_type(cloud: Any, instance: Any) -> None:
    cloud.world.capacity = {"gpu_1x_h100_pcie": {"us-west-1": 1}}
    done = instance(instance_types=["gpu_1x_a10", "gpu_1x_h100_pcie"])
    assert done["instance"]["instance_type"]["name"] == "gpu_1x_h100_pcie"


@pytest.mark.parametrize("check", [False, True])
def test_sold_out_names_what_was_tried_and_what_there_is(cloud: Any, refused: Any, check: bool) -> None:
    cloud.world.capacity = {"gpu_1x_h100_pcie": {"us-west-1": 1}}
    said = refused(regions=["us-east-1", "us-west-1"], check=check)
    assert "no capacity for gpu_1x_a10 in us-east-1, us-west-1" in said
    assert "available now: gpu_1x_h100_pcie in us-west-1 ($2.49/h)" in said
    assert "capacity_timeout" in said
    assert cloud.instances == {}


def test_refused_at_the_last_moment_everywhere(cloud: Any, refused: Any) -> None:
    cloud.world.capacity, cloud.world.listed = {}, ["gpu_1x_a10/us-east-1", "gpu_1x_a10/us-west-1"]
    said = refused()
    assert "Lambda listed and then refused gpu_1x_a10 in us-east-1, gpu_1x_a10 in us-west-1" in said
    assert cloud.instances == {}


def test_patience_finds_room_that_comes_later(cloud: Any, instance: Any) -> None:
    cloud.world.capacity = {}
    slept = cloud.clock.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        if cloud.clock.now > 1200:
            cloud.world.capacity = {"gpu_1x_a10": {"us-west-1": 1}}

    cloud.clock.sleep = sleep
    assert instance(capacity_timeout=600)["launched"]


def test_patience_ends(cloud: Any, refused: Any) -> None:
    cloud.world.capacity = {}
    assert "waited " in refused(capacity_timeout=100)
    assert 1060 < cloud.clock.now < 1120


def test_quota_is_said_once_and_nothing_else_is_tried(cloud: Any, refused: Any) -> None:
    cloud.world.quota = 0
    said = refused()
    assert "global/quota-exceeded" in said
    assert "terminate what idles" in said
    assert cloud.asked(LAUNCH) == 1


def test_a_price_that_is_too_high_is_not_paid(cloud: Any, refused: Any) -> None:
    cloud.world.capacity = {"gpu_1x_h100_pcie": {"us-west-1": 1}}
    said = refused(instance_types=["gpu_1x_a10", "gpu_1x_h100_pcie"], max_price_cents_per_hour=100)
    assert "for $1.00/h at most" in said
    assert cloud.asked(LAUNCH) == 0


# What does not exist


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"instance_types": ["gpu_2x_a10"]}, "instance_types: there is no gpu_2x_a10; there are: gpu_1x_a10 ($0.75/h)"),
        ({"regions": ["us-easy-1"]}, "regions: there is no us-easy-1; there are: asia-northeast-1"),
        (
            {"ssh_key": "nobody"},
            "ssh_key: the account has no key 'nobody'; it has: operations; add it with lambda_ssh_key",
        ),
        (
            {"file_systems": ["model"]},
            "file_systems: the account has no 'model'; it has: archive in us-west-1, models in",
        ),
        ({"firewall_rulesets": ["web"]}, "firewall_rulesets: the account has no 'web'; it has: none"),
        ({"file_systems": ["models", "archive"]}, "no region has all of: file system models, file system archive"),
        (
            {"file_systems": ["models"], "regions": ["us-west-1"]},
            "none of us-west-1 has file system models; it is in us-east-1",
        ),
        ({"instance_types": []}, "instance_types: needed, for there is no instance mcp-1 yet"),
        ({"name": "x" * 65}, "has 65 characters; 1 to 64"),
        ({"id": "0920582c"}, "id: 0920582c: there is no such instance; the account has: none"),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_what_does_not_exist_is_said_before_anything_is_paid_for(
    cloud: Any, refused: Any, check: bool, params: dict[str, Any], said: str
) -> None:
    assert said in refused(check=check, **params)
    assert cloud.asked(LAUNCH) == 0


def test_all_that_is_wrong_is_said_at_once(refused: Any) -> None:
    said = refused(instance_types=["x"], regions=["y"], ssh_key="z")
    assert said.startswith("mcp-1: nothing was launched: instance_types: there is no x;")
    assert all(key in said for key in ("instance_types:", "regions:", "ssh_key:"))


def test_a_region_newer_than_this_collection_is_asked_for(cloud: Any, refused: Any) -> None:
    assert "no capacity for gpu_1x_a10 in us-newest-1" in refused(regions=["us-newest-1"])


def test_a_file_system_decides_the_region(cloud: Any, instance: Any) -> None:
    instance(file_systems=["archive"])
    assert cloud.launches[0]["region_name"] == "us-west-1"
    assert cloud.launches[0]["file_system_names"] == ["archive"]


def test_a_ruleset_is_that_of_the_region(cloud: Any, instance: Any) -> None:
    made = {region: cloud.create_firewall_ruleset({"name": "web", "region": region, "rules": []})["id"] for region in
            ("us-west-1", "us-east-1")}  # fmt: skip
    instance(firewall_rulesets=["web"], regions=["us-west-1"])
    assert cloud.launches[0]["firewall_rulesets"] == [{"id": made["us-west-1"]}]


# Those that are there


def test_two_of_one_name_are_never_guessed_between(cloud: Any, refused: Any) -> None:
    ids = [cloud.add("mcp-1"), cloud.add("mcp-1", region_name="us-west-1")]
    for params in ({}, {"state": "restarted"}, {"state": "absent", "confirm": "mcp-1"}):
        said = refused(**params)
        assert "2 instances are called so" in said
        assert all(one in said for one in ids)
    assert set(cloud.statuses().values()) == {"active"}


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"instance_types": ["gpu_8x_a100"]}, "add gpu_1x_a10 to instance_types, or terminate the instance first"),
        ({"regions": ["us-west-1"]}, "add us-east-1 to regions"),
    ],
)
def test_another_type_or_region_than_the_wish_is_no_silence(cloud: Any, refused: Any, params: Any, said: str) -> None:
    cloud.add("mcp-1")
    assert said in refused(**params)


def test_what_cannot_be_changed_is_a_warning(cloud: Any, instance: Any) -> None:
    cloud.add("mcp-1")
    done = instance(tags={"role": "worker"}, file_systems=["models"])
    assert not done["changed"]
    said = json.dumps(done["warnings"])
    assert "tags: " in said
    assert "file_systems: " in said
    assert "stays until it is terminated and launched again" in said


def test_an_ill_one_is_said_to_be_ill(cloud: Any, refused: Any) -> None:
    cloud.instances[cloud.add("mcp-1")]["status"] = "unhealthy"
    assert "exists and is unhealthy; restart it (state: restarted) or terminate it" in refused()
    assert cloud.statuses() == {"mcp-1": "unhealthy"}


def test_it_is_renamed_by_its_id(cloud: Any, instance: Any) -> None:
    one = cloud.add("old")
    assert instance(id=one, check=True)["changed"]
    assert cloud.statuses() == {"old": "active"}
    assert instance(id=one)["instance"]["name"] == "mcp-1"
    assert not instance(id=one)["changed"]
    assert cloud.statuses() == {"mcp-1": "active"}


def test_a_name_that_is_taken_is_not_given_twice(cloud: Any, refused: Any) -> None:
    cloud.add("mcp-1")
    assert "is called so already" in refused(id=cloud.add("old"))


# Boots that go wrong


def test_one_that_does_not_boot_is_given_back(cloud: Any, refused: Any) -> None:
    cloud.world.fates["mcp-1"] = "stuck"
    said = refused(wait_timeout=60)
    assert "is still booting after" in said
    assert "it was terminated; run again, in another region if this repeats" in said
    assert cloud.statuses() == {"mcp-1": "terminated"}


def test_or_kept_where_that_is_wished(cloud: Any, refused: Any) -> None:
    cloud.world.fates["mcp-1"] = "stuck"
    assert "it is kept and costs $0.75/h" in refused(wait_timeout=60, stuck="keep")
    assert cloud.statuses() == {"mcp-1": "booting"}


@pytest.mark.parametrize(("stuck", "status"), [("auto", "booting"), ("terminate", "terminated")])
def test_one_of_an_earlier_run_is_kept_unless_told(
    cloud: Any, instance: Any, refused: Any, stuck: str, status: str
) -> None:
    cloud.world.fates["mcp-1"] = "stuck"
    instance(wait=False)
    refused(wait_timeout=60, stuck=stuck)
    assert cloud.statuses() == {"mcp-1": status}


def test_one_that_becomes_ill_while_it_boots_is_given_back(cloud: Any, refused: Any) -> None:
    cloud.world.fates["mcp-1"] = "unhealthy"
    said = refused()
    assert "became unhealthy after" in said
    assert "s, and was never active; it was terminated" in said
    assert "it was terminated" in said
    assert cloud.statuses() == {"mcp-1": "terminated"}


@pytest.mark.parametrize("fate", ["terminated", "preempted"])
def test_one_that_ends_while_it_boots_is_launched_by_the_next_run(
    cloud: Any, refused: Any, instance: Any, fate: str
) -> None:
    cloud.world.fates["mcp-1"] = fate
    said = refused()
    assert f"became {fate} after" in said
    assert said.endswith("and was never active; it costs nothing; launch another one (state: present)")
    cloud.world.fates.clear()
    assert instance()["launched"]


def test_one_that_cannot_be_given_back_is_said_to_cost(cloud: Any, refused: Any) -> None:
    cloud.world.fates["mcp-1"] = "stuck"
    cloud.fault(path="/instance-operations/terminate", status=400, code="global/invalid-parameters", message="Not now.")
    said = refused(wait_timeout=20)
    assert "and terminating it failed: Lambda Cloud: POST /instance-operations/terminate: HTTP 400" in said
    assert said.endswith("terminate it in Lambda's dashboard, it may cost")


# Answers that are lost


@pytest.mark.parametrize("fault", [{"drop": True}, {"status": 500, "code": "global/internal-error"}])
def test_a_launch_whose_answer_is_lost_is_found_and_not_paid_for_twice(
    cloud: Any, instance: Any, fault: dict[str, Any]
) -> None:
    cloud.fault(path="/instance-operations/launch", done=True, **fault)
    done = instance()
    assert done["launched"]
    assert cloud.asked(LAUNCH) == 1
    assert cloud.statuses() == {"mcp-1": "active"}


def test_a_launch_that_was_lost_altogether_is_left_to_the_next_run(cloud: Any, instance: Any, refused: Any) -> None:
    cloud.fault(path="/instance-operations/launch", status=503, text="")
    said = refused()
    assert "whether gpu_1x_a10 in us-east-1 was launched is unknown" in said
    assert "the next run takes it over if it appears" in said
    assert cloud.asked(LAUNCH) == 1
    assert instance()["launched"]


# SSH


@pytest.fixture
def ssh_port(cloud: Any) -> Iterator[int]:
    """A server on this machine that introduces itself as SSH; the double's machines are there."""
    server = socket.create_server(("127.0.0.1", 0))
    cloud.machines.start = lambda *dummy: "127.0.0.1"

    def greet() -> None:
        while True:
            try:
                connection, dummy = server.accept()
            except OSError:
                return
            connection.sendall(b"SSH-2.0-double\r\n")
            connection.close()

    thread = threading.Thread(target=greet)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_ssh_is_waited_for(cloud: Any, instance: Any, ssh_port: int) -> None:
    assert instance(wait_for_ssh=True, ssh_port=ssh_port)["instance"]["ip"] == "127.0.0.1"


def test_where_ssh_does_not_answer_the_machine_is_kept(cloud: Any, refused: Any) -> None:
    cloud.machines.start = lambda *dummy: "127.0.0.1"
    with socket.socket() as closed:  # bound and not listening
        closed.bind(("127.0.0.1", 0))
        said = refused(wait_for_ssh=True, ssh_port=closed.getsockname()[1], wait_timeout=60)
    assert "is active, and nothing answers as SSH at 127.0.0.1 port" in said
    assert "lambda_firewall_rules" in said
    assert cloud.statuses() == {"mcp-1": "active"}


# Restarted


def test_it_is_restarted_and_waited_for(cloud: Any, instance: Any) -> None:
    cloud.add("mcp-1")
    assert instance(state="restarted", check=True)["changed"]
    assert cloud.asked(RESTART) == 0
    done = instance(state="restarted")
    assert (done["changed"], done["instance"]["status"]) == (True, "active")
    assert cloud.asked(RESTART) == 1


def test_one_that_does_not_come_back_is_never_terminated(cloud: Any, refused: Any) -> None:
    cloud.add("mcp-1")
    cloud.world.fates["mcp-1"] = "stuck"
    assert "it is kept" in refused(state="restarted", wait_timeout=60, stuck="terminate")
    assert cloud.statuses() == {"mcp-1": "booting"}


def test_what_cannot_be_restarted_now_says_why(cloud: Any, instance: Any, refused: Any) -> None:
    instance(wait=False)
    said = refused(state="restarted")
    assert (
        "restart is not possible now: The instance has not launched yet (vm-has-not-launched); run again later" in said
    )


def test_what_is_not_there_cannot_be_restarted(cloud: Any, refused: Any) -> None:
    cloud.add("other")
    said = refused(state="restarted")
    assert "name: mcp-1: there is no such instance; the account has: " in said
    assert "(other, gpu_1x_a10 in us-east-1, active, $0.75/h)" in said


# Terminated


@pytest.mark.parametrize("confirm", [None, "", "mcp-2", "yes", "MCP-1"])
def test_without_its_name_nothing_is_terminated(cloud: Any, refused: Any, confirm: str | None) -> None:
    cloud.add("mcp-1")
    said = refused(state="absent", confirm=confirm)
    assert "is not terminated without it, for its disk is lost; set confirm to mcp-1" in said
    assert cloud.asked(TERMINATE) == 0


@pytest.mark.parametrize("by", ["name", "id", "id as name"])
def test_with_it_it_is(cloud: Any, instance: Any, by: str) -> None:
    one = cloud.add("mcp-1")
    cloud.add("mcp-2")
    given = {"name": {"name": "mcp-1", "confirm": "mcp-1"}, "id": {"name": None, "id": one, "confirm": one}}
    params = {"state": "absent", **given.get(by, {"name": one, "confirm": one})}
    assert instance(check=True, **params)["changed"]
    assert cloud.asked(TERMINATE) == 0
    assert instance(**params)["changed"]
    assert cloud.statuses() == {"mcp-1": "terminated", "mcp-2": "active"}
    again = instance(**params)
    assert (again["changed"], again["instance"]) == (False, {})


def test_one_that_does_not_end_may_still_cost(cloud: Any, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = cloud.add("mcp-1")
    monkeypatch.setattr(cloud, "_look", dict)
    said = refused(state="absent", confirm="mcp-1", wait_timeout=30)
    seconds = re.fullmatch(
        rf"{one} \(mcp-1, gpu_1x_a10 in us-east-1, terminating, \$0.75/h\) is not gone (\d+) s after it was told to end;"
        " look at Lambda's dashboard: it may still cost",
        said,
    )
    assert seconds and 25 <= int(seconds[1]) <= 30, said
    assert cloud.asked(TERMINATE) == 1


def test_an_id_with_another_s_name_is_refused(cloud: Any, refused: Any) -> None:
    one = cloud.add("mcp-1")
    assert "has another name; correct name or id" in refused(state="absent", id=one, name="mcp-2", confirm=one)
    assert cloud.statuses() == {"mcp-1": "active"}


def test_an_unnamed_one_is_confirmed_by_its_id_alone(cloud: Any, refused: Any) -> None:
    one = cloud.add("")
    assert f"set confirm to {one}" in refused(state="absent", name=None, id=one, confirm="")
    assert cloud.asked(TERMINATE) == 0


# Access


@pytest.mark.parametrize("state", ["present", "absent", "restarted"])
def test_a_wrong_key_is_one_message(cloud: Any, refused: Any, state: str) -> None:
    said = refused(state=state, confirm="mcp-1", api_key="secret_wrong_key_1")
    assert said.startswith("Lambda Cloud: GET /instances: HTTP 401 global/invalid-api-key")
    assert "secret_wrong_key_1" not in said


def test_the_key_comes_from_the_environment(cloud: Any, instance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMBDA_API_KEY", cloud.key)
    monkeypatch.setenv("LAMBDA_API_URL", cloud.url)
    assert instance(api_key=None, api_url=None)["launched"]


def test_a_missing_key_is_said(cloud: Any, refused: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAMBDA_API_KEY", raising=False)
    assert "there is no API key; make a key at" in refused(api_key=None)


# What there is


def test_what_runs_and_what_it_costs(cloud: Any, run_module: Any) -> None:
    cloud.add("mcp-1")
    cloud.add("mcp-2", region_name="us-west-1")
    cloud.instances[cloud.add("gone")]["status"] = "terminating"
    told = run_module(lambda_instance_info)
    assert {one["name"] for one in told["instances"]} == {"mcp-1", "mcp-2", "gone"}
    assert (told["changed"], told["cents_per_hour"]) == (False, 150)
    assert "available" not in told


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ({"names": ["mcp-2", "nobody"]}, ["mcp-2"]),
        ({"regions": ["us-east-1"]}, ["mcp-1"]),
        ({"statuses": ["booting"]}, []),
    ],
)
def test_only_some_of_it(cloud: Any, run_module: Any, only: dict[str, Any], names: list[str]) -> None:
    cloud.add("mcp-1")
    cloud.add("mcp-2", region_name="us-west-1")
    assert [one["name"] for one in run_module(lambda_instance_info, **only)["instances"]] == names


def test_what_is_to_be_had(run_module: Any) -> None:
    told = run_module(lambda_instance_info, available=True, regions=["us-west-1"])
    assert told["available"] == [
        {"instance_type": "gpu_1x_a10", "region": "us-west-1", "cents_per_hour": 75},
        {"instance_type": "gpu_1x_h100_pcie", "region": "us-west-1", "cents_per_hour": 249},
    ]
