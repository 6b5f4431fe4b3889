"""Traces for OpenTelemetry, from a request over the queue to the stages of its job; off, and free, until switched on.

A span tells names, numbers and ids, never an address or the text of an error: those may contain what is secret.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from alphareel.domain.errors import AlphareelError, InvalidRequest

Kind = Literal["internal", "server", "consumer", "client"]
_STANDARD = {"method": "http.request.method", "route": "http.route", "status": "http.response.status_code"}
Fact = str | int | float | bool | None


class _Switch:
    """The tracer of this process, None while traces are off; OpenTelemetry is imported by who switches it on."""

    tracer: Any = None
    provider: Any = None


def configure_tracing(service: str, *, exporter: Any = None) -> None:
    """Send spans to ``exporter``, or to the collector that the standard variables OTEL_EXPORTER_OTLP_* name.

    Raises InvalidRequest where the extra ``telemetry`` is not installed.
    """
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor  # noqa: PLC0415

        processor = SimpleSpanProcessor(exporter) if exporter else BatchSpanProcessor(_collector())
    except ImportError as error:
        raise InvalidRequest(
            f"Traces are asked for, and {error.name} is not installed.",
            hint="pip install 'alphareel[telemetry]', or unset OTEL_EXPORTER_OTLP_ENDPOINT.",
        ) from None
    _Switch.provider = TracerProvider(resource=Resource.create({"service.name": service}), shutdown_on_exit=False)
    _Switch.provider.add_span_processor(processor)
    _Switch.tracer = _Switch.provider.get_tracer("alphareel")


def shutdown_tracing() -> None:
    """Send what is left, and stop."""
    provider, _Switch.provider, _Switch.tracer = _Switch.provider, None, None
    if provider is not None:
        provider.shutdown()


def tracing_enabled() -> bool:
    return _Switch.tracer is not None


def start_span(
    name: str, *, parent: str | None = None, kind: Kind = "internal", **facts: Fact
) -> AbstractContextManager["Span | None"]:
    """A span around a block, under the present one or under ``parent`` (a W3C traceparent); None while off."""
    return nullcontext() if _Switch.tracer is None else _started(name, parent, kind, facts)


def record_span(name: str, *, began: datetime, seconds: float, **facts: Fact) -> None:
    """A span of something that is over, under the present one."""
    if _Switch.tracer is not None:
        made = _Switch.tracer.start_span(name, start_time=_nanoseconds(began), attributes=_named(facts))
        made.end(end_time=_nanoseconds(began + timedelta(seconds=max(0.0, seconds))))


def current_traceparent() -> str | None:
    """The present span as a W3C traceparent, to be carried to another process; None where there is none."""
    if _Switch.tracer is None:
        return None
    carrier: dict[str, str] = {}
    _propagator().inject(carrier)
    return carrier.get("traceparent")


class Span:
    """What can be told of a span before it ends."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def trace_id(self) -> str:
        return f"{self._inner.get_span_context().trace_id:032x}"

    def rename(self, name: str) -> None:
        self._inner.update_name(name)

    def tell(self, **facts: Fact) -> None:
        self._inner.set_attributes(_named(facts))

    def fail(self, code: str) -> None:
        from opentelemetry.trace import StatusCode  # noqa: PLC0415

        self._inner.set_status(StatusCode.ERROR, code)
        self._inner.set_attribute("error.type", code)


@contextmanager
def _started(name: str, parent: str | None, kind: Kind, facts: dict[str, Fact]) -> Iterator[Span]:
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    above = _propagator().extract({"traceparent": parent}) if parent else None
    begin = _Switch.tracer.start_as_current_span
    with begin(
        name,
        context=above,
        kind=SpanKind[kind.upper()],
        attributes=_named(facts),
        record_exception=False,
        set_status_on_exception=False,
    ) as inner:
        told = Span(inner)
        try:
            yield told
        except AlphareelError as error:
            told.fail(error.code)
            raise
        except Exception as error:
            told.fail(type(error).__name__)
            raise


def _named(facts: dict[str, Fact]) -> dict[str, Any]:
    """Those that OpenTelemetry has names for under them, the rest under ours."""
    return {_STANDARD.get(name, f"alphareel.{name}"): value for name, value in facts.items() if value is not None}


def _nanoseconds(time: datetime) -> int:
    return int(time.astimezone(UTC).timestamp() * 1e9)


def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return TraceContextTextMapPropagator()


def _collector() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415

    return OTLPSpanExporter()
