#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete from the fleet's registry the images that nobody needs any more."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_prune
short_description: Delete images from the fleet's own registry that nobody needs any more
version_added: 0.2.0
description:
  - Where the fleet's own registry runs on this node, every image is deleted there that O(keep) does not name, and then
    the data that none needs. For that time, some seconds, the registry serves for reading only.
  - On other nodes it does nothing.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
requirements:
  - "Docker SDK for Python: L(docker,https://docker-py.readthedocs.io/) >= 5.0.3, on the node"
attributes:
  check_mode:
    support: full
    details: Says what would be deleted.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  name:
    description: Name of the registry's stack.
    type: str
    required: true
  keep:
    description: Images that stay, by any of their names.
    type: list
    elements: str
    required: true
  older_than:
    description: Seconds for which what was pushed stays, whoever needs it, because somebody may be about to deploy it.
    type: int
    default: 3600
seealso:
  - module: sophia_ai.mcp_swarm.swarm_prune
    description: Removes old images from nodes, and returns what is to be kept.
"""

EXAMPLES = r"""
- name: Delete images that no release names
  sophia_ai.mcp_swarm.registry_prune:
    name: mcp-registry
    keep: "{{ hostvars[groups['mcp_managers'][0]].pruned.kept_images }}"
"""

RETURN = r"""
deleted:
  description: Names deleted in the registry.
  returned: success
  type: list
  elements: str
  sample: ["mcp-swarm/time:0a1b2c3d4e5f"]
kept:
  description: How many images it still has.
  returned: success
  type: int
  sample: 14
freed:
  description: Bytes that it has less.
  returned: success
  type: int
  sample: 43627477
"""

import json
import shutil
from collections.abc import Iterable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._process import run
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import (
    Registry,
    RegistryError,
    own_name,
    parts,
)

COLLECT_SECONDS = 1800.0


def registry_names(images: Iterable[str]) -> list[str]:
    """Names as the registry has them: without its host, by tag and by digest."""
    found = set()
    for image in images:
        if not (name := own_name(image)):
            continue
        found.add(name)
        if digest := parts(image)[2]:
            found.add(f"{name.partition(':')[0]}@{digest}")
    return sorted(found)


def collect(api: Any, stack: str, keep: list[str], seconds: float, check: bool) -> dict[str, Any]:
    """Clean the registry, where it runs on this node.

    Raises:
        RegistryError: with what it said.
    """
    label = f"com.docker.swarm.service.name={stack}_registry"
    containers = api.containers(filters={"label": label, "status": "running"})
    if not containers:
        return {"deleted": [], "kept": 0, "freed": 0}
    command = [shutil.which("docker") or "docker", "exec", "--interactive", containers[0]["Id"], "registry-collect"]
    wish = json.dumps({"keep": registry_names(keep), "fresh_seconds": seconds, "check": check})
    code, output = run(command, stdin=wish.encode(), timeout=COLLECT_SECONDS)
    try:
        if code == 0:
            return dict(json.loads(output.splitlines()[-1]))
    except (ValueError, IndexError):
        pass
    raise RegistryError(f"the registry could not be cleaned: {' '.join(output.split())[-500:]}")


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "keep": {"type": "list", "elements": "str", "required": True},
            "older_than": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    params, check = module.params, module.check_mode
    try:
        told = collect(Registry("").api, params["name"], params["keep"], params["older_than"], check)
    except RegistryError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(told["deleted"] or told["freed"]), **told)


if __name__ == "__main__":
    main()
