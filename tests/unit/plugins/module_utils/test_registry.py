# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of images, what registries say, what is pushed, and what a node is given."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils import _access, _registry
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._access import Access
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.push import absent, push
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import RegistryError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.modules import registry_access, registry_prune
from ansible_collections.sophia_ai.mcp_swarm.plugins.modules.registry_node import address, choose
from ansible_collections.sophia_ai.mcp_swarm.plugins.modules.registry_prune import registry_names

DIGEST = "sha256:" + "1" * 64
OURS = "r:5000/team/mcp-swarm/time:0123456789ab"


@pytest.mark.parametrize(
    ("image", "parts", "host", "own"),
    [
        (f"{OURS}@{DIGEST}", ("r:5000/team/mcp-swarm/time", "0123456789ab", DIGEST), "r:5000", "mcp-swarm/time:0123456789ab"),
        ("mcp-swarm/time:0123456789ab", ("mcp-swarm/time", "0123456789ab", ""), "", "mcp-swarm/time:0123456789ab"),
        (f"r:5000/x@{DIGEST}", ("r:5000/x", "", DIGEST), "r:5000", ""),
        ("ghcr.io/not-mcp-swarm/time:0123456789ab", ("ghcr.io/not-mcp-swarm/time", "0123456789ab", ""), "ghcr.io", ""),
        ("library/x", ("library/x", "", ""), "", ""),
        ("localhost/x:1", ("localhost/x", "1", ""), "localhost", ""),
    ],
)  # fmt: skip
def test_names(image: str, parts: tuple[str, str, str], host: str, own: str) -> None:
    assert (_registry.parts(image), _registry.host_of(image), _registry.own_name(image)) == (parts, host, own)


# As engines and registries say it; tests/registry has most of it from real ones.
SAID = [
    ('Get "https://r:5000/v2/": x509: certificate signed by unknown authority', "this engine does not trust the registry's certificate"),
    ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "this engine does not trust"),
    ("x509: certificate has expired or is not yet valid: current time 2026-01-01", "the registry's certificate is out of its time"),
    ("x509: certificate is valid for a, not b", "the registry's certificate is for another name"),
    ("unauthorized: authentication required", "the registry refuses these credentials"),
    ("login attempt to https://r:5000/v2/ failed with status: 401 Unauthorized", "the registry refuses these credentials"),
    ("no basic auth credentials", "the registry refuses these credentials"),
    ("dial tcp: lookup mcp-registry on 127.0.0.53:53: no such host", "the registry's name is not known there"),
    ("dial tcp 10.0.0.1:5000: connect: connection refused", "the registry cannot be reached"),
    ("net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)", "the registry cannot be reached"),
    ("write /var/lib/docker/tmp/GetImageBlob1: no space left on device", "the disk is full"),
    ("received unexpected HTTP status: 500 Internal Server Error", "the registry has failed; look at its log"),
    ("error parsing HTTP 405 response body: unexpected end of JSON input", "the registry is being cleaned and takes nothing"),
    ("manifest for r:5000/x:1 not found: manifest unknown: manifest unknown", "the image is not there"),
    ("something new", "it failed: something new"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "cause"), SAID)
def test_each_cause_has_its_next_step(said: str, cause: str) -> None:
    told = _registry.explain(said)
    assert told.startswith(cause)
    assert said in told
    assert any(step in told for step in ("run ", "correct ", "free space ", "look at ", "it failed"))


def test_every_cause_is_tried() -> None:
    told = [_registry.explain(said) for said, dummy in SAID]
    assert not [cause for dummy, cause, step in _registry.CAUSES if not any(t.startswith(f"{cause}; {step}") for t in told)]


class Shop:
    """A registry that has some images and refuses one."""

    def __init__(self, has: set[str], refused: str = "") -> None:
        self.has, self.refused = has, refused

    def digest(self, image: str) -> str:
        return DIGEST if image in self.has else ""

    def push(self, local: str, remote: str) -> None:
        if remote == self.refused:
            raise RegistryError(f"{remote}: no")
        self.has.add(remote)


def image(name: str) -> dict[str, Any]:
    return {"name": name, "ref": f"mcp-swarm/{name}:1", "remote": f"r:5000/mcp-swarm/{name}:1"}


def test_only_what_is_absent_is_pushed_and_a_failure_stops_nobody() -> None:
    a, b, c = image("a"), image("b"), image("c")
    shop, lines = Shop({a["remote"]}, refused=b["remote"]), []
    missing = absent(shop, [a, b, c])
    assert missing == [b, c]
    pushed = push(shop, missing, lines.append)
    assert list(pushed.sent) == [c["remote"]]
    assert pushed.failed == {b["remote"]: f"{b['remote']}: no"}
    assert absent(shop, [a, c]) == []
    assert f"FAILED {b['remote']}" in lines
    assert next(line for line in lines if "pushed" in line).split("] ")[1].startswith(f"pushed {c['remote']} in")


def test_credentials_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="this node has not been given the registry's credentials since it started; run playbooks/images.yml"):
        _registry.credentials_file(str(tmp_path))


@pytest.fixture
def access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Access:
    monkeypatch.setattr(_access, "CERTIFICATES", str(tmp_path / "certs.d"))
    monkeypatch.setattr(_access, "HOSTS", str(tmp_path / "hosts"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "hosts").write_text("127.0.0.1 localhost\n10.0.0.7 old mcp-registry2")
    return Access("mcp-registry:5000", "PEM\n", "mcp-registry", "10.0.0.1", "mcp", "s3cret", str(tmp_path / "run" / "mcp"))


def test_a_node_is_given_name_trust_and_credentials_once(access: Access, tmp_path: Path) -> None:
    assert len(access.give(check=True)) == 3
    assert not (tmp_path / "certs.d").exists()
    assert len(access.give()) == 3
    assert access.give() == []
    assert (tmp_path / "certs.d/mcp-registry:5000/ca.crt").read_text() == "PEM\n"
    hosts = "127.0.0.1 localhost\n10.0.0.7 old mcp-registry2\n"
    assert (tmp_path / "hosts").read_text() == f"{hosts}10.0.0.1 mcp-registry # MCP Swarm: registry mcp-registry\n"
    config = tmp_path / "run/mcp/config.json"
    assert json.loads(config.read_text()) == {"auths": {"mcp-registry:5000": {"auth": base64.b64encode(b"mcp:s3cret").decode()}}}
    assert config.stat().st_mode & 0o777 == 0o600
    assert config.parent.stat().st_mode & 0o777 == 0o700
    # Somebody made it readable: that is put right.
    config.chmod(0o644)
    assert access.give() == [str(config)]
    assert config.stat().st_mode & 0o777 == 0o600


def test_a_registry_that_moved_is_found_at_its_new_place(access: Access, tmp_path: Path) -> None:
    access.give()
    assert replace(access, address="10.0.0.2").give() == [str(tmp_path / "hosts")]
    lines = (tmp_path / "hosts").read_text().splitlines()
    assert [line for line in lines if "MCP Swarm" in line] == ["10.0.0.2 mcp-registry # MCP Swarm: registry mcp-registry"]


def test_what_was_given_is_taken_and_nothing_else(access: Access, tmp_path: Path) -> None:
    before = (tmp_path / "hosts").read_text() + "\n"
    access.give()
    (tmp_path / "certs.d/other").mkdir()
    assert len(access.take(check=True)) == 3
    assert len(access.take()) == 3
    assert access.take() == []
    assert (tmp_path / "hosts").read_text() == before
    assert [path.name for path in (tmp_path / "certs.d").iterdir()] == ["other"]


@pytest.mark.parametrize("extra", [{}, {"credsStore": "pass"}, {"credHelpers": {"gcr.io": "gcloud"}}])
def test_the_user_s_credentials_for_others_are_kept(access: Access, tmp_path: Path, extra: dict[str, Any]) -> None:
    (tmp_path / "home/.docker").mkdir(parents=True)
    mine = {"auths": {"ghcr.io": {"auth": "x"}}, "HttpHeaders": {"a": "b"}, **extra}
    (tmp_path / "home/.docker/config.json").write_text(json.dumps(mine))
    access.give()
    config = json.loads((tmp_path / "run/mcp/config.json").read_text())
    assert set(config["auths"]) == {"ghcr.io", "mcp-registry:5000"}
    assert config.get("credsStore") == extra.get("credsStore")
    # A store for all is not asked for this one.
    assert config.get("credHelpers", {}) == ({"mcp-registry:5000": ""} if "credsStore" in extra else extra.get("credHelpers", {}))


def node(identity: str, *, label: bool = False, manager: str = "", address: str = "10.0.0.9") -> dict[str, Any]:
    return {
        "ID": identity,
        "Spec": {"Labels": {"r": "true"} if label else {}},
        "Status": {"Addr": address},
        **({"ManagerStatus": {"Addr": manager}} if manager else {}),
    }


def test_it_stays_where_it_is_until_it_is_moved() -> None:
    nodes = [node("a"), node("b", label=True), node("c")]
    assert choose(nodes, "r", "", "a")["ID"] == "b"
    assert choose(nodes, "r", "c", "a")["ID"] == "c"
    assert choose([node("a"), node("c")], "r", "", "a")["ID"] == "a"
    with pytest.raises(SwarmError, match=r"mcp_fleet\.registry\.node: its node d is not in this Swarm"):
        choose(nodes, "r", "d", "a")


def test_where_other_nodes_reach_it() -> None:
    assert address(node("a", manager="10.0.0.1:2377", address="0.0.0.0")) == "10.0.0.1"
    assert address(node("a", manager="[2001:db8::1]:2377")) == "2001:db8::1"
    assert address(node("a")) == "10.0.0.9"


def test_what_the_registry_is_told_to_keep() -> None:
    keep = [f"{OURS}@{DIGEST}", "mcp-swarm/os:aaaaaaaaaaaa", "ghcr.io/x/y:1"]
    assert registry_names(keep) == ["mcp-swarm/os:aaaaaaaaaaaa", "mcp-swarm/time:0123456789ab", f"mcp-swarm/time@{DIGEST}"]


class Ended(Exception):
    """A module ended; its result."""


def run(module: Any, monkeypatch: pytest.MonkeyPatch, **params: Any) -> dict[str, Any]:
    """A module's result, from its options."""

    class Module:
        check_mode = False

        def __init__(self, argument_spec: dict[str, Any], **dummy: Any) -> None:
            self.params = {name: option.get("default") for name, option in argument_spec.items()} | params

        def exit_json(self, **result: Any) -> None:
            raise Ended(result)

        def fail_json(self, **result: Any) -> None:
            raise Ended({"failed": True, **result})

    monkeypatch.setattr(module, "AnsibleModule", Module)
    with pytest.raises(Ended) as ended:
        module.main()
    return dict(ended.value.args[0])


def test_a_node_where_nothing_can_be_written(access: Access, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "certs.d").write_text("in the way")
    told = run(registry_access, monkeypatch, host=access.host, authority="PEM")
    assert told["failed"]
    assert told["msg"].endswith(": Not a directory; this needs root, and room on the disk")


def test_access_that_cannot_be_proved_is_told_after_it_was_given(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_access.Access, "prove", lambda self, seconds: f"registry {self.host}: {seconds}")
    told = run(registry_access, monkeypatch, host=access.host, authority="PEM", username="u", prove=True, timeout=5)
    assert (told["failed"], told["msg"], len(told["files"])) == (True, "registry mcp-registry:5000: 5", 1)
    told = run(registry_access, monkeypatch, host=access.host, authority="PEM")
    assert (told.get("failed"), told["changed"]) == (None, False)


def test_a_cleaning_that_failed_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    here = type("Api", (), {"containers": lambda self, filters: [{"Id": "c"}]})()
    monkeypatch.setattr(registry_prune, "Registry", lambda dummy: type("R", (), {"api": here})())
    monkeypatch.setattr(registry_prune, "run", lambda *dummy, **more: (1, "the registry answered 500\n"))
    told = run(registry_prune, monkeypatch, name="mcp-registry", keep=[])
    assert told["msg"] == "the registry could not be cleaned: the registry answered 500"


def test_a_node_without_the_registry_has_nothing_to_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = type("Api", (), {"containers": lambda self, filters: []})()
    monkeypatch.setattr(registry_prune, "Registry", lambda dummy: type("R", (), {"api": elsewhere})())
    assert run(registry_prune, monkeypatch, name="mcp-registry", keep=[])["changed"] is False


def test_the_operator_finds_each_cause_in_the_documents() -> None:
    text = (Path(__file__).resolve().parents[4] / "docs" / "operations.md").read_text("utf-8")
    assert not [cause for dummy, cause, step in _registry.CAUSES if f"`{cause}`" not in text]
