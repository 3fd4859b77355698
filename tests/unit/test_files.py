# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalogue's ``files``: text that lies below /etc/mcp/ in a server's image."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.compile import compile_fleet
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.facts import Facts
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError, validate

PYPI = {"kind": "pypi", "package": "thing", "version": "1.0"}
FACTS = Facts(locks={"pypi-thing-1.0.txt": "thing==1.0\n"}, trees={"services/runtime": "r", "services/gateway": "g"})


def image(**keys: Any) -> dict[str, Any]:
    plan = compile_fleet([{"name": "thing", "source": PYPI, "command": ["thing"], **keys}], {}, FACTS)
    found: dict[str, Any] = next(image for image in plan["images"] if image["name"] == "thing")
    return found


def mistakes(source: dict[str, str], path: str) -> list[str]:
    command = ["thing"] if source["kind"] == "pypi" else []
    with pytest.raises(FleetError) as raised:
        validate([{"name": "thing", "source": source, "command": command, "files": {path: "x"}}], {})
    return raised.value.errors


def test_files_lie_in_the_context_and_are_copied_before_the_runtime_s_own() -> None:
    made = image(files={"/etc/mcp/a.yaml": "a: 1\n", "/etc/mcp/deep/b.txt": "b"})
    assert made["files"]["files/a.yaml"] == "a: 1\n"
    assert made["files"]["files/deep/b.txt"] == "b"
    lines = made["files"]["Dockerfile"].splitlines()
    assert lines.index("COPY files/ /etc/mcp/") < lines.index("COPY server.json /etc/mcp/server.json")


def test_without_files_nothing_is_copied() -> None:
    assert "COPY files/" not in image()["files"]["Dockerfile"]


def test_a_changed_file_is_another_image() -> None:
    one, other = (image(files={"/etc/mcp/a": text})["ref"] for text in ("1", "2"))
    assert one != other
    assert one == image(files={"/etc/mcp/a": "1"})["ref"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/etc/passwd", "below /etc/mcp/"),
        ("etc/mcp/a", "below /etc/mcp/"),
        ("/etc/mcp/", "below /etc/mcp/"),
        ("/etc/mcp/../passwd", "without '..'"),
        ("/etc/mcp/a b", "below /etc/mcp/"),
        ("/etc/mcp/server.json", "choose another name"),
        ("/etc/mcp/openapi.json", "choose another name"),
    ],
)
def test_a_path_elsewhere_is_refused_by_name(path: str, said: str) -> None:
    (error,) = mistakes(PYPI, path)
    assert error.startswith(f"mcp_servers[0].files: {path!r}")
    assert said in error


@pytest.mark.parametrize(
    "source", [{"kind": "image", "image": "registry/thing:1"}, {"kind": "remote", "url": "https://thing.example/mcp"}]
)
def test_what_is_not_built_here_takes_no_files(source: dict[str, str]) -> None:
    (error,) = mistakes(source, "/etc/mcp/a")
    assert "files: has no effect with kind" in error
