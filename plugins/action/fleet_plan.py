# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile the inventory into the fleet plan; see plugins/modules/fleet_plan.py for the documentation."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import Controller


class ActionModule(ActionBase):
    """Runs on the controller alone; no host is contacted."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, args = self.validate_argument_spec(
            {"resolve_secrets": {"type": "bool", "default": True}}
        )
        task_vars = task_vars or {}
        try:
            plan = Controller(task_vars["inventory_dir"]).compile(
                self.variable("mcp_servers", task_vars),
                self.variable("mcp_fleet", task_vars),
                sum(1 for host in task_vars["hostvars"].values() if host.get("mcp_node_gpus")),
                resolve_secrets=args["resolve_secrets"],
            )
        except FleetError as error:
            return result | {"failed": True, "msg": str(error), "errors": error.errors}
        return result | {"changed": False, "ansible_facts": {"fleet_plan": plan}}

    def variable(self, name: str, task_vars: dict[str, Any]) -> Any:
        """An inventory variable with its templates resolved; None where it is not defined."""
        return self._templar.template(task_vars[name]) if name in task_vars else None
