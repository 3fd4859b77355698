# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate of a deploy: the fleet is called as clients call it, before a release counts as deployed."""

from __future__ import annotations

import asyncio
import getpass
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _verdict

SERVER_KEYS = ("name", "kind", "replicas", "url", "upstream", "check", "latency_target_ms", "scale", "gpu_pool")


def missing() -> str:
    """Why the gate cannot call the fleet from this controller; empty where it can."""
    # The SDK takes longer to import than a deploy without changes, which asks nothing.
    from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._probe import MISSING

    return MISSING


def questions(plan: Mapping[str, Any]) -> dict[str, Any]:
    """What of a plan the gate needs; a release keeps it, so that it can be asked again after going back to it."""
    keys = {secret["name"]: secret["object"] for secret in plan["secrets"]}
    return {
        "servers": [{key: server[key] for key in SERVER_KEYS} for server in plan["servers"]],
        "url": plan["edge"]["url"],
        "key": keys.get("gateway_api_key", ""),
        "authority": keys.get("edge_ca", "") if plan["edge"]["tls"] == "internal" else "",
        "session_key": keys.get("gateway_session_key", ""),
    }


def ask(
    plan: Mapping[str, Any], question: Mapping[str, Any], timeout: float, headers: Mapping[str, str]
) -> tuple[str, str]:
    """Call the fleet; returns a line for people, and what is wrong (empty where nothing is).

    Args:
        plan: the present plan: it knows where key and CA lie on this controller.
        question: what ``questions`` made of the release that serves.
        timeout: seconds for which a server that does not answer yet is asked again.
        headers: sent with every request.
    """
    from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._probe import Probe

    mine = questions(plan)
    if question["key"] != mine["key"]:
        return "not verified by calls: the API key of that release is not the one on this controller", ""
    if question.get("authority", "") != mine["authority"]:
        return "not verified by calls: the edge's authority of that release is not the one on this controller", ""
    asked = {**plan, "servers": question["servers"], "edge": {**plan["edge"], "url": question["url"]}}
    try:
        key = Path(plan["client"]["api_key_file"]).read_text("utf-8").strip()
        servers, problems = asyncio.run(Probe(asked, key, timeout, headers).run())
    except OSError as error:
        return "not verified", f"the gate could not be asked: {error}"
    line = _verdict.summary(servers)
    broken = [
        f"server {seen.name}: {seen.problem}".replace("<fleet>", plan["fleet"]) for seen in servers if seen.problem
    ]
    return line, "\n".join([line, *(problems or broken)]) if problems or broken else ""


def who() -> str:
    """The person at the controller."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a user without an entry in passwd
        return f"somebody@{socket.gethostname()}"


def revision(directory: str | None) -> str:
    """The source revision of the inventory, with ``+`` where files differ from it; empty outside of Git."""
    if not directory:
        return ""
    git = ["git", "-C", directory]
    try:
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
        if head.returncode != 0:
            return ""
        dirty = subprocess.run([*git, "status", "--porcelain", "--", "."], capture_output=True, text=True, check=False)
    except OSError:  # no git on this controller
        return ""
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
