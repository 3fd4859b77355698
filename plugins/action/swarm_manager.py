# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the manager to ask; see plugins/modules/swarm_manager.py for the documentation."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.membership import MembershipError, choose


class ActionModule(ActionBase):
    """Runs on the controller alone; no host is contacted."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            {
                "managers": {"type": "list", "elements": "str", "required": True},
                "seen": {"type": "dict", "required": True},
                "other_than": {"type": "list", "elements": "str", "default": []},
                "optional": {"type": "bool", "default": False},
            }
        )
        try:
            return result | {"changed": False, "manager": choose(**args)}
        except MembershipError as error:
            return result | {"failed": True, "msg": str(error)}
