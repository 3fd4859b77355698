#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host knows of its Swarm."""

from __future__ import annotations

DOCUMENTATION = r"""
module: swarm_node_info
short_description: Tell what a host knows of its Swarm
version_added: 0.2.0
description:
  - Says whether the host's engine is in a Swarm, as which node, and, on a manager, which nodes there are.
  - A host without an engine, or in no Swarm, is an answer as well. It fails only where the host cannot be asked.
  - Unlike M(community.docker.docker_swarm_info) and M(community.docker.docker_node_info) it works on every host, tells
    managers that have lost their quorum from those that serve, and shows no join token.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.info
requirements:
  - docker (Python)
options: {}
seealso:
  - module: sophia_ai.mcp_swarm.swarm_node
"""

EXAMPLES = r"""
- name: Ask what the host knows of a Swarm
  sophia_ai.mcp_swarm.swarm_node_info:
  register: swarm

- name: Name the nodes that are lost
  ansible.builtin.debug:
    msg: "{{ swarm.nodes | rejectattr('state', 'equalto', 'ready') | map(attribute='name') | list }}"
"""

RETURN = r"""
state:
  description:
    - V(active), V(inactive), V(pending), V(locked) or V(error), as the engine says; V(none) where there is no engine.
  returned: success
  type: str
node_id:
  description: Its id in the Swarm; empty where it is in none.
  returned: success
  type: str
cluster_id:
  description: Id of the Swarm. Managers alone know it.
  returned: success
  type: str
manager:
  description: Whether it is a manager.
  returned: success
  type: bool
certificate:
  description:
    - V(manager) or V(worker), as its certificate says; empty without one.
    - A node that is demoted gets another certificate after its managers count it no more, and until then starts again
      as a manager.
  returned: success
  type: str
serves:
  description: Whether it is a manager of a Swarm whose managers have a leader.
  returned: success
  type: bool
made:
  description: Whether the fleet's role made the Swarm. Managers alone know it.
  returned: success
  type: bool
address:
  description: Where the other nodes reach it.
  returned: success
  type: str
managers:
  description: Where it knows managers, as C(address:port).
  returned: success
  type: list
  elements: str
nodes:
  description: All nodes, where RV(serves).
  returned: success
  type: list
  elements: dict
  contains:
    id: {description: Its id in the Swarm., type: str}
    name: {description: What people call it., type: str}
    hostname: {description: The machine's name., type: str}
    host: {description: Its name in the inventory; empty where the fleet did not add it., type: str}
    role: {description: V(manager) or V(worker)., type: str}
    availability: {description: 'V(active), V(pause) or V(drain).', type: str}
    state: {description: 'V(ready), V(down), V(disconnected) or V(unknown).', type: str}
    reachability: {description: 'Of a manager: V(reachable) or V(unreachable).', type: str}
    leader: {description: Whether it leads the managers., type: bool}
    address: {description: Where it is., type: str}
    engine: {description: Version of its engine., type: str}
    labels: {description: Its labels., type: dict}
problem:
  description: What is wrong; empty where nothing is.
  returned: success
  type: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._swarm.nodes import look


def main() -> None:
    """The module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    module.exit_json(changed=False, **look())


if __name__ == "__main__":
    main()
