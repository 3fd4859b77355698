#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SSH keys of Lambda Cloud."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lambda_ssh_key
short_description: Store public SSH keys in Lambda Cloud
version_added: 0.3.0
description:
  - An instance is launched with the name of a key that the account has. This stores the public half of a key of yours.
  - Lambda can make a key pair too, and then sends its private half over the network; this module does not ask for that.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.lambda_cloud
options:
  name:
    description: Name of the key in the account, at most 64 characters.
    type: str
    required: true
  public_key:
    description:
      - The public key, as it is in a file that ends with C(.pub). Needed with O(state=present).
      - The comment at its end is not compared.
    type: str
  state:
    description:
      - V(present) stores it, V(absent) removes it.
      - Instances that run keep the keys that they were launched with.
    type: str
    choices: [present, absent]
    default: present
  replace:
    description: Replace a key of the same name that is another one. Without it that is an error.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what would be stored or removed.
    support: full
  diff_mode:
    description: Shows the key before and after.
    support: full
  idempotent:
    description: A key that is stored is not stored again.
    support: full
"""

EXAMPLES = r"""
- name: Store the operators' key
  sophia_ai.mcp_swarm.lambda_ssh_key:
    name: operations
    public_key: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"

- name: Remove it
  sophia_ai.mcp_swarm.lambda_ssh_key:
    name: operations
    state: absent
"""

RETURN = r"""
code:
  description: The API's own name of what it refused.
  returned: on failure, where the API gave one
  type: str
  sample: global/quota-exceeded
ssh_key:
  description: The key; empty where there is none.
  returned: success
  type: dict
  contains:
    id: {description: Its id., type: str}
    name: {description: Its name., type: str}
    public_key: {description: The key., type: str}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.arguments import account, fail, with_access
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.client import LambdaCloud
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.errors import LambdaError

LONGEST_NAME = 64
LONGEST_KEY = 4096


def public_key(text: str) -> tuple[str, str]:
    """Type and content of a public key in OpenSSH's form, without its comment.

    Raises:
        LambdaError: it is none.
    """
    if "PRIVATE KEY" in text:
        raise LambdaError(
            "public_key: this is a private key, which stays where it is; give the one that ends with .pub"
        )
    words = text.split()
    if len(words) < 2 or not words[0].startswith(("ssh-", "ecdsa-", "sk-")) or not words[1].startswith("AAAA"):
        raise LambdaError(
            "public_key: is no public key as OpenSSH writes them (ssh-ed25519 AAAA…); give the content of the file that"
            " ends with .pub"
        )
    if len(text) > LONGEST_KEY:
        raise LambdaError(f"public_key: has {len(text)} characters; {LONGEST_KEY} at most are possible")
    return words[0], words[1]


def ensure(cloud: LambdaCloud, params: dict[str, Any], check: bool) -> dict[str, Any]:
    """What the module returns.

    Raises:
        LambdaError: it could not be done.
    """
    name, wish = params["name"], params["public_key"]
    wanted = public_key(wish) if params["state"] == "present" else None
    named = [key for key in cloud.ssh_keys() if key["name"] == name]
    if len(named) > 1:
        ids = ", ".join(key["id"] for key in named)
        raise LambdaError(f"name: {name}: {len(named)} keys are called so: {ids}; remove the others in the dashboard")
    before = named[0] if named else {}
    after = before
    changed = bool(before) != bool(wanted)
    if wanted and before and public_key(before["public_key"]) != wanted:
        if not params["replace"]:
            raise LambdaError(f"name: {name}: is the name of another key; choose another name, or set replace: true")
        changed = True
    if changed:
        after = {"name": name, "public_key": wish.strip()} if wanted else {}
        if not check:
            if before:
                cloud.delete_ssh_key(before["id"])
            if wanted:
                after = _add(cloud, after, before)
    return {"changed": changed, "ssh_key": after, "diff": {"before": _shown(before), "after": _shown(after)}}


def _add(cloud: LambdaCloud, new: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    try:
        return cloud.add_ssh_key(new["name"], new["public_key"])
    except LambdaError:
        if before:  # no half of a replacement
            cloud.add_ssh_key(before["name"], before["public_key"])
        raise


def _shown(key: dict[str, Any]) -> dict[str, Any]:
    return {field: key[field] for field in ("name", "public_key") if field in key}


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec=with_access(
            {
                "name": {"type": "str", "required": True},
                "public_key": {"type": "str", "no_log": False},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
                "replace": {"type": "bool", "default": False},
            }
        ),
        required_if=[("state", "present", ("public_key",))],
        supports_check_mode=True,
    )
    name = module.params["name"]
    if not 0 < len(name) <= LONGEST_NAME:
        module.fail_json(msg=f"name: {name!r}: has {len(name)} characters; 1 to {LONGEST_NAME} are possible")
    try:
        module.exit_json(**ensure(account(module), module.params, module.check_mode))
    except LambdaError as error:
        fail(module, error)


if __name__ == "__main__":
    main()
