# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the attributes of this collection's modules mean, and what several of them have in common."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments of documentation."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
  diff_mode:
    description: Returns details on what has changed (or possibly needs changing in C(check_mode)), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
      - This assumes that nobody else changed the Swarm in between.
  platform:
    description: Target operating systems that the module can be run against.
    platforms: linux
    support: full
"""

    # What only reads.
    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: This action does not modify state.
  diff_mode:
    support: N/A
    details: This action does not modify state.
  idempotent:
    support: full
    details: This action does not modify state.
"""

    # What has an action plugin of the same name.
    ACTION = r"""
options: {}
attributes:
  action:
    description: Has an action plugin, so that a part of it runs on the controller.
    support: full
  async:
    description: Supports being used with the C(async) keyword.
    support: none
"""

    # What runs on a manager.
    MANAGER = r"""
options: {}
requirements:
  - "Docker SDK for Python: L(docker,https://docker-py.readthedocs.io/) >= 5.0.3, on the manager"
  - Docker API >= 1.41 (Docker 20.10)
notes:
  - Runs on a manager of the Swarm; any of them will do. It needs to be root there, or in the group C(docker).
  - It speaks to the engine at C(/var/run/docker.sock) and to no other. C(DOCKER_HOST) and contexts are not regarded.
"""

    # What is a default for all of a play by module_defaults.
    GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/sophia_ai.mcp_swarm.fleet) in C(module_defaults) to set defaults, such as the name.
    support: full
    membership:
      - sophia_ai.mcp_swarm.fleet
"""

    # What is told while it runs, by the action plugin of the same name.
    PROGRESS = r"""
options:
  progress_file:
    description: Where progress lines are appended.
    type: path
"""

    # What waits for the fleet's lock and holds it.
    LOCKED = r"""
options:
  lock_wait:
    description: Seconds to wait for a deploy to end.
    type: int
    default: 60
  who:
    description: Who asks for it, for the lock. The user at the controller where it is not given.
    type: str
    default: unknown
"""
