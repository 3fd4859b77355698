"""Programs from package registries, each in an environment of its own under ``.cache/bench``."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from bench.lab import CACHE
from bench.process import Unavailable

INSTALL_SECONDS = 600.0


def python_tool(package: str, version: str) -> Path:
    """The ``bin`` folder of an environment that holds the package of PyPI.

    Raises:
        Unavailable: it cannot be installed.
    """
    return python_tools(f"{package}-{version}", f"{package}=={version}")


def python_tools(name: str, *requirements: str) -> Path:
    """The ``bin`` folder of an environment that holds several packages.

    Raises:
        Unavailable: they cannot be installed.
    """
    home = CACHE / "python" / name
    stamp, wanted = home / "installed", "\n".join(requirements)
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(home, ignore_errors=True)
        _run([sys.executable, "-m", "venv", str(home)], name)
        _run([str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements], name)
        stamp.write_text(wanted)
    return home / "bin"


def node_tool(package: str, version: str) -> Path:
    """The folder of an npm package.

    Raises:
        Unavailable: it cannot be installed.
    """
    home = CACHE / "node" / f"{package}@{version}"
    folder = home / "node_modules" / package
    if not (home / "installed").exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        (home / "package.json").write_text(json.dumps({"private": True}))
        _run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), f"{package}@{version}"], package)
        (home / "installed").touch()
    return folder


def _run(command: list[str], package: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=True)
    except FileNotFoundError:
        raise Unavailable(f"{command[0]} is missing, which installs {package}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{package} was not installed within {INSTALL_SECONDS:g} s") from None
    except subprocess.CalledProcessError as failure:
        raise Unavailable(f"{package} cannot be installed: {(failure.stderr or '').strip()[-300:]}") from failure
    return done.stdout
