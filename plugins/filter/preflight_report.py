# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All nodes' findings in one message."""

from __future__ import annotations

DOCUMENTATION = r"""
name: preflight_report
short_description: All nodes' findings in one message
version_added: 0.2.0
description:
  - Puts what M(sophia_ai.mcp_swarm.node_preflight) found on each node into one text for people, and adds what only
    shows when the nodes are looked at together.
author:
  - Sophia AI (@sophia-ai)
options:
  _input:
    description: The module's result by host.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Say what is wrong
  ansible.builtin.debug:
    msg: "{{ {'gpu-1': preflight} | sophia_ai.mcp_swarm.preflight_report }}"
"""

RETURN = r"""
_value:
  description:
    - C(errors), how many there are; C(findings), how many of any level; C(text), all of them.
  type: dict
"""

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.preflight import Finding, as_dicts

LEVELS = ("error", "warning", "note")


def together(results: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    """What is wrong with the nodes as a whole.

    Args:
        results: the module's result by host; ``advertise`` beside it is the address that the inventory names.
    """
    findings = []
    names, places = defaultdict(list), defaultdict(list)
    for host, result in results.items():
        node = (result.get("ansible_facts") or {}).get("mcp_node")
        if not node:
            continue
        names[node["hostname"]].append(host)
        own = result.get("advertise") or next((each["address"] for each in node["addresses"]), "")
        if own:
            places["private" if ipaddress.ip_address(own).is_private else "public"].append(f"{host} at {own}")
    for name, hosts in names.items():
        if len(hosts) > 1:
            fix = "give each its own (hostnamectl set-hostname): the Swarm shows nodes by it"
            findings.append(Finding("warning", "hostname", f"{', '.join(hosts)} are all called {name}", fix))
    if len(places) > 1:
        seen = "; ".join(f"{kind}: {', '.join(where)}" for kind, where in sorted(places.items()))
        fix = "set swarm_advertise_addr of each to addresses of one network: a Swarm does not cross a NAT"
        findings.append(Finding("warning", "address", seen, fix))
    return findings


def preflight_report(results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The message, and how bad it is."""
    by_host = {host: list(result.get("findings") or ()) for host, result in results.items()}
    by_host["all nodes"] = as_dicts(together(results))
    lines, wrong = [], 0
    for host, findings in by_host.items():
        if findings:
            lines.append(host)
        for each in findings:
            lines.append(f"  {each['level']:<7}  {each['key']}: {each['value']}")
            lines.append(f"           → {each['fix']}")
        wrong += sum(each["level"] == "error" for each in findings)
    if wrong:
        nodes = sum(any(each["level"] == "error" for each in findings) for findings in by_host.values())
        what = "1 error" if wrong == 1 else f"{wrong} errors"
        where = "1 node" if nodes == 1 else f"{nodes} nodes"
        lines.insert(0, f"{what} on {where}; nothing was changed.")
    return {"errors": wrong, "findings": sum(map(len, by_host.values())), "text": "\n".join(lines)}


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"preflight_report": preflight_report}
