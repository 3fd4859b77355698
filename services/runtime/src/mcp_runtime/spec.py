"""The description of one server: ``/etc/mcp/server.json``, written by the fleet plan.

Standard library only: the readiness probe imports this module every few seconds.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

DEFAULT_FILE = "/etc/mcp/server.json"
TRANSPORTS = ("stdio", "http", "python", "openapi")


class SpecError(Exception):
    """server.json cannot be used; the message names the key, the value and the fix."""


@dataclass(frozen=True)
class Spec:
    """One server to run.

    ``port`` is a TCP port, ``path`` the HTTP path of the MCP endpoint. ``prepare`` holds commands to
    run before the server, each an argument list or ``{"run": [...], "creates": path}``.
    """

    name: str
    transport: str
    command: tuple[str, ...] = ()
    port: int = 8000
    path: str = "/mcp"
    prepare: tuple[Any, ...] = ()
    module: str = ""
    openapi: dict[str, Any] = field(default_factory=dict)


def load(path: str | None = None) -> Spec:
    """Read and check the description.

    Raises:
        SpecError: the file is missing, is not JSON or lacks what its transport needs.
    """
    path = path or os.environ.get("MCP_SERVER_FILE", DEFAULT_FILE)
    try:
        with open(path, encoding="utf-8") as handle:
            raw = json.load(handle)
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}; set MCP_SERVER_FILE or mount the file") from error
    except ValueError as error:
        raise SpecError(f"{path}: not JSON: {error}") from error
    if not isinstance(raw, dict):
        raise SpecError(f"{path}: holds {type(raw).__name__}, expected an object")
    transport = raw.get("transport")
    if transport not in TRANSPORTS:
        raise SpecError(f"{path}: transport is {transport!r}; use one of {', '.join(TRANSPORTS)}")
    needed = {"stdio": "command", "http": "command", "python": "module", "openapi": "openapi"}[transport]
    if not raw.get(needed):
        raise SpecError(f"{path}: transport {transport} needs the key {needed!r}")
    return Spec(
        name=str(raw.get("name") or "server"),
        transport=transport,
        command=tuple(str(part) for part in raw.get("command") or ()),
        port=int(raw.get("port", 8000)),
        path=str(raw.get("path", "/mcp")),
        prepare=tuple(raw.get("prepare") or ()),
        module=str(raw.get("module") or ""),
        openapi=dict(raw.get("openapi") or {}),
    )
