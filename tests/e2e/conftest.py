# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A running fleet: MCP_FLEET_STATE names its inventory's .state directory (inventories/local/.state by default)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NODE_TOOLS = ROOT / ".cache" / "e2e-node"
# The inspector needs Node 22, which the distribution may not have.
PACKAGES = {"node": "22.23.3", "@modelcontextprotocol/inspector": "2.12.0", "@modelcontextprotocol/sdk": "1.32.2"}


@dataclass
class Fleet:
    """Where it is, and how a client gets in."""

    url: str
    key: str
    ca_file: Path

    @property
    def base(self) -> str:
        return self.url.removesuffix("/mcp")


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    state = Path(os.environ.get("MCP_FLEET_STATE", ROOT / "inventories" / "local" / ".state"))
    report = state / "verification.json"
    if not report.is_file():
        pytest.fail(f"{report} does not exist: run make up first, or set MCP_FLEET_STATE to a running fleet's .state")
    key = (state / "secrets" / "gateway_api_key").read_text().strip()
    return Fleet(json.loads(report.read_text())["url"], key, state / "edge-ca.crt")


@pytest.fixture(scope="session")
def node_tools() -> Path:
    """The official JavaScript programs, installed once; returns the directory with their node_modules."""
    manifest = json.dumps({"private": True, "type": "module", "dependencies": PACKAGES}, indent=2)
    there = NODE_TOOLS / "package.json"
    if not there.is_file() or there.read_text() != manifest or not (NODE_TOOLS / "node_modules").is_dir():
        if not shutil.which("npm"):
            pytest.fail("npm is not installed; apt-get install npm, and run again")
        NODE_TOOLS.mkdir(parents=True, exist_ok=True)
        there.write_text(manifest)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=NODE_TOOLS, check=True)
        # node's own package fetches its binary in an install script, which newer npm versions leave out.
        if not (NODE_TOOLS / "node_modules" / ".bin" / "node").exists():
            subprocess.run(["npm", "rebuild", "node"], cwd=NODE_TOOLS, check=True)
    return NODE_TOOLS
