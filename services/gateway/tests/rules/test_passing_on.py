"""A large or slow result in JSON reaches its client while it still comes from the server; nobody holds it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from rules.clients import Client, Client2025, Client2026
from rules.conftest import Connect
from rules.upstream import SECONDS, Exchange, Server2025, Server2026, until

pytestmark = pytest.mark.integration
Json = dict[str, Any]
BIG = 3 * 1024 * 1024


@pytest.fixture(params=["new", "old"])
def server(request: pytest.FixtureRequest) -> Server2026 | Server2025:
    """A server of either era."""
    found: Server2026 | Server2025 = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["modern", "legacy"])
def client(request: pytest.FixtureRequest) -> Client:
    """A client of either era, at the merged endpoint."""
    connect: Connect = request.getfixturevalue(request.param)
    made: Client = connect()
    return made


def name_of(server: Server2026 | Server2025, tool: str = "echo") -> str:
    return f"{'new' if isinstance(server, Server2026) else 'old'}__{tool}"


class Answer:
    """A server's answer that the test sends part by part."""

    def __init__(self, server: Server2026 | Server2025, *, length: int | None = None) -> None:
        self.exchange: Exchange | None = None
        self._begun, self._over = threading.Event(), threading.Event()
        self._length = length
        server.tool["echo"] = self._take

    def _take(self, exchange: Exchange) -> None:
        handler = exchange.handler
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        if self._length is None:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", str(self._length))
        handler.end_headers()
        handler.wfile.flush()
        exchange.answered = True
        self.exchange = exchange
        self._begun.set()
        self._over.wait(SECONDS)

    @property
    def id(self) -> Any:
        assert self._begun.wait(SECONDS)
        assert self.exchange
        return self.exchange.id

    def send(self, data: bytes) -> None:
        assert self._begun.wait(SECONDS)
        assert self.exchange
        if self._length is None:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        self.exchange.handler.wfile.write(data)
        self.exchange.handler.wfile.flush()
        time.sleep(0.02)  # so that the parts come apart

    def end(self) -> None:
        assert self.exchange
        if self._length is None:
            self.exchange.handler.wfile.write(b"0\r\n\r\n")
            self.exchange.handler.wfile.flush()
        self._over.set()

    def cut(self) -> None:
        assert self.exchange
        self.exchange.handler.connection.shutdown(socket.SHUT_RDWR)
        self.exchange.handler.close_connection = True
        self._over.set()


class Reading:
    """A call whose answer is read as it comes, in a thread."""

    def __init__(self, client: Client, name: str, **options: Any) -> None:
        self.parts: list[bytes] = []
        self.status = 0
        self.headers: Any = None
        self.failure: Exception | None = None
        self._leave = threading.Event()
        body, headers = client.request_parts("tools/call", {"name": name, "arguments": {}}, id="mine", **options)
        self._request = (client, json.dumps(body).encode(), headers)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        client, body, headers = self._request
        base = {"base_url": client.http.base_url, "headers": client.http.headers}
        try:
            with (
                httpx2.Client(**base, timeout=20) as http,
                http.stream("POST", client.path, content=body, headers=headers) as response,
            ):
                self.status, self.headers = response.status_code, response.headers
                for part in response.iter_raw():
                    self.parts.append(part)
                    if self._leave.is_set():
                        return
        except httpx2.HTTPError as failure:
            self.failure = failure

    @property
    def text(self) -> bytes:
        return b"".join(self.parts)

    def until(self, part: bytes) -> None:
        until(lambda: part in self.text, f"{part!r} at the client, which has {self.text[-200:]!r}")

    def whole(self) -> Json:
        self._thread.join(SECONDS)
        assert self.failure is None
        answer: Json = json.loads(self.text)
        return answer

    def broken(self) -> None:
        self._thread.join(SECONDS)
        assert self.failure is not None, self.text[-300:]

    def leave(self) -> None:
        self._leave.set()


def served(client: Client, server: Server2026 | Server2025) -> Json:
    """What a plain call gives afterwards: nothing is left behind."""
    server.forget()
    answer = client.call(name_of(server))
    assert "result" in answer, answer
    return answer


def test_each_part_reaches_the_client_before_the_next_is_sent(client: Client, server: Server2026 | Server2025) -> None:
    answer, reading = Answer(server), Reading(client, name_of(server))
    identity = json.dumps(answer.id).encode()
    answer.send(b'{"jsonrpc":"2.0",')
    answer.send(b'"id":%b,"result":{"content":[{"type":"text","text":"one ' % identity)
    reading.until(b"one ")
    answer.send(b"two ")
    reading.until(b"two ")
    answer.send(b'three"},')
    reading.until(b"three")
    answer.send(b'{"type":"resource_link","name":"x","uri":"test://static"}]')
    answer.send(b',"resultType":"complete","isError":false}}')
    answer.end()
    result = reading.whole()
    assert (result["jsonrpc"], result["id"]) == ("2.0", "mine")
    content = result["result"]["content"]
    assert content[0] == {"type": "text", "text": "one two three"}
    prefix = name_of(server).partition("__")[0]
    assert content[1] == {"type": "resource_link", "name": "x", "uri": f"{prefix}+test://static"}
    assert result["result"]["isError"] is False
    assert ("resultType" in result["result"]) is isinstance(client, Client2026)
    assert reading.headers["content-type"] == "application/json"
    served(client, server)


def test_a_large_one_of_known_length(client: Client, server: Server2026 | Server2025) -> None:
    message = {"jsonrpc": "2.0", "id": 0, "result": {"content": [{"type": "text", "text": "x" * BIG}]}}

    def big(exchange: Exchange) -> None:
        exchange.send(200, {**message, "id": exchange.id})

    server.tool["echo"] = big
    answer = client.call(name_of(server))
    assert answer["result"]["content"] == [{"type": "text", "text": "x" * BIG}]
    served(client, server)


def test_what_asks_for_input_is_held(modern: Connect, new: Server2026) -> None:
    """A slow answer that is no result of a tool goes the usual way."""
    client = modern()
    answer, reading = Answer(new), Reading(client, "new__echo", capabilities={"elicitation": {}})
    answer.send(b'{"jsonrpc":"2.0","id":%d,' % answer.id)
    answer.send(b'"result":{"resultType":"input_required","requestState":"s",')
    question = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {"type": "object"}}}
    answer.send(b'"inputRequests":{"q":%b}}}' % json.dumps(question).encode())
    answer.end()
    assert reading.whole()["result"]["resultType"] == "input_required"


def test_a_slow_error_is_held(client: Client, server: Server2026 | Server2025) -> None:
    answer, reading = Answer(server), Reading(client, name_of(server))
    answer.send(b'{"jsonrpc":"2.0","id":%b,' % json.dumps(answer.id).encode())
    answer.send(b'"error":{"code":-32602,')
    answer.send(b'"message":"no such thing"}}')
    answer.end()
    assert reading.whole()["error"] == {"code": -32602, "message": "no such thing"}


@pytest.mark.parametrize("fault", ["cut", "garbage", "another id"])
def test_a_part_is_never_taken_for_the_whole(client: Client, server: Server2026 | Server2025, fault: str) -> None:
    """What was begun can be neither sent again nor replaced by an error: the connection breaks."""
    answer, reading = Answer(server), Reading(client, name_of(server))
    identity = answer.id
    answer.send(b'{"jsonrpc":"2.0","result":{')
    answer.send(b'"content":[{"type":"text","text":"one ')
    reading.until(b"one ")
    if fault == "cut":
        answer.cut()
    else:
        other = json.dumps(f"not {identity}").encode()
        answer.send(b'"}]},"id":%b}' % other if fault == "another id" else b'"}}}}}')
        answer.end()
    reading.broken()
    assert len(server.of("tools/call")) == 1
    served(client, server)


def test_a_client_of_2026_that_leaves_cancels_the_call(modern: Connect, server: Server2026 | Server2025) -> None:
    client = modern()
    answer, reading = Answer(server), Reading(client, name_of(server))
    answer.send(b'{"jsonrpc":"2.0","id":%b,' % json.dumps(answer.id).encode())
    answer.send(b'"result":{"content":[{"type":"text","text":"one ')
    reading.until(b"one ")
    reading.leave()
    answer.send(b"two ")
    assert answer.exchange
    assert answer.exchange.gone()
    answer.cut()
    served(client, server)


def test_a_client_that_does_not_read_holds_the_server_up(legacy: Connect, old: Server2025) -> None:
    """Its slowness reaches the server: nothing piles up in between."""
    client: Client2025 = legacy()
    sent = [0]
    done = threading.Event()

    def endless(exchange: Exchange) -> None:
        handler = exchange.handler
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        exchange.answered = True
        head = b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"type":"text","text":"' % exchange.id
        part = b"y" * 65536
        for data in parts(head, part):
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            sent[0] += len(data)
            if done.is_set():
                break
        handler.connection.shutdown(socket.SHUT_RDWR)

    def parts(head: bytes, part: bytes) -> Iterator[bytes]:
        yield head
        for _ in range(48 * 1024 * 1024 // len(part)):
            yield part

    old.tool["echo"] = endless
    body, headers = client.request_parts("tools/call", {"name": "old__echo", "arguments": {}}, id=1)
    url = client.http.base_url
    with socket.create_connection((url.host, url.port)) as raw:
        text = json.dumps(body).encode()
        lines = {**dict(client.http.headers), **headers, "host": f"127.0.0.1:{url.port}", "content-length": len(text)}
        raw.sendall(b"POST /mcp HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()).encode() + b"\r\n")
        raw.sendall(text)
        until(lambda: sent[0] > 1024 * 1024, "the server sends")
        settled = [-1]

        def stands() -> bool:
            before, settled[0] = settled[0], sent[0]
            time.sleep(0.5)
            return before == sent[0]

        until(stands, "the server is held up")
        assert sent[0] < 32 * 1024 * 1024
        done.set()
    served(legacy(), old)
