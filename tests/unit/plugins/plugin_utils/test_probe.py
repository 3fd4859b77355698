# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What verification makes of the gateway's own status: replicas, and those of a GPU service apart."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _gate, _probe

PLAN: dict[str, Any] = {
    "secrets": [],
    "edge": {"url": "https://localhost:1", "tls": "internal"},
    "client": {"api_key_file": "", "ca_file": ""},
}
SERVER: dict[str, Any] = {
    "name": "ocr", "kind": "image", "replicas": 2, "url": "", "upstream": {"dns": "x"}, "check": None,
    "latency_target_ms": 1, "scale": None, "gpu_pool": {"service": "ocr-gpu", "replicas": 1},
}  # fmt: skip


def replica(pool: str | None, healthy: bool = True) -> dict[str, Any]:
    return {"healthy": healthy, **({"pool": pool} if pool else {})}


@pytest.mark.parametrize(
    ("server", "replicas", "counted"),
    [
        (SERVER, [replica("gpu"), replica("cpu"), replica("cpu")], (2, 2, 1, 1)),
        # More on the CPU make up for none on a GPU.
        (SERVER, [replica("gpu", False), replica("cpu"), replica("cpu"), replica("cpu")], (2, 3, 1, 0)),
        ({**SERVER, "gpu_pool": None}, [replica(None), replica(None)], (2, 2, 0, 0)),
        # A release that was recorded before there were GPU services.
        ({k: v for k, v in SERVER.items() if k != "gpu_pool"}, [replica(None)], (2, 1, 0, 0)),
    ],
)
def test_pools_are_counted_apart(
    server: dict[str, Any], replicas: list[dict[str, Any]], counted: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def known(self: _probe.Probe, dummy: Any) -> dict[str, Any]:
        return {"ocr": {"name": "ocr", "era": "2026-07-28", "replicas": replicas}}

    monkeypatch.setattr(_probe.Probe, "_servers_known", known)
    probe = _probe.Probe({**PLAN, "servers": [server]}, "k", 0)
    seen = probe._unseen(server)
    asyncio.run(probe._status([seen]))
    assert (seen.desired, seen.healthy, seen.gpu_desired, seen.gpu_healthy) == counted


def test_a_release_keeps_what_is_asked_of_its_gpu_service() -> None:
    asked = _gate.questions({**PLAN, "servers": [SERVER]})["servers"][0]
    assert asked["gpu_pool"] == {"service": "ocr-gpu", "replicas": 1}
