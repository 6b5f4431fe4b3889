"""HTTP requests with JSON objects in and out: errors become ``ApiError``; safe requests are retried."""

import json
import random
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from types import TracebackType
from typing import Any, Self

import httpx2

from alphareel_client.config import without_userinfo
from alphareel_client.errors import ApiError

_RETRIED = frozenset({429, 500, 502, 503, 504})
_IN_PROGRESS = "idempotency_in_progress"
_NOT_STARTED = frozenset({429})  # the only refusal after which any request may be repeated
_MAX_PAUSE = 60.0


@dataclass(frozen=True)
class Request:
    """``repeatable``: sending it twice has the same effect as sending it once."""

    method: str
    path: str
    repeatable: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def idempotent_request(method: str, path: str, body: Mapping[str, Any]) -> Request:
    """A request with an Idempotency-Key: the server executes it once, so it may be repeated."""
    options = {"json": body, "headers": {"Idempotency-Key": uuid.uuid4().hex}}
    return Request(method, path, repeatable=True, options=options)


class HttpSession:
    """Sends requests under one base URL with one secret header; the secret goes to no other address."""

    def __init__(
        self,
        header: tuple[str, str],
        *,
        base_url: str,
        timeout: float,
        retries: int,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        name, secret = header
        self._base_url = base_url
        self._headers = {name: secret}
        self._retries = retries
        agent = {"User-Agent": f"alphareel-python/{_version()}"}
        self.http = httpx2.Client(timeout=timeout, transport=transport, headers=agent)

    def __repr__(self) -> str:
        return f"HttpSession({without_userinfo(self._base_url)!r})"

    def send(self, request: Request) -> dict[str, Any]:
        """The JSON object of the response. Raises ApiError, also when the server cannot be reached."""
        return read_response(self.exchange(request))

    def exchange(self, request: Request) -> httpx2.Response:
        """A successful response, after retries. Raises ApiError, also when the server cannot be reached."""
        for attempt in range(self._retries):
            try:
                return self.exchange_once(request)
            except ApiError as error:
                if not _may_repeat(request, error):
                    raise
                time.sleep(pause(attempt, error.retry_after))
        return self.exchange_once(request)

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """GET with the parameters that are not None. Raises ApiError."""
        return self.send(Request("GET", path, repeatable=True, options={"params": drop_none(params)}))

    def post(self, path: str, body: Mapping[str, Any] | None = None, *, repeatable: bool = False) -> dict[str, Any]:
        """POST with a JSON object, or without a body. Raises ApiError."""
        return self.send(Request("POST", path, repeatable, {} if body is None else {"json": body}))

    @contextmanager
    def stream(self, path: str, headers: Mapping[str, str], *, timeout: httpx2.Timeout) -> Iterator[httpx2.Response]:
        """One GET whose response is read as it arrives. Raises ApiError, also while the body is read."""
        url = self._base_url + path
        try:
            with self.http.stream("GET", url, headers={**self._headers, **headers}, timeout=timeout) as response:
                if response.status_code >= 400:
                    response.read()
                    read_response(response)
                yield response
        except httpx2.TransportError as error:
            raise unreachable(error, url) from error

    def exchange_once(self, request: Request) -> httpx2.Response:
        """``exchange`` without retries."""
        url = self._base_url + request.path
        options = dict(request.options)
        headers = {**self._headers, **options.pop("headers", {})}
        try:
            response = self.http.request(request.method, url, headers=headers, **options)
        except httpx2.TransportError as error:
            raise unreachable(error, url) from error
        if response.status_code >= 400:
            read_response(response)
        return response


class HttpClient:
    """A client that owns a session, and closes it at the end of a ``with`` statement."""

    base_url: str
    _session: HttpSession

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={without_userinfo(self.base_url)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.http.close()


def drop_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields without those that are None."""
    return {name: value for name, value in fields.items() if value is not None}


def read_response(response: httpx2.Response) -> dict[str, Any]:
    """The JSON object of a successful response. Raises ApiError for everything else, whatever its shape."""
    try:
        body = json.loads(response.content)
    except ValueError:
        text = response.content.decode("utf-8", "replace")[:300]
        raise ApiError(f"Non-JSON response: {text}", response.status_code) from None
    if response.status_code >= 400 or not isinstance(body, dict):
        raise _refusal(response, body if isinstance(body, dict) else {})
    return body


def _refusal(response: httpx2.Response, body: Mapping[str, Any]) -> ApiError:
    detail = body.get("error")
    if isinstance(detail, str):
        detail = {"message": detail}
    error: Mapping[str, Any] = detail if isinstance(detail, dict) else {}
    return ApiError(
        str(error.get("message") or body.get("message") or "Request failed"),
        response.status_code,
        error.get("code"),
        error.get("request_id") or response.headers.get("x-request-id"),
        details=error.get("details") or (),
        retry_after=_seconds(response.headers.get("retry-after")),
    )


def unreachable(error: httpx2.TransportError, url: str) -> ApiError:
    """The error for a missing response; its code is ``connection_lost`` if the server may have acted on it."""
    code = "not_connected" if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout) else "connection_lost"
    return ApiError(f"{without_userinfo(url)}: {error or type(error).__name__}", code=code)


def is_passing(error: ApiError) -> bool:
    """Whether the same request may succeed later."""
    return error.status_code in _RETRIED or (error.status_code is None and error.code is not None)


def _may_repeat(request: Request, error: ApiError) -> bool:
    if request.repeatable:
        return is_passing(error) or error.code == _IN_PROGRESS
    return error.status_code in _NOT_STARTED or error.code == "not_connected"


def pause(attempt: int, retry_after: float | None) -> float:
    """Seconds before the next attempt: the server's Retry-After, else 0.5, 1, 2 ... up to 16, with jitter."""
    if retry_after is not None:
        return min(retry_after, _MAX_PAUSE)
    return min(16.0, 0.5 * 2.0**attempt) * random.uniform(0.75, 1.25)  # noqa: S311  # no secret depends on it


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:  # an HTTP date: rare, and the usual backoff serves as well
        return None


def _version() -> str:
    try:
        return version("alphareel-client")
    except PackageNotFoundError:
        return "unknown"
