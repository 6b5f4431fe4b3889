"""Around every request: its id, its line in the log, and the last answer when nobody else had one."""

import asyncio
import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from opentelemetry.trace import Span
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alphareel.domain.errors import InternalError
from alphareel.http.errors import error_response
from alphareel.telemetry.logging import get_logger, log_context
from alphareel.telemetry.tracing import current_trace_id, set_span_error, span_attributes, start_span

log = get_logger(__name__)

_SANE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_CLIENT_GONE = 499
_UNTRACED = frozenset(("/health", "/livez", "/readyz", "/metrics"))
_TURNED_AWAY = (401, 429)
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


NoteCall = Callable[..., None]
"""Called with the key's id and the facts of the call: see ``jobs.service.Services.note_call``."""


class RequestLogMiddleware:
    """ASGI middleware. Binds ``request_id`` into the log context and puts it into ``scope['state']``.

    ``note_call`` is told of every answered request whose key is known, ``measure`` of every request.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        note_call: NoteCall = lambda _key_id, **_facts: None,
        measure: Callable[..., None] = lambda **_facts: None,
    ) -> None:
        self.app = app
        self.note_call = note_call
        self.measure = measure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _RequestRecord(scope, send)
        with (
            exchange.traced() as span,
            log_context(request_id=exchange.request_id, trace_id=current_trace_id()),
        ):
            try:
                await self._answer(exchange, receive)
            finally:
                exchange.tell(span)
                exchange.write_line()
                exchange.note(self.note_call)
                self.measure(**exchange.measures())

    async def _answer(self, exchange: "_RequestRecord", receive: Receive) -> None:
        try:
            await self.app(exchange.scope, receive, exchange.send)
        except ClientDisconnect:
            exchange.status = _CLIENT_GONE
        except asyncio.CancelledError:  # the server stops and waits for this answer no longer: nobody's fault
            log.warning("request_cut_off", path=exchange.scope["path"])
        except Exception:
            log.exception("request_crashed", path=exchange.scope["path"])
            if exchange.status is None:
                error = InternalError("An exception that nobody expected.")
                response = error_response(error, request_id=exchange.request_id)
                await response(exchange.scope, receive, exchange.send)


class _RequestRecord:
    """One request and what was sent for it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        offered = Headers(scope=scope).get("x-request-id", "")
        self.request_id = offered if _SANE.fullmatch(offered) else f"req_{secrets.token_hex(12)}"
        self.scope: Scope = {**scope, "state": {**scope.get("state", {}), "request_id": self.request_id}}
        self.status: int | None = None
        self._bytes = 0
        self._send = send
        self._began = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            if (budget := self.scope["state"].get("budget")) is not None:
                headers.update(budget.headers())
        elif message["type"] == "http.response.body":
            self._bytes += len(message.get("body", b""))
        await self._send(message)

    def traced(self) -> AbstractContextManager[Span | None]:
        """A span under that of the client, if it sent one; the questions of machines to machines have none."""
        if self.scope["path"] in _UNTRACED:
            return nullcontext()
        parent = Headers(scope=self.scope).get("traceparent")
        return start_span(self.scope["method"], parent=parent, kind="server", request_id=self.request_id)

    def tell(self, span: Span | None) -> None:
        """What is known at the end only. Of the path only its route: ids stand elsewhere, and signatures nowhere."""
        if span is None:
            return
        facts = self.measures()
        span.update_name(f"{facts['method']} {facts['route']}")
        span.set_attributes(
            span_attributes(
                method=facts["method"],
                route=facts["route"],
                status=facts["status"],
                key=self.scope["state"].get("key"),
                job_id=self.scope["state"].get("job_id"),
            )
        )
        if facts["status"] >= 500:
            set_span_error(span, str(facts["status"]))

    def write_line(self) -> None:
        """One line a request; the query stays out of it, because signatures of links stand there."""
        log.info(
            "request",
            method=self.scope["method"],
            path=self.scope["path"],
            route=_route(self.scope),
            status=self.status or _CLIENT_GONE,
            ms=round((time.perf_counter() - self._began) * 1000, 1),
            bytes=self._bytes,
            key=self.scope["state"].get("key"),
            **self._names(),
            **self._client_address(),
        )

    def _names(self) -> dict[str, str]:
        """Of the job and the upload that the request was about, as far as it came to be known."""
        state, given = self.scope["state"], self.scope.get("path_params", {})
        job, video = given.get("job_id") or state.get("job_id"), given.get("upload_id") or state.get("video_id")
        return {name: value[:64] for name, value in (("job_id", job), ("video_id", video)) if value}

    def _client_address(self) -> dict[str, str]:
        """Addresses are written down only of those who were turned away: they are what an operator can block."""
        client = self.scope.get("client")
        return {"address": client[0]} if client and self.status in _TURNED_AWAY else {}

    def measures(self) -> dict[str, Any]:
        """For the metrics: few values of each, whatever clients send."""
        method = self.scope["method"]
        return {
            "method": method if method in _METHODS else "OTHER",
            "route": _route(self.scope) or "none",
            "status": self.status or _CLIENT_GONE,
            "seconds": time.perf_counter() - self._began,
        }

    def note(self, note_call: NoteCall) -> None:
        """Routes leave in the state what only they know: the job that they made, the error that they told."""
        state = self.scope["state"]
        if "key_id" not in state:
            return
        note_call(
            state["key_id"],
            method=self.scope["method"],
            endpoint=(_route(self.scope) or self.scope["path"])[:200],
            status_code=self.status or _CLIENT_GONE,
            request_id=self.request_id,
            job_id=(self.scope.get("path_params", {}).get("job_id") or state.get("job_id") or "")[:64] or None,
            error_code=state.get("error_code"),
        )


def _route(scope: Scope) -> str | None:
    """The path with the names of its parameters instead of their values; None where no route matched."""
    if "route" not in scope:
        return None
    path: str = scope["path"]
    for name, value in scope.get("path_params", {}).items():
        before, found, after = path.rpartition(f"/{value}")
        path = f"{before}/{{{name}}}{after}" if found else path
    return path
