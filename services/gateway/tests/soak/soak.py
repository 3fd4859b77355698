"""Steady load for a while, and whether memory and open files stay flat: soak.py --minutes 10.

Prints a table of samples and a verdict; ends with 1 where something is not flat or a request failed that must not.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

import httpx2
from conftest import free_port
from faults.client import Raw, in_session, modern, post
from faults.load import Load, Tally
from faults.rig import assert_no_exception

from soak.flat import BOUNDS, rise

SERVERS = {
    "fresh": ("modern", "stateless"),
    "old": ("legacy", "stateless"),
    "held": ("legacy", "sticky"),
    "slow": ("modern", "stateless"),
}
PAUSE_SECONDS = 0.08
RESTART_SECONDS = 20.0


@dataclass
class Sample:
    """The gateway at a moment."""

    seconds: float
    sent: int
    values: dict[str, float]


class Process:
    """A program that is started, killed and started again."""

    def __init__(self, log: Path, *command: str) -> None:
        self._log, self._command = log, command
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environment)

    def last_words(self) -> str:
        """How it is, and the end of what it said."""
        return f"exit code {self.process.poll()}: {self._log.read_text('utf-8', 'replace')[-2000:]}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def _wait(url: str, of: Process) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if httpx2.get(url).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        if time.monotonic() > deadline:
            sys.exit(f"{url} does not answer 200 within 60 s; {of.last_words()}")
        time.sleep(0.05)


@contextmanager
def fleet(directory: Path) -> Iterator[tuple[str, Process, list[Process]]]:
    """A gateway before servers of both eras, two replicas each; yields its URL, it, and the replicas."""
    replicas: list[Process] = []
    listed, controls = [], []
    for name, (era, sessions) in SERVERS.items():
        ports = []
        for index in range(2):
            control, port = free_port(), free_port()
            specification = directory / f"{name}-{index}.json"
            faults = {"tools/call": "drip-to-the-end"} if name == "slow" else {}
            specification.write_text(json.dumps([{"name": name, "era": era, "port": port, "on": faults}]))
            command = (sys.executable, "-m", "faults.server", str(control), str(specification))
            replicas.append(Process(directory / f"{name}-{index}.log", *command))
            controls.append(control)
            ports.append(port)
        listed.append({"name": name, "urls": [f"http://127.0.0.1:{p}/mcp" for p in ports], "sessions": sessions})
    port, path = free_port(), directory / "gateway.json"
    path.write_text(json.dumps({"listen": {"port": port}, "servers": listed}))
    log = directory / "gateway.log"
    gateway = Process(log, sys.executable, "-m", "mcp_gateway", "serve", "--config", str(path))
    try:
        for each, replica in zip(controls, replicas, strict=True):
            _wait(f"http://127.0.0.1:{each}/sites", replica)
        _wait(f"http://127.0.0.1:{port}/readyz", gateway)
        yield f"http://127.0.0.1:{port}", gateway, replicas
    finally:
        for process in (gateway, *replicas):
            process.kill()


# -- load --------------------------------------------------------------------------------------------------------------


def offer(url: str) -> Load:
    """Who asks, and for what."""
    load = Load(url, PAUSE_SECONDS)
    asked: list[tuple[str, dict[str, Any]]] = [
        (method, params)
        for server in ("fresh", "old", "held")
        for method, params in (
            ("resources/read", {"uri": f"{server}+test://x"}),
            ("tools/call", {"name": f"{server}__look"}),
        )
    ]
    asked += [("tools/list", {}), ("resources/list", {}), ("tools/call", {"name": "nobody__x"})]
    for _ in range(3):
        load.requests("2026", "modern", asked[:-1])
        load.requests("2025", "legacy", [*asked[:-1], ("ping", {})])
    load.new_sessions("2025: sessions opened and ended")

    async def use(client: Any) -> None:
        await client.list_tools()
        await client.read_resource("fresh+test://x")

    load.official("2026, official client", "modern", use)
    load.official("2025, official client", "legacy", use)
    port = int(url.rsplit(":", 1)[1])
    load.start("calls left at once", lambda tally: _leave(port, tally))
    load.start("subscriptions", lambda tally: _subscribe(port, tally))
    load.start("GET streams of 2025", lambda tally: _listen(url, port, tally))
    return load


def _leave(port: int, tally: Tally) -> None:
    """Ask, wait until the call is under way, go: cancelled in 2026."""
    started = time.monotonic()
    body, headers = modern("tools/call", {"name": "slow__act", "arguments": {"nonce": "left"}})
    with Raw(port) as raw:
        raw.send(post(body, *headers))
        time.sleep(0.02)
    tally.good(started)


def _subscribe(port: int, tally: Tally) -> None:
    """``subscriptions/listen`` (2026-07-28 basic/patterns/subscriptions), held for a moment, then left."""
    started = time.monotonic()
    body, headers = modern("subscriptions/listen", {"notifications": {"toolsListChanged": True}})
    with Raw(port) as raw:
        raw.send(post(body, *headers))
        raw.until(b"notifications/subscriptions/acknowledged")
        time.sleep(0.05)
    tally.good(started)


def _listen(url: str, port: int, tally: Tally) -> None:
    """The stream of a session's own (2025-11-25 basic/transports, "Listening for Messages from the Server")."""
    from faults.rig import Caller

    started = time.monotonic()
    caller = Caller(url, "legacy")
    session = caller.session["Mcp-Session-Id"]
    with Raw(port) as raw:
        raw.send(in_session(session, b"").replace(b"POST", b"GET", 1))
        head = raw.until(b"\r\n\r\n")
        assert b" 200 " in head.split(b"\r\n")[0] + b" ", head
        caller.well_formed(caller.post("ping", {}, 1), 1)
    assert caller.http.delete("/mcp", headers=caller.session).status_code in (200, 204)
    caller.http.close()
    tally.good(started)


# -- samples -----------------------------------------------------------------------------------------------------------


def sample(url: str, gateway: Process, begun: float, load: Load) -> Sample:
    """The gateway's size now, from the kernel and from its own metrics."""
    proc = Path("/proc") / str(gateway.process.pid)
    status = (proc / "status").read_text()
    lines = [line for line in httpx2.get(f"{url}/metrics").text.splitlines() if not line.startswith("#")]

    def of(key: str) -> int:
        return int(re.search(rf"{key}:\s+(\d+)", status).group(1))

    def gauge(name: str) -> float:
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[ {{]", line))

    values = {
        "memory MB": of("VmRSS") / 1024,
        "open files": float(len(os.listdir(proc / "fd"))),
        "threads": float(of("Threads")),
        "upstream sessions": gauge("mcp_gateway_upstream_sessions"),
        "metric series": float(len(lines)),
        "in flight": gauge("mcp_gateway_inflight"),
    }
    if tasks := gauge("mcp_gateway_tasks"):
        values["tasks"] = tasks
    return Sample(time.monotonic() - begun, sum(tally.sent for tally in load.tallies.values()), values)


def _restart(replicas: list[Process], end: threading.Event) -> None:
    """One replica after the other is killed and comes back."""
    turn = 0
    while not end.wait(RESTART_SECONDS):
        replica = replicas[turn % len(replicas)]
        replica.kill()
        if not end.wait(1.0):
            replica.start()
        turn += 1


def run(minutes: float, every: float) -> int:
    """The whole soak; returns the exit status."""
    with (
        tempfile.TemporaryDirectory(prefix="mcp-gateway-soak-") as place,
        fleet(Path(place)) as (url, gateway, replicas),
    ):
        load, end = offer(url), threading.Event()
        restarts = threading.Thread(target=_restart, args=(replicas, end), daemon=True)
        restarts.start()
        begun, samples = time.monotonic(), []
        while (spent := time.monotonic() - begun) < minutes * 60:
            time.sleep(min(every, minutes * 60 - spent))
            samples.append(sample(url, gateway, begun, load))
            _print(samples[-1], head=len(samples) == 1)
        end.set()
        load.stop()
        restarts.join()
        return _verdict(samples, load, (Path(place) / "gateway.log").read_text())


def _print(taken: Sample, *, head: bool) -> None:
    if head:
        print(f"{'s':>6} {'requests':>9} " + " ".join(f"{name:>17}" for name in taken.values))
    row = " ".join(f"{value:17.1f}" for value in taken.values.values())
    print(f"{taken.seconds:6.0f} {taken.sent:9d} {row}", flush=True)


def _verdict(samples: list[Sample], load: Load, log: str) -> int:
    bad = []
    for kind, tally in load.tallies.items():
        print(f"{kind:<34} {tally.sent:7d} sent, {len(tally.failed)} failed, slowest {tally.slowest * 1000:.0f} ms")
        # A tools/call that was on its way to a replica that was killed may have run: its client is told so.
        if unexpected := [why for why in tally.failed if "may have run" not in why and "may still run" not in why]:
            bad.append(f"{kind}: {len(unexpected)} failed, such as {unexpected[0]}")
    for bound in BOUNDS:
        risen = rise([(taken.seconds, taken.values[bound.name]) for taken in samples])
        word = "flat" if risen <= bound.rise else "NOT FLAT"
        print(f"{bound.name:<34} rose by {risen:6.2f} over the last two thirds; allowed {bound.rise:g}: {word}")
        if risen > bound.rise:
            bad.append(f"{bound.name} rose by {risen:.2f} (allowed {bound.rise:g}: {bound.reason})")
    try:
        assert_no_exception(log)
    except AssertionError as failure:
        bad.append(f"an exception in the gateway's log: {failure}")
    print("\n".join(bad) if bad else "flat: nothing grows")
    return int(bool(bad))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    arguments = parser.parse_args()
    return run(arguments.minutes, arguments.every)


if __name__ == "__main__":
    sys.exit(main())
