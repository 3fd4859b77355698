# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The registry's own image with TLS and credentials: what is pushed is there, what is wrong is told, what is old goes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import HOST, NAME, Running, docker, start, until

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils import _access, _registry
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.push import absent, push
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet import registry as fleets
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import RegistryError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import pull_agent
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _pem


@pytest.fixture
def small(tmp_path: Path) -> Callable[[str, int], dict[str, Any]]:
    """Makes an image of one file."""
    made = []

    def make(tag: str, size: int = 1000) -> dict[str, Any]:
        context = tmp_path / tag
        context.mkdir()
        (context / "content").write_bytes(os.urandom(size))
        (context / "Dockerfile").write_text("FROM scratch\nCOPY content /\nCMD [\"/content\"]\n")
        ref = f"mcp-swarm/small:{tag}"
        docker("build", "--quiet", "--tag", ref, str(context)) if not shutil.which("/usr/bin/docker") else subprocess.run(
            ["/usr/bin/docker", "build", "--quiet", "--tag", ref, str(context)], check=True, stdout=subprocess.DEVNULL
        )
        made.append(ref)
        return {"name": "small", "ref": ref, "remote": f"{HOST}/{ref}"}

    yield make
    for ref in made:
        docker("rmi", "--force", ref, check=False)


def test_what_is_pushed_is_there_and_not_sent_again(running: Running, small: Any) -> None:
    images = [small("aaaaaaaaaaaa"), small("bbbbbbbbbbbb")]
    lines: list[str] = []
    assert absent(running.client, images) == images
    pushed = push(running.client, images, lines.append)
    assert (set(pushed.sent), pushed.failed) == ({i["remote"] for i in images}, {})
    assert len(lines) == 2
    assert absent(running.client, images) == []
    for image in images:
        docker("rmi", image["ref"], image["remote"])
        running.client.pull(image["remote"], image["ref"])
        assert running.client.here(image["ref"])


def test_a_node_pulls_by_digest_and_says_so(running: Running, small: Any) -> None:
    image = small("cccccccccccc")
    client = running.client
    client.push(image["ref"], image["remote"])
    pinned = f"{image['remote']}@{client.digest(image['remote'])}"
    docker("rmi", image["ref"], image["remote"])
    header = _registry.auth_headers(client.api, [pinned])[pinned]
    state, error = pull_agent.pull(pinned, "")
    assert state == "failed"
    assert "the registry refuses these credentials" in _registry.explain(error)
    assert pull_agent.pull(pinned, header) == ("pulled", "")
    assert client.here(image["remote"])
    assert pull_agent.pull(pinned, "") == ("here", "")


def test_what_nobody_keeps_is_deleted_and_its_data_goes(running: Running, small: Any) -> None:
    old, new, pinned, fresh = (small(tag, 1 << 20) for tag in ("aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc", "dddddddddddd"))
    client = running.client
    for image in (old, new, pinned):
        client.push(image["ref"], image["remote"])
    digest = client.digest(pinned["remote"])
    keep = [new["ref"], f"{pinned['ref'].partition(':')[0]}@{digest}"]
    # What has just come stays: somebody may be about to deploy it.
    assert running.collect([], fresh_seconds=3600) == {"deleted": [], "kept": 3, "freed": 0}
    told = running.collect(keep)
    assert told["deleted"] == [old["ref"]]
    assert (told["kept"], told["freed"] > 1 << 20) == (2, True)
    assert client.digest(old["remote"]) == ""
    assert client.digest(pinned["remote"]) == digest
    docker("rmi", "--force", new["ref"], new["remote"])
    client.pull(new["remote"], new["ref"])
    # It takes images again, those that it had, too.
    for image in (old, fresh):
        client.push(image["ref"], image["remote"])
    assert absent(client, [old, new, pinned, fresh]) == []


def test_while_it_is_cleaned_it_serves_and_takes_nothing(running: Running, small: Any) -> None:
    image, other = small("aaaaaaaaaaaa"), small("bbbbbbbbbbbb")
    client = running.client
    client.push(image["ref"], image["remote"])
    docker("exec", running.container, "sh", "-c", 'touch /tmp/read-only; kill -HUP "$(cat /tmp/registry.pid)"')
    until(lambda: "read-only" in docker("exec", running.container, "cat", "/tmp/serving"))
    until(running.serves)
    assert client.digest(image["remote"])
    with pytest.raises(RegistryError, match=r"the registry is being cleaned and takes nothing meanwhile; run again"):
        client.push(other["ref"], other["remote"])
    # The next cleaning ends what one that died left.
    running.collect([image["ref"]])
    client.push(other["ref"], other["remote"])


def test_two_cleanings_do_not_meet(running: Running) -> None:
    docker("exec", "--detach", running.container, "flock", "/tmp/collect.lock", "sleep", "30")
    until(lambda: docker("exec", running.container, "sh", "-c", "flock -n /tmp/collect.lock true || echo held", check=False) == "held")
    done = subprocess.run(
        ["docker", "exec", "-i", running.container, "registry-collect"], input="{}", capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "is being cleaned already" in done.stderr


def test_a_push_goes_on_through_a_cleaning_or_says_what_to_do(running: Running, small: Any) -> None:
    images = [small(f"{number:012x}", 3 << 20) for number in range(6)]
    outcome: dict[str, Any] = {}
    thread = threading.Thread(target=lambda: outcome.update(pushed=push(running.client, images, lambda line: None)))
    thread.start()
    running.collect([], fresh_seconds=3600)
    thread.join(120)
    for reason in outcome["pushed"].failed.values():
        assert "run again" in reason, reason
    # Whatever was cut off can be pushed again, and nothing is broken.
    assert push(running.client, absent(running.client, images), lambda line: None).failed == {}
    for image in images:
        docker("rmi", "--force", image["ref"], image["remote"])
        running.client.pull(image["remote"], image["ref"])


def asked(running: Running, small: Any) -> list[str]:
    """What is said at each use of a registry with which something is wrong."""
    image = small("eeeeeeeeeeee")
    client = running.client
    found = [running.access.prove(1)]
    for use in (
        lambda: client.digest(image["remote"]),
        lambda: client.push(image["ref"], image["remote"]),
        lambda: client.pull(image["remote"], image["ref"]),
    ):
        with pytest.raises(RegistryError) as caught:
            use()
        found.append(str(caught.value))
    return found


def test_an_engine_that_does_not_trust_it(running: Running, small: Any) -> None:
    shutil.rmtree(Path(_access.CERTIFICATES) / HOST)
    for said in asked(running, small):
        assert "this engine does not trust the registry's certificate; run playbooks/images.yml" in said
    assert running.access.give()
    assert running.access.prove(1) == ""


def test_a_wrong_password(running: Running, small: Any) -> None:
    wrong = replace(running.access, password="wrong")
    assert wrong.give() == [f"{running.docker_config}/config.json"]
    said = asked(running, small)
    # The engine was given the right one again only for the first.
    assert said[0] == ""
    assert "the registry refuses these credentials; run playbooks/images.yml" in wrong.prove(1)
    for line in said[1:]:
        assert "the registry refuses these credentials; run playbooks/images.yml" in line


def test_a_registry_out_of_reach(running: Running, small: Any) -> None:
    docker("stop", NAME)
    for said in asked(running, small):
        assert "the registry cannot be reached; look at it (docker service ps" in said


def test_a_name_that_the_node_does_not_know(running: Running, small: Any) -> None:
    replace(running.access, docker_config="", host="elsewhere:1").take()
    until(lambda: "no such host" in running.access.prove(0), 30)  # the engine looks at /etc/hosts every few seconds
    for said in asked(running, small):
        assert "the registry's name is not known there; run playbooks/images.yml" in said


def test_a_certificate_out_of_its_time(running: Running, small: Any) -> None:
    other = _pem.new_certificate(running.authority, [NAME], -0.02)
    path = running.secrets / fleets.CERTIFICATE
    path.write_text(other, "utf-8")
    docker("restart", NAME)
    until(running.serves)
    running.access.give()  # its address may be another
    for said in asked(running, small):
        assert "the registry's certificate is out of its time; run playbooks/images.yml, which renews" in said


def test_a_full_disk(image: str, tmp_path: Path, small: Any) -> None:
    # A disk of its own; a container's tmpfs would be root's alone, as the image's directory is.
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=1777", "tmpfs", disk], check=True)
    made = start(image, tmp_path, _pem.new_authority("test", 60), f"--mount=type=bind,source={disk},target={fleets.DATA}")
    try:
        until(made.serves)
        made.access.give()
        assert made.access.prove(30) == ""
        large = small("ffffffffffff", 6 << 20)
        with pytest.raises(RegistryError, match=r"the registry has failed; look at its log|the disk is full") as caught:
            made.client.push(large["ref"], large["remote"])
        assert "playbooks/prune.yml" in str(caught.value)
        assert "no space left on device" in docker("logs", NAME) + subprocess.run(
            ["docker", "logs", NAME], capture_output=True, text=True, check=True
        ).stderr
        # Room is made by cleaning, without a person in the container.
        assert made.collect([])["kept"] == 0
        little = small("abcdefabcdef")
        made.client.push(little["ref"], little["remote"])
    finally:
        made.access.take()
        docker("rm", "--force", "--volumes", NAME)
        subprocess.run(["umount", disk], check=True)


def test_access_is_given_once_and_taken_whole(running: Running) -> None:
    access = running.access
    assert access.give() == []
    assert (running.docker_config / "config.json").stat().st_mode & 0o777 == 0o600
    assert running.docker_config.stat().st_mode & 0o777 == 0o700
    assert set(access.take()) == {str(Path(_access.CERTIFICATES) / HOST), str(running.docker_config), _access.HOSTS}
    assert access.take() == []
    assert NAME not in Path(_access.HOSTS).read_text()
    assert set(access.give(check=True)) and not running.docker_config.exists()
    assert access.give()


def test_its_password_is_in_no_process_and_no_log(running: Running) -> None:
    table = docker("top", running.container, "-eo", "pid,args")
    logs = subprocess.run(["docker", "logs", NAME], capture_output=True, text=True, check=True)
    seen = table + logs.stdout + logs.stderr + json.dumps(json.loads(docker("inspect", NAME)))
    assert "correct horse" not in seen
