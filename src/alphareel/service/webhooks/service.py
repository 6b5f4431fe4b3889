"""Webhooks as callers see them: the delivery log of a job, redelivery, and a synchronous test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from alphareel.domain.errors import NotFound, Unavailable
from alphareel.domain.options import Options
from alphareel.service.jobs.models import Job, Status
from alphareel.service.jobs.service import JobService
from alphareel.service.ports import Clock
from alphareel.service.principal import Principal
from alphareel.service.webhooks.dispatcher import WebhookSender
from alphareel.service.webhooks.events import TEST_EVENT, Attempt, SerializeJob, Webhook, make_webhook_id

if TYPE_CHECKING:
    from alphareel.db.webhooks import WebhookStore

MAX_CONCURRENT_TESTS = 4  # per process


@dataclass(frozen=True)
class WebhookTestResult:
    """A test event and how it went."""

    id: str
    event: str
    url: str
    attempt: Attempt


class WebhookService:
    def __init__(self, store: WebhookStore, sender: WebhookSender, *, jobs: JobService, clock: Clock) -> None:
        self._store = store
        self._sender = sender
        self._jobs = jobs
        self._clock = clock
        self._testing: set[str] = set()
        self._lock = threading.Lock()

    def list(self, principal: Principal, job_id: str) -> tuple[Webhook, ...]:
        """The job's webhooks with every attempt, in the order of their events. Raises NotFound."""
        return self._store.webhooks(self._jobs.get(principal, job_id).id)

    def redeliver(self, principal: Principal, job_id: str, webhook_id: str) -> Webhook:
        """Send it again now, under the same ID; one that is being sent stays as it is. Raises NotFound."""
        webhook = self._store.resend(self._jobs.get(principal, job_id).id, webhook_id)
        if webhook is None:
            raise NotFound("Webhook not found", hint="GET /v1/jobs/{job_id}/webhooks lists those of the job.")
        return webhook

    def test(self, principal: Principal, url: str, *, serialize_job: SerializeJob) -> WebhookTestResult:
        """Send a sample event to ``url`` and wait for the response. Raises Unavailable."""
        with self._test_slot(principal.require_key().client_id):
            webhook_id = make_webhook_id()
            data = serialize_job(_sample_job(url, now=self._clock.now()))
            attempt = self._sender.send(webhook_id, TEST_EVENT, url, data)
            return WebhookTestResult(webhook_id, TEST_EVENT, url, attempt)

    @contextmanager
    def _test_slot(self, client: str) -> Iterator[None]:
        """One per client, because a test blocks a request thread for as long as the receiver hangs."""
        with self._lock:
            if client in self._testing or len(self._testing) >= MAX_CONCURRENT_TESTS:
                raise Unavailable("Other webhooks are being tested.", hint="Try again in a moment.")
            self._testing.add(client)
        try:
            yield
        finally:
            with self._lock:
                self._testing.discard(client)


def _sample_job(url: str, *, now: datetime) -> Job:
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
