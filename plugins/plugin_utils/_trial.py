# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas on trial: called as MCP servers through the gateway, and what it saw of their share of the calls."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._services import service_of
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _gate, _probe, _verdict


def ask(
    plan: Mapping[str, Any], question: Mapping[str, Any], timeout: float, headers: Mapping[str, str]
) -> dict[str, Any]:
    """Ask a trial's question.

    Args:
        plan: the present plan: it knows where key and CA lie on this controller.
        question: ``kind`` trial calls the replicas, canary asks what was seen of their share.
        timeout: seconds for which one that does not answer yet is asked again.
        headers: sent with every request; the pass is among them.

    Returns:
        ``line`` for people, ``problem`` (empty where nothing is wrong), and for a canary ``seen`` by server.
    """
    mine = _gate.questions(plan)
    changed = [key for key in ("key", "session_key", "authority") if question.get(key) != mine[key]]
    if changed:
        # The gateway that serves has other keys than this controller by now: the trial goes on without calls.
        why = "not called: the keys of the release that serves are not those on this controller"
        return {"line": why, "problem": why if question["kind"] == "canary" else ""}
    asked = {**plan, "servers": question["servers"], "edge": {**plan["edge"], "url": question["url"]}}
    try:
        key = Path(plan["client"]["api_key_file"]).read_text("utf-8").strip()
        probe = _probe.TrialProbe(asked, key, timeout, headers)
    except OSError as error:
        return {"line": "not called", "problem": f"the replicas on trial could not be called: {error}"}
    if question["kind"] == "canary":
        try:
            return {"problem": "", "seen": asyncio.run(probe.shares())}
        except Exception as failure:  # whatever a gateway may do wrong, nobody knows how the canary fares
            return {"problem": f"the gateway's /status does not tell how it fares: {_probe.cause(failure)}"}
    servers, dummy = asyncio.run(probe.run())
    logs = "docker service logs --tail 20 <fleet>_{}"
    broken = []
    for seen in servers:
        if seen.problem:
            problem = seen.problem.replace(f"; look at: {logs.format(service_of(seen.name))}", "")
            broken.append(f"server {seen.name}, on trial: {problem}")
    line = f"{_verdict.summary(servers)} on trial"
    return {"line": line, "problem": "\n".join(broken)}
