"""Pages of other sites that are clients: what they may read of the answers (Fetch standard, "CORS protocol")."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from conftest import LEGACY, Running
from rules.clients import Client2026
from rules.upstream import Exchange, Server2026, tool
from selenium.webdriver import Chrome
from test_console_browser import _driver

pytestmark = pytest.mark.integration
Start = Callable[..., Running]
ALLOW, EXPOSE = "access-control-allow-origin", "access-control-expose-headers"


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    """The origin of a site that has one page."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<!doctype html><title>client</title>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "site"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def running(gateway: Start, page: str, tmp_path: Path) -> Iterator[Running]:
    """A gateway with a key, that this one site may use."""

    def talk(exchange: Exchange) -> None:
        exchange.notify("notifications/progress", progressToken=exchange.meta["progressToken"], progress=1)
        exchange.result({"resultType": "complete", "content": []})

    server = Server2026()
    server.tools = [tool("echo"), tool("talk")]
    server.tool["talk"] = talk
    (tmp_path / "key").write_text("right")
    yield gateway(
        [{"name": "x", "url": server.url}],
        auth={"api_keys": [{"file": str(tmp_path / "key")}]},
        # Not by its name, which would let in the pages of all its ports.
        http={"allowed_hosts": ["*"], "allowed_origins": [page]},
    )
    server.stop()


def test_an_allowed_page_may_read_every_answer(running: Running, page: str) -> None:
    client = Client2026(running.url, key="right")
    client.http.headers["Origin"] = page
    params = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "page", "version": "1"}}
    initialize = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    answers = {
        "a list": client.post("tools/list"),
        "a call": client.post("tools/call", {"name": "x__echo", "arguments": {}}),
        "an event stream": client.post("tools/call", {"name": "x__talk"}, meta={"progressToken": "p"}),
        "a session": client.http.post("/mcp", json=initialize),
        "no JSON": client.http.post("/mcp", content=b"{"),
        "no key": httpx2.post(f"{running.url}/mcp", json=initialize, headers={"Origin": page}),
        "no session": client.http.delete("/mcp"),
    }
    assert answers["no key"].status_code == 401
    assert "mcp-session-id" in answers["a session"].headers
    assert answers["an event stream"].headers["content-type"] == "text/event-stream"
    for what, answer in answers.items():
        assert answer.headers.get_list(ALLOW) == [page], what
        assert answer.headers[EXPOSE] == "mcp-session-id, www-authenticate, retry-after", what
        assert answer.headers["vary"] == "origin", what
    preflight = client.http.options("/mcp", headers={"Access-Control-Request-Headers": "authorization"})
    assert (preflight.status_code, preflight.headers.get_list(ALLOW)) == (204, [page])


def test_whoever_is_no_page_gets_no_such_header_and_other_pages_nothing(running: Running) -> None:
    client = Client2026(running.url, key="right")
    assert {ALLOW, EXPOSE, "vary"}.isdisjoint(client.post("tools/list").headers)
    refused = client.post("tools/list", headers={"Origin": "http://evil.example"})
    assert refused.status_code == 403
    assert ALLOW not in refused.headers


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    made = _driver(scripts=True)
    yield made
    made.quit()


CALL = """
const [url, key, done] = arguments;
const meta = "io.modelcontextprotocol/";
const params = {_meta: {[meta + "protocolVersion"]: "2026-07-28", [meta + "clientCapabilities"]: {}}};
const session = {protocolVersion: "2025-11-25", capabilities: {}, clientInfo: {name: "page", version: "1"}};
const post = (method, params, headers) => fetch(url, {
  method: "POST",
  headers: {"Content-Type": "application/json", Accept: "application/json, text/event-stream", ...headers},
  body: JSON.stringify({jsonrpc: "2.0", id: 1, method, params}),
});
const listing = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"};
const authorization = {Authorization: "Bearer " + key};
(async () => {
  const listed = await (await post("tools/list", params, {...listing, ...authorization})).json();
  const opened = await post("initialize", session, authorization);
  const refused = await post("tools/list", params, listing);
  return [
    listed.result.tools.map((tool) => tool.name).sort().join(),
    opened.headers.get("mcp-session-id") !== null,
    refused.status,
    refused.headers.get("www-authenticate") !== null,
  ];
})().then(done, (failure) => done(String(failure)));
"""


def test_a_page_in_a_browser(running: Running, page: str, driver: Chrome) -> None:
    def seen(origin: str) -> Any:
        driver.get(f"{origin}/index.html")
        return driver.execute_async_script(CALL, f"{running.url}/mcp", "right")

    assert seen(page) == ["x__echo,x__talk", True, 401, True]
    assert "Failed to fetch" in seen(page.replace("127.0.0.1", "localhost")), "another origin"
