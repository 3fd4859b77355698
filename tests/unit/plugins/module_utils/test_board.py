# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The board's service: made from the gateway's, changed by version, gone when it says nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError, NotFound

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import board
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError

Json = dict[str, Any]
KEY = {"SecretID": "k1", "SecretName": "f_gateway_session_key_1", "File": {"Name": "gateway_session_key"}}


def gateway(image: str = "gw:1") -> Json:
    container = {
        "Image": image,
        "Secrets": [{"SecretID": "a1", "File": {"Name": "gateway_api_key"}}, KEY],
        "Configs": [{"ConfigID": "c0"}],
        "CapabilityDrop": ["ALL"],
    }
    task = {"ContainerSpec": container, "Networks": [{"Target": "edge"}, {"Target": "backend"}], "ForceUpdate": 3}
    return {"ID": "gw", "Spec": {"Name": "f_gateway", "TaskTemplate": task}}


class Engine:
    """Services, configs and tasks as a manager keeps them: an update names the version that it changes."""

    def __init__(self) -> None:
        self.there: dict[str, Json] = {"gw": gateway()}
        self.configs: dict[str, Json] = {}
        self.count = 0
        self.before_update: Callable[[], None] = lambda: None
        self.comes_up = True
        self.api = self
        self.node_id = "n"

    def services(self, stack: str = "", filters: Json | None = None) -> Any:
        if stack:
            return {"f_gateway": self.there["gw"]} if "gw" in self.there else {}
        assert filters is not None
        return [service for service in self.there.values() if service["Spec"]["Name"].startswith(filters["name"])]

    def networks(self, names: list[str]) -> list[Json]:
        return [{"Name": f"{names[0]}_other", "Id": "wrong"}, {"Name": names[0], "Id": "backend"}]

    def create_config(self, name: str, data: bytes, labels: Json) -> Json:
        self.count += 1
        spec = {"Name": name, "Labels": labels, "Data": base64.b64encode(data).decode()}
        self.configs[f"c{self.count}"] = {"ID": f"c{self.count}", "Spec": spec}
        return {"ID": f"c{self.count}"}

    def inspect_config(self, identity: str) -> Json:
        if identity not in self.configs:
            raise NotFound(f"config {identity} not found")
        return self.configs[identity]

    def remove_config(self, identity: str) -> None:
        self.inspect_config(identity)
        del self.configs[identity]

    def records(self, dummy: str, kind: str) -> list[Json]:
        assert kind == "board"
        return list(self.configs.values())

    def _url(self, path: str, *parts: str) -> str:
        return path.format(*parts)

    def _post_json(self, url: str, data: Json, params: Json | None = None) -> Any:
        self.before_update, hook = (lambda: None), self.before_update
        hook()
        if data["TaskTemplate"]["ContainerSpec"]["Configs"][0]["ConfigID"] not in self.configs:
            return SimpleNamespace(ok=False, status_code=400, text="config not found")
        if url == "/services/create":
            if "board" in self.there:
                return SimpleNamespace(ok=False, status_code=409, text="name conflicts")
            self.there["board"] = {"ID": "board", "Spec": data, "Version": {"Index": 1}}
            return SimpleNamespace(ok=True)
        service = self.there["board"]
        if params != {"version": service["Version"]["Index"]}:
            return SimpleNamespace(ok=False, status_code=500, text="update out of sequence")
        self.there["board"] = {**service, "Spec": data, "Version": {"Index": service["Version"]["Index"] + 1}}
        return SimpleNamespace(ok=True)

    def tasks(self, dummy: str) -> list[Json]:
        spec = self.there["board"]["Spec"]["TaskTemplate"]
        state = "running" if self.comes_up else "failed"
        return [{"ID": f"t{n}" * 6, "Spec": spec, "Status": {"State": state}} for n in range(1 if self.comes_up else 3)]

    def node_name(self, dummy: str) -> str:
        return "here"

    def remove_service(self, identity: str) -> None:
        del self.there[identity]


@pytest.fixture
def engine() -> Any:
    return Engine()


def closed(document: Json) -> Json:
    return {**document, "maintenance": {"*": {"why": "w"}}}


def with_canary(document: Json) -> Json:
    return {**document, "canaries": {"a": {"share": 0}}}


def test_it_is_the_gateways_service_with_another_program(engine: Any) -> None:
    told = board.post(engine, "f", closed)
    assert board.read(engine, "f") == told
    spec = engine.there["board"]["Spec"]
    container = spec["TaskTemplate"]["ContainerSpec"]
    assert (container["Image"], container["Args"][0], container["CapabilityDrop"]) == ("gw:1", "board", ["ALL"])
    assert container["Secrets"] == [KEY]  # no key of clients
    assert spec["TaskTemplate"]["Networks"] == [{"Target": "backend"}]
    assert "com.docker.stack.namespace" not in spec["Labels"]
    assert engine.there["gw"] == gateway()


def test_two_who_change_it_at_the_same_time_both_get_their_way(engine: Any) -> None:
    engine.before_update = lambda: board.post(engine, "f", closed)
    first = board.post(engine, "f", with_canary)
    assert sorted(first) == ["canaries", "maintenance", "number"]
    engine.before_update = lambda: board.post(engine, "f", lambda document: {**document, "maintenance": {}})
    again = board.post(engine, "f", lambda document: {**document, "canaries": {"b": {}}})
    assert (again.get("maintenance"), list(again["canaries"])) == (None, ["b"])
    assert again["number"] > first["number"]
    assert [json.loads(base64.b64decode(c["Spec"]["Data"])) for c in engine.configs.values()] == [again]


def test_what_it_says_already_is_not_said_again(engine: Any) -> None:
    assert board.post(engine, "f", closed) == board.post(engine, "f", closed)
    assert engine.there["board"]["Version"]["Index"] == 1


def test_it_goes_when_it_says_nothing_that_lasts(engine: Any) -> None:
    board.post(engine, "f", lambda document: with_canary(closed(document)))
    assert not board.take_down(engine, "f")
    board.post(engine, "f", lambda document: {**document, "maintenance": {}})
    assert board.take_down(engine, "f")
    assert (list(engine.there), engine.configs, board.read(engine, "f")) == (["gw"], {}, {})
    assert not board.take_down(engine, "f")


def test_it_follows_the_gateways_image(engine: Any) -> None:
    board.refresh(engine, "f")
    assert list(engine.there) == ["gw"]
    told = board.post(engine, "f", closed)
    engine.there["gw"] = gateway("gw:2")
    board.refresh(engine, "f")
    assert engine.there["board"]["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] == "gw:2"
    assert board.read(engine, "f") == told
    board.refresh(engine, "f")
    assert engine.there["board"]["Version"]["Index"] == 2


def test_without_a_gateway_nobody_can_be_told(engine: Any) -> None:
    del engine.there["gw"]
    with pytest.raises(SwarmError, match="f runs no gateway, so nobody can be told anything; deploy the fleet first"):
        board.post(engine, "f", closed)


def test_what_the_gateway_must_have(engine: Any) -> None:
    engine.there["gw"]["Spec"]["TaskTemplate"]["ContainerSpec"]["Secrets"].pop()
    with pytest.raises(SwarmError, match="f_gateway has no secret gateway_session_key; deploy the fleet first"):
        board.post(engine, "f", closed)


def test_what_the_engine_refuses(engine: Any) -> None:
    refusal = SimpleNamespace(ok=False, status_code=400, text="bad")

    def refuse(*dummy: Any, **options: Any) -> Any:
        return refusal

    def complain(answer: Any) -> None:
        raise APIError("400", explanation="invalid mount config")

    engine._post_json, engine._raise_for_status = refuse, complain
    with pytest.raises(SwarmError, match="f_gateway_board: the engine refused it: invalid mount config"):
        board.post(engine, "f", closed)


def test_somebody_who_never_stops(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board.time, "sleep", lambda dummy: None)
    monkeypatch.setattr(board, "_apply", lambda *dummy: False)
    with pytest.raises(SwarmError, match="f_gateway_board is changed all the time by somebody else; run again when"):
        board.post(engine, "f", closed)


def test_one_that_does_not_come_up_is_told_as_any_service(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.comes_up = False
    monkeypatch.setattr(
        "ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.convergence.docker_command",
        lambda *dummy: (0, "last words"),
    )
    with pytest.raises(SwarmError, match=r"service f_gateway_board: it does not come up\n(.*\n)*.*last words"):
        board.post(engine, "f", closed)
