"""The gateway as a resource server (2026-07-28 basic/authorization), before it looks at any message."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx2
import jwt
import pytest
from conftest import Running, free_port
from cryptography.hazmat.primitives.asymmetric import ec

from rules.clients import ACCEPT, LEGACY, Client2026
from rules.conftest import Start
from rules.upstream import Listening, Server2026

pytestmark = pytest.mark.integration
Json = dict[str, Any]
PRIVATE = ec.generate_private_key(ec.SECP256R1())
BASE = "https://mcp.example.com"
PATHS = ("/mcp", "/servers/new/mcp")


class Issuer:
    """An authorization server: its keys, and tokens that they sign."""

    def __init__(self) -> None:
        key = jwt.algorithms.ECAlgorithm.to_jwk(PRIVATE.public_key(), as_dict=True)
        body = json.dumps({"keys": [{**key, "kid": "one", "use": "sig", "alg": "ES256"}]}).encode()

        class Keys(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = Listening(("127.0.0.1", 0), Keys)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def token(self, **claims: Any) -> str:
        """A token that is good, but for ``claims``."""
        now = int(time.time())
        usual = {"iss": self.url, "sub": "somebody", "aud": BASE, "iat": now, "exp": now + 600, "scope": "read call"}
        body = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        return jwt.encode(body, PRIVATE, "ES256", {"kid": "one", "typ": "at+jwt"})


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="module")
def guarded(start: Start, issuer: Issuer) -> Iterator[tuple[Running, Server2026]]:
    """A gateway that takes the issuer's tokens, of two scopes, before one server."""
    server = Server2026()
    oauth = {"issuer": issuer.url, "jwks_url": f"{issuer.url}/keys", "required_scopes": ["read", "call"]}
    auth = {"resource_url": BASE, "oauth": {**oauth, "audience": [BASE]}}
    yield start([{"name": "new", "url": server.url}], auth=auth), server
    server.stop()


def challenge_of(answer: httpx2.Response) -> dict[str, str]:
    """The parameters of the one challenge."""
    (header,) = answer.headers.get_list("www-authenticate")
    assert header.startswith("Bearer ")
    return dict(re.findall(r'([a-z_]+)="([^"]*)"', header))


def documents(running: Running, challenge: dict[str, str]) -> Json:
    """The document that a challenge leads to, fetched here instead of at the public address."""
    url = httpx2.URL(challenge["resource_metadata"])
    assert str(url).startswith(f"{BASE}/.well-known/oauth-protected-resource")
    answer = httpx2.get(running.url + url.path)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    return dict(answer.json())


@pytest.mark.requirement("MCP26-AUTH-01", "MCP26-AUTH-07", "MCP26-SEC-03")
@pytest.mark.parametrize("path", PATHS)
def test_the_challenge_leads_to_the_document(guarded: tuple[Running, Server2026], issuer: Issuer, path: str) -> None:
    running, server = guarded
    server.forget()
    answer = Client2026(running.url, path).post("tools/list")
    assert answer.status_code == 401
    found = documents(running, challenge_of(answer))
    assert found["resource"] == BASE + path
    assert found["authorization_servers"] == [issuer.url]
    assert set(found.get("scopes_supported", ["read", "call"])) == {"read", "call"}
    assert "offline_access" not in answer.headers["www-authenticate"] + json.dumps(found)
    assert server.of("tools/list") == []


@pytest.mark.requirement("MCP26-AUTH-01")
@pytest.mark.parametrize("verb", ["GET", "POST", "DELETE"])
def test_every_verb_is_challenged(guarded: tuple[Running, Server2026], verb: str) -> None:
    headers = {"Accept": ACCEPT, "MCP-Protocol-Version": LEGACY, "Mcp-Session-Id": "x"}
    answer = httpx2.request(verb, f"{guarded[0].url}/mcp", headers=headers, content=b"" if verb != "POST" else b"{}")
    assert answer.status_code == 401
    assert "resource_metadata" in challenge_of(answer)


@pytest.mark.requirement("MCP26-AUTH-01")
def test_the_document_at_the_root(guarded: tuple[Running, Server2026], issuer: Issuer) -> None:
    found = httpx2.get(f"{guarded[0].url}/.well-known/oauth-protected-resource")
    assert (found.status_code, found.json()["authorization_servers"]) == (200, [issuer.url])


@pytest.mark.requirement("MCP26-SEC-03")
def test_a_good_token_opens(guarded: tuple[Running, Server2026], issuer: Issuer) -> None:
    answer = Client2026(guarded[0].url, key=issuer.token()).post("tools/list")
    assert answer.status_code == 200
    assert "www-authenticate" not in answer.headers


@pytest.mark.requirement("MCP26-AUTH-02")
@pytest.mark.parametrize("scope", ["", "read", "read other"])
def test_missing_scopes_are_all_named_at_once(guarded: tuple[Running, Server2026], issuer: Issuer, scope: str) -> None:
    running, server = guarded
    server.forget()
    answer = Client2026(running.url, key=issuer.token(scope=scope or None)).post("tools/list")
    assert answer.status_code == 403
    challenge = challenge_of(answer)
    assert challenge["error"] == "insufficient_scope"
    assert set(challenge["scope"].split()) == {"read", "call"}
    assert documents(running, challenge)["resource"].startswith(BASE)
    assert server.of("tools/list") == []


@pytest.mark.requirement("MCP26-AUTH-03")
@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://other.example.com"},
        {"aud": None},
        {"aud": []},
        {"aud": f"{BASE}.evil.example.com"},
        {"iss": "https://other.example.com"},
        {"exp": int(time.time()) - 3600},
        {"exp": None},
    ],
    ids=["other", "none", "empty", "alike", "issuer", "expired", "endless"],
)
@pytest.mark.parametrize("path", PATHS)
def test_a_token_for_others_is_refused(
    guarded: tuple[Running, Server2026], issuer: Issuer, path: str, claims: Json
) -> None:
    running, server = guarded
    server.forget()
    answer = Client2026(running.url, path, key=issuer.token(**claims)).post("tools/list")
    assert answer.status_code == 401
    challenge = challenge_of(answer)
    assert challenge["error"] == "invalid_token"
    assert "resource_metadata" in challenge
    assert server.of("tools/list") == []


@pytest.mark.requirement("MCP26-AUTH-04")
def test_a_token_in_the_query_is_no_token(guarded: tuple[Running, Server2026], issuer: Issuer) -> None:
    client = Client2026(guarded[0].url)
    client.path = f"/mcp?access_token={issuer.token()}"
    assert client.post("tools/list").status_code == 401


@pytest.mark.requirement("MCP26-AUTH-05")
def test_a_token_stays_here(guarded: tuple[Running, Server2026], issuer: Issuer) -> None:
    running, server = guarded
    server.forget()
    token = issuer.token()
    assert "result" in Client2026(running.url, key=token).call("new__echo")
    sent = server.one("tools/call")
    assert "authorization" not in sent.headers
    assert token not in json.dumps([sent.headers, sent.message])


@pytest.mark.requirement("MCP26-AUTH-01")
def test_without_an_authorization_server_there_is_no_document(start: Start, keys: Json) -> None:
    """RFC 9728 demands that a document names one, and clients would look for it in vain."""
    running = start([{"name": "gone", "url": f"http://127.0.0.1:{free_port()}/mcp"}], ready=False, auth=keys)
    assert httpx2.get(f"{running.url}/.well-known/oauth-protected-resource").status_code == 404
    answer = Client2026(running.url).post("tools/list")
    assert answer.status_code == 401
    assert "resource_metadata" not in challenge_of(answer)
