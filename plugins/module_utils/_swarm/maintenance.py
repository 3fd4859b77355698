# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance of a fleet or of some of its servers: what the board says of it, for people and for gateways."""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm import board
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.lock import TIME

EVERYTHING = "*"


def lines(document: dict[str, Any]) -> list[str]:
    """What is in maintenance, one line each."""
    found = []
    for name, notice in sorted((document.get("maintenance") or {}).items()):
        what = "the fleet" if name == EVERYTHING else name
        until = f", until {_time(notice['until'])}" if notice.get("until") else ""
        found.append(f"{what}: by {notice['who']} since {_time(notice['since'])}{until} ({notice['why']})")
    return found


def turned_on(document: dict[str, Any], name: str, who: str, why: str, minutes: float) -> dict[str, Any]:
    """The document with a server, or with ``*`` the fleet, in maintenance; one that says the same stays as it is."""
    notices = dict(document.get("maintenance") or {})
    there = notices.get(name)
    if there and (there["who"], there["why"]) == (who, why) and not minutes and not there["until"]:
        return document
    now = int(time.time())
    until = now + int(60 * minutes) if minutes else 0
    notices[name] = {"why": why, "who": who, "since": there["since"] if there else now, "until": until}
    return {**document, "maintenance": notices}


def turned_off(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The document without it; without any where that is the fleet's."""
    notices = {} if name == EVERYTHING else dict(document.get("maintenance") or {})
    notices.pop(name, None)
    return {**document, "maintenance": notices}


def lift(swarm: Swarm, fleet: str, name: str) -> None:
    """End it, and take the board down once nobody needs it: gateways keep what a board that is gone said last."""
    after = board.post(swarm, fleet, lambda document: turned_off(document, name))
    if after and not any(after.get(key) for key in board.KEYS):
        board.learn()
        if not any(board.read(swarm, fleet).get(key) for key in board.KEYS):
            board.take_down(swarm, fleet)


def _time(moment: float) -> str:
    return time.strftime(TIME, time.gmtime(moment))
