# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what draining a node does while it does it; see plugins/modules/swarm_node.py for the documentation."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _gate
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._progress import run_with_progress

NAME = "sophia_ai.mcp_swarm.swarm_node"
# What is not in the module's own timeout: promotions, the lock's takeover, starting.
AFTERWARDS_SECONDS = 180


class ActionModule(ActionBase):
    """Runs the module of the same name, with progress where it takes long."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        arguments.setdefault("who", _gate.who())
        if arguments.get("availability") not in ("drain", "active") or "fleet" not in arguments:
            return result | self._execute_module(module_name=NAME, module_args=arguments, task_vars=task_vars)
        timeout = int(arguments.get("timeout", 300)) + int(arguments.get("lock_wait", 60)) + AFTERWARDS_SECONDS
        return result | run_with_progress(self, NAME, arguments, task_vars or {}, timeout=timeout)
