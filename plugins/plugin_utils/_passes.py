# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gateway's pass for whoever deploys: it opens replicas on trial, and the fleet while maintenance lasts.

How it is made: services/gateway/src/mcp_gateway/passes.py.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet.validate import FleetError
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import Fleet

HEADER = "X-MCP-Pass"
CONTEXT = b"mcp-gateway pass 1 "
GOOD_SECONDS = 900


def made(key: bytes, until: int) -> str:
    """A pass that is good until then, in seconds since 1970."""
    return f"{until}.{hmac.new(key, CONTEXT + str(until).encode(), hashlib.sha256).hexdigest()}"


def headers(task_vars: Mapping[str, Any], templar: Any) -> dict[str, str]:
    """The header with a pass; none where the session key is not to be had here."""
    try:
        key = Fleet(task_vars, templar).secret_values().get("gateway_session_key", "")
    except FleetError:
        return {}
    return {HEADER: made(key.strip().encode(), int(time.time()) + GOOD_SECONDS)} if key else {}
