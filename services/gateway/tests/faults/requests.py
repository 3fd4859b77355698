"""Bad requests as bytes, and what may come back: HTTP first, then JSON-RPC."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from conftest import MODERN

from faults.client import META, good, modern, post

CLOSE = 0  # stands among the statuses for "closed without an answer"


@dataclass(frozen=True)
class Bad:
    """Bytes to send, and the statuses that may answer them.

    Attributes:
        single: at most one answer may come: what follows in the bytes is not a request.
        port: ``PORT`` in the bytes stands for the gateway's.
    """

    name: str
    data: bytes
    statuses: tuple[int, ...]
    single: bool = True
    verb: str = "POST"


REFUSED = (400,)
SECOND = good(666)
_json = json.dumps(modern("tools/call", {"name": "good__look", "arguments": {}})[0]).encode()
_routing = [f"MCP-Protocol-Version: {MODERN}", "Mcp-Method: tools/call", "Mcp-Name: good__look"]


def _request(*lines: str | bytes, body: bytes = _json, first: bytes = b"POST /mcp HTTP/1.1") -> bytes:
    """A request with nothing but the given lines after ``Host`` and the routing headers."""
    every = [first, b"Host: 127.0.0.1", b"Content-Type: application/json"]
    every += [line.encode("latin-1") if isinstance(line, str) else line for line in (*_routing, *lines)]
    return b"\r\n".join(every) + b"\r\n\r\n" + body


_chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_json), _json)
_length = f"Content-Length: {len(_json)}"

# RFC 9112, sections 6.1 and 6.3, and 11.2 (request smuggling): where two readers could see different requests,
# the message is refused and the connection closed.
SMUGGLING = [
    Bad("length and chunked", _request(_length, "Transfer-Encoding: chunked", body=_chunked + SECOND), REFUSED),
    Bad("chunked and length", _request("Transfer-Encoding: chunked", _length, body=_chunked + SECOND), REFUSED),
    Bad("two lengths", _request(_length, "Content-Length: 5", body=_json + SECOND), REFUSED),
    Bad("two lengths, the short one first", _request("Content-Length: 5", _length, body=_json + SECOND), REFUSED),
    Bad("a list of lengths", _request(f"Content-Length: {len(_json)}, 5", body=_json + SECOND), REFUSED),
    Bad("length with a sign", _request(f"Content-Length: +{len(_json)}", body=_json + SECOND), REFUSED),
    Bad("negative length", _request("Content-Length: -1", body=_json + SECOND), REFUSED),
    Bad("hexadecimal length", _request(f"Content-Length: {len(_json):#x}", body=_json + SECOND), REFUSED),
    Bad("length of 2**64 + n", _request(f"Content-Length: {2**64 + len(_json)}", body=_json + SECOND), (400, 413)),
    Bad("empty length", _request("Content-Length:", body=_json + SECOND), REFUSED),
    Bad("length in two words", _request("Content-Length: 1 0", body=_json + SECOND), REFUSED),
    Bad("chunked twice", _request("Transfer-Encoding: chunked, chunked", body=_chunked + SECOND), (400, 501)),
    Bad("chunked not last", _request("Transfer-Encoding: chunked, identity", body=_chunked + SECOND), (400, 501)),
    Bad("unknown coding", _request("Transfer-Encoding: xchunked", body=_chunked + SECOND), (400, 501)),
    Bad("coding with a vertical tab", _request(b"Transfer-Encoding: \x0bchunked", body=_chunked + SECOND), (400, 501)),
    Bad("coding in quotes", _request('Transfer-Encoding: "chunked"', body=_chunked + SECOND), (400, 501)),
    Bad("space before the colon", _request(f"Content-Length : {len(_json)}", body=_json + SECOND), REFUSED),
    Bad("tab before the colon", _request("Transfer-Encoding\t: chunked", body=_chunked + SECOND), REFUSED),
    Bad("folded coding", _request("Transfer-Encoding:\r\n chunked", body=_chunked + SECOND), (400, 501)),
    Bad("chunk size is no number", _request("Transfer-Encoding: chunked", body=b"zz\r\n" + SECOND), REFUSED),
    Bad("chunk size is negative", _request("Transfer-Encoding: chunked", body=b"-5\r\n" + SECOND), REFUSED),
    Bad("chunk size with 0x", _request("Transfer-Encoding: chunked", body=b"0x5\r\n" + SECOND), REFUSED),
    Bad("chunk size of 17 digits", _request("Transfer-Encoding: chunked", body=b"f" * 17 + b"\r\nx"), (400, 413)),
    Bad(
        "chunk without its end", _request("Transfer-Encoding: chunked", body=b"1\r\n{}\r\n0\r\n\r\n" + SECOND), REFUSED
    ),
    Bad("chunk ended by LF", _request("Transfer-Encoding: chunked", body=b"1\n{\n0\n\n" + SECOND), (400,)),
]

HEADERS = [
    Bad("two hosts", _request("Host: evil.example", _length), REFUSED),
    Bad("no host", post(_json, *_routing, host=None), REFUSED),
    Bad("another host", post(_json, *_routing, host=b"evil.example"), (403, 421)),
    Bad("empty host", post(_json, *_routing, host=b""), (400, 403)),
    Bad("host of control characters", post(_json, *_routing, host=b"127.0.0.1\x01"), (400, 403)),
    Bad("origin of another site", _request(_length, "Origin: https://evil.example"), (403,)),
    Bad("origin null", _request(_length, "Origin: null"), (403,)),
    Bad("NUL in a value", _request(_length, b"X-Nul: a\x00b"), REFUSED),
    Bad("CR in a value", _request(_length, b"X-Cr: a\rb"), REFUSED),
    Bad("no colon", _request(_length, "nothing"), REFUSED),
    Bad("no name", _request(_length, ": x"), REFUSED),
    Bad("name of odd characters", _request(_length, b"X(\xff): y"), REFUSED),
    Bad("folded header", _request(_length, "X-Folded: a\r\n b"), (200, 400)),
    Bad("space before the first header", b"POST /mcp HTTP/1.1\r\n Host: x\r\n\r\n", REFUSED),
    Bad("header of 1 MB", _request(_length, "X-Long: " + "a" * 1_000_000), (400, 431, CLOSE)),
    Bad("10,000 headers", _request(_length, *("X-Many: 1",) * 10_000), (400, 431, CLOSE)),
    Bad("header name of 100 kB", _request(_length, "X" * 100_000 + ": 1"), (400, 431, CLOSE)),
    Bad("method twice", _request(_length, "Mcp-Method: tools/list"), REFUSED),
    Bad("name twice", _request(_length, "Mcp-Name: good__look"), REFUSED),
    Bad("version twice", _request(_length, f"MCP-Protocol-Version: {MODERN}"), REFUSED),
    Bad("name of other bytes", _request(_length, b"Mcp-Name: \xff\xfe"), REFUSED),
    Bad("name of bad base64", _request(_length, "Mcp-Name: =?base64?!!!?="), REFUSED),
    Bad("compressed body", _request(_length, "Content-Encoding: gzip"), (400, 415)),
    Bad("expects a miracle", _request(_length, "Expect: miracle"), (200, 417, 400)),
    Bad("bare line feeds", _request(_length, body=b"").replace(b"\r\n", b"\n") + _json, (200, 400)),
]

TARGETS = [
    Bad("verb " + verb[:8].decode("latin-1"), post(_json, *_routing, verb=verb), statuses, verb=verb.decode("latin-1"))
    for verb, statuses in {
        b"PUT": (405,),
        b"PATCH": (405,),
        b"OPTIONS": (405, 403, 204),
        b"TRACE": (405, 501),
        b"HEAD": (405,),
        b"FOO": (400, 405, 501),
        b"post": (400, 405, 501),
        b"G\xcbT": (400, 405, 501),
        b"A" * 10_000: (400, 405, 414, 431, 501),
    }.items()
] + [
    Bad("target " + path[:40].decode("latin-1"), post(_json, *_routing, path=path), statuses)
    for path, statuses in {
        b"/\xff\xfe": (400, 404),
        b"/%ff%fe": (400, 404),
        b"/%zz": (400, 404),
        b"/%": (400, 404),
        b"/%00": (400, 404),
        b"/mcp%00": (400, 404),
        b"/mcp\x00": (400,),
        b"/mcp\x01": (400, 404),
        b"/servers/good/mcp%2f..": (400, 404),
        b"/servers/good/..%2f..%2fstatus": (400, 404),
        b"/servers/%2e%2e/mcp": (400, 404),
        b"/%2e%2e/mcp": (400, 404),
        b"/servers/../mcp": (400, 404, 200),
        b"/servers/" + b"a" * 5000 + b"/mcp": (404, 414, 400, 431),
        b"/" + b"a" * 1_000_000: (404, 414, 400, 431, CLOSE),
        b"//mcp": (400, 404, 200),
        b"mcp": (400, 404),
        b"*": (400, 404, 405),
        b"?": (400, 404),
        b"": (400, 404),
        b"127.0.0.1:80": (400, 404),
        b"http://evil.example/mcp": (400, 403, 404, 421),
        b"http://": (400, 403, 404),
        b"http://[::1/mcp": (400, 403, 404),
    }.items()
]

VERSIONS = [
    Bad("HTTP/2.0", post(_json, *_routing, version=b"HTTP/2.0"), (400, 505, CLOSE)),
    Bad("HTTP/9.9", post(_json, *_routing, version=b"HTTP/9.9"), (400, 505, CLOSE)),
    Bad("HTTP/1.1x", post(_json, *_routing, version=b"HTTP/1.1x"), (400, 505)),
    Bad("http/1.1", post(_json, *_routing, version=b"http/1.1"), (400, 505)),
    Bad("HTTP/0.9", b"GET /healthz\r\n\r\n", (400, 505, CLOSE)),
    Bad("preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 9, (400, 405, 505, CLOSE)),
    Bad("TLS", bytes.fromhex("16030100c8010000c40303") + b"\x07" * 200, (400, CLOSE)),
    Bad("SSH", b"SSH-2.0-OpenSSH_9.2\r\n", (400, CLOSE)),
    Bad("zeros", b"\x00" * 100_000, (400, 431, CLOSE)),
]

EVERY = [*SMUGGLING, *HEADERS, *TARGETS, *VERSIONS]


# -- JSON-RPC ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Message:
    """A body, and the codes and statuses that may answer it; ``echo`` is the id that must come back."""

    name: str
    body: bytes
    codes: tuple[int, ...]
    statuses: tuple[int, ...] = (400,)
    echo: Any = None


PARSE, INVALID, UNKNOWN, PARAMS = -32700, -32600, -32601, -32602
MISMATCH = -32020
SERVED = 0  # stands among the codes for a result: what is odd concerns the server, not the gateway


def _call(**changes: Any) -> bytes:
    body = json.loads(_json)
    body.update(changes)
    return json.dumps({key: value for key, value in body.items() if value is not ...}).encode()


def _params(**changes: Any) -> bytes:
    return _call(params={"name": "good__look", "arguments": {}, "_meta": META, **changes})


# JSON-RPC 2.0, sections 4 and 5; MCP basic/index: an id is a string or an integer and never null.
MESSAGES = [
    Message("nothing", b"", (PARSE, INVALID)),
    Message("blanks", b"   ", (PARSE, INVALID)),
    Message("half of it", _json[: len(_json) // 2], (PARSE,)),
    Message("more behind it", _json + b"x", (PARSE,)),
    Message("two of them", _json + b"\n" + _json, (PARSE,)),
    Message("no UTF-8", _json.replace(b"good", b"\xff\xfe"), (PARSE,)),
    Message("UTF-16", _json.decode().encode("utf-16"), (PARSE,)),
    Message("BOM", b"\xef\xbb\xbf" + _json, (PARSE,)),
    Message("NUL behind it", _json + b"\x00", (PARSE,)),
    Message("NaN", _call(id=float("nan")), (PARSE, INVALID)),
    Message("infinity", _params(arguments={"a": float("inf")}), (PARSE,)),
    Message("100,000 levels", _json.replace(b"{}", b"[" * 100_000 + b"]" * 100_000), (PARSE,)),
    Message("100,000 open levels", b"[" * 100_000, (PARSE,)),
    Message("lone surrogate", _json.replace(b"good__look", b"\\ud800"), (PARSE, MISMATCH)),
    Message("null", b"null", (INVALID,)),
    Message("number", b"5", (INVALID,)),
    Message("string", b'"x"', (INVALID,)),
    Message("batch of none", b"[]", (INVALID,)),
    Message("batch of one", b"[" + _json + b"]", (INVALID,)),
    Message("batch of a thousand", b"[" + b",".join([_json] * 1000) + b"]", (INVALID,)),
    Message("no jsonrpc", _call(jsonrpc=...), (INVALID,)),
    Message("jsonrpc 1.0", _call(jsonrpc="1.0"), (INVALID,)),
    Message("jsonrpc as a number", _call(jsonrpc=2.0), (INVALID,)),
    Message("method is a number", _call(method=5), (INVALID,)),
    Message("method is null", _call(method=None), (INVALID,)),
    Message("method is a list", _call(method=["tools/call"]), (INVALID,)),
    Message("method is empty", _call(method=""), (INVALID, UNKNOWN, MISMATCH), (400, 404), echo=1),
    Message("method and result", _call(result={}), (INVALID, PARAMS, SERVED), (400, 200), echo=1),
    Message("id is null", _call(id=None), (INVALID,)),
    Message("id is a fraction", _call(id=1.5), (INVALID,)),
    Message("id is true", _call(id=True), (INVALID,)),
    Message("id is a list", _call(id=[1]), (INVALID,)),
    Message("id is an object", _call(id={"a": 1}), (INVALID,)),
    Message("params is a list", _call(params=[1]), (INVALID, PARAMS), echo=1),
    Message("params is a string", _call(params="x"), (INVALID, PARAMS), echo=1),
    Message("params is null", _call(params=None), (INVALID, PARAMS), echo=1),
    Message("no params", _call(params=...), (INVALID, PARAMS), echo=1),
    Message("_meta is a list", _params(_meta=[]), (INVALID, PARAMS), echo=1),
    Message("_meta is null", _params(_meta=None), (INVALID, PARAMS), echo=1),
    Message("version is a number", _params(_meta={**META, next(iter(META)): 5}), (INVALID, PARAMS, MISMATCH), echo=1),
    Message("capabilities are a list", _params(_meta={**META, list(META)[1]: []}), (INVALID, PARAMS), echo=1),
    Message("name is a number", _params(name=5), (INVALID, PARAMS, MISMATCH), (200, 400), echo=1),
    Message("name is a list", _params(name=["good__look"]), (INVALID, PARAMS, MISMATCH), (200, 400), echo=1),
    Message("name is null", _params(name=None), (INVALID, PARAMS, MISMATCH), (200, 400), echo=1),
    Message("name of 1 MB", _params(name="a" * 1_000_000), (INVALID, PARAMS, MISMATCH), (200, 400), echo=1),
    Message("arguments are a list", _params(arguments=[1]), (INVALID, PARAMS, SERVED), (200, 400), echo=1),
    Message("arguments are a string", _params(arguments="x"), (INVALID, PARAMS, SERVED), (200, 400), echo=1),
    Message(
        "progress token is a list",
        _params(_meta={**META, "progressToken": [1]}),
        (PARAMS, SERVED),
        (200, 400),
        echo=1,
    ),
    Message(
        "log level is a list",
        _params(_meta={**META, "io.modelcontextprotocol/logLevel": [1]}),
        (PARAMS, SERVED),
        (200, 400),
        echo=1,
    ),
]
# Ids that are odd and allowed: they come back as they were.
IDS: list[Any] = [0, -1, 2**31, 2**53, 2**63 - 1, -(2**63), "", "1", "\x00", "é\U0001f600", "a" * 100_000, 'quo"te\\']
# Beyond 64 bits an integer may be refused; it must not come back as another number.
HUGE_IDS: list[Any] = [2**63, 2**64, -(2**64), 10**40]
