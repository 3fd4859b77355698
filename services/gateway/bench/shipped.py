"""The gateway under the Python that its image ships: Debian's, in a folder of its own below ``.cache/bench``.

An interpreter that was built without profile-guided optimisation, as version managers do, takes a third more processor
time for the same work; what is measured should be what is run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.lab import CACHE, GATEWAY
from bench.process import Unavailable

SUITE = "trixie"  # as the fleet's images
PYTHON = "3.13"
SECONDS = 900.0


@dataclass(frozen=True)
class Python:
    """An interpreter.

    Attributes:
        command: what runs it.
        folder: where files are handed over.
        seen: the same folder, as it sees it.
        path: for PYTHONPATH, as it sees it.
        name: for people.
    """

    command: tuple[str, ...]
    folder: Path
    seen: Path
    path: str
    name: str

    def file(self, name: str, text: str) -> str:
        """Write a file; its name as the interpreter sees it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_text(text, "utf-8")
        return str(self.seen / name)


@cache
def shipped() -> Python:
    """Debian's Python with what the gateway needs, and its code as it is now.

    Raises:
        Unavailable: it cannot be installed here.
    """
    missing = [tool for tool in ("mmdebstrap", "uv") if not shutil.which(tool)]
    if missing or os.geteuid():
        raise Unavailable(f"needs {' and '.join(missing) or 'root'}, for a folder with Debian {SUITE} to change into")
    root = CACHE / f"root-{SUITE}"
    if not (root / "installed").exists():
        shutil.rmtree(root, ignore_errors=True)
        _run(["mmdebstrap", "--quiet", "--variant=minbase", "--include=python3", SUITE, str(root)])
        (root / "installed").touch()
    lock = _run(["uv", "export", "--quiet", "--frozen", "--no-dev", "--no-emit-project", "--project", str(GATEWAY)])
    requirements = root / "srv" / "requirements.txt"
    site = root / "opt" / "site"
    if not requirements.exists() or requirements.read_text() != lock:
        shutil.rmtree(site, ignore_errors=True)
        requirements.write_text(lock)
        only = ["--python-version", PYTHON, "--only-binary", ":all:", "--target", str(site)]
        try:
            _run(["uv", "pip", "install", "--quiet", *only, "-r", str(requirements)])
        except Unavailable:
            requirements.unlink()
            raise
    code = root / "opt" / "gateway"
    shutil.rmtree(code, ignore_errors=True)
    shutil.copytree(GATEWAY / "src", code)
    command = ("chroot", str(root), "python3")
    version = _run([*command, "-c", "import platform; print(platform.python_version())"]).strip()
    return Python(command, root / "srv", Path("/srv"), "/opt/gateway:/opt/site", f"Debian {SUITE}'s Python {version}")


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise Unavailable(f"{command[0]} failed: {(done.stdout + done.stderr).strip()[-400:]}")
    return done.stdout
