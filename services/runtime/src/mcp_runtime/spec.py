"""The description of one server: ``/etc/mcp/server.json``, written by the fleet plan.

Standard library only: the readiness probe imports this module.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

DEFAULT_FILE = "/etc/mcp/server.json"
# Each transport with the key it cannot do without.
TRANSPORTS = {"stdio": "command", "http": "command", "python": "module", "openapi": "openapi"}


class SpecError(Exception):
    """server.json cannot be used; the message names the key, the value and the fix."""


@dataclass(frozen=True)
class Step:
    """A command to run before the server; skipped where the path ``creates`` exists already."""

    run: tuple[str, ...]
    creates: str | None = None


@dataclass(frozen=True)
class OpenApi:
    """What makes tools of an OpenAPI document.

    ``spec`` is the document's path (JSON or YAML), ``base_url`` where its operations are called. Where ``env``
    names a variable, each request carries ``header: scheme value-of-env``.
    """

    spec: str
    base_url: str
    header: str = "Authorization"
    scheme: str = ""
    env: str = ""


@dataclass(frozen=True)
class Spec:
    """One server to run; ``port`` is a TCP port, ``path`` the HTTP path of the MCP endpoint."""

    name: str
    transport: str
    command: tuple[str, ...] = ()
    port: int = 8000
    path: str = "/mcp"
    prepare: tuple[Step, ...] = field(default_factory=tuple)
    module: str = ""
    openapi: OpenApi | None = None


def load(path: str | None = None) -> Spec:
    """Read and check the description (``MCP_SERVER_FILE`` or ``/etc/mcp/server.json``).

    Raises:
        SpecError: the file is missing, is not JSON, or a key's value cannot be used.
    """
    path = path or os.environ.get("MCP_SERVER_FILE", DEFAULT_FILE)
    try:
        with open(path, encoding="utf-8") as handle:
            raw = json.load(handle)
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}; set MCP_SERVER_FILE or mount the file") from error
    except ValueError as error:
        raise SpecError(f"{path}: not JSON: {error}") from error
    try:
        return _spec(raw)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def _spec(raw: Any) -> Spec:
    if not isinstance(raw, dict):
        raise SpecError(f"holds a {type(raw).__name__}, expected an object")
    transport = raw.get("transport")
    if transport not in TRANSPORTS:
        raise SpecError(f"transport is {transport!r}; use one of {', '.join(TRANSPORTS)}")
    if not raw.get(TRANSPORTS[transport]):
        raise SpecError(f"transport {transport} needs the key {TRANSPORTS[transport]!r}")
    port = raw.get("port", 8000)
    if type(port) is not int or not 0 < port < 65536:
        raise SpecError(f"port is {port!r}; use a whole number from 1 to 65535")
    path = raw.get("path", "/mcp")
    if not isinstance(path, str) or not path.startswith("/"):
        raise SpecError(f"path is {path!r}; use an HTTP path that starts with /")
    module = raw.get("module") or ""
    if transport == "python" and (not isinstance(module, str) or module.count(":") != 1):
        raise SpecError(f"module is {module!r}; use package.module:attribute")
    return Spec(
        name=str(raw.get("name") or "server"),
        transport=transport,
        command=_words(raw.get("command") or [], "command"),
        port=port,
        path=path,
        prepare=_steps(raw.get("prepare") or []),
        module=module,
        openapi=_openapi(raw["openapi"]) if transport == "openapi" else None,
    )


def _words(value: Any, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise SpecError(f'{key} is {value!r}; use a list of strings, such as ["program", "--flag"]')
    return tuple(value)


def _steps(value: Any) -> tuple[Step, ...]:
    if not isinstance(value, list):
        raise SpecError(f"prepare is {value!r}; use a list of commands")
    steps = []
    for number, step in enumerate(value):
        key = f"prepare[{number}]"
        if isinstance(step, dict):
            if unknown := set(step) - {"run", "creates"}:
                raise SpecError(f"{key} has unknown keys {sorted(unknown)}; it knows run and creates")
            words, creates = _words(step.get("run") or [], f"{key}.run"), step.get("creates")
        else:
            words, creates = _words(step, key), None
        if not words:
            raise SpecError(f"{key} names no command")
        steps.append(Step(words, creates))
    return tuple(steps)


def _openapi(value: Any) -> OpenApi:
    if not isinstance(value, dict):
        raise SpecError(f"openapi is {value!r}; use an object with spec and base_url")
    known = OpenApi.__dataclass_fields__
    if unknown := set(value) - set(known):
        raise SpecError(f"openapi has unknown keys {sorted(unknown)}; it knows {', '.join(known)}")
    # A plan writes null for what is not wanted: that means the default.
    given = {key: item for key, item in value.items() if item is not None}
    for key in ("spec", "base_url"):
        if not given.get(key):
            raise SpecError(f"openapi needs the key {key!r}")
    for key, item in given.items():
        if not isinstance(item, str):
            raise SpecError(f"openapi.{key} is {item!r}; use a string")
    return OpenApi(**given)
