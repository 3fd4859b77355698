# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify a running fleet; see plugins/modules/fleet_verify.py for the documentation."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _passes, _probe, _verdict
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import Controller

display = Display()


class ActionModule(ActionBase):
    """Runs on the controller, where clients are; no host is contacted but the edge."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec({"timeout": {"type": "int", "default": 60}})
        task_vars = task_vars or {}
        plan = task_vars["ansible_facts"]["fleet_plan"]
        if _probe.MISSING:
            return result | {"failed": True, "msg": _probe.MISSING}
        if not plan["servers"]:
            return result | {"changed": False, "msg": "the catalogue mcp_servers is empty: nothing to verify"}
        for what, path in (("API key", plan["client"]["api_key_file"]), ("edge's CA", plan["client"]["ca_file"])):
            if path and not Path(path).is_file():
                msg = f"{path} does not exist: the {what} is written by the deploy playbook; run it first"
                return result | {"failed": True, "msg": msg}
        key = Path(plan["client"]["api_key_file"]).read_text("utf-8").strip()
        headers = _passes.headers(task_vars, self._templar)
        servers, problems = asyncio.run(_probe.Probe(plan, key, args["timeout"], headers).run())
        line = _verdict.summary(servers)
        report = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "url": plan["client"]["url"],
            "summary": line,
            "operational": sum(not seen.problem for seen in servers),
            "total": len(servers),
            "problems": problems,
            "servers": [seen.report() for seen in servers],
        }
        state = Controller(task_vars["inventory_dir"]).state_dir / "verification.json"
        state.parent.mkdir(parents=True, exist_ok=True)
        state.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        broken = [f"{seen.name}: {seen.problem}" for seen in servers if seen.problem]
        causes = problems or [text.replace("<fleet>", plan["fleet"]) for text in broken]
        display.display("\n" + "\n".join([*_verdict.table(servers), "", line, ""]))
        result |= {"changed": False, "report_file": str(state), "verification": report}
        if problems or broken:
            return result | {"failed": True, "msg": "\n".join([line, *causes])}
        display.display("\n".join([*_verdict.client_lines(plan["client"]), ""]))
        return result | {"msg": line}
