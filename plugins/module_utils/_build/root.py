# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The root file system below every image: pulled, or bootstrapped from the distribution's mirror."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.docker_cli import Docker, explain, tail
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.errors import BuildError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._process import run

SUITE = "trixie"
PACKAGES = ("ca-certificates", "python3", "tini")
DEFAULT_MIRROR = "http://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PULL_TIMEOUT_SECONDS = 300


def official_image(dockerfile: str) -> str:
    """The default of ``ARG ROOT`` in the os Dockerfile."""
    match = re.search(r"^ARG ROOT=(\S+)$", dockerfile, re.MULTILINE)
    if not match:
        raise BuildError("the os Dockerfile names no ROOT image")
    return match.group(1)


def root_image(docker: Docker, mode: str, dockerfile: str, mirror: str, ref: str, say: Callable[[str], None]) -> str:
    """A reference to build ``os`` from.

    Args:
        docker: the engine.
        mode: ``pull``, ``bootstrap``, or ``auto``: the first that works.
        dockerfile: the os Dockerfile; its ``ARG ROOT`` names the official image.
        mirror: Debian mirror, empty for the default.
        ref: reference of the os image; the bootstrapped root is tagged after it.
        say: takes progress lines.

    Raises:
        BuildError: none of the ways worked.
    """
    image = official_image(dockerfile)
    if mode in ("auto", "pull"):
        say(f"pulling {image.split('@')[0]}")
        code, output = docker.run("pull", "--quiet", image, timeout=PULL_TIMEOUT_SECONDS)
        if code == 0:
            return image
        reason = (output.strip().splitlines() or ["no answer"])[-1][:200]
        if mode == "pull":
            raise BuildError(
                f"cannot pull {image}: {reason}; check the registry, or set mcp_fleet.images.base to bootstrap"
            )
        say(f"no registry ({reason}): bootstrapping Debian {SUITE} from the distribution's mirror instead")
    tag = f"mcp-swarm/root:{ref.rsplit(':', 1)[1]}"
    return bootstrap(docker, SUITE, PACKAGES, mirror or DEFAULT_MIRROR, tag, say)


def bootstrap(
    docker: Docker, suite: str, packages: Sequence[str], mirror: str, tag: str, say: Callable[[str], None]
) -> str:
    """A minimal Debian with ``packages``, imported as ``tag``; returns the tag, made only where it is missing.

    Raises:
        BuildError: mmdebstrap is missing, the mirror does not answer, or the engine refuses the archive.
    """
    if docker.existing([tag]):
        return tag
    if shutil.which("mmdebstrap") is None:
        raise BuildError("mmdebstrap is not installed on the build host; apt-get install mmdebstrap, and run again")
    say(f"bootstrapping Debian {suite} from {mirror}")
    with tempfile.TemporaryDirectory(prefix="mcp-root-") as directory:
        archive = os.path.join(directory, "root.tar")
        command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(packages)}"]
        if os.path.exists(KEYRING):
            command.append(f"--keyring={KEYRING}")
        # Documentation and translations have no reader in a container.
        command += [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info")]
        code, output = run([*command, suite, archive, mirror])
        if code != 0:
            cause, step = explain(output)
            raise BuildError(f"bootstrapping Debian {suite} failed: {cause}; {step}\n{tail(output)}")
        code, output = docker.run("import", archive, tag)
    if code != 0:
        raise BuildError(f"importing the bootstrapped root failed: {output.strip()}")
    return tag
