# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What instances of Lambda Cloud cost, and which of them are paid for nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
name: lambda_cost
short_description: Say what instances of Lambda Cloud cost, and which idle
version_added: 0.3.0
description:
  - Adds up the prices that the inventory plugin P(sophia_ai.mcp_swarm.lambda_cloud#inventory) gave the hosts, and names
    the hosts that are paid for and run nothing.
author:
  - Sophia AI (@sophia-ai)
positional: busy
options:
  _input:
    description: Variables of the hosts.
    type: list
    elements: dict
    required: true
  busy:
    description: Names and addresses of the nodes that run something.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Say what the fleet costs
  ansible.builtin.debug:
    msg: "{{ groups.lambda_cloud | map('extract', hostvars) | sophia_ai.mcp_swarm.lambda_cost(['mcp-1']) }}"
"""

RETURN = r"""
_value:
  description: One line.
  type: str
  sample: "$1.50/h for 2 instances; idle: mcp-2 ($0.75/h, runs nothing of the fleet)"
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.capacity import price
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.instances import LIVE

# A machine without a host name of its own is called after its address.
NAMES = ("inventory_hostname", "lambda_hostname", "lambda_ip", "lambda_private_ip")


def lambda_cost(hosts: Iterable[Mapping[str, Any]], busy: Iterable[str]) -> str:
    """The line that ``RETURN`` describes."""
    working = set(busy)
    paid = [host for host in hosts if host["lambda_status"] in LIVE]
    idle = []
    for host in paid:
        names = {str(host[name]) for name in NAMES if host.get(name)}
        if working & (names | {name.replace(".", "-") for name in names}):
            continue
        why = "runs nothing of the fleet" if host["lambda_status"] == "active" else host["lambda_status"]
        idle.append(f"{host['inventory_hostname']} ({price(host['lambda_price_cents_per_hour'])}, {why})")
    total = price(sum(host["lambda_price_cents_per_hour"] for host in paid))
    count = f"{len(paid)} instance{'' if len(paid) == 1 else 's'}"
    return f"{total} for {count}; idle: {', '.join(idle) or 'none'}"


class FilterModule:
    """The filter by its name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Names and functions."""
        return {"lambda_cost": lambda_cost}
