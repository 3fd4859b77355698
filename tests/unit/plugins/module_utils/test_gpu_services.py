# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What GPUs make of a server: its services, what its containers see, and how the gateway and deploys take both."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils import _services
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.compile import compile_fleet
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.facts import Facts, Host
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import changes as diff
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import releases as records
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import trial
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.distribution import groups
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.releases import Release, Releases
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.transaction import Transaction, Wish
from ansible_collections.sophia_ai.mcp_swarm.tests.unit.plugins.module_utils.swarm_double import IMAGE as PULLED
from ansible_collections.sophia_ai.mcp_swarm.tests.unit.plugins.module_utils.swarm_double import Double

Json = dict[str, Any]
TREES = dict.fromkeys(("services/runtime", "services/gateway", "services/autoscaler"), "t1")
OTHER = PULLED.replace("time", "other")
CPU_NODE, GPU_NODE = Host("n"), Host("n", gpus=2)
RESERVED = "deploy.resources.reservations.generic_resources"


def entry(gpu: str, name: str = "ocr", **keys: Any) -> Json:
    source = {"kind": "image", "image": "registry/x:1"}
    return {"name": name, "source": source, "gpu": gpu, "env": {"MODE": "x"}, "secrets": {"KEY": "key"}, **keys}


def plan(*servers: Json, hosts: Sequence[Host] = (GPU_NODE,), **settings: Any) -> Json:
    config = {"secrets": {"key": {"env": "KEY"}}, **settings}
    return compile_fleet(list(servers), config, Facts(trees=TREES, hosts=hosts))


def services(*servers: Json, hosts: Sequence[Host] = (GPU_NODE,)) -> dict[str, Json]:
    return dict(plan(*servers, hosts=hosts)["stack"]["services"])


def reservation(service: Json) -> list[Json] | None:
    found = service["deploy"]["resources"].get("reservations")
    return found and found["generic_resources"]


def units(number: int) -> list[Json]:
    return [{"discrete_resource_spec": {"kind": "NVIDIA-GPU", "value": number}}]


def gateway(made: Json, name: str = "ocr") -> Json:
    return next(dict(server) for server in made["gateway"]["config"]["servers"] if server["name"] == name)


# -- services --------------------------------------------------------------------------------------------------------


def test_required_is_one_service_with_its_units() -> None:
    made = plan(entry("required", gpus=2), hosts=[Host("n", gpus=4)])
    service = made["stack"]["services"]["ocr"]
    assert reservation(service) == units(2)
    assert "ocr-gpu" not in made["stack"]["services"]
    server = made["servers"][0]
    assert (server["gpu_count"], server["gpu_pool"], server["services"]) == (2, None, ["ocr"])
    assert "gpu_pool" not in gateway(made)
    assert "pools" not in gateway(made)


def test_preferred_is_two_services_that_differ_in_nothing_but_the_gpu() -> None:
    two = services(entry("preferred", egress=True, resources={"cpus": 2.0, "memory": "2G"}))
    cpu, gpu = copy.deepcopy(two["ocr"]), copy.deepcopy(two["ocr-gpu"])
    assert (reservation(cpu), reservation(gpu)) == (None, units(1))
    assert gpu["environment"].pop("NVIDIA_DRIVER_CAPABILITIES") == "compute,utility"
    assert cpu["environment"].pop("NVIDIA_VISIBLE_DEVICES") == "void"
    for service, pool in ((cpu, "cpu"), (gpu, "gpu")):
        assert service["labels"].pop("ai.sophia.mcp.pool") == service["deploy"]["labels"].pop("ai.sophia.mcp.pool") == pool
        assert service["deploy"]["labels"]["ai.sophia.mcp.server"] == "ocr"
        service["deploy"]["resources"].pop("reservations", None)
        for how in ("update_config", "rollback_config"):
            service["deploy"].pop(how)
    assert cpu == gpu
    assert cpu["environment"] == {"MODE": "x", "KEY_FILE": "/run/secrets/key"}


def test_preferred_without_a_gpu_is_as_if_it_were_none() -> None:
    alone, none = plan(entry("preferred"), hosts=[CPU_NODE]), plan(entry("none"), hosts=[CPU_NODE])
    assert alone["stack"] == none["stack"]
    assert alone["gateway"]["config"] == none["gateway"]["config"]
    assert (alone["servers"][0]["gpu_pool"], alone["servers"][0]["services"]) == (None, ["ocr"])
    assert alone["warnings"] == ["mcp_servers[0].gpu: 'preferred': no node that ocr may run on has GPUs; it runs on the CPU alone"]


def test_as_many_replicas_have_gpus_as_there_is_room_for() -> None:
    two = services(entry("preferred", replicas=3))
    assert (two["ocr"]["deploy"]["replicas"], two["ocr-gpu"]["deploy"]["replicas"]) == (3, 2)
    two = services(entry("preferred", gpu_pool={"replicas": 2}))
    assert (two["ocr"]["deploy"]["replicas"], two["ocr-gpu"]["deploy"]["replicas"]) == (1, 2)


@pytest.mark.parametrize("gpu", ["required", "preferred"])
def test_a_reserved_gpu_is_freed_before_it_is_wanted_again_one_replica_after_the_other(gpu: str) -> None:
    service = services(entry(gpu, replicas=2))["ocr" if gpu == "required" else "ocr-gpu"]
    update = service["deploy"]["update_config"]
    assert (update["order"], update["parallelism"]) == ("stop-first", 1)
    assert service["deploy"]["rollback_config"]["order"] == "stop-first"


def test_the_cpu_twin_starts_first() -> None:
    assert services(entry("preferred"))["ocr"]["deploy"]["update_config"]["order"] == "start-first"


# -- what containers see ---------------------------------------------------------------------------------------------


def test_without_a_reservation_no_gpu_is_seen() -> None:
    """CUDA's images say all, and nvidia as the nodes' default runtime would show all."""
    seen = {n: s.get("environment", {}).get("NVIDIA_VISIBLE_DEVICES") for n, s in services(
        entry("none", "plain"), entry("preferred"), entry("required", "asr")
    ).items()}  # fmt: skip
    assert {n: v for n, v in seen.items() if v} == {"plain": "void", "ocr": "void"}
    assert {"asr", "ocr-gpu"} <= set(seen)
    assert "NVIDIA_VISIBLE_DEVICES" not in services(entry("none"), hosts=[CPU_NODE])["ocr"]["environment"]
    # Of several nodes one with GPUs is enough: it may run there.
    some = services(entry("none"), hosts=[CPU_NODE, Host("g", gpus=1)])
    assert some["ocr"]["environment"]["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_what_of_the_driver_is_seen_is_the_server_s_to_say() -> None:
    seen = {"NVIDIA_DRIVER_CAPABILITIES": "all"}
    two = services(entry("preferred", env=seen))
    assert two["ocr-gpu"]["environment"]["NVIDIA_DRIVER_CAPABILITIES"] == "all"
    assert services(entry("required"))["ocr"]["environment"]["NVIDIA_DRIVER_CAPABILITIES"] == "compute,utility"
    assert "NVIDIA_DRIVER_CAPABILITIES" not in services(entry("none"))["ocr"]["environment"]


# -- the gateway and the autoscaler ----------------------------------------------------------------------------------


def test_the_gateway_is_told_of_both_and_understands_it() -> None:
    from mcp_gateway.config import parse

    keys = {"gpu_tools": ["embed_*"], "concurrency": 4, "port": 9000, "path": "/x"}
    made = plan(entry("preferred", gpu_pool={"concurrency": 32, "return_seconds": 9, "return_fraction": 0.5}, **keys))
    told = gateway(made)
    assert told["dns"] == {"name": "tasks.mcp_ocr", "port": 9000, "path": "/x"}
    assert told["gpu_pool"] == {"dns": {"name": "tasks.mcp_ocr-gpu", "port": 9000, "path": "/x"}}
    assert told["pools"] == {
        "gpu": "preferred", "gpu_tools": ["embed_*"], "concurrency": 32, "return_seconds": 9, "return_fraction": 0.5,
    }  # fmt: skip
    (server,) = parse({"servers": [told]}).servers
    assert server.gpu is not None
    assert server.gpu.dns is not None
    assert (server.gpu.dns.name, server.pools.gpu_tools, server.pools.concurrency) == ("tasks.mcp_ocr-gpu", ("embed_*",), 32)


def test_the_gpu_pool_has_the_server_s_places_where_it_says_nothing() -> None:
    assert gateway(plan(entry("preferred", concurrency=4)))["pools"]["concurrency"] == 4


def test_the_autoscaler_moves_the_cpu_twin_alone() -> None:
    made = plan(entry("preferred", replicas=2, scale={"min": 1, "max": 6}))
    bounds = ("ai.sophia.mcp.scale.min", "ai.sophia.mcp.scale.max")
    cpu, gpu = (made["stack"]["services"][name]["deploy"] for name in ("ocr", "ocr-gpu"))
    assert [cpu["labels"].get(bound) for bound in bounds] == ["1", "6"]
    assert [gpu["labels"].get(bound) for bound in bounds] == [None, None]
    assert (cpu["replicas"], gpu["replicas"]) == (2, 2)
    rules = json.loads(next(config["content"] for config in made["configs"] if config["name"] == "autoscaler"))
    assert list(rules["servers"]) == ["ocr"]
    # What a deploy keeps of the autoscaler's are the twin's replicas.
    kept = diff.with_scale(made["stack"], {"ocr": 5, "ocr-gpu": 1})["services"]
    assert (kept["ocr"]["deploy"]["replicas"], kept["ocr-gpu"]["deploy"]["replicas"]) == (5, 2)


def test_of_a_required_server_the_service_is_scaled() -> None:
    service = services(entry("required", scale={"min": 0, "max": 2}))["ocr"]
    assert service["deploy"]["labels"]["ai.sophia.mcp.scale.max"] == "2"
    assert reservation(service) == units(1)


def test_the_plan_says_what_nodes_have() -> None:
    made = plan(entry("none"), hosts=[Host("a", gpus=2, gpu_slots=4)])
    assert [(n["name"], n["gpus"], n["gpu_slots"]) for n in made["nodes"]] == [("a", 2, 4)]


# -- deploys ---------------------------------------------------------------------------------------------------------


def test_a_server_s_names() -> None:
    assert (_services.service_of("ai_memory"), _services.gpu_service_of("ai_memory")) == ("ai-memory", "ai-memory-gpu")
    made = plan(entry("preferred", "ai_ocr"), entry("none", "time"))["stack"]
    assert _services.whole(["ai-ocr"], made) == ["ai-ocr", "ai-ocr-gpu"]
    assert _services.whole(["ai-ocr-gpu"], made) == ["ai-ocr-gpu", "ai-ocr"]
    assert _services.whole(["time", "nobody", "gateway"], made) == ["time", "nobody", "gateway"]
    # A twin that is new, or goes, is in one of two documents.
    without = plan(entry("none", "ai_ocr"), entry("none", "time"))["stack"]
    assert _services.whole(["ai-ocr"], without, made) == _services.whole(["ai-ocr"], made, without) == ["ai-ocr", "ai-ocr-gpu"]
    assert _services.whole(["ai-ocr"], without) == ["ai-ocr"]


def deployed(tmp_path: Path, *names: str) -> tuple[Any, Transaction]:
    """A Swarm whose release has these services."""
    swarm: Any = Double()
    swarm.tagged[OTHER] = {"Id": "o", "RepoTags": [OTHER], "Created": 0}
    transaction = Transaction(swarm, "mcp", str(tmp_path / "stack.yml"), lambda line: None, None)
    found = Releases(swarm, "mcp")
    release = found.begin(Release(0, document(PULLED, *names), {}, {}, {}, "2026-01-01T00:00:00Z", "ada"))
    release.outcome = records.DEPLOYED
    found.finish(release)
    return swarm, transaction


def document(image: str, *names: str) -> Json:
    labels = {
        "ocr": {_services.SERVER: "ocr", _services.POOL: "cpu"}, "ocr-gpu": {_services.SERVER: "ocr", _services.POOL: "gpu"},
    }  # fmt: skip
    of = {n: {"image": image, "deploy": {"replicas": 1, "labels": labels.get(n, {})}} for n in names}
    return {"services": of, "secrets": {}, "configs": {}}


@pytest.mark.parametrize("name", ["ocr", "ocr-gpu"])
def test_one_server_deployed_alone_is_both_its_services(tmp_path: Path, name: str) -> None:
    swarm, transaction = deployed(tmp_path, "time", "ocr", "ocr-gpu")
    wanted = Wish(document(OTHER, "time", "ocr", "ocr-gpu"), only=[name])
    made = transaction.plan(wanted, Releases(swarm, "mcp")).release.document["services"]
    assert {service: made[service]["image"] for service in made} == {"time": PULLED, "ocr": OTHER, "ocr-gpu": OTHER}


@pytest.mark.parametrize(("before", "after"), [(["ocr"], ["ocr", "ocr-gpu"]), (["ocr", "ocr-gpu"], ["ocr"])])
def test_a_gpu_service_comes_and_goes_with_the_gateway(tmp_path: Path, before: list[str], after: list[str]) -> None:
    swarm, transaction = deployed(tmp_path, "gateway", "time", *before)
    wanted = document(OTHER, "gateway", "time", *after)
    with pytest.raises(SwarmError, match=r"ocr-gpu: comes or goes, .* deploy it too: only=ocr,ocr-gpu,gateway$"):
        transaction.plan(Wish(wanted, only=["ocr"]), Releases(swarm, "mcp"))
    made = transaction.plan(Wish(wanted, only=["ocr", "gateway"]), Releases(swarm, "mcp")).release.document["services"]
    assert {service: made[service]["image"] for service in made} == {"time": PULLED, **dict.fromkeys([*after, "gateway"], OTHER)}


@pytest.mark.parametrize("engine", ["20.10.24", "28.0.0"])
def test_a_deploy_is_refused_where_gpus_cannot_be_kept(tmp_path: Path, engine: str) -> None:
    made = plan(entry("required"))["stack"]
    service = {"image": PULLED, "deploy": made["services"]["ocr"]["deploy"]}
    swarm: Any = Double()
    offer = {"NamedResourceSpec": {"Kind": "NVIDIA-GPU", "Value": "GPU-1"}}
    description = {"Hostname": "n", "Engine": {"EngineVersion": engine}, "Resources": {"GenericResources": [offer]}}
    swarm.nodes = lambda: [{"ID": "n", "Spec": {"Role": "manager"}, "Description": description, "ManagerStatus": {}}]
    transaction = Transaction(swarm, "mcp", str(tmp_path / "stack.yml"), lambda line: None, None)
    wish = Wish({"services": {"ocr": service}, "secrets": {}, "configs": {}})
    if engine == "28.0.0":
        assert set(transaction.plan(wish, Releases(swarm, "mcp")).release.document["services"]) == {"ocr"}
        return
    with pytest.raises(SwarmError, match=r"managers need Docker 23\.0\.2 or newer(.|\n)*n runs 20\.10\.24(.|\n)*Nothing was changed\."):
        transaction.plan(wish, Releases(swarm, "mcp"))


def test_a_node_is_given_the_image_of_both_once() -> None:
    document = plan(entry("preferred"))["stack"]
    for name in ("ocr", "ocr-gpu"):
        document["services"][name]["image"] += "@sha256:1"
    (group,) = groups(document, ["ocr", "ocr-gpu"])
    assert list(group.images.values()) == [["ocr", "ocr-gpu"]]


def test_the_cpu_twin_is_tried_and_the_gpu_service_is_not() -> None:
    before, after = (plan(entry("preferred", env={"V": v}))["stack"] for v in "12")
    assert trial.candidates(before, after) == (
        ["ocr"],
        ["ocr-gpu: not tried beside the old one, for that would take a second NVIDIA-GPU"],
    )
