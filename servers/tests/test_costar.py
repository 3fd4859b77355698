"""costar's tool against a local API."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from mcp.client import Client

from backend.mcp_servers.costar import MAX_BYTES, api_from, build

KEY = "a-key"
seen: list[tuple[str, str | None]] = []


class FakeApi(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        seen.append((self.path, self.headers["Authorization"]))
        path = self.path.partition("?")[0].removeprefix("/v1/")
        status = {"secret": 403, "moved": 302}.get(path, 200)
        body = b"x" * (MAX_BYTES + 1) if path == "long" else b"plain" if path == "text" else b'{"name": "Tower"}'
        self.send_response(status)
        if path == "moved":
            self.send_header("Location", "http://127.0.0.1:9/stolen")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeApi)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/"
    server.shutdown()
    server.server_close()


def get(base_url: str, path: str, **arguments: Any) -> Any:
    async def go() -> Any:
        server = build(api_from({"COSTAR_BASE_URL": base_url, "COSTAR_API_KEY": KEY}))
        async with Client(server) as client:
            return await client.call_tool("get", {"path": path, **arguments})

    seen.clear()
    return asyncio.run(go())


def test_path_parameters_and_key_reach_the_api(base_url: str) -> None:
    result = get(base_url, "/properties/12", query={"city": "New York", "limit": 5, "type": ["office", "flex"]})
    assert not result.is_error, result.content
    assert result.structured_content == {"status": 200, "data": {"name": "Tower"}}
    expected = "/v1/properties/12?city=New+York&limit=5&type=office&type=flex"
    assert [(path.replace("%20", "+"), key) for path, key in seen] == [(expected, f"Bearer {KEY}")]


def test_an_answer_that_is_no_json_comes_as_text(base_url: str) -> None:
    assert get(base_url, "text").structured_content == {"status": 200, "data": "plain"}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("https://elsewhere.example/x", "absolute URL"),
        ("//elsewhere.example/x", "absolute URL"),
        ("a/../../admin", "holds . or .."),
        ("..", "holds . or .."),
        ("a/%2e%2e/b", "characters"),
        ("a?key=1", "put parameters into query"),
        ("a\\b", "characters"),
        ("", "characters"),
    ],
)
def test_a_path_that_would_leave_the_api_is_refused_before_any_request(base_url: str, path: str, said: str) -> None:
    result = get(base_url, path)
    assert result.is_error
    assert said in result.content[0].text
    assert seen == []


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("secret", "CoStar answered 403 to GET secret (may this account read it?)"),
        ("moved", "CoStar answered 302 to GET moved"),
        ("long", "narrow it with query parameters"),
    ],
)
def test_an_answer_that_is_of_no_use_is_an_error_without_the_key(base_url: str, path: str, said: str) -> None:
    result = get(base_url, path)
    assert result.is_error
    assert said in result.content[0].text
    assert KEY not in json.dumps([part.text for part in result.content])
    assert len(seen) == 1


def test_an_api_out_of_reach_is_an_error() -> None:
    result = get("http://127.0.0.1:9", "x")
    assert result.is_error
    assert "CoStar cannot be reached" in result.content[0].text


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "COSTAR_BASE_URL"),
        ({"COSTAR_BASE_URL": "costar.example", "COSTAR_API_KEY": KEY}, "COSTAR_BASE_URL"),
        ({"COSTAR_BASE_URL": "https://costar.example"}, "COSTAR_API_KEY is not set"),
    ],
)
def test_a_missing_variable_is_named(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        api_from(environ)
