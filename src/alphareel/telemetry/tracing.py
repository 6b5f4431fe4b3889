"""OpenTelemetry traces: one trace from an API request through the queue to the stages of its job.

Tracing costs nothing until ``configure_tracing`` is called. Spans carry names, numbers and IDs only. URLs and
exception messages stay out of them because they can contain secrets.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from alphareel.domain.errors import AlphareelError, InvalidRequest

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

Kind = Literal["internal", "server", "consumer", "client"]
Attribute = str | int | float | bool | None

_SEMANTIC_NAMES = {"method": "http.request.method", "route": "http.route", "status": "http.response.status_code"}
_PROPAGATOR = TraceContextTextMapPropagator()

_provider: "TracerProvider | None" = None


def configure_tracing(service: str, *, exporter: Any = None) -> None:
    """Send spans to ``exporter``, or to the collector in the standard OTEL_EXPORTER_OTLP_* variables.

    Raises InvalidRequest when the ``telemetry`` extra is not installed.
    """
    global _provider  # noqa: PLW0603 - one provider per process; OpenTelemetry's global one cannot be replaced
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor  # noqa: PLC0415

        processor = SimpleSpanProcessor(exporter) if exporter else BatchSpanProcessor(_otlp_exporter())
    except ImportError as error:
        raise InvalidRequest(
            f"Tracing is configured, but {error.name} is not installed.",
            hint="pip install 'alphareel[telemetry]', or unset OTEL_EXPORTER_OTLP_ENDPOINT.",
        ) from None
    _provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    _provider.add_span_processor(processor)


def shutdown_tracing() -> None:
    """Export the remaining spans and stop tracing."""
    global _provider
    provider, _provider = _provider, None
    if provider is not None:
        provider.shutdown()


def tracing_enabled() -> bool:
    return _provider is not None


@contextmanager
def start_span(
    name: str, *, parent: str | None = None, kind: Kind = "internal", **attributes: Attribute
) -> Iterator[trace.Span]:
    """Make a span current for a block, as a child of the current span or of ``parent`` (a W3C traceparent).

    An exception that leaves the block sets the span's status to its error code, without its message.
    """
    with _tracer().start_as_current_span(
        name,
        context=_PROPAGATOR.extract({"traceparent": parent}) if parent else None,
        kind=trace.SpanKind[kind.upper()],
        attributes=span_attributes(**attributes),
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except AlphareelError as error:
            set_span_error(span, error.code)
            raise
        except Exception as error:
            set_span_error(span, type(error).__name__)
            raise


def record_span(name: str, *, began: datetime, seconds: float, **attributes: Attribute) -> None:
    """Record a span that has already ended, as a child of the current one."""
    span = _tracer().start_span(name, start_time=_nanoseconds(began), attributes=span_attributes(**attributes))
    span.end(end_time=_nanoseconds(began + timedelta(seconds=max(0.0, seconds))))


def set_span_error(span: trace.Span, code: str) -> None:
    """Mark a span as failed with an error code or exception class, never with a message."""
    span.set_status(trace.StatusCode.ERROR, code)
    span.set_attribute("error.type", code)


def span_attributes(**attributes: Attribute) -> dict[str, str | int | float | bool]:
    """Attributes under OpenTelemetry's semantic names, else prefixed with ``alphareel.``. Drops None."""
    return {
        _SEMANTIC_NAMES.get(name, f"alphareel.{name}"): value for name, value in attributes.items() if value is not None
    }


def current_traceparent() -> str | None:
    """The current span as a W3C traceparent to send to another process; None outside a span of this process."""
    if not _in_local_span():
        return None
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent")


def current_trace_id() -> str | None:
    """The trace ID of the current span, 32 hex digits; None outside a span of this process."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if _in_local_span() else None


def _in_local_span() -> bool:
    """Whether this process started the current span. Without a provider, OpenTelemetry passes on the remote parent."""
    context = trace.get_current_span().get_span_context()
    return context.is_valid and not context.is_remote


def _tracer() -> trace.Tracer:
    return trace.get_tracer("alphareel", tracer_provider=_provider)


def _nanoseconds(time: datetime) -> int:
    return int(time.astimezone(UTC).timestamp() * 1e9)


def _otlp_exporter() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    return OTLPSpanExporter()
