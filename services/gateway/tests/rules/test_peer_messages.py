"""Messages between replicas: who has not the key is not heard, and a peer that misbehaves holds up nobody."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from conftest import Running, free_port, wait_until

from mcp_gateway import config
from mcp_gateway.peers.envelope import GOOD_SECONDS, Envelope
from mcp_gateway.peers.peer import MAX_MESSAGE_BYTES, framed
from mcp_gateway.reader import ConfigError
from mcp_gateway.sessions import Sealer
from rules.clients import Client2025
from rules.conftest import Start
from rules.family import SEAL, Family
from rules.test_replication import heard, talk
from rules.upstream import Server2026, tool

pytestmark = pytest.mark.integration
Json = dict[str, Any]
Launch = Callable[..., Running]
PATH = "/internal/peers"
REFUSED = 'peer_messages_total{outcome="refused"}'
FAILED = 'peer_messages_total{outcome="failed"}'
KEYS = (SEAL,)


@pytest.fixture(scope="module")
def server() -> Iterator[Server2026]:
    server = Server2026()
    server.tools, server.tool["talks"] = [tool("talks")], talk
    yield server
    server.stop()


@pytest.fixture(scope="module")
def fleet(server: Server2026) -> list[Json]:
    return [{"name": "new", "url": server.url}]


@pytest.fixture(scope="module")
def family(launch: Launch, fleet: list[Json], tmp_path_factory: pytest.TempPathFactory) -> Family:
    return Family(launch, tmp_path_factory.mktemp("family"), fleet)


def send(family: Family, body: bytes) -> httpx2.Response:
    """Send the first replica a message."""
    return httpx2.post(f"{family.replicas[0].url}{PATH}", content=body, timeout=20)


# -- who may speak -----------------------------------------------------------------------------------------------------

FORGED: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "text": lambda: b'{"replica":"x","news":[]}',
    "noise": lambda: os.urandom(500),
    "a stranger's": lambda: Envelope((b"another key",)).request({"replica": "x"}),
    "changed": lambda: Envelope(KEYS).request({"replica": "x"})[:-1] + b"!",
    "cut": lambda: Envelope(KEYS).request({"replica": "x"})[:20],
    "an answer": lambda: Envelope(KEYS).answer({"replica": "x"}, b"0" * 12),
    "old": lambda: Envelope(KEYS, lambda: time.time() - GOOD_SECONDS - 5).request({"replica": "x"}),
    "of the future": lambda: Envelope(KEYS, lambda: time.time() + GOOD_SECONDS + 5).request({"replica": "x"}),
    "long": lambda: Envelope(KEYS).request({"replica": "x" * MAX_MESSAGE_BYTES}),
}


@pytest.mark.parametrize("kind", FORGED)
def test_what_no_replica_of_now_sent_is_refused(family: Family, kind: str) -> None:
    before = family.metric(0, REFUSED)
    answer = send(family, FORGED[kind]())
    assert answer.status_code == 403
    assert set(answer.json()) == {"error"}
    assert family.metric(0, REFUSED) == before + 1


def test_a_message_is_not_taken_twice(family: Family) -> None:
    message = Envelope(KEYS).request({"replica": "x"})
    assert [send(family, message).status_code for _ in range(3)] == [200, 403, 403]


def test_a_credential_of_a_client_is_of_no_use_there(family: Family) -> None:
    url = f"{family.replicas[0].url}{PATH}"
    assert httpx2.post(url, json={}, headers={"Authorization": f"Bearer {SEAL.decode()}"}).status_code == 403
    assert httpx2.get(url).status_code == 405


def test_a_gateway_without_peers_has_no_such_path(start: Start, fleet: list[Json]) -> None:
    alone = start(fleet)
    assert httpx2.post(f"{alone.url}{PATH}", content=Envelope(KEYS).request({})).status_code == 404


def test_what_is_not_understood_is_passed_over(family: Family) -> None:
    """A replica of another version may say more; what is understood counts."""
    client = family.client(0, "/servers/new/mcp")
    session = _session_of(client)
    news: list[Any] = [
        None,
        {"session": 1},
        {"session": "s", "principal": "p", "expires": 2**40, "fields": [["new kind"]]},
        {
            "session": session,
            "principal": "anonymous",
            "expires": 2**40,
            "fields": [[["level"], "error", 2**60, "x"]],
            "more": 1,
        },
    ]
    for cancels in (5, [None, [], ["/mcp", 1, 2], ["/none", "s", 1], ["/mcp", "s", {}], ["/mcp", "s", "t"]]):
        message = {"replica": "x", "news": news, "cancels": cancels, "more": {}}
        assert send(family, Envelope(KEYS).request(message)).status_code == 200
    assert heard(client) == ["error"]
    assert "Traceback" not in family.replicas[0].log.read_text()


def _session_of(client: Client2025) -> str:
    """The id inside the sealed session id, which replicas speak of."""
    return str(Sealer(KEYS, 60).open_value("session", client.session)[0])


def test_a_lot_is_whole_and_sealed_for_who_asked(family: Family) -> None:
    clients = [family.client(0, "/servers/new/mcp") for _ in range(3)]
    for client in clients:
        client.ask("logging/setLevel", {"level": "alert"})
    asked = Envelope(KEYS).request({"replica": "x", "lot": True})
    body = send(family, asked).content
    parts: list[Json] = []
    while body:
        size = int.from_bytes(body[:4])
        parts.append(Envelope(KEYS).open_answer(body[4 : 4 + size], asked, len(parts)))
        body = body[4 + size :]
    assert [part.get("done") for part in parts] == [*[None] * (len(parts) - 1), True]
    assert parts[-1]["whole"] is True
    known = {news["session"] for part in parts for news in part["news"]}
    assert {_session_of(client) for client in clients} <= known


# -- peers that misbehave ----------------------------------------------------------------------------------------------


def _serve(answer: Callable[[BaseHTTPRequestHandler, bytes], None]) -> ThreadingHTTPServer:
    """A peer that answers so."""

    class Handling(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            with contextlib.suppress(OSError):
                answer(self, body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Listening(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A gateway that hangs up is no matter."""

    server = Listening(("127.0.0.1", 0), Handling)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    return server


def _say(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    handler.send_response(status)
    handler.send_header("content-length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _lot(handler: BaseHTTPRequestHandler, body: bytes, lot: bytes) -> None:
    """Meet as a replica would, but answer so when asked for the lot."""
    keyed = Envelope(KEYS)
    asked = keyed.open_request(body)
    _say(handler, 200, lot if "lot" in asked else keyed.answer({"replica": "x"}, body))


def _endless(handler: BaseHTTPRequestHandler, _body: bytes) -> None:
    handler.send_response(200)
    handler.send_header("connection", "close")
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 65536)


def _part(body: bytes, message: Json, number: int = 0) -> bytes:
    return framed(Envelope(KEYS).answer(message, body, number))


STRANGERS: dict[str, Callable[[BaseHTTPRequestHandler, bytes], None]] = {
    "silent": lambda handler, _body: time.sleep(60),
    "an error": lambda handler, _body: _say(handler, 500, b"<html>"),
    "junk": lambda handler, _body: _say(handler, 200, os.urandom(300)),
    "an echo": lambda handler, body: _say(handler, 200, body),
    "endless": _endless,
    "hangs up": lambda handler, _body: handler.connection.shutdown(socket.SHUT_RDWR),
    "a lot of junk": lambda handler, body: _lot(handler, body, b"\xff" * 100),
    "a lot cut off": lambda handler, body: _lot(handler, body, _part(body, {"news": []})[:-3]),
    "a lot without an end": lambda handler, body: _lot(handler, body, _part(body, {"news": []})),
    "a lot of another order": lambda handler, body: _lot(handler, body, _part(body, {"done": True}, 1)),
}


def test_peers_that_misbehave_hold_up_nobody(launch: Launch, fleet: list[Json], tmp_path: Path) -> None:
    """All of them at once, beside one that does not."""
    strangers = {kind: _serve(answer) for kind, answer in STRANGERS.items()}
    urls = {kind: f"http://127.0.0.1:{stranger.server_address[1]}" for kind, stranger in strangers.items()}
    try:
        family = Family(launch, tmp_path, fleet, strangers=tuple(urls.values()))
        client = family.client(0, "/servers/new/mcp")
        client.ask("logging/setLevel", {"level": "error"})
        family.settle()
        assert heard(family.at(1, client)) == ["error"]
        for kind, url in urls.items():
            wait_until(lambda url=url: said(family.replicas[0], url), f"{kind} is noticed")
        assert family.metric(0, 'peers{state="known"}') == 1 + len(urls)
        assert family.metric(0, 'peers{state="reachable"}') == 1
        family.kill(0)
        family.again(0)
        wait_until(lambda: heard(client) == ["error"], "the other replica is asked, as those are of no use")
        assert family.replicas[0].stop() == 0
        assert "Traceback" not in family.replicas[0].log.read_text()
    finally:
        for stranger in strangers.values():
            stranger.shutdown()
            stranger.server_close()


def test_a_replica_that_starts_is_not_ready_before_it_has_asked(
    launch: Launch, fleet: list[Json], tmp_path: Path
) -> None:
    """But for some seconds at most: nobody here answers."""
    stranger = _serve(STRANGERS["silent"])
    (tmp_path / "seal").write_bytes(SEAL)
    port, path = free_port(), tmp_path / "gateway.yaml"
    document = {
        "listen": {"port": port},
        "servers": fleet,
        "sessions": {"key_files": [str(tmp_path / "seal")]},
        "peers": {"urls": [f"http://127.0.0.1:{stranger.server_address[1]}"]},
    }
    path.write_text(yaml.safe_dump(document))
    gateway = launch(sys.executable, "-m", "mcp_gateway", "serve", "--config", str(path), port=port)
    states: list[tuple[int, str]] = []

    def ready() -> bool:
        answer = httpx2.get(f"{gateway.url}/readyz")
        states.append((answer.status_code, answer.text))
        return answer.status_code == 200

    wait_until(ready, "it is ready")
    stranger.shutdown()
    stranger.server_close()
    assert (503, "waiting for what its peers know") in states


def said(replica: Running, url: str) -> bool:
    """Whether its log tells that this peer fails."""
    lines = replica.log.read_text().splitlines()
    return any("a peer cannot be told" in line and f'"{url}"' in line for line in lines)


def test_a_replica_with_another_key_is_neither_told_nor_heard(
    launch: Launch, fleet: list[Json], tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    port, path = free_port(), tmp_path / "stranger.yaml"
    family = Family(launch, tmp_path / "one", fleet, strangers=(f"http://127.0.0.1:{port}",))
    (tmp_path / "other").write_text("another key")
    document = {
        "listen": {"port": port},
        "servers": fleet,
        "sessions": {"key_files": [str(tmp_path / "other")]},
        "peers": {"urls": [family.replicas[0].url]},
    }
    path.write_text(yaml.safe_dump(document))
    stranger = launch(sys.executable, "-m", "mcp_gateway", "serve", "--config", str(path), port=port)
    wait_until(lambda: httpx2.get(f"{stranger.url}/readyz").status_code == 200, "it is ready all the same")
    family.until(0, REFUSED, 1)
    wait_until(lambda: "sealed with one of our session keys" in stranger.log.read_text(), "its log says why")
    wait_until(lambda: "HTTP 403" in family.replicas[0].log.read_text(), "so does ours")
    assert family.metric(0, 'peers{state="reachable"}') == 1


def test_a_gateway_whose_name_leads_to_itself_alone_is_alone(start: Start, fleet: list[Json], tmp_path: Path) -> None:
    """As ``tasks.<service>`` does while there is one task."""
    (tmp_path / "seal").write_bytes(SEAL)
    keys = {"key_files": [str(tmp_path / "seal")]}
    alone = start(fleet, sessions=keys, peers={"dns": {"name": "localhost"}})

    def known() -> bool:
        return 'mcp_gateway_peers{state="known"} 0.0' in httpx2.get(f"{alone.url}/metrics").text

    wait_until(known, "it knows itself")


# -- the configuration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ({"urls": ["http://10.0.0.2:8080/mcp"]}, "peers.urls"),
        ({"urls": ["https://10.0.0.2"]}, "peers.urls"),
        ({"urls": ["10.0.0.2"]}, "peers.urls"),
        ({"urls": "http://10.0.0.2:8080"}, "peers.urls"),
        ({"dns": {"port": 8080}}, "peers.dns.name"),
        ({"dns": {"name": "tasks.x", "port": 0}}, "peers.dns.port"),
        ({"dns": {"name": "tasks.x", "path": "/mcp"}}, "peers.dns.path"),
        ({"dns": {"name": "tasks.x"}, "urls": ["http://10.0.0.2:8080"]}, "peers"),
        ({"url": "http://10.0.0.2:8080"}, "peers.url"),
    ],
)
def test_mistakes_in_the_section(tmp_path: Path, section: Json, key: str) -> None:
    (tmp_path / "seal").write_bytes(SEAL)
    servers = [{"name": "x", "url": "http://127.0.0.1:1/mcp"}]
    with pytest.raises(ConfigError) as raised:
        config.parse({"servers": servers, "sessions": {"key_files": [str(tmp_path / "seal")]}, "peers": section})
    assert [error.partition(":")[0] for error in raised.value.errors] == [key]


def test_peers_need_session_keys() -> None:
    servers = [{"name": "x", "url": "http://127.0.0.1:1/mcp"}]
    with pytest.raises(ConfigError, match=r"peers: sessions\.key_files is missing"):
        config.parse({"servers": servers, "peers": {"dns": {"name": "tasks.mcp_gateway"}}})


def test_the_port_is_that_of_the_listener(tmp_path: Path) -> None:
    (tmp_path / "seal").write_bytes(SEAL)
    parsed = config.parse(
        {
            "listen": {"port": 8123},
            "servers": [{"name": "x", "url": "http://127.0.0.1:1/mcp"}],
            "sessions": {"key_files": [str(tmp_path / "seal")]},
            "peers": {"dns": {"name": "tasks.mcp_gateway"}},
        }
    )
    assert parsed.peers.dns is not None
    assert (parsed.peers.dns.name, parsed.peers.dns.port) == ("tasks.mcp_gateway", 8123)
