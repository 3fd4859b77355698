#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Push the fleet's images to its registry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_push
short_description: Push images to the fleet's registry
version_added: 0.2.0
description:
  - Pushes each image that the registry does not have. Images are named by their content, so one that is there is right.
  - Progress is shown while it runs.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.action
  - sophia_ai.mcp_swarm.attributes.progress
requirements:
  - "Docker SDK for Python: L(docker,https://docker-py.readthedocs.io/) >= 5.0.3, on the node"
attributes:
  check_mode:
    support: full
    details: Says what would be pushed.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  images:
    description: Images of the fleet plan, each with C(ref), its name on this engine, and C(remote), its name there.
    type: list
    elements: dict
    default: []
  also:
    description: Further names in the registry, those of releases. What this engine does not have of them is left out.
    type: list
    elements: str
    default: []
  docker_config:
    description: Directory of the credentials, as M(sophia_ai.mcp_swarm.registry_access) keeps them.
    type: path
    default: ''
"""

EXAMPLES = r"""
- name: Push what the registry misses
  sophia_ai.mcp_swarm.image_push:
    images: "{{ ansible_facts.fleet_plan.images }}"
    docker_config: "{{ ansible_facts.fleet_plan.registry.docker_config }}"
"""

RETURN = r"""
pushed:
  description: Names in the registry of the images that were pushed, or in check mode would be.
  returned: success
  type: list
  elements: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.push import absent, push
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._progress import Progress
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import Registry, RegistryError


def run(module: AnsibleModule) -> dict[str, Any]:
    """The module's result."""
    params = module.params
    client = Registry(params["docker_config"])
    needed = {image["remote"]: image["ref"] for image in params["images"]}
    also = {name.partition("@")[0] for name in params["also"]} - set(needed)
    images = needed | {name: name for name in also if client.here(name)}
    wanted = absent(client, [{"ref": ref, "remote": remote} for remote, ref in images.items()])
    names = sorted(image["remote"] for image in wanted)
    if module.check_mode or not wanted:
        return {"changed": bool(wanted), "pushed": names}
    pushed = push(client, wanted, Progress(params["progress_file"]))
    if failed := [reason for remote, reason in pushed.failed.items() if remote in needed]:
        head = f"{len(failed)} image{'s' if len(failed) > 1 else ''} could not be pushed; what ran before still runs."
        raise RegistryError("\n".join([head, *failed]))
    return {"changed": bool(pushed.sent), "pushed": sorted(pushed.sent)}


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "dict", "default": []},
            "also": {"type": "list", "elements": "str", "default": []},
            "docker_config": {"type": "path", "default": ""},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except RegistryError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
