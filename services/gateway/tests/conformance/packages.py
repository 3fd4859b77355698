"""The packages from npm that the suite, its fixtures and the official clients need, installed once."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[4] / ".cache" / "gateway-conformance"
PYTHON1 = "mcp==1.30.0"
# The suite needs Node 22, which the package ``node`` brings.
PACKAGES = {
    "@modelcontextprotocol/client": "2.4.0",
    "@modelcontextprotocol/conformance": "0.2.0-alpha.12",
    "@modelcontextprotocol/sdk": "1.32.2",
    "node": "22.23.3",
}


@functools.cache
def modules() -> Path:
    """The ``node_modules`` directory.

    Raises:
        RuntimeError: npm is not there.
    """
    manifest = json.dumps({"private": True, "type": "module", "dependencies": PACKAGES})
    there, installed = DIRECTORY / "package.json", DIRECTORY / "node_modules"
    if not there.is_file() or there.read_text() != manifest or not installed.is_dir():
        if not shutil.which("npm"):
            raise RuntimeError("npm is not installed; these tests need it (apt-get install npm)")
        DIRECTORY.mkdir(parents=True, exist_ok=True)
        there.write_text(manifest)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=DIRECTORY, check=True)
    return installed


def node() -> str:
    """The program of Node 22."""
    return str(modules() / "node" / "bin" / "node")


@functools.cache
def python1() -> str:
    """A Python with the official client 1.x, in an environment of its own: both lines are named ``mcp``."""
    there = DIRECTORY.with_name("gateway-python1")
    program = there / "bin" / "python"
    if not (there / PYTHON1).is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(there)], check=True)
        subprocess.run([str(program), "-m", "pip", "install", "--quiet", PYTHON1], check=True)
        (there / PYTHON1).touch()
    return str(program)


def interpreter(program: str) -> str:
    """What runs a client's program."""
    if program.endswith(".mjs"):
        return node()
    return python1() if program == "python1.py" else sys.executable
