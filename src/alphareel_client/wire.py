"""One request and its answer: JSON objects in and out, errors as ``ApiError``, retries where a repeat does no harm."""

import json
import random
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import httpx2

from alphareel_client.errors import ApiError

_RETRIED = frozenset({429, 500, 502, 503, 504})
_UNDER_WAY = "idempotency_in_progress"
_NOT_STARTED = frozenset({429})  # the only refusal after which any request may be repeated
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class Request:
    """``repeatable``: carrying it out twice is the same as once."""

    method: str
    path: str
    repeatable: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def idempotent_call(method: str, path: str, body: Mapping[str, Any]) -> Request:
    """A call with a name of its own: the server does it once however often it is sent, so it may be repeated."""
    options = {"json": body, "headers": {"Idempotency-Key": uuid.uuid4().hex}}
    return Request(method, path, repeatable=True, options=options)


class HttpSession:
    """Sends calls under one base URL with one key; the key goes nowhere else."""

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str,
        timeout: float,
        retries: int,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        if not api_key:
            raise ValueError("api_key is required")
        self._base_url = base_url.rstrip("/")
        self._headers = {"X-Api-Key": api_key}
        self._retries = retries
        agent = {"User-Agent": f"alphareel-python/{_version()}"}
        self.http = httpx2.Client(timeout=timeout, transport=transport, headers=agent)

    def send(self, call: Request) -> dict[str, Any]:
        """The answer's JSON object. Raises ApiError, also when the server cannot be reached."""
        for attempt in range(self._retries):
            try:
                return self._send_once(call)
            except ApiError as error:
                if not _may_repeat(call, error):
                    raise
                time.sleep(pause(attempt, error.retry_after))
        return self._send_once(call)

    def _send_once(self, call: Request) -> dict[str, Any]:
        url = self._base_url + call.path
        options = dict(call.options)
        headers = {**self._headers, **options.pop("headers", {})}
        try:
            response = self.http.request(call.method, url, headers=headers, **options)
        except httpx2.TransportError as error:
            raise unreachable(error, url) from error
        return read_answer(response)


def read_answer(response: httpx2.Response) -> dict[str, Any]:
    """The JSON object of a success; raises ApiError for everything else, whatever shape it has."""
    try:
        body = json.loads(response.content)
    except ValueError:
        text = response.content.decode("utf-8", "replace")[:300]
        raise ApiError(f"Non-JSON response: {text}", response.status_code) from None
    if response.status_code >= 400 or not isinstance(body, dict):
        raise _refusal(response, body if isinstance(body, dict) else {})
    return body


def _refusal(response: httpx2.Response, body: Mapping[str, Any]) -> ApiError:
    told = body.get("error")
    error: Mapping[str, Any] = told if isinstance(told, dict) else {"message": told} if isinstance(told, str) else {}
    return ApiError(
        str(error.get("message") or body.get("message") or "Request failed"),
        response.status_code,
        error.get("code"),
        error.get("request_id") or response.headers.get("x-request-id"),
        details=error.get("details") or (),
        retry_after=_seconds(response.headers.get("retry-after")),
    )


def unreachable(error: httpx2.TransportError, url: str) -> ApiError:
    """No answer came; the code tells whether the request can have been carried out."""
    code = "not_connected" if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout) else "connection_lost"
    return ApiError(f"{url}: {error or type(error).__name__}", code=code)


def is_passing(error: ApiError) -> bool:
    """Whether the same request may succeed later."""
    return error.status_code in _RETRIED or (error.status_code is None and error.code is not None)


def _may_repeat(call: Request, error: ApiError) -> bool:
    if call.repeatable:
        return is_passing(error) or error.code == _UNDER_WAY
    return error.status_code in _NOT_STARTED or error.code == "not_connected"


def pause(attempt: int, retry_after: float | None) -> float:
    """Seconds before the next attempt: what the server asks for, else 0.5, 1, 2 ... up to 16 with some jitter."""
    if retry_after is not None:
        return min(retry_after, _LONGEST_PAUSE)
    return min(16.0, 0.5 * 2.0**attempt) * random.uniform(0.75, 1.25)  # noqa: S311  # no secret depends on it


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:  # the form with a date; rare, and a guess from the back-off is as good
        return None


def _version() -> str:
    try:
        return version("alphareel")
    except PackageNotFoundError:
        return "unknown"
