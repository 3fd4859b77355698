"""What all measurements share: folders, the upstream, the load generator, and the programs to end at the end."""

from __future__ import annotations

import contextlib
import resource
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.load import Generator, Load
from bench.messages import EXPECT
from bench.process import Process, Unavailable, free_port

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / ".cache" / "bench"
GATEWAY = ROOT / "services" / "gateway"


@dataclass(frozen=True)
class Candidate:
    """Something that forwards calls, ready to be loaded.

    Attributes:
        process: what its processor time and memory are read from; None for the upstream itself.
        templates: requests, see ``load.c``.
        remark: what the table says about it besides its name.
    """

    name: str
    process: Process | None
    port: int
    templates: Sequence[bytes]
    expect: str = EXPECT
    remark: str = ""


class Lab:
    """A folder for configurations and logs, and everything that runs; a context manager."""

    def __init__(self) -> None:
        self.work = CACHE / "run"
        self.work.mkdir(parents=True, exist_ok=True)
        self._stack = contextlib.ExitStack()
        self.generator = Generator(CACHE)
        # A thousand open connections, here and in what is started from here.
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.upstream = self._upstream("upstream", 10)

    def __enter__(self) -> Lab:
        return self

    @contextlib.contextmanager
    def stage(self) -> Iterator[None]:
        """What starts within ends with it."""
        outer, self._stack = self._stack, contextlib.ExitStack()
        try:
            yield
        finally:
            self._stack.close()
            self._stack = outer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start a program that listens on ``port``; it ends with the lab.

        Raises:
            Unavailable: it does not listen.
        """
        process = Process(command, port, self.work / f"{name}.log", env, cwd)
        self._stack.callback(process.stop)
        return process

    def _upstream(self, name: str, tools: int) -> Process:
        port = free_port()
        command = [sys.executable, "-m", "bench.upstream", "--port", str(port), "--tools", str(tools)]
        return self.start(name, command, port, {"PYTHONPATH": str(GATEWAY)})

    def upstream_with(self, tools: int) -> Process:
        """Another upstream, whose servers offer so many tools each."""
        return self._upstream(f"upstream-{tools}", tools)

    def write(self, name: str, text: str) -> Path:
        """A file in the lab's folder."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    def fresh(self, name: str) -> Path:
        """An empty folder in the lab's folder."""
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path

    def load(self, candidate: Candidate, *, connections: int = 16, seconds: float = 2.0, rate: float = 0.0) -> Load:
        """Load the candidate."""
        return self.generator.run(
            candidate.port,
            candidate.templates,
            candidate.expect,
            connections=connections,
            seconds=seconds,
            rate=rate,
            measured=candidate.process,
        )


def attempt(name: str, start: Callable[[], Candidate]) -> Candidate | str:
    """The started candidate, or why there is none: what others' programs do is no failure of the benchmark."""
    try:
        return start()
    except (Unavailable, OSError, RuntimeError) as reason:
        return f"{name}: skipped: {reason}"
