"""Where a client wants a finished output sent: a URL that takes a PUT, usually a presigned one, and its headers.

The query of the URL and the values of the headers grant access, so they are secrets: responses show neither, and the
database keeps them only until the job ends.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.service.urls import HOST_AND_PORT, HTTP_ORIGIN, MAX_URL_LENGTH

FIELD = "output_target"
TARGET_URL = rf"{HTTP_ORIGIN}([/?#][!-~]*)?"
"""Pattern of the URL of an output target."""
MAX_HEADERS = 20
MAX_HEADER_NAME = 100
MAX_HEADER_VALUE = 2048
HEADER_NAME = rf"[!#$%&'*+.^_`|~0-9A-Za-z-]{{1,{MAX_HEADER_NAME}}}"
HEADER_VALUE = rf"([!-~]([ -~]{{0,{MAX_HEADER_VALUE - 2}}}[!-~])?)?"
_REFUSED_HEADERS = frozenset(
    (
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


@dataclass(frozen=True)
class OutputTarget:
    """``erased``: its job has ended, and what granted access is gone."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    erased: bool = False

    @property
    def address(self) -> str:
        """The URL without what grants access: scheme, host and path."""
        parts = urlsplit(self.url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


Targets = tuple[OutputTarget | None, ...]
"""One for each output of a job, None for an output that is not sent; empty if none is."""


@dataclass(frozen=True)
class OutputDelivery:
    """How the delivery of an output to its target ended. ``url``: without secrets. ``attempts``: requests sent."""

    url: str
    status: Literal["delivered", "failed"]
    attempts: int
    at: datetime
    status_code: int | None = None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As stored with the output."""
        return {
            "url": self.url,
            "status": self.status,
            "attempts": self.attempts,
            "at": self.at.isoformat(),
            "status_code": self.status_code,
            "error": self.error,
        }


def parse_targets(body: Mapping[str, Any], count: int) -> Targets:
    """The targets in the body of a request for ``count`` outputs. Raises InvalidRequest with a detail for each problem.

    A body with ``outputs`` has them there; ``output_target`` is for a job with a single output.
    """
    listed, own = body.get("outputs"), body.get(FIELD)
    if own is not None:
        if listed is not None or count > 1:
            raise _refused(FIELD, "is for a job with one output. Give each of outputs a target of its own.")
        return (_parse(own, FIELD),)
    outputs = listed if isinstance(listed, list) else []
    targets = tuple(
        None if target is None else _parse(target, f"outputs.{number}.{FIELD}")
        for number, output in enumerate(outputs)
        for target in (output.get(FIELD) if isinstance(output, Mapping) else None,)
    )
    return targets if any(targets) else ()


def parse_changed_targets(body: Mapping[str, Any], count: int, stored: Targets) -> Targets:
    """Like ``parse_targets``, but a body that names no outputs keeps those that are stored and were not erased."""
    if body.get(FIELD) is not None or body.get("outputs") is not None:
        return parse_targets(body, count)
    usable = len(stored) == count and not any(target is not None and target.erased for target in stored)
    return stored if usable else ()


def targets_to_json(targets: Targets) -> list[dict[str, Any] | None] | None:
    """As stored with the job; None for no targets."""
    return [None if each is None else {"url": each.url, "headers": dict(each.headers)} for each in targets] or None


def targets_from_json(stored: Sequence[Mapping[str, Any] | None] | None) -> Targets:
    """The inverse of ``targets_to_json``, also for erased ones."""
    return tuple(None if each is None else OutputTarget(**each) for each in stored or ())


def erased_targets(stored: Sequence[Mapping[str, Any] | None] | None) -> list[dict[str, Any] | None] | None:
    """Stored targets without what grants access."""
    return [
        None if each is None else {"url": each.address, "erased": True} for each in targets_from_json(stored)
    ] or None


def _parse(value: Any, name: str) -> OutputTarget:
    if not isinstance(value, Mapping):
        raise _refused(name, "must be an object with a url, and headers if the address needs any.")
    return OutputTarget(_parse_url(value.get("url"), f"{name}.url"), _parse_headers(value.get("headers"), name))


def _parse_url(value: Any, name: str) -> str:
    """No message quotes the URL."""
    if not isinstance(value, str) or not value:
        raise _refused(name, "is required: an address that takes a PUT.")
    if len(value) > MAX_URL_LENGTH:
        raise _refused(name, f"must have at most {MAX_URL_LENGTH} characters; it has {len(value)}.")
    if not value.isascii() or not value.isprintable() or " " in value:
        raise _refused(name, "must have printable ASCII characters only, without spaces. Escape all others.")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _refused(name, "is not a URL.") from None
    if parts.scheme not in ("http", "https") or not host:
        raise _refused(name, "must be an http or https URL.")
    if "@" in parts.netloc:
        raise _refused(name, "must not contain a user name or password. Send an Authorization header instead.")
    if not HOST_AND_PORT.fullmatch(parts.netloc):
        raise _refused(name, "has an invalid host or port.")
    return value


def _parse_headers(value: Any, target: str) -> dict[str, str]:
    prefix = f"{target}.headers"
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _refused(prefix, "must be an object of texts.")
    if len(value) > MAX_HEADERS:
        raise _refused(prefix, f"must be at most {MAX_HEADERS} headers; there are {len(value)}.")
    names: set[str] = set()
    for name, text in value.items():
        lower = name.lower()
        if not re.fullmatch(HEADER_NAME, name):
            raise _refused(prefix, "has a name that no header may have.")
        if lower in _REFUSED_HEADERS:
            raise _refused(f"{prefix}.{name}", "is set by the service, or belongs to the connection. Leave it out.")
        if lower in names:
            raise _refused(f"{prefix}.{name}", "is there twice.")
        if not isinstance(text, str) or not re.fullmatch(HEADER_VALUE, text):
            limit = f"must be at most {MAX_HEADER_VALUE} printable ASCII characters, with no space at either end."
            raise _refused(f"{prefix}.{name}", limit)
        names.add(lower)
    return dict(value)


def _refused(name: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{name}: {message}", details=[FieldProblem(name, message)])
