#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove from nodes and from the fleet's registry the images that nobody needs any more."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_prune
short_description: Remove images of the fleet that nobody needs any more
version_added: 0.1.0
description:
  - Removes from this node images that the fleet built, that O(keep) does not name and that no container uses. Images of
    others are never touched.
  - Where the fleet's own registry runs on this node, the same images are deleted there, and then the data that none
    needs. For that time, some seconds, the registry serves for reading only.
author:
  - Sophia AI (@sophia-ai)
requirements:
  - docker (Python)
options:
  registry:
    description: Name of the registry's stack; empty where the fleet has no registry of its own.
    type: str
    default: ''
  keep:
    description: Images that stay, by any of their names; those of all kept releases, and those of the plan.
    type: list
    elements: str
    required: true
  fresh:
    description: Seconds for which what was pushed stays, whoever needs it. A deploy may be about to use it.
    type: int
    default: 3600
attributes:
  check_mode:
    description: Reports what would be removed from the node. The registry is not looked at.
    support: full
"""

EXAMPLES = r"""
- name: Remove images that no release names
  sophia_ai.mcp_swarm.registry_prune:
    registry: mcp-registry
    keep: "{{ ansible_facts.fleet_plan.images | map(attribute='ref') | list + releases_images }}"
"""

RETURN = r"""
removed:
  description: Names removed from this node.
  returned: success
  type: list
  elements: str
deleted:
  description: Names deleted in the registry.
  returned: success
  type: list
  elements: str
freed:
  description: Bytes that the registry has less.
  returned: success
  type: int
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._prune import collect, prune_node
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import Registry, RegistryError


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "registry": {"type": "str", "default": ""},
            "keep": {"type": "list", "elements": "str", "required": True},
            "fresh": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        api = Registry("").api
        removed = prune_node(api, params["keep"], params["fresh"], module.check_mode)
        told = {"deleted": [], "freed": 0}
        if params["registry"] and not module.check_mode:
            told = collect(api, params["registry"], params["keep"], params["fresh"])
    except RegistryError as error:
        module.fail_json(msg=str(error))
    changed = bool(removed or told["deleted"] or told["freed"])
    module.exit_json(changed=changed, removed=removed, deleted=told["deleted"], freed=told["freed"])


if __name__ == "__main__":
    main()
