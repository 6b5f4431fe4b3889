"""Requests that a caller may send again: the name they gave one (Idempotency-Key), and the answer it had."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from alphareel.domain.errors import FieldProblem, IdempotencyConflict, IdempotencyInProgress, InvalidRequest
from alphareel.service.jobs.models import Job

HEADER = "Idempotency-Key"
KEPT = timedelta(hours=24)
LEASE = timedelta(seconds=30)  # an upload whose server died may be tried again after so long
RENEWED = timedelta(seconds=10)  # how often a server that lives renews the leases of its uploads
LONGEST = 255


class ReplayedResponse(Exception):
    """The request was carried out before; ``body`` is the JSON that answered it, and answers it again."""

    def __init__(self, body: str) -> None:
        super().__init__("answered before")
        self.body = body


@dataclass(frozen=True)
class IdempotentRequest:
    """A request that is to be carried out once. ``render``: the answer, as JSON, to what it makes."""

    key_id: str
    name: str
    fingerprint: str
    render: Callable[[Job], str]


@dataclass(frozen=True)
class Reservation:
    """An upload on its way under a name; ``answer``: fingerprint and body, when there was one under it before."""

    key_id: str
    name: str
    token: str
    answer: tuple[str, str] | None = None


def fingerprint(what: str, body: str) -> str:
    """Tells one request from another; the same for the same request."""
    return hashlib.sha256(f"{what}\n{body}".encode("utf-8", "surrogateescape")).hexdigest()


def answer_to(asked: str, known: str, body: str) -> Exception:
    """What the second request under a name comes to: the answer of the first, or a refusal."""
    if asked == known:
        return ReplayedResponse(body)
    return IdempotencyConflict(
        f"This {HEADER} was used for another request.", hint="Use a new one for each request, the same to repeat it."
    )


def in_progress(left: timedelta = timedelta(seconds=1)) -> IdempotencyInProgress:
    """``left``: until the lease ends of whoever carries it out."""
    return IdempotencyInProgress(
        f"A request with this {HEADER} is still being carried out.",
        hint="Wait as long as Retry-After says.",
        retry_after=max(1.0, left.total_seconds()),
    )


def check_name(value: Any) -> str:
    """The name as sent. Raises InvalidRequest unless it is 1 to 255 visible ASCII characters."""
    if not isinstance(value, str) or not 1 <= len(value) <= LONGEST or not (value.isascii() and value.isprintable()):
        message = f"must have 1 to {LONGEST} printable ASCII characters."
        raise InvalidRequest(f"{HEADER} {message}", details=[FieldProblem(HEADER, message)])
    return value
