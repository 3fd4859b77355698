"""An OpenAPI document as an MCP server: each operation is a tool."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx2 as httpx
import yaml
from fastmcp import FastMCP

from mcp_runtime.spec import OpenApi, Spec, SpecError

METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")
TIMEOUT_SECONDS = 30


def without_response_bodies(document: dict[str, Any]) -> dict[str, Any]:
    """The document with each response reduced to its description.

    Response schemas would become output schemas and make tool lists several times larger.
    """
    for item in document.get("paths", {}).values():
        for method in METHODS:
            for response in item.get(method, {}).get("responses", {}).values():
                response.pop("content", None)
    return document


def read_document(path: str) -> dict[str, Any]:
    """The OpenAPI document at ``path``, JSON or YAML.

    Raises:
        SpecError: it cannot be read, or is no OpenAPI document.
    """
    try:
        with open(path, encoding="utf-8") as handle:
            # YAML makes numbers of response codes and dates of dates: both are strings in OpenAPI, as JSON has
            # them. JSON is a subset of YAML, but its own reader is a hundred times faster.
            text = handle.read()
            document = json.loads(text if text.lstrip().startswith("{") else _json_of_yaml(text))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SpecError(f"openapi.spec {path}: {error}") from error
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3"):
        raise SpecError(f"openapi.spec {path}: no OpenAPI 3 document: 'openapi' does not start with 3")
    return document


def _json_of_yaml(text: str) -> str:
    return json.dumps(yaml.safe_load(text), default=str)


def auth_headers(options: OpenApi, env: Mapping[str, str]) -> dict[str, str]:
    """The header that carries the credential; empty where none is asked for.

    Raises:
        SpecError: the credential's variable is not set.
    """
    if not options.env:
        return {}
    if not env.get(options.env):
        raise SpecError(f"openapi.env: {options.env} is not set; give the server this secret")
    return {options.header: f"{options.scheme} {env[options.env]}".strip()}


def serve(spec: Spec, env: Mapping[str, str]) -> int:
    """Serve the document's operations until SIGTERM; returns 0.

    Raises:
        SpecError: the document cannot be used, or the credential's variable is not set.
    """
    options = spec.openapi
    assert options is not None  # spec.load checked it
    document = read_document(options.spec)
    headers = auth_headers(options, env)
    client = httpx.AsyncClient(base_url=options.base_url, headers=headers, timeout=TIMEOUT_SECONDS)
    server = FastMCP.from_openapi(without_response_bodies(document), client=client, name=spec.name)
    server.run(
        transport="http",
        host="0.0.0.0",
        port=spec.port,
        path=spec.path,
        stateless_http=True,
        show_banner=False,
        log_level="warning",
    )
    return 0
