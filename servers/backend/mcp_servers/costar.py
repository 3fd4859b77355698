"""MCP server that reads CoStar's data.

CoStar publishes no description of its API, so there is one generic, read-only tool: it GETs a path below the
base URL that CoStar gave with the account.

Environment:
    COSTAR_BASE_URL: where the API is, such as ``https://api.example.com/v1``.
    COSTAR_API_KEY: the key. A secret: give it as COSTAR_API_KEY_FILE, which the runtime reads.
    COSTAR_KEY_HEADER: header that carries the key (default ``Authorization``).
    COSTAR_KEY_SCHEME: what precedes the key there (default ``Bearer``; may be empty).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import httpx2 as httpx
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field

TIMEOUT_SECONDS = 30.0
MAX_BYTES = 1_000_000
SHOWN_OF_AN_ERROR = 300
# No %: an encoded .. or / would get past the check. No ? or #: parameters have their own argument.
PATH = r"[A-Za-z0-9._~!$&'()*+,;=:@/-]+"

Value = str | int | float | bool
Path = Annotated[str, Field(description="Path below the API's base URL, such as properties/123", max_length=500)]
Query = Annotated[dict[str, Value | list[Value]], Field(description="Query parameters", max_length=50)]

READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=True)


class Answer(BaseModel):
    """What the API answered."""

    status: int
    data: Any = Field(description="The answer's JSON, or its text where it is no JSON")


@dataclass(frozen=True)
class Api:
    """Where CoStar's API is, and the headers each request carries."""

    base_url: str
    headers: Mapping[str, str]


def api_from(environ: Mapping[str, str]) -> Api:
    """The API that the environment describes (see the module's docstring).

    Raises:
        ValueError: a variable is missing or its value cannot be used.
    """
    base = environ.get("COSTAR_BASE_URL", "").rstrip("/")
    if not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#\s]*)?", base):
        raise ValueError(f"COSTAR_BASE_URL={base!r}; use the http(s):// URL that CoStar gave with the account")
    key = environ.get("COSTAR_API_KEY", "")
    if not key:
        raise ValueError("COSTAR_API_KEY is not set; give this server the secret")
    header = environ.get("COSTAR_KEY_HEADER", "Authorization")
    return Api(base, {header: f"{environ.get('COSTAR_KEY_SCHEME', 'Bearer')} {key}".strip()})


def url_of(base: str, path: str) -> str:
    """The URL of a path below ``base``.

    Raises:
        ToolError: the path would leave ``base``.
    """
    if "://" in path or path.startswith("//"):
        raise ToolError(f"path {path!r} is an absolute URL; give a path below the API's base, such as properties/123")
    if not re.fullmatch(PATH, path):
        raise ToolError(f"path {path!r} holds characters that are not allowed; put parameters into query")
    if {".", ".."} & set(path.split("/")):
        raise ToolError(f"path {path!r} holds . or ..; write the path out")
    return f"{base}/{path.lstrip('/')}"


def build(api: Api) -> MCPServer[Any]:
    """The server over one API."""
    server: MCPServer[Any] = MCPServer(
        "costar", instructions="Reads CoStar's commercial real estate data.", version="0.1.0"
    )

    @server.tool(title="Read from CoStar's API", annotations=READS)
    async def get(path: Path, query: Query | None = None) -> Answer:
        """GET a path of CoStar's API. The account's documentation of the API says which paths there are."""
        url = url_of(api.base_url, path)
        try:
            # Redirects are not followed: the key is for this API alone.
            async with (
                httpx.AsyncClient(headers=dict(api.headers), timeout=TIMEOUT_SECONDS) as client,
                client.stream("GET", url, params=query) as response,
            ):
                body = await _limited(response)
        except httpx.TimeoutException:
            raise ToolError(f"CoStar did not answer within {TIMEOUT_SECONDS:g} s: GET {path}") from None
        except httpx.HTTPError as error:
            raise ToolError(f"CoStar cannot be reached: {type(error).__name__}: {error}") from None
        text = body.decode(response.encoding or "utf-8", errors="replace")
        if not response.is_success:
            hint = {401: " (is COSTAR_API_KEY right?)", 403: " (may this account read it?)"}.get(
                response.status_code, ""
            )
            shown = text[:SHOWN_OF_AN_ERROR]
            raise ToolError(f"CoStar answered {response.status_code} to GET {path}{hint}: {shown}")
        try:
            data = json.loads(text)
        except ValueError:
            data = text
        return Answer(status=response.status_code, data=data)

    return server


async def _limited(response: httpx.Response) -> bytes:
    """The body; a ToolError where it is longer than a client could use."""
    body = bytearray()
    async for part in response.aiter_bytes():
        body += part
        if len(body) > MAX_BYTES:
            raise ToolError(f"the answer is longer than {MAX_BYTES} bytes; narrow it with query parameters")
    return bytes(body)


def __getattr__(name: str) -> Any:
    # Built on first use: importing the module must not need the key.
    if name == "app":
        globals()["app"] = build(api_from(os.environ))
        return globals()["app"]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
