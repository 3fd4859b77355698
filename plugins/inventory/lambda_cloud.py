# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances of Lambda Cloud as hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: lambda_cloud
short_description: Instances of Lambda Cloud as hosts
version_added: 0.3.0
description:
  - Each instance is a host. The name of the configuration file ends with C(lambda_cloud.yml) or C(lambda_cloud.yaml).
  - Hosts are in the group C(lambda_cloud), and in groups by region (C(lambda_region_us_east_1)), type
    (C(lambda_type_gpu_1x_a10)), state (C(lambda_status_active)) and tag (C(lambda_tag_role_worker)).
  - Each has C(ansible_host), its public address, and the variables C(lambda_id), C(lambda_name), C(lambda_status),
    C(lambda_region), C(lambda_instance_type), C(lambda_ip), C(lambda_private_ip), C(lambda_hostname), C(lambda_tags)
    (keys and values), C(lambda_ssh_key_names), C(lambda_file_system_names), C(lambda_gpus) (how many),
    C(lambda_gpu_description), C(lambda_vcpus), C(lambda_memory_gib), C(lambda_storage_gib) and
    C(lambda_price_cents_per_hour).
  - The token of an instance's JupyterLab is neither a variable nor in the cache.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: Says that the file is for this plugin.
    type: str
    required: true
    choices: [sophia_ai.mcp_swarm.lambda_cloud]
  api_key:
    description: Key of the account. A template, such as a lookup, is resolved.
    type: str
    env:
      - name: LAMBDA_API_KEY
  api_url:
    description: Address of the API. Plain HTTP is taken on this machine alone, for tests.
    type: str
    default: https://cloud.lambda.ai/api/v1
    env:
      - name: LAMBDA_API_URL
  api_timeout:
    description: Seconds to wait for one answer.
    type: int
    default: 30
  api_retry_timeout:
    description:
      - Seconds for which a request is repeated that was refused for its rate (HTTP 429), or that was not answered
        (HTTP 5xx, no connection).
    type: int
    default: 60
  statuses:
    description: States of the instances that are hosts. Those that have ended are left out unless they are named.
    type: list
    elements: str
    choices: [booting, active, unhealthy, terminating, terminated, preempted]
    default: [booting, active, unhealthy]
  regions:
    description: Only instances of these regions. Empty is all.
    type: list
    elements: str
    default: []
  names:
    description: Only instances whose name matches one of these patterns, such as V(mcp-*). Empty is all.
    type: list
    elements: str
    default: []
  tags:
    description: Only instances that have all of these tags with these values.
    type: dict
    default: {}
  hostname:
    description:
      - What a host is called. V(name) is the instance's name, or its id where it has none.
      - Two instances of one name are an error, for they would be one host; V(id) is always unique.
    type: str
    choices: [name, id, hostname, ip]
    default: name
  default_groups:
    description: Make the groups by region, type, state and tag.
    type: bool
    default: true
"""

EXAMPLES = r"""
---
# inventories/lambda/lambda_cloud.yml: the key is in the environment, as LAMBDA_API_KEY
plugin: sophia_ai.mcp_swarm.lambda_cloud

---
# The key from a file, the fleet's own instances alone, and nobody is asked twice within five minutes
plugin: sophia_ai.mcp_swarm.lambda_cloud
api_key: "{{ lookup('ansible.builtin.file', '~/.lambda/key') }}"
tags:
  fleet: mcp
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: ~/.cache/lambda_cloud
cache_timeout: 300

---
# Variables and groups of one's own
plugin: sophia_ai.mcp_swarm.lambda_cloud
compose:
  ansible_user: "'ubuntu'"
  mcp_node_gpus: lambda_gpus
groups:
  mcp_managers: lambda_status == 'active' and lambda_tags.role | default('') == 'manager'
keyed_groups:
  - key: lambda_gpu_description
    prefix: gpu
"""

import fnmatch
import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.client import LambdaCloud
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.errors import LambdaError

SUFFIXES = ("lambda_cloud.yml", "lambda_cloud.yaml")
GROUP = "lambda_cloud"


def host_variables(instance: dict[str, Any]) -> dict[str, Any]:
    """What a play knows of an instance."""
    kind = instance["instance_type"]
    flat = {
        "id": instance["id"],
        "name": instance.get("name") or "",
        "status": instance["status"],
        "region": instance["region"]["name"],
        "instance_type": kind["name"],
        "ip": instance.get("ip") or "",
        "private_ip": instance.get("private_ip") or "",
        "hostname": instance.get("hostname") or "",
        "tags": {tag["key"]: tag["value"] for tag in instance.get("tags") or []},
        "ssh_key_names": instance["ssh_key_names"],
        "file_system_names": instance["file_system_names"],
        "gpus": kind["specs"]["gpus"],
        "gpu_description": kind["gpu_description"],
        "vcpus": kind["specs"]["vcpus"],
        "memory_gib": kind["specs"]["memory_gib"],
        "storage_gib": kind["specs"]["storage_gib"],
        "price_cents_per_hour": kind["price_cents_per_hour"],
    }
    variables = {f"lambda_{key}": value for key, value in flat.items()}
    if flat["ip"]:  # it has none until it has booted far enough
        variables["ansible_host"] = flat["ip"]
    return variables


def chosen(
    instances: Iterable[dict[str, Any]],
    statuses: Collection[str],
    regions: Collection[str],
    names: Collection[str],
    tags: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Those that the options of the same names want, in the order of their ids."""
    found = []
    for instance in instances:
        has = {tag["key"]: tag["value"] for tag in instance.get("tags") or []}
        if (
            instance["status"] in statuses
            and (not regions or instance["region"]["name"] in regions)
            and (not names or any(fnmatch.fnmatchcase(instance.get("name") or "", name) for name in names))
            and all(has.get(key) == str(value) for key, value in tags.items())
        ):
            found.append(instance)
    return sorted(found, key=lambda instance: instance["id"])


def default_groups(variables: dict[str, Any]) -> list[str]:
    """Groups by what an instance is, as they are spelt before Ansible makes names of them."""
    tags = [f"lambda_tag_{key}_{value}" for key, value in variables["lambda_tags"].items()]
    return [
        f"lambda_region_{variables['lambda_region']}",
        f"lambda_type_{variables['lambda_instance_type']}",
        f"lambda_status_{variables['lambda_status']}",
        *tags,
    ]


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Asks the API, or the cache, and adds a host for each instance."""

    NAME = "sophia_ai.mcp_swarm.lambda_cloud"

    def verify_file(self, path: str) -> bool:
        """Whether the file is meant for this plugin, by its name."""
        return bool(super().verify_file(path)) and path.endswith(SUFFIXES)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        """Add hosts, groups and variables to the inventory.

        Raises:
            AnsibleParserError: the API refuses, or two hosts would be one.
        """
        super().parse(inventory, loader, path)
        self._read_config_data(path)
        self.load_cache_plugin()
        # One file asks another API where the environment says so.
        where = hashlib.sha256(self.get_option("api_url").encode()).hexdigest()[:8]
        key = f"{self.get_cache_key(path)}_{where}"
        wanted = self.get_option("cache")
        instances: list[dict[str, Any]] | None = None
        if wanted and cache:
            instances = self._cache.get(key)
        if instances is None:
            try:
                instances = self._ask()
            except LambdaError as error:
                raise AnsibleParserError(str(error)) from None
            if wanted:
                self._cache[key] = instances
        self._populate(instances)

    def _ask(self) -> list[dict[str, Any]]:
        key = self.get_option("api_key")
        return LambdaCloud(
            None if key is None else str(self.templar.template(key)),
            self.get_option("api_url"),
            self.get_option("api_timeout"),
            self.get_option("api_retry_timeout"),
        ).instances()

    def _populate(self, instances: list[dict[str, Any]]) -> None:
        strict = self.get_option("strict")
        called: dict[str, str] = {}
        self.inventory.add_group(GROUP)
        wanted = {name: self.get_option(name) for name in ("statuses", "regions", "names", "tags")}
        for instance in chosen(instances, **wanted):
            variables = host_variables(instance)
            host = instance.get(self.get_option("hostname")) or instance["id"]
            if other := called.get(host):
                raise AnsibleParserError(
                    f"two instances of Lambda Cloud are called {host}: {other} and {instance['id']}, and would be one"
                    " host; rename or terminate one (lambda_instance with its id), or set hostname: id"
                )
            called[host] = instance["id"]
            self.inventory.add_host(host, group=GROUP)
            for name, value in variables.items():
                self.inventory.set_variable(host, name, value)
            if self.get_option("default_groups"):
                for group in default_groups(variables):
                    self.inventory.add_child(self.inventory.add_group(self._sanitize_group_name(group)), host)
            self._set_composite_vars(self.get_option("compose"), variables, host, strict=strict)
            self._add_host_to_composed_groups(self.get_option("groups"), variables, host, strict=strict)
            self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, host, strict=strict)
