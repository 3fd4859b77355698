# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Canaries under load, hooks at every stage, and maintenance through a deploy."""

from __future__ import annotations

import json
import re
import ssl
from typing import Any

import httpx2
from calls import Calls
from conftest import INVENTORY, Node
from test_faults import TINI, WHOLE, row, server

# Answers as the check wants for a while, and then fails: its trial it passes.
TURNS_BAD = """
from pydantic import BaseModel
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
server, calls = MCPServer("time"), [0]

class Time(BaseModel):
    timezone: str
    datetime: str = "2026-01-01T00:00:00+00:00"
    day_of_week: str = "Thursday"
    is_dst: bool = False

@server.tool()
def get_current_time(timezone: str) -> Time:
    calls[0] += 1
    if calls[0] > 30:
        raise ValueError("broken on purpose")
    return Time(timezone=timezone)

security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
import uvicorn
uvicorn.run(server.streamable_http_app(transport_security=security), host="0.0.0.0", port=8000, log_level="warning")
"""
SHARE = {"canary": 50, "canary_calls": 20, "canary_seconds": 12, "canary_latency": 20}


def test_a_canary_that_is_well_is_promoted(node: Node, calls: Calls) -> None:
    """With every hook there is: one that is not required fails, and is told."""
    log, note = "/root/hooks", INVENTORY / ".state" / "hook.json"
    node.sh(f"rm -f {log}")
    note.unlink(missing_ok=True)
    moments = [f"{when}_{stage}" for stage in ("plan", "trial", "apply", "verify", "record") for when in ("before", "after")]
    command = ["sh", "-c", f'echo "$MCP_MOMENT $MCP_ACTION $MCP_CHANGED" >>{log}']
    hooks: dict[str, Any] = {moment: [{"command": command}] for moment in [*moments, "on_rollback", "on_failure"]}
    hooks["after_apply"].append({"command": ["sh", "-c", "echo nobody listens; exit 3"]})
    hooks["after_record"].append({"playbook": "../hooks/note.yml"})
    code, output = node.deploy(server(environment={"X": "canary"}), hooks=hooks, **SHARE)
    assert code == 0, output
    assert "services converged after" in output
    assert "time: 50 % of the calls go to the new version for 12 s" in output
    assert re.search(r"canary promoted: time: the new version answered \d+ calls, 0 failed \(0.0 %\), 95 % within", output)
    assert "hook after_apply: sh ended with 3: nobody listens" in output
    assert node.sh(f"cut -d' ' -f1 {log}").split() == moments
    assert node.sh(f"grep after_record {log}").split() == ["after_record", "deploy", "mcp_time"]
    told = json.loads(note.read_text("utf-8"))
    assert (told["fleet"], told["moment"], told["release"]) == ("mcp", "after_record", str(node.info()["current"]["release"]))
    assert (node.info()["services"], node.aside()) == (WHOLE, [])
    row("canary, well", "canary promoted: …", output, calls)
    assert not calls.failed


def test_a_canary_that_turns_bad_is_withdrawn(node: Node, calls: Calls) -> None:
    before = node.info()
    bad = server(entrypoint=[*TINI, f"exec /opt/mcp/bin/python -c '{TURNS_BAD}'"], healthcheck={"test": ["CMD", "true"], "interval": "1s"})
    code, output = node.deploy(bad, **{**SHARE, "canary_seconds": 60})
    assert code != 0, output
    found = re.search(r"canary withdrawn: time: the new version answered (\d+) calls, (\d+) failed", output)
    assert found, output
    assert "percentage points more fail" in output
    assert "nothing of what serves was touched" in output
    after = node.info()
    assert after["current"]["release"] == before["current"]["release"]
    assert (after["services"], after["drift"], node.aside()) == (WHOLE, [], [])
    row("canary, turns bad", "canary withdrawn: …", output, calls)
    # What it answered wrongly, and nothing by being withdrawn.
    assert 3 <= len(calls.failed) < 40
    assert all("Error executing tool get_current_time" in one for one in calls.failed), calls.failed


def test_a_canary_that_nobody_called_is_not_judged(node: Node) -> None:
    fault = server(environment={"X": "nobody"})
    code, output = node.deploy(fault, canary=10, trial=False)
    assert code != 0
    assert "canary: 10: it is a part of the trial and judged by calls; set trial and verify" in output
    code, output = node.deploy(fault, canary=10, canary_seconds=1, canary_calls=5)
    assert code != 0, output
    assert "too few calls to judge, 5 are needed" in output
    assert (node.info()["services"], node.aside()) == (WHOLE, [])


def test_a_required_hook_stops_the_deploy(node: Node, calls: Calls) -> None:
    before = node.info()["current"]["release"]
    hooks = {"before_apply": [{"command": ["sh", "-c", "env | sort; exit 4"]}]}
    code, output = node.deploy(server(environment={"X": "hook"}), hooks=hooks, trial=False)
    assert code != 0
    assert "A hook stopped the deploy; nothing of what serves was touched." in output
    assert "hook before_apply: sh ended with 4" in output
    assert "MCP_CHANGED=mcp_time" in output
    assert "ANSIBLE" not in output[output.index("ended with 4") :]
    late = {"before_record": [{"command": ["sleep", "60"], "seconds": 1}]}
    code, output = node.deploy(server(environment={"X": "hook"}), hooks=late, trial=False)
    assert code != 0
    assert "hook before_record: sleep took longer than 1 s" in output
    info = node.info()
    assert (info["current"]["release"], info["services"], info["drift"]) == (before, WHOLE, [])
    code, output = node.deploy(hooks={"before_lunch": [], "after_plan": [{"playbook": "../hooks/gone.yml"}]})
    assert code != 0
    assert "hooks.after_plan[0].playbook:" in output
    row("hook fails", "A hook stopped the deploy; …", output, calls)
    assert not calls.failed


def test_maintenance_lasts_through_a_deploy(node: Node) -> None:
    address = str(httpx2.URL(node.url()).host)
    key = (INVENTORY / ".state" / "secrets" / "gateway_api_key").read_text("utf-8").strip()
    trust = ssl.create_default_context(cafile=str(INVENTORY / ".state" / "edge-ca.crt"))
    http = httpx2.Client(verify=trust, headers={"Authorization": f"Bearer {key}"}, base_url=f"https://{address}:8443")
    body = {"jsonrpc": "2.0", "id": 7, "method": "tools/list"}

    def asked(path: str) -> httpx2.Response:
        return http.post(path, json=body)

    code, output = node.play("playbooks/maintenance.yml", state="on")
    assert code != 0
    assert "why is empty" in output
    code, output = node.play("playbooks/maintenance.yml", state="on", why="moving house", minutes=-1)
    assert code != 0
    assert "minutes: -1: at least 0; 0 where nobody knows" in output
    code, output = node.play("playbooks/maintenance.yml", state="on", why="moving house", minutes=30)
    assert code == 0, output
    try:
        refused = asked("/mcp")
        assert (refused.status_code, refused.json()["id"]) == (503, 7)
        assert 0 < int(refused.headers["retry-after"]) <= 1800
        assert re.search(r"the fleet is in maintenance, until 20\S+: moving house", refused.json()["error"]["message"])
        assert http.get("/healthz").status_code == 200
        assert http.get("/status").json()["maintenance"]["*"]["why"] == "moving house"
        assert "moving house" in node.info()["maintenance"][0]
        # A deploy with its trial and its gate goes on, and so does maintenance after it.
        fetch = node.sh("docker service ps --quiet mcp_fetch")
        both = {"services": {name: {"environment": {"X": "moved"}} for name in ("time", "fetch")}}
        code, output = node.deploy(both, only=["time"])
        assert code == 0, output
        assert "trying time beside what serves" in output
        assert node.sh("docker service ps --quiet mcp_fetch") == fetch
        assert "1/1 operational on trial" in output
        assert asked("/mcp").status_code == 503
        code, output = node.play("playbooks/verify.yml", verify_timeout=20)
        assert code == 0, output
        code, output = node.play("playbooks/maintenance.yml", why="moving house", minutes=30, server="nobody")
        assert "no such server; there are: time, fetch" in output
    finally:
        code, output = node.play("playbooks/maintenance.yml", state="off")
    assert code == 0, output
    assert asked("/mcp").status_code != 503
    assert (node.info()["maintenance"], node.aside()) == ([], [])
