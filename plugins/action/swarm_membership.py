# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide who joins which Swarm; see plugins/modules/swarm_membership.py for the documentation."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.membership import MembershipError, decide

display = Display()


class ActionModule(ActionBase):
    """Runs on the controller alone; no host is contacted."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            {
                "managers": {"type": "list", "elements": "str", "required": True},
                "workers": {"type": "list", "elements": "str", "default": []},
                "seen": {"type": "dict", "required": True},
                "initialise": {"type": "bool", "default": False},
            }
        )
        try:
            decided = decide(args["managers"], args["workers"], args["seen"], args["initialise"])
        except MembershipError as error:
            return result | {"failed": True, "msg": f"{error}\nNo host's membership was changed."}
        if decided.unknown:
            names = ", ".join(decided.unknown)
            display.warning(
                f"the Swarm has nodes that the inventory does not: {names}; playbooks/leave.yml removes one"
            )
        return result | {"changed": False, "ansible_facts": {"swarm_membership": asdict(decided)}}
