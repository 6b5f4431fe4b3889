"""Maps every error to its HTTP status and renders all of them in the same JSON shape."""

import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from alphareel.domain import errors as e
from alphareel.http.rate_limits import RateLimitExceeded
from alphareel.service.jobs.queue_limits import RETRY_SECONDS
from alphareel.service.requests import invalid_request
from alphareel.telemetry.logging import get_logger

log = get_logger(__name__)

STATUS: dict[type[e.AlphareelError], int] = {
    e.InvalidRequest: 400,
    e.InvalidFileType: 400,
    e.FileTooLarge: 400,
    e.MultipartUnavailable: 400,
    e.BadVideo: 400,
    e.ResolutionTooLarge: 400,
    e.DurationTooLong: 400,
    e.ModelUnavailable: 400,
    e.FormatUnavailable: 400,
    e.SubjectNotFound: 400,
    e.FetchRefused: 400,
    e.JobNotCompleted: 400,
    e.StorageQuotaExceeded: 400,
    e.MissingApiKey: 401,
    e.InvalidApiKey: 401,
    e.MissingAdminToken: 401,
    e.InvalidAdminToken: 401,
    e.MissingRunnerToken: 401,
    e.InvalidRunnerToken: 401,
    e.InsufficientCredits: 402,
    e.NotFound: 404,
    e.MethodNotAllowed: 405,
    e.InvalidState: 409,
    e.TargetExists: 409,
    e.Cancelled: 409,
    e.IdempotencyInProgress: 409,
    e.OffsetMismatch: 409,
    e.VersionUnsupported: 412,
    e.MediaTypeUnsupported: 415,
    e.IdempotencyConflict: 422,
    e.UploadLocked: 423,
    e.RateLimited: 429,
    RateLimitExceeded: 429,
    e.TooManyJobs: 429,
    e.TooManyUploads: 429,
    e.ChecksumMismatch: 460,  # of the tus protocol
    e.InternalError: 500,
    e.OutOfMemory: 500,
    e.VerificationFailed: 500,
    e.WeightsInvalid: 500,
    e.WorkerCrashed: 500,
    e.FetchFailed: 502,
    e.StorageFailed: 503,
    e.Unavailable: 503,
    e.QueueFull: 503,
    e.StorageFull: 503,
    e.DatabaseFull: 503,
    e.DatabaseReadOnly: 503,
    e.Timeout: 504,
}

# Their messages may name files and hosts of this server: they go to the log, not to the client.
_CONFIDENTIAL = (
    e.InternalError,
    e.OutOfMemory,
    e.VerificationFailed,
    e.WeightsInvalid,
    e.WorkerCrashed,
    e.StorageFailed,
)
# The contract's own words for these errors. Clients compare them, so what to do is in ``hint`` instead.
_PHRASES = frozenset(
    ("Invalid API key", "Job not found", "Job not completed", "Not enough credits to process this video")
)
# Logged without a stack trace: hundreds occur during an outage, and where they were raised does not matter.
_EXPECTED = (e.Unavailable, e.StorageFull)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def request_id(request: Request) -> str:
    """The ID that RequestLogMiddleware gave this request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def error_response(error: e.AlphareelError, *, request_id: str, status: int | None = None) -> JSONResponse:
    """The response for ``error``; ``status`` replaces its usual status, for example 416 for a bad range."""
    body = _envelope(error, request_id)
    return JSONResponse(body, status_code=status or STATUS[type(error)], headers=_headers(error))


def _envelope(error: e.AlphareelError, request_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {"code": error.code, "message": _public_message(error), "request_id": request_id}
    if error.message in _PHRASES:
        body["hint"] = error.hint
    if details := getattr(error, "details", ()):
        body["details"] = [{"field": d.field, "message": d.message} for d in details]
    return {"error": body}


def _public_message(error: e.AlphareelError) -> str:
    if isinstance(error, _CONFIDENTIAL):
        return "The server failed to process the request. Try again; if it keeps failing, report the request ID."
    return error.message if error.message in _PHRASES else str(error)


def _headers(error: e.AlphareelError) -> dict[str, str]:
    if isinstance(error, e.MissingApiKey | e.InvalidApiKey):
        return {"WWW-Authenticate": "ApiKey"}
    if isinstance(error, e.MissingAdminToken | e.InvalidAdminToken):
        return {"WWW-Authenticate": "AdminToken"}
    if isinstance(error, e.MissingRunnerToken | e.InvalidRunnerToken):
        return {"WWW-Authenticate": "RunnerToken"}
    seconds = _retry_after(error)
    return {} if seconds is None else {"Retry-After": str(seconds)}


def _retry_after(error: e.AlphareelError) -> int | None:
    """Whole seconds after which the same request may succeed; None for errors where waiting does not help."""
    if isinstance(error, e.RateLimited):
        return max(1, math.ceil(error.retry_after))
    if isinstance(error, e.Unavailable | e.IdempotencyInProgress | e.UploadLocked) and error.retry_after is not None:
        return max(1, math.ceil(error.retry_after))
    if isinstance(error, e.QueueFull | e.StorageFull):
        return round(RETRY_SECONDS)
    return 5 if isinstance(error, e.Unavailable) else None


def install(app: FastAPI) -> None:
    """Render every exception that a route can raise as an error response."""
    app.add_exception_handler(e.AlphareelError, handle_error)
    app.add_exception_handler(RequestValidationError, _handle_bad_parameter)
    app.add_exception_handler(HTTPException, _handle_routing_error)


async def handle_error(request: Request, error: Exception) -> JSONResponse:
    """The response for an AlphareelError that a route raised; logs it if operators have to know."""
    assert isinstance(error, e.AlphareelError)
    request.state.error_code = error.code
    if isinstance(error, RateLimitExceeded):
        request.state.rate_limit = error.state
    if isinstance(error, _EXPECTED):
        log.warning("request_failed", code=error.code, error=str(error), cause=str(error.__cause__ or "")[:500])
    elif STATUS[type(error)] >= 500:
        log.error("request_failed", code=error.code, error=str(error), exc_info=error)
    return error_response(error, request_id=request_id(request))


async def _handle_bad_parameter(request: Request, error: Exception) -> JSONResponse:
    """Path, query or header parameters that FastAPI refused: 400 like every other bad field, not FastAPI's 422."""
    assert isinstance(error, RequestValidationError)
    refusal = invalid_request(error.errors(), skip=1)
    request.state.error_code = refusal.code
    return error_response(refusal, request_id=request_id(request))


async def _handle_routing_error(request: Request, error: Exception) -> JSONResponse:
    """No route has this path, or none takes this method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return _wrong_method(request)
    refusal = e.NotFound(f"There is no {request.url.path} here.", hint="/openapi.json lists every path.")
    return error_response(refusal, request_id=request_id(request))


def _wrong_method(request: Request) -> JSONResponse:
    allowed = ", ".join(_allowed_methods(request))
    refusal = e.MethodNotAllowed(f"{request.url.path} does not take {request.method}.", hint=f"It takes {allowed}.")
    response = error_response(refusal, request_id=request_id(request))
    response.headers["Allow"] = allowed
    return response


def _allowed_methods(request: Request) -> list[str]:
    """Methods of all routes with this path; the router itself reports those of the first one only.

    Where a documented route has exactly this path, those with a parameter in its place do not count.
    """
    routes, path = request.app.router.routes, request.app.openapi()["paths"].get(request.scope["path"])

    def accepts(method: str) -> bool:
        if path is not None:
            return method.lower() in path
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in routes)

    return [method for method in _METHODS if accepts(method) or (method == "HEAD" and accepts("GET"))]
