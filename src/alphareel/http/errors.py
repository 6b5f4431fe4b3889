"""The only mapping from an error to a status, and the one shape in which every error leaves the server."""

import math
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from alphareel.domain import errors as e
from alphareel.http.rate_limits import RateLimitExceeded
from alphareel.service.jobs.queue_limits import RETRY_SECONDS
from alphareel.telemetry.logging import get_logger

log = get_logger(__name__)

STATUS: dict[type[e.AlphareelError], int] = {
    e.InvalidRequest: 400,
    e.InvalidFileType: 400,
    e.FileTooLarge: 400,
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
    e.InsufficientCredits: 402,
    e.NotFound: 404,
    e.MethodNotAllowed: 405,
    e.InvalidState: 409,
    e.TargetExists: 409,
    e.Cancelled: 409,
    e.IdempotencyInProgress: 409,
    e.IdempotencyConflict: 422,
    e.RateLimited: 429,
    RateLimitExceeded: 429,
    e.TooManyJobs: 429,
    e.TooManyUploads: 429,
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
    e.Timeout: 504,
}

# Their messages may speak of files and hosts of ours: the log gets them, the caller does not.
_CONFIDENTIAL = (
    e.InternalError,
    e.OutOfMemory,
    e.VerificationFailed,
    e.WeightsInvalid,
    e.WorkerCrashed,
    e.StorageFailed,
)
# They come by the hundred while something is away, and where they were raised tells nothing.
_EXPECTED = (e.Unavailable, e.StorageFull)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def request_id(request: Request) -> str:
    """The id that ``access.py`` gave this request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def error_response(error: e.AlphareelError, *, request_id: str, status: int | None = None) -> JSONResponse:
    """The answer to a request that failed with ``error``; ``status`` where HTTP has one of its own for it."""
    body = _envelope(error, request_id)
    return JSONResponse(body, status_code=status or STATUS[type(error)], headers=_headers(error))


def _envelope(error: e.AlphareelError, request_id: str) -> dict[str, Any]:
    body: dict[str, Any] = {"code": error.code, "message": _public_text(error), "request_id": request_id}
    if details := getattr(error, "details", ()):
        body["details"] = [{"field": d.field, "message": d.message} for d in details]
    return {"error": body}


def _public_text(error: e.AlphareelError) -> str:
    if isinstance(error, _CONFIDENTIAL):
        return "The server failed to carry out the request. Try again; if it stays so, quote the request id."
    end = "" if error.message.endswith((".", "!", "?")) or not error.hint else "."
    return f"{error.message}{end} {error.hint}".rstrip()


def _headers(error: e.AlphareelError) -> dict[str, str]:
    if isinstance(error, e.MissingApiKey | e.InvalidApiKey):
        return {"WWW-Authenticate": "ApiKey"}
    if isinstance(error, e.MissingAdminToken | e.InvalidAdminToken):
        return {"WWW-Authenticate": "AdminToken"}
    pause = _pause(error)
    return {} if pause is None else {"Retry-After": str(pause)}


def _pause(error: e.AlphareelError) -> int | None:
    """Whole seconds after which the same request may succeed; None for errors that say nothing of it."""
    if isinstance(error, e.RateLimited):
        return max(1, round(error.retry_after + 0.5))
    if isinstance(error, e.Unavailable | e.IdempotencyInProgress) and error.retry_after is not None:
        return max(1, math.ceil(error.retry_after))
    if isinstance(error, e.QueueFull | e.StorageFull):
        return round(RETRY_SECONDS)
    return 5 if isinstance(error, e.Unavailable) else None


def install(app: FastAPI) -> None:
    """Give every exception that a route can raise the shape of the contract."""
    app.add_exception_handler(e.AlphareelError, _refused)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _not_routed)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, e.AlphareelError)
    request.state.error_code = error.code
    if isinstance(error, RateLimitExceeded):
        request.state.budget = error.budget
    if isinstance(error, _EXPECTED):
        log.warning("request_failed", code=error.code, error=str(error), cause=str(error.__cause__ or "")[:500])
    elif STATUS[type(error)] >= 500:
        log.error("request_failed", code=error.code, error=str(error), exc_info=error)
    return error_response(error, request_id=request_id(request))


async def _not_valid(request: Request, error: Exception) -> JSONResponse:
    """Parameters of the path or the query that FastAPI refused: 400 here, never its own 422."""
    assert isinstance(error, RequestValidationError)
    problems = [_problem(found) for found in error.errors()]
    refused = e.InvalidRequest(f"{problems[0].field}: {problems[0].message}.", details=problems)
    request.state.error_code = refused.code
    return error_response(refused, request_id=request_id(request))


def _problem(found: dict[str, Any]) -> e.FieldProblem:
    location: Sequence[Any] = found["loc"]
    return e.FieldProblem(".".join(str(part) for part in location[1:]), found["msg"])


async def _not_routed(request: Request, error: Exception) -> JSONResponse:
    """What the router itself refuses: no such path, or not with this method."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return _wrong_method(request)
    refused = e.NotFound(f"There is no {request.url.path} here.", hint="/openapi.json lists every path.")
    return error_response(refused, request_id=request_id(request))


def _wrong_method(request: Request) -> JSONResponse:
    allowed = ", ".join(_allowed(request))
    refused = e.MethodNotAllowed(f"{request.url.path} does not take {request.method}.", hint=f"It takes {allowed}.")
    response = error_response(refused, request_id=request_id(request))
    response.headers["Allow"] = allowed
    return response


def _allowed(request: Request) -> list[str]:
    """Methods of every route on this path: the router itself knows those of the first one only."""
    routes = request.app.router.routes

    def takes(method: str) -> bool:
        scope = {**request.scope, "method": method}
        return any(route.matches(scope)[0] is Match.FULL for route in routes)

    return [method for method in _METHODS if takes(method) or (method == "HEAD" and takes("GET"))]
