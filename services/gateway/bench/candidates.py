"""Measures the parts that the data path could have been made of, and writes what was tried to docs/performance.md.

The gateway's own choices stand first in each group. Parsers, encoders and tasks are timed in one process by their
processor time; servers by the load generator at 16 connections; clients against the canned upstream, 16 at a time.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median

from bench import ours, report
from bench.install import python_tools
from bench.lab import GATEWAY, Candidate, Lab
from bench.messages import Endpoint
from bench.process import Unavailable, free_port
from bench.table import measure

PEERS = Path(__file__).with_name("peers")
PACKAGES = (
    "httptools==0.9.0",
    "uvloop==0.23.0",
    "orjson==3.13.0",
    "h11==0.16.0",
    "aiohttp==3.14.5",
    "msgspec==0.22.0",
    "httpx2==2.16.2",
    "uvicorn==0.54.0",
    "granian==2.8.7",
)
SERVERS = {
    "raw-uvloop": "own protocol on httptools, uvloop",
    "raw-asyncio": "own protocol on httptools, asyncio's loop",
    "uvicorn": "uvicorn (httptools, uvloop), ASGI",
    "aiohttp": "aiohttp, uvloop",
    "granian": "granian, uvloop, ASGI",
}
CLIENTS = {"raw": "own protocol on httptools", "aiohttp": "aiohttp", "httpx2": "httpx2"}
CALLS = 4_000


def parts(python: str) -> dict[str, dict[str, float]]:
    """Parsers, encoders, tasks: microseconds by group and candidate."""
    environment = {**os.environ, "PYTHONPATH": str(GATEWAY / "src")}
    command = [python, str(PEERS / "parts.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def servers(lab: Lab, python: str) -> dict[str, float]:
    """Microseconds per request by server."""
    made = []
    for kind, name in SERVERS.items():
        port = free_port()
        process = lab.start(f"server-{kind}", [python, str(PEERS / "servers.py"), kind, str(port)], port, cwd=PEERS)
        made.append(Candidate(name, process, port, [Endpoint(port, "/mcp").call("echo")]))
    rows = measure(lab, made, 3, 1.0)
    for row in rows:
        if row.wrong:
            raise RuntimeError(f"{row.name}: {row.wrong} wrong answers: {row.complaint}")
    return {row.name: (row.cpu_ms or 0) * 1000 for row in rows}


def clients(lab: Lab, python: str) -> dict[str, float]:
    """Microseconds per call by client, medians of three runs in turn."""
    url = f"http://127.0.0.1:{lab.upstream.port}/s/canned/mcp"
    runs: dict[str, list[float]] = {}
    for _ in range(3):
        for kind, name in CLIENTS.items():
            command = [python, str(PEERS / "clients.py"), kind, url, str(CALLS)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs.setdefault(name, []).append(float(done.stdout))
    return {name: median(values) for name, values in runs.items()}


def main() -> int:
    """Measure, print, write."""
    try:
        python = str(python_tools("candidates", *PACKAGES) / "python")
        with Lab() as lab:
            found = parts(python)
            found["serve a call over HTTP"] = servers(lab, python)
            found["make a call over HTTP"] = clients(lab, python)
    except Unavailable as reason:
        print(f"bench.candidates: {reason}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as failure:
        print(f"bench.candidates: {failure}: {failure.stderr.strip()[-800:]}", file=sys.stderr)
        return 1
    rows = [[group, name, f"{cost:.1f}"] for group, costs in found.items() for name, cost in costs.items()]
    machine = report.machine(f"Python {platform.python_version()}{ours.unoptimised()}")
    text = f"On {machine}; {', '.join(PACKAGES)}.\n\n"
    text += report.table(["what", "by", "CPU microseconds"], rows)
    print(text)
    report.write("candidates", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
