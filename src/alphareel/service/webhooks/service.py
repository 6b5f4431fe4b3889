"""What callers ask of webhooks: the log of a job's, another delivery, a test of a receiver (only that goes at once)."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from alphareel.domain.errors import NotFound, Unavailable
from alphareel.domain.options import Options
from alphareel.service.jobs import validation
from alphareel.service.jobs.models import Job, Status
from alphareel.service.ports import Clock
from alphareel.service.webhooks.dispatcher import WebhookSender
from alphareel.service.webhooks.events import TEST_EVENT, Attempt, SerializeJob, Webhook, WebhookStore, make_webhook_id

_TESTS_AT_ONCE = 4  # in a process


@dataclass(frozen=True)
class WebhookTestResult:
    """A test event and how it went."""

    id: str
    event: str
    url: str
    attempt: Attempt


class WebhookService:
    def __init__(self, webhooks: WebhookStore, courier: WebhookSender, *, clock: Clock) -> None:
        self._webhooks = webhooks
        self._sender = courier
        self._clock = clock
        self._testing: set[str] = set()
        self._lock = threading.Lock()

    def log(self, job: Job) -> tuple[Webhook, ...]:
        """The job's webhooks with every attempt, in the order of their events."""
        return self._webhooks.webhooks(job.id)

    def resend(self, job: Job, webhook_id: str) -> Webhook:
        """Send it once more, now, under the same id; one that is on its way stays as it is. Raises NotFound."""
        found = self._webhooks.resend(job.id, webhook_id)
        if found is None:
            raise NotFound("Webhook not found", hint="GET /v1/jobs/{job_id}/webhooks lists those of the job.")
        return found

    def test(self, body: Mapping[str, Any], *, client: str, present: SerializeJob) -> WebhookTestResult:
        """Send a made-up event and wait for the answer. Raises InvalidRequest, Unavailable."""
        url = validation.parse_receiver(body)
        with self._place(client):
            made = make_webhook_id()
            data = present(_sample(url, now=self._clock.now()))
            return WebhookTestResult(made, TEST_EVENT, url, self._sender.carry(made, TEST_EVENT, url, data))

    @contextmanager
    def _place(self, client: str) -> Iterator[None]:
        """One for each client, so that nobody's receiver that hangs takes them all; each ties up a request."""
        with self._lock:
            if client in self._testing or len(self._testing) >= _TESTS_AT_ONCE:
                raise Unavailable("Other webhooks are being tested.", hint="Try again in a moment.")
            self._testing.add(client)
        try:
            yield
        finally:
            with self._lock:
                self._testing.discard(client)


def _sample(url: str, *, now: datetime) -> Job:
    return Job(
        id="job_test",
        key_id=None,
        status=Status.COMPLETED,
        options=Options(),
        video_url="https://example.com/input.mp4",
        webhook_url=url,
        metadata={"test": True},
        progress=100.0,
        created_at=now,
        updated_at=now,
        started_at=now,
        completed_at=now,
    )
