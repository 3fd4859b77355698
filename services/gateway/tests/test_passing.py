"""Results of tools that are passed on while they come: the same as read, changed and written anew."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway import passing as module
from mcp_gateway.passing import Malformed, Passing, Unusual

ID, NEW = 7, "mine"
SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
ITEMS = st.one_of(
    st.fixed_dictionaries({"type": st.sampled_from(["text", "image", "odd"]), "text": st.text()}),
    st.fixed_dictionaries({"text": st.text(), "type": st.just("text"), "annotations": VALUES}),
    st.fixed_dictionaries({"type": st.just("resource_link"), "uri": st.text()}),
    st.fixed_dictionaries({"text": st.text(), "uri": st.text(), "type": st.just("resource_link"), "data": st.text()}),
    st.fixed_dictionaries(
        {"type": st.just("resource"), "resource": VALUES | st.fixed_dictionaries({"uri": st.text(), "blob": st.text()})}
    ),
    st.fixed_dictionaries(
        {"resource": st.fixed_dictionaries({"text": st.text(), "uri": st.text()}), "type": st.just("resource")}
    ),
    st.dictionaries(st.text(), VALUES, max_size=3),
    SCALARS,
)
CONTENTS = st.one_of(
    st.fixed_dictionaries({"uri": st.text(), "mimeType": st.text(), "text": st.text() | SCALARS}),
    st.fixed_dictionaries({"blob": st.text(), "_meta": VALUES, "uri": st.text()}),
    st.dictionaries(st.text(), VALUES, max_size=3),
    SCALARS,
)
RESULTS = st.builds(
    lambda before, content, after: {**before, "content": content, **after},
    st.dictionaries(st.text(), VALUES, max_size=2).map(lambda d: {k: v for k, v in d.items() if k != "content"}),
    st.lists(ITEMS, max_size=4),
    st.fixed_dictionaries({}, optional={"isError": st.booleans(), "structuredContent": VALUES, "_meta": VALUES}),
).filter(lambda result: "resultType" not in result)


@pytest.fixture(scope="module", autouse=True)
def small_pieces() -> Iterator[None]:
    """What is checked in pieces is so in the small results of these tests, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHECK_BYTES", 8)
        yield


def item(value: Any) -> Any:
    """As the merged view has it."""
    if value.get("type") == "resource_link":
        return own(value)
    if value.get("type") == "resource" and isinstance(value.get("resource"), dict):
        return {**value, "resource": own(value["resource"])}
    return value


def own(value: Any) -> Any:
    """What has a URI of its own, likewise."""
    return {**value, "uri": f"s+{value['uri']}"} if "uri" in value else value


def rest(others: dict[str, Any]) -> dict[str, Any]:
    """As an era has it."""
    others.setdefault("resultType", "complete")
    return others


def usual(message: dict[str, Any]) -> dict[str, Any]:
    """Read, changed, and to be written anew."""
    result = dict(message["result"])
    content = [item(one) if isinstance(one, dict) else one for one in result.pop("content")]
    return {"jsonrpc": "2.0", "id": NEW, "result": {"content": content, **rest(result)}}


def passed(text: bytes, cuts: list[int]) -> tuple[bytes, Passing]:
    """The text through a rewriter, in parts."""
    passing = Passing(ID, NEW, item, rest)
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    out = b"".join(passing.feed(text[a:b]) for a, b in itertools.pairwise(places))
    passing.finish()
    return out, passing


@given(
    result=RESULTS,
    order=st.permutations(["jsonrpc", "id", "result"]),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
def test_any_result_in_any_parts(
    result: dict[str, Any], order: list[str], cuts: list[int], ascii_only: bool, indent: int | None
) -> None:
    whole: dict[str, Any] = {"jsonrpc": "2.0", "id": ID, "result": result}
    message = {name: whole[name] for name in order}
    text = json.dumps(message, ensure_ascii=ascii_only, indent=indent).encode()
    out, passing = passed(text, cuts)
    assert orjson.loads(out) == orjson.loads(orjson.dumps(usual(message)))
    assert passing.done
    assert passing.others.get("isError", False) == result.get("isError", False)


@given(result=RESULTS, place=st.integers(0, 10_000), byte=st.integers(0, 255), cuts=st.lists(st.integers(0, 10_000)))
def test_what_is_passed_on_whole_is_json(result: dict[str, Any], place: int, byte: int, cuts: list[int]) -> None:
    """One wrong byte anywhere is refused, or the outcome is JSON all the same."""
    text = bytearray(json.dumps({"jsonrpc": "2.0", "id": ID, "result": result}, ensure_ascii=False).encode())
    text[place % len(text)] = byte
    try:
        out, _ = passed(bytes(text), cuts)
    except (Unusual, Malformed):
        return
    answer = json.loads(out)
    assert answer["id"] == NEW
    assert isinstance(answer["result"]["content"], list)


@given(
    contents=st.lists(CONTENTS, max_size=3), others=st.fixed_dictionaries({}, optional={"ttlMs": st.integers()}),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
)  # fmt: skip
def test_a_resource_in_any_parts(contents: list[Any], others: dict[str, Any], cuts: list[int]) -> None:
    text = json.dumps({"id": ID, "result": {"contents": contents, **others}, "jsonrpc": "2.0"}).encode()
    passing = Passing(ID, NEW, own, rest, "contents")
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    out = b"".join(passing.feed(text[a:b]) for a, b in itertools.pairwise(places))
    passing.finish()
    assert orjson.loads(out)["result"] == {
        "contents": [own(one) if isinstance(one, dict) else one for one in contents], "resultType": "complete", **others
    }  # fmt: skip


def test_a_resource_leaves_as_it_comes() -> None:
    passing = Passing(ID, NEW, own, rest, "contents")
    passing.feed(b'{"id":7,"result":{"contents":[')
    assert passing.feed(b'{"uri":"x","blob":"AAAA') == b'{"uri":"s+x","blob":"AAAA'
    assert passing.feed(b"BBBB") == b"BBBB"
    assert passing.feed(b'","mimeType":"a/b"},') == b'","mimeType":"a/b"},'
    assert passing.feed(b'{"text":"first') == b'{"text":"first'
    assert passing.feed(b'","uri":"y"}],"ttlMs":1}}') == b'","uri":"s+y"}],"ttlMs":1,"resultType":"complete"}}'
    passing.finish()


def test_structured_content_leaves_as_it_comes() -> None:
    passing = Passing(ID, NEW, item, rest)
    passing.feed(b'{"id":7,"result":{"content":[')
    assert passing.feed(b'],"structuredContent":{"a": [1,') == b'],"structuredContent":{"a": [1,'
    assert passing.feed(b' {"b":"lo') == b' {"b":"lo'
    assert passing.feed(b'ng"}\n') == b'ng"}', "without line breaks, which an event could not have"
    assert passing.feed(b'], "c": tr') == b'], "c": tr'
    assert passing.feed(b'ue},"isError":false}}') == b'ue},"isError":false,"resultType":"complete"}}'
    passing.finish()
    assert passing.others == {"isError": False, "resultType": "complete"}


@pytest.mark.parametrize(
    "value",
    ["[1,]", '{"a":1,}', "[1,,2]", "[1}", '{"a"}', '{"a":1 "b":2}', "[tru]", "[01]", '["a" "b"]', '["a\nb"]', "[\xff]",
     '{"a":[1,2,3,4,5,6,7,8,9],}', "[1,2,3,4,5,6,7,8,9,10,]", '{"a":[1,2,3,4,5,6,7,8,9,10},"b":1]',
     "[" * 600 + "]" * 600],
)  # fmt: skip
def test_structured_content_that_is_no_json_breaks_off(value: str) -> None:
    text = b'{"jsonrpc":"2.0","id":7,"result":{"content":[],"structuredContent":%b}}' % value.encode("latin-1")
    for size in (1, 5, len(text)):
        passing = Passing(ID, NEW, item, rest)
        with pytest.raises(Malformed):
            for place in range(0, len(text), size):
                passing.feed(text[place : place + size])
            passing.finish()


def test_each_part_leaves_as_it_comes() -> None:
    passing = Passing(ID, NEW, item, rest)
    out = passing.feed(b'{"result":{"_meta":{"a":1},"content":[{"type":"text","te')
    assert out == b'{"jsonrpc":"2.0","id":"mine","result":{"content":[{'
    assert passing.feed(b'xt":"first \\u00') == b'"type":"text","text":"first '
    assert passing.feed(b"e9 second \xc3") == b"\\u00e9 second \xc3"
    assert passing.feed(b'\xa9"},{"type":"resource_link","uri":') == b'\xa9"},{'
    assert passing.feed(b'"x"}],"isError":true}') == (
        b'"type":"resource_link","uri":"s+x"}],"_meta":{"a":1},"isError":true,"resultType":"complete"}'
    )
    assert passing.feed(b',"jsonrpc":"2.0","id":7}\n') == b"}"
    assert passing.feed(b"\n") == b""
    passing.finish()


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"<html>",
        b'{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"no"}}',
        b'{"jsonrpc":"2.0","id":8,"result":{"content":[]}}',
        b'{"jsonrpc":"2.0","id":7,"result":{}}',
        b'{"jsonrpc":"2.0","id":7,"result":[]}',
        b'{"jsonrpc":"2.0","id":7,"result":{"content":"text"}}',
        b'{"jsonrpc":"2.0","id":7,"result":{"resultType":"input_required","content":[]}}',
        b'{"jsonrpc":"2.0","id":7,"id":7,"result":{"content":[]}}',
        b'{"jsonrpc":"2.0","id":7,',
    ],
)
def test_anything_else_goes_the_usual_way(text: bytes) -> None:
    passing = Passing(ID, NEW, item, rest)
    with pytest.raises(Unusual):
        assert passing.feed(text) == b""
        passing.finish()
    assert not passing.begun


@pytest.mark.parametrize(
    "rest_of_it",
    [
        b'],"resultType":"input_required"},"id":7}',
        b'],"content":[]},"id":7}',
        b']},"id":8}',
        b"]}}",
        b'{"type":"text","text":"a\nb"}]},"id":7}',
        b'{"type":"text","text":"\\x"}]},"id":7}',
        b'{"type":"text","text":"\xff"}]},"id":7}',
        b'{"type":"text","text":"a","text":"b"}]},"id":7}',
        b'{"type":"text" "text":"a"}]},"id":7}',
        b'{"type":"text","text":"a"},]},"id":7}',
        b'{"type":"text","text":"a"}],},"id":7}',
        b']},"id":7}}',
        b']},"id":7,"error":{}}',
        b"",
    ],
)
def test_what_turns_out_wrong_later_breaks_off(rest_of_it: bytes) -> None:
    passing = Passing(ID, NEW, item, rest)
    passing.feed(b'{"jsonrpc":"2.0","result":{"content":[')
    with pytest.raises(Malformed):
        passing.feed(rest_of_it)
        passing.finish()
