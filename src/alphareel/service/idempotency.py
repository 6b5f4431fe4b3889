"""Idempotent requests: a request that is repeated under the same Idempotency-Key gets the first response again."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from alphareel.domain.errors import FieldProblem, IdempotencyConflict, IdempotencyInProgress, InvalidRequest
from alphareel.service.jobs.models import Job

HEADER = "Idempotency-Key"
KEPT = timedelta(hours=24)
LEASE = timedelta(seconds=30)  # after a server died, its uploads can be repeated after this time
RENEWED = timedelta(seconds=10)  # how often a server renews the leases of its uploads
LONGEST = 255

# Fields of stored responses that repeat what a caller wrote or link to files, and what they become.
_LISTS = ("outputs", "requested_outputs", "warnings", "keep", "drop", "points", "moments")
_TEXTS = ("text_prompt", "composition", "key_color", "webhook_url", "output_target_url", "mask_url", "box", "error")
_FILES = ("output_url", "expires_at", "preview_url", "sheet_url", "output", "matte", "delivery")
_DELETED: Mapping[str, Any] = {
    "message": "Job deleted",
    "video_url": "",
    "background": {"type": "transparent", "color": None, "image_url": None, "radius": None, "video_url": None},
    "metadata": {},
    **{name: [] for name in _LISTS},
    **dict.fromkeys((*_TEXTS, *_FILES)),
}


class ReplayedResponse(Exception):
    """The request was performed before; ``body`` is the JSON of its response."""

    def __init__(self, body: str) -> None:
        super().__init__("answered before")
        self.body = body


@dataclass(frozen=True)
class IdempotentRequest:
    """A request that must be performed only once. ``render`` makes the JSON of the response."""

    key_id: str
    name: str
    fingerprint: str
    render: Callable[[Job], str]


@dataclass(frozen=True)
class Reservation:
    """A key that is reserved for an upload. ``answer``: fingerprint and body of an earlier response."""

    key_id: str
    name: str
    token: str
    answer: tuple[str, str] | None = None


def fingerprint(what: str, body: str) -> str:
    """A hash that is equal for equal requests only."""
    return hashlib.sha256(f"{what}\n{body}".encode("utf-8", "surrogateescape")).hexdigest()


def answer_to(fingerprint: str, known: str, body: str) -> Exception:
    """The exception for a repeated request: the first response for an equal request, else a conflict."""
    if fingerprint == known:
        return ReplayedResponse(body)
    return IdempotencyConflict(
        f"This {HEADER} was used for another request.", hint="Use a new one for each request, the same to repeat it."
    )


def without_job(body: str, job_id: str) -> str:
    """The JSON of a stored response without what a caller wrote in the job with this ID, and without its links.

    All fields stay, so it is still what the route returns. ``body`` may have the job among others.
    """
    return json.dumps(_without_job(json.loads(body), job_id))


def _without_job(value: Any, job_id: str) -> Any:
    if isinstance(value, list):
        return [_without_job(each, job_id) for each in value]
    if not isinstance(value, dict):
        return value
    if value.get("id") == job_id:
        return {name: _DELETED.get(name, each) for name, each in value.items()}
    return {name: _without_job(each, job_id) for name, each in value.items()}


def in_progress(left: timedelta = timedelta(seconds=1)) -> IdempotencyInProgress:
    """``left``: time until the lease of the running request ends."""
    return IdempotencyInProgress(
        f"A request with this {HEADER} is still in progress.",
        hint="Wait as long as Retry-After says.",
        retry_after=max(1.0, left.total_seconds()),
    )


def check_name(value: Any) -> str:
    """The key as sent. Raises InvalidRequest unless it has 1 to 255 printable ASCII characters."""
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST or not (value.isascii() and value.isprintable()):
        message = f"must have 1 to {LONGEST} printable ASCII characters."
        raise InvalidRequest(f"{HEADER} {message}", details=[FieldProblem(HEADER, message)])
    return value
