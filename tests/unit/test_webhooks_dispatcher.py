"""The thread that carries webhooks: what it sends, what it survives, and whom it does not keep waiting."""

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from alphareel.domain.errors import FetchFailed, FetchRefused, Unavailable
from alphareel.service.jobs.models import Job
from alphareel.service.principal import Principal
from alphareel.service.settings import WebhookSettings
from alphareel.service.webhooks.dispatcher import WebhookDispatcher, WebhookSender
from alphareel.service.webhooks.events import Poster, Secrets, State
from alphareel.testing.fakes import ServiceHarness, open_harness

ANYBODY = Principal(None, "req_0")


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path)
    yield harness
    harness.close()


@pytest.fixture
def dispatcher(harness: ServiceHarness) -> WebhookDispatcher:
    return make_dispatcher(harness, harness.poster)


def make_dispatcher(harness: ServiceHarness, poster: Poster) -> WebhookDispatcher:
    sender = WebhookSender(poster, Secrets(("secret",)), harness.clock)
    return WebhookDispatcher(
        harness.webhooks,
        sender,
        serialize_job=lambda job: {"id": job.id, "status": job.status},
        settings=WebhookSettings(poll_seconds=0.02),
    )


def submit(harness: ServiceHarness, url: str = "https://hook.example.com/", caller: Principal = ANYBODY) -> Job:
    job = harness.services.jobs.create(caller, {"video_url": "https://example.com/a.mp4", "webhook_url": url})
    harness.jobs.begin_attempt(job.id, ticket=1, actor="w")
    return job


def deliver_all(dispatcher: WebhookDispatcher) -> None:
    """Until nothing more is due."""
    dispatcher.start()
    deadline = time.monotonic() + 100
    while dispatcher._webhooks.due(limit=1) or dispatcher._hosts:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    dispatcher.stop()


def test_an_event_arrives_signed_and_named(harness: ServiceHarness, dispatcher: WebhookDispatcher) -> None:
    job = submit(harness)
    deliver_all(dispatcher)
    ((url, headers, body),) = harness.poster.sent
    (webhook,) = harness.webhooks.webhooks(job.id)
    assert (url, headers["X-Webhook-Event"]) == ("https://hook.example.com/", "job.started")
    assert headers["X-Webhook-Delivery-Id"] == headers["webhook-id"] == webhook.id
    signed = headers["X-Webhook-Timestamp"].encode() + b"." + body
    assert headers["X-Webhook-Signature"] == "sha256=" + hmac.new(b"secret", signed, hashlib.sha256).hexdigest()
    assert json.loads(body)["data"] == {"id": job.id, "status": "processing"}
    assert (webhook.state, webhook.attempts[0].status_code) == (State.SENT, 200)


def test_events_of_a_job_arrive_in_order_and_at_once(harness: ServiceHarness, dispatcher: WebhookDispatcher) -> None:
    for _ in range(5):
        job = submit(harness)
        harness.services.jobs.cancel(ANYBODY, job.id)
    deliver_all(dispatcher)
    events: dict[str, list[str]] = {}
    for _, _, body in harness.poster.sent:
        told = json.loads(body)
        events.setdefault(told["data"]["id"], []).append(told["event"])
    assert list(events.values()) == [["job.started", "job.failed"]] * 5


@pytest.mark.parametrize("answer", [500, 302, 404, FetchFailed("no answer")])
def test_a_try_that_fails_is_made_again_with_a_new_signature(answer: Any, harness: ServiceHarness) -> None:
    harness.poster.answers = [answer, 200]
    job = submit(harness)
    deliver_all(make_dispatcher(harness, harness.poster))
    harness.clock.advance(seconds=6)
    deliver_all(make_dispatcher(harness, harness.poster))
    first, second = harness.poster.sent
    assert first[1]["X-Webhook-Delivery-Id"] == second[1]["X-Webhook-Delivery-Id"]
    assert first[1]["X-Webhook-Timestamp"] != second[1]["X-Webhook-Timestamp"]
    assert first[1]["X-Webhook-Signature"] != second[1]["X-Webhook-Signature"]
    (webhook,) = harness.webhooks.webhooks(job.id)
    assert (webhook.state, [a.error is None for a in webhook.attempts]) == (State.SENT, [False, True])


def test_an_address_that_must_not_be_reached_is_given_up_and_said_so(
    harness: ServiceHarness, dispatcher: WebhookDispatcher
) -> None:
    harness.poster.answers = [FetchRefused("hook is not an address that this server connects to.")]
    job = submit(harness)
    deliver_all(dispatcher)
    (webhook,) = harness.webhooks.webhooks(job.id)
    assert (webhook.state, len(webhook.attempts)) == (State.FAILED, 1)
    assert "connects" in str(webhook.attempts[0].error)


class Hanging:
    """A poster whose receivers named slow hang until the gate opens; notes which calls began and which ended."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun: list[str] = []
        self.ended: list[str] = []

    def post(self, url: str, headers: Any, body: bytes) -> int:
        self.begun.append(url)
        if "slow" in url:
            self.gate.wait(200)
        self.ended.append(url)
        return 200


def make_key(harness: ServiceHarness, name: str, client_id: str) -> Principal:
    made = harness.keystore.add_key(
        key_id=name, secret_sha256=name, fingerprint=name, client_id=client_id, note="a key of the test"
    )
    return Principal(made, "req_0")


def wait_for(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_receivers_of_one_client_that_hang_keep_no_other_client_waiting(harness: ServiceHarness) -> None:
    greedy = [make_key(harness, f"greedy{n}", "greedy") for n in range(3)]
    for number in range(40):
        submit(harness, f"https://slow{number}.example.com/", caller=greedy[number % 3])
    submit(harness, "https://quick.example.com/", caller=make_key(harness, "modest", "modest"))
    poster = Hanging()
    dispatcher = make_dispatcher(harness, poster)
    dispatcher.start()
    most = 1 + WebhookSettings().max_sending_per_client
    wait_for(lambda: poster.ended and len(poster.begun) >= most)
    assert poster.ended == ["https://quick.example.com/"]
    assert len(poster.begun) == most
    poster.gate.set()
    dispatcher.stop()


def test_a_host_that_hangs_for_one_client_still_takes_what_another_sends(harness: ServiceHarness) -> None:
    first, second = make_key(harness, "first", "first"), make_key(harness, "second", "second")
    for _ in range(6):
        submit(harness, "https://shared.example.com/slow", caller=first)
    submit(harness, "https://shared.example.com/quick", caller=second)
    poster = Hanging()
    dispatcher = make_dispatcher(harness, poster)
    dispatcher.start()
    wait_for(lambda: poster.ended)
    assert poster.ended == ["https://shared.example.com/quick"]
    poster.gate.set()
    dispatcher.stop()


def test_a_client_gets_its_places_back_when_its_receivers_answered(harness: ServiceHarness) -> None:
    for number in range(9):
        submit(harness, f"https://host{number}.example.com/")
    deliver_all(make_dispatcher(harness, harness.poster))
    assert len(harness.poster.sent) == 9


def test_a_database_that_is_away_ends_nothing(
    harness: ServiceHarness, dispatcher: WebhookDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(**_: Any) -> Any:
        raise Unavailable("away")

    submit(harness)
    with monkeypatch.context() as patch:
        patch.setattr(harness.webhooks, "due", away)
        dispatcher.start()
        time.sleep(0.2)
    deadline = time.monotonic() + 100
    while not harness.poster.sent:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    dispatcher.stop()
    assert len(harness.poster.sent) == 1


def test_a_fault_in_one_webhook_spares_the_others(harness: ServiceHarness) -> None:
    def serialize_job(job: Job) -> dict[str, Any]:
        if job.id == broken.id:
            raise RuntimeError("a fault of ours")
        return {"id": job.id}

    broken, fine = submit(harness), submit(harness)
    sender = WebhookSender(harness.poster, Secrets(()), harness.clock)
    deliver_all(
        WebhookDispatcher(
            harness.webhooks, sender, serialize_job=serialize_job, settings=WebhookSettings(poll_seconds=0.02)
        )
    )
    assert [json.loads(body)["data"]["id"] for _, _, body in harness.poster.sent] == [fine.id]
    assert harness.webhooks.webhooks(broken.id)[0].state is State.SENDING  # and due again when its lease is over


def test_a_clock_that_is_set_ahead_sends_no_webhook_twice(harness: ServiceHarness) -> None:
    """The lease of one that is being sent ends early then."""
    poster = Hanging()
    dispatcher = make_dispatcher(harness, poster)
    submit(harness, "https://slow.example.com/")
    assert dispatcher.dispatch_due() == 1
    wait_for(lambda: poster.begun)
    harness.clock.advance(hours=1)
    assert dispatcher.dispatch_due() == 0
    poster.gate.set()
    deliver_all(dispatcher)
    assert poster.begun == ["https://slow.example.com/"]


def test_a_dispatcher_reschedules_at_its_start_and_after_the_clock_was_set_back(
    harness: ServiceHarness, dispatcher: WebhookDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[timedelta] = []

    def reschedule(*, lease: timedelta) -> int:
        calls.append(lease)
        if len(calls) == 2:
            raise Unavailable("The database does not answer.")
        return 0

    monkeypatch.setattr(harness.webhooks, "reschedule", reschedule)
    for _ in range(3):
        dispatcher.reschedule_after_step()
    assert len(calls) == 1
    harness.clock.advance(hours=1)
    dispatcher.reschedule_after_step()
    assert len(calls) == 1
    harness.clock.advance(hours=-1)
    with pytest.raises(Unavailable):
        dispatcher.reschedule_after_step()
    for _ in range(3):
        dispatcher.reschedule_after_step()
    assert len(calls) == 3, "once more, because the database was away"
