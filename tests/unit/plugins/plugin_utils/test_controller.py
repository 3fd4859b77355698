# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller knows: secrets that are found, made and kept; source trees by their content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import Controller, tree_files

GENERATED: dict[str, Any] = {"generate": {"bytes": 32}}
KEY = {"gateway_api_key": GENERATED}


def kept(inventory: Path, name: str) -> Path:
    return inventory / ".state" / "secrets" / name


def test_generated_secrets_are_made_once_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    values = Controller(tmp_path).secret_values(KEY)
    assert len(values["gateway_api_key"]) >= 32
    assert Controller(tmp_path).secret_values(KEY) == values
    assert kept(tmp_path, "gateway_api_key").stat().st_mode & 0o777 == 0o600
    assert kept(tmp_path, "").stat().st_mode & 0o777 == 0o700
    assert Controller(tmp_path / "other").secret_values(KEY) != values


def test_the_gateways_key_lies_in_one_place_whatever_its_source(tmp_path: Path) -> None:
    for value in ("first", "second"):
        Controller(tmp_path).secret_values({"gateway_api_key": {"value": value}})
        assert kept(tmp_path, "gateway_api_key").read_text("utf-8") == value
        assert kept(tmp_path, "gateway_api_key").stat().st_mode & 0o777 == 0o600


def test_other_secrets_are_kept_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIT_TOKEN", "s3cret")
    values = Controller(tmp_path).secret_values({**KEY, "a": {"env": "UNIT_TOKEN"}, "b": {"value": "v"}})
    assert (values["a"], values["b"]) == ("s3cret", "v")
    assert [path.name for path in kept(tmp_path, "").iterdir()] == ["gateway_api_key"]


def test_every_source_that_holds_nothing_is_named_with_its_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNIT_TOKEN", raising=False)
    (tmp_path / "empty").write_text("\n", "utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    sources = {
        **KEY,
        "a": {"env": "UNIT_TOKEN"},
        "b": {"file": str(tmp_path / "absent")},
        "c": {"file": str(tmp_path / "empty")},
        "d": {"file": str(tmp_path / "binary")},
    }
    with pytest.raises(FleetError) as raised:
        Controller(tmp_path).secret_values(sources)
    assert raised.value.errors == [
        "mcp_fleet.secrets.a.env: the variable UNIT_TOKEN is not set; export UNIT_TOKEN=… and run again",
        f"mcp_fleet.secrets.b.file: {tmp_path}/absent: No such file or directory; create the file or correct the path",
        f"mcp_fleet.secrets.c.file: {tmp_path}/empty: is empty; write the secret into it",
        f"mcp_fleet.secrets.d.file: {tmp_path}/binary: is no text; encode it, or correct the path",
    ]


def test_digests_follow_the_value_and_tell_nothing_to_other_fleets(tmp_path: Path) -> None:
    one, other = Controller(tmp_path / "one"), Controller(tmp_path / "other")
    assert one.secret_digests({"a": "x"}) == one.secret_digests({"a": "x"})
    assert one.secret_digests({"a": "x"}) != one.secret_digests({"a": "y"})
    assert one.secret_digests({"a": "x"}) != other.secret_digests({"a": "x"})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "app"
    for name in (
        "pyproject.toml", "uv.lock", "backend/a.py", "backend/build/b.py", "tests/t.py", "build/x", ".venv/y",
        "backend/__pycache__/a.pyc", "app.egg-info/z", "backend/node_modules/n.js", ".env",
    ):  # fmt: skip
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, "utf-8")
    return root


def test_what_of_a_tree_goes_into_an_image(tree: Path) -> None:
    found = [str(path.relative_to(tree)) for path in tree_files(tree)]
    assert found == ["pyproject.toml", "uv.lock", "backend/a.py", "backend/build/b.py"]


def test_a_trees_digest_follows_what_goes_into_the_image(tree: Path) -> None:
    def digest() -> str:
        return Controller(tree.parent)._tree_digest("app")

    before = digest()
    (tree / "tests" / "t.py").write_text("other", "utf-8")
    assert digest() == before
    (tree / "backend" / "a.py").write_text("other", "utf-8")
    changed = digest()
    assert changed != before
    (tree / "backend" / "a.py").rename(tree / "backend" / "renamed.py")
    assert digest() not in (before, changed)
    (tree / "uv.lock").unlink()
    assert digest() == ""


def test_the_inventory_is_searched_before_the_collection(tmp_path: Path) -> None:
    controller = Controller(tmp_path)
    assert controller.path("galaxy.yml").parent != tmp_path
    (tmp_path / "galaxy.yml").touch()
    assert controller.path("galaxy.yml") == tmp_path / "galaxy.yml"
