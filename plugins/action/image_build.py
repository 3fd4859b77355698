# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lock, pack, transfer and build; see plugins/modules/image_build.py for the documentation."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet import dockerfiles
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import Fleet, fact, tree_files
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._progress import run_with_progress

MODULE = "sophia_ai.mcp_swarm.image_build"
CA_NAME = "site-ca"

display = Display()


class ActionModule(ActionBase):
    """The controller's half: only what is missing is packed and sent."""

    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self._vars: dict[str, Any] = task_vars or {}
        self._fleet = Fleet(self._vars, self._templar)
        plan = self._vars["ansible_facts"]["fleet_plan"]
        facts: dict[str, Any] = {}
        missing = self._missing(plan)
        if not self._task.check_mode and (missing or plan["missing_locks"]):
            plan = self._fleet.plan()
        if plan["missing_locks"] and not self._task.check_mode:
            bases = [image for image in plan["images"] if image["name"] in ("os", "builder")]
            self._build(plan, [image for image in bases if image["name"] in missing])
            self._lock(plan)
            plan = self._fleet.plan()
            facts = {"ansible_facts": {"fleet_plan": fact(plan)}}
            missing = self._missing(plan)
        if self._task.check_mode or not missing:
            return result | {"changed": bool(missing), "missing": missing} | facts
        built = self._build(plan, [image for image in plan["images"] if image["name"] in missing])
        return result | built | facts

    def _module(self, **arguments: Any) -> dict[str, Any]:
        answer = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=self._vars)
        if answer.get("failed"):
            raise AnsibleActionFail(answer.get("msg", "image_build failed"), result=answer)
        return answer

    def _missing(self, plan: dict[str, Any]) -> list[str]:
        slim = [{"name": image["name"], "ref": image["ref"]} for image in plan["images"]]
        return list(self._module(operation="missing", images=slim)["missing"])

    def _lock(self, plan: dict[str, Any]) -> None:
        """Resolve the missing locks on the build host and keep them beside the inventory."""
        wanted: dict[str, dict[str, str]] = {}
        for entry in self._fleet.catalogue:
            source = entry["source"]
            name = dockerfiles.lock_name(source)
            if name and name in plan["missing_locks"]:
                manifest = (
                    dockerfiles.package_json(source)
                    if source["kind"] == "npm"
                    else dockerfiles.requirements_in({"with": (), **source})
                )
                server = f"server {entry['name']}"
                wanted[name] = {"file": name, "kind": source["kind"], "manifest": manifest, "server": server}
        slim = [{"name": image["name"], "ref": image["ref"]} for image in plan["images"] if image["name"] == "builder"]
        # The site's CA bundle must be there, also where the bases were built long ago or elsewhere.
        places = {"site": self._site(plan), "build_dir": plan["paths"]["build_dir"]}
        archive: str | None = self._send(plan, [])
        for lock in wanted.values():
            display.display(f"    locking {lock['file']}")
            texts = self._module(operation="lock", images=slim, locks=[lock], archive=archive, **places)["locks"]
            archive = None
            self._fleet.controller.locks_dir.mkdir(parents=True, exist_ok=True)
            for name, text in texts.items():
                (self._fleet.controller.locks_dir / name).write_text(text, "utf-8")
        if wanted:
            display.display(f"    wrote {len(wanted)} lock files to {self._fleet.controller.locks_dir}: commit them")

    @staticmethod
    def _site(plan: dict[str, Any]) -> dict[str, str]:
        site = {key: value for key, value in plan["site"].items() if key != "ca_bundle"}
        if plan["site"]["ca_bundle"]:
            site["ca_file"] = f"{plan['paths']['build_dir']}/{CA_NAME}/ca.crt"
        return site

    def _build(self, plan: dict[str, Any], images: list[dict[str, Any]]) -> dict[str, Any]:
        if not images:
            return {"changed": False}
        remote = self._send(plan, images)
        slim = [
            {key: image[key] for key in ("name", "ref", "remote", "needs", "servers")}
            | {"files": {"Dockerfile": image["files"]["Dockerfile"]} if image["name"] == "os" else {}}
            for image in images
        ]
        arguments = {
            "operation": "build",
            "images": slim,
            "build_dir": plan["paths"]["build_dir"],
            "site": self._site(plan),
            "base": plan["build"]["base"],
            "parallel": plan["build"]["parallel"],
            "archive": remote,
            "docker_config": plan["registry"]["docker_config"],
        }
        answer = run_with_progress(self, MODULE, arguments, self._vars)
        if answer.get("failed"):
            raise AnsibleActionFail(answer.get("msg", "image_build failed"), result=answer)
        return answer

    def _send(self, plan: dict[str, Any], images: list[dict[str, Any]]) -> str:
        """Pack the contexts and put them on the build host; returns the archive's path there."""
        handle, local = tempfile.mkstemp(suffix=".tar")
        os.close(handle)
        try:
            with tarfile.open(local, "w") as tar:
                if bundle := plan["site"]["ca_bundle"]:
                    if not Path(bundle).is_file():
                        raise AnsibleActionFail(f"mcp_fleet.site.ca_bundle: {bundle!r} is no file on the controller")
                    _add(tar, f"{CA_NAME}/ca.crt", Path(bundle).read_bytes())
                for image in images:
                    for name, text in image["files"].items():
                        _add(tar, f"{image['name']}/{name}", text.encode())
                    for tree in image["trees"]:
                        root = self._fleet.controller.path(tree["src"])
                        for path in tree_files(root):
                            target = f"{image['name']}/{tree['dest']}/{path.relative_to(root)}"
                            _add(tar, target, path.read_bytes())
            directory = self._connection._shell.join_path(os.path.dirname(plan["paths"]["build_dir"]), "")
            remote = f"{plan['paths']['build_dir']}.tar"
            sent = self._transfer_file(local, self._connection._shell.join_path(self._make_tmp_path(), "contexts.tar"))
            moved = self._low_level_execute_command(f"mkdir -p {directory} && mv {sent} {remote}")
            if moved["rc"] != 0:
                raise AnsibleActionFail(
                    f"mcp_fleet.state_dir: the build contexts cannot be written to {remote}: {moved['stderr'].strip()};"
                    " free space there, or set another directory"
                )
            return remote
        finally:
            os.unlink(local)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """One file with fixed owner, mode and time: equal contents give equal contexts."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    tar.addfile(info, io.BytesIO(data))
