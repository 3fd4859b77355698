# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve a package to a full lock, in a container of the builder image."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.docker_cli import Docker, explain, tail
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.errors import BuildError

SCRIPTS = {
    "pypi": "cat >/tmp/in.txt; with-site uv pip compile --quiet --generate-hashes --no-header --no-annotate"
    " --universal --python-version 3.13 /tmp/in.txt",
    "npm": "mkdir /tmp/p && cd /tmp/p && cat >package.json"
    " && with-site npm install --package-lock-only --no-audit --no-fund --no-update-notifier --loglevel=error 1>&2 && cat package-lock.json",
}


def resolve(docker: Docker, builder: str, kind: str, manifest: str, site: Mapping[str, str], who: str) -> str:
    """The lock file's text.

    Args:
        docker: the engine.
        builder: reference of the builder image.
        kind: ``pypi`` or ``npm``.
        manifest: requirements, or a package.json.
        site: as for Builder.
        who: whom a failure is about.

    Raises:
        BuildError: the package or its version does not exist, or the index cannot be reached.
    """
    arguments = ["run", "--rm", "--interactive", "--entrypoint", "/bin/sh"]
    for argument in ("pypi_index", "npm_registry"):
        if site.get(argument):
            arguments += ["--env", f"{argument.upper()}={site[argument]}"]
    if site.get("ca_file"):
        arguments += ["--volume", f"{site['ca_file']}:/run/secrets/site_ca:ro"]
    # The answer and the complaints must not mix: only a failure's output is shown.
    script = f"{{ {SCRIPTS[kind]}; }} 2>/tmp/err || {{ cat /tmp/err; exit 1; }}"
    code, output = docker.run(*arguments, builder, "-euc", script, stdin=manifest.encode())
    if code != 0:
        cause, step = explain(output)
        raise BuildError(f"{who}: {cause}; {step}\n{tail(output)}")
    return without_hosts(output) if kind == "npm" else output


def without_hosts(lock: str) -> str:
    """A package-lock without download addresses: npm asks the site's own registry, integrity hashes decide."""
    document = json.loads(lock)
    for package in document.get("packages", {}).values():
        package.pop("resolved", None)
    return json.dumps(document, indent=2) + "\n"
