"""The same promises, with inputs that Hypothesis makes up: quick, anew each time, shrunk when one is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fuzz.targets import TARGETS, configuration, result_in_events, result_passed, sse_stream

QUICK = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
LINES = st.sampled_from(
    [b"data: x", b"data:", b"data", b"data:  y", b"event: message", b"id: 1", b"retry: 5", b": comment", b"", b"x: y"]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_any_bytes(target: Callable[[bytes], None]) -> None:
    @QUICK
    @given(st.binary(max_size=200))
    def check(data: bytes) -> None:
        target(data)

    check()


@QUICK
@given(st.binary(min_size=1, max_size=1), st.lists(st.tuples(LINES, ENDS), max_size=12))
def test_event_streams(cut: bytes, lines: list[tuple[bytes, bytes]]) -> None:
    sse_stream(cut + b"".join(line + end for line, end in lines))


PARTS = st.sampled_from(
    [b"{", b"}", b"[", b"]", b",", b":", b'"', b" ", b"\n", b"1", b"tru", b"e", b"\\", b"\\u00", b"\xc3", b"\xa9", b"x"]
) | st.sampled_from(
    [b'"jsonrpc":"2.0"', b'"id":7', b'"result":{', b'"content":[', b'{"type":"text","text":"', b'"}', b']}}',
     b'"structuredContent":', b'"resource":{"uri":"', b'"type":"resource"', b'"resultType":"complete"', b'"a":[1,2,3]']
)  # fmt: skip


@QUICK
@given(st.binary(min_size=1, max_size=1), st.lists(PARTS, max_size=16))
def test_results_that_are_passed_on(cut: bytes, parts: list[bytes]) -> None:
    for begin in (b"", b'{"jsonrpc":"2.0","id":7,"result":{"content":['):
        text = begin + b"".join(parts)
        result_passed(cut + text)
        result_in_events(cut + b"event: message\ndata: " + text + b"\n\ndata: x\n\n")


KEYS = st.sampled_from(
    ["servers", "name", "url", "urls", "dns", "listen", "port", "host", "auth", "api_keys", "sha256", "file", "http"]
) | st.sampled_from(["sessions", "key_files", "tools", "allow", "headers", "value", "timeout_seconds", "x-note"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@QUICK
@given(st.dictionaries(KEYS, VALUES, max_size=6))
@example({"sessions": {"key_files": ["\U00010000"]}})  # which YAML reads from JSON as two surrogates
@example({"sessions": {"key_files": ["a\0b"]}})
def test_configurations(document: dict[str, Any]) -> None:
    configuration(json.dumps(document).encode())
