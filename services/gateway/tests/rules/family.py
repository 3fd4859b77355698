"""Gateway replicas that know each other, each a process of its own that can be killed and started again."""

from __future__ import annotations

import copy
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import yaml
from conftest import Running, free_port, wait_until

from rules.clients import Client2025

SEAL = b"s" * 43


class Family:
    """``size`` replicas; ``strangers`` are URLs that each of them takes for another one; ``settings`` are of all."""

    def __init__(
        self,
        launch: Callable[..., Running],
        directory: Path,
        servers: list[dict[str, Any]],
        size: int = 2,
        strangers: tuple[str, ...] = (),
        **settings: Any,
    ) -> None:
        self._launch = launch
        self._directory = directory
        self._ports = [free_port() for _ in range(size)]
        self._urls = [f"http://127.0.0.1:{port}" for port in self._ports]
        (directory / "seal").write_bytes(SEAL)
        self._document: dict[str, Any] = {
            "servers": servers,
            "sessions": {"key_files": [str(directory / "seal")]},
            "peers": {"urls": [*self._urls, *strangers]},
            **settings,
        }
        self.replicas = [self._start(index) for index in range(size)]
        for index in range(size):
            self.until(index, 'peers{state="reachable"}', size - 1)

    def _start(self, index: int) -> Running:
        port = self._ports[index]
        path = self._directory / f"gateway-{port}.yaml"
        path.write_text(yaml.safe_dump({"listen": {"port": port}, **self._document}))
        running = self._launch(sys.executable, "-m", "mcp_gateway", "serve", "--config", str(path), port=port)
        wait_until(lambda: httpx2.get(f"{running.url}/readyz").status_code == 200, "the gateway is ready")
        return running

    def kill(self, index: int) -> None:
        """SIGKILL."""
        self.replicas[index].stop(signal.SIGKILL)

    def again(self, index: int) -> None:
        """Start one that ended, where it was."""
        self.replicas[index] = self._start(index)

    def client(self, index: int = 0, path: str = "/mcp", **options: Any) -> Client2025:
        """A client with a new session, opened at this replica."""
        return Client2025(self._urls[index], path, **options)

    def at(self, index: int, client: Client2025) -> Client2025:
        """The same session by way of another replica."""
        other = copy.copy(client)
        other.http = httpx2.Client(base_url=self._urls[index], timeout=20)
        return other

    def metric(self, index: int, name: str) -> float:
        """The value of a metric, its labels written out; 0 for none."""
        text = httpx2.get(f"{self._urls[index]}/metrics").text
        found = re.search(rf"^mcp_gateway_{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0

    def until(self, index: int, name: str, least: float) -> None:
        """Wait until a metric is at least so much."""
        wait_until(lambda: self.metric(index, name) >= least, f"replica {index} has {name} {least:g}")

    def settle(self) -> None:
        """Wait until all that the replicas had to tell by now has arrived: each tells in order, so what it tells last
        comes last."""
        alive = [index for index, replica in enumerate(self.replicas) if replica.process.poll() is None]
        for index in alive:
            mark = self.client(index)
            mark.end()
            for other in alive:
                seen = self.at(other, mark)
                wait_until(lambda seen=seen: seen.post("ping").status_code == 404, "what was told has arrived")
