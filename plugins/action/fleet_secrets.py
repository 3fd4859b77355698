# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve the fleet's secrets; see plugins/modules/fleet_secrets.py for the documentation."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import Fleet


class ActionModule(ActionBase):
    """Runs on the controller alone; its result is never logged."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        try:
            values = Fleet(task_vars, self._templar).secret_values()
        except FleetError as error:
            return result | {"failed": True, "msg": str(error), "errors": error.errors}
        # Only what a service mounts becomes a Swarm secret.
        plan = task_vars["ansible_facts"]["fleet_plan"]
        registry = plan["registry"]
        own, registrys = (
            {item["name"]: values[name] for name, item in stack["secrets"].items()}
            for stack in (plan["stack"], registry.get("stack") or {"secrets": {}})
        )
        return result | {
            "changed": False,
            "secrets": own,
            "registry_secrets": registrys,
            "registry_password": values.get(registry["password"], ""),
            "_ansible_no_log": True,
        }
