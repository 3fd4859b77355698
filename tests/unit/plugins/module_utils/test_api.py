# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's API by plain HTTP and by the SDK: the same questions, answers and errors, over a real socket."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import docker
import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import client
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Api, NoManager, Swarm, SwarmError

LABELS = {"label": ["a=b", "c=d"]}
INFO = {"Name": "here", "Swarm": {"ControlAvailable": True, "NodeID": "node"}}


class Engine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers each path from a table, and remembers what was asked."""

    daemon_threads = True

    def __init__(self, path: str) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, tuple[int, Any]] = {"/version": (200, {"ApiVersion": "1.45"}), "/info": (200, INFO)}
        super().__init__(path, Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Engine
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = {key: value[0] for key, value in parse_qs(parts.query).items()}
        if "filters" in query:
            query["filters"] = json.loads(query["filters"])
        path = parts.path.removeprefix("/v1.45")
        self.server.asked.append((path, query))
        status, value = self.server.answers.get(path, (200, [{"of": path}]))
        data = json.dumps(value).encode()
        self.send_response_only(status)
        self.send_header("Api-Version", "1.45")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *dummy: Any) -> None:
        """Nothing."""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    path = str(tmp_path / "docker.sock")
    monkeypatch.setattr(client, "SOCKET", path)
    made = Engine(path)
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("info", {}),
        ("services", {}),
        ("services", {"filters": {"label": "a=b"}, "status": True}),
        ("tasks", {"filters": {"service": "time"}}),
        ("configs", {"filters": LABELS}),
        ("secrets", {"filters": LABELS}),
        ("networks", {"filters": {"label": "a=b"}}),
    ],
)
def test_the_sdk_would_have_asked_and_answered_the_same(engine: Engine, name: str, arguments: dict[str, Any]) -> None:
    plain = getattr(Api(), name)(**arguments)
    mine = engine.asked[-1]
    sdk = getattr(docker.APIClient(f"unix://{client.SOCKET}", "1.45"), name)(**arguments)
    assert (mine, plain) == (engine.asked[-1], sdk)


def test_lists_alone_do_without_the_sdk(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "APIClient", lambda *dummy: pytest.fail("the SDK was used"))
    api = Api()
    assert api.images() == [{"of": "/images/json"}]
    assert api.secrets() == [{"of": "/secrets"}]
    # The version is asked for once.
    assert [path for path, dummy in engine.asked] == ["/_ping", "/images/json", "/secrets"]


def test_an_error_is_the_sdk_s(engine: Engine) -> None:
    engine.answers["/services"] = (503, {"message": "the swarm does not have a leader"})
    with pytest.raises(docker.errors.APIError, match="does not have a leader") as raised:
        Api().services()
    assert client.away(raised.value)


def test_an_engine_that_is_away_is_waited_for(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    swarm, there = Swarm(), client.SOCKET
    monkeypatch.setattr(client, "SOCKET", f"{there}.gone")
    monkeypatch.setattr(client.time, "sleep", lambda dummy: monkeypatch.setattr(client, "SOCKET", there))
    engine.answers["/services"] = (200, [{"Spec": {"Name": "mcp_time"}}])
    assert list(swarm.services("mcp")) == ["mcp_time"]
    monkeypatch.setattr(client, "SOCKET", f"{there}.gone")
    with pytest.raises(SwarmError, match="the Docker engine has not answered for 0 s: .* start it"):
        client.patiently(swarm.api.services, 0)


def test_what_is_no_manager_says_so(engine: Engine) -> None:
    engine.answers["/info"] = (200, {"Name": "here", "Swarm": {"ControlAvailable": False}})
    with pytest.raises(NoManager, match="here is no Swarm manager; run the provision playbook first"):
        Swarm()


def test_no_engine_and_no_sdk_are_said_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "SOCKET", str(tmp_path / "none"))
    with pytest.raises(SwarmError, match="the Docker engine does not answer: .*; run the provision playbook first"):
        Swarm()
    monkeypatch.setattr(client.importlib.util, "find_spec", lambda dummy: None)
    with pytest.raises(SwarmError, match="the Python package docker is missing here .*; install python3-docker"):
        Swarm()
