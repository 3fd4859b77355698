# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show replicas moving while they move; see plugins/modules/swarm_rebalance.py for the documentation."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _gate
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._progress import run_with_progress

# A hundred moves end before that.
MOST_SECONDS = 7200


class ActionModule(ActionBase):
    """Runs the module of the same name with progress."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        arguments.setdefault("who", _gate.who())
        ran = run_with_progress(
            self, "sophia_ai.mcp_swarm.swarm_rebalance", arguments, task_vars or {}, timeout=MOST_SECONDS
        )
        return result | ran
