# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is pruned, and what never is: what a kept release names, what is used, what is another's."""

from __future__ import annotations

import time
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import distribution, lock
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import releases as records
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.prune import prune, prune_node
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.releases import Release, Releases
from ansible_collections.sophia_ai.mcp_swarm.tests.unit.plugins.module_utils.swarm_double import IMAGE, OLD, Double

FLEET = {"ai.sophia.mcp.fleet": "mcp"}
HOUR = 3600.0


def built(*refs: str, made: float = 0, identity: str = "") -> dict[str, Any]:
    return {"Id": identity or refs[0], "RepoTags": list(refs), "Created": made}


def secret(name: str, labels: dict[str, str] | None = None, made: str = OLD) -> dict[str, Any]:
    """A secret of this fleet, unless other labels are given."""
    return {"ID": name, "CreatedAt": made, "Spec": {"Name": name, "Labels": FLEET if labels is None else labels}}


def deployed(swarm: Any, *tags: str) -> None:
    """A release for each tag of time, each with a secret of its own."""
    found = Releases(swarm, "mcp")
    for tag in tags:
        image = f"mcp-swarm/time:{tag}"
        document = {
            "services": {"time": {"image": image}},
            "secrets": {"key": {"external": True, "name": f"mcp_key_{tag}"}},
            "networks": {"backend": {"external": True, "name": "mcp_backend"}},
            "volumes": {"time_data": {"name": "mcp_time_data"}},
        }
        made = found.begin(Release(0, document, {"time": image}, {}, OLD, "ada"))
        made.outcome = records.DEPLOYED
        found.finish(made)
        swarm.there["secrets"].append(secret(f"mcp_key_{tag}"))
        swarm.tagged[image] = built(image)


@pytest.fixture
def swarm() -> Any:
    return Double()


def test_what_a_kept_release_names_stays_and_the_rest_goes(swarm: Any) -> None:
    deployed(swarm, "aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc")
    swarm.there["secrets"] += [secret("mcp_stray"), secret("other_key", {"ai.sophia.mcp.fleet": "other"}), secret("x", {})]
    swarm.there["networks"] += [
        {"Id": name, "Name": name, "Created": OLD} for name in ("mcp_backend", "mcp_control")
    ]
    swarm.tagged["mcp-swarm/fetch:dddddddddddd"] = built("mcp-swarm/fetch:dddddddddddd")
    swarm.changed.clear()
    told = prune(swarm, "mcp", 2, ["mcp-swarm/os:111111111111"], HOUR, check=True)
    assert swarm.changed == []
    found = prune(swarm, "mcp", 2, ["mcp-swarm/os:111111111111"], HOUR, check=False)
    assert found == told
    assert found.releases == [1]
    assert found.objects == ["mcp_key_aaaaaaaaaaaa", "mcp_stray"]
    assert found.networks == ["mcp_control"]
    assert found.images == ["mcp-swarm/fetch:dddddddddddd", "mcp-swarm/time:aaaaaaaaaaaa"]
    assert found.volumes == ["mcp_old_data"]
    assert sorted(swarm.changed) == sorted(["mcp_release_1", *found.objects, *found.networks, *found.images])
    kept = ["mcp-swarm/os:111111111111", IMAGE, "mcp-swarm/time:bbbbbbbbbbbb", "mcp-swarm/time:cccccccccccc"]
    assert found.kept_images == sorted(kept)
    assert found.result()["changed"]


def test_a_second_time_there_is_nothing_left(swarm: Any) -> None:
    deployed(swarm, "aaaaaaaaaaaa")
    assert not prune(swarm, "mcp", 2, [], HOUR, check=False).result()["changed"]


def test_what_may_be_for_a_deploy_that_is_about_to_begin_stays(swarm: Any) -> None:
    deployed(swarm, "aaaaaaaaaaaa")
    young = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    swarm.there["secrets"].append(secret("mcp_new", made=young))
    swarm.there["networks"].append({"Id": "n", "Name": "mcp_control", "Created": young})
    swarm.tagged["mcp-swarm/new:dddddddddddd"] = built("mcp-swarm/new:dddddddddddd", made=time.time())
    pulled = {**built("mcp-swarm/old:eeeeeeeeeeee"), "Metadata": {"LastTagTime": young}}
    swarm.tagged["mcp-swarm/old:eeeeeeeeeeee"] = pulled
    assert not prune(swarm, "mcp", 2, [], HOUR, check=False).result()["changed"]
    found = prune(swarm, "mcp", 2, [], 0, check=False)
    assert found.objects == ["mcp_new"]
    assert found.images == ["mcp-swarm/new:dddddddddddd", "mcp-swarm/old:eeeeeeeeeeee"]


def test_another_fleet_s_releases_keep_their_images(swarm: Any) -> None:
    deployed(swarm, "aaaaaaaaaaaa")
    other = Releases(swarm, "other")
    image = "mcp-swarm/fetch:dddddddddddd"
    other.begin(Release(0, {"services": {}}, {"fetch": image}, {}, OLD, "bob"))
    swarm.items["other_release_1"]["Spec"]["Labels"]["ai.sophia.mcp.outcome"] = records.DEPLOYED
    swarm.tagged[image] = built(image)
    assert prune(swarm, "mcp", 2, [], 0, check=False).images == []


def pulling(swarm: Any) -> list[str]:
    """What gave nodes their images for a deploy whose manager died; names, what uses others first."""
    labels = {**FLEET, distribution.PULLING: "mcp"}
    used = {"ContainerSpec": {"Secrets": [{"SecretID": "mcp_pull_1"}], "Configs": [{"ConfigID": "mcp_pull_1_agent"}]}}
    job = {"Name": "mcp_pull_1_0", "Labels": labels, "TaskTemplate": used}
    swarm.live["mcp_pull_1_0"] = {"ID": "mcp_pull_1_0", "Spec": job}
    swarm.there["secrets"].append(secret("mcp_pull_1", labels))
    swarm.there["configs"].append(secret("mcp_pull_1_agent", labels))
    return ["mcp_pull_1_0", "mcp_pull_1", "mcp_pull_1_agent"]


def test_credentials_that_a_dead_deploy_left_go(swarm: Any) -> None:
    deployed(swarm, "aaaaaaaaaaaa")
    left = pulling(swarm)
    swarm.changed.clear()
    assert prune(swarm, "mcp", 2, [], HOUR, check=True).objects == left
    assert swarm.changed == []
    assert prune(swarm, "mcp", 2, [], HOUR, check=False).objects[:3] == left
    assert swarm.changed[:3] == left


def test_those_of_one_that_lives_are_not_told_as_left(swarm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(swarm, "aaaaaaaaaaaa")
    left = pulling(swarm)
    lock.acquire(swarm, "mcp", "ada", "deploy", 0, print)
    assert prune(swarm, "mcp", 2, [], HOUR, check=True).objects == []
    monkeypatch.setattr(lock, "_born", lambda dummy: "its process has ended")
    assert prune(swarm, "mcp", 2, [], HOUR, check=True).objects == left


def test_before_the_first_deploy_networks_stay(swarm: Any) -> None:
    swarm.there["networks"].append({"Id": "n", "Name": "mcp_backend", "Created": OLD})
    assert prune(swarm, "mcp", 2, [], 0, check=False).networks == []


def test_a_deploy_that_was_left_unfinished_is_finished_first(swarm: Any) -> None:
    deployed(swarm, "aaaaaaaaaaaa")
    Releases(swarm, "mcp").begin(Release(0, {"services": {}}, {}, {}, OLD, "ada"))
    with pytest.raises(SwarmError, match="is not finished: nothing was removed"):
        prune(swarm, "mcp", 2, [], 0, check=False)


def test_a_node_keeps_what_it_is_told_and_what_it_uses(swarm: Any) -> None:
    swarm.tagged = {
        "os": built("mcp-swarm/os:111111111111", "mcp-swarm/old:222222222222"),
        "used": built("mcp-swarm/time:333333333333", "mcp-swarm/time:555555555555", identity="used"),
        "kept": built("mcp-swarm/fetch:666666666666", "mcp-swarm/fetch:777777777777", identity="kept"),
    }
    swarm.containers = lambda **dummy: [{"ImageID": "used"}, {"ImageID": "kept"}]
    roots = [built("mcp-swarm/root:111111111111"), built("mcp-swarm/root:444444444444")]
    lists = swarm.images
    swarm.images = lambda filters: roots if "reference" in filters else lists()
    removed = prune_node(swarm, ["mcp-swarm/os:111111111111", "mcp-swarm/fetch:666666666666"], 0, check=False)
    # Of a used image a name goes while another one stays, and never the last.
    assert removed == ["mcp-swarm/fetch:777777777777", "mcp-swarm/old:222222222222", "mcp-swarm/root:444444444444"]


def test_images_of_a_registry_are_kept_by_their_content_and_by_their_digest(swarm: Any) -> None:
    one, other = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    place = "mcp-registry:5000/mcp-swarm/time"
    untagged = built("<none>:<none>") | {"RepoDigests": [f"{place}@{one}"]}
    old = built("<none>:<none>") | {"Id": "old", "RepoDigests": [f"{place}@{other}"]}
    both = built("mcp-swarm/fetch:111111111111", "mcp-registry:5000/mcp-swarm/fetch:111111111111")
    gone = built("mcp-swarm/fetch:222222222222", "mcp-registry:5000/mcp-swarm/fetch:222222222222")
    swarm.tagged = {"a": untagged, "b": old, "c": both, "d": gone}
    kept = [f"{place}:333333333333@{one}", "mcp-swarm/fetch:111111111111"]
    assert prune_node(swarm, kept, 0, check=False) == [
        "mcp-registry:5000/mcp-swarm/fetch:222222222222",
        f"{place}@{other}",
        "mcp-swarm/fetch:222222222222",
    ]
