# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What instances cost, and which idle."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.filter.lambda_cost import FilterModule


def host(name: str, cents: int = 75, status: str = "active", **more: str) -> dict[str, Any]:
    address = f"198.51.100.{len(name)}"
    return {
        "inventory_hostname": name,
        "lambda_hostname": address,
        "lambda_ip": address,
        "lambda_private_ip": "10.0.0.1",
        "lambda_price_cents_per_hour": cents,
        "lambda_status": status,
        **{f"lambda_{key}": value for key, value in more.items()},
    }


@pytest.mark.parametrize(
    ("hosts", "busy", "line"),
    [
        ([], [], "$0.00/h for 0 instances; idle: none"),
        ([host("a")], ["a", "10.1.0.1"], "$0.75/h for 1 instance; idle: none"),
        ([host("a")], ["198-51-100-1"], "$0.75/h for 1 instance; idle: none"),
        ([host("a", private_ip="10.0.0.9")], ["somename", "10.0.0.9"], "$0.75/h for 1 instance; idle: none"),
        ([host("a"), host("bb", 249)], ["a"], "$3.24/h for 2 instances; idle: bb ($2.49/h, runs nothing of the fleet)"),
        ([host("a", status="booting")], [], "$0.75/h for 1 instance; idle: a ($0.75/h, booting)"),
        ([host("a", status="terminating")], [], "$0.00/h for 0 instances; idle: none"),
    ],
)
def test_the_line(hosts: list[dict[str, Any]], busy: list[str], line: str) -> None:
    assert FilterModule().filters()["lambda_cost"](hosts, busy) == line
