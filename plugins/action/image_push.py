# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Push with progress; see plugins/modules/image_push.py for the documentation."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._progress import run_with_progress


class ActionModule(ActionBase):
    """Runs the module of the same name and shows what it says."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        images = [{key: image[key] for key in ("ref", "remote")} for image in arguments.get("images", [])]
        ran = run_with_progress(self, "sophia_ai.mcp_swarm.image_push", arguments | {"images": images}, task_vars or {})
        return result | ran
