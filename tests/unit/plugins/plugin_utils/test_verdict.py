# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What verification concludes from what it saw."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _verdict
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._verdict import Seen


def seen(**changes: Any) -> Seen:
    good: dict[str, Any] = {
        "name": "ai_memory",
        "kind": "python",
        "desired": 2,
        "target_ms": 100,
        "healthy": 2,
        "era": "2026-07-28",
        "tools": ["store", "search"],
        "merged": 2,
        "milliseconds": [10.0, 20.0, 30.0],
        "call": "stats",
        "result": "memories: 3",
        "expected": "memories",
    }
    return Seen(**{**good, **changes})


def test_a_good_server_is_operational() -> None:
    assert seen().problem == ""
    assert seen(call="", expected="", result="").problem == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"error": "refused"}, "refused; look at: docker service logs --tail 20 <fleet>_ai-memory"),
        ({"healthy": 1}, "1 of 2 replicas answer"),
        ({"gpu_desired": 2, "gpu_healthy": 1}, "1 of 2 replicas on GPUs answer; look at: docker service ps <fleet>_ai-memory-gpu"),
        ({"tools": [], "merged": 0}, "lists no tools"),
        ({"merged": 1}, "/mcp lists 1 of its 2 tools"),
        ({"result": "nothing"}, "stats answered 'nothing', not 'memories'"),
        ({"milliseconds": [101.0]}, "latency_target_ms is 100"),
    ],
)
def test_each_way_to_fail_names_cause_and_next_step(changes: dict[str, Any], said: str) -> None:
    assert said in seen(**changes).problem


def test_a_gpu_service_has_replicas_of_its_own_in_the_table() -> None:
    rows = _verdict.table([seen(), seen(gpu_desired=1, gpu_healthy=1)])
    assert [row.split("  ")[0] for row in rows[1:]] == ["ai_memory", "ai_memory"]
    assert "2/2 gpu 1/1" in rows[2]
    assert "gpu" not in rows[1]


def test_percentiles() -> None:
    one = seen(milliseconds=[float(n) for n in range(1, 101)])
    assert one.p50_ms == 50.5
    assert one.p95_ms == 95.0
    assert seen(milliseconds=[7.04]).p95_ms == 7.0
    assert seen(milliseconds=[]).p50_ms is None


def test_table_is_aligned_and_marks_what_failed() -> None:
    lines = _verdict.table([seen(name="a"), seen(name="a_longer_name", healthy=0, result="x" * 200)])
    assert len(lines) == 3
    column = lines[0].index("REPLICAS")
    assert [line[column : column + 3] for line in lines[1:]] == ["2/2", "0/2"]
    assert lines[1].endswith("stats: memories: 3")
    assert lines[2].endswith("FAILED")


def test_summary_counts() -> None:
    assert _verdict.summary([seen(), seen(error="x"), seen()]) == "2/3 operational"


@pytest.mark.parametrize("ca_file", ["", "/state/ca.crt"])
def test_client_lines_never_show_the_key(ca_file: str) -> None:
    client = {"url": "https://h/mcp", "api_key_file": "/state/key", "ca_file": ca_file}
    text = "\n".join(_verdict.client_lines(client))
    assert "https://h/mcp" in text
    assert "$(cat /state/key)" in text
    assert ("NODE_EXTRA_CA_CERTS=/state/ca.crt" in text) == bool(ca_file)


def test_report_is_plain_data() -> None:
    report = seen(error="gone").report()
    assert report["p50_ms"] == 20.0
    assert report["problem"].startswith("gone")
