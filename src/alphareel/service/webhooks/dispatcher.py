"""Sends due webhooks: a bounded number at a time, in all, per client and per host."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from alphareel.domain.errors import FetchFailed, FetchRefused, Unavailable
from alphareel.service.clock_watch import ClockWatch
from alphareel.service.ports import Clock
from alphareel.service.settings import WebhookSettings
from alphareel.service.webhooks.events import (
    Attempt,
    ClaimedDelivery,
    DueDelivery,
    Poster,
    Secrets,
    SerializeJob,
    write_body,
)
from alphareel.telemetry.logging import get_logger, log_context
from alphareel.telemetry.tracing import current_traceparent, set_span_error, span_attributes, start_span

if TYPE_CHECKING:
    from alphareel.db.webhooks import WebhookStore

_AGENT = "alphareel-webhooks"


@dataclass(frozen=True)
class WebhookSender:
    """Signs and sends one attempt."""

    poster: Poster
    secrets: Secrets
    clock: Clock

    def send(self, webhook_id: str, event: str, url: str, data: Mapping[str, Any]) -> Attempt:
        """Failures of the receiver are part of the result; never raises for them."""
        at, began = self.clock.now(), time.monotonic()
        body = write_body(webhook_id, event, data, now=at)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": _AGENT,
            "X-Webhook-Event": event,
            **self.secrets.headers(webhook_id, body, now=at),
        }
        if (trace := current_traceparent()) is not None:
            headers["traceparent"] = trace
        status, error, final = self._post(url, headers, body)
        return Attempt(at, status, error, round((time.monotonic() - began) * 1000), final)

    def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[int | None, str | None, bool]:
        try:
            status = self.poster.post(url, headers, body)
        except FetchRefused as error:
            return None, str(error), True
        except FetchFailed as error:
            return None, str(error), False
        return status, None if 200 <= status < 300 else f"The receiver answered with status {status}.", False


class WebhookDispatcher:
    """A thread of every worker process; any number may share the store."""

    def __init__(
        self, webhooks: WebhookStore, sender: WebhookSender, *, serialize_job: SerializeJob, settings: WebhookSettings
    ) -> None:
        self._webhooks = webhooks
        self._sender = sender
        self._serialize_job = serialize_job
        self._settings = settings
        self._clock_watch = ClockWatch(sender.clock)
        self._is_rescheduled = False
        self._in_flight = set[str]()
        self._hosts = Counter[str]()
        self._clients = Counter[str]()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._wake_up = threading.Event()
        self._workers = ThreadPoolExecutor(settings.max_sending, thread_name_prefix="webhook")
        self._thread = threading.Thread(target=self._run, name="webhook-dispatcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Look for due deliveries now."""
        self._wake_up.set()

    def drain(self) -> None:
        """Start no other delivery, and do not wait for running ones."""
        self._stopping.set()
        self._wake_up.set()

    def stop(self) -> None:
        """Start no other delivery, and wait for running ones."""
        self.drain()
        self._thread.join()
        self._workers.shutdown()

    def dispatch_due(self) -> int:
        """Start the due deliveries that the limits allow; returns how many. Raises Unavailable."""
        settings = self._settings
        with self._lock:
            free = settings.max_sending - self._hosts.total()
            hosts = {host for host, count in self._hosts.items() if count >= settings.max_sending_per_host}
            clients = {client for client, count in self._clients.items() if count >= settings.max_sending_per_client}
        due = self._webhooks.due(limit=free, hosts=hosts, clients=clients) if free > 0 else ()
        return sum(self._start_delivery(delivery) for delivery in due if self._is_allowed(delivery))

    def _is_allowed(self, due: DueDelivery) -> bool:
        settings = self._settings
        return (
            self._hosts[due.host] < settings.max_sending_per_host
            and self._clients[due.client] < settings.max_sending_per_client
        )

    def _start_delivery(self, due: DueDelivery) -> bool:
        with self._lock:
            if due.id in self._in_flight:  # its lease ended early: the clock was set ahead
                return False
        claimed = self._webhooks.claim(due.id, lease=timedelta(seconds=self._settings.lease_seconds))
        if claimed is None:
            return False
        with self._lock:
            self._in_flight.add(due.id)
            self._hosts[due.host] += 1
            self._clients[due.client] += 1
        self._workers.submit(self._deliver, claimed, due)
        return True

    def _deliver(self, claimed: ClaimedDelivery, due: DueDelivery) -> None:
        webhook = claimed.webhook
        try:
            with log_context(job_id=webhook.job_id):
                attempt = self._traced_send(claimed)
                self._webhooks.settle(webhook.id, tries=webhook.tries, attempt=attempt)
                _log(webhook.id, webhook.event, attempt)
        except Unavailable:
            get_logger(__name__).warning("webhook could not be settled and will be sent again", webhook=webhook.id)
        except Exception:  # noqa: BLE001  # it is due again when its lease expires
            get_logger(__name__).exception("webhook broke", webhook=webhook.id)
        finally:
            with self._lock:
                self._in_flight.discard(due.id)
                self._hosts[due.host] -= 1
                self._clients[due.client] -= 1
                self._hosts += Counter()  # drops counts of zero
                self._clients += Counter()
            self._wake_up.set()

    def _traced_send(self, claimed: ClaimedDelivery) -> Attempt:
        """Send in the trace of the request that started the job; the receiver may continue the trace."""
        webhook, job = claimed.webhook, claimed.job
        with start_span("webhook", parent=job.traceparent, kind="client", job_id=job.id, event=webhook.event) as span:
            attempt = self._sender.send(webhook.id, webhook.event, webhook.url, self._serialize_job(job))
            span.set_attributes(span_attributes(webhook=webhook.id, attempt=webhook.tries, status=attempt.status_code))
            if attempt.error is not None:
                set_span_error(span, str(attempt.status_code or "no_answer"))
            return attempt

    def _dispatch_all_due(self) -> None:
        """Repeat until nothing can start: deliveries of one client may fill the result of a whole query."""
        started = 1
        while started and not self._stopping.is_set():
            started = self.dispatch_due()

    def reschedule_after_step(self) -> None:
        """At the start, and after the clock was set back: else what it scheduled waits until it is that late again."""
        if self._clock_watch.step() < timedelta():
            self._is_rescheduled = False
        if not self._is_rescheduled:
            self._webhooks.reschedule(lease=timedelta(seconds=self._settings.lease_seconds))
            self._is_rescheduled = True

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake_up.clear()
            try:
                self.reschedule_after_step()
                self._dispatch_all_due()
            except Unavailable:
                get_logger(__name__).warning("webhooks wait for the database")
            except Exception:  # noqa: BLE001  # without this thread nobody would send webhooks
                get_logger(__name__).exception("webhooks failed")
            self._wake_up.wait(self._settings.poll_seconds)


def _log(webhook_id: str, event: str, attempt: Attempt) -> None:
    log = get_logger(__name__).warning if attempt.error else get_logger(__name__).info
    log("webhook tried", webhook=webhook_id, webhook_event=event, status=attempt.status_code, error=attempt.error)
