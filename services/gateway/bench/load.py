"""Runs the load generator (``load.c``, compiled once per version) against a port."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.process import Process, Unavailable

SOURCE = Path(__file__).with_name("load.c")


@dataclass(frozen=True)
class Load:
    """What one run measured; times in milliseconds.

    Attributes:
        per_second: answers that were right and in time, per second.
        cpu_ms: processor time of the measured program per answer; None where it was not asked for.
        first_p50: time to the first byte of the body.
        client_cpu_ms: the generator's own processor time per answer.
    """

    answers: int
    per_second: float
    errors: int
    wrong: int
    p50: float
    p90: float
    p99: float
    p999: float
    first_p50: float
    first_p99: float
    client_cpu_ms: float
    cpu_ms: float | None
    complaint: str


class Generator:
    """The compiled generator.

    Raises:
        Unavailable: there is no compiler.
    """

    def __init__(self, cache: Path) -> None:
        self._program = cache / f"load-{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}"
        if self._program.exists():
            return
        cache.mkdir(parents=True, exist_ok=True)
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-o", str(self._program), str(SOURCE)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError:
            raise Unavailable("gcc is missing; as root: apt-get install gcc libc6-dev") from None
        except subprocess.CalledProcessError as failure:
            raise Unavailable(f"load.c does not compile: {failure.stderr.strip()[-400:]}") from failure

    def run(
        self,
        port: int,
        templates: Sequence[bytes],
        expect: str,
        *,
        connections: int = 16,
        seconds: float = 2.0,
        rate: float = 0.0,
        measured: Process | None = None,
    ) -> Load:
        """Load ``port`` for so many seconds, at ``rate`` requests per second or as fast as answers come.

        Raises:
            RuntimeError: the generator itself failed, such as for a port that nobody listens on.
        """
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"".join(b"%d\n%b" % (len(template), template) for template in templates))
            file.flush()
            arguments = ["127.0.0.1", str(port), str(connections), str(seconds), str(rate), expect, file.name]
            before = measured.cpu_ms() if measured else 0.0
            done = subprocess.run([self._program, *arguments], capture_output=True, text=True, errors="replace")
            cpu = measured.cpu_ms() - before if measured else 0.0
        if done.returncode:
            raise RuntimeError(f"load on port {port}: {done.stderr.strip()[-400:]}")
        found = json.loads(done.stdout)
        answers = found["completed"] + found["late"]
        return Load(
            answers=answers,
            per_second=found["completed"] / found["seconds"],
            errors=found["errors"],
            wrong=found["wrong"],
            client_cpu_ms=found["client_cpu_ms"] / max(1, answers),
            cpu_ms=cpu / max(1, answers) if measured else None,
            complaint=done.stderr.strip()[-800:],
            **{key: found[key] for key in ("p50", "p90", "p99", "p999", "first_p50", "first_p99")},
        )
