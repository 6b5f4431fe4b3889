"""Requests that a caller may send again: the name they gave one (Idempotency-Key), and the answer it had."""

import hashlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from alphareel.domain.errors import FieldProblem, IdempotencyConflict, IdempotencyInProgress, InvalidRequest
from alphareel.service.jobs.models import Job, Upload

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


class IdempotencyStore(Protocol):
    """Names and answers of the last 24 hours. Each method is one transaction."""

    def lookup(self, once: IdempotentRequest) -> None:
        """Raises Answered, IdempotencyConflict, IdempotencyInProgress when the name is known; else nothing."""

    def reserve(self, key_id: str, name: str) -> Reservation:
        """Take the name for an upload. Raises IdempotencyInProgress while another has it."""

    def store(self, claim: Reservation, *, fingerprint: str, body: str) -> None:
        """Keep the answer, unless somebody else took the name when the lease was over."""

    def release(self, claim: Reservation) -> None:
        """Free the name: nothing was done under it."""

    def renew(self) -> None:
        """Go on holding the names that this process took for uploads and has neither finished nor forgotten."""

    def sweep_idempotency_keys(self) -> None:
        """Forget what is older than 24 hours."""


class UploadSessionLike(Protocol):
    """What ``uploads.Receiving`` is, as far as it matters here."""

    @property
    def sha256(self) -> str: ...
    @property
    def filename(self) -> str: ...
    def write(self, data: bytes) -> None: ...
    def start_probe(self) -> "Future[Any] | None": ...
    def finish(self) -> Upload: ...
    def abort(self) -> None: ...


class IdempotentUpload:
    """An upload session under a name: the same file again is answered as before, and kept once."""

    def __init__(
        self,
        session: UploadSessionLike,
        store: IdempotencyStore,
        claim: Reservation,
        *,
        render: Callable[[Upload], str],
    ) -> None:
        self._session = session
        self._store = store
        self._claim = claim
        self._render = render

    def write(self, data: bytes) -> None:
        self._session.write(data)

    def start_probe(self) -> "Future[Any] | None":
        """Nothing is examined where the name has its answer already."""
        return self._session.start_probe() if self._claim.answer is None else None

    def finish(self) -> Upload:
        """Raises Answered, IdempotencyConflict, and what the session raises."""
        told = fingerprint("upload", f"{self._session.filename}\n{self._session.sha256}")
        if self._claim.answer is not None:
            self._session.abort()
            raise answer_to(told, *self._claim.answer)
        upload = self._session.finish()
        self._store.store(self._claim, fingerprint=told, body=self._render(upload))
        return upload

    def abort(self) -> None:
        self._session.abort()
        if self._claim.answer is None:
            self._store.release(self._claim)


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
