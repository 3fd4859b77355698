"""Application trees (kind python) and OpenAPI documents as servers."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from runtime_harness import Launcher, Running

from mcp_runtime.openapi import read_document, without_response_bodies

pytestmark = pytest.mark.slow

TOOL = """
@server.tool()
def ping() -> str:
    return "pong"
"""
MODULES = {
    "fastmcp": f"from fastmcp import FastMCP\nserver = FastMCP('x')\n{TOOL}",
    "official": f"from mcp.server.mcpserver import MCPServer\nserver = MCPServer('x')\n{TOOL}",
    "asgi": f"from fastmcp import FastMCP\nserver = FastMCP('x')\n{TOOL}\nserver = server.http_app(path='/mcp')\n",
}


def call(running: Running, era: str, tool: str, arguments: dict[str, Any]) -> Any:
    async def go() -> Any:
        async with running.client(era) as client:
            return await client.call_tool(tool, arguments)

    return asyncio.run(go())


@pytest.mark.parametrize("kind", MODULES)
def test_each_kind_of_object_is_served_in_both_eras_and_stops_cleanly(launch: Launcher, kind: str) -> None:
    launch.application(application=MODULES[kind])
    running = launch({"transport": "python", "module": "application:server"})
    running.ready()
    for era in ("modern", "legacy"):
        assert call(running, era, "ping", {}).content[0].text == "pong"
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(10) == 0


@pytest.mark.parametrize(
    ("module", "text", "message"),
    [
        ("application:server", "server = 3", "int is neither an ASGI application nor an MCP server object"),
        ("application:server", "def server(): ...", "function is neither an ASGI application"),
        ("application:other", "server = 3", "module application has no attribute 'other'"),
        ("nothing:server", "", "there is no module 'nothing'"),
        (
            "application:server",
            "import not_installed",
            "ModuleNotFoundError: No module named 'not_installed'",
        ),
    ],
)
def test_what_cannot_be_served_is_named(launch: Launcher, module: str, text: str, message: str) -> None:
    launch.application(application=text)
    running = launch({"transport": "python", "module": module})
    assert running.process.wait(20) == 1
    assert message in running.log.read_text()


class Api(BaseHTTPRequestHandler):
    """An HTTP API that answers with what it was asked."""

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path, "key": self.headers.get("X-Key")}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def api() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


YAML = """
openapi: 3.0.3
info: {title: Pets, version: 2026-01-01}
paths:
  /pets/{id}:
    get:
      operationId: get_pet
      summary: One pet
      parameters:
        - {name: id, in: path, required: true, schema: {type: string}}
        - {name: full, in: query, schema: {type: boolean}}
      responses:
        200: {description: The pet, content: {application/json: {schema: {type: object}}}}
"""


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_an_operation_is_a_tool_with_its_parameters_and_credential(
    launch: Launcher, api: str, tmp_path: Path, form: str
) -> None:
    document = tmp_path / f"pets.{form}"
    document.write_text(YAML)
    if form == "json":
        document.write_text(json.dumps(read_document(str(document))))
    options = {"spec": str(document), "base_url": api, "header": "X-Key", "scheme": "Token", "env": "KEY"}
    running = launch({"transport": "openapi", "openapi": options}, KEY_FILE=launch.secret("key", "s3cret"))
    running.ready()
    for era in ("modern", "legacy"):
        got = json.loads(call(running, era, "get_pet", {"id": "7", "full": True}).content[0].text)
        assert got == {"path": "/pets/7?full=true", "key": "Token s3cret"}
    assert b"KEY=s3cret" not in Path(f"/proc/{running.process.pid}/environ").read_bytes()


def test_a_missing_credential_ends_the_start(launch: Launcher, tmp_path: Path) -> None:
    document = tmp_path / "pets.yaml"
    document.write_text(YAML)
    running = launch(
        {
            "transport": "openapi",
            "openapi": {"spec": str(document), "base_url": "http://127.0.0.1:1", "env": "KEY"},
        }
    )
    assert running.process.wait(30) == 78
    assert "openapi.env: KEY is not set; give the server this secret" in running.log.read_text()


def test_response_bodies_go_and_descriptions_stay(tmp_path: Path) -> None:
    (tmp_path / "pets.yaml").write_text(YAML)
    document = without_response_bodies(read_document(str(tmp_path / "pets.yaml")))
    assert document["paths"]["/pets/{id}"]["get"]["responses"] == {"200": {"description": "The pet"}}
