#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inbound firewall rules of Lambda Cloud."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lambda_firewall_rules
short_description: Set inbound firewall rules of Lambda Cloud
version_added: 0.3.0
description:
  - Without O(name) the rules are the account's global ones, for every instance. With O(name) they are a ruleset of one
    region, which instances are launched with (O(sophia_ai.mcp_swarm.lambda_instance#module:firewall_rulesets)).
  - The rules that are given replace those that there are, all of them. Their order means nothing.
  - Rules that let nobody in by SSH are refused, for Ansible would be locked out too.
  - Lambda's firewall is not in force in the region us-south-1.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.lambda_cloud
options:
  name:
    description: Name of a ruleset of one region, at most 64 characters. Without it the global rules are meant.
    type: str
  region:
    description: Region of the ruleset. Needed with O(name).
    type: str
  rules:
    description: The rules. Needed with O(state=present).
    type: list
    elements: dict
    suboptions:
      protocol:
        description: Protocol; V(all) is every one.
        type: str
        choices: [tcp, udp, icmp, all]
        default: tcp
      ports:
        description: A port such as V(443), or a range such as V(8000-8100). Needed but with O(rules[].protocol=icmp).
        type: str
      source_network:
        description: IPv4 addresses that may connect, such as V(198.51.100.0/24); one address means itself alone.
        type: str
        default: 0.0.0.0/0
      description:
        description: What it is for, at most 128 characters.
        type: str
        default: ""
  allow_no_ssh:
    description: Set rules that let nobody in by SSH, too.
    type: bool
    default: false
  ssh_port:
    description: Port of SSH.
    type: int
    default: 22
  state:
    description: V(present) sets the rules, V(absent) removes a ruleset. The global rules cannot be removed.
    type: str
    choices: [present, absent]
    default: present
attributes:
  check_mode:
    description: Says what would change.
    support: full
  diff_mode:
    description: Shows the rules before and after.
    support: full
  idempotent:
    description: Rules that are set are not set again.
    support: full
"""

EXAMPLES = r"""
- name: SSH from the office, the edge from everywhere
  sophia_ai.mcp_swarm.lambda_firewall_rules:
    rules:
      - {ports: "22", source_network: 198.51.100.0/24, description: SSH from the office}
      - {ports: "443", description: the fleet's edge}
      - {ports: "80", description: certificates}
      - {protocol: icmp, description: ping}

- name: A ruleset for workers of one region
  sophia_ai.mcp_swarm.lambda_firewall_rules:
    name: workers
    region: us-east-1
    rules:
      - {ports: "22", source_network: 198.51.100.0/24, description: SSH from the office}
  register: workers
"""

RETURN = r"""
code:
  description: The API's own name of what it refused.
  returned: on failure, where the API gave one
  type: str
  sample: global/quota-exceeded
ruleset:
  description: The ruleset as the API describes it; empty where there is none.
  returned: success
  type: dict
  sample:
    id: global
    name: Global Firewall Rules
    rules:
      - {protocol: tcp, port_range: [22, 22], source_network: 198.51.100.0/24, description: SSH from the office}
"""

import ipaddress
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.arguments import account, fail, with_access
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.capacity import REGIONS
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.client import LambdaCloud
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.errors import LambdaError

LONGEST_NAME = 64
LONGEST_DESCRIPTION = 128
LAST_PORT = 65535
GLOBAL = {"id": "global", "name": "Global Firewall Rules"}
WITHOUT_FIREWALL = "us-south-1"

Rule = dict[str, Any]


def api_rules(rules: list[dict[str, Any]]) -> list[Rule]:
    """The rules as the API takes them.

    Raises:
        LambdaError: naming everything that is wrong.
    """
    wrong: list[str] = []
    made: list[Rule] = []
    for number, rule in enumerate(rules):
        made.append({"protocol": rule["protocol"], "description": rule["description"]})
        where = f"rules[{number}]"
        try:
            if rule["protocol"] == "icmp":
                if rule["ports"]:
                    raise ValueError(f"ports: {rule['ports']!r}: icmp has no ports; leave them out")
            else:
                made[-1]["port_range"] = _ports(rule["ports"])
            if len(rule["description"]) > LONGEST_DESCRIPTION:
                raise ValueError(f"description: is longer than {LONGEST_DESCRIPTION} characters; shorten it")
            made[-1]["source_network"] = _network(rule["source_network"])
        except ValueError as error:
            wrong.append(f"{where}.{error}")
    if wrong:
        raise LambdaError(f"no rule was changed: {'; '.join(wrong)}")
    return made


def _ports(text: str | None) -> list[int]:
    first, dash, last = str(text or "").partition("-")
    try:
        ports = [int(first), int(last if dash else first)]
    except ValueError:
        raise ValueError(f"ports: {text!r}: write one port (443) or a range (8000-8100)") from None
    if not 1 <= ports[0] <= ports[1] <= LAST_PORT:
        raise ValueError(f"ports: {text!r}: give ports from 1 to {LAST_PORT}, the smaller first")
    return ports


def _network(text: str) -> str:
    try:
        return str(ipaddress.IPv4Network(text))
    except ValueError as error:
        raise ValueError(f"source_network: {text!r}: {error}; write IPv4 addresses like 198.51.100.0/24") from None


def comparable(rules: list[Rule]) -> list[tuple[Any, ...]]:
    """The rules in an order of their own, each in one form."""
    return sorted(
        (
            rule["protocol"],
            tuple(rule.get("port_range") or ()),
            str(ipaddress.IPv4Network(rule["source_network"], strict=False)),
            rule.get("description") or "",
        )
        for rule in rules
    )


def lets_ssh_in(rules: list[Rule], port: int) -> bool:
    """Whether some address may connect to the port of SSH."""
    return any(
        rule["protocol"] in ("tcp", "all") and rule["port_range"][0] <= port <= rule["port_range"][1] for rule in rules
    )


class Manager:
    """One set of rules."""

    def __init__(self, module: AnsibleModule, cloud: LambdaCloud) -> None:
        self.params = module.params
        self.check = module.check_mode
        self.cloud = cloud

    def run(self) -> dict[str, Any]:
        """What the module returns.

        Raises:
            LambdaError: it could not be done.
        """
        params = self.params
        rules = api_rules(params["rules"] or [])
        if params["state"] == "present" and not params["allow_no_ssh"] and not lets_ssh_in(rules, params["ssh_port"]):
            raise LambdaError(
                f"rules: nobody could connect to port {params['ssh_port']}, Ansible neither; add a rule for it, or set"
                " allow_no_ssh: true"
            )
        before = self._before()
        if params["state"] == "absent":
            changed, after = bool(before), {}
            if changed and not self.check:
                self.cloud.delete_firewall_ruleset(before["id"])
        else:
            changed = not before or comparable(before["rules"]) != comparable(rules)
            after = self._set(before, rules) if changed else before
        return {"changed": changed, "ruleset": after, "diff": {"before": _shown(before), "after": _shown(after)}}

    def _before(self) -> dict[str, Any]:
        name, region = self.params["name"], self.params["region"]
        if name is None:
            return {**GLOBAL, "rules": self.cloud.global_firewall_rules()}
        rulesets = self.cloud.firewall_rulesets()
        regions = {one["region"]["name"] for one in rulesets} | REGIONS
        if region not in regions and region not in {image["region"]["name"] for image in self.cloud.images()}:
            raise LambdaError(f"region: there is no {region}; there are: {', '.join(sorted(regions))}")
        named = [one for one in rulesets if one["name"] == name and one["region"]["name"] == region]
        if len(named) > 1:
            ids = ", ".join(one["id"] for one in named)
            raise LambdaError(f"name: {name}: {len(named)} rulesets of {region} are called so: {ids}; keep one of them")
        return named[0] if named else {}

    def _set(self, before: dict[str, Any], rules: list[Rule]) -> dict[str, Any]:
        name, region = self.params["name"], self.params["region"]
        if self.check:
            return {"name": name, "region": {"name": region}, **before, "rules": rules}
        if name is None:
            return {**GLOBAL, "rules": self.cloud.set_global_firewall_rules(rules)}
        if before:
            return self.cloud.set_firewall_ruleset(before["id"], rules)
        return self.cloud.create_firewall_ruleset(name, region, rules)


def _shown(ruleset: dict[str, Any]) -> dict[str, Any]:
    """A ruleset for a diff: one line a rule."""
    if not ruleset:
        return {}
    lines = []
    for protocol, ports, network, description in comparable(ruleset["rules"]):
        span = "" if not ports else f" {ports[0]}" if ports[0] == ports[-1] else f" {ports[0]}-{ports[-1]}"
        lines.append(f"{protocol}{span} from {network}" + (f" ({description})" if description else ""))
    return {"name": ruleset["name"], "rules": lines}


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec=with_access(
            {
                "name": {"type": "str"},
                "region": {"type": "str"},
                "rules": {
                    "type": "list",
                    "elements": "dict",
                    "options": {
                        "protocol": {"type": "str", "choices": ["tcp", "udp", "icmp", "all"], "default": "tcp"},
                        "ports": {"type": "str"},
                        "source_network": {"type": "str", "default": "0.0.0.0/0"},
                        "description": {"type": "str", "default": ""},
                    },
                },
                "allow_no_ssh": {"type": "bool", "default": False},
                "ssh_port": {"type": "int", "default": 22},
                "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            }
        ),
        required_together=[("name", "region")],
        required_if=[("state", "present", ("rules",)), ("state", "absent", ("name",))],
        supports_check_mode=True,
    )
    name = module.params["name"]
    if name is not None and not 0 < len(name) <= LONGEST_NAME:
        module.fail_json(msg=f"name: {name!r}: has {len(name)} characters; 1 to {LONGEST_NAME} are possible")
    try:
        done = Manager(module, account(module)).run()
    except LambdaError as error:
        fail(module, error)
    if module.params["region"] == WITHOUT_FIREWALL:
        module.warn(f"region: {WITHOUT_FIREWALL}: Lambda's firewall is not in force there; let the nodes' own do it")
    module.exit_json(**done)


if __name__ == "__main__":
    main()
