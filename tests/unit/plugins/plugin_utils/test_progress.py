# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which part of a progress file has been shown, however it is cut when it is read."""

from __future__ import annotations

import json

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _progress

ONE, TWO = (json.dumps({"time": 1.0, "line": text}, ensure_ascii=False) + "\n" for text in ("building a", "built ü"))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(_progress.display, "display", lines.append)
    return lines


def test_whole_lines_are_shown_and_counted(shown: list[str]) -> None:
    assert _progress._show(ONE + TWO + "\n") == (len((ONE + TWO).encode()), [])
    assert shown == ["    building a", "    built ü"]


@pytest.mark.parametrize("cut", range(1, len(TWO)))
def test_a_line_that_is_still_being_written_is_left_for_the_next_look(shown: list[str], cut: int) -> None:
    file = ONE + TWO
    # The shell ends what it printed with a line end of its own.
    offset, dummy = _progress._show((ONE + TWO[:cut]) + "\n")
    if cut < len(TWO) - 1:
        assert offset == len(ONE.encode())
    _progress._show(file.encode()[offset:].decode() + "\n")
    assert shown == ["    building a", "    built ü"]


@pytest.mark.parametrize("text", ["", "not json", "[1]", "3", '{"cut": '])
def test_what_is_no_object_says_nothing(text: str) -> None:
    assert _progress._parsed(text) == {}
