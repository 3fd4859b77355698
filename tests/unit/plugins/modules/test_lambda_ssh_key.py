# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Public keys against a double of Lambda Cloud."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.modules import lambda_ssh_key

MINE = "ssh-ed25519 AAAAC3mine me@here"
OTHER = "ssh-ed25519 AAAAC3other me@here"


@pytest.fixture
def key(run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    return lambda **params: run_module(lambda_ssh_key, **{"name": "mine", **params})


def stored(cloud: Any) -> dict[str, str]:
    return {one["name"]: one["public_key"] for one in cloud.keys.values() if one["name"] != "operations"}


def test_it_is_stored_once(cloud: Any, key: Any) -> None:
    assert key(public_key=MINE, check=True)["changed"]
    assert stored(cloud) == {}
    assert key(public_key=MINE + "\n")["changed"]
    assert stored(cloud) == {"mine": MINE}
    assert not key(public_key=MINE.replace("me@here", "me@elsewhere"))["changed"], "a comment is no other key"


def test_another_key_of_the_name_is_replaced_only_where_that_is_said(cloud: Any, key: Any) -> None:
    key(public_key=MINE)
    refused = key(public_key=OTHER)
    assert refused["failed"]
    assert "is the name of another key; choose another name, or set replace: true" in refused["msg"]
    assert stored(cloud) == {"mine": MINE}
    done = key(public_key=OTHER, replace=True)
    assert done["changed"]
    assert (done["diff"]["before"]["public_key"], done["diff"]["after"]["public_key"]) == (MINE, OTHER)
    assert stored(cloud) == {"mine": OTHER}


def test_a_replacement_that_fails_leaves_the_key_that_was(cloud: Any, key: Any) -> None:
    key(public_key=MINE)
    cloud.fault(path="/ssh-keys", method="POST", status=400, code="global/invalid-parameters", message="No.")
    assert key(public_key=OTHER, replace=True)["failed"]
    assert stored(cloud) == {"mine": MINE}


def test_it_is_removed_once(cloud: Any, key: Any) -> None:
    key(public_key=MINE)
    assert key(state="absent", check=True)["changed"]
    assert stored(cloud) == {"mine": MINE}
    assert key(state="absent")["changed"]
    assert stored(cloud) == {}
    assert not key(state="absent")["changed"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", "this is a private key, which stays where it is"),
        ("AAAAC3mine", "no public key as OpenSSH writes them"),
        ("ssh-ed25519 mine", "no public key as OpenSSH writes them"),
        ("ssh-rsa AAAA" + "x" * 4096, "public_key: has 4108 characters; 4096 at most are possible"),
    ],
)
def test_what_is_no_public_key_is_sent_nowhere(cloud: Any, key: Any, text: str, said: str) -> None:
    refused = key(public_key=text)
    assert refused["failed"]
    assert said in refused["msg"]
    assert cloud.requests == []


def test_two_of_one_name_are_said(cloud: Any, key: Any) -> None:
    for number in "12":
        cloud.keys[number] = {"id": number, "name": "mine", "public_key": MINE}
    assert "2 keys are called so: 1, 2" in key(public_key=MINE)["msg"]
