# Copyright: (c) 2026, Sophia AI
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's API, with failures in people's words."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode

from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._process import run
from ansible_collections.sophia_ai.mcp_swarm.plugins.module_utils._registry import RegistryError, credentials_file

LABEL = "ai.sophia.mcp"
# Configs that hold what a deploy knows (releases, the lock) carry this label with their kind; pruning spares them.
RECORD = f"{LABEL}.record"
# How long an engine may be away (it restarts, the Swarm elects a leader) before it is given up.
PATIENCE_SECONDS = 90.0
OK = 200
CONFLICT = 409
SERVER_ERROR = 500
SOCKET = "/var/run/docker.sock"
TIMEOUT_SECONDS = 60
# Methods of the SDK that are one GET request with its query.
READS = {
    "info": "/info",
    "services": "/services",
    "tasks": "/tasks",
    "configs": "/configs",
    "secrets": "/secrets",
    "networks": "/networks",
    "images": "/images/json",
    "nodes": "/nodes",
}

Answer = TypeVar("Answer")


class SwarmError(Exception):
    """Something about the Swarm; the message says what, why and what to do."""


class NoManager(SwarmError):
    """The engine answers, but manages no Swarm."""


class _Connection(http.client.HTTPConnection):
    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


class Api:
    """Has the methods of the SDK's ``APIClient``, with its arguments (by name), answers and errors.

    What is only read comes by plain HTTP: importing the SDK takes longer than everything that a deploy without changes
    asks. It is imported for what changes something, and for errors.
    """

    def __init__(self) -> None:
        self._version: str | None = None
        self._client: Any = None
        self.docker_config = ""

    def __getattr__(self, name: str) -> Any:
        return partial(self._read, name) if name in READS else getattr(self._sdk(), name)

    def _sdk(self) -> Any:
        if self._client is None:
            try:
                import docker
            except ImportError as error:
                raise missing(error) from error
            # Of a known version it asks nothing when it is made: an engine that is away shows when it is used.
            self._client = docker.APIClient(f"unix://{SOCKET}", self._version or "auto", TIMEOUT_SECONDS)
            if self.docker_config:
                self._client.reload_config(dockercfg_path=credentials_file(self.docker_config))
        return self._client

    def _read(self, name: str, **query: Any) -> Any:
        """A list as the SDK gives it; whatever goes wrong goes wrong there again, with its errors."""
        try:
            if self._version is None:
                self._version = self._get("/_ping")[1]
            status, dummy, body = self._get(f"/v{self._version}{READS[name]}?{_encoded(query)}")
            if status == OK:
                return json.loads(body)
        except (OSError, http.client.HTTPException, ValueError):
            pass
        return getattr(self._sdk(), name)(**query)

    @staticmethod
    def _get(target: str) -> tuple[int, str | None, bytes]:
        """Status, the API's version, and body."""
        connection = _Connection("docker", timeout=TIMEOUT_SECONDS)
        try:
            connection.request("GET", target)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Api-Version"), answer.read()
        finally:
            connection.close()


def _encoded(query: dict[str, Any]) -> str:
    values = {key: value for key, value in query.items() if value is not None}
    filters = {
        key: [str(item) for item in (value if isinstance(value, list) else [value])]
        for key, value in values.pop("filters", {}).items()
    }
    if filters:
        values["filters"] = json.dumps(filters)
    return urlencode(values)


def missing(error: object) -> SwarmError:
    """There is no SDK, and why."""
    return SwarmError(f"the Python package docker is missing here ({error}); install python3-docker")


class Swarm:
    """A manager's engine.

    Raises:
        NoManager: the engine is no manager.
        SwarmError: the SDK is missing or the engine does not answer.
    """

    def __init__(self) -> None:
        if not importlib.util.find_spec("docker"):  # before anything is changed
            raise missing("it is not installed")
        self.api: Any = Api()
        try:
            info = self.api.info()
        except SwarmError:
            raise
        except Exception as error:  # in as many ways as the SDK has errors
            raise SwarmError(f"the Docker engine does not answer: {error}; run the provision playbook first") from error
        if not (info.get("Swarm") or {}).get("ControlAvailable"):
            raise NoManager(f"{info.get('Name')} is no Swarm manager; run the provision playbook first")
        self.node_id: str = info["Swarm"]["NodeID"]

    def take_credentials(self, docker_config: str) -> None:
        """Use the registries' credentials in a directory.

        Raises:
            SwarmError: there are none.
        """
        try:
            credentials_file(docker_config)
        except RegistryError as error:
            raise SwarmError(str(error)) from error
        self.api.docker_config = docker_config

    def services(self, stack: str) -> dict[str, Any]:
        """The services of a stack by full name, each with its ``ServiceStatus``."""
        label = f"com.docker.stack.namespace={stack}"
        found = patiently(lambda: self.api.services(filters={"label": label}, status=True))
        return {service["Spec"]["Name"]: service for service in found}

    def tasks(self, service: str) -> list[dict[str, Any]]:
        """The tasks of a service, newest first."""
        found: list[dict[str, Any]] = patiently(lambda: self.api.tasks(filters={"service": service}))
        return sorted(self._told(found), key=lambda task: task["CreatedAt"], reverse=True)

    def stack_tasks(self, stack: str) -> dict[str, list[dict[str, Any]]]:
        """Every task of a stack by its service's id, newest first: one request, however many services."""
        label = f"com.docker.stack.namespace={stack}"
        found: list[dict[str, Any]] = patiently(lambda: self.api.tasks(filters={"label": label}))
        tasks: dict[str, list[dict[str, Any]]] = {}
        for task in sorted(self._told(found), key=lambda task: task["CreatedAt"], reverse=True):
            tasks.setdefault(task["ServiceID"], []).append(task)
        return tasks

    def _told(self, tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Without those that are to end on a node that is lost: their last word stays "running" until it is back."""
        ending = [t for t in tasks if t["DesiredState"] in ("shutdown", "remove") and t["Status"]["State"] == "running"]
        if not ending:
            return tasks
        ready = {node["ID"] for node in patiently(self.api.nodes) if node["Status"]["State"] == "ready"}
        lost = {task["ID"] for task in ending if task.get("NodeID") not in ready}
        return [task for task in tasks if task["ID"] not in lost]

    def records(self, fleet: str, kind: str) -> list[dict[str, Any]]:
        """The fleet's configs of one kind of record, with their data."""
        labels = [f"{RECORD}={kind}", f"{LABEL}.fleet={fleet}"]
        return list(patiently(lambda: self.api.configs(filters={"label": labels})))

    def create_config(self, name: str, data: bytes, labels: dict[str, str]) -> bool:
        """Make a config; False where one of that name exists, whatever it holds."""
        from docker.errors import APIError

        try:
            self.api.create_config(name, data, labels=labels)
        except APIError as error:
            if error.status_code == CONFLICT:
                return False
            raise
        return True

    def relabel_config(self, item: dict[str, Any], labels: dict[str, str]) -> bool:
        """Replace a config's labels (all that Swarm lets one change); False where it changed or went since ``item``."""
        url = self.api._url("/configs/{0}/update", item["ID"])
        body = {"Name": item["Spec"]["Name"], "Labels": labels}
        answer = self.api._post_json(url, data=body, params={"version": item["Version"]["Index"]})
        if answer.ok:
            return True
        if answer.status_code < SERVER_ERROR or "out of sequence" in answer.text:
            return False
        self.api._raise_for_status(answer)
        return False

    def node_name(self, node_id: str) -> str:
        """A node's host name; its id where the node is gone."""
        from docker.errors import DockerException

        try:
            return str(self.api.inspect_node(node_id)["Description"]["Hostname"])
        except DockerException:
            return node_id or "no node"


def away(error: Exception) -> bool:
    """Whether an error says that the engine or the Swarm's leader is not there now, rather than that it refuses."""
    from docker.errors import APIError
    from requests.exceptions import RequestException

    if isinstance(error, APIError):
        return bool(error.status_code and error.status_code >= SERVER_ERROR and not out_of_sequence(error))
    return isinstance(error, (RequestException, OSError))


def out_of_sequence(error: Exception) -> bool:
    """Whether somebody else changed the same thing since it was looked at."""
    return "out of sequence" in str(error)


def patiently(ask: Callable[[], Answer], seconds: float = PATIENCE_SECONDS) -> Answer:
    """Ask until the engine answers: a restart or an election is no reason to leave a deploy half-way.

    Raises:
        SwarmError: it did not answer for ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except Exception as error:
            if not away(error):
                raise
            if time.monotonic() > deadline:
                raise SwarmError(
                    f"the Docker engine has not answered for {seconds:.0f} s: {error}; start it (systemctl start"
                    " docker) and run again: the next run finishes or restores what this one left"
                ) from error
        time.sleep(1)


def docker_command(*arguments: str, stdin: bytes | None = None) -> tuple[int, str]:
    """Exit code and output of the docker command line."""
    command = shutil.which("docker", path=os.environ.get("PATH", "") + ":/usr/bin:/usr/local/bin")
    if not command:
        raise SwarmError("there is no docker command on this host; run the provision playbook first")
    return run([command, *arguments], stdin=stdin)
