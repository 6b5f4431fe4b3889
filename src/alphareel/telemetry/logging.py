"""Structured logs: one JSON object per line, tagged with request and job IDs, with secrets redacted."""

import logging
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TextIO

import structlog

from alphareel.telemetry.log_writer import LogWriter

SECRET_FIELD_NAMES = re.compile(
    r"secret|token|password|authorization|api[_-]?key|cookie|signature|\bsig\b", re.IGNORECASE
)
SECRET_PATTERNS = (
    (re.compile(r"\bar_(?:live|test)_[A-Za-z0-9]+_[A-Za-z0-9]+"), "[key]"),
    (re.compile(r"\bar_runner_[A-Za-z0-9]+_[A-Za-z0-9]{16,}"), "[token]"),
    (re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]*(?=@)"), "[login]"),
    (
        # in our links and those of Azure; in presigned URLs of S3 and Google, with which clients let us read and write
        re.compile(
            r"([?&](?:sig|signature|x-(?:amz|goog)-(?:signature|security-token|credential))=)[^&\s\"'<>]+",
            re.IGNORECASE,
        ),
        r"\1[signature]",
    ),
)
NOISY_LOGGERS = ("alembic", "dbos", "httpcore2", "httpx2")
REDACTED = "[hidden]"
_literal_secrets: set[str] = set()
_context: ContextVar[Mapping[str, str]] = ContextVar("alphareel_log_context", default=MappingProxyType({}))

Event = MutableMapping[str, Any]


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A structlog logger that adds the fields of ``log_context``.

    Until ``configure_logging`` is called, records go through the program's own logging configuration.
    """
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[_add_context, structlog.stdlib.filter_by_level, _to_record],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger


def configure_logging(level: str, *, stream: TextIO | None = None) -> None:
    """Write every log record of this process, libraries included, as JSON lines to ``stream`` (default stderr)."""
    _configure(level, logging.StreamHandler(stream or sys.stderr))


def configure_service_logging(level: str) -> None:
    """The same for a process of the service, which never waits for whoever reads its standard error."""
    try:
        handler: logging.Handler = LogWriter(sys.stderr.fileno())
    except (AttributeError, OSError):  # it is closed, or no file
        handler = logging.StreamHandler(sys.stderr)
    _configure(level, handler)


def _configure(level: str, handler: logging.Handler) -> None:
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_add_context, structlog.stdlib.ExtraAdder(), _unpack_fields],
            processors=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _drop_terminal_colors,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                redact,
                structlog.processors.JSONRenderer(default=str, sort_keys=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def log_context(**fields: str | None) -> Iterator[None]:
    """Add fields such as ``request_id`` and ``job_id`` to every line logged in this block. Drops None."""
    token = _context.set({**_context.get(), **{name: value for name, value in fields.items() if value is not None}})
    try:
        yield
    finally:
        _context.reset(token)


def current_context(name: str) -> str | None:
    """The value of a ``log_context`` field, if set."""
    return _context.get().get(name)


def hide_secret(secret: str) -> None:
    """Redact this value from every later log line. Ignored when shorter than 8 characters."""
    if len(secret) >= 8:
        _literal_secrets.add(secret)


def redact(_logger: Any, _method: str, event: Event) -> Event:
    """A structlog processor that redacts fields with secret-like names and values that look like our keys or URLs."""
    for name, value in event.items():
        event[name] = REDACTED if _is_secret(name) and value is not None else _redact_value(value)
    return event


def redacted(value: Any) -> Any:
    """A copy without secrets: mappings and lists are searched, too."""
    return _redact_value(value)


def _add_context(_logger: Any, _method: str, event: Event) -> Event:
    """One variable for all fields: structlog's own processor looks at every variable of the context for each line."""
    return {**_context.get(), **event}


def _to_record(_logger: Any, _method: str, event: Event) -> tuple[tuple[str], dict[str, Any]]:
    """Arguments for the standard library's logger.

    The fields travel in one ``extra`` entry because LogRecord reserves names such as ``message`` and ``name``.
    """
    standard = {name: event.pop(name) for name in ("exc_info", "stack_info", "stacklevel") if name in event}
    return (event.pop("event"),), {"extra": {"fields": dict(event)}, **standard}


def _unpack_fields(_logger: Any, _method: str, event: Event) -> Event:
    return {**event.pop("fields", {}), **event}


def _drop_terminal_colors(_logger: Any, _method: str, event: Event) -> Event:
    event.pop("color_message", None)
    return event


def _redact_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: REDACTED if _is_secret(str(k)) else _redact_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_redact_value(v) for v in value]
    if isinstance(value, str):
        return _redact_text(value)
    return value


@lru_cache(maxsize=1024)
def _is_secret(name: str) -> bool:
    return SECRET_FIELD_NAMES.search(name) is not None


def _redact_text(text: str) -> str:
    for secret in _literal_secrets:
        text = text.replace(secret, REDACTED)
    if "ar_" in text or "://" in text or "=" in text:  # what all of the patterns need
        for shape, replacement in SECRET_PATTERNS:
            text = shape.sub(replacement, text)
    return text
