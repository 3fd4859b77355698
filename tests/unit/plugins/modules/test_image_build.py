# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module's own part: contexts that replace the ones before, and what it answers."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.errors import BuildError
from ansible_collections.sophia_ai.mcp_swarm.plugins.modules import image_build

IMAGES = [
    {"name": "a", "ref": "p/a:1", "needs": [], "servers": ["a"]},
    {"name": "b", "ref": "p/b:1", "needs": [], "servers": ["b"]},
]


def archive(path: Path, **files: str) -> str:
    with tarfile.open(path, "w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return str(path)


def module(check: bool = False, **params: Any) -> Any:
    given = {"images": IMAGES, "operation": "build", "archive": None, "build_dir": "/none", "site": {}, "base": "pull"}
    return SimpleNamespace(params={**given, "parallel": 2, "progress_file": None, "docker_config": "", **params}, check_mode=check)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The docker command at its edge: p/a:1 is there, and building b fails."""
    calls: list[tuple[str, ...]] = []

    class Docker:
        def existing(self, refs: list[str]) -> set[str]:
            return {"p/a:1"} & set(refs)

        def run(self, *arguments: str, **dummy: Any) -> tuple[int, str]:
            calls.append(arguments)
            return 1, "#9 0.1 gcc: error\n"

    monkeypatch.setattr(image_build, "Docker", Docker)
    return calls


def test_a_context_replaces_the_one_before_and_leaves_the_others(tmp_path: Path) -> None:
    build = tmp_path / "build"
    image_build.unpack(archive(tmp_path / "1.tar", a__old="1", b__kept="1"), str(build))
    sent = archive(tmp_path / "2.tar", a__new="2")
    image_build.unpack(sent, str(build))
    assert sorted(str(path.relative_to(build)) for path in build.rglob("*") if path.is_file()) == ["a/new", "b/kept"]
    assert not Path(sent).exists()


def test_a_build_directory_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path, engine: list[Any]) -> None:
    (tmp_path / "file").touch()
    sent = archive(tmp_path / "c.tar", a__x="1")
    with pytest.raises(BuildError, match=r"mcp_fleet\.state_dir: the build contexts do not fit into .*/file/build"):
        image_build.run(module(archive=sent, build_dir=str(tmp_path / "file" / "build")))
    assert engine == []


def test_what_is_missing(engine: list[Any]) -> None:
    assert image_build.run(module(operation="missing")) == {"changed": False, "missing": ["b"]}
    assert image_build.run(module(check=True)) == {"changed": True, "missing": ["b"]}
    assert image_build.run(module(check=True, images=IMAGES[:1])) == {"changed": False, "missing": []}
    assert engine == []


def test_only_the_missing_is_built_and_its_failure_is_told(engine: list[tuple[str, ...]]) -> None:
    with pytest.raises(BuildError) as raised:
        image_build.run(module())
    assert str(raised.value).splitlines() == [
        "1 image could not be built; what ran before still runs.",
        "server b: a build step failed; read its last lines below; the build directory is left for building by hand (/none/b)",
        "gcc: error",
    ]
    assert [arguments[-1] for arguments in engine] == ["/none/b"]
