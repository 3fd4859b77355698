# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What planning takes from the controller: secrets, source trees, and what it gives to plays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import Controller, fact, tree_files

GENERATED: dict[str, Any] = {"generate": {"bytes": 32}}


def test_a_generated_secret_is_made_once_and_kept_to_its_owner(tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    first = controller.secret_values({"a": GENERATED, "b": GENERATED})
    assert controller.secret_values({"a": GENERATED, "b": GENERATED}) == first
    assert first["a"] != first["b"]
    assert len(first["a"]) >= 43
    kept = tmp_path / ".state" / "secrets" / "a"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert kept.parent.stat().st_mode & 0o777 == 0o700


def test_each_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("from a file\n")
    monkeypatch.setenv("TOKEN", "from the environment")
    sources = {"a": {"file": str(tmp_path / "file")}, "b": {"env": "TOKEN"}, "c": {"value": "from a variable"}}
    assert Controller(tmp_path).secret_values(sources) == {
        "a": "from a file",
        "b": "from the environment",
        "c": "from a variable",
    }


def test_everything_that_is_missing_is_named_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ABSENT", raising=False)
    sources = {"a": {"env": "ABSENT"}, "b": {"file": str(tmp_path / "absent")}, "c": GENERATED}
    with pytest.raises(FleetError) as raised:
        Controller(tmp_path).secret_values(sources)
    assert raised.value.errors == [
        "mcp_fleet.secrets.a.env: the variable ABSENT is not set; export ABSENT=… and run again",
        f"mcp_fleet.secrets.b.file: {tmp_path / 'absent'}: No such file or directory; create the file or correct the path",
    ]


def test_the_gateways_key_is_found_in_one_place_whatever_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "k3y")
    controller = Controller(tmp_path)
    for value in ("k3y", "another"):
        monkeypatch.setenv("KEY", value)
        controller.secret_values({"gateway_api_key": {"env": "KEY"}})
        assert (tmp_path / ".state" / "secrets" / "gateway_api_key").read_text() == value


def test_digests_tell_nothing_without_the_sites_own_key(tmp_path: Path) -> None:
    one, other = Controller(tmp_path / "one"), Controller(tmp_path / "other")
    assert one.secret_digests({"a": "x"}) == one.secret_digests({"a": "x"})
    assert one.secret_digests({"a": "x"}) != one.secret_digests({"a": "y"})
    assert one.secret_digests({"a": "x"}) != other.secret_digests({"a": "x"})


def test_what_of_a_tree_goes_into_an_image(tmp_path: Path) -> None:
    wanted = ["a.py", "package/b.py", "pyproject.toml"]
    unwanted = [".venv/x", "tests/test_a.py", "package/__pycache__/b.pyc", "x.egg-info/PKG-INFO", "node_modules/y", ".env"]
    for name in (*wanted, *unwanted):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert sorted(str(path.relative_to(tmp_path)) for path in tree_files(tmp_path)) == wanted


def test_the_fact_carries_no_build_contexts() -> None:
    image = {"name": "a", "ref": "p/a:1", "files": {"Dockerfile": "x"}, "trees": [], "needs": []}
    plan = {"fleet": "mcp", "images": [image]}
    assert fact(plan) == {"fleet": "mcp", "images": [{"name": "a", "ref": "p/a:1", "needs": []}]}
    assert "files" in image


def test_a_file_that_holds_no_secret_is_named_with_its_fix(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n", "utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FleetError) as raised:
        Controller(tmp_path).secret_values({name: {"file": str(tmp_path / name)} for name in ("empty", "binary")})
    assert raised.value.errors == [
        f"mcp_fleet.secrets.empty.file: {tmp_path}/empty: is empty; write the secret into it",
        f"mcp_fleet.secrets.binary.file: {tmp_path}/binary: is no text; encode it, or correct the path",
    ]


def test_what_was_given_is_kept_nowhere(tmp_path: Path) -> None:
    Controller(tmp_path).secret_values({"gateway_api_key": GENERATED, "b": {"value": "v"}})
    assert [path.name for path in (tmp_path / ".state" / "secrets").iterdir()] == ["gateway_api_key"]


def test_what_a_project_builds_is_left_out_and_a_package_called_build_is_not(tmp_path: Path) -> None:
    kept, left = ("backend/build/b.py", "uv.lock"), ("build/x", "dist/y", "tests/t.py", "backend/node_modules/n.js")
    for name in (*kept, *left):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert sorted(str(path.relative_to(tmp_path)) for path in tree_files(tmp_path)) == sorted(kept)


def test_the_inventory_is_searched_before_the_collection(tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    assert controller.path("galaxy.yml").parent != tmp_path
    (tmp_path / "galaxy.yml").touch()
    assert controller.path("galaxy.yml") == tmp_path / "galaxy.yml"
