"""The container's readiness probe: does the server list at least one tool?

While a container starts, one probe asks again and again (``patiently``), so that it counts as ready as soon as it is
and not at the next of Docker's intervals: a call may be waiting. From Docker 25 on there is an option for that.

A full probe (``probe.py``) until the first success, then once a minute; in between only a cheap one: that the
port accepts a connection or, for the stdio bridge, that its ``/alive`` says the child lives. Every probe is a
new process in every container every few seconds, so this module imports as little as it can: the cheap
probe's price is the start of the interpreter.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

FULL_PROBE_SECONDS = 60.0
CHEAP_TIMEOUT_SECONDS = 9.0
RETRY_SECONDS = 0.3
STATE_FILE = os.environ.get("MCP_HEALTH_STATE", "/tmp/.mcp-health")


class NotReady(Exception):
    """The server cannot be used yet; the message says why."""


def _remembered(state_file: str) -> tuple[float, list[str]]:
    """Age in seconds and words (transport, port, era) of the last full success; no words where there is none."""
    try:
        with open(state_file, encoding="ascii") as handle:
            words = handle.read().split()
        age = time.time() - os.stat(state_file).st_mtime
    except (OSError, ValueError):
        return FULL_PROBE_SECONDS, []
    return (age, words) if len(words) == 3 and words[1].isdigit() else (FULL_PROBE_SECONDS, [])


def _cheap(transport: str, port: int) -> None:
    """Raises NotReady unless the port accepts and, behind a bridge, the child lives."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=CHEAP_TIMEOUT_SECONDS) as connection:
            if transport != "stdio":
                return
            connection.sendall(b"GET /alive HTTP/1.0\r\nHost: localhost\r\n\r\n")
            answer = b""
            while part := connection.recv(4096):
                answer += part
    except OSError as error:
        raise NotReady(f"port {port}: {error}") from error
    head, _, body = answer.partition(b"\r\n\r\n")
    if head.split(b" ", 2)[1:2] != [b"200"]:
        raise NotReady(body.decode(errors="replace") or "the bridge gave no answer to /alive")


def check(state_file: str = STATE_FILE) -> None:
    """One probe, full or cheap as the last full success demands. A failure makes the next one full.

    Raises:
        NotReady, SpecError: with the reason.
    """
    age, words = _remembered(state_file)
    if words and 0 <= age < FULL_PROBE_SECONDS:
        try:
            _cheap(words[0], int(words[1]))
        except NotReady:
            os.unlink(state_file)
            raise
        return
    from mcp_runtime import probe

    try:
        state = probe.full(era=words[2] if words else "")
    except Exception:
        if words:
            os.unlink(state_file)
        raise
    try:
        with open(state_file, "w", encoding="ascii") as handle:
            handle.write(" ".join(state))
    except OSError:
        pass  # no writable /tmp: every probe is a full one, the server is ready all the same


def container_age() -> float:
    """Seconds since the container's first process began; endless where that cannot be told."""
    try:
        with open("/proc/1/stat", encoding="utf-8") as stat, open("/proc/uptime", encoding="ascii") as uptime:
            ticks = int(stat.read().rpartition(")")[2].split()[19])
            return float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return float("inf")


def patiently(start_seconds: float, state_file: str = STATE_FILE, age: Callable[[], float] = container_age) -> None:
    """Probe until it is ready, or the container has had its time to start; after that, once.

    Raises:
        NotReady, SpecError: with the last reason.
    """
    while True:
        try:
            return check(state_file)
        except Exception:
            if age() >= start_seconds:
                raise
        time.sleep(RETRY_SECONDS)


def main(start_seconds: float = 0.0) -> int:
    """Exit code 0 (ready) or 1, with one line that says why."""
    try:
        patiently(start_seconds)
    except Exception as error:
        # A probe must answer in one line whatever happens; the type tells an unforeseen failure apart.
        known = type(error).__name__ in ("NotReady", "SpecError")
        print(f"not ready: {error}" if known else f"not ready: {type(error).__name__}: {error}")
        return 1
    return 0
