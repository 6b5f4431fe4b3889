"""Carries webhooks that are due: some at a time, few of one client or to one host, each signed afresh."""

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
from alphareel.service.ports import Clock
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
from alphareel.telemetry.tracing import current_traceparent, start_span

if TYPE_CHECKING:
    from alphareel.db.webhooks import WebhookStore

_AGENT = "alphareel-webhooks"


@dataclass(frozen=True)
class WebhookSender:
    """Makes one try: signs, sends, and says how it went."""

    poster: Poster
    secrets: Secrets
    clock: Clock

    def send(self, webhook_id: str, event: str, url: str, data: Mapping[str, Any]) -> Attempt:
        """Never raises for what a receiver does."""
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


@dataclass(frozen=True)
class DispatchLimits:
    """``at_once``: webhooks on their way at a time, ``per_client`` of one client's and ``per_host`` to one host.

    A client gets less than a host takes, and a host less than there is: whoever's receivers hang, there is a way for
    others, to the same host too. Seconds; ``lease`` outlasts what the poster may take.
    """

    at_once: int = 16
    per_client: int = 2
    per_host: int = 4
    pause: float = 1.0
    lease: float = 30.0


class WebhookDispatcher:
    """A thread of every worker process; many may look at one store."""

    def __init__(
        self, webhooks: WebhookStore, courier: WebhookSender, *, present: SerializeJob, rules: DispatchLimits
    ) -> None:
        self._webhooks = webhooks
        self._sender = courier
        self._present = present
        self._rules = rules
        self._hosts = Counter[str]()
        self._clients = Counter[str]()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._news = threading.Event()
        self._workers = ThreadPoolExecutor(rules.at_once, thread_name_prefix="webhook")
        self._thread = threading.Thread(target=self._run, name="postman", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def drain(self) -> None:
        """From now on take nothing new."""
        self._stopping.set()
        self._news.set()

    def stop(self) -> None:
        """Take nothing new, and wait for what is on its way."""
        self.drain()
        self._thread.join()
        self._workers.shutdown()

    def dispatch_due(self) -> int:
        """Send off what is due and finds a free carrier; returns how many. Raises Unavailable."""
        rules = self._rules
        with self._lock:
            free = rules.at_once - self._hosts.total()
            hosts = {host for host, count in self._hosts.items() if count >= rules.per_host}
            clients = {client for client, count in self._clients.items() if count >= rules.per_client}
        found = self._webhooks.due(limit=free, hosts=hosts, clients=clients) if free > 0 else ()
        return sum(self._send_off(due) for due in found if self._may_go(due))

    def _may_go(self, due: DueDelivery) -> bool:
        return self._hosts[due.host] < self._rules.per_host and self._clients[due.client] < self._rules.per_client

    def _send_off(self, due: DueDelivery) -> bool:
        parcel = self._webhooks.claim(due.id, lease=timedelta(seconds=self._rules.lease))
        if parcel is None:
            return False
        with self._lock:
            self._hosts[due.host] += 1
            self._clients[due.client] += 1
        self._workers.submit(self._carry, parcel, due)
        return True

    def _carry(self, parcel: ClaimedDelivery, due: DueDelivery) -> None:
        webhook = parcel.webhook
        try:
            with log_context(job_id=webhook.job_id):
                attempt = self._traced_try(parcel)
                self._webhooks.settle(webhook.id, tries=webhook.tries, attempt=attempt)
                _log(webhook.id, webhook.event, attempt)
        except Unavailable:
            get_logger(__name__).warning("webhook could not be settled and will go once more", webhook=webhook.id)
        except Exception:  # noqa: BLE001  # it is due again when its lease is over
            get_logger(__name__).exception("webhook broke", webhook=webhook.id)
        finally:
            with self._lock:
                self._hosts[due.host] -= 1
                self._clients[due.client] -= 1
                self._hosts += Counter()  # drops hosts that are idle
                self._clients += Counter()
            self._news.set()

    def _traced_try(self, parcel: ClaimedDelivery) -> Attempt:
        """In the trace of the request that started the job; its receiver may go on with it."""
        webhook, job = parcel.webhook, parcel.job
        with start_span("webhook", parent=job.traceparent, kind="client", job_id=job.id, event=webhook.event) as span:
            attempt = self._sender.send(webhook.id, webhook.event, webhook.url, self._present(job))
            if span is not None:
                span.tell(webhook=webhook.id, attempt=webhook.tries, status=attempt.status_code)
            if span is not None and attempt.error is not None:
                span.fail(str(attempt.status_code or "no_answer"))
            return attempt

    def _carry_all_due(self) -> None:
        """Look until a look finds nobody to send off: one client's many may have filled those before."""
        more = 1
        while more and not self._stopping.is_set():
            more = self.dispatch_due()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._news.clear()
            try:
                self._carry_all_due()
            except Unavailable:
                get_logger(__name__).warning("webhooks wait for the database")
            except Exception:  # noqa: BLE001  # the next round tries again; without this thread nobody would
                get_logger(__name__).exception("webhooks failed")
            self._news.wait(self._rules.pause)


def _log(webhook_id: str, event: str, attempt: Attempt) -> None:
    told = get_logger(__name__).warning if attempt.error else get_logger(__name__).info
    told("webhook tried", webhook=webhook_id, webhook_event=event, status=attempt.status_code, error=attempt.error)
