# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compile the inventory into the fleet plan; see plugins/modules/fleet_plan.py for the documentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import Fleet, fact

display = Display()


class ActionModule(ActionBase):
    """Runs on the controller alone; no host is contacted."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        dummy, args = self.validate_argument_spec(
            {"resolve_secrets": {"type": "bool", "default": True}, "write_dir": {"type": "path"}}
        )
        try:
            plan = Fleet(task_vars or {}, self._templar).plan(resolve_secrets=args["resolve_secrets"])
        except FleetError as error:
            return result | {"failed": True, "msg": str(error), "errors": error.errors}
        for warning in plan["warnings"]:
            display.warning(warning)
        if args["write_dir"]:
            directory = Path(args["write_dir"])
            write_plan(plan, directory)
            display.display("\n".join([*describe(plan), "", f"Everything it says, to read: {directory}", ""]))
        return result | {"changed": False, "ansible_facts": {"fleet_plan": fact(plan)}}


def describe(plan: dict[str, Any]) -> list[str]:
    """The plan in a few lines."""
    count, url = len(plan["servers"]), plan["client"]["url"]
    lines = [f"Fleet {plan['fleet']}, plan {plan['digest'][:12]}: {count} servers at {url}"]
    for server in plan["servers"]:
        lines.append(
            f"  {server['name']:<20} {server['kind']:<8} x{server['replicas']}  {server['sessions']:<9} "
            f" gpu {_gpus(server):<14}  {server['cpus']:g} cpus  {server['memory']:<6}"
            f" {server['image'] or server['url']}"
        )
    return lines


def _gpus(server: dict[str, Any]) -> str:
    """Whether a server wants GPUs, and how many of its replicas have some, of how many units each."""
    if server["gpu"] == "none":
        return "none"
    pool, count = server["gpu_pool"], server["gpu_count"]
    on_gpus = (pool["replicas"] if pool else server["replicas"]) if count else 0
    return f"{server['gpu']} x{on_gpus}{f' of {count}' if count > 1 else ''}"


def write_plan(plan: dict[str, Any], directory: Path) -> None:
    """The plan as files: stack, gateway configuration, and each image's build context without its source trees."""
    texts = {
        "plan.json": json.dumps(plan, indent=2) + "\n",
        "docker-compose.cloud.yml": json.dumps(plan["stack"], indent=2) + "\n",
        **{f"{config['name']}.json": config["content"] for config in plan["configs"]},
        **{f"images/{i['name']}/{name}": text for i in plan["images"] for name, text in i["files"].items()},
    }
    for name, text in texts.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
