# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a changed daemon.json needs a restart."""

from __future__ import annotations

DOCUMENTATION = r"""
name: restart_needed
short_description: Whether the engine must restart for a changed configuration
version_added: 0.2.0
description:
  - True where a key differs that a running engine does not read again on SIGHUP.
author:
  - Sophia AI (@sophia-ai)
options:
  _input:
    description: The configuration before.
    type: dict
    required: true
  after:
    description: The configuration now.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Ask
  ansible.builtin.debug:
    msg: "{{ {'debug': true} is sophia_ai.mcp_swarm.restart_needed({}) }}"
"""

RETURN = r"""
_value:
  description: Whether it must restart.
  type: bool
"""

from collections.abc import Callable
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node.daemon import restart_needed


class TestModule:
    """The test."""

    def tests(self) -> dict[str, Callable[..., Any]]:
        return {"restart_needed": restart_needed}
