"""OpenTelemetry traces: each request is a span of the client's trace, and the server's spans are its children.

Context comes in ``_meta`` as W3C trace context (2026-07-28 basic/index, "OpenTelemetry trace context"; SEP-414), else
in the HTTP headers of the same names, and goes out in ``_meta``. Spans are named and described by the semantic
conventions for MCP (open-telemetry/semantic-conventions-genai, docs/gen-ai/mcp.md, "Server"); what those do not know is
under ``mcp_gateway.``. OpenTelemetry is imported only if an endpoint is configured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mcp_gateway import __version__
from mcp_gateway.reader import ConfigError, Reader, parts_of

if TYPE_CHECKING:
    from opentelemetry import context, trace
    from opentelemetry.sdk.trace import TracerProvider

KEYS = ("traceparent", "tracestate", "baggage")
# W3C Trace Context, "Header name: traceparent"; versions after 00 may have more at the end ("Versioning").
_IDS = r"-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACEPARENT = re.compile(rf"00{_IDS}|(?!00|ff)[0-9a-f]{{2}}{_IDS}(?:-.*)?")
_MAX_TEXT = 512
# Where the name of what a request is about goes.
_TARGETS = {
    "tools/call": "gen_ai.tool.name",
    "prompts/get": "gen_ai.prompt.name",
    "resources/read": "mcp.resource.uri",
    "resources/subscribe": "mcp.resource.uri",
    "resources/unsubscribe": "mcp.resource.uri",
}

# Attributes that the parts of the gateway set.
SESSION, VERSION, REQUEST_ID = "mcp.session.id", "mcp.protocol.version", "jsonrpc.request.id"
PRINCIPAL, SERVER, REPLICA = "mcp_gateway.principal", "mcp_gateway.server", "mcp_gateway.replica"
POOL, POOL_REASON = "mcp_gateway.pool", "mcp_gateway.pool.reason"
QUEUE_SECONDS, RETRIES, CACHE = "mcp_gateway.queue.seconds", "mcp_gateway.retries", "mcp_gateway.cache"
OUTCOME = "mcp_gateway.outcome"


@dataclass(frozen=True)
class TracingSettings:
    """Where traces go.

    Attributes:
        otlp_endpoint: URL of an OTLP/HTTP receiver; without a path ``/v1/traces`` is added. Empty for no traces.
        sample_ratio: share of the traces begun here that are recorded; those of clients go by the client's flag.
        headers: sent with each export.
        timeout_seconds: of one export.
    """

    otlp_endpoint: str = ""
    service_name: str = "mcp-gateway"
    sample_ratio: float = 1.0
    headers: Mapping[str, str] = field(default_factory=dict)
    timeout_seconds: float = 10.0


def read(reader: Reader) -> TracingSettings:
    """The section ``tracing``."""
    number, d = (int, float), TracingSettings()
    endpoint = reader.take("otlp_endpoint", str, "")
    url = parts_of(endpoint)
    if endpoint and (url.scheme not in ("http", "https") or not url.hostname):
        reader.errors.append(
            f"{reader.at('otlp_endpoint')}: {endpoint!r} is no http(s) URL; give one such as http://collector:4318"
        )
    headers = {}
    for name, source in reader.take("headers", dict, {}).items():
        item = Reader(source, reader.at(f"headers.{name}"), reader.errors)
        headers[str(name).lower()] = item.take("prefix", str, "") + (item.secret("file") or item.take("value", str, ""))
        item.done()
    settings = TracingSettings(
        endpoint if url.path.strip("/") or not endpoint else f"{endpoint.rstrip('/')}/v1/traces",
        reader.take("service_name", str, d.service_name, bool),
        float(reader.take("sample_ratio", number, d.sample_ratio, lambda v: 0 <= v <= 1)),
        headers,
        float(reader.take("timeout_seconds", number, d.timeout_seconds, lambda v: v > 0)),
    )
    reader.done()
    return settings


def passed(meta: Any, headers: Mapping[str, str]) -> dict[str, str] | None:
    """The client's trace context as it came: of ``_meta``, else of the HTTP headers; None without a valid one.

    Values in ``_meta`` must be as W3C has them (2026-07-28 basic/index); headers come from anyone.
    """
    for carrier in (meta, headers):
        if isinstance(carrier, dict) and "traceparent" in carrier and _valid(carrier["traceparent"]):
            return {key: carrier[key] for key in KEYS if isinstance(carrier.get(key), str)}
    return None


def _valid(traceparent: Any) -> bool:
    return isinstance(traceparent, str) and len(traceparent) <= _MAX_TEXT and bool(_TRACEPARENT.fullmatch(traceparent))


def create(settings: TracingSettings) -> Tracer | None:
    """A tracer; None where no endpoint is configured.

    Raises:
        ConfigError: OpenTelemetry is not installed.
    """
    if not settings.otlp_endpoint:
        return None
    try:
        return Tracer(settings)
    except ModuleNotFoundError as error:
        raise ConfigError(
            [f"tracing.otlp_endpoint: is set, but {error.name} is not installed; install mcp-gateway[tracing]"]
        ) from error


class Tracer:
    """Begins spans, and sends those that ended from a thread of its own."""

    def __init__(self, settings: TracingSettings) -> None:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        exporter = OTLPSpanExporter(
            endpoint=settings.otlp_endpoint, headers=dict(settings.headers), timeout=settings.timeout_seconds
        )
        resource = Resource.create({"service.name": settings.service_name, "service.version": __version__})
        sampler = ParentBased(TraceIdRatioBased(settings.sample_ratio))
        self._provider: TracerProvider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("mcp_gateway", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._trace = trace

    def start(self, method: str, target: str | None, meta: Any, headers: Mapping[str, str]) -> Span:
        """Begin the span of a request.

        Args:
            target: name of the tool or prompt, or URI of the resource.
            meta: the request's ``_meta``.
            headers: its HTTP headers, names in lower case.
        """
        attributes: dict[str, str] = {"mcp.method.name": method, "network.transport": "tcp"}
        name = method
        key = _TARGETS.get(method)
        if key and target:
            attributes[key] = target[:_MAX_TEXT]
            if key != "mcp.resource.uri":  # of which there are too many for names of spans
                name = f"{method} {attributes[key]}"
        if method == "tools/call":
            attributes["gen_ai.operation.name"] = "execute_tool"
        carried = passed(meta, headers)
        parent = self._context(carried) if carried else self._root()
        links = self._links(parent, headers) if carried else None
        span = self._tracer.start_span(name, parent, self._trace.SpanKind.SERVER, attributes, links)
        return Span(span, carried.get("baggage") if carried else None)

    def _root(self) -> context.Context:
        from opentelemetry.context import Context

        return Context()  # not what happens to be current in this thread

    def _context(self, carried: Mapping[str, str]) -> context.Context:
        return self._propagator.extract(carried, self._root())

    def _links(self, parent: context.Context, headers: Mapping[str, str]) -> list[trace.Link] | None:
        """The HTTP request's own trace, where ``_meta`` names another ("Context propagation" of the conventions)."""
        if not _valid(headers.get("traceparent")):
            return None
        http = self._trace.get_current_span(self._context(headers)).get_span_context()
        own = self._trace.get_current_span(parent).get_span_context()
        same = (http.trace_id, http.span_id) == (own.trace_id, own.span_id)
        return None if same else [self._trace.Link(http)]

    def close(self) -> None:
        """Send what is left; blocks for the time of an export at most."""
        self._provider.shutdown()


class Span:
    """One request's span. It ends once; what is told of it after that is dropped.

    That happens: an answer may be fetched for others, too, and the one who asked first may be gone by then.
    """

    __slots__ = ("_baggage", "_span")

    def __init__(self, span: trace.Span, baggage: str | None) -> None:
        self._span = span
        self._baggage = baggage

    def child_context(self) -> dict[str, str]:
        """``traceparent`` and the like for ``_meta`` of a request to a server, whose spans are children of this one."""
        context = self._span.get_span_context()
        if not context.is_valid:  # switched off by OTEL_SDK_DISABLED
            return {}
        carried = {"traceparent": f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"}
        if context.trace_state:
            carried["tracestate"] = context.trace_state.to_header()
        if self._baggage is not None:
            carried["baggage"] = self._baggage
        return carried

    def set(self, key: str, value: str | float) -> None:
        """Note an attribute; the module names those that the gateway knows."""
        if self._span.is_recording():
            self._span.set_attribute(key, value[:_MAX_TEXT] if isinstance(value, str) else value)

    def end(self, outcome: str, code: int | None = None, message: str = "") -> None:
        """The request is over.

        Args:
            outcome: as in metrics and the audit log, such as ``ok``, ``error``, ``cancelled``; ``tool_error`` for a
                tool's result with ``isError``.
            code: of the JSON-RPC error, if there was one.
            message: its message.
        """
        span = self._span
        span.set_attribute(OUTCOME, outcome)
        if code is not None:
            span.set_attribute("rpc.response.status_code", str(code))
        if code is not None or outcome != "ok":
            from opentelemetry.trace import Status, StatusCode

            span.set_attribute("error.type", str(code) if code is not None else outcome)
            span.set_status(Status(StatusCode.ERROR, message[:_MAX_TEXT] or None))
        span.end()
