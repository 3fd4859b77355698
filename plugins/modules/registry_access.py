#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a node access to a registry."""

from __future__ import annotations

DOCUMENTATION = r"""
module: registry_access
short_description: Give a node access to a registry, and prove it
version_added: 0.2.0
description:
  - Has the node's engine trust the registry's authority (C(/etc/docker/certs.d)), tells the node where the registry is
    (C(/etc/hosts)), and keeps credentials for pushing and deploying. The engine is not restarted.
  - With O(prove) the engine logs in, which shows that all of it is right.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
requirements:
  - "Docker SDK for Python: L(docker,https://docker-py.readthedocs.io/) >= 5.0.3, on the node"
attributes:
  check_mode:
    support: full
    details: Says what would be written. Proves nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  host:
    description: Host of the registry, with its port where it is not 443.
    type: str
    required: true
  state:
    description: V(absent) removes what V(present) wrote.
    type: str
    choices: [present, absent]
    default: present
  authority:
    description: Certificate of the authority to trust, as PEM. Empty where the node trusts it already.
    type: str
    default: ''
  name:
    description: Name to enter in C(/etc/hosts). Empty where a name server knows it.
    type: str
    default: ''
  address:
    description: Address of O(name).
    type: str
    default: ''
  username:
    description: Who logs in. Empty where anybody may push and pull.
    type: str
    default: ''
  password:
    description: The password.
    type: str
    default: ''
  docker_config:
    description:
      - Directory in which the credentials are kept for C(docker) and the modules of this collection, readable by root
        alone, together with those that the user has for other registries. Empty keeps none.
    type: path
    default: ''
  prove:
    description: Whether the engine is to log in.
    type: bool
    default: false
  timeout:
    description: Seconds for which a registry that is starting is waited for.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Trust the team's registry
  sophia_ai.mcp_swarm.registry_access:
    host: registry.example.com:5000
    authority: "{{ lookup('ansible.builtin.file', 'registry-ca.crt') }}"
    username: deploy
    password: "{{ vault_registry_password }}"
    prove: true
"""

RETURN = r"""
files:
  description: Files that changed.
  returned: success
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._access import Access


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "authority": {"type": "str", "default": ""},
            "name": {"type": "str", "default": ""},
            "address": {"type": "str", "default": ""},
            "username": {"type": "str", "default": ""},
            "password": {"type": "str", "default": "", "no_log": True},
            "docker_config": {"type": "path", "default": ""},
            "prove": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    keys = ("host", "authority", "name", "address", "username", "password", "docker_config")
    access = Access(**{key: params[key] for key in keys})
    try:
        files = (access.take if params["state"] == "absent" else access.give)(module.check_mode)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}; this needs root, and room on the disk")
    prove = params["prove"] and params["state"] == "present" and not module.check_mode
    if prove and (problem := access.prove(params["timeout"])):
        module.fail_json(msg=problem, files=files)
    module.exit_json(changed=bool(files), files=files)


if __name__ == "__main__":
    main()
