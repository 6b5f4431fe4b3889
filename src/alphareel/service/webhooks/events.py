"""Webhook events: their bodies, signatures and retries, as values and pure functions.

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

# Delay before each attempt. After the last failure, only a manual redelivery retries.
RETRY_DELAYS = tuple(timedelta(seconds=s) for s in (0, 5, 30, 120, 600, 3600, 6 * 3600, 24 * 3600))
BLOCKING_ATTEMPTS = 3
"""Later events of a job wait for so many attempts of an event; after that they overtake it, and it fails."""

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
    """One attempt. ``status_code`` is None without a response; ``error`` is None when it was accepted (2xx)."""

    at: datetime
    status_code: int | None
    error: str | None
    milliseconds: int
    final: bool = False


@dataclass(frozen=True)
class Webhook:
    """The delivery of one event. ``number`` orders the events of a job; ``tries`` restarts at a redelivery."""

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
    """A webhook that a dispatcher has claimed, with the job as it was at the event."""

    webhook: Webhook
    job: Job


@dataclass(frozen=True)
class DueDelivery:
    """A webhook to send now. ``client`` is empty for jobs without a key."""

    id: str
    host: str
    client: str


class Poster(Protocol):
    """Sends POST requests. Like downloads they are guarded against SSRF; redirects are not followed."""

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        """Return the status code of the response. Raises FetchRefused, FetchFailed."""


@dataclass(frozen=True)
class Secrets:
    """Signing secrets: the first is current; receivers may still know the second."""

    values: Sequence[str] = field(default=(), repr=False)

    def headers(self, webhook_id: str, body: bytes, *, now: datetime) -> dict[str, str]:
        """Headers with the ID, the time and the signatures; no signatures without a secret."""
        stamp, seconds = iso(now), str(int(now.timestamp()))
        headers = {
            "X-Webhook-Delivery-Id": webhook_id,
            "X-Webhook-Timestamp": stamp,
            "webhook-id": webhook_id,
            "webhook-timestamp": seconds,
        }
        if self.values:
            headers["X-Webhook-Signature"] = "sha256=" + _mac(self.values[0].encode(), f"{stamp}.", body).hex()
            headers["webhook-signature"] = " ".join(
                "v1," + base64.b64encode(_mac(standard_key(secret), f"{webhook_id}.{seconds}.", body)).decode()
                for secret in self.values
            )
        return headers


def standard_key(secret: str) -> bytes:
    """The key of a secret by Standard Webhooks: base64 after ``whsec_``, else the text itself.

    Raises ValueError when the part after ``whsec_`` is not base64.
    """
    if not secret.startswith(_STANDARD_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(_STANDARD_PREFIX) + "==", validate=False)
    except binascii.Error as error:
        raise ValueError("is no base64 after whsec_") from error


def write_body(webhook_id: str, event: str, data: Mapping[str, Any], *, now: datetime) -> bytes:
    """The body, byte for byte as it is signed and sent."""
    payload = {"event": event, "event_id": webhook_id, "timestamp": iso(now), "data": data}
    return json.dumps(payload, separators=(",", ":")).encode()


def next_state(tries: int, attempt: Attempt) -> tuple[State, timedelta]:
    """The state after attempt number ``tries``, and the delay until the next attempt."""
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
