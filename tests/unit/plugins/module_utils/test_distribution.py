# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images on nodes before services move: who needs what, what nodes say, and what becomes of it."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import distribution, pull_agent
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.distribution import Group, distribute, groups

DIGEST = "sha256:" + "1" * 64
TIME, FETCH, GATEWAY = (f"r:5000/mcp-swarm/{name}:0123456789ab@{DIGEST}" for name in ("time", "fetch", "gateway"))


def service(image: str, *constraints: str) -> dict[str, Any]:
    return {"image": image, "deploy": {"placement": {"constraints": list(constraints)}} if constraints else {}}


DOCUMENT = {
    "services": {
        "time": service(TIME),
        "again": service(TIME),
        "fetch": service(FETCH, "node.role == worker"),
        "gateway": service(GATEWAY),
        "local": service("mcp-swarm/local:0123456789ab"),
    }
}


def test_images_are_grouped_by_where_they_may_run() -> None:
    found = groups(DOCUMENT, ["time", "again", "fetch", "local", "gone"])
    assert [(group.constraints, group.images) for group in found] == [
        ((), {TIME: ["again", "time"]}),
        (("node.role == worker",), {FETCH: ["fetch"]}),
    ]


def task(state: str, error: str = "") -> dict[str, Any]:
    return {"Status": {"State": state, "Err": error}}


def line(node: str, state: str, image: str = TIME, error: str = "") -> dict[str, str]:
    return {"image": image, "node": node, "state": state, "error": error}


def group(*nodes: str) -> Group:
    return Group((), {TIME: ["time"], FETCH: ["fetch"]}, nodes={node: f"name-{node}" for node in nodes})


def test_progress_is_told_once_and_only_of_what_moved() -> None:
    mine = group("a", "b", "c")
    lines = [line("a", "here"), line("b", "pulled")]
    assert mine.listen(lines) == ["2/3 nodes have time"]
    assert mine.listen([*lines, line("c", "pulled")]) == ["3/3 nodes have time"]
    assert mine.listen([line("a", "pulled", "x"), line("c", "pulled")]) == []


def test_it_is_over_when_all_tasks_have_ended_and_said_so() -> None:
    mine = group("a", "b")
    mine.listen([line(node, "pulled", image) for node in "ab" for image in (TIME, FETCH)])
    assert not mine.over({"a": task("complete"), "b": task("running")}, 3, 100)
    assert mine.over({"a": task("complete"), "b": task("complete")}, 4, 100)
    assert mine.failed == {}


def test_words_that_got_lost_are_waited_for_and_then_judged_by_the_task() -> None:
    mine = group("a", "b")
    tasks = {"a": task("complete"), "b": task("rejected", "No such image: x")}
    assert not mine.over(tasks, 3, 100)
    assert not mine.over(tasks, 7.9, 100)
    assert mine.over(tasks, 8.1, 100)
    assert mine.here[TIME] == {"a"}
    assert mine.failed[TIME] == {"b": "what would have pulled it did not run there: No such image: x"}


def test_where_no_node_is_eligible_nothing_is_waited_for() -> None:
    assert not group().over({}, 1, 100)
    assert group().over({}, distribution.NO_TASKS_SECONDS, 100)


def test_a_node_that_takes_too_long_is_named() -> None:
    mine = group("a", "b")
    mine.listen([line("a", "pulled"), line("a", "here", FETCH), line("b", "pulled")])
    assert mine.over({"a": task("complete"), "b": task("running")}, 101, 100)
    assert mine.failed == {FETCH: {"b": "not done within 100 s"}}
    assert distribution.problems(mine, "mcp") == ["node name-b cannot have the image of fetch: it failed: not done within 100 s"]


def test_each_node_and_cause_is_one_line_with_its_next_step() -> None:
    mine = group("a", "b")
    full = "write /var/lib/docker/tmp/x: no space left on device"
    mine.listen([line("a", "failed", TIME, full), line("a", "failed", FETCH, full)])
    mine.failed[TIME]["b"] = f"{distribution.NOT_RUN}: No such image"
    first, second = distribution.problems(mine, "mcp")
    assert first.startswith("node name-a cannot have the image of fetch, time: the disk is full; free space there")
    assert second.startswith(
        "node name-b cannot have the image of time: what would have pulled it did not run there: No such image; "
        "run playbooks/images.yml, which proves each node's access to the registry"
    )


class Engine:
    """A manager of some nodes, at the edge of the API: its jobs say what ``answers`` has for each node."""

    def __init__(self, nodes: int, answers: dict[str, dict[str, str]]) -> None:
        self.api, self.answers = self, answers
        self.items = [
            {"ID": f"n{i}", "Status": {"State": "ready"}, "Spec": {}, "Description": {"Hostname": f"host-{i}"}} for i in range(nodes)
        ]
        self.made: dict[str, dict[str, Any]] = {}
        self.objects: dict[str, str] = {}
        self.removed: list[str] = []
        self.headers: list[dict[str, str]] = []

    def nodes(self) -> list[dict[str, Any]]:
        return self.items

    def services(self, **dummy: Any) -> list[dict[str, Any]]:
        return [{"ID": identity, "Spec": spec} for identity, spec in self.made.items()]

    def secrets(self, **dummy: Any) -> list[dict[str, Any]]:
        return []

    configs = secrets

    def create_secret(self, name: str, data: bytes, labels: dict[str, str]) -> dict[str, str]:
        assert labels == {"ai.sophia.mcp.fleet": "mcp", distribution.PULLING: "mcp"}
        self.objects[name] = data.decode()
        return {"ID": name}

    create_config = create_secret

    def remove_secret(self, identity: str) -> None:
        self.removed.append(identity)

    remove_config = remove_service = remove_secret

    def _url(self, path: str) -> str:
        return path

    def _post_json(self, dummy: str, data: dict[str, Any], headers: dict[str, str]) -> Any:
        self.made[data["Name"]] = data
        self.headers.append(headers)
        return type("Answer", (), {"json": staticmethod(lambda: {"ID": data["Name"]})})

    def _raise_for_status(self, dummy: Any) -> None:
        return None

    def tasks(self, filters: dict[str, str]) -> list[dict[str, Any]]:
        assert filters["service"] in self.made
        return [
            {"NodeID": node["ID"], **task("failed" if any(self.answers.get(node["ID"], {}).values()) else "complete")}
            for node in self.items
        ]

    def words(self, job: str) -> list[dict[str, Any]]:
        wish = next(c["ConfigName"] for c in self.made[job]["TaskTemplate"]["ContainerSpec"]["Configs"] if c["File"]["Name"] == pull_agent.WISH)
        return [
            line(node["ID"], "failed" if error else "pulled", image, error)
            for node in self.items
            for image in json.loads(self.objects[wish])
            for error in [self.answers.get(node["ID"], {}).get(image, "")]
        ]


def run(engine: Engine, monkeypatch: pytest.MonkeyPatch, names: list[str], before: Any = None) -> list[str]:
    monkeypatch.setattr(distribution.jobs, "words", lambda job, dummy: engine.words(job))
    monkeypatch.setattr(distribution.registries, "auth_headers", lambda api, images: dict.fromkeys(images, "header"))
    said: list[str] = []
    old = before or {"services": {}}
    distribute(engine, "mcp", DOCUMENT, old, names, 30, said.append, lambda: None)  # type: ignore[arg-type]
    return said


def test_every_node_gets_what_it_may_run_and_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(3, {})
    said = run(engine, monkeypatch, ["time", "fetch", "gateway"])
    assert said[0] == "giving 3 nodes 3 images"
    assert {"3/3 nodes have time", "3/3 nodes have fetch", "3/3 nodes have gateway"} <= set(said)
    assert set(engine.removed) == {*engine.made, *engine.objects}
    placements = [spec["TaskTemplate"]["Placement"] for spec in engine.made.values()]
    assert placements == [{"Constraints": ["node.role == worker"]}, {"Constraints": []}]
    for spec in engine.made.values():
        container = spec["TaskTemplate"]["ContainerSpec"]
        assert (spec["Mode"], container["Image"], container["CapabilityDrop"]) == ({"GlobalJob": {}}, GATEWAY, ["ALL"])
        assert "header" not in json.dumps(spec)
    assert engine.headers == [{"X-Registry-Auth": "header"}] * 2


def test_what_pulls_runs_in_an_image_that_nodes_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that can have no new image could not start it in one, and would not say why."""
    engine = Engine(2, {})
    serving = f"r:5000/mcp-swarm/gateway:aaaaaaaaaaaa@{DIGEST}"
    run(engine, monkeypatch, ["gateway"], {"services": {"gateway": service(serving)}})
    assert [spec["TaskTemplate"]["ContainerSpec"]["Image"] for spec in engine.made.values()] == [serving]
    assert engine.headers == [{"X-Registry-Auth": "header"}]


def test_a_node_that_cannot_is_named_and_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(2, {"n1": {FETCH: "no space left on device"}})
    with pytest.raises(SwarmError) as raised:
        run(engine, monkeypatch, ["time", "fetch"])
    first, last = str(raised.value).splitlines()
    assert first.startswith("node host-1 cannot have the image of fetch: the disk is full; ")
    assert last == "Nothing was changed."
    assert set(engine.removed) == {*engine.made, *engine.objects}


@pytest.mark.parametrize(("nodes", "names"), [(1, ["time"]), (3, ["local"]), (3, [])])
def test_where_there_is_nothing_to_distribute_nothing_is_made(monkeypatch: pytest.MonkeyPatch, nodes: int, names: list[str]) -> None:
    engine = Engine(nodes, {})
    assert run(engine, monkeypatch, names) == []
    assert not engine.made


# -- the agent ---------------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """An engine that has one image, pulls another, and fails with a third."""

    asked: list[tuple[str, str, str]]

    def _serve(self) -> None:
        self.asked.append((self.command, self.path, self.headers.get("X-Registry-Auth", "")))
        status, body = 404, b'{"message": "no such image"}'
        if self.path.startswith("/images/r%3A5000/here"):
            status = 200
        elif "fromImage=r%3A5000%2Fpulled" in self.path:
            status, body = 200, b'{"status": "Pulling"}\n{"status": "done"}\n'
        elif "fromImage=r%3A5000%2Ffull" in self.path:
            status, body = 200, b'{"status": "Pulling"}\n{"error": "no space left on device"}\n'
        elif "/tag?" in self.path:
            status = 201
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _serve  # noqa: N815 (the library's names)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *dummy: Any) -> None:
        return None


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    Handler.asked = []
    path = str(tmp_path / "engine.sock")
    with socketserver.ThreadingUnixStreamServer(path, Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield path
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("here", ("here", "")),
        ("pulled", ("pulled", "")),
        ("full", ("failed", "no space left on device")),
        ("gone", ("failed", "no such image")),
    ],
)
def test_what_an_engine_is_asked_and_says(engine: str, name: str, said: tuple[str, str]) -> None:
    assert pull_agent.pull(f"r:5000/{name}:0123456789ab@{DIGEST}", "secret", engine) == said
    pulls = [asked for asked in Handler.asked if asked[0] == "POST" and "create" in asked[1]]
    assert all(header == "secret" for dummy, dummy_path, header in pulls)
    assert len(pulls) == (name != "here")
    tags = [path for dummy, path, header in Handler.asked if "/tag?" in path]
    assert bool(tags) == (said[0] != "failed")
    assert not tags or tags[0].endswith(f"/tag?repo=r%3A5000%2F{name}&tag=0123456789ab")


def test_the_agent_tells_each_image_and_ends_with_what_it_came_to(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [f"r:5000/{name}:0123456789ab@{DIGEST}" for name in ("pulled", "full")]
    monkeypatch.setattr(pull_agent, "WISH", str(tmp_path / "wish"))
    monkeypatch.setattr(pull_agent, "CREDENTIALS", str(tmp_path / "credentials"))
    monkeypatch.setattr(pull_agent.pull, "__defaults__", (engine,))
    monkeypatch.setenv("NODE_ID", "n7")
    (tmp_path / "wish").write_text(json.dumps(images))
    (tmp_path / "credentials").write_text("{}")
    assert pull_agent.main() == 1
    told = {entry["image"]: entry for entry in map(json.loads, capsys.readouterr().out.splitlines())}
    assert told[images[0]] == line("n7", "pulled", images[0])
    assert told[images[1]] == line("n7", "failed", images[1], "no space left on device")
    (tmp_path / "wish").write_text(json.dumps(images[:1]))
    assert pull_agent.main() == 0
    # An engine that is away is a failure of each image, not of the agent.
    monkeypatch.setattr(pull_agent.pull, "__defaults__", (str(tmp_path / "nothing"),))
    assert pull_agent.main() == 1
    assert "the engine does not answer: " in capsys.readouterr().out
