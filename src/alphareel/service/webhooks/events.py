"""Webhooks: what is told, to whom, how it is signed and when it is tried again. Values and pure functions.

Two standards on one request: RemoveBGVideo's headers (``X-Webhook-*``, HMAC-SHA256 as hex over the ISO timestamp, a
dot and the body) and Standard Webhooks 1.0 (``webhook-*``, base64 over id, Unix timestamp and body).
"""

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from alphareel.service.jobs.models import Job, Status

EVENTS: Mapping[Status, str] = {
    Status.PROCESSING: "job.started",
    Status.COMPLETED: "job.completed",
    Status.FAILED: "job.failed",
}
TEST_EVENT = "webhook.test"

# How long each try waits after the one before it; when the last has failed, nobody tries again by himself.
RETRY_DELAYS = tuple(timedelta(seconds=s) for s in (0, 5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600))
BLOCKING_ATTEMPTS = 3
"""So many tries of an event hold back the later events of its job; then those overtake it, and it is given up."""

_GONE = 410
_STANDARD_PREFIX = "whsec_"

SerializeJob = Callable[[Job], dict[str, Any]]
"""The job object as the API shows it."""


class State(StrEnum):
    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True)
class Attempt:
    """One try: ``status_code`` None when there was no answer; ``error`` None when it was accepted (2xx)."""

    at: datetime
    status_code: int | None
    error: str | None
    milliseconds: int
    final: bool = False


@dataclass(frozen=True)
class Webhook:
    """An event on its way. ``tries`` counts since it was last asked for; ``number`` orders the events of a job."""

    id: str
    job_id: str
    number: int
    run: int
    event: str
    url: str
    state: State
    tries: int
    due_at: datetime
    created_at: datetime
    sent_at: datetime | None = None
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True)
class ClaimedDelivery:
    """A webhook in the hands of who carries it, with the job as it was at the event."""

    webhook: Webhook
    job: Job


@dataclass(frozen=True)
class DueDelivery:
    """A webhook to carry now, to whom, and on whose behalf: ``client`` is empty for jobs without a key."""

    id: str
    host: str
    client: str


class Poster(Protocol):
    """Outbound requests, guarded like fetching: addresses checked and pinned, redirects not followed, bounded."""

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """The status of the answer. Raises FetchRefused, FetchFailed."""


@dataclass(frozen=True)
class Secrets:
    """What requests are signed with: the first is current, a second is still known to some receivers."""

    values: Sequence[str] = field(default=(), repr=False)

    def headers(self, webhook_id: str, body: bytes, *, now: datetime) -> dict[str, str]:
        """Everything that names, dates and signs a request; without a secret there is no signature."""
        stamp, seconds = iso(now), str(int(now.timestamp()))
        made = {
            "X-Webhook-Delivery-Id": webhook_id,
            "X-Webhook-Timestamp": stamp,
            "webhook-id": webhook_id,
            "webhook-timestamp": seconds,
        }
        if self.values:
            made["X-Webhook-Signature"] = "sha256=" + _mac(self.values[0].encode(), f"{stamp}.", body).hex()
            made["webhook-signature"] = " ".join(
                "v1," + base64.b64encode(_mac(standard_key(secret), f"{webhook_id}.{seconds}.", body)).decode()
                for secret in self.values
            )
        return made


def standard_key(secret: str) -> bytes:
    """The key bytes of a secret by Standard Webhooks: ``whsec_`` and base64, else the text itself.

    Raises ValueError for a ``whsec_`` that is no base64.
    """
    if not secret.startswith(_STANDARD_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_STANDARD_PREFIX) + "==", validate=False)
    except binascii.Error as error:
        raise ValueError("is no base64 after whsec_") from error


def write_body(webhook_id: str, event: str, data: Mapping[str, Any], *, now: datetime) -> bytes:
    """The body, byte for byte as it is signed and sent."""
    told = {"event": event, "event_id": webhook_id, "timestamp": iso(now), "data": data}
    return json.dumps(told, separators=(",", ":")).encode()


def next_state(tries: int, attempt: Attempt) -> tuple[State, timedelta]:
    """What becomes of a webhook after its ``tries``-th try, and how long until the next."""
    if attempt.error is None:
        return State.SENT, timedelta()
    if attempt.final or attempt.status_code == _GONE or tries >= len(RETRY_DELAYS):
        return State.FAILED, timedelta()
    return State.PENDING, RETRY_DELAYS[tries]


def make_webhook_id() -> str:
    return "whd_" + secrets.token_hex(16)


def iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _mac(key: bytes, prefix: str, body: bytes) -> bytes:
    return hmac.new(key, prefix.encode() + body, hashlib.sha256).digest()
