# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is left behind and what is not: a first deploy that fails, a fleet from before releases, pruning."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from calls import Calls
from commands import until
from conftest import Node, rows

NAME = "first"
FILE = "/etc/mcp-swarm/first.yml"
OURS = "ai.sophia.mcp.fleet=mcp"
OLD = "mcp-swarm/time:bbbbbbbbbbbb"


@pytest.fixture
def stack(node: Node) -> Iterator[dict[str, Any]]:
    """A stack of its own beside the fleet: one service, of an image that the node has; removed at the end."""
    image = node.info()["current"]["images"]["time"]
    service = {
        "image": image,
        "entrypoint": ["/bin/sleep", "3600"],
        "healthcheck": {"test": ["CMD", "true"], "interval": "1s"},
        "stop_grace_period": "1s",
        "labels": {"ai.sophia.mcp.fleet": NAME},
        "deploy": {"restart_policy": {"condition": "any", "delay": "1s"}},
    }
    yield {"version": "3.8", "services": {"web": service}}
    code, output = node.deploy(**{**options({}), "state": "absent"})
    assert code == 0, output


def options(document: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": NAME, "stack": document, "stack_file": FILE, "verify": False, **more}


def releases(node: Node) -> list[str]:
    return node.sh(f"docker config ls --quiet --filter label=ai.sophia.mcp.fleet={NAME}").split()


def test_a_first_deploy_that_fails_leaves_nothing(node: Node, calls: Calls, stack: dict[str, Any]) -> None:
    broken = {**stack["services"]["web"], "entrypoint": ["/bin/sh", "-c", "echo last words; exit 7"]}
    code, output = node.deploy(**options({**stack, "services": {"web": broken}}))
    assert code != 0
    assert "exit code 7" in output and "last words" in output
    assert "Serving now: nothing. No release ran before, so what this one started was removed." in output
    assert not [name for name in node.services() if name.startswith(NAME)]
    assert len(releases(node)) == 1  # the record of the failure, and no lock
    code, output = node.deploy(**options(stack))
    assert code == 0, output
    assert node.services()[f"{NAME}_web"] == "1/1"
    rows.append(("first deploy", "exit code 7", "Serving now: nothing.", f"{calls.sent} sent, {len(calls.failed)} lost"))
    assert not calls.failed


def test_a_fleet_from_before_there_were_releases(node: Node, stack: dict[str, Any]) -> None:
    head = "# as it was written then\n"
    node.sh(f"cat >{FILE} <<'END'\n{head}{json.dumps(stack)}\nEND\ndocker stack deploy --detach=true -c {FILE} {NAME}")
    until("it runs", lambda: node.services().get(f"{NAME}_web") == "1/1")
    web = f"docker service ps --quiet {NAME}_web"
    before = node.sh(web)
    code, output = node.deploy(**options(stack))
    assert code == 0, output
    assert "changed=0" in output
    assert node.sh(web) == before
    assert len(releases(node)) == 1
    broken = {**stack["services"]["web"], "entrypoint": ["/bin/sh", "-c", "exit 7"]}
    code, output = node.deploy(**options({**stack, "services": {"web": broken}}))
    assert code != 0
    assert "Serving now: release 1 of" in output
    assert node.services()[f"{NAME}_web"] == "1/1"


def test_a_first_deploy_that_fails_leaves_what_ran_without_a_record(node: Node, stack: dict[str, Any]) -> None:
    """Somebody's own stack, with its file elsewhere; what the first release adds to it does not come up."""
    text = json.dumps(stack)
    node.sh(f"cat >/root/own.yml <<'END'\n{text}\nEND\ndocker stack deploy --detach=true -c /root/own.yml {NAME}; rm {FILE}*", check=False)
    until("it runs", lambda: node.services().get(f"{NAME}_web") == "1/1")
    web = stack["services"]["web"]
    before = node.sh(f"docker service ps --quiet {NAME}_web")
    two = {"web": web, "api": {**web, "entrypoint": ["/bin/sh", "-c", "exit 7"]}}
    code, output = node.deploy(**options({**stack, "services": two}))
    assert code != 0
    assert f"Serving now: what Swarm kept of {NAME}_web: 1 of 1 services run." in output
    assert {name: up for name, up in node.services().items() if name.startswith(NAME)} == {f"{NAME}_web": "1/1"}
    assert node.sh(f"docker service ps --quiet {NAME}_web") == before


def test_a_value_with_a_dollar_is_no_variable(node: Node, stack: dict[str, Any]) -> None:
    values = {"DATABASE_URL": "postgres://app:pa$word@db/x", "PATTERN": "^/srv/.*$", "HOME_OF": "${HOME} $HOME $$"}
    web = {**stack["services"]["web"], "environment": values}
    code, output = node.deploy(**options({**stack, "services": {"web": web}}))
    assert code == 0, output
    has = json.loads(node.sh(f"docker service inspect {NAME}_web --format '{{{{json .Spec.TaskTemplate.ContainerSpec.Env}}}}'"))
    assert sorted(has) == sorted(f"{name}={value}" for name, value in values.items())


def test_pruning_takes_what_nobody_needs(node: Node, calls: Calls) -> None:
    image = node.info()["current"]["images"]["time"]
    made = [
        f"echo x | docker secret create --label {OURS} mcp_stray -",
        f"echo x | docker config create --label {OURS} mcp_stray_too -",
        "echo x | docker secret create stranger -",
        f"docker network create --driver overlay --label {OURS} mcp_stray_net",
        f"docker volume create --label {OURS} mcp_stray_data",
        f"docker tag {image} {OLD}",
    ]
    node.sh(" && ".join(made))
    before = node.info()
    deployed = [release for release in before["releases"] if release["outcome"] == "deployed"]
    kept = {image for release in deployed for image in release["images"].values()} & images(node)
    assert image in kept
    try:
        code, told = node.play("playbooks/prune.yml", prune_older_than=3600)
        assert code == 0, told
        assert "mcp_stray" in node.objects(), "what is young is spared"
        assert OLD in images(node), "an old image with a new name is young"
        code, output = node.play("playbooks/prune.yml", prune_older_than=0)
        assert code == 0, output
        for name in ("mcp_stray", "mcp_stray_too", "mcp_stray_net", "mcp_stray_data", OLD):
            assert f"- {name}" in output
        assert not {"mcp_stray", "mcp_stray_too"} & node.objects()
        assert "mcp_stray_net" not in node.sh("docker network ls --format '{{.Name}}'")
        assert OLD not in images(node)
        assert kept <= images(node), "what a kept release names stays"
        assert {"stranger", "mcp_stray_data"} <= {*node.objects(), *node.sh("docker volume ls --quiet").split()}
        code, output = node.play("playbooks/prune.yml", prune_older_than=0)
        assert code == 0, output
        assert "changed=0" in output
    finally:
        node.sh("docker secret rm stranger; docker volume rm mcp_stray_data", check=False)
    after = node.info()
    assert (after["services"], after["drift"], after["lock"]) == (before["services"], [], "")
    assert after["current"] == before["current"]
    assert not calls.failed


def images(node: Node) -> set[str]:
    """All that the node has, by name."""
    return {line for line in node.sh("docker images --format '{{.Repository}}:{{.Tag}}'").split() if "<none>" not in line}
