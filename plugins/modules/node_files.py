#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several files of a node at once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_files
short_description: Write several files in one go
version_added: 0.2.0
description:
  - Makes files what they should be, or absent, with one look at the node for all of them. Looking at each by
    M(ansible.builtin.copy) takes two rounds a file, which is most of the time of a run that changes nothing.
  - Every new content is validated before the first file is replaced; each is replaced atomically. Missing directories
    are made.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
options:
  files:
    description: The files.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Where., type: path, required: true}
      content: {description: What is in it. Without it the file is absent., type: str}
      mode: {description: Permissions in octal., type: str, default: "0644"}
      validate:
        description: A command that must succeed; C(%s) in it is a file with the new content.
        type: list
        elements: str
        default: []
attributes:
  check_mode:
    support: full
    details: Validates, and says what would change.
  diff_mode:
    support: full
    details: Shows the differences.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Configure the engine
  sophia_ai.mcp_swarm.node_files:
    files:
      - path: /etc/docker/daemon.json
        content: "{{ daemon | to_nice_json }}"
        validate: [dockerd, --validate, --config-file, "%s"]
"""

RETURN = r"""
written:
  description: What was in the files that changed before; empty where there was none.
  returned: success
  type: dict
  sample: {/etc/docker/daemon.json: "{}"}
"""

import os
import stat
import tempfile
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._process import run

VALIDATE_SECONDS = 60.0


def differs(file: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a file is not what it should be, and what is in it."""
    path, content = file["path"], file["content"]
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as there:
            before = there.read()
        status = os.stat(path)
    except FileNotFoundError:
        return content is not None, ""
    same_mode = stat.S_IMODE(status.st_mode) == int(file["mode"], 8) and (status.st_uid, status.st_gid) == (0, 0)
    return content != before or not same_mode, before


def prepare(file: Mapping[str, Any], into: str) -> str:
    """Have new content validated, in a file of its own; what is wrong with it, or nothing."""
    draft = os.path.join(into, os.path.basename(file["path"]))
    with open(draft, "w", encoding="utf-8", newline="") as new:
        new.write(file["content"])
    if not file["validate"]:
        return ""
    code, said = run([word.replace("%s", draft) for word in file["validate"]], timeout=VALIDATE_SECONDS)
    return "" if code == 0 else f"{file['path']}: its new content is refused, and nothing was changed: {said.strip()}"


def replace(file: Mapping[str, Any]) -> None:
    """Put new content in a file's place, or take the file away."""
    path = file["path"]
    if file["content"] is None:
        os.unlink(path)
        return
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o755, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=directory, prefix=".mcp-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as new:
            new.write(file["content"])
            os.fchmod(new.fileno(), int(file["mode"], 8))
        os.chown(draft, 0, 0)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str"},
                    "mode": {"type": "str", "default": "0644"},
                    "validate": {"type": "list", "elements": "str", "default": []},
                },
            },
        },
        supports_check_mode=True,
    )
    written, wrong, changed = {}, [], []
    try:
        for file in module.params["files"]:
            needed, before = differs(file)
            if needed:
                changed.append(file)
                written[file["path"]] = before
        with tempfile.TemporaryDirectory(prefix="mcp-files-") as drafts:
            wrong = [said for file in changed if file["content"] is not None and (said := prepare(file, drafts))]
        if wrong:
            module.fail_json(msg="\n".join(wrong))
        for file in changed if not module.check_mode else ():
            replace(file)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    diff = [
        {
            "before_header": f["path"],
            "after_header": f["path"],
            "before": written[f["path"]],
            "after": f["content"] or "",
        }
        for f in changed
    ]
    module.exit_json(changed=bool(changed), written=written, diff=diff)


if __name__ == "__main__":
    main()
