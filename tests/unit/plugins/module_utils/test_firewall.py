# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the firewall refuses and says, with an nft and a systemd that are none; tests/node has the real ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node import firewall as code
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.firewall import REPLACE, Firewall, FirewallError

RULES = "table inet mcp_swarm { }\n"


class Programs:
    """What runs, in words; ``fails`` are beginnings of commands, to what each says."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.fails: dict[str, str] = {}
        self.there = True

    def run(self, *command: str, stdin: str | None = None) -> tuple[int, str]:
        line = " ".join(command)
        self.ran.append(line)
        said = next((said for begins, said in self.fails.items() if line.startswith(begins)), None)
        return (0, "") if said is None else (1, f"{said}\n")


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> Programs:
    made = Programs()
    monkeypatch.setattr(code, "_run", made.run)
    monkeypatch.setattr(code.shutil, "which", lambda name: f"/usr/sbin/{name}" if made.there else None)
    real = os.path.isdir
    monkeypatch.setattr(code.os.path, "isdir", lambda path: path == "/run/systemd/system" or real(path))
    return made


@pytest.fixture
def firewall(programs: Programs, tmp_path: Path) -> Firewall:
    return Firewall(str(tmp_path), str(tmp_path))


def refused(work: Callable[[], Any]) -> str:
    with pytest.raises(FirewallError) as raised:
        work()
    return str(raised.value)


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir())


def test_what_is_confirmed_is_kept(firewall: Firewall, programs: Programs, tmp_path: Path) -> None:
    firewall.load(RULES, 45)
    timer, loaded = programs.ran[-2:]
    assert timer.startswith("systemd-run") and "--on-active=45s" in timer
    assert loaded == f"nft --file {tmp_path}/firewall.next.nft"
    firewall.confirm()
    assert (firewall.before(), left(tmp_path)) == (REPLACE + RULES, ["firewall.nft"])


def test_rules_of_others_are_not_flushed(firewall: Firewall, programs: Programs) -> None:
    assert refused(lambda: firewall.load("flush ruleset\n" + RULES, 45)) == (
        "the rules flush those of others (flush ruleset); they may only fill their own table"
    )
    assert programs.ran == []


def test_without_nft_nothing_is_tried(firewall: Firewall, programs: Programs, tmp_path: Path) -> None:
    programs.there = False
    assert refused(lambda: firewall.load(RULES, 45)) == "nft is not installed: apt-get install nftables"
    assert (programs.ran, left(tmp_path)) == ([], [])


@pytest.mark.parametrize(
    ("fails", "said", "loaded"),
    [
        ("nft --check", "nft refuses the rules; those before go on:\nsyntax error", False),
        ("nft --file", "nft cannot load the rules; those before go on:\nsyntax error", True),
        ("systemd-run", "no timer could be set, so that no rules were tried: syntax error", False),
    ],
)
def test_what_is_refused_leaves_nothing_on_trial(
    firewall: Firewall, programs: Programs, tmp_path: Path, fails: str, said: str, loaded: bool
) -> None:
    programs.fails[fails] = "syntax error"
    (tmp_path / "firewall.nft").write_text("before")
    assert refused(lambda: firewall.load(RULES, 45)) == said
    assert any(line.startswith("nft --file") for line in programs.ran) is loaded
    if loaded:  # the timer has nothing to put back
        assert "systemctl stop mcp-firewall-revert.timer" in programs.ran[-2:]
    assert refused(firewall.confirm) == "no rules are on trial; run again"
    assert (firewall.before(), left(tmp_path)) == ("before", ["firewall.nft"])


def test_a_timer_that_was_quicker_is_told(firewall: Firewall, tmp_path: Path) -> None:
    firewall.load(RULES, 45)
    (tmp_path / "mcp-firewall-revert.done").touch()
    assert refused(firewall.confirm) == "the timer had put the rules before back already; run again"
