# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a package repository as NVIDIA's is (``stable/deb/<architecture>/``, flat, signed), with the doubles in its packages.

The four packages, what they depend on and what is configured when they are installed are those of packaging/debian in
NVIDIA/nvidia-container-toolkit 1.19.1. Needs dpkg-deb and gpg.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import tempfile
from email.utils import formatdate
from pathlib import Path

DOUBLE = Path(__file__).with_name("nvidia_double.py")
VERSIONS = ("1.18.2-1", "1.19.1-1")
DEPENDS = {
    "libnvidia-container1": "",
    "libnvidia-container-tools": "libnvidia-container1 (>= {v})",
    "nvidia-container-toolkit-base": "",
    "nvidia-container-toolkit": "nvidia-container-toolkit-base (= {v}), libnvidia-container-tools (= {v})",
}
PROGRAMS = ("nvidia-ctk", "nvidia-container-runtime")
CONFIGURE = """#!/bin/sh
set -e
[ "$1" != configure ] || nvidia-ctk --quiet config --config-file=/etc/nvidia-container-runtime/config.toml --in-place
"""


def package(name: str, version: str, architecture: str, into: Path) -> Path:
    """Build one; returns its path."""
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        control = root / "DEBIAN"
        control.mkdir(mode=0o755)
        depends = DEPENDS[name].format(v=version)
        lines = [
            f"Package: {name}", f"Version: {version}", f"Architecture: {architecture}", "Maintainer: tests <tests@example>",
            *([f"Depends: {depends}"] if depends else []), f"Description: a double of {name}",
        ]  # fmt: skip
        (control / "control").write_text("\n".join(lines) + "\n", "utf-8")
        if name.endswith("-base"):
            (root / "usr" / "bin").mkdir(parents=True)
            (root / "etc" / "nvidia-container-runtime").mkdir(parents=True)
            for program in PROGRAMS:
                path = root / "usr" / "bin" / program
                path.write_text("#!/usr/bin/python3\n" + DOUBLE.read_text("utf-8"), "utf-8")
                path.chmod(0o755)
            (control / "postinst").write_text(CONFIGURE, "utf-8")
            (control / "postinst").chmod(0o755)
        path = into / f"{name}_{version}_{architecture}.deb"
        subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "--build", str(root), str(path)], check=True, capture_output=True)
        return path


def digests(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def index(packages: list[Path]) -> bytes:
    """The Packages file."""
    entries = []
    for path in packages:
        control = subprocess.run(["dpkg-deb", "--field", str(path)], check=True, capture_output=True, text=True).stdout
        data = path.read_bytes()
        entries.append(f"{control}Filename: ./{path.name}\nSize: {len(data)}\nSHA256: {digests(data)}\n")
    return "\n".join(entries).encode()


def sign(directory: Path, key: Path) -> None:
    """Write InRelease, and the key that it is signed with."""
    data = (directory / "Packages").read_bytes()
    release = f"Origin: a double\nDate: {formatdate(usegmt=True)}\nSHA256:\n {digests(data)} {len(data)} Packages\n"
    with tempfile.TemporaryDirectory() as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
        environment = {**os.environ, "GNUPGHOME": home}
        subprocess.run([*gpg, "--quick-generate-key", "double <double@example>", "rsa3072", "sign", "never"], check=True, env=environment)
        signed = subprocess.run([*gpg, "--clearsign"], input=release.encode(), check=True, capture_output=True, env=environment)
        (directory / "InRelease").write_bytes(signed.stdout)
        key.write_bytes(subprocess.run([*gpg, "--armor", "--export"], check=True, capture_output=True, env=environment).stdout)
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False)


def main() -> None:
    """Make it in the directory that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    place = parser.parse_args().directory
    architecture = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()
    directory = place / "stable" / "deb" / architecture
    shutil.rmtree(place / "stable", ignore_errors=True)
    directory.mkdir(parents=True)
    packages = [package(name, version, architecture, directory) for version in VERSIONS for name in DEPENDS]
    (directory / "Packages").write_bytes(index(packages))
    sign(directory, place / "gpgkey")


if __name__ == "__main__":
    main()
