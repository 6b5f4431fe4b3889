"""Carries webhooks that are due: some at a time, few to the same host, each signed afresh. Keeps nothing itself."""

import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from alphareel import observe
from alphareel.domain.errors import FetchFailed, FetchRefused, Unavailable
from alphareel.jobs.ports import Clock
from alphareel.jobs.webhooks import Attempt, Parcel, Poster, Present, Secrets, Webhooks, write_body

_AGENT = "alphareel-webhooks"


@dataclass(frozen=True)
class Courier:
    """Makes one try: signs, sends, and says how it went."""

    poster: Poster
    secrets: Secrets
    clock: Clock

    def carry(self, webhook_id: str, event: str, url: str, data: Mapping[str, Any]) -> Attempt:
        """Never raises for what a receiver does."""
        at, began = self.clock.now(), time.monotonic()
        body = write_body(webhook_id, event, data, now=at)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": _AGENT,
            "X-Webhook-Event": event,
            **self.secrets.headers(webhook_id, body, now=at),
        }
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
class PostRules:
    """``at_once``: webhooks on their way at a time, ``per_host`` of them to one host. Seconds."""

    at_once: int = 8
    per_host: int = 2
    pause: float = 1.0
    lease: float = 30.0


class Postman:
    """A thread of every worker process; many may look at one store."""

    def __init__(self, webhooks: Webhooks, courier: Courier, *, present: Present, rules: PostRules) -> None:
        self._webhooks = webhooks
        self._courier = courier
        self._present = present
        self._rules = rules
        self._busy = Counter[str]()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._news = threading.Event()
        self._carriers = ThreadPoolExecutor(rules.at_once, thread_name_prefix="webhook")
        self._thread = threading.Thread(target=self._run, name="postman", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wind_down(self) -> None:
        """From now on take nothing new."""
        self._stopping.set()
        self._news.set()

    def stop(self) -> None:
        """Take nothing new, and wait for what is on its way."""
        self.wind_down()
        self._thread.join()
        self._carriers.shutdown()

    def carry_due(self) -> int:
        """Send off what is due and finds a free carrier; returns how many. Raises Unavailable."""
        sent = 0
        with self._lock:
            free = self._rules.at_once - self._busy.total()
            busy = {host for host, count in self._busy.items() if count >= self._rules.per_host}
        for webhook_id, host in self._webhooks.due(limit=free, busy=busy) if free > 0 else ():
            if self._busy[host] < self._rules.per_host and self._send_off(webhook_id, host):
                sent += 1
        return sent

    def _send_off(self, webhook_id: str, host: str) -> bool:
        parcel = self._webhooks.claim(webhook_id, lease=timedelta(seconds=self._rules.lease))
        if parcel is None:
            return False
        with self._lock:
            self._busy[host] += 1
        self._carriers.submit(self._carry, parcel, host)
        return True

    def _carry(self, parcel: Parcel, host: str) -> None:
        webhook = parcel.webhook
        try:
            with observe.bound(job_id=webhook.job_id):
                attempt = self._courier.carry(webhook.id, webhook.event, webhook.url, self._present(parcel.job))
                self._webhooks.settle(webhook.id, tries=webhook.tries, attempt=attempt)
                _log(webhook.id, webhook.event, attempt)
        except Unavailable:
            observe.log(__name__).warning("webhook could not be settled and will go once more", webhook=webhook.id)
        except Exception:  # noqa: BLE001  # it is due again when its lease is over
            observe.log(__name__).exception("webhook broke", webhook=webhook.id)
        finally:
            with self._lock:
                self._busy[host] -= 1
                self._busy += Counter()  # drops hosts that are idle
            self._news.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._news.clear()
            try:
                self.carry_due()
            except Unavailable:
                observe.log(__name__).warning("webhooks wait for the database")
            except Exception:  # noqa: BLE001  # the next round tries again; without this thread nobody would
                observe.log(__name__).exception("webhooks failed")
            self._news.wait(self._rules.pause)


def _log(webhook_id: str, event: str, attempt: Attempt) -> None:
    told = observe.log(__name__).warning if attempt.error else observe.log(__name__).info
    told("webhook tried", webhook=webhook_id, webhook_event=event, status=attempt.status_code, error=attempt.error)
