"""Programs that are measured: started, waited for, ended, and what they use according to /proc (proc(5))."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
START_SECONDS = 120.0


class Unavailable(Exception):
    """Something cannot be measured here; the text says why, and what would help."""


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Process:
    """A program and its descendants, in a session of their own.

    Args:
        log: takes what it writes.

    Raises:
        Unavailable: it ended, or did not listen on ``port`` in time.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.port = port
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._listens():
            if self._popen.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise Unavailable(f"{command[0]} does not listen on port {port}: {self.last_words()}")
            time.sleep(0.05)

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def last_words(self) -> str:
        """The end of what it wrote."""
        return self.log.read_text("utf-8", "replace").strip()[-400:] or "it wrote nothing"

    def halt(self) -> None:
        """Let it do nothing until ``go_on``: some work even while nobody asks them anything."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """The end of ``halt``."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)

    def stop(self) -> None:
        """End it, in the end by force."""
        self.go_on()
        for sig, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
            self._signal(sig)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(seconds)
                return

    # -- what it uses ----------------------------------------------------------------------------

    def tree(self) -> list[int]:
        """The ids of it and its descendants."""
        children: dict[int, list[int]] = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (fields := _stat(int(entry.name))):
                children.setdefault(int(fields[1]), []).append(int(entry.name))
        found, left = [], [self._popen.pid]
        while left:
            found.append(left.pop())
            left += children.get(found[-1], [])
        return found

    def cpu_ms(self) -> float:
        """Processor time in user and system mode so far, of descendants that ended too; milliseconds."""
        return sum(sum(map(int, fields[11:15])) for pid in self.tree() if (fields := _stat(pid))) * TICK_MS

    def memory_mb(self) -> tuple[float, float]:
        """Resident set size, and the same with shared pages divided among their users; MiB (2**20 bytes)."""
        rss = pss = 0
        for pid in self.tree():
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    name, _, value = line.partition(":")
                    rss += int(value.split()[0]) if name == "Rss" else 0
                    pss += int(value.split()[0]) if name == "Pss" else 0
        return rss / 1024, pss / 1024


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the name, which may hold anything; none where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
