#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's firewall, tried before it is kept."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_firewall
short_description: Load a node's firewall, with a way back
version_added: 0.2.0
description:
  - Owns the table C(inet mcp_swarm) of nftables and no other. It is kept in C(/etc/mcp-node/firewall.nft).
  - New rules run on trial. Unless they are confirmed in time, by a connection that they let through, a timer puts those
    before back. A restart of the machine does so too.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
requirements:
  - nftables
options:
  state:
    description:
      - V(trial) loads O(rules), where they are not those that are kept and loaded.
      - V(confirmed) keeps the rules that are on trial.
      - V(absent) takes the table away.
    type: str
    choices: [trial, confirmed, absent]
    default: trial
  rules:
    description: The whole table, as nft(8) reads it. Needed with O(state=trial).
    type: str
  seconds:
    description: How long a trial lasts.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    details: Has the rules checked, and loads none.
  diff_mode:
    support: full
    details: Shows the rules that are kept and the new ones.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Try the rules
  sophia_ai.mcp_swarm.node_firewall:
    rules: "{{ lookup('ansible.builtin.template', 'firewall.nft.j2') }}"
  register: firewall

- name: Connect anew
  ansible.builtin.meta: reset_connection

- name: Keep them
  sophia_ai.mcp_swarm.node_firewall:
    state: confirmed
  when: firewall.trial
"""

RETURN = r"""
trial:
  description: Whether rules are on trial now, to be confirmed.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.firewall import REPLACE, Firewall, FirewallError


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["trial", "confirmed", "absent"], "default": "trial"},
            "rules": {"type": "str"},
            "seconds": {"type": "int", "default": 60},
        },
        required_if=[("state", "trial", ("rules",))],
        supports_check_mode=True,
    )
    state, rules, seconds = (module.params[name] for name in ("state", "rules", "seconds"))
    if seconds < 10:
        module.fail_json(msg=f"seconds: {seconds}: at least 10; a new connection takes some")
    firewall = Firewall()
    try:
        if state == "absent":
            module.exit_json(changed=firewall.remove(dry=module.check_mode), trial=False)
        if state == "confirmed":
            if not module.check_mode:
                firewall.confirm()
            module.exit_json(changed=True, trial=False)
        if firewall.holds(rules):
            module.exit_json(changed=False, trial=False)
        diff = {"before": firewall.before().removeprefix(REPLACE), "after": rules, "before_header": firewall.kept}
        if module.check_mode:
            firewall.check(rules)
        else:
            firewall.load(rules, seconds)
        module.exit_json(changed=True, trial=not module.check_mode, diff=diff)
    except FirewallError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
