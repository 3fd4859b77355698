# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet's own registry as a container, run as its service runs it, and this machine's engine as its client."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._access import Access
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.builder import Builder
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._build.docker_cli import Docker
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._fleet import registry as fleets
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import Registry
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils import _pem
from ansible_collections.sophia_ai.mcp_swarm.plugins.plugin_utils._controller import ROOT, Controller

# A name that no fleet's registry has: this machine's /etc/hosts and /etc/docker/certs.d are given it for the tests.
FLEET = "registry-test"
NAME = fleets.stack_name(FLEET)
HOST = f"{NAME}:{fleets.PORT}"
PASSWORD = "correct horse battery staple"
SERVER = {
    "name": "time",
    "source": {"kind": "pypi", "package": "mcp-server-time", "version": "2026.10.19"},
    "command": ["mcp-server-time"],
}


def docker(*arguments: str, stdin: str = "", check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], input=stdin, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def until(done: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The registry's image, as the plan has it; built where this engine does not have it."""
    controller = Controller(tmp_path_factory.mktemp("inventory"))
    shutil.copytree(ROOT / "inventories" / "local" / "locks", controller.locks_dir)
    settings = {"name": FLEET, "registry": {"kind": "swarm"}, "site": _site()}
    plan = controller.compile([SERVER], settings)
    wanted = [image for image in plan["images"] if image["name"] in ("os", "registry")]
    engine = Docker()
    there = engine.existing([image["ref"] for image in wanted])
    directory = tmp_path_factory.mktemp("build")
    for one in wanted:
        (directory / one["name"]).mkdir()
        for name, text in one["files"].items():
            (directory / one["name"] / name).write_text(text, "utf-8")
    site = {**plan["site"], "ca_file": plan["site"]["ca_bundle"]}
    outcome = Builder(engine, str(directory), site, "auto", print).build([i for i in wanted if i["ref"] not in there], 2)
    assert not outcome.failed, outcome.failed
    return str(wanted[-1]["ref"])


def _site() -> dict[str, str]:
    import os

    return {
        "ca_bundle": os.environ.get("SSL_CERT_FILE", ""),
        "pypi_index": os.environ.get("UV_DEFAULT_INDEX", ""),
        "npm_registry": os.environ.get("NPM_CONFIG_REGISTRY", ""),
    }


@dataclass
class Running:
    """A registry that runs.

    Attributes:
        container: its name.
        authority: of its certificate, as PEM, with the key.
        secrets: the directory that it sees as /run/secrets.
        docker_config: where the client's credentials are.
    """

    container: str
    authority: str
    secrets: Path
    docker_config: Path

    @property
    def access(self) -> Access:
        """What gives this machine's engine access to it."""
        return Access(
            host=HOST,
            authority=_pem.certificates(self.authority),
            name=NAME,
            address=self.address,
            username=fleets.USERNAME,
            password=PASSWORD,
            docker_config=str(self.docker_config),
        )

    @property
    def address(self) -> str:
        return str(json.loads(docker("inspect", self.container))[0]["NetworkSettings"]["IPAddress"])

    @property
    def client(self) -> Registry:
        return Registry(str(self.docker_config))

    def serves(self) -> bool:
        return docker("exec", self.container, "registry-health", check=False) == "" and self._healthy()

    def _healthy(self) -> bool:
        done = subprocess.run(["docker", "exec", self.container, "registry-health"], capture_output=True, check=False)
        return done.returncode == 0

    def collect(self, keep: list[str], fresh_seconds: float = 0) -> dict[str, Any]:
        wish = json.dumps({"keep": keep, "fresh_seconds": fresh_seconds})
        return dict(json.loads(docker("exec", "-i", self.container, "registry-collect", stdin=wish)))


def start(image: str, directory: Path, authority: str, data: str) -> Running:
    """Run a registry as its service runs it; ``data`` are docker's options for its volume."""
    secrets = directory / "secrets"
    secrets.mkdir(exist_ok=True)
    names = [NAME]
    for name, text in (
        (fleets.CERTIFICATE, _pem.new_certificate(authority, names, 30)),
        (fleets.PASSWORD, PASSWORD),
    ):
        (secrets / name).write_text(text, "utf-8")
        shutil.chown(secrets / name, 10001, 10001)
        (secrets / name).chmod(0o400)
    shutil.chown(secrets, 10001, 10001)
    options = ["--read-only", "--cap-drop=ALL", f"--volume={secrets}:/run/secrets:ro", "--tmpfs=/tmp:size=16m", data]
    docker("run", "--detach", f"--name={NAME}", *options, image)
    return Running(NAME, authority, secrets, directory / "docker")


@pytest.fixture
def running(image: str, tmp_path: Path) -> Iterator[Running]:
    """A registry of its own for each test, to which this engine has access; nothing is left of it."""
    made = start(image, tmp_path, _pem.new_authority("test", 60), f"--mount=type=volume,target={fleets.DATA}")
    try:
        until(made.serves)
        assert made.access.give()
        assert made.access.prove(30) == ""
        yield made
    finally:
        made.access.take()
        docker("rm", "--force", "--volumes", NAME)
        for ref in docker("images", "--format", "{{.Repository}}:{{.Tag}}", f"{HOST}/*/*").split():
            docker("rmi", ref)
