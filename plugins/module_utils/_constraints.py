# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Placement constraints as SwarmKit reads them (moby/swarmkit manager/constraint). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable

RULE = re.compile(r"^\s*([A-Za-z0-9_.-]+)\s*(==|!=)\s*(.*?)\s*$")


def key(constraint: str) -> str:
    """What a constraint asks of a node, such as ``node.labels.zone``; empty where it is no constraint."""
    rule = RULE.match(constraint)
    return rule.group(1) if rule else ""


def meets(value: Callable[[str], str | None], constraint: str) -> bool:
    """Whether a node meets one constraint. What a node does not have equals nothing.

    Args:
        value: a key to what the node says to it; None where it has no such thing.
        constraint: such as ``node.role == manager``.
    """
    rule = RULE.match(constraint)
    if not rule:
        return False
    asked, operator, wanted = rule.groups()
    has = value(asked)
    same = has is not None and has.lower() == wanted.lower()
    return same == (operator == "==")
