# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's pass is the one that the gateway takes."""

from __future__ import annotations

import sys
import time

from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _passes
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import ROOT


def test_both_ends_make_the_same_pass() -> None:
    sys.path.insert(0, str(ROOT / "services" / "gateway" / "src"))
    try:
        from mcp_gateway import passes
    finally:
        sys.path.pop(0)
    made = _passes.made(b"key", int(time.time()) + 60)
    assert passes.good(made, [b"key"])
    assert _passes.HEADER.lower() == passes.HEADER
