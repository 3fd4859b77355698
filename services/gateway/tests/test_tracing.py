"""Traces: what a real OTLP/HTTP receiver gets of them, and how they continue across the gateway."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from receiver import Receiver, attributes

from mcp_gateway import tracing
from mcp_gateway.reader import ConfigError, Reader
from mcp_gateway.tracing import Tracer, TracingSettings, create, passed, read

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CLIENT = f"00-{TRACE}-{PARENT}-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


@contextmanager
def tracer(receiver: Receiver, **more: Any) -> Iterator[Tracer]:
    """A tracer; when the block ends everything was sent."""
    running = create(TracingSettings(f"{receiver.url}/v1/traces", **more))
    assert running
    try:
        yield running
    finally:
        running.close()


# -- across ------------------------------------------------------------------------------------------------------------


def test_the_trace_of_meta_goes_on_to_the_server(receiver: Receiver) -> None:
    meta = {"traceparent": CLIENT, "tracestate": "rojo=1,congo=t61", "baggage": "user=ann", "progressToken": 1}
    with tracer(receiver) as gateway:
        span = gateway.start("tools/call", "time__now", meta, {})
        onward = span.child_context()
        span.end("ok")
    [sent] = receiver.spans
    assert (sent.trace_id.hex(), sent.parent_span_id.hex()) == (TRACE, PARENT)
    # The server's span will be a child of ours.
    assert onward == {
        "traceparent": f"00-{TRACE}-{sent.span_id.hex()}-01",
        "tracestate": "rojo=1,congo=t61",
        "baggage": "user=ann",
    }
    assert sent.span_id.hex() != PARENT


def test_the_trace_of_the_http_headers_goes_on_where_meta_has_none(receiver: Receiver) -> None:
    headers = {"traceparent": CLIENT, "tracestate": "rojo=1", "host": "x"}
    with tracer(receiver) as gateway:
        for meta in (None, {}, {"progressToken": 1}, {"traceparent": "00-zz"}, {"traceparent": 7}, "odd"):
            gateway.start("tools/list", None, meta, headers).end("ok")
    assert [(sent.trace_id.hex(), sent.parent_span_id.hex()) for sent in receiver.spans] == [(TRACE, PARENT)] * 6
    assert all(not sent.links for sent in receiver.spans)


def test_meta_goes_before_headers_which_are_linked(receiver: Receiver) -> None:
    with tracer(receiver) as gateway:
        span = gateway.start("tools/call", "t", {"traceparent": CLIENT}, {"traceparent": OTHER, "tracestate": "a=b"})
        assert "tracestate" not in span.child_context()  # not that of the other trace
        span.end("ok")
    [sent] = receiver.spans
    assert sent.trace_id.hex() == TRACE
    [link] = sent.links
    assert f"00-{link.trace_id.hex()}-{link.span_id.hex()}-01" == OTHER


def test_without_a_trace_one_begins(receiver: Receiver) -> None:
    with tracer(receiver) as gateway:
        spans = [gateway.start("tools/call", "t", None, {}) for _ in range(2)]
        onward = [span.child_context()["traceparent"] for span in spans]
        for span in spans:
            span.end("ok")
    assert [f"00-{sent.trace_id.hex()}-{sent.span_id.hex()}" for sent in receiver.spans] == [o[:-3] for o in onward]
    assert all(int(each[-2:], 16) & 1 for each in onward)  # recorded
    assert len({sent.trace_id for sent in receiver.spans}) == 2
    assert all(not sent.parent_span_id for sent in receiver.spans)


def test_a_client_that_does_not_record_is_obeyed(receiver: Receiver) -> None:
    with tracer(receiver) as gateway:
        span = gateway.start("tools/call", "t", {"traceparent": CLIENT[:-2] + "00"}, {})
        onward = span.child_context()["traceparent"]
        span.set(tracing.REPLICA, "x")
        span.end("ok")
        gateway.start("tools/call", "t", {"traceparent": CLIENT}, {}).end("ok")
    assert len(receiver.spans) == 1
    assert onward.startswith(f"00-{TRACE}-")
    assert onward.endswith("-00")


def test_none_of_those_begun_here_where_the_ratio_is_nought(receiver: Receiver) -> None:
    with tracer(receiver, sample_ratio=0.0) as gateway:
        gateway.start("tools/call", "t", None, {}).end("ok")
        gateway.start("tools/call", "t", {"traceparent": CLIENT}, {}).end("ok")
    assert [sent.trace_id.hex() for sent in receiver.spans] == [TRACE]


# -- what a span says --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "name", "expected"),
    [
        (
            "tools/call",
            "time__now",
            "tools/call time__now",
            {"gen_ai.tool.name": "time__now", "gen_ai.operation.name": "execute_tool"},
        ),
        ("prompts/get", "s__hello", "prompts/get s__hello", {"gen_ai.prompt.name": "s__hello"}),
        ("resources/read", "s+file:///a", "resources/read", {"mcp.resource.uri": "s+file:///a"}),
        ("tools/list", None, "tools/list", {}),
    ],
)
def test_names_and_attributes_are_those_of_the_conventions(
    receiver: Receiver, method: str, target: str | None, name: str, expected: dict[str, str]
) -> None:
    with tracer(receiver) as gateway:
        gateway.start(method, target, None, {}).end("ok")
    [sent] = receiver.spans
    assert sent.name == name
    assert sent.kind == 2  # SERVER
    always = {"mcp.method.name": method, "network.transport": "tcp", "mcp_gateway.outcome": "ok"}
    assert attributes(sent) == always | expected
    assert sent.status.code == 0
    assert sent.end_time_unix_nano > sent.start_time_unix_nano


def test_what_the_gateway_did_is_told(receiver: Receiver) -> None:
    told: dict[str, str | float] = {
        tracing.SESSION: "s1",
        tracing.VERSION: "2026-07-28",
        tracing.REQUEST_ID: "7",
        tracing.PRINCIPAL: "ann",
        tracing.SERVER: "time",
        tracing.REPLICA: "10.0.0.7:8000",
        tracing.POOL: "gpu",
        tracing.POOL_REASON: "gpu-preferred",
        tracing.QUEUE_SECONDS: 0.25,
        tracing.RETRIES: 2,
        tracing.CACHE: "miss",
    }
    with tracer(receiver) as gateway:
        span = gateway.start("tools/call", "t", None, {})
        for key, value in told.items():
            span.set(key, value)
        span.end("ok")
    sent = attributes(receiver.spans[0])
    assert {key: sent[key] for key in told} == told


@pytest.mark.parametrize(
    ("ended", "expected", "message"),
    [
        (
            ("error", -32602, "Unknown tool: x"),
            {"error.type": "-32602", "rpc.response.status_code": "-32602", "mcp_gateway.outcome": "error"},
            "Unknown tool: x",
        ),
        (("tool_error",), {"error.type": "tool_error", "mcp_gateway.outcome": "tool_error"}, ""),
        (("cancelled",), {"error.type": "cancelled", "mcp_gateway.outcome": "cancelled"}, ""),
    ],
)
def test_failures(receiver: Receiver, ended: tuple[Any, ...], expected: dict[str, str], message: str) -> None:
    with tracer(receiver) as gateway:
        gateway.start("tools/call", "t", None, {}).end(*ended)
    [sent] = receiver.spans
    assert expected.items() <= attributes(sent).items()
    assert (sent.status.code, sent.status.message) == (2, message)


def test_what_comes_after_the_end_is_dropped_without_a_word(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    with tracer(receiver) as gateway:
        span = gateway.start("tools/call", "t", None, {})
        span.end("cancelled")
        span.set(tracing.RETRIES, 1)
    assert tracing.RETRIES not in attributes(receiver.spans[0])
    assert not caplog.records


def test_long_texts_are_cut(receiver: Receiver) -> None:
    with tracer(receiver) as gateway:
        span = gateway.start("tools/call", "t" * 9999, None, {})
        span.set(tracing.PRINCIPAL, "p" * 9999)
        span.end("error", -1, "m" * 9999)
    [sent] = receiver.spans
    assert max(len(value) for value in (sent.name, sent.status.message, *attributes(sent).values())) < 600


def test_where_and_as_what_it_is_sent(receiver: Receiver) -> None:
    with tracer(receiver, service_name="edge", headers={"authorization": "Bearer x"}) as gateway:
        gateway.start("tools/list", None, None, {}).end("ok")
    path, headers = receiver.requests[0]
    assert path == "/v1/traces"
    assert headers["authorization"] == "Bearer x"
    assert receiver.resources[0]["service.name"] == "edge"


def test_a_receiver_that_is_gone_harms_nothing(receiver: Receiver) -> None:
    receiver.close()
    with tracer(receiver, timeout_seconds=0.2) as gateway:
        span = gateway.start("tools/call", "t", {"traceparent": CLIENT}, {})
        assert span.child_context()["traceparent"].startswith(f"00-{TRACE}")
        span.end("ok")


# -- off ---------------------------------------------------------------------------------------------------------------


def test_off_means_not_even_imported() -> None:
    script = (
        "import sys; from mcp_gateway.tracing import TracingSettings, create; "
        "assert create(TracingSettings()) is None; "
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_configured_and_not_installed_is_told() -> None:
    script = (
        "import sys; sys.modules['opentelemetry.sdk.trace'] = None\n"
        "from mcp_gateway.tracing import TracingSettings, create\n"
        "create(TracingSettings('http://127.0.0.1:1/v1/traces'))"
    )
    ended = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "tracing.otlp_endpoint: is set, but" in ended.stderr
    assert "install mcp-gateway[tracing]" in ended.stderr
    assert ConfigError.__name__ in ended.stderr


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00",
        CLIENT[:-1],
        CLIENT + "-more",
        CLIENT.upper(),
        CLIENT.replace(TRACE, "0" * 32),
        CLIENT.replace(PARENT, "0" * 16),
        "ff" + CLIENT[2:],
        " " + CLIENT,
        CLIENT + "\n",
        "01" + CLIENT[2:] + "-" + "x" * 9999,
        7,
        None,
        [],
    ],
)
def test_what_is_no_trace_context_is_none(traceparent: Any) -> None:
    assert passed({"traceparent": traceparent}, {}) is None
    assert passed({"traceparent": traceparent}, {"traceparent": CLIENT}) == {"traceparent": CLIENT}


def test_trace_context_is_passed_on_as_it_came() -> None:
    meta = {"traceparent": CLIENT, "tracestate": "a=b", "baggage": "c=d", "progressToken": 1}
    assert passed(meta, {"traceparent": OTHER}) == {"traceparent": CLIENT, "tracestate": "a=b", "baggage": "c=d"}
    assert passed(None, {"traceparent": OTHER, "baggage": "x=y"}) == {"traceparent": OTHER, "baggage": "x=y"}
    assert passed({"traceparent": "cc" + CLIENT[2:] + "-what-comes"}, {}) is not None
    assert passed(None, {}) is None


# -- settings ----------------------------------------------------------------------------------------------------------


def configured(section: Any) -> tuple[TracingSettings, list[str]]:
    errors: list[str] = []
    return read(Reader(section, "tracing", errors)), errors


def test_settings_are_read(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    assert configured(None) == (TracingSettings(), [])
    section = {
        "otlp_endpoint": "http://collector:4318/",
        "sample_ratio": 0.1,
        "headers": {"Authorization": {"prefix": "Bearer ", "file": str(token)}, "x-team": {"value": "a"}},
    }
    expected = TracingSettings(
        "http://collector:4318/v1/traces", "mcp-gateway", 0.1, {"authorization": "Bearer secret", "x-team": "a"}
    )
    assert configured(section) == (expected, [])
    assert configured({"otlp_endpoint": "https://x/otlp/v1/traces"})[0].otlp_endpoint == "https://x/otlp/v1/traces"


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        (
            {"otlp_endpoint": "collector:4318"},
            "tracing.otlp_endpoint: 'collector:4318' is no http(s) URL; give one such as http://collector:4318",
        ),
        ({"sample_ratio": 2}, "tracing.sample_ratio: 2 is not allowed; expected int or float"),
        ({"headers": {"a": {"file": "/absent"}}}, "tracing.headers.a.file: /absent: No such file or directory"),
        ({"service_name": ""}, "tracing.service_name: '' is not allowed; expected str"),
        ({"endpoint": "x"}, "tracing.endpoint: unknown key; see the configuration reference in the README"),
    ],
)
def test_wrong_settings_are_named(section: Any, complaint: str) -> None:
    assert configured(section)[1] == [complaint]
