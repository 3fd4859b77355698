# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A docker command that can build with BuildKit, and what it says when it fails."""

from __future__ import annotations

import os
import re

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.errors import BuildError
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._process import run

TAIL_LINES = 15

# What package managers print, and what to do about it. The first match wins.
CAUSES = (
    (r"No space left on device", "the disk is full", "free space on the build host (docker system df) and run again"),
    (
        r"was not found in the package registry|404 Not Found - GET|npm (?:ERR!|error) 404",
        "the package does not exist",
        "correct source.package in mcp_servers",
    ),
    (
        r"there is no version of|No matching version found|notarget",
        "this version does not exist",
        "correct source.version in mcp_servers",
    ),
    (
        r"UnknownIssuer|SELF_SIGNED_CERT|CERTIFICATE_VERIFY_FAILED|unable to get local issuer",
        "the package index's certificate is not trusted",
        "set mcp_fleet.site.ca_bundle to the site's CA bundle",
    ),
    (
        r"Temporary failure (?:in name resolution|resolving)|dns error|EAI_AGAIN|ENOTFOUND|Network is unreachable"
        r"|Could not resolve|Connection timed out|ECONNREFUSED|failed to connect|Failed to fetch",
        "the package index cannot be reached",
        "check the build host's network and mcp_fleet.site, then run again",
    ),
    (r"Unable to locate package", "a Debian package does not exist", "correct packages in mcp_servers"),
)


def explain(output: str) -> tuple[str, str]:
    """The likely cause of a failed build and the next step, from what it printed."""
    for pattern, cause, step in CAUSES:
        if re.search(pattern, output, re.IGNORECASE):
            return cause, step
    return "a build step failed", "read its last lines below; the build directory is left for building by hand"


def tail(output: str) -> str:
    """The last lines that say something."""
    noise = re.compile(r"^(?:#\d+ (?:sha256|DONE|CACHED)|-+$|\s*$)")
    lines = [re.sub(r"^#\d+ (?:\d+\.\d+ )?", "", line) for line in output.splitlines() if not noise.match(line)]
    return "\n".join(line[:300] for line in lines[-TAIL_LINES:])


class Docker:
    """The docker command line, found so that it can build with BuildKit.

    A machine may carry several clients. One with buildx will do; so will one older than 23, whose BuildKit
    is built in. The others say "buildx component is missing" only when it is too late.
    """

    def __init__(self) -> None:
        self.env = dict(os.environ, DOCKER_BUILDKIT="1", BUILDKIT_PROGRESS="plain")
        directories = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin", "/usr/local/bin"]
        candidates = list(dict.fromkeys(os.path.join(d, "docker") for d in directories if d))
        found = [path for path in candidates if os.access(path, os.X_OK)]
        if not found:
            raise BuildError("there is no docker command on this host; run the provision playbook first")
        for path in found:
            if self._builds(path):
                self.command = path
                return
        raise BuildError(f"no docker command here can build with BuildKit ({', '.join(found)}); install docker-buildx")

    def _builds(self, path: str) -> bool:
        if run([path, "buildx", "version"])[0] == 0:
            return True
        version = run([path, "--version"])[1]
        match = re.search(r"version (\d+)\.", version)
        return match is not None and int(match.group(1)) < 23

    def run(self, *arguments: str, stdin: bytes | None = None, timeout: float | None = None) -> tuple[int, str]:
        """Exit code and combined output of a docker command; 124 when it ran past ``timeout`` seconds."""
        return run([self.command, *arguments], stdin=stdin, env=self.env, timeout=timeout)

    def existing(self, refs: list[str]) -> set[str]:
        """Which of these images the engine has.

        Raises:
            BuildError: the engine does not answer.
        """
        code, output = self.run("image", "ls", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}}")
        if code != 0:
            raise BuildError(f"the Docker engine does not answer: {output.strip()}; run the provision playbook first")
        return set(refs) & set(output.split())
