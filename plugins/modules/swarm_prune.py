#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove what a fleet left behind."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_prune
short_description: Remove what no kept release of a fleet needs
version_added: 0.2.0
description:
  - Removes releases beyond the newest O(keep), secrets, configs and networks of the fleet that no kept release names,
    and images that were built here and that nothing names any more.
  - M(sophia_ai.mcp_swarm.swarm_stack) prunes after each deploy what that deploy left. This also finds what was left
    otherwise, by builds that were never deployed, by deploys that died, by an older catalogue.
  - What a kept release names, what a service uses and what carries no label of this fleet is never removed.
  - Volumes are data. Those that no kept release names are told (RV(volumes)), and stay.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.group
requirements:
  - "Docker SDK for Python: L(docker,https://docker-py.readthedocs.io/) >= 5.0.3, on the node"
attributes:
  check_mode:
    support: full
    details: Says what would go. Takes no lock.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  name:
    description: Name of the stack.
    type: str
    required: true
  keep:
    description: How many deployed releases are kept; at least 2.
    type: int
    default: 10
  keep_images:
    description: Images that stay even if no release names them, such as those of the catalogue.
    type: list
    elements: str
    default: []
  node_only:
    description:
      - Only remove images of this node, all that were built here but O(keep_images). The node need be no manager.
      - Give it what RV(kept_images) was on a manager.
    type: bool
    default: false
  older_than:
    description: Seconds for which what no release ever named stays, because somebody may be about to deploy it.
    type: int
    default: 3600
  lock_wait:
    description: Seconds to wait for a deploy to end.
    type: int
    default: 60
  who:
    description: Who prunes, for the lock.
    type: str
    default: unknown
seealso:
  - module: sophia_ai.mcp_swarm.swarm_stack
    description: Keeps releases, and prunes after each deploy.
  - module: community.docker.docker_prune
    description: Prunes whatever nobody uses, whoever's it is.
"""

EXAMPLES = r"""
- name: Remove what is left over
  sophia_ai.mcp_swarm.swarm_prune:
    name: mcp
    keep_images: "{{ ansible_facts.fleet_plan.images | map(attribute='ref') | list }}"
  register: pruned

- name: Remove old images from a worker
  sophia_ai.mcp_swarm.swarm_prune:
    name: mcp
    node_only: true
    keep_images: "{{ hostvars[groups['mcp_managers'][0]].pruned.kept_images }}"
"""

RETURN = r"""
releases:
  description: Numbers of the releases whose records went.
  returned: success
  type: list
  elements: int
  sample: [1, 2]
objects:
  description:
    - Names of secrets and configs that went.
    - Also of services that gave nodes their images for a deploy that died.
  returned: success
  type: list
  elements: str
  sample: [mcp_gateway_0a1b2c3d4e5f]
networks:
  description: Names of networks that went.
  returned: success
  type: list
  elements: str
  sample: [mcp_control]
images:
  description: Images that went from this node.
  returned: success
  type: list
  elements: str
  sample: ["mcp-swarm/time:1f2e3d4c5b6a"]
volumes:
  description: The fleet's volumes on this node that no kept release names; they stay.
  returned: success
  type: list
  elements: str
  sample: [mcp_notes_data]
kept_images:
  description: Images that must stay, on other nodes too.
  returned: success
  type: list
  elements: str
  sample: ["mcp-swarm/time:0a1b2c3d4e5f"]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Api, Swarm, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.lock import acquire
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.prune import Pruned, prune, prune_node


def run(module: AnsibleModule) -> Pruned:
    """What the options ask for."""
    params, fleet, check = module.params, module.params["name"], module.check_mode
    keep_images, seconds = params["keep_images"], params["older_than"]
    if params["node_only"]:
        return Pruned(images=prune_node(Api(), keep_images, seconds, check), kept_images=keep_images)
    swarm = Swarm()
    if check:
        return prune(swarm, fleet, params["keep"], keep_images, seconds, check)
    with acquire(swarm, fleet, params["who"], "prune", params["lock_wait"], lambda line: None):
        return prune(swarm, fleet, params["keep"], keep_images, seconds, check)


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "keep": {"type": "int", "default": 10},
            "keep_images": {"type": "list", "elements": "str", "default": []},
            "node_only": {"type": "bool", "default": False},
            "older_than": {"type": "int", "default": 3600},
            "lock_wait": {"type": "int", "default": 60},
            "who": {"type": "str", "default": "unknown"},
        },
        supports_check_mode=True,
    )
    if module.params["keep"] < 2:
        module.fail_json(msg=f"keep: {module.params['keep']}: at least 2, or there is nothing to go back to")
    try:
        module.exit_json(**run(module).result())
    except SwarmError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
