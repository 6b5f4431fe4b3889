"""Assigns a request ID, logs and traces the request, completes the headers of responses, turns crashes into a 500."""

import asyncio
import random
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from http import HTTPStatus
from typing import Any

from opentelemetry.trace import Span
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alphareel.domain.errors import InternalError
from alphareel.http.errors import error_response
from alphareel.http.rate_limits import RateLimitState
from alphareel.telemetry.logging import get_logger, log_context
from alphareel.telemetry.tracing import current_trace_id, set_span_error, span_attributes, start_span

log = get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_CLOSED_REQUEST = 499
_ids = random.Random()  # noqa: S311 - IDs are no secrets, and asking the system for each takes longer than all else
_UNTRACED_PATHS = frozenset(("/health", "/livez", "/readyz", "/metrics"))
_PRIVATE_PATHS = ("/v1/", "/api/")
_REFUSED_STATUSES = (401, 429)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

RecordCall = Callable[..., None]
"""Called with the key's ID and the facts of the call: see ``CallLog.record``."""

PeekRateLimit = Callable[[str, str], RateLimitState | None]
"""The budget of an address for requests of a method, without counting one."""


class RequestLogMiddleware:
    """ASGI middleware. Binds ``request_id`` into the log context and puts it into ``scope['state']``.

    ``record_call`` receives every request whose key is known, ``observe_request`` every request.
    ``peek_rate_limit`` gives the RateLimit-* headers of requests that are not counted.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        record_call: RecordCall = lambda _key_id, **_facts: None,
        observe_request: Callable[..., None] = lambda **_facts: None,
        peek_rate_limit: PeekRateLimit = lambda _address, _method: None,
    ) -> None:
        self.app = app
        self.record_call = record_call
        self.observe_request = observe_request
        self.peek_rate_limit = peek_rate_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        record = _RequestRecord(scope, send, self.peek_rate_limit)
        with (
            record.span() as span,
            log_context(request_id=record.request_id, trace_id=current_trace_id()),
        ):
            try:
                await self._run(record, receive)
            finally:
                record.annotate_span(span)
                record.write_line()
                record.report_call(self.record_call)
                self.observe_request(**record.metrics())

    async def _run(self, record: "_RequestRecord", receive: Receive) -> None:
        try:
            await self.app(record.scope, receive, record.send)
        except ClientDisconnect:
            record.status = _CLIENT_CLOSED_REQUEST
        except asyncio.CancelledError:  # the server is stopping and no longer waits for this response
            log.warning("request_cut_off", path=record.scope["path"])
        except Exception:
            log.exception("request_crashed", path=record.scope["path"])
            if record.status is None:
                error = InternalError("Unexpected exception.")
                response = error_response(error, request_id=record.request_id)
                await response(record.scope, receive, record.send)


class _RequestRecord:
    def __init__(self, scope: Scope, send: Send, peek_rate_limit: PeekRateLimit) -> None:
        client_id = Headers(scope=scope).get("x-request-id", "")
        self.request_id = client_id if _REQUEST_ID.fullmatch(client_id) else f"req_{_ids.getrandbits(96):024x}"
        self.scope: Scope = {**scope, "state": {**scope.get("state", {}), "request_id": self.request_id}}
        self.status: int | None = None
        self._bytes = 0
        self._send = send
        self._peek_rate_limit = peek_rate_limit
        self._started = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._complete(MutableHeaders(scope=message))
        elif message["type"] == "http.response.body":
            self._bytes += len(message.get("body", b""))
        await self._send(message)

    def _complete(self, headers: MutableHeaders) -> None:
        """Add what every response carries.

        Answers of the API change and may contain secrets and signed links, and no CDN may keep an error.
        """
        headers["X-Request-Id"] = self.request_id
        if (rate_limit := self._rate_limit()) is not None:
            headers.update(rate_limit.headers())
        if self.scope["path"].startswith(_PRIVATE_PATHS) or (self.status or 0) >= HTTPStatus.BAD_REQUEST:
            headers.setdefault("Cache-Control", "no-store")

    def _rate_limit(self) -> RateLimitState | None:
        """The state after counting this request; if it is not counted, what its address has left."""
        state = self.scope["state"]
        if "rate_limit" in state:
            counted: RateLimitState | None = state["rate_limit"]
            return counted
        client = self.scope.get("client")
        return self._peek_rate_limit(client[0] if client else "", self.scope["method"])

    def span(self) -> AbstractContextManager[Span | None]:
        """A span, as a child of the client's if it sent one; health checks and metrics have none."""
        if self.scope["path"] in _UNTRACED_PATHS:
            return nullcontext()
        parent = Headers(scope=self.scope).get("traceparent")
        return start_span(self.scope["method"], parent=parent, kind="server", request_id=self.request_id)

    def annotate_span(self, span: Span | None) -> None:
        """Add what is known only at the end. The route replaces the path, which contains IDs or signatures."""
        if span is None:
            return
        metrics = self.metrics()
        span.update_name(f"{metrics['method']} {metrics['route']}")
        span.set_attributes(
            span_attributes(
                method=metrics["method"],
                route=metrics["route"],
                status=metrics["status"],
                key=self.scope["state"].get("key"),
                job_id=self.scope["state"].get("job_id"),
            )
        )
        if metrics["status"] >= 500:
            set_span_error(span, str(metrics["status"]))

    def write_line(self) -> None:
        """Log one line per request, without the query, which may contain link signatures."""
        log.info(
            "request",
            method=self.scope["method"],
            path=self.scope["path"],
            route=_route(self.scope),
            status=self.status or _CLIENT_CLOSED_REQUEST,
            ms=round((time.perf_counter() - self._started) * 1000, 1),
            bytes=self._bytes,
            key=self.scope["state"].get("key"),
            **self._subject_ids(),
            **self._client_address(),
        )

    def _subject_ids(self) -> dict[str, str]:
        """IDs of the job and the upload that the request is about, if known."""
        state, params = self.scope["state"], self.scope.get("path_params", {})
        job, video = params.get("job_id") or state.get("job_id"), params.get("upload_id") or state.get("video_id")
        return {name: value[:64] for name, value in (("job_id", job), ("video_id", video)) if value}

    def _client_address(self) -> dict[str, str]:
        """The client's address, only for refused requests, so that operators can block it."""
        client = self.scope.get("client")
        return {"address": client[0]} if client and self.status in _REFUSED_STATUSES else {}

    def metrics(self) -> dict[str, Any]:
        """Labels and values for Prometheus; clients cannot add label values."""
        method = self.scope["method"]
        return {
            "method": method if method in _METHODS else "OTHER",
            "route": _route(self.scope) or "none",
            "status": self.status or _CLIENT_CLOSED_REQUEST,
            "seconds": time.perf_counter() - self._started,
        }

    def report_call(self, record_call: RecordCall) -> None:
        """Record the call for usage statistics; routes leave the job ID and the error code in the request state."""
        state = self.scope["state"]
        if "key_id" not in state:
            return
        record_call(
            state["key_id"],
            method=self.scope["method"],
            endpoint=(_route(self.scope) or self.scope["path"])[:200],
            status_code=self.status or _CLIENT_CLOSED_REQUEST,
            request_id=self.request_id,
            job_id=(self.scope.get("path_params", {}).get("job_id") or state.get("job_id") or "")[:64] or None,
            error_code=state.get("error_code"),
        )


def _route(scope: Scope) -> str | None:
    """The path with parameter names instead of values; None if no route matched."""
    if "route" not in scope:
        return None
    path: str = scope["path"]
    for name, value in scope.get("path_params", {}).items():
        before, separator, after = path.rpartition(f"/{value}")
        path = f"{before}/{{{name}}}{after}" if separator else path
    return path
