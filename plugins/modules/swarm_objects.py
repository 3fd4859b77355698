#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks, secrets and configs of a fleet."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_objects
short_description: Make a fleet's networks, secrets and configs
version_added: 0.1.0
description:
  - Secrets and configs are named by their content, so one that exists is never touched; missing ones are made.
  - Everything carries the label C(ai.sophia.mcp.fleet) of its fleet.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.manager
attributes:
  check_mode:
    support: full
    details: Reports what would be made.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  fleet:
    description: Name of the fleet.
    type: str
    required: true
  networks:
    description:
      - Overlay networks, attachable, each with C(name), C(subnet), C(internal) (whether it has no way out), and where
        wanted C(encrypted) (between nodes; either will do where it is missing) and C(mtu) (of the path between nodes,
        1500 where it is missing).
      - One that exists with other options is refused, and not changed.
    type: list
    elements: dict
    default: []
  secrets:
    description: Name to value, a text of at least one character. Swarm takes at most 500 KB.
    type: dict
    default: {}
  configs:
    description: Name to content, a text. Swarm takes at most 1000 KB (500 KB before Docker 26).
    type: dict
    default: {}
notes:
  - Nothing is ever removed here. M(sophia_ai.mcp_swarm.swarm_stack) prunes what no release needs, an hour after it was
    made at the earliest.
seealso:
  - module: sophia_ai.mcp_swarm.swarm_stack
    description: Deploys what refers to these objects.
  - module: community.docker.docker_secret
  - module: community.docker.docker_config
  - module: community.docker.docker_network
"""

EXAMPLES = r"""
- name: Make what the stack refers to
  sophia_ai.mcp_swarm.swarm_objects:
    fleet: mcp
    networks: "{{ ansible_facts.fleet_plan.networks }}"
    secrets: "{{ fleet_secrets.secrets }}"
  no_log: true

- name: Make a config of one's own, named by its content
  sophia_ai.mcp_swarm.swarm_objects:
    fleet: mcp
    configs: "{{ {'mcp_motd_' ~ (motd | hash('sha256'))[:12]: motd} }}"
"""

RETURN = r"""
made:
  description: Names of the objects that did not exist.
  returned: success
  type: list
  elements: str
  sample: [mcp_backend, mcp_gateway_api_key_0a1b2c3d4e5f]
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.client import Swarm, SwarmError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.objects import ensure_networks, ensure_objects


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "fleet": {"type": "str", "required": True},
            "networks": {"type": "list", "elements": "dict", "default": []},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "configs": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    fleet, check = module.params["fleet"], module.check_mode
    try:
        swarm = Swarm()
        made = ensure_networks(swarm, fleet, module.params["networks"], check)
        made += ensure_objects(swarm, fleet, "secrets", module.params["secrets"], check)
        made += ensure_objects(swarm, fleet, "configs", module.params["configs"], check)
    except SwarmError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(made), made=made)


if __name__ == "__main__":
    main()
