"""Loop, client and proxy together, against an engine of recorded answers behind a real socket, and gateways' texts.

What a real Swarm makes of it is shown by the scenario molecule/autoscale.
"""

from __future__ import annotations

import copy
import http.client
import json
import logging
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from test_rules import SERVICE

from mcp_autoscaler import report
from mcp_autoscaler.cli import table
from mcp_autoscaler.docker import Docker
from mcp_autoscaler.loop import Loop
from mcp_autoscaler.proxy.engine import Engine
from mcp_autoscaler.proxy.server import DEAD_LOCK_SECONDS, Proxy, handler
from mcp_autoscaler.report import Report
from mcp_autoscaler.settings import parse
from mcp_autoscaler.web import Handler, make_server

LABEL = "ai.sophia.mcp"


class FakeEngine:
    """Services, tasks and the lock as Docker's API answers about them."""

    def __init__(self) -> None:
        time = copy.deepcopy(SERVICE)
        time["Spec"]["Labels"] |= {f"{LABEL}.server": "time", f"{LABEL}.scale.min": "0"}
        stranger = copy.deepcopy(SERVICE) | {"ID": "stranger"}
        stranger["Spec"]["Labels"] = {}
        self.services = {time["ID"]: time, "stranger": stranger}
        self.lock: dict[str, Any] | None = None
        self.lock_version = 1
        self.away = False
        self.asked: list[tuple[str, str]] = []
        # What Swarm gave each replica, where nodes advertise their GPUs by name.
        self.gpus: list[str] = []

    @staticmethod
    def _resources(gpu: str) -> list[dict[str, Any]]:
        return [{"NamedResourceSpec": {"Kind": "NVIDIA-GPU", "Value": gpu}}] if gpu else []

    @property
    def time(self) -> dict[str, Any]:
        return self.services[SERVICE["ID"]]

    @property
    def replicas(self) -> int:
        return int(self.time["Spec"]["Mode"]["Replicated"]["Replicas"])

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Any]:
        parts = urlsplit(target)
        query = {key: value[0] for key, value in parse_qs(parts.query).items()}
        self.asked.append((method, parts.path))
        if self.away:
            return 503, {"message": "rpc error: the swarm does not have a leader"}
        filters = json.loads(query.get("filters", "{}"))
        if parts.path == "/services":
            wanted = dict(label.partition("=")[::2] for label in filters["label"])
            return 200, [s for s in self.services.values() if self._has(s, wanted)]
        if parts.path == "/tasks":
            assert filters["desired-state"] == ["running"]
            running = {"ServiceID": filters["service"][0], "Status": {"State": "running"}}
            given = [self.gpus[number] if number < len(self.gpus) else "" for number in range(self.replicas)]
            return 200, [running | {"GenericResources": self._resources(gpu)} for gpu in given]
        if parts.path == "/configs":
            locks = [] if self.lock is None else [{f"{LABEL}.lock": json.dumps(self.lock)}]
            return 200, [{"Version": {"Index": self.lock_version}, "Spec": {"Labels": labels}} for labels in locks]
        identity = parts.path.split("/")[2]
        found = next((s for s in self.services.values() if identity in (s["ID"], s["Spec"]["Name"])), None)
        if found is None:
            return 404, {"message": f"service {identity} not found"}
        if method == "POST":
            assert int(query["version"]) == found["Version"]["Index"]
            found["Spec"] = json.loads(body)
            found["Version"]["Index"] += 1
            return 200, {"Warnings": None}
        return 200, found

    @staticmethod
    def _has(service: dict[str, Any], wanted: dict[str, str]) -> bool:
        labels = service["Spec"]["Labels"]
        return all(key in labels and value in ("", labels[key]) for key, value in wanted.items())


class _Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def serving(server: Any) -> Any:
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def socket_path(engine: FakeEngine, tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "docker.sock")
    bound: dict[str, Any] = {
        "answer": lambda _, *request: engine.answer(*request),
        "address_string": lambda _: "socket",
        "disable_nagle_algorithm": False,
    }
    server = serving(_Unix(path, type("EngineHandler", (Handler,), bound)))
    yield path
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(socket_path: str) -> Iterator[ThreadingHTTPServer]:
    server = serving(make_server("127.0.0.1", 0, handler(socket_path, "mcp")))
    yield server
    server.shutdown()
    server.server_close()


class World:
    """A loop whose clock and gateways the test moves."""

    def __init__(self, engine: FakeEngine, proxy_port: int, gateway_port: int) -> None:
        self.engine = engine
        self.now = 1000.0
        self.document = {
            "fleet": "mcp",
            "docker": f"http://127.0.0.1:{proxy_port}",
            "gateway": f"http://127.0.0.1:{gateway_port}/metrics",
            "servers": {
                "time": {
                    "targets": {"in_flight": 4},
                    "idle_seconds": 60,
                    "down": {"stabilization_seconds": 20},
                }
            },
        }
        self.gauges: dict[str, float] = {"inflight": 0}
        self.gateway_away = False
        self.restart()

    def restart(self) -> None:
        self.report = Report("mcp")
        self.loop = Loop(parse(self.document), Docker(self.document["docker"]), self.report, lambda: self.now)

    def text(self) -> tuple[int, Any]:
        if self.gateway_away:
            return 500, "away"
        return 200, "".join(f'mcp_gateway_{name}{{server="time"}} {value}\n' for name, value in self.gauges.items())

    def look(self, after: float = 0.0, **gauges: float) -> int:
        self.now += after
        self.gauges = gauges or self.gauges
        self.pause = self.loop.look()
        return self.engine.replicas

    @property
    def shown(self) -> dict[str, Any]:
        return dict(self.report.status()["servers"]["time"])


@pytest.fixture
def world(engine: FakeEngine, proxy: ThreadingHTTPServer) -> Iterator[World]:
    made: list[World] = []
    bound = {"answer": lambda _, *dummy: made[0].text()}
    gateway = serving(make_server("127.0.0.1", 0, type("GatewayHandler", (Handler,), bound)))
    made.append(World(engine, proxy.server_address[1], gateway.server_address[1]))
    yield made[0]
    gateway.shutdown()
    gateway.server_close()


def test_it_grows_shrinks_sleeps_and_wakes(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert world.look(inflight=8) == 2
    assert world.look(5, inflight=20) == 4  # five are wanted, four is its bound
    assert world.look(5, inflight=2) == 4
    assert world.look(16, inflight=2) == 1
    assert world.look(5, inflight=0) == 1
    assert world.pause == 5
    assert world.look(60) == 0
    # While it sleeps, somebody may be waiting.
    assert world.pause == 1
    assert world.shown["reason"] == "idle"
    assert world.look(1) == 0
    assert world.look(1, inflight=0, wanted=1) == 1
    assert world.shown["reason"] == "wake"
    scaled = [(r.replicas, r.to, r.reason) for r in caplog.records if r.message == "scaled" and hasattr(r, "to")]
    assert scaled == [(2, 4, "load"), (4, 1, "load"), (1, 0, "idle"), (0, 1, "wake")]
    changes = world.report.status()["changes"]
    assert [(c["from"], c["to"]) for c in changes] == [(2, 4), (4, 1), (1, 0), (0, 1)]
    assert changes[0]["why"] == "in_flight is 10 calls a replica, wanted 4: 5 replicas"
    text = world.report.text()
    assert 'mcp_autoscaler_changes_total{direction="up",reason="load",server="time"} 1.0' in text
    assert 'mcp_autoscaler_reason{reason="wake",server="time"} 1.0' in text
    assert "waiting for it: 1" in table(world.report.status())


def test_without_docker_nothing_changes_and_then_it_goes_on(world: World) -> None:
    world.look(inflight=8)
    world.engine.away = True
    assert world.look(5, inflight=20) == 2
    assert "does not have a leader" in world.report.status()["sources"]["docker"]
    assert 'mcp_autoscaler_source_up{source="docker"} 0.0' in world.report.text()
    world.engine.away = False
    assert world.look(5) == 4
    assert world.report.status()["sources"]["docker"] == "ok"


def test_without_the_gateway_nothing_shrinks(world: World) -> None:
    world.look(inflight=8)
    world.gateway_away = True
    for dummy in range(10):
        assert world.look(30) == 2
    assert world.shown["reason"] == "unknown"
    assert "HTTP 500" in world.report.status()["sources"]["gateway"]
    world.gateway_away = False
    # What could not be seen may have been work: its window and its idle time begin now.
    assert world.look(5, inflight=0) == 2
    assert world.look(14) == 2
    assert world.look(7) == 1
    assert world.look(33) == 1
    assert world.look(5) == 0


def test_a_restart_begins_its_windows_anew(world: World) -> None:
    world.look(inflight=0)
    world.now += 19
    world.restart()
    assert world.look(0) == 2
    assert world.look(19) == 2
    assert world.look(2) == 1


def test_while_the_fleet_is_deployed_it_waits(world: World) -> None:
    world.engine.lock = {"kind": "deploy", "who": "ann@desk", "since": "2026-11-24T02:00:00Z"}
    for dummy in range(3):
        world.engine.lock_version += 1
        assert world.look(5, inflight=20) == 2
    refused = world.report.status()["changes"][-1]["refused"]
    assert refused == "mcp is being deployed by ann@desk since 2026-11-24T02:00:00Z"
    assert 'mcp_autoscaler_refused_total{server="time"} 3.0' in world.report.text()
    world.engine.lock = None
    assert world.look(5) == 4


def test_a_lock_by_hand_keeps_deploys_off_and_not_this(world: World) -> None:
    world.engine.lock = {"kind": "manual", "who": "ann", "since": ""}
    assert world.look(inflight=20) == 4


def test_a_dead_deploys_lock_is_passed_over(engine: FakeEngine, socket_path: str) -> None:
    now = 0.0
    proxy = Proxy(Engine(socket_path, "mcp"), "mcp", lambda: now)
    engine.lock = {"kind": "deploy", "who": "gone", "since": ""}
    spec = copy.deepcopy(engine.time["Spec"])
    spec["Mode"]["Replicated"]["Replicas"] = 3
    target = f"/services/{SERVICE['ID']}/update?version=41"
    assert proxy.answer("POST", target, json.dumps(spec).encode())[0] == 409
    now = DEAD_LOCK_SECONDS - 1
    assert proxy.answer("POST", target, json.dumps(spec).encode())[0] == 409
    now = DEAD_LOCK_SECONDS
    assert proxy.answer("POST", target, json.dumps(spec).encode())[0] == 200
    assert engine.replicas == 3


def test_an_update_under_way_is_left_alone(world: World) -> None:
    world.engine.time["UpdateStatus"] = {"State": "updating"}
    assert world.look(inflight=20) == 2
    assert world.shown["why"] == "its update is updating; scaling waits until it is over"
    world.engine.time["UpdateStatus"] = {"State": "completed"}
    assert world.look(5) == 4


def test_a_server_that_is_not_configured_is_left_alone(world: World) -> None:
    world.engine.time["Spec"]["Labels"][f"{LABEL}.server"] = "other"
    assert world.look(inflight=20) == 2
    assert world.report.status()["servers"] == {}


def test_a_server_that_is_gone_is_forgotten(world: World) -> None:
    world.look(inflight=8)
    assert 'server="time"' in world.report.text()
    del world.engine.services[SERVICE["ID"]]
    world.loop.look()
    assert world.report.status()["servers"] == {}
    assert 'mcp_autoscaler_replicas{kind="asked",server="time"}' not in world.report.text()


Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def ask(proxy: ThreadingHTTPServer) -> Ask:
    def asked(method: str, target: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.server_address[1], timeout=5)
        connection.request(method, target, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, json.loads(data) if data else None

    return asked


def test_the_proxy_shows_what_is_ours_alone(ask: Ask) -> None:
    status, found = ask("GET", "/services")
    assert (status, [s["Spec"]["Name"] for s in found]) == (200, ["mcp_time"])
    assert ask("GET", "/services/mcp_time")[1]["ID"] == SERVICE["ID"]
    assert ask("GET", "/services/stranger")[0] == 404
    assert ask("GET", "/services/nowhere")[0] == 404
    assert ask("GET", "/tasks?filters=%7B%22service%22%3A%5B%22stranger%22%5D%7D")[0] == 404
    assert len(ask("GET", "/tasks?filters=%7B%22service%22%3A%5B%22mcp_time%22%5D%7D")[1]) == 2


def test_the_proxys_health_is_whether_there_is_an_engine(ask: Ask, engine: FakeEngine, tmp_path: Path) -> None:
    assert ask("GET", "/healthz") == (200, {"status": "ok"})
    engine.away = True
    assert ask("GET", "/services")[0] == 503
    assert ask("GET", "/healthz")[0] == 200
    (tmp_path / "docker.sock").unlink()
    assert ask("GET", "/healthz")[0] == 503


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_nothing_that_is_refused_reaches_the_engine(ask: Ask, engine: FakeEngine, method: str) -> None:
    assert ask(method, "/containers/json")[0] == 403
    assert ask(method, f"/services/{SERVICE['ID']}/logs")[0] == 403
    assert engine.asked == []


def test_what_is_sent_on_is_the_engines_own(ask: Ask, engine: FakeEngine) -> None:
    spec = copy.deepcopy(engine.time["Spec"])
    spec["TaskTemplate"]["ContainerSpec"]["Image"] = "evil:1"
    spec["Mode"]["Replicated"]["Replicas"] = 3
    target = f"/services/{SERVICE['ID']}/update?version=41"
    assert ask("POST", target, json.dumps(spec).encode())[0] == 403
    assert ask("POST", "/services/stranger/update?version=41", json.dumps(spec).encode())[0] == 404
    assert ask("POST", target, b"{")[0] == 400
    assert ask("POST", target, b"", Transfer_Encoding="chunked")[0] == 400  # of unknown length
    assert ask("POST", target, b"", Content_Length="9999999")[0] == 413
    assert not [path for method, path in engine.asked if method == "POST"]
    assert engine.replicas == 2


def test_a_slot_of_a_shared_gpu_is_known_by_its_gpu(world: World, engine: FakeEngine) -> None:
    engine.gpus = ["GPU-5c89852c-d268.2"]
    assert Docker(world.document["docker"]).services()[0].ready[0] == ("GPU-5c89852c-d268",)
    engine.gpus = ["MIG-GPU-5c89852c/1.1"]
    assert Docker(world.document["docker"]).services()[0].ready[0] == ("MIG-GPU-5c89852c/1.1",)


def test_an_engine_that_is_not_there(tmp_path: Path) -> None:
    proxy = Proxy(Engine(str(tmp_path / "none.sock"), "mcp"), "mcp")
    status, said = proxy.answer("GET", "/services", b"")
    assert status == 502 and "does not answer" in said["message"]


def test_the_report_only_tells(world: World) -> None:
    world.look(inflight=8)
    server = serving(make_server("127.0.0.1", 0, report.handler(world.report)))
    try:
        for method, path, status in (
            ("GET", "/status", 200), ("GET", "/metrics", 200), ("GET", "/healthz", 200), ("HEAD", "/status", 200),
            ("GET", "/", 404), ("POST", "/status", 405),
        ):  # fmt: skip
            connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=5)
            connection.request(method, path)
            assert connection.getresponse().status == status, path
            connection.close()
    finally:
        server.shutdown()
        server.server_close()
