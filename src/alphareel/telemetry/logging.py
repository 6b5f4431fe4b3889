"""Structured logs: one JSON object a line, with the request and job they belong to, and no secret in any of them."""

import logging
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, TextIO

import structlog

_SECRET_NAMES = re.compile(r"secret|token|password|authorization|api[_-]?key|cookie|signature|\bsig\b", re.IGNORECASE)
_SECRET_SHAPES = (
    (re.compile(r"\bar_(?:live|test)_[A-Za-z0-9]+_[A-Za-z0-9]+"), "[key]"),
    (re.compile(r"(?<=://)[^/\s:@]*:[^/\s@]*(?=@)"), "[login]"),
    (re.compile(r"(?<=[?&]sig=)[^&\s\"']+"), "[signature]"),
)
_TALKATIVE = ("alembic", "dbos", "httpcore2", "httpx2")
_HIDDEN = "[hidden]"
_literal_secrets: set[str] = set()

Event = MutableMapping[str, Any]


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that adds what ``bound`` says; without ``configure`` it follows the program's own logging set-up."""
    chain: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.filter_by_level,
        _as_record,
    ]
    made: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=chain,
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return made  # named, so that its type is known


def configure_logging(level: str, *, stream: TextIO | None = None) -> None:
    """Send every log record of this process, libraries included, as JSON lines to ``stream`` (default stderr)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.contextvars.merge_contextvars, structlog.stdlib.ExtraAdder(), _spread],
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
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def log_context(**facts: str | None) -> Iterator[None]:
    """Add facts (``request_id``, ``job_id``) to every line that is logged inside."""
    with structlog.contextvars.bound_contextvars(**{k: v for k, v in facts.items() if v is not None}):
        yield


def current_context(name: str) -> str | None:
    """The fact bound under this name, if any."""
    return structlog.contextvars.get_contextvars().get(name)


def hide_secret(secret: str) -> None:
    """Never let this value into a log line, whatever shape it has. Values shorter than 8 characters stay visible."""
    if len(secret) >= 8:
        _literal_secrets.add(secret)


def redact(_logger: Any, _method: str, event: Event) -> Event:
    """A structlog processor that hides fields named like secrets and values shaped like ours."""
    for name, value in event.items():
        event[name] = _HIDDEN if _SECRET_NAMES.search(name) and value is not None else _clean(value)
    return event


def _as_record(_logger: Any, _method: str, event: Event) -> tuple[tuple[str], dict[str, Any]]:
    """Arguments for the standard library; our facts travel as one, for it reserves names like 'message' and 'name'."""
    said = {name: event.pop(name) for name in ("exc_info", "stack_info", "stacklevel") if name in event}
    return (event.pop("event"),), {"extra": {"facts": dict(event)}, **said}


def _spread(_logger: Any, _method: str, event: Event) -> Event:
    return {**event.pop("facts", {}), **event}


def _drop_terminal_colors(_logger: Any, _method: str, event: Event) -> Event:
    event.pop("color_message", None)
    return event


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _HIDDEN if _SECRET_NAMES.search(str(k)) else _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    if isinstance(value, str):
        return _clean_text(value)
    return value


def _clean_text(text: str) -> str:
    for secret in _literal_secrets:
        text = text.replace(secret, _HIDDEN)
    for shape, replacement in _SECRET_SHAPES:
        text = shape.sub(replacement, text)
    return text
