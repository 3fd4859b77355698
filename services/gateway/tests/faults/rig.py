"""A gateway under faults: started, asked, watched from outside."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from conftest import LEGACY, MODERN, Running, message_of, wait_until

Json = dict[str, Any]
HTTP = httpx2.Client(timeout=30)  # for questions about health: a client is dear to make
SETTLE_SECONDS = 8.0


class Caller:
    """A bare client of one era at one gateway; threads may share it."""

    def __init__(self, url: str, era: str, path: str = "/mcp", timeout: float = 30.0) -> None:
        self.era = era
        self._path = path
        self.http = httpx2.Client(base_url=url, timeout=timeout)
        self._headers = {"Accept": "application/json, text/event-stream"}
        if era == "legacy":
            self._headers["MCP-Protocol-Version"] = LEGACY
            info = {"name": "test", "version": "1"}
            hello = self.post("initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": info})
            self._headers["Mcp-Session-Id"] = hello.headers["mcp-session-id"]
        else:
            self._headers["MCP-Protocol-Version"] = MODERN

    @property
    def session(self) -> dict[str, str]:
        """The headers of its session (2025)."""
        return dict(self._headers)

    def post(self, method: str, params: Json, identity: Any = 1) -> httpx2.Response:
        headers = dict(self._headers)
        if self.era == "modern":
            meta = {
                "io.modelcontextprotocol/protocolVersion": MODERN,
                "io.modelcontextprotocol/clientCapabilities": {},
            }
            params = {**params, "_meta": {**meta, **params.get("_meta", {})}}
            headers["Mcp-Method"] = method
            if name := params.get("name") or params.get("uri"):
                headers["Mcp-Name"] = name
        body = {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}
        return self.http.post(self._path, json=body, headers=headers)

    def call(self, tool: str, arguments: Json, identity: Any = 1, **meta: Any) -> Json:
        """The JSON-RPC response; checked to be one, and with the request's id."""
        params: Json = {"name": tool, "arguments": arguments}
        if meta:
            params["_meta"] = meta
        return self.well_formed(self.post("tools/call", params, identity), identity)

    def well_formed(self, answer: httpx2.Response, identity: Any) -> Json:
        """A response that keeps to JSON-RPC 2.0 and to the era (2026-07-28 basic/index, "Responses")."""
        assert answer.status_code != 500, answer.text
        assert "set-cookie" not in answer.headers
        assert "content-type" in answer.headers, f"HTTP {answer.status_code} without a message: {answer.text[:200]}"
        message = message_of(answer)
        assert message["jsonrpc"] == "2.0"
        assert message["id"] == identity and type(message["id"]) is type(identity)
        assert ("result" in message) != ("error" in message)
        if "error" in message:
            failure = message["error"]
            assert type(failure["code"]) is int and isinstance(failure["message"], str) and failure["message"]
        elif self.era == "modern":
            assert message["result"]["resultType"] in ("complete", "input_required")
        return message


class Probe:
    """Calls a good server all the time, in both eras, and notes what failed and what took longest."""

    def __init__(self, url: str, tools: tuple[str, ...]) -> None:
        self._url, self._tools = url, tools
        self._end = threading.Event()
        self.failures: list[str] = []
        self.answered = 0
        self.longest = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        callers = [Caller(self._url, era) for era in ("modern", "legacy")]
        while not self._end.wait(0.02):
            for caller in callers:
                for tool in self._tools:
                    start = time.monotonic()
                    try:
                        answer = caller.call(tool, {})
                        if "result" not in answer:
                            self.failures.append(f"{tool}: {answer}"[:300])
                    except (AssertionError, httpx2.HTTPError, OSError, ValueError, KeyError) as failure:
                        self.failures.append(f"{tool}: {failure!r}"[:300])
                    self.answered += 1
                    self.longest = max(self.longest, time.monotonic() - start)

    def rounds(self, count: int) -> None:
        """Wait for so many more answers."""
        until = self.answered + count
        wait_until(lambda: self.answered >= until, "the probe goes on")

    def stop(self) -> None:
        self._end.set()
        self._thread.join(40)


@dataclass
class Health:
    """The gateway's resources at a moment."""

    files: int
    resident_mb: float
    log: int


@dataclass
class Rig:
    """A gateway, the processes behind it, and what is known of its health."""

    gateway: Running
    control: Running
    probe: Probe | None = None
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def sites(self) -> Json:
        return dict(HTTP.get(f"{self.control.url}/sites").json())

    def change(self, name: str, **to: Any) -> None:
        HTTP.post(f"{self.control.url}/site", json={"name": name, **to}).raise_for_status()

    # -- health ----------------------------------------------------------------------------------

    @property
    def _proc(self) -> Path:
        return Path("/proc") / str(self.gateway.process.pid)

    def files(self) -> int:
        """Open file descriptors."""
        return len(os.listdir(self._proc / "fd"))

    def peak_mb(self) -> float:
        """Largest resident size since ``forget_peak``."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        (self._proc / "clear_refs").write_text("5")

    def _memory(self, key: str) -> float:
        text = (self._proc / "status").read_text()
        return int(re.search(rf"{key}:\s+(\d+)", text).group(1)) / 1024

    def gauge(self, name: str) -> float:
        """Sum over all labels."""
        text = HTTP.get(f"{self.gateway.url}/metrics").text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))

    def now(self) -> Health:
        return Health(self.files(), self._memory("VmRSS"), self.gateway.log.stat().st_size)

    def log_since(self, before: Health) -> str:
        with self.gateway.log.open("rb") as log:
            log.seek(before.log)
            return log.read().decode(errors="replace")

    def is_well(self, before: Health, more_files: int | None = None) -> None:
        """Fails unless the gateway is as well as ``before``: ready, idle, no exception in its log.

        Args:
            more_files: how many more files than before it may hold open; None where nobody can tell, since health
                checks of many servers open and close connections all the time.
        """
        assert self.gateway.process.poll() is None, self.gateway.log.read_text()[-3000:]
        wait_until(lambda: self.gauge("mcp_gateway_inflight") == 0, "no call is in flight any more", SETTLE_SECONDS)
        if more_files is not None:
            most = before.files + more_files
            wait_until(lambda: self.files() <= most, f"open files come back to {most}", SETTLE_SECONDS)
        assert HTTP.get(f"{self.gateway.url}/readyz").status_code == 200
        assert_no_exception(self.log_since(before))


def assert_no_exception(log: str) -> None:
    """Fails on an unhandled exception, a warning of the event loop's, or an answer of 500 in a log."""
    for sign in (
        "Traceback",
        "never retrieved",
        "was destroyed but it is pending",
        "was never awaited",
        '"status":500',
    ):
        assert sign not in log, log[max(0, log.index(sign) - 200) :][:3000] if sign in log else ""


def launch_sites(
    launch: Callable[..., Running], directory: Path, tests: Path, port: int, sites: list[Json]
) -> tuple[Running, Json]:
    """Start the misbehaving server with the given sites; returns it and their reports."""
    specification = directory / f"sites-{port}.json"
    specification.write_text(json.dumps(sites))
    env = {"PYTHONPATH": str(tests)}
    running = launch(sys.executable, "-m", "faults.server", str(port), str(specification), port=port, env=env)
    return running, dict(HTTP.get(f"{running.url}/sites").json())
