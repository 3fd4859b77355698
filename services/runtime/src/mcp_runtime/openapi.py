"""An OpenAPI document as an MCP server: each operation is a tool."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("FASTMCP_CHECK_FOR_UPDATES", "off")
os.environ.setdefault("FASTMCP_SHOW_SERVER_BANNER", "false")

import httpx2 as httpx  # noqa: E402
from fastmcp import FastMCP  # noqa: E402

from mcp_runtime.spec import Spec, SpecError  # noqa: E402

METHODS = ("get", "put", "post", "delete", "patch", "head", "options", "trace")


def without_response_bodies(document: dict[str, Any]) -> dict[str, Any]:
    """The document with each response reduced to its description.

    Response schemas would become output schemas and make tool lists several times larger.
    """
    for item in document.get("paths", {}).values():
        for method in METHODS:
            for response in item.get(method, {}).get("responses", {}).values():
                response.pop("content", None)
    return document


def serve(spec: Spec, env: Mapping[str, str]) -> int:
    """Serve the document's operations until SIGTERM; returns 0.

    Raises:
        SpecError: the document cannot be read, or the credential's variable is not set.
    """
    options = spec.openapi
    try:
        with open(options["spec"], encoding="utf-8") as handle:
            document = json.load(handle)
    except (OSError, ValueError) as error:
        raise SpecError(f"openapi.spec {options['spec']}: {error}") from error
    headers: dict[str, str] = {}
    if options.get("env"):
        if not env.get(options["env"]):
            raise SpecError(f"openapi.env: {options['env']} is not set; give the server this secret")
        scheme = options.get("scheme", "")
        headers[options.get("header", "Authorization")] = f"{scheme} {env[options['env']]}".strip()
    client = httpx.AsyncClient(base_url=options["base_url"], headers=headers, timeout=30)
    server = FastMCP.from_openapi(without_response_bodies(document), client=client, name=spec.name)
    server.run(
        transport="http", host="0.0.0.0", port=spec.port, path=spec.path,
        stateless_http=True, show_banner=False, log_level="warning",
    )
    return 0
