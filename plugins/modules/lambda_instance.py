#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances of Lambda Cloud."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lambda_instance
short_description: Launch, restart, rename and terminate instances of Lambda Cloud
version_added: 0.3.0
description:
  - Launches an instance where there is room for it - the first of O(instance_types) in every region that may be, then
    the next type - and waits until it can be used.
  - An instance is known by its name. One that lives already is not launched again. Several that have one name are
    refused, for Lambda permits that and nobody means it.
  - Everything that a launch names (types, regions, key, file systems, rulesets) is looked up before anything is paid
    for.
  - A launch whose answer was lost is looked for, and never repeated.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.lambda_cloud
options:
  name:
    description:
      - Name of the instance, at most 64 characters. Needed with O(state=present); with the other states its id does
        too.
      - Together with O(id), an instance of another name is renamed.
    type: str
  id:
    description: Id of an instance that exists, instead of its name.
    type: str
  state:
    description:
      - V(present) launches what is not there and waits.
      - V(restarted) restarts it, each time.
      - V(absent) terminates it. What lies on its own disk is lost; file systems are kept. Needs O(confirm).
    type: str
    choices: [present, restarted, absent]
    default: present
  confirm:
    description: The instance's name or id once more. Without it nothing is terminated.
    type: str
  instance_types:
    description:
      - Instance types that will do, the best first, such as V(gpu_1x_a10). Needed for a launch.
      - An instance that exists and is of none of these types is an error, for its type cannot be changed.
    type: list
    elements: str
    default: []
  regions:
    description:
      - Regions that will do, the best first, such as V(us-east-1). Empty is any.
      - An instance that exists and is in none of them is an error.
    type: list
    elements: str
    default: []
  max_price_cents_per_hour:
    description: Launch nothing that costs more, in US cents an hour.
    type: int
  capacity_timeout:
    description: Seconds to go on looking while everything is sold out. 0 looks once.
    type: int
    default: 0
  ssh_key:
    description: Name of the account's SSH key that may log in as C(ubuntu). Needed for a launch.
    type: str
  image_family:
    description: Image family to boot, such as V(ubuntu-24-04); without it the latest Lambda Stack.
    type: str
  image_id:
    description: Id of an image to boot, instead of O(image_family).
    type: str
  file_systems:
    description: Names of the account's file systems to mount. They must be in one region, which is then the only one.
    type: list
    elements: str
    default: []
  firewall_rulesets:
    description:
      - Names or ids of firewall rulesets. Each is of one region; regions that lack one of them are not tried.
      - A name that has a ruleset in several regions stands for each in its own.
    type: list
    elements: str
    default: []
  hostname:
    description: Host name that the machine gives itself; lower-case letters, digits and hyphens.
    type: str
  user_data:
    description: Configuration for cloud-init, at most 1 MB of text. It may hold secrets and is not shown.
    type: str
  tags:
    description: Keys and values to tag it with. Keys are lower-case letters, digits, hyphens and colons.
    type: dict
    default: {}
  wait:
    description: Wait until it is active, or terminated.
    type: bool
    default: true
  wait_timeout:
    description: Seconds to wait for that.
    type: int
    default: 900
  wait_for_ssh:
    description: Wait until SSH answers too. Firewalls between this machine and the instance must let it.
    type: bool
    default: false
  ssh_port:
    description: Port at which SSH answers.
    type: int
    default: 22
  stuck:
    description:
      - What becomes of an instance that was not active within O(wait_timeout), and of one that became unhealthy
        instead.
      - V(auto) terminates it where this task launched it. V(terminate) does that with one that was launched before,
        too; V(keep) never does.
      - One that is active is never terminated.
    type: str
    choices: [auto, keep, terminate]
    default: auto
attributes:
  check_mode:
    description: Looks everything up, and says what it would do. Capacity that is missing is an error already.
    support: full
  diff_mode:
    description: Shows the instance before and after.
    support: full
  idempotent:
    description: All states but V(restarted).
    support: partial
"""

EXAMPLES = r"""
- name: One GPU, wherever it is to be had
  sophia_ai.mcp_swarm.lambda_instance:
    name: mcp-1
    instance_types: [gpu_1x_a10, gpu_1x_a100_sxm4]
    ssh_key: operations
    max_price_cents_per_hour: 150
    wait_for_ssh: true
  register: launched

- name: Near the data, and with an hour of patience
  sophia_ai.mcp_swarm.lambda_instance:
    name: mcp-2
    instance_types: [gpu_1x_h100_pcie]
    file_systems: [models]
    ssh_key: operations
    tags: {role: worker}
    capacity_timeout: 3600

- name: Restart one that hangs
  sophia_ai.mcp_swarm.lambda_instance:
    name: mcp-1
    state: restarted

- name: Give it back
  sophia_ai.mcp_swarm.lambda_instance:
    name: mcp-2
    confirm: mcp-2
    state: absent
"""

RETURN = r"""
code:
  description: The API's own name of what it refused.
  returned: on failure, where the API gave one
  type: str
  sample: global/quota-exceeded
instance:
  description:
    - The instance as the API describes it, without the token of its JupyterLab. See
      U(https://docs.lambda.ai/api/cloud#getInstance).
    - In check mode of a launch it is what would be launched first. Empty where there is none.
  returned: success
  type: dict
  sample:
    id: 0920582c7ff041399e34823a0be62549
    name: mcp-1
    status: active
    ip: 198.51.100.2
    region: {name: us-east-1, description: "Virginia, USA"}
    instance_type: {name: gpu_1x_a10, price_cents_per_hour: 75}
launched:
  description: Whether this task launched it.
  returned: success
  type: bool
tried:
  description: Places that Lambda listed as having room, and that were sold out when they were asked for.
  returned: with O(state=present)
  type: list
  elements: str
  sample: [gpu_1x_a10 in us-east-1]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.arguments import account, fail, with_access
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.capacity import Wish, places, sold_out
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.client import LambdaCloud
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.errors import LambdaError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._lambda.instances import (
    Instance,
    Launch,
    Stuck,
    blocked,
    check,
    cost,
    end,
    find,
    line,
    start,
    wait_active,
    wait_ssh,
)

LONGEST_NAME = 64


class Manager:
    """One instance, and what becomes of it."""

    def __init__(self, module: AnsibleModule, cloud: LambdaCloud) -> None:
        self.module = module
        self.params = module.params
        self.cloud = cloud
        self.known = cloud.instances()
        name, wanted = self.params["name"], self.params["id"]
        if self.params["state"] != "present" and any(one["id"] == name for one in self.known):
            name, wanted = None, name
        self.name, self.id = name, wanted
        self.found = find(self.known, self.name, self.id)

    @property
    def called(self) -> str:
        return str(self.id or self.name)

    def run(self) -> dict[str, Any]:
        """Do what O(state) says; what the module returns.

        Raises:
            LambdaError: it could not be done.
        """
        state = self.params["state"]
        if state != "present" and self.found and self.name not in (None, self.found.get("name")):
            raise LambdaError(f"name: {self.name}: {line(self.found)} has another name; correct name or id")
        done: dict[str, Any] = getattr(self, state)()
        done["diff"] = {"before": _shown(self.found), "after": _shown(done["instance"])}
        return {"launched": False, **done}

    # States

    def present(self) -> dict[str, Any]:
        if not self.found:
            return self._launch()
        self._check_same(self.found)
        renamed = self._rename(self.found)
        instance = {**self.found, "name": self.params["name"]}
        if self.params["wait"] and not self.module.check_mode:
            instance = self._wait(instance, launched=False)
        return {"changed": renamed, "instance": instance, "tried": []}

    def restarted(self) -> dict[str, Any]:
        instance = self._existing()
        blocked(instance, "restart")
        if not self.module.check_mode:
            self.cloud.restart([instance["id"]])
            if self.params["wait"]:
                instance = self._wait(instance, launched=False)
        return {"changed": True, "instance": instance}

    def absent(self) -> dict[str, Any]:
        instance = self.found
        if not instance:
            return {"changed": False, "instance": {}}
        name = instance.get("name")
        if self.params["confirm"] not in (instance["id"], name) or not self.params["confirm"]:
            given = f"is {self.params['confirm']!r}" if self.params["confirm"] else "is missing"
            raise LambdaError(
                f"confirm: {given}: {line(instance)} is not terminated without it, for its disk is lost; set confirm to"
                f" {name or instance['id']}"
            )
        gone: Instance | None = None
        if not self.module.check_mode:
            gone = end(self.cloud, instance, self.params["wait_timeout"] if self.params["wait"] else 0)
        return {"changed": True, "instance": gone or {}}

    # Their parts

    def _launch(self) -> dict[str, Any]:
        if self.id:
            self._existing()
        ready = check(self.cloud, self._wanted())
        patience = self.params["capacity_timeout"]
        if self.module.check_mode:
            there = places(ready.wish, ready.types)
            if not there and not patience:
                raise sold_out(ready.wish, (), ready.types, 0)
            body = ready.body(there[0]) if there else {"name": self.params["name"]}
            body.pop("user_data", None)
            return {"changed": True, "launched": True, "instance": body, "tried": []}
        instance_id, tried = start(self.cloud, ready, self.known, patience)
        instance = self.cloud.instance(instance_id) or {"id": instance_id}
        if self.params["wait"]:
            instance = self._wait(instance, launched=True)
        return {"changed": True, "launched": True, "instance": instance, "tried": [str(place) for place in tried]}

    def _wanted(self) -> Launch:
        params = self.params
        if missing := [key for key in ("instance_types", "ssh_key") if not params[key]]:
            raise LambdaError(f"{' and '.join(missing)}: needed, for there is no instance {params['name']} yet; set it")
        image = {key: params[f"image_{key}"] for key in ("id", "family") if params[f"image_{key}"]}
        more = {
            "image": image,
            "hostname": params["hostname"],
            "user_data": params["user_data"],
            "tags": [{"key": key, "value": str(value)} for key, value in sorted(params["tags"].items())],
        }
        return Launch(
            name=params["name"],
            wish=Wish(params["instance_types"], params["regions"], params["max_price_cents_per_hour"]),
            ssh_key=params["ssh_key"],
            file_systems=params["file_systems"],
            rulesets=params["firewall_rulesets"],
            more={key: value for key, value in more.items() if value},
        )

    def _existing(self) -> Instance:
        if self.found:
            return self.found
        there = ", ".join(line(instance) for instance in self.known) or "none"
        key = "id" if self.id else "name"
        raise LambdaError(f"{key}: {self.called}: there is no such instance; the account has: {there}")

    def _check_same(self, instance: Instance) -> None:
        """What an instance is launched with stays: a wish for something else is not met in silence."""
        params = self.params
        if instance["status"] == "unhealthy":
            raise LambdaError(
                f"{line(instance)} exists and is unhealthy; restart it (state: restarted) or terminate it"
                " (state: absent)"
            )
        for key, field in (("instance_types", "instance_type"), ("regions", "region")):
            has = instance[field]["name"]
            if params[key] and has not in params[key]:
                raise LambdaError(
                    f"{key}: {', '.join(params[key])}: {line(instance)} exists and was launched elsewhere or as another"
                    f" type, which cannot be changed; add {has} to {key}, or terminate the instance first"
                )
        tags = {tag["key"]: tag["value"] for tag in instance.get("tags") or []}
        wanted = {
            "ssh_key": (params["ssh_key"], *instance["ssh_key_names"]),
            "tags": (params["tags"] and {key: str(value) for key, value in params["tags"].items()}, tags),
            "file_systems": (sorted(params["file_systems"]), sorted(instance["file_system_names"])),
        }
        for key, (wish, *have) in wanted.items():
            if wish and wish not in have:
                self.module.warn(
                    f"{key}: {wish}: {instance['id']} was launched with {have or 'none'}, which stays until it is"
                    " terminated and launched again"
                )

    def _rename(self, instance: Instance) -> bool:
        name = self.params["name"]
        if instance.get("name") == name:
            return False
        if other := find(self.known, name):
            raise LambdaError(f"name: {name}: {line(other)} is called so already; choose another name")
        if not self.module.check_mode:
            self.cloud.rename(instance["id"], name)
        return True

    def _wait(self, instance: Instance, launched: bool) -> Instance:
        try:
            instance = wait_active(self.cloud, instance, self.params["wait_timeout"])
        except Stuck as error:
            raise LambdaError(f"{error}; {self._give_up(error.instance, launched)}") from error
        if self.params["wait_for_ssh"]:
            wait_ssh(self.cloud, instance, self.params["ssh_port"], self.params["wait_timeout"])
        return instance

    def _give_up(self, instance: Instance, launched: bool) -> str:
        """What becomes of an instance that did not come up, and what to do."""
        if instance["status"] not in ("booting", "unhealthy"):
            return "it costs nothing; launch another one (state: present)"
        wish = self.params["stuck"]
        never_used = self.params["state"] == "present"
        if not never_used or wish == "keep" or (wish == "auto" and not launched):
            return (
                f"it is kept and costs {cost(instance)}: wait longer (wait_timeout), ask Lambda's support, or terminate"
                " it (state: absent) and run again"
            )
        try:
            end(self.cloud, instance, 0)
        except LambdaError as error:
            return f"and terminating it failed: {error}; terminate it in Lambda's dashboard, it may cost"
        return "it was terminated; run again, in another region if this repeats"


def _shown(instance: Instance | None) -> dict[str, Any]:
    """Of an instance, for a diff."""
    keys = ("name", "status", "ip", "region", "region_name", "instance_type", "instance_type_name", "tags")
    shown = {key: instance[key] for key in keys if key in instance} if instance else {}
    return {key: value["name"] if isinstance(value, dict) else value for key, value in shown.items()}


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec=with_access(
            {
                "name": {"type": "str"},
                "id": {"type": "str"},
                "state": {"type": "str", "choices": ["present", "restarted", "absent"], "default": "present"},
                "confirm": {"type": "str"},
                "instance_types": {"type": "list", "elements": "str", "default": []},
                "regions": {"type": "list", "elements": "str", "default": []},
                "max_price_cents_per_hour": {"type": "int"},
                "capacity_timeout": {"type": "int", "default": 0},
                "ssh_key": {"type": "str", "no_log": False},
                "image_family": {"type": "str"},
                "image_id": {"type": "str"},
                "file_systems": {"type": "list", "elements": "str", "default": []},
                "firewall_rulesets": {"type": "list", "elements": "str", "default": []},
                "hostname": {"type": "str"},
                "user_data": {"type": "str", "no_log": True},
                "tags": {"type": "dict", "default": {}},
                "wait": {"type": "bool", "default": True},
                "wait_timeout": {"type": "int", "default": 900},
                "wait_for_ssh": {"type": "bool", "default": False},
                "ssh_port": {"type": "int", "default": 22},
                "stuck": {"type": "str", "choices": ["auto", "keep", "terminate"], "default": "auto"},
            }
        ),
        required_one_of=[("name", "id")],
        required_if=[("state", "present", ("name",))],
        mutually_exclusive=[("image_family", "image_id")],
        supports_check_mode=True,
    )
    name = module.params["name"]
    if name is not None and not 0 < len(name) <= LONGEST_NAME:
        module.fail_json(msg=f"name: {name!r}: has {len(name)} characters; 1 to {LONGEST_NAME} are possible")
    try:
        module.exit_json(**Manager(module, account(module)).run())
    except LambdaError as error:
        fail(module, error)


if __name__ == "__main__":
    main()
