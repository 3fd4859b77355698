#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that is wrong with a node, before anything is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_preflight
short_description: Find everything that is wrong with a node, at once
version_added: 0.2.0
description:
  - Looks at a node and returns what keeps it from being provisioned, what is a drawback, and what is worth knowing.
  - Changes nothing, and never fails for what it finds. A node that cannot be reached, a login without root and a
    missing Python are findings too.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.info
  - sophia_ai.mcp_swarm.attributes.action
options:
  distributions:
    description: Releases that are supported, by distribution.
    type: dict
    required: true
  architectures:
    description: Architectures that are supported, as the kernel names them.
    type: list
    elements: str
    required: true
  memory_mb:
    description: Least memory in MiB; a tenth less is tolerated.
    type: int
    default: 0
  disks:
    description: Where room is needed.
    type: list
    elements: dict
    default: []
    suboptions:
      path: {description: A path; it need not exist yet., type: path, required: true}
      free_gb: {description: Least free space in GiB., type: float, required: true}
      why: {description: What needs it., type: str, required: true}
  ports:
    description: Ports that must be free, or the engine's.
    type: list
    elements: dict
    default: []
    suboptions:
      port: {description: Number., type: int, required: true}
      proto: {description: Protocol., type: str, choices: [tcp, udp], default: tcp}
      why: {description: What needs it., type: str, required: true}
      or: {description: What to do other than to stop who has it., type: str, default: ""}
  advertise:
    description: Address that the Swarm is to advertise, where the inventory names one.
    type: str
    default: ""
  peers:
    description: The other nodes, by address or name. The way to each is asked for its largest packet.
    type: list
    elements: str
    default: []
  networks:
    description: Ranges of addresses that are to be made on the node.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: What it is., type: str, required: true}
      subnet: {description: The range., type: str, required: true}
      option: {description: What to set for another one., type: str, required: true}
      encrypted: {description: Whether it is an overlay network with encryption., type: bool, default: false}
      pool:
        description: Whether the engine takes networks from it that overlap with none of the node's.
        type: bool
        default: false
  mtu:
    description: Largest packet between nodes that the overlay networks count on, in bytes.
    type: int
    default: 1500
  firewall:
    description: Whether a firewall is to be loaded.
    type: bool
    default: false
  time_sync:
    description: Whether time synchronisation is to be set up.
    type: bool
    default: false
  packages:
    description:
      - Debian packages that must be there, alternatives separated by C(|). The archives of apt are asked only when one
        is missing.
    type: list
    elements: str
    default: []
  images:
    description: Images that the engine must have, or that are to be built.
    type: list
    elements: str
    default: []
  reach:
    description: Further addresses that must answer. Proxies are those of the environment.
    type: list
    elements: dict
    default: []
    suboptions:
      url: {description: An address; any answer will do., type: str, required: true}
      why: {description: What needs it., type: str, required: true}
      option: {description: What to set for another one., type: str, required: true}
      level: {description: How bad silence is., type: str, choices: [error, warning, note], default: warning}
      package: {description: Ask only when this package is missing., type: str, default: ""}
      image: {description: Ask only when one of O(images) is missing., type: bool, default: false}
      needed: {description: Ask at all., type: bool, default: true}
  gpus:
    description: NVIDIA GPUs that the inventory says the node has.
    type: int
    default: 0
  gpu_slots:
    description: How many services may share a GPU.
    type: int
    default: 1
  gpu_manager:
    description: Whether the node is a manager, and services of the fleet reserve GPUs.
    type: bool
    default: false
  engine_source:
    description: Where an engine that is missing comes from, as C(docker_engine_source) has it.
    type: str
    default: auto
  driver_rules:
    description: What the driver must be fit for.
    type: list
    elements: dict
    default: []
    suboptions:
      what: {description: What needs it., type: str, required: true}
      minimum: {description: Least version of the driver., type: str, required: true}
  clock:
    description: The controller's time in seconds since 1970; the action plugin says it. V(0) compares no clocks.
    type: float
    default: 0.0
notes:
  - The action plugin of the same name adds the controller's time, and turns failures of the connection into findings.
"""

EXAMPLES = r"""
- name: Look at the node
  sophia_ai.mcp_swarm.node_preflight:
    distributions: {Debian: ["12", "13"]}
    architectures: [x86_64]
    memory_mb: 2048
    disks:
      - {path: /var/lib/docker, free_gb: 5, why: images}
    ports:
      - {port: 443, why: the edge}
  register: preflight
"""

RETURN = r"""
findings:
  description: What was found, the worst first.
  returned: always
  type: list
  elements: dict
  contains:
    level: {description: "V(error), V(warning) or V(note).", type: str}
    key: {description: What was looked at., type: str}
    value: {description: What was seen., type: str}
    fix: {description: The next step., type: str}
  sample:
    - {level: error, key: port, value: "tcp 443, which the edge needs, is taken by nginx (process 812)", fix: stop it}
ansible_facts:
  description:
    - The fact C(mcp_node) - C(container), whether the node is a container; C(addresses), each with C(interface),
      C(address), C(prefix), C(mtu) and C(default); C(hostname), C(cgroup), C(driver); C(audit), whether its kernel
      audits; C(open_files), how many its first process may have open; C(ssh_ports), where SSH is reached; and
      C(packages), those of O(packages) that are installed.
    - C(distribution), C(distribution_version), C(distribution_major_version), C(distribution_release), C(service_mgr),
      C(python) and C(default_ipv4), as far as the collection's roles read them, are as M(ansible.builtin.setup) has
      them. Gathering takes another round, and longer than this module.
  returned: success
  type: dict
"""

import os
import sys
from dataclasses import asdict
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node import gpus as gpu_look
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node import machine as look
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.preflight import (
    Finding,
    Wanted,
    as_dicts,
    check,
    check_engine,
    check_gpus,
    check_mtu,
    check_reach,
)

MIRROR = {"level": "error", "why": "packages are missing, and come from there", "option": "/etc/apt/sources.list.d"}
CHECKED = ("distributions", "architectures", "memory_mb", "disks", "ports", "advertise", "peers", "networks",
           "mtu", "firewall", "time_sync", "gpus", "gpu_slots", "driver_rules", "clock")  # fmt: skip


def missing_answers(params: dict[str, Any], machine: look.Machine) -> list[Finding]:
    """Who must answer and does not."""
    missing = [each for each in params["packages"] if not machine.packages & set(each.split("|"))]
    unbuilt = look.images_missing(params["images"]) if any(each["image"] for each in params["reach"]) else False
    asked = [
        each
        for each in params["reach"]
        if each["needed"]
        and (not each["package"] or each["package"] not in machine.packages)
        and (not each["image"] or unbuilt)
    ]
    silent = look.reach_all([each["url"] for each in asked])
    if missing:
        settings = look.apt_settings()
        schemes = {s: settings[f"Acquire::{s}::Proxy"] for s in ("http", "https") if f"Acquire::{s}::Proxy" in settings}
        archives = [f"{uri}/dists/{suite}/InRelease" for uri, suite in look.apt_sources()]
        cafile = settings.get("Acquire::https::CaInfo")
        silent |= look.reach_all(archives, proxies=schemes, cafile=cafile)
        asked += [MIRROR | {"url": url} for url in archives]
        if not archives:
            fix = "name the distribution's archive in /etc/apt/sources.list.d: packages are missing"
            return [Finding("error", "reach", "apt knows no archive", fix), *check_reach(silent, asked)]
    return list(check_reach(silent, asked))


def seen_gpus() -> gpu_look.Gpus | gpu_look.GpuError:
    """The node's GPUs, or why they cannot be told."""
    try:
        return gpu_look.look()
    except gpu_look.GpuError as error:
        return error


def main() -> None:
    """The module."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "distributions": {"type": "dict", "required": True},
            "architectures": {"type": "list", "elements": "str", "required": True},
            "memory_mb": {"type": "int", "default": 0},
            "disks": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "free_gb": {"type": "float", "required": True},
                    "why": text,
                },
            },
            "ports": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "port": {"type": "int", "required": True},
                    "proto": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
                    "why": text,
                    "or": {"type": "str", "default": ""},
                },
            },
            "advertise": {"type": "str", "default": ""},
            "peers": {"type": "list", "elements": "str", "default": []},
            "networks": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": text,
                    "subnet": text,
                    "option": text,
                    "encrypted": {"type": "bool", "default": False},
                    "pool": {"type": "bool", "default": False},
                },
            },
            "mtu": {"type": "int", "default": 1500},
            "firewall": {"type": "bool", "default": False},
            "time_sync": {"type": "bool", "default": False},
            "packages": {"type": "list", "elements": "str", "default": []},
            "images": {"type": "list", "elements": "str", "default": []},
            "reach": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "url": text,
                    "why": text,
                    "option": text,
                    "level": {"type": "str", "choices": ["error", "warning", "note"], "default": "warning"},
                    "package": {"type": "str", "default": ""},
                    "image": {"type": "bool", "default": False},
                    "needed": {"type": "bool", "default": True},
                },
            },
            "gpus": {"type": "int", "default": 0},
            "gpu_slots": {"type": "int", "default": 1},
            "gpu_manager": {"type": "bool", "default": False},
            "engine_source": {"type": "str", "default": "auto"},
            "driver_rules": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"what": text, "minimum": text},
            },
            "clock": {"type": "float", "default": 0.0},
        },
        supports_check_mode=True,
    )
    params = module.params
    packages = [name for each in params["packages"] for name in each.split("|")]
    machine = look.look([disk["path"] for disk in params["disks"]], packages)
    wanted = Wanted(**{name: params[name] for name in CHECKED})
    findings = check(machine, wanted)
    if wanted.gpus and machine.driver:
        findings += check_gpus(seen_gpus(), wanted)
    if params["gpu_manager"]:
        findings += check_engine(look.engine(params["engine_source"]))
    if machine.version in wanted.distributions.get(machine.distribution, ()):
        findings += missing_answers(params, machine)
    own = machine.addresses[0].mtu if machine.addresses else 0
    if own:
        findings += check_mtu({peer: look.path_mtu(peer, own) for peer in wanted.peers}, wanted)
    node = {
        "container": machine.container,
        "addresses": [asdict(each) for each in machine.addresses],
        "hostname": os.uname().nodename,
        "cgroup": machine.cgroup,
        "audit": machine.audit,
        "open_files": machine.open_files,
        "driver": machine.driver,
        "ssh_ports": list(machine.ssh_ports),
        "packages": sorted(machine.packages),
    }
    facts = {
        "mcp_node": node,
        "distribution": machine.distribution,
        "distribution_version": machine.version,
        "distribution_major_version": machine.version.partition(".")[0],
        "distribution_release": machine.codename,
        "service_mgr": "systemd" if os.path.isdir("/run/systemd/system") else "service",
        "python": {"executable": sys.executable},
        "default_ipv4": next(({"address": a.address, "interface": a.interface} for a in machine.addresses), {}),
    }
    module.exit_json(changed=False, findings=as_dicts(findings), ansible_facts=facts)


if __name__ == "__main__":
    main()
