"""Faults of JSON-RPC and of event streams: HTTP is right, what it carries is not."""

from __future__ import annotations

import asyncio
import itertools
import json

from faults.fault import BROKEN, LATE, NOT_RPC, Behave, fault
from faults.wire import Exchange, Json

WRONG = NOT_RPC + "|" + BROKEN + "|" + LATE  # a response that is none: refused at once, or waited on until late
_own = itertools.count(1)


@fault("error", WRONG)
async def wrong_id(x: Exchange, _: Behave) -> None:
    await x.json(x.response() | {"id": 987654321})


@fault("error", WRONG)
async def id_as_a_string(x: Exchange, _: Behave) -> None:
    await x.json(x.response() | {"id": f"{x.id}"})


@fault("error", WRONG)
async def no_id(x: Exchange, _: Behave) -> None:
    await x.json({"jsonrpc": "2.0", "result": x.result()})


@fault("error", WRONG)
async def null_id(x: Exchange, _: Behave) -> None:
    await x.json(x.response() | {"id": None})


@fault("error", WRONG)
async def wrong_id_in_a_stream(x: Exchange, _: Behave) -> None:
    await x.stream()
    await x.event(x.response() | {"id": 987654321})
    await x.end()


@fault("either", WRONG)
async def another_response_first(x: Exchange, _: Behave) -> None:
    """A response to nobody's request is dropped or refused; nobody takes it for theirs."""
    await x.stream()
    await x.event({"jsonrpc": "2.0", "id": 987654321, "result": x.result("POISON")})
    await x.event(x.response())
    await x.end()


@fault("result")
async def two_responses(x: Exchange, _: Behave) -> None:
    """The first is the response."""
    await x.stream()
    await x.event(x.response())
    await x.event(x.response(x.result("POISON")))
    await x.end()


@fault("error", WRONG)
async def two_json_values(x: Exchange, _: Behave) -> None:
    one = json.dumps(x.response()).encode()
    await x.body(one + b"\n" + one)


@fault("error", WRONG)
async def batch(x: Exchange, _: Behave) -> None:
    """2025-06-18 and later have no batches (changelog)."""
    await x.json([x.response()])


@fault("error", WRONG)
async def request_in_place_of_a_response(x: Exchange, _: Behave) -> None:
    await x.json({"jsonrpc": "2.0", "id": x.id, "method": "tools/call", "params": {}})


@fault("error", WRONG)
async def no_json(x: Exchange, _: Behave) -> None:
    await x.body(b'{"jsonrpc": "2.0", "id": 1, "result": {')


@fault("error", WRONG)
async def no_json_in_a_stream(x: Exchange, _: Behave) -> None:
    await x.stream()
    await x.chunk(b"data: {not json\n\n")
    await x.end()


@fault("error", WRONG)
async def no_utf8(x: Exchange, _: Behave) -> None:
    await x.body(json.dumps(x.response()).encode().replace(b"fine", b"\xff\xfe\xc3\x28"))


@fault("error", WRONG)
async def lone_surrogate(x: Exchange, _: Behave) -> None:
    await x.body(json.dumps(x.response()).encode().replace(b"fine", b"\\ud800"))


@fault("error", WRONG)
async def deep_nesting(x: Exchange, _: Behave) -> None:
    await x.body(b'{"jsonrpc": "2.0", "id": %d, "result": {"a": %b}}' % (x.id, b"[" * 100_000 + b"]" * 100_000))


@fault("either", WRONG)
async def nesting_at_the_limit(x: Exchange, _: Behave) -> None:
    """What is read must be written again: no parser of the gateway's may take what its writer refuses."""
    deep = b"[" * 600 + b"]" * 600
    await x.body(json.dumps(x.response(x.result(structuredContent={"a": 1}))).encode().replace(b"1}", deep + b"}", 1))


@fault("either", WRONG)
async def huge_numbers(x: Exchange, _: Behave) -> None:
    """Arbitrary precision is JSON, if not everyone's."""
    numbers = b"[1e400, -1e400, 18446744073709551616, %b, 0.%b]" % (b"9" * 4000, b"1" * 4000)
    text = json.dumps(x.response(x.result(structuredContent={"a": "here"}))).encode()
    await x.body(text.replace(b'"here"', numbers))


@fault("result")
async def duplicate_keys(x: Exchange, _: Behave) -> None:
    value = json.dumps(x.result()).encode()
    await x.body(b'{"jsonrpc":"2.0","jsonrpc":"2.0","id":%d,"id":%d,"result":%b}' % (x.id, x.id, value))


@fault("error")
async def error_and_result(x: Exchange, _: Behave) -> None:
    """Neither error nor result can be believed where both are said."""
    failure = {"code": -32000, "message": "as well"}
    await x.json(x.response() | {"error": failure})


@fault("error", WRONG)
async def neither_result_nor_error(x: Exchange, _: Behave) -> None:
    await x.json({"jsonrpc": "2.0", "id": x.id})


@fault("error", WRONG)
async def result_is_a_number(x: Exchange, _: Behave) -> None:
    await x.json({"jsonrpc": "2.0", "id": x.id, "result": 7})


@fault("error", WRONG)
async def result_is_null(x: Exchange, _: Behave) -> None:
    await x.json({"jsonrpc": "2.0", "id": x.id, "result": None})


@fault("either", WRONG)
async def result_of_wrong_types(x: Exchange, _: Behave) -> None:
    """Every key that the gateway might look into holds something else."""
    value: Json = {"content": 5, "contents": "x", "_meta": [1], "isError": "no", "resultType": "complete"}
    await x.json(x.response(value))


@fault("either", WRONG)
async def content_of_wrong_types(x: Exchange, _: Behave) -> None:
    odd = [5, None, "x", {"type": "resource"}, {"type": "resource", "resource": 5}, {"type": "resource_link", "uri": 5}]
    odd += [{"type": 5}, {"type": "resource", "resource": {"uri": None}}, {"type": "resource_link", "uri": None}]
    await x.json(x.response({"content": odd, "resultType": "complete"}))


@fault("error", WRONG)
async def error_is_a_string(x: Exchange, _: Behave) -> None:
    await x.json({"jsonrpc": "2.0", "id": x.id, "error": "went wrong"})


@fault("error")
async def error_of_wrong_types(x: Exchange, _: Behave) -> None:
    await x.json({"jsonrpc": "2.0", "id": x.id, "error": {"code": "x", "message": ["m"], "data": {"a": [1]}}})


@fault("error")
async def error_code_out_of_range(x: Exchange, _: Behave) -> None:
    await x.json({"jsonrpc": "2.0", "id": x.id, "error": {"code": 2**63 - 1, "message": "m" * 100_000}})


@fault("error")
async def error_of_the_other_era(x: Exchange, _: Behave) -> None:
    """A call that ran is not to be sent again because its error looks like one of another era."""
    await x.error(200, -32022 if x.site.era == "legacy" else -32002, "x", {"supported": ["1999-01-01"]})


@fault("either", WRONG)
async def jsonrpc_1(x: Exchange, _: Behave) -> None:
    await x.json(x.response() | {"jsonrpc": "1.0"})


@fault("error", WRONG)
async def empty_body(x: Exchange, _: Behave) -> None:
    await x.body(b"")


@fault("error", WRONG)
async def scalar(x: Exchange, _: Behave) -> None:
    await x.body(b'"fine"')


@fault("result")
async def stream_with_every_kind_of_line_end(x: Exchange, _: Behave) -> None:
    """WHATWG HTML 9.2.5: BOM, CR, CRLF, LF, fields without a colon, data over several lines, unknown fields."""
    first, second = json.dumps(x.response()).encode().split(b'"result": ', 1)
    await x.head(200, "text/event-stream; charset=utf-8", length=None)
    await x.chunk(b"\xef\xbb\xbfretry: 10\r\nid: 1\rdata\n\nevent: message\r\nx: y\r\n: c\r\r\n")
    await x.chunk(b"id: 2\rdata: " + first + b'"result":\rdata:' + second + b"\r\r")
    await x.end()


@fault("result")
async def stream_split_within_crlf(x: Exchange, _: Behave) -> None:
    await x.stream()
    for part in (b"data: ", json.dumps(x.response()).encode(), b"\r", b"\n", b"\r", b"\n"):
        await x.chunk(part)
        await asyncio.sleep(0.005)
    await x.end()


# -- requests of the server's own --------------------------------------------------------------------------------------


async def _ask(x: Exchange, method: str, params: Json) -> None:
    """In 2025 wait for the answer, as servers do; in 2026 a server must not ask (transports/streamable-http)."""
    identity = f"own-{next(_own)}"
    await x.stream()
    waiting = x.site.answers[identity] = asyncio.get_running_loop().create_future()
    await x.event({"jsonrpc": "2.0", "id": identity, "method": method, "params": params})
    if x.site.era == "legacy":
        async with asyncio.timeout(5):
            await waiting
        x.site.hits["answered"] += 1
    await x.event(x.response())
    await x.end()


@fault("either")
async def asks_for_sampling(x: Exchange, _: Behave) -> None:
    text = {"role": "user", "content": {"type": "text", "text": "hello"}}
    await _ask(x, "sampling/createMessage", {"messages": [text], "maxTokens": 10})


@fault("either")
async def asks_for_elicitation(x: Exchange, _: Behave) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    await _ask(x, "elicitation/create", {"message": "who?", "requestedSchema": schema})


@fault("either")
async def asks_for_roots(x: Exchange, _: Behave) -> None:
    await _ask(x, "roots/list", {})


@fault("either")
async def asks_for_what_nobody_knows(x: Exchange, _: Behave) -> None:
    await _ask(x, "nobody/knows", {"a": 1})


@fault("either")
async def asks_for_ping(x: Exchange, _: Behave) -> None:
    await _ask(x, "ping", {})


@fault("either", eras=("legacy",))
async def asks_and_does_not_wait(x: Exchange, _: Behave) -> None:
    """A thousand requests whose answers nobody reads."""
    await x.stream()
    for number in range(1000):
        await x.event({"jsonrpc": "2.0", "id": f"f{number}", "method": "roots/list"})
    await x.event(x.response())
    await x.end()


@fault("result")
async def odd_notifications(x: Exchange, _: Behave) -> None:
    """None of these says anything; none may break the call."""
    await x.stream()
    for params in (
        None,
        5,
        [],
        "x",
        {},
        {"progressToken": None},
        {"progressToken": [1]},
        {"level": 5},
        {"level": None},
    ):
        for method in ("notifications/progress", "notifications/message", "notifications/tools/list_changed", "x", ""):
            await x.event({"jsonrpc": "2.0", "method": method, "params": params})
    for message in ({"method": 5}, {"method": None, "id": None}, {"id": {}, "method": {}}, [], 5, None, {}):
        await x.event(message)
    await x.event(x.response())
    await x.end()
