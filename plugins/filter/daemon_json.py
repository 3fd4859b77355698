# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""daemon.json from what several roles contribute to it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: daemon_json
short_description: The engine's configuration from several roles' contributions
version_added: 0.2.0
description:
  - Merges contributions to C(daemon.json). Dictionaries are merged and lists joined; on any other key two contributions
    must agree.
  - Refuses C(live-restore), which Swarm mode excludes.
author:
  - Sophia AI (@sophia-ai)
options:
  _input:
    description: Contribution by who makes it.
    type: dict
    required: true
  defaults:
    description: What holds where nobody says anything.
    type: dict
    default: {}
  own:
    description: What holds whatever anybody says. A key that is null is taken away.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show it
  ansible.builtin.debug:
    msg: "{{ {'gpu': {'default-runtime': 'nvidia'}} | sophia_ai.mcp_swarm.daemon_json({'icc': false}) }}"
"""

RETURN = r"""
_value:
  description: The whole configuration.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._node import daemon


def daemon_json(
    parts: Mapping[str, Mapping[str, Any]],
    defaults: Mapping[str, Any] | None = None,
    own: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    try:
        return daemon.daemon_json(parts, defaults or {}, own or {})
    except daemon.DaemonError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"daemon_json": daemon_json}
