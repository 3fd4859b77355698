# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building in the order of needs, and what people are told when it fails."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build import locks
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.builder import Builder
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.docker_cli import explain, tail
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.errors import BuildError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.root import official_image, root_image
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._progress import Progress


class Engine:
    """The docker command at its edge: records what it is asked, answers from a table of exit codes."""

    def __init__(self, broken: dict[str, str] | None = None, existing: set[str] | None = None) -> None:
        self.broken = broken or {}
        self.there = existing or set()
        self.calls: list[tuple[str, ...]] = []
        self.running = 0
        self.most = 0
        self._lock = threading.Lock()

    def existing(self, refs: list[str]) -> set[str]:
        return self.there & set(refs)

    def run(self, *arguments: str, stdin: bytes | None = None, timeout: float | None = None) -> tuple[int, str]:
        with self._lock:
            self.calls.append(arguments)
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.02)
        with self._lock:
            self.running -= 1
        for word, output in self.broken.items():
            if any(word in argument for argument in arguments):
                return 1, output
        return 0, ""


def image(name: str, *needs: str) -> dict[str, Any]:
    return {"name": name, "ref": f"p/{name}:1", "needs": list(needs), "servers": [name], "files": {"Dockerfile": ""}}


def builder(engine: Engine, lines: list[str] | None = None, **site: str) -> Builder:
    say = (lines if lines is not None else []).append
    return Builder(engine, "/build", site, "pull", say)


CHAIN = [image("base"), image("a", "base"), image("b", "base"), image("c", "a"), image("d", "base")]


def test_needs_come_first_and_the_rest_runs_side_by_side() -> None:
    engine = Engine()
    outcome = builder(engine).build(CHAIN, parallel=3)
    order = [call[-1].rpartition("/")[2] for call in engine.calls]
    assert order[0] == "base"
    assert order.index("a") < order.index("c")
    assert set(outcome.built) == {"base", "a", "b", "c", "d"}
    assert 2 <= engine.most <= 3


def test_one_at_a_time() -> None:
    engine = Engine()
    builder(engine).build(CHAIN, parallel=1)
    assert engine.most == 1


def test_a_failure_stops_only_what_needs_it() -> None:
    lines: list[str] = []
    engine = Engine({"p/a:1": "#7 ERROR\nerror: No space left on device"})
    outcome = builder(engine, lines).build(CHAIN, parallel=2)
    assert set(outcome.built) == {"base", "b", "d"}
    assert outcome.failed["a"].startswith("server a: the disk is full; free space on the build host")
    assert "No space left on device" in outcome.failed["a"]
    assert outcome.failed["c"] == ""
    assert "FAILED a" in lines


def test_the_sites_settings_reach_the_build_as_arguments_and_secrets() -> None:
    engine = Engine()
    site = {"pypi_index": "https://index/simple", "npm_registry": "", "debian_mirror": "", "ca_file": "/ca.crt"}
    builder(engine, **site).build([image("a")], parallel=1)
    assert engine.calls[0][4:6] == ("--build-arg", "PYPI_INDEX=https://index/simple")
    assert "id=site_ca,src=/ca.crt" in engine.calls[0]
    assert not any("NPM_REGISTRY" in argument for argument in engine.calls[0])


def test_progress_is_one_json_line_each(tmp_path: Path) -> None:
    say = Progress(str(tmp_path / "progress"))
    say("building a")
    say('quote " and ü')
    lines = [json.loads(line) for line in (tmp_path / "progress").read_text("utf-8").splitlines()]
    assert [line["line"] for line in lines] == ["building a", 'quote " and ü']
    Progress(None)("nowhere")
    Progress("/dev/full")("nobody reads it")  # what is done goes on


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        ("write /x: no space left on device", "the disk is full"),
        ("npm error 404 Not Found - GET https://registry/x", "the package does not exist"),
        ("Because x was not found in the package registry and you require x", "the package does not exist"),
        ("npm error notarget No matching version found for x@9", "this version does not exist"),
        ("Because there is no version of x==9", "this version does not exist"),
        ("invalid peer certificate: UnknownIssuer", "the package index's certificate is not trusted"),
        ("Temporary failure resolving 'deb.example'", "the package index cannot be reached"),
        ("E: Unable to locate package gti", "a Debian package does not exist"),
        ("gcc: error", "a build step failed"),
    ],
)
def test_causes(output: str, cause: str) -> None:
    assert explain(output)[0] == cause


def test_tail_keeps_what_says_something() -> None:
    output = "\n".join(["#5 DONE 0.1s", "------", "", *(f"#6 0.{n} line {n}" for n in range(30)), "#6 ERROR: exit code: 1"])
    lines = tail(output).splitlines()
    assert len(lines) == 15
    assert lines[-1] == "ERROR: exit code: 1"
    assert lines[-2] == "line 29"


DOCKERFILE = "ARG ROOT=registry/python:3@sha256:abc\nFROM $ROOT\n"


def test_pull_or_say_why_not() -> None:
    assert official_image(DOCKERFILE) == "registry/python:3@sha256:abc"
    assert root_image(Engine(), "pull", DOCKERFILE, "", "p/os:1", print) == "registry/python:3@sha256:abc"
    with pytest.raises(BuildError, match="no such host; check the registry, or set mcp_fleet.images.base to bootstrap"):
        root_image(Engine({"pull": "lookup: no such host"}), "pull", DOCKERFILE, "", "p/os:1", print)


def test_auto_falls_back_and_says_so() -> None:
    lines: list[str] = []
    engine = Engine({"pull": "no such host"}, existing={"mcp-swarm/root:1"})
    assert root_image(engine, "auto", DOCKERFILE, "", "p/os:1", lines.append) == "mcp-swarm/root:1"
    assert "no registry (no such host): bootstrapping Debian trixie" in lines[1]


def test_locks_hold_no_addresses() -> None:
    lock = {"packages": {"a": {"resolved": "https://mirror/a.tgz", "integrity": "sha512-x"}}}
    assert json.loads(locks.without_hosts(json.dumps(lock))) == {"packages": {"a": {"integrity": "sha512-x"}}}


def test_a_lock_that_cannot_be_resolved_names_the_server() -> None:
    engine = Engine({"-euc": "npm error 404 Not Found - GET x"})
    with pytest.raises(BuildError, match="server x: the package does not exist; correct source.package in mcp_servers"):
        locks.resolve(engine, "p/builder:1", "npm", "{}", {}, "server x")
