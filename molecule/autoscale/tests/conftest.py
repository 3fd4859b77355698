# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The node with the fleet, load on it, and a timeline of what happened."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from commands import Ansible, address, sh, until
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

SCENARIO = Path(__file__).resolve().parents[1]
INVENTORY = SCENARIO / "inventory"
NODE = os.environ.get("MOLECULE_NODE", "mcp-autoscale")
CALL_SECONDS = 90.0
WORK_SECONDS = 2
LOOK_SECONDS = 0.5

BEGUN = time.monotonic()
timeline: list[str] = []
Load = Callable[[int], contextlib.AbstractContextManager[None]]


class Fleet:
    """The fleet on the node."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._ansible = Ansible(INVENTORY)
        self._address = address(NODE)

    # -- the node --------------------------------------------------------------------------------

    def sh(self, command: str) -> str:
        return sh(NODE, command)

    def replicas(self, service: str) -> int:
        """How many are asked for; a change is noted."""
        found = int(self.sh(f"docker service inspect mcp_{service} --format '{{{{.Spec.Mode.Replicated.Replicas}}}}'"))
        if self._seen.get(service) != found:
            self._seen[service] = found
            self.note(f"{service}: {found} replicas")
        return found

    def running(self, service: str) -> int:
        """How many containers there are."""
        return len(self.sh(f"docker ps -q --filter label=com.docker.swarm.service.name=mcp_{service}").split())

    def ready(self, service: str) -> int:
        """How many of those are healthy."""
        filters = f"--filter label=com.docker.swarm.service.name=mcp_{service} --filter health=healthy"
        return len(self.sh(f"docker ps -q {filters}").split())

    def all_ready(self, service: str, replicas: int) -> bool:
        """Whether so many are asked for and there; what is on its way out does not count."""
        return self.replicas(service) == self.running(service) == self.ready(service) == replicas

    def container(self, service: str) -> str:
        return self.sh(f"docker ps -q --filter label=com.docker.swarm.service.name=mcp_{service}").split()[0]

    def scale(self, service: str, replicas: int) -> None:
        self.note(f"{service} is scaled to {replicas} by hand")
        self.sh(f"docker service scale --detach mcp_{service}={replicas}")

    def status(self) -> dict[str, Any]:
        """What the autoscaler says; nothing while it is being started anew."""
        with contextlib.suppress(AssertionError, IndexError):
            said = self.sh(
                f"docker exec {self.container('autoscaler')} /opt/autoscaler/bin/mcp-autoscaler status --json"
            )
            return dict(json.loads(said))
        return {"since": "", "sources": {"docker": ""}, "servers": {}, "changes": []}

    def changes(self, server: str) -> list[dict[str, Any]]:
        """The changes of a server's replicas, as the autoscaler tells of them."""
        return [change for change in self.status()["changes"] if change["server"] == server]

    def deploy(self) -> str:
        """Deploy the catalogue again; what changed."""
        done = self._ansible.play("deploy.yml")
        assert done.code == 0, done.output[-3000:]
        self.note("deployed again")
        return f"changed={done.changed}"

    def services(self) -> dict[str, str]:
        """What ``make status`` shows of each."""
        return dict(self._ansible.ask("swarm_release_info", "name=mcp")["services"])

    def gateway_status(self) -> dict[str, dict[str, Any]]:
        """What the gateway says of each server."""
        key = (INVENTORY / ".state" / "secrets" / "gateway_api_key").read_text("utf-8").strip()
        trust = ssl.create_default_context(cafile=str(INVENTORY / ".state" / "edge-ca.crt"))
        with httpx2.Client(verify=trust, headers={"Authorization": f"Bearer {key}"}) as http:
            found = http.get(f"https://{self._address}:8443/status").raise_for_status().json()
        return {server["name"]: server for server in found["servers"]}

    # -- waiting ---------------------------------------------------------------------------------

    def note(self, what: str) -> None:
        timeline.append(f"{time.monotonic() - BEGUN:6.1f} s  {what}")

    def until(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        until(what, condition, seconds, lambda: json.dumps(self.status(), indent=1))

    def watch(self, service: str, seconds: float, holds: Callable[[int], bool]) -> None:
        """It stays so."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            replicas = self.replicas(service)
            assert holds(replicas), f"{service}: {replicas} replicas; {json.dumps(self.status(), indent=1)}"
            time.sleep(LOOK_SECONDS)

    # -- its clients -----------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        key = (INVENTORY / ".state" / "secrets" / "gateway_api_key").read_text("utf-8").strip()
        trust = ssl.create_default_context(cafile=str(INVENTORY / ".state" / "edge-ca.crt"))
        async with (
            httpx2.AsyncClient(verify=trust, headers={"Authorization": f"Bearer {key}"}, timeout=CALL_SECONDS) as http,
            Client(streamable_http_client(f"https://{self._address}:8443/mcp", http_client=http)) as client,
        ):
            yield client

    def call(self, tool: str, **arguments: Any) -> str:
        async def use() -> str:
            async with self.client() as client:
                result = await client.call_tool(tool, arguments)
                assert not result.is_error, result
                return str(result.content)

        begun = time.monotonic()
        said = asyncio.run(use())
        self.note(f"{tool} answered within {time.monotonic() - begun:.1f} s")
        return said

    def tools(self) -> list[str]:
        async def use() -> list[str]:
            async with self.client() as client:
                return [tool.name for tool in (await client.list_tools()).tools]

        return asyncio.run(use())


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def load(fleet: Fleet) -> Load:
    """So many clients of which each has one long call under way all the time; none of the calls may fail."""

    @contextlib.contextmanager
    def use(clients: int) -> Iterator[None]:
        stop, failed, sent = threading.Event(), [], []
        arguments = {"duration": WORK_SECONDS, "steps": 1}

        async def one() -> None:
            try:
                async with fleet.client() as client:
                    while not stop.is_set():
                        sent.append(1)
                        result = await client.call_tool("worker__trigger-long-running-operation", arguments)
                        if result.is_error:
                            failed.append(str(result.content)[:300])
            except Exception as error:  # whatever a client may meet is a call that was lost
                while isinstance(getattr(error, "exceptions", None), tuple):
                    error = error.exceptions[0]
                failed.append(f"{type(error).__name__}: {error}"[:300])

        async def every() -> None:
            await asyncio.gather(*(one() for _ in range(clients)))

        thread = threading.Thread(target=lambda: asyncio.run(every()))
        fleet.note(f"{clients} clients begin to call")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(2 * CALL_SECONDS)
            fleet.note(f"they end: {len(sent)} calls, {len(failed)} failed")
        assert failed == []

    return use


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What happened when."""
    if timeline:
        terminalreporter.section("timeline")
        for line in timeline:
            terminalreporter.write_line(line)
