"""A large or slow result reaches its client while it still comes from the server; nobody holds it."""

from __future__ import annotations

import concurrent.futures
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from mcp_gateway.upstream.wire import HELD_BYTES
from rules.clients import Client, Client2025, Client2026
from rules.conftest import Connect, Start
from rules.upstream import SECONDS, Exchange, Server2025, Server2026, tool, until

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
    """A server's answer that the test sends part by part: JSON, or with ``event`` one event of a stream."""

    def __init__(
        self, *servers: Server2026 | Server2025, event: bool = False, method: str = "tools/call", before: str = ""
    ) -> None:
        self.exchange: Exchange | None = None
        self._begun, self._over = threading.Event(), threading.Event()
        self._event = event
        self._before = before
        for server in servers:
            server.on[method] = self._take

    def _take(self, exchange: Exchange) -> None:
        handler = exchange.handler
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream" if self._event else "application/json")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.flush()
        exchange.answered = exchange.streaming = True
        self.exchange = exchange
        if self._before:
            exchange.notify(self._before, progressToken=exchange.meta["progressToken"], progress=1)
        if self._event:
            self._write(b"event: message\ndata: ")
        self._begun.set()
        self._over.wait(SECONDS)

    @property
    def id(self) -> Any:
        assert self._begun.wait(SECONDS)
        assert self.exchange
        return self.exchange.id

    def _write(self, data: bytes) -> None:
        assert self.exchange
        self.exchange.handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.exchange.handler.wfile.flush()

    def send(self, data: bytes) -> None:
        assert self._begun.wait(SECONDS)
        self._write(data)
        time.sleep(0.02)  # so that the parts come apart

    def end(self) -> None:
        assert self.exchange
        if self._event:
            self._write(b"\n\n")
        self.exchange.close()
        self._over.set()

    def leave(self) -> None:
        """Send nothing more."""
        assert self.exchange
        self.exchange.handler.close_connection = True
        self._over.set()

    def cut(self) -> None:
        assert self.exchange
        self.exchange.handler.connection.shutdown(socket.SHUT_RDWR)
        self.exchange.handler.close_connection = True
        self._over.set()


class Reading:
    """A request, a tool's call without ``params``, whose answer is read as it comes, in a thread."""

    def __init__(
        self, client: Client, name: str, method: str = "tools/call", params: Json | None = None, **options: Any
    ) -> None:
        self.parts: list[bytes] = []
        self.status = 0
        self.headers: Any = None
        self.failure: Exception | None = None
        self._leave = threading.Event()
        body, headers = client.request_parts(method, params or {"name": name, "arguments": {}}, id="mine", **options)
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
        text = self.text.decode()
        if self.headers["content-type"] == "text/event-stream":
            # One event, its data in one line; what came before it was looked at by the test.
            *_, text = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
        answer: Json = json.loads(text)
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


@pytest.mark.parametrize("event", [False, True], ids=["json", "event"])
def test_each_part_reaches_the_client_before_the_next_is_sent(
    client: Client, server: Server2026 | Server2025, event: bool
) -> None:
    answer, reading = Answer(server, event=event), Reading(client, name_of(server))
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


def test_structured_content_and_embedded_resources_are_not_held_either(
    client: Client, server: Server2026 | Server2025
) -> None:
    answer, reading = Answer(server), Reading(client, name_of(server))
    prefix = name_of(server).partition("__")[0]
    answer.send(b'{"id":%b,"jsonrpc":"2.0","result":{"content":[' % json.dumps(answer.id).encode())
    answer.send(b'{"type":"resource","resource":{"uri":"test://static","blob":"AAAA')
    reading.until(b"AAAA")
    answer.send(b'BBBB","mimeType":"a/b"}}],"structuredContent":{"rows":[{"a":"one ')
    reading.until(b"one ")
    answer.send(b'two"},\n{"a":3},')
    reading.until(b'{"a":3},')
    answer.send(b'null]}},"x":1}')
    answer.end()
    result = reading.whole()["result"]
    resource = {"uri": f"{prefix}+test://static", "blob": "AAAABBBB", "mimeType": "a/b"}
    assert result["content"] == [{"type": "resource", "resource": resource}]
    assert result["structuredContent"] == {"rows": [{"a": "one two"}, {"a": 3}, None]}
    served(client, server)


@pytest.mark.parametrize("event", [False, True], ids=["json", "event"])
def test_a_resource_that_is_not_to_be_cached_is_passed_on_while_it_comes(
    client: Client, server: Server2026 | Server2025, event: bool
) -> None:
    prefix = name_of(server).partition("__")[0]
    uri = f"{prefix}+test://static"
    answer = Answer(server, event=event, method="resources/read")
    reading = Reading(client, "", "resources/read", {"uri": uri})
    answer.send(b'{"jsonrpc":"2.0","id":%b,"result":{"ttlMs":-5,' % json.dumps(answer.id).encode())
    answer.send(b'"contents":[{"uri":"test://static","mimeType":"a/b","blob":"' + b"A" * HELD_BYTES)
    reading.until(b"AAAA")
    answer.send(b"BBBB")
    reading.until(b"BBBB")
    answer.send(b'"},{"text":"more","uri":"test://other"}]}}')
    answer.end()
    result = reading.whole()["result"]
    assert result["contents"] == [
        {"uri": uri, "mimeType": "a/b", "blob": "A" * HELD_BYTES + "BBBB"}, {"text": "more", "uri": f"{prefix}+test://other"}
    ]  # fmt: skip
    if isinstance(client, Client2026):
        assert (result["ttlMs"], result["cacheScope"]) == (0, "private"), "what a server may not say is mended"
    else:
        assert not {"ttlMs", "cacheScope", "resultType"} & set(result)
    served(client, server)


@pytest.mark.parametrize("event", [False, True], ids=["json", "event"])
@pytest.mark.parametrize("era", [Server2026, Server2025])
def test_a_safe_call_is_asked_again_where_a_small_answer_breaks_off(
    start: Start, era: type[Server2026] | type[Server2025], event: bool
) -> None:
    """Nothing of it was passed on yet, so whoever asked does not see that a replica died in the middle of it."""
    replicas = [era(), era()]
    running = start([{"name": "only", "urls": [each.url for each in replicas]}])
    client = Client2026(running.url, "/servers/only/mcp")
    try:
        until(lambda: "result" in client.ask("resources/read", {"uri": "test://static"}), "a resource")
        for each in replicas:
            each.forget()
        first = threading.Event()

        def read(exchange: Exchange) -> None:
            if first.is_set():
                return exchange.server.usual(exchange)
            first.set()
            handler, text = exchange.handler, b'{"jsonrpc":"2.0","id":%d,"result":{"contents":[{"uri":"test://static",'
            handler.send_response(200)
            handler.send_header("Content-Type", "text/event-stream" if event else "application/json")
            handler.send_header("Transfer-Encoding", "chunked")
            handler.end_headers()
            data = (b"data: " if event else b"") + text % exchange.id + b'"text":"half of'
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            handler.wfile.flush()
            time.sleep(0.1)
            return exchange.cut()

        for each in replicas:
            each.on["resources/read"] = read
        result = client.ask("resources/read", {"uri": "test://static"})["result"]
        assert result["contents"] == [{"uri": "test://static", "text": "text of test://static"}]
        assert sum(len(each.of("resources/read")) for each in replicas) == 2
    finally:
        for each in replicas:
            each.stop()


def test_after_progress_it_is_an_event_that_grows(client: Client, server: Server2026 | Server2025) -> None:
    """The client has an event stream by then."""
    answer = Answer(server, event=True, before="notifications/progress")
    reading = Reading(
        client, "", params={"name": name_of(server), "arguments": {}, "_meta": {"progressToken": "p"}}
    ) if isinstance(client, Client2025) else Reading(client, name_of(server), meta={"progressToken": "p"})  # fmt: skip
    answer.send(b'{"jsonrpc":"2.0","id":%b,"result":{' % json.dumps(answer.id).encode())
    reading.until(b"notifications/progress")
    answer.send(b'"content":[{"type":"text","text":"one ')
    reading.until(b"one ")
    answer.send(b'two"}],"structuredContent":{"a":\t[1,2')
    reading.until(b"[1,2")
    answer.send(b"]}}}")
    answer.end()
    result = reading.whole()["result"]
    assert reading.headers["content-type"] == "text/event-stream"
    assert result["content"] == [{"type": "text", "text": "one two"}]
    assert result["structuredContent"] == {"a": [1, 2]}
    assert reading.text.endswith(b"\n\n")
    served(client, server)


def test_replies_of_a_batch_are_held(legacy: Connect, server: Server2026 | Server2025) -> None:
    """They are one answer."""
    client: Client2025 = legacy(version="2025-03-26")
    name = name_of(server)
    answer = Answer(server)
    calls = [{"jsonrpc": "2.0", "id": "slow", "method": "tools/call", "params": {"name": name, "arguments": {}}},
             {"jsonrpc": "2.0", "id": "ping", "method": "ping"}]  # fmt: skip
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        batch = pool.submit(client.raw, calls, {**client.headers(), "Accept": "application/json"})
        answer.send(b'{"jsonrpc":"2.0","id":%b,"result":{' % json.dumps(answer.id).encode())
        answer.send(b'"content":[{"type":"text","text":"one ')
        answer.send(b'two"}]}}')
        answer.end()
        replies = {reply["id"]: reply["result"] for reply in batch.result(SECONDS).json()}
    assert replies == {"slow": {"content": [{"type": "text", "text": "one two"}]}, "ping": {}}


@pytest.mark.parametrize("era", [Server2026, Server2025])
def test_of_a_hedged_call_the_one_that_speaks_first_is_passed_on(
    start: Start, era: type[Server2026] | type[Server2025]
) -> None:
    """Whichever of the two that is; the other is left, and its replica is free."""
    replicas = [era(), era()]
    for each in replicas:
        each.tools = [{**tool("echo"), "annotations": {"readOnlyHint": True}}]
    settings = {"trust_annotations": True, "hedge": {"enabled": True}}
    running = start([{"name": "only", "urls": [each.url for each in replicas], **settings}])
    client = Client2026(running.url, "/servers/only/mcp")
    try:
        until(lambda: client.ask("tools/list")["result"]["tools"], "the list, which says that the call may be repeated")
        for _ in range(40):  # until it is known how long a call takes
            assert "result" in client.call("echo")
        for speaks in (0, 1):  # of the two, the one that was asked first, and the one that was asked second
            for each in replicas:
                each.forget()
            answers = [Answer(each) for each in replicas]
            reading = Reading(client, "echo")
            until(lambda answers=answers: all(answer.exchange for answer in answers), "both replicas are asked")
            order = sorted(range(2), key=lambda index: replicas[index].one("tools/call").id)
            answer, other = answers[order[speaks]], answers[order[1 - speaks]]
            answer.send(b'{"jsonrpc":"2.0","id":%b,"result":{"content":[' % json.dumps(answer.id).encode())
            answer.send(b'{"type":"text","text":"' + b" " * HELD_BYTES + b"one ")
            reading.until(b"one ")
            assert other.exchange
            assert other.exchange.gone(), "nobody wants this one any more"
            other.leave()
            answer.send(b'two"}]}}')
            answer.end()
            [text] = reading.whole()["result"]["content"]
            assert (text["type"], text["text"].strip()) == ("text", "one two")
    finally:
        for each in replicas:
            each.stop()


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


@pytest.mark.parametrize("event", [False, True], ids=["json", "event"])
@pytest.mark.parametrize("fault", ["cut", "garbage", "another id"])
def test_a_part_is_never_taken_for_the_whole(
    client: Client, server: Server2026 | Server2025, fault: str, event: bool
) -> None:
    """What was begun can be neither sent again nor replaced by an error: the connection breaks."""
    answer, reading = Answer(server, event=event), Reading(client, name_of(server))
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
