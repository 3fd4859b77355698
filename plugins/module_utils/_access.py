# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's access to a registry: where it is, whom the engine trusts, with which credentials. No engine restarts.

Formats: /etc/docker/certs.d/<host>/ca.crt (docs.docker.com, "Verify repository client with certificates"), hosts(5),
and the client's config.json with ``auths``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import Registry, RegistryError, explain

CERTIFICATES = "/etc/docker/certs.d"
HOSTS = "/etc/hosts"
MARK = "# MCP Swarm: registry"
# What a registry that is starting, or a node that has just been told of it, says.
NOT_YET = r"connection refused|no route to host|EOF|connection reset|\b50[234]\b"
LOOK_SECONDS = 0.5
# For how long the engine may go on with the /etc/hosts that it read before (5 s: Go's net package, hosts.go).
HOSTS_SECONDS = 6


@dataclass
class Access:
    """What a node is given.

    Attributes:
        host: the registry's host, with its port where it is not 443.
        authority: certificate to trust, as PEM; empty where the node's own trust does.
        name, address: what /etc/hosts is to say; empty where a name server knows.
        username, password: credentials; empty where anybody may.
        docker_config: directory for a config.json with them; empty where this node shall not keep any.
    """

    host: str
    authority: str = ""
    name: str = ""
    address: str = ""
    username: str = ""
    password: str = ""
    docker_config: str = ""

    def give(self, check: bool = False) -> list[str]:
        """Write what is not so yet; returns the files that changed, or in check mode would."""
        wanted = []
        if self.authority:
            wanted.append((self._certificate, self.authority, 0o644))
        if self.name and self.address:
            wanted.append((HOSTS, _with_host(_text(HOSTS), self.name, self.address), 0o644))
        if self.docker_config:
            wanted.append((self._credentials, self._config(), 0o600))
        changed = [path for path, text, mode in wanted if _text(path) != text or _mode(path) != mode]
        for path, text, mode in wanted:
            if path in changed and not check:
                _write(path, text, mode)
        return changed

    def take(self, check: bool = False) -> list[str]:
        """Remove what ``give`` wrote; returns what was there."""
        directories = (os.path.dirname(self._certificate), self.docker_config)
        gone = [path for path in directories if path and os.path.isdir(path)]
        if not check:
            for path in gone:
                shutil.rmtree(path)
        without = _without_host(_text(HOSTS), self.name) if self.name else _text(HOSTS)
        if without != _text(HOSTS):
            gone.append(HOSTS)
            if not check:
                _write(HOSTS, without, 0o644)
        return gone

    def prove(self, seconds: float) -> str:
        """Have the engine log in; empty where it can, else what is wrong. One that is starting is waited for."""
        if not self.username:
            return ""
        begun = time.monotonic()
        deadline = begun + seconds
        known = min(deadline, begun + HOSTS_SECONDS) if self.address else begun
        try:
            registry = Registry("")
        except RegistryError as error:
            return str(error)
        while True:
            said = registry.log_in(self.host, self.username, self.password)
            if not said:
                return ""
            until = deadline if re.search(NOT_YET, said) else known if "no such host" in said else begun
            if time.monotonic() > until:
                return f"registry {self.host}: {explain(said)}"
            time.sleep(LOOK_SECONDS)

    @property
    def _certificate(self) -> str:
        return os.path.join(CERTIFICATES, self.host, "ca.crt")

    @property
    def _credentials(self) -> str:
        return os.path.join(self.docker_config, "config.json")

    def _config(self) -> str:
        """The user's own credentials, for other registries, with those of this one."""
        config = {}
        with contextlib.suppress(ValueError):
            config = json.loads(_text(os.path.expanduser("~/.docker/config.json")) or "{}")
        kept = {key: config[key] for key in ("auths", "credHelpers", "credsStore") if key in config}
        if self.username:
            token = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
            kept["auths"] = {**kept.get("auths", {}), self.host: {"auth": token}}
            # A helper that is asked for all registries would be asked for this one too.
            if "credsStore" in kept:
                kept["credHelpers"] = {**kept.get("credHelpers", {}), self.host: ""}
        return json.dumps({key: value for key, value in kept.items() if value}, indent=2) + "\n"


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except OSError:
        return ""


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode & 0o777
    except OSError:
        return -1


def _without_host(text: str, name: str) -> str:
    mark = f"{MARK} {name}"
    return "".join(line for line in text.splitlines(keepends=True) if not line.rstrip().endswith(mark))


def _with_host(text: str, name: str, address: str) -> str:
    line = f"{address} {name} {MARK} {name}\n"
    if line in text.splitlines(keepends=True):
        return text
    rest = _without_host(text, name)
    return rest + ("" if not rest or rest.endswith("\n") else "\n") + line


def _write(path: str, text: str, mode: int) -> None:
    """Replace a file; in one step where that is possible."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700 if mode == 0o600 else 0o755, exist_ok=True)
    handle_fd, temporary = tempfile.mkstemp(dir=directory)
    with os.fdopen(handle_fd, "w", encoding="utf-8") as handle:
        handle.write(text)
    os.chmod(temporary, mode)
    try:
        os.replace(temporary, path)
    except OSError:  # in a container /etc/hosts is a mount
        os.unlink(temporary)
        with open(path, "w", encoding="utf-8") as handle:
            handle.write(text)
