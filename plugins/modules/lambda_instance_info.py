#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an account of Lambda Cloud has, and what it costs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lambda_instance_info
short_description: List instances of Lambda Cloud, what they cost, and what is to be had
version_added: 0.3.0
description:
  - Lists the account's instances.
  - With O(available) it lists what can be launched now as well, cheapest first.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.lambda_cloud
options:
  names:
    description: Only instances of these names. Empty is all.
    type: list
    elements: str
    default: []
  ids:
    description: Only instances of these ids. Empty is all.
    type: list
    elements: str
    default: []
  statuses:
    description: Only instances in these states. Empty is all.
    type: list
    elements: str
    choices: [booting, active, unhealthy, terminating, terminated, preempted]
    default: []
  regions:
    description: Only instances and capacity in these regions. Empty is all.
    type: list
    elements: str
    default: []
  available:
    description: Ask what can be launched now, too.
    type: bool
    default: false
attributes:
  check_mode:
    description: Changes nothing.
    support: full
"""

EXAMPLES = r"""
- name: Ask what runs
  sophia_ai.mcp_swarm.lambda_instance_info:
  register: cloud

- name: Say what it costs
  ansible.builtin.debug:
    msg: "{{ cloud.instances | length }} instances, {{ cloud.cents_per_hour / 100 }} US dollars an hour"

- name: Ask what is to be had
  sophia_ai.mcp_swarm.lambda_instance_info:
    available: true
  register: market
"""

RETURN = r"""
code:
  description: The API's own name of what it refused.
  returned: on failure, where the API gave one
  type: str
  sample: global/quota-exceeded
instances:
  description: The instances as the API describes them, without the tokens of their JupyterLabs.
  returned: success
  type: list
  elements: dict
cents_per_hour:
  description: What these instances cost together, in US cents an hour; those that have ended cost nothing.
  returned: success
  type: int
  sample: 150
available:
  description: What can be launched now, cheapest first.
  returned: when O(available) is true
  type: list
  elements: dict
  contains:
    instance_type: {description: Name of the type., type: str}
    region: {description: Name of the region., type: str}
    cents_per_hour: {description: What it costs, type: int}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.arguments import account, fail, with_access
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.capacity import offered
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.errors import LambdaError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.instances import LIVE

STATUSES = ["booting", "active", "unhealthy", "terminating", "terminated", "preempted"]


def main() -> None:
    """The module."""
    several = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec=with_access(
            {
                "names": several,
                "ids": several,
                "statuses": {**several, "choices": STATUSES},
                "regions": several,
                "available": {"type": "bool", "default": False},
            }
        ),
        supports_check_mode=True,
    )
    params = module.params
    try:
        cloud = account(module)
        instances = [
            instance
            for instance in cloud.instances()
            if (not params["names"] or instance.get("name") in params["names"])
            and (not params["ids"] or instance["id"] in params["ids"])
            and (not params["statuses"] or instance["status"] in params["statuses"])
            and (not params["regions"] or instance["region"]["name"] in params["regions"])
        ]
        live = [instance for instance in instances if instance["status"] in LIVE]
        found = {
            "instances": instances,
            "cents_per_hour": sum(instance["instance_type"]["price_cents_per_hour"] for instance in live),
        }
        if params["available"]:
            found["available"] = [
                {"instance_type": place.instance_type, "region": place.region, "cents_per_hour": place.price}
                for place in offered(cloud.instance_types())
                if not params["regions"] or place.region in params["regions"]
            ]
    except LambdaError as error:
        fail(module, error)
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
