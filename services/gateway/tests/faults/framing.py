"""Faults of HTTP: lengths, chunks, headers and status lines that are wrong or contradict each other."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json

from faults.fault import BROKEN, LARGE, LATE, NOT_HTTP, NOT_RPC, Behave, fault
from faults.timing import whole
from faults.wire import Exchange

# HTTP is the same in both eras.
ONE = ("modern",)
BAD = NOT_HTTP + "|" + NOT_RPC + "|" + BROKEN + "|" + LATE


def _poison(x: Exchange) -> bytes:
    """A second answer to the same request: whoever takes it took another call's answer."""
    body = json.dumps({"jsonrpc": "2.0", "id": x.id, "result": x.result("POISON")}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def _body(x: Exchange) -> bytes:
    return json.dumps(x.response()).encode()


@fault("error", BAD, eras=ONE)
async def bad_chunk_size(x: Exchange, _: Behave) -> None:
    await x.head(length=None)
    await x.raw(b"zz\r\n" + _body(x) + b"\r\n0\r\n\r\n")


@fault("error", BAD, eras=ONE)
async def chunk_longer_than_said(x: Exchange, _: Behave) -> None:
    await x.head(length=None)
    await x.raw(b"5\r\n" + _body(x) + b"\r\n0\r\n\r\n")


@fault("error", BAD, eras=ONE)
async def chunk_size_overflows(x: Exchange, _: Behave) -> None:
    await x.head(length=None)
    await x.raw(b"fffffffffffffffff\r\n" + _body(x) + b"\r\n0\r\n\r\n")


@fault("error", BAD, eras=ONE)
async def negative_chunk_size(x: Exchange, _: Behave) -> None:
    await x.head(length=None)
    await x.raw(b"-1\r\n" + _body(x) + b"\r\n0\r\n\r\n")


@fault("either", BAD + "|" + LARGE, eras=ONE)
async def endless_chunk_extension(x: Exchange, _: Behave) -> None:
    await x.head(length=None)
    await x.raw(b"%x;" % len(_body(x)) + b"a" * 1_000_000 + b"\r\n" + _body(x) + b"\r\n0\r\n\r\n")


@fault("result", eras=ONE)
async def chunk_trailers(x: Exchange, _: Behave) -> None:
    await x.head(length=None)
    await x.chunk(_body(x))
    await x.raw(b"0\r\nX-Trailer: 1\r\n\r\n")


@fault("either", BAD, eras=ONE)
async def both_length_and_chunked(x: Exchange, _: Behave) -> None:
    """RFC 9112, section 6.3: chunked wins, or it is an error; the connection must not be used again."""
    await x.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n")
    await x.raw(b"Transfer-Encoding: chunked\r\n\r\n")
    await x.chunk(_body(x))
    await x.end()


@fault("error", BAD, eras=ONE)
async def two_lengths(x: Exchange, _: Behave) -> None:
    body = _body(x)
    await x.head(200, "application/json", f"Content-Length: {len(body) + 1}", length=len(body))
    await x.raw(body)


@fault("error", BAD, eras=ONE)
async def negative_length(x: Exchange, _: Behave) -> None:
    await x.head(length=-5)
    await x.raw(_body(x))


@fault("error", BAD, eras=ONE)
async def length_is_no_number(x: Exchange, _: Behave) -> None:
    await x.raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: many\r\n\r\n" + _body(x))


@fault("either", BAD, eras=ONE)
async def answer_and_poison(x: Exchange, _: Behave) -> None:
    """A second answer behind the first: the next call on the connection must not take it."""
    await x.raw(whole(x) + _poison(x))


@fault("either", BAD, eras=ONE)
async def answer_and_poison_later(x: Exchange, _: Behave) -> None:
    """The same, while the connection is idle."""
    await x.raw(whole(x))
    await asyncio.sleep(0.01)
    await x.raw(_poison(x))


@fault("error", BAD, eras=ONE)
async def length_too_short(x: Exchange, _: Behave) -> None:
    """What is left over looks like the next answer."""
    await x.head(length=20)
    await x.raw(_body(x)[:20] + _poison(x))


@fault("result", eras=ONE)
async def interim_answers(x: Exchange, _: Behave) -> None:
    """RFC 9110, section 15.2: any number of 1xx may precede the answer."""
    await x.raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
    await x.raw(b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n" + whole(x))


@fault("error", BAD, times=3, eras=ONE)
async def interim_answers_for_ever(x: Exchange, _: Behave) -> None:
    while True:
        await x.raw(b"HTTP/1.1 102 Processing\r\n\r\n")
        await asyncio.sleep(0.01)


@fault("error", BAD, eras=ONE)
async def switching_protocols(x: Exchange, _: Behave) -> None:
    await x.raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    await x.hang()


@fault("error", BAD, eras=ONE)
async def no_http(x: Exchange, _: Behave) -> None:
    await x.raw(b"SSH-2.0-OpenSSH_9.2\r\n")
    await x.hang()


@fault("error", BAD, eras=ONE)
async def http_2(x: Exchange, _: Behave) -> None:
    """A SETTINGS frame, as a server answers that takes the connection for HTTP/2."""
    await x.raw(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
    await x.hang()


@fault("error", BAD, eras=ONE)
async def status_is_no_number(x: Exchange, _: Behave) -> None:
    await x.raw(b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n")


@fault("either", BAD, eras=ONE)
async def status_999(x: Exchange, _: Behave) -> None:
    await x.json(x.response(), 999)


@fault("result", eras=ONE)
async def http_1_0_until_close(x: Exchange, _: Behave) -> None:
    """RFC 9112, section 6.3: without a length the body ends with the connection."""
    await x.raw(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n" + _body(x))
    x.close()


@fault("either", BAD, eras=ONE)
async def bare_line_feeds(x: Exchange, _: Behave) -> None:
    await x.raw(whole(x).replace(b"\r\n", b"\n"))


@fault("either", BAD, eras=ONE)
async def folded_header(x: Exchange, _: Behave) -> None:
    await x.raw(whole(x).replace(b"Content-Type", b"X-Folded: a\r\n b\r\nContent-Type"))


@fault("either", BAD, eras=ONE)
async def header_without_a_colon(x: Exchange, _: Behave) -> None:
    await x.raw(whole(x).replace(b"Content-Type", b"no colon here\r\nContent-Type"))


@fault("either", BAD, eras=ONE)
async def nul_in_a_header(x: Exchange, _: Behave) -> None:
    await x.raw(whole(x).replace(b"Content-Type", b"X-Nul: a\x00b\r\nContent-Type"))


@fault("either", BAD + "|" + LARGE, eras=ONE)
async def ten_thousand_headers(x: Exchange, _: Behave) -> None:
    await x.raw(whole(x).replace(b"Content-Type", b"X-Many: 1\r\n" * 10_000 + b"Content-Type"))


@fault("result", eras=ONE)
async def content_type_in_capitals(x: Exchange, _: Behave) -> None:
    await x.body(_body(x), 200, "Application/JSON; Charset=UTF-8")


_numbers = itertools.cycle(itertools.product((b"\xb2", b"9" * 5000), (False, True)))


@fault("result")
async def keep_alive_is_no_number(x: Exchange, _: Behave) -> None:
    """A digit to ``str.isdigit`` that is none to ``int``, and more digits than that takes; whole and in chunks."""
    number, chunked = next(_numbers)
    line = b"Keep-Alive: timeout=%b\r\n" % number
    if not chunked:
        await x.raw(whole(x).replace(b"Content-Type", line + b"Content-Type"))
        return
    await x.raw(b"HTTP/1.1 200 OK\r\n%bContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" % line)
    await x.chunk(_body(x))
    await x.end()


@fault("error", BAD, eras=ONE)
async def html(x: Exchange, _: Behave) -> None:
    await x.body(b"<html><body>It works!</body></html>", 200, "text/html")


@fault("either", BAD, eras=ONE)
async def json_without_a_type(x: Exchange, _: Behave) -> None:
    await x.body(_body(x), 200, "")


@fault("either", BAD, eras=ONE)
async def json_called_a_stream(x: Exchange, _: Behave) -> None:
    await x.body(_body(x), 200, "text/event-stream")


@fault("either", BAD, eras=ONE)
async def stream_called_json(x: Exchange, _: Behave) -> None:
    await x.body(b"data: " + _body(x) + b"\n\n")


@fault("result", eras=ONE)
async def cookies(x: Exchange, behave: Behave) -> None:
    """Cookies are neither kept nor handed on: they would tie principals together."""
    await x.json(x.response(), 200, "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2")


@fault("either", times=0)
async def say(x: Exchange, _: Behave) -> None:
    """Answers to the byte what the call's arguments say; ``@ID@`` stands for the request's id."""
    arguments = x.params.get("arguments") or {}
    await x.raw(base64.b64decode(arguments["say"]).replace(b"@ID@", str(x.id).encode()))
    if arguments.get("close"):
        x.close()
