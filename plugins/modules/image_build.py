#!/usr/bin/python
# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the fleet's images."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_build
short_description: Build the fleet's images side by side
version_added: 0.1.0
description:
  - Builds every image of the fleet plan that the engine does not have yet, each as soon as those it needs are there.
  - Images are named by their content, so an image that exists is never built again.
  - Lock files that the plan misses are resolved first, in a container of the builder image, and written beside the
    inventory.
  - An image that another host pushed to the fleet's registry is taken from there.
  - Progress is shown while it runs. The contexts stay below O(build_dir) for reading and for building by hand.
author:
  - Sophia AI (@sophia-ai)
extends_documentation_fragment:
  - sophia_ai.mcp_swarm.attributes
  - sophia_ai.mcp_swarm.attributes.action
  - sophia_ai.mcp_swarm.attributes.progress
requirements:
  - A Docker client that can use BuildKit, on the build host
attributes:
  check_mode:
    support: full
    details: Reports what would be built.
  diff_mode:
    support: none
  idempotent:
    support: full
  async:
    details: Builds run detached in any case. A connection that breaks does not end them.
options:
  images:
    description: Images of the fleet plan. The action plugin takes them from the fact C(fleet_plan).
    type: list
    elements: dict
  build_dir:
    description: Holds one directory per image.
    type: path
  site:
    description: Package indexes and C(ca_file) of the build host.
    type: dict
    default: {}
  base:
    description: Where the base image comes from.
    type: str
    choices: [auto, pull, bootstrap]
    default: auto
  parallel:
    description: Images built side by side.
    type: int
    default: 4
  operation:
    description: V(missing) lists what is to be built, V(lock) resolves O(locks), V(build) builds.
    type: str
    choices: [missing, lock, build]
    default: build
  locks:
    description: What to resolve; each has C(kind), C(manifest) and C(server).
    type: list
    elements: dict
    default: []
  archive:
    description: Tar archive of the contexts on the target; unpacked into O(build_dir).
    type: path
  docker_config:
    description: Directory of the credentials for the registry; empty where there is no registry.
    type: path
    default: ''
notes:
  - Nothing of the site's CA bundle, and no address of its package indexes, stays in a layer.
seealso:
  - module: sophia_ai.mcp_swarm.fleet_plan
    description: Says what is to be built, and names it.
  - module: community.docker.docker_image_build
"""

EXAMPLES = r"""
- name: Build what is missing
  sophia_ai.mcp_swarm.image_build:
"""

RETURN = r"""
built:
  description: Seconds each built image took, by name.
  returned: when something was built
  type: dict
  sample: {os: 24.8, time: 6.1}
missing:
  description: Names of the images the engine did not have.
  returned: success
  type: list
  elements: str
  sample: [os, time]
"""

import os
import shutil
import tarfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.builder import Builder
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.docker_cli import Docker
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.errors import BuildError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.locks import resolve
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._progress import Progress
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import Registry, RegistryError


def unpack(archive: str, build_dir: str) -> None:
    """Replace the contexts that the archive holds; the archive goes."""
    os.makedirs(build_dir, mode=0o755, exist_ok=True)
    with tarfile.open(archive) as tar:
        for top in sorted({member.name.split("/")[0] for member in tar.getmembers()}):
            shutil.rmtree(os.path.join(build_dir, top), ignore_errors=True)
        tar.extractall(build_dir, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(build_dir)
    os.unlink(archive)


def _registry(docker_config: str) -> Registry | None:
    try:
        return Registry(docker_config) if docker_config else None
    except RegistryError:  # what cannot be fetched is built
        return None


def run(module: AnsibleModule) -> dict[str, Any]:
    """The module's result."""
    params = module.params
    docker = Docker()
    images = params["images"] or []
    there = docker.existing([image["ref"] for image in images])
    missing = [image for image in images if image["ref"] not in there]
    result: dict[str, Any] = {"changed": False, "missing": [image["name"] for image in missing]}
    if params["operation"] == "missing" or module.check_mode:
        return result | {"changed": module.check_mode and bool(missing)}
    if params["archive"]:
        try:
            unpack(params["archive"], params["build_dir"])
        except OSError as error:
            raise BuildError(
                f"mcp_fleet.state_dir: the build contexts do not fit into {params['build_dir']}: {error.strerror};"
                " free space there, or set another directory"
            ) from error
    if params["operation"] == "lock":
        builder = next(image["ref"] for image in images if image["name"] == "builder")
        texts = {
            lock["file"]: resolve(docker, builder, lock["kind"], lock["manifest"], params["site"], lock["server"])
            for lock in params["locks"]
        }
        return result | {"locks": texts}
    progress = Progress(params["progress_file"])
    registry = _registry(params["docker_config"])
    builder = Builder(docker, params["build_dir"], params["site"], params["base"], progress, registry)
    outcome = builder.build(missing, params["parallel"])
    reasons = [reason for reason in outcome.failed.values() if reason]
    if reasons:
        count = len(reasons)
        head = f"{count} image{'s' if count > 1 else ''} could not be built; what ran before still runs."
        raise BuildError("\n".join([head, *reasons]))
    return result | {"changed": bool(outcome.built), "built": outcome.built}


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "images": {"type": "list", "elements": "dict"},
            "build_dir": {"type": "path"},
            "site": {"type": "dict", "default": {}},
            "base": {"type": "str", "choices": ["auto", "pull", "bootstrap"], "default": "auto"},
            "parallel": {"type": "int", "default": 4},
            "operation": {"type": "str", "choices": ["missing", "lock", "build"], "default": "build"},
            "locks": {"type": "list", "elements": "dict", "default": [], "no_log": False},
            "archive": {"type": "path"},
            "docker_config": {"type": "path", "default": ""},
            "progress_file": {"type": "path"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except BuildError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
