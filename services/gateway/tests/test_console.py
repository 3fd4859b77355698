"""The console by itself: who gets in, what is refused, what is drawn, what clients are told."""

# ruff: noqa: E501 (tables of cases, one a line)

from __future__ import annotations

import asyncio
import json
import re
import shlex
import tomllib
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import pytest
from console_site import IMAGE, KEY, OTHER_KEY, SCRIPT, SEALING_KEY, Canned

from mcp_gateway.console import Console, clients, fleet
from mcp_gateway.console.session import MAX_ATTEMPTS, SESSION_SECONDS, Sessions
from mcp_gateway.net.messages import Request, Response
from mcp_gateway.principal import Principal
from mcp_gateway.protocol import Json

URL = "https://fleet.example"
FORM = {"content-type": "application/x-www-form-urlencoded"}


class Visitor:
    """A browser without scripts: keeps cookies, reads the token out of the page."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.cookies: dict[str, str] = {}
        self.set: list[str] = []

    def send(self, method: str, target: str, body: bytes = b"", **headers: str) -> Response:
        path, _, query = target.partition("?")
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookies:
            given["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        answer = asyncio.run(self.console.handle(Request(method, path, query, given, body)))
        assert answer is not None
        self.set = [value for name, value in answer.headers if name == "Set-Cookie"]
        for cookie in self.set:
            name, _, value = cookie.split(";")[0].partition("=")
            if "Max-Age=0" in cookie:
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = value
        return answer

    def token(self, target: str = "/console") -> str:
        found = re.search(
            r'name="(?:console-)?token" (?:content|value)="([0-9a-f]+)"', self.send("GET", target).body.decode()
        )
        assert found
        return found[1]

    def sign_in(self, key: str = KEY, **headers: str) -> Response:
        body = urlencode({"token": self.token(), "key": key}).encode()
        return self.send("POST", "/console/session", body, **{**FORM, **headers})

    def call(self, asked: Any, **headers: str) -> Response:
        body = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
        return self.send("POST", "/console/api/call", body, **{"content_type": "application/json", **headers})


@pytest.fixture
def backend() -> Canned:
    return Canned()


@pytest.fixture
def visitor(backend: Canned, monkeypatch: pytest.MonkeyPatch) -> Visitor:
    monkeypatch.setattr("mcp_gateway.console.session.WRONG_KEY_SECONDS", 0)
    return Visitor(Console(backend, SEALING_KEY, URL))


# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/mcp", "/consoles", "/servers/console/mcp"])
def test_other_paths_are_not_its_own(visitor: Visitor, path: str) -> None:
    assert asyncio.run(visitor.console.handle(Request("GET", path))) is None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/console/none", 404), ("GET", "/console/console.py", 404), ("GET", "/console/page.html", 404),
        ("GET", "/console/../console.py", 404), ("PUT", "/console", 405), ("GET", "/console/session", 405),
        ("POST", "/console/api/status", 405), ("GET", "/console/page.js", 200), ("HEAD", "/console/page.css", 200),
    ],
)  # fmt: skip
def test_paths(visitor: Visitor, method: str, path: str, status: int) -> None:
    assert visitor.send(method, path).status == status


def test_every_answer_is_guarded(visitor: Visitor) -> None:
    for path in ("/console", "/console/page.js", "/console/none", "/console/api/status"):
        headers = dict(visitor.send("GET", path).headers)
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "Referrer-Policy" in headers
        assert headers.get("Cache-Control") == "no-store" or path != "/console"


def test_files_are_asked_for_anew_only_when_changed(visitor: Visitor) -> None:
    tag = dict(visitor.send("GET", "/console/page.css").headers)["ETag"]
    assert visitor.send("GET", "/console/page.css", if_none_match=tag).status == 304


def test_pages_hold_no_inline_script_or_style(visitor: Visitor) -> None:
    visitor.sign_in()
    found: list[tuple[str, dict[str, str | None]]] = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs)))

    Tags().feed(visitor.send("GET", "/console").body.decode())
    assert [attributes.get("src") for tag, attributes in found if tag == "script"] == ["/console/page.js"]
    assert not [tag for tag, _ in found if tag == "style"]
    assert not [name for _, attributes in found for name in attributes if name == "style" or name.startswith("on")]
    links = [
        value for _, attributes in found for name, value in attributes.items() if name in ("src", "href", "action")
    ]
    assert all(value and value.startswith(("/console", "#")) for value in links), "nothing is loaded from elsewhere"


# -- signing in --------------------------------------------------------------------------------------------------------


def test_sign_in_use_and_sign_out(visitor: Visitor) -> None:
    answer = visitor.send("GET", "/console")
    assert answer.status == 401
    assert b'type="password"' in answer.body
    answer = visitor.sign_in(sec_fetch_site="same-origin", origin=URL)
    assert (answer.status, dict(answer.headers)["Location"]) == (303, "/console")
    [cookie] = visitor.set
    for attribute in ("HttpOnly", "SameSite=Strict", "Path=/console", "Secure", f"Max-Age={SESSION_SECONDS}"):
        assert f"; {attribute}" in cookie
    assert KEY not in cookie
    page = visitor.send("GET", "/console")
    assert page.status == 200
    assert KEY.encode() not in page.body
    assert visitor.send("GET", "/console/api/status").status == 200
    body = urlencode({"token": visitor.token()}).encode()
    assert visitor.send("POST", "/console/session/end", body, **FORM).status == 303
    assert "mcp_console_session" not in visitor.cookies
    assert visitor.send("GET", "/console/api/status").status == 401


@pytest.mark.parametrize("key", ["wrong", "", "é", "x" * 4000])
def test_a_wrong_key(visitor: Visitor, key: str) -> None:
    assert visitor.sign_in(key).status == 401
    assert "mcp_console_session" not in visitor.cookies


def test_a_bearer_key_needs_no_session(visitor: Visitor) -> None:
    assert visitor.send("GET", "/console/api/status", authorization=f"Bearer {KEY}").status == 200
    assert visitor.send("GET", "/console/api/status", authorization="Bearer wrong").status == 401
    answer = visitor.call({"name": "time__get_time", "arguments": {"timezone": "UTC"}}, authorization=f"bearer {KEY}")
    assert json.loads(answer.body)["result"]["structuredContent"] == {"asked": {"timezone": "UTC"}}


def test_without_keys_there_is_no_sign_in() -> None:
    visitor = Visitor(Console(Canned(keys={}), SEALING_KEY, "http://127.0.0.1:8080"))
    page = visitor.send("GET", "/console")
    assert page.status == 200
    assert b"Sign out" not in page.body
    assert b"YOUR_API_KEY" not in page.body
    assert not any("Secure" in cookie for cookie in visitor.set)
    answer = visitor.call({"name": "ai_memory__wipe"}, x_console_token=visitor.token())
    assert answer.status == 200
    assert visitor.call({"name": "ai_memory__wipe"}).status == 403, "a forged request has no token"


def test_a_withdrawn_key_ends_its_sessions(visitor: Visitor, backend: Canned) -> None:
    visitor.sign_in()
    del backend.keys[KEY]
    assert visitor.send("GET", "/console/api/status").status == 401


def test_a_key_that_changes_hands_ends_its_sessions(visitor: Visitor, backend: Canned) -> None:
    visitor.sign_in()
    backend.keys[KEY] = "mallory"
    assert visitor.send("GET", "/console/api/status").status == 401


def test_altered_foreign_and_old_cookies(visitor: Visitor) -> None:
    visitor.sign_in()
    good = visitor.cookies["mcp_console_session"]
    foreign = Sessions((b"another key, of 32 bytes, really",), True).cookie(KEY, Principal("alice"))
    old = Sessions((SEALING_KEY,), True).cookie(KEY, Principal("alice"), now=0)
    altered = ("B" if good[40] == "A" else "A").join((good[:40], good[41:]))
    for bad in ("", "x", "é", good[:-4], altered, *(one.partition("=")[2].split(";")[0] for one in (foreign, old))):
        visitor.cookies["mcp_console_session"] = bad
        assert visitor.send("GET", "/console/api/status").status == 401, bad
    visitor.cookies["mcp_console_session"] = good
    assert visitor.send("GET", "/console/api/status").status == 200


def test_sealing_keys_rotate(backend: Canned) -> None:
    new = b"the next key, also of 32 bytes.."
    visitor = Visitor(Console(backend, SEALING_KEY, URL))
    visitor.sign_in()
    token = visitor.token()
    visitor.console = Console(backend, (new, SEALING_KEY), URL)
    assert visitor.call({"name": "time__picture"}, x_console_token=token).status == 200
    visitor.console = Console(backend, new, URL)
    assert visitor.send("GET", "/console/api/status").status == 401


def test_a_short_sealing_key_is_refused(backend: Canned) -> None:
    with pytest.raises(ValueError, match="less than 16 bytes"):
        Console(backend, b"short", URL)
    with pytest.raises(ValueError, match="less than 16"):
        Console(backend, (), URL)


def test_guesses_are_few_and_slow(backend: Canned) -> None:
    """Of many wrong attempts at once, all but a few are refused at once, and those few are held."""
    visitor = Visitor(Console(backend, SEALING_KEY, URL))
    body = urlencode({"token": visitor.token(), "key": "wrong"}).encode()
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    held: list[float] = []

    async def attempts() -> list[Response | None]:
        loop = asyncio.get_running_loop()
        started = loop.time()

        async def attempt() -> Response | None:
            answer = await visitor.console.handle(
                Request("POST", "/console/session", "", {"content-type": FORM["content-type"], "cookie": cookie}, body)
            )
            if answer and answer.status == 401:
                held.append(loop.time() - started)
            return answer

        return await asyncio.gather(*(attempt() for _ in range(MAX_ATTEMPTS + 5)))

    statuses = [answer.status for answer in asyncio.run(attempts()) if answer]
    assert (statuses.count(401), statuses.count(429)) == (MAX_ATTEMPTS, 5)
    assert min(held) >= 0.4
    assert visitor.sign_in().status == 303, "the gate is open again"


# -- forged requests ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"}, {"origin": "null"}, {"origin": "http://[::1"}, {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"}, {"origin": "https://fleet.example:444"},
    ],
)  # fmt: skip
def test_other_origins_are_refused(visitor: Visitor, backend: Canned, headers: dict[str, str]) -> None:
    assert visitor.sign_in(**headers).status == 403
    visitor.sign_in()
    assert visitor.call({"name": "ai_memory__wipe"}, x_console_token=visitor.token(), **headers).status == 403
    assert backend.calls == []


def test_tokens_belong_to_a_browser_and_a_principal(visitor: Visitor, backend: Canned) -> None:
    before = visitor.token()
    visitor.sign_in()
    other = Visitor(visitor.console)
    other.sign_in(OTHER_KEY)
    for token in ("", "x", "é", before, other.token()):
        assert visitor.call({"name": "ai_memory__wipe"}, x_console_token=token).status == 403, token
    assert backend.calls == []
    assert visitor.call({"name": "ai_memory__wipe"}, x_console_token=visitor.token(), origin=URL).status == 200


# -- tools -------------------------------------------------------------------------------------------------------------


def test_calls(visitor: Visitor, backend: Canned) -> None:
    visitor.sign_in()
    token = visitor.token()
    for asked in (b"{", b"[]", {"name": 1}, {"name": "x", "arguments": []}):
        assert visitor.call(asked, x_console_token=token).status == 400
    assert visitor.call({"name": "x"}, x_console_token=token, content_type="text/plain").status == 415
    assert backend.calls == []
    failed = json.loads(visitor.call({"name": "notion__create_page"}, x_console_token=token).body)
    assert failed["error"] == {"code": -31001, "message": "no replica of notion answers", "data": {"retryAfterMs": 800}}
    assert failed["duration_ms"] >= 0
    assert backend.calls == [("alice", {"name": "notion__create_page", "arguments": {}})]


def test_lists_are_read_to_their_end(visitor: Visitor, backend: Canned) -> None:
    visitor.sign_in()
    assert len(json.loads(visitor.send("GET", "/console/api/tools").body)["tools"]) == len(backend.tools) == 6


def test_a_list_that_never_ends(visitor: Visitor, backend: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(_principal: Principal, _method: str, _params: Json) -> Json:
        return {"tools": [{"name": "x"}], "nextCursor": "again"}

    monkeypatch.setattr(backend, "request", endless)
    visitor.sign_in()
    assert "goes on" in json.loads(visitor.send("GET", "/console/api/tools").body)["problem"]


def test_answers_that_are_hard_to_write(visitor: Visitor, backend: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    async def odd(_principal: Principal, method: str, _params: Json) -> Json:
        return (
            {"tools": [{"name": "\ud800", "description": "\ud800"}]} if method == "tools/list" else {"content": 1 << 70}
        )

    monkeypatch.setattr(backend, "request", odd)
    visitor.sign_in()
    answer = visitor.call({"name": "x"}, x_console_token=visitor.token())
    assert json.loads(answer.body)["result"] == {"content": 1 << 70}
    assert visitor.send("GET", "/console").status == 200


# -- the page ----------------------------------------------------------------------------------------------------------


def test_text_of_servers_is_escaped(visitor: Visitor) -> None:
    visitor.sign_in()
    for target in ("/console", "/console?q=script", "/console?q=" + IMAGE):
        page = visitor.send("GET", target).body.decode()
        assert SCRIPT not in page
        assert IMAGE not in page


def test_the_search_works_without_scripts(visitor: Visitor) -> None:
    visitor.sign_in()
    page = visitor.send("GET", "/console?q=FORGET").body.decode()
    assert page.count('class="tool"') == 1
    assert "ai_memory__wipe" in page
    assert "No tool matches" in visitor.send("GET", "/console?q=nothing").body.decode()


def test_an_unknown_server_has_no_configuration(visitor: Visitor) -> None:
    visitor.sign_in()
    assert visitor.send("GET", "/console/api/clients?server=none").status == 404


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"servers": None},
        {"servers": [{}]},
        {
            "servers": [{"name": "x", "replicas": [{}], "queue": {}, "latency_ms": {}, "pins": {}}],
            "recent_errors": [{}],
        },
    ],
)
def test_whatever_is_missing_is_a_dash(visitor: Visitor, backend: Canned, status: Json) -> None:
    backend.state = status
    visitor.sign_in()
    page = visitor.send("GET", "/console")
    assert page.status == 200
    assert "None" not in page.body.decode()


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], "unknown"), (["healthy", "healthy"], "healthy"), (["healthy", "ejected"], "degraded"), (["ejected"], "down"),
        (["draining"], "degraded"), (["probation"], "degraded"), (["ejected", "other"], "down"), (["other"], "unknown"),
    ],
)  # fmt: skip
def test_state_of_a_server(states: list[str], expected: str) -> None:
    assert fleet.state_of_server({"replicas": [{"state": state} for state in states]}) == expected


def test_a_server_that_sleeps_is_not_down() -> None:
    asleep = {"name": "ocr", "replicas": [], "asleep": True}
    assert fleet.state_of_server(asleep) == "asleep"
    shown = str(fleet.summary({"servers": [asleep]}))
    assert "1 of 1" in shown and "bad" not in shown


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.0 ms"), (4.25, "4.3 ms"), (9.99, "10.0 ms"), (41, "41 ms"), (1234.5, "1,235 ms"), (12_400, "12 s"), (None, "–"), (True, "–")],
)  # fmt: skip
def test_durations(value: Any, text: str) -> None:
    assert fleet.milliseconds(value) == text


# -- clients -----------------------------------------------------------------------------------------------------------


def _configured(server: str = "", keyed: bool = True, url: str = URL) -> dict[str, Any]:
    """Every client's configuration, read as the client would."""
    readers = {"json": json.loads, "toml": tomllib.loads, "sh": shlex.split}
    made = clients.configurations(clients.target(url, server, keyed))
    return {one["id"]: readers[one["language"]](one["text"]) for one in made}


def test_configurations_hold_endpoint_and_placeholder() -> None:
    url, bearer = f"{URL}/mcp", "Bearer YOUR_API_KEY"
    headers = {"Authorization": bearer}
    found = _configured()
    assert found["claude-code"] == [
        "claude",
        "mcp",
        "add",
        "--transport",
        "http",
        "fleet",
        url,
        "--header",
        f"Authorization: {bearer}",
    ]
    desktop = found["claude-desktop"]["mcpServers"]["fleet"]
    assert desktop["args"] == [
        "-y",
        "mcp-remote",
        url,
        "--transport",
        "http-only",
        "--header",
        "Authorization:${AUTHORIZATION}",
    ]
    assert desktop["env"] == {"AUTHORIZATION": bearer}
    assert found["cursor"]["mcpServers"]["fleet"] == {"url": url, "headers": headers}
    assert found["gemini"]["mcpServers"]["fleet"] == {"httpUrl": url, "headers": headers}
    assert found["windsurf"]["mcpServers"]["fleet"] == {"serverUrl": url, "headers": headers}
    assert found["codex"]["mcp_servers"]["fleet"] == {"url": url, "bearer_token_env_var": "MCP_GATEWAY_KEY"}
    vscode = found["vscode"]
    assert vscode["servers"]["fleet"] == {
        "type": "http",
        "url": url,
        "headers": {"Authorization": "Bearer ${input:fleet-key}"},
    }
    assert vscode["inputs"][0] | {"description": ""} == {
        "type": "promptString",
        "id": "fleet-key",
        "description": "",
        "password": True,
    }
    curl = found["curl"]
    assert curl[:3] == ["curl", "-sS", url]
    assert json.loads(curl[curl.index("-d") + 1])["method"] == "tools/list"


@pytest.mark.parametrize("server", ["", "ai_memory", "a-b"])
@pytest.mark.parametrize("keyed", [True, False])
def test_configurations_parse(server: str, keyed: bool) -> None:
    for url in (URL, "http://10.0.0.1:8080/", "https://[::1]/it's"):
        for name, configuration in _configured(server, keyed, url).items():
            text = json.dumps(configuration)
            assert url.rstrip("/") + (f"/servers/{server}/mcp" if server else "/mcp") in text
            assert ("YOUR_API_KEY" in text) == (keyed and name not in ("vscode", "codex"))
            assert keyed or ("Authorization" not in text and "bearer" not in text)


def test_plain_http_is_allowed_explicitly() -> None:
    """mcp-remote refuses http:// of other machines unless told."""
    assert "--allow-http" in _configured(url="http://10.0.0.1:8080")["claude-desktop"]["mcpServers"]["fleet"]["args"]
