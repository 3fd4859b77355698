# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each role's documented options are its defaults: one that is missing on either side helps nobody."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())
TYPES: dict[str, type | tuple[type, ...]] = {"bool": bool, "int": int, "float": (int, float), "list": list, "dict": dict, "str": str, "path": str}


def load(role: str, path: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "roles" / role / path).read_text("utf-8")) or {}


def options(role: str) -> dict[str, Any]:
    specs = load(role, "meta/argument_specs.yml")["argument_specs"]
    assert set(specs) == {"main"}
    return specs["main"].get("options") or {}


def test_there_are_roles() -> None:
    assert set(ROLES) >= {"docker_engine", "swarm", "images", "stack", "edge"}


@pytest.mark.parametrize("role", ROLES)
def test_what_is_documented_is_what_has_a_default(role: str) -> None:
    documented = {name for name, option in options(role).items() if not option.get("required")}
    assert documented == set(load(role, "defaults/main.yml"))


@pytest.mark.parametrize("role", ROLES)
def test_defaults_fit_their_options(role: str) -> None:
    defaults = load(role, "defaults/main.yml")
    for name, option in options(role).items():
        value = defaults.get(name)
        assert name.startswith(role), "a role's variables carry its name"
        assert option["description"], name
        if "default" in option:
            assert option["default"] == value, name
        if isinstance(value, str) and "{{" in value:
            continue
        assert isinstance(value, TYPES[option["type"]]), name
        assert isinstance(value, bool) == (option["type"] == "bool"), name
        assert value in option.get("choices", [value]), name


@pytest.mark.parametrize(
    ("package", "left"),
    [
        ("docker.io", True),
        ("docker-ce-cli", True),
        ("containerd.io", True),
        ("runc", True),
        ("nvidia-driver-535-server", True),
        ("libnvidia-compute-535-server", True),
        ("libegl-nvidia0", True),
        ("libnvcuvid1", True),
        ("xserver-xorg-video-nvidia-535", True),
        ("firmware-nvidia-gsp", True),
        ("cuda-toolkit-12-4", True),
        ("libcuda1", True),
        # Without it the next kernel has no driver.
        ("linux-modules-nvidia-535-server-generic", False),
        ("linux-image-generic", False),
        ("openssh-server", False),
    ],
)
def test_what_unattended_upgrades_leave_alone(package: str, left: bool) -> None:
    """It matches each pattern from a name's begin (unattended-upgrades, is_pkgname_in_blacklist)."""
    template = (ROOT / "roles" / "node_baseline" / "templates" / "apt.conf.j2").read_text("utf-8")
    (block,) = re.findall(r"Package-Blacklist \{(.*?)\};", template, re.DOTALL)
    patterns = re.findall(r'"(.*?)";', block)
    assert any(re.match(pattern, package) for pattern in patterns) == left
