"""Webhook deliveries: written with the transition, sent in order, claimed by one worker at a time, never lost."""

import threading
from datetime import timedelta
from typing import Any

import pytest

from alphareel.db.api_keys import ApiKeyStore
from alphareel.db.database import Database
from alphareel.db.deletion import DeletionStore
from alphareel.db.jobs import JobStore
from alphareel.db.tables import webhooks
from alphareel.db.webhooks import WebhookStore
from alphareel.domain.clip import EngineFacts
from alphareel.domain.options import Options
from alphareel.service.jobs.models import Job, Output, Status
from alphareel.service.ports import NewJob
from alphareel.service.webhooks.events import Attempt, ClaimedDelivery, State
from alphareel.testing.fakes import RecordingEngine, SettableClock

LEASE = timedelta(seconds=60)
OUTPUT = Output("outputs/j/1/result.webm", "webm", "video/webm", 9, "ab" * 32, 64, 48, 10, 0.4, True, False)
URL = "https://hook.example.com:8443/a"


@pytest.fixture(autouse=True)
def some_keys(database: Database) -> None:
    keys = ApiKeyStore(database, clock=SettableClock())
    for name in ("k1", "k2"):
        keys.add_key(key_id=name, secret_sha256=name, fingerprint=name, client_id=name, note="")


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def jobs(database: Database, clock: SettableClock) -> JobStore:
    return JobStore(database, enqueue=RecordingEngine().enqueue, clock=clock)


@pytest.fixture
def store(database: Database, clock: SettableClock) -> WebhookStore:
    return WebhookStore(database, clock=clock)


def add(jobs: JobStore, job_id: str = "job_1", *, url: str | None = URL, key_id: str | None = "k1") -> Job:
    new = NewJob(job_id, key_id, "https://example.com/a.mp4", Options(), url, {"order": 7}, "req_1", ())
    return jobs.add_job(new, start=True, actor="test")


def begin(jobs: JobStore, job_id: str = "job_1") -> None:
    job = jobs.job(job_id)
    assert job is not None
    assert jobs.begin_attempt(job_id, ticket=job.ticket, actor="worker") is not None


def complete(jobs: JobStore, job_id: str = "job_1") -> None:
    engine = EngineFacts("builtin", "1", "cd" * 32, "Apache-2.0")
    assert jobs.complete(job_id, attempt=1, output=OUTPUT, engine=engine, warnings=(), actor="worker")


def claim(store: WebhookStore) -> ClaimedDelivery | None:
    due = store.due(limit=9)
    return store.claim(due[0].id, lease=LEASE) if due else None


def end(store: WebhookStore, delivery: ClaimedDelivery, clock: SettableClock, error: str | None = None) -> bool:
    attempt = Attempt(clock.now(), 500 if error else 200, error, 12)
    return store.settle(delivery.webhook.id, tries=delivery.webhook.tries, attempt=attempt)


def states(store: WebhookStore) -> list[tuple[str, State]]:
    return [(w.event, w.state) for w in store.webhooks("job_1")]


def must(value: Any) -> Any:
    assert value is not None
    return value


def test_each_reported_status_adds_one_delivery_a_run(jobs: JobStore, store: WebhookStore) -> None:
    add(jobs)
    assert states(store) == []
    begin(jobs)
    begin(jobs)  # by another worker, after the first was lost
    jobs.fail("job_1", attempt=None, error="x", error_code="timeout", actor="w")
    assert states(store) == [("job.started", State.PENDING), ("job.failed", State.PENDING)]
    jobs.start_job("job_1", options=Options(), webhook_url=URL, warnings=(), actor="t", request_id=None)
    begin(jobs)
    assert [event for event, _ in states(store)] == ["job.started", "job.failed", "job.started"]


def test_a_job_without_a_webhook_url_adds_no_delivery(jobs: JobStore, store: WebhookStore) -> None:
    add(jobs, url=None)
    begin(jobs)
    complete(jobs)
    assert states(store) == []


def test_a_transition_that_is_rolled_back_adds_no_delivery(
    jobs: JobStore, store: WebhookStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(jobs)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr("alphareel.db.jobs.add_webhook", fail)
        with pytest.raises(RuntimeError):
            begin(jobs)
    assert must(jobs.job("job_1")).status is Status.PENDING
    assert states(store) == []


def test_a_delivery_carries_the_job_as_it_was_at_the_event(
    jobs: JobStore, store: WebhookStore, clock: SettableClock
) -> None:
    add(jobs)
    begin(jobs)
    then = must(jobs.job("job_1"))
    clock.advance(seconds=30)
    complete(jobs)
    started = must(claim(store))
    assert started.job == then
    end(store, started, clock)
    completed = must(claim(store))
    assert completed.job == must(jobs.job("job_1"))
    assert completed.job.webhook_events == {"job.started": "sent", "job.completed": "pending"}


def test_the_completed_event_waits_for_the_started_event(
    jobs: JobStore, store: WebhookStore, clock: SettableClock
) -> None:
    add(jobs)
    begin(jobs)
    complete(jobs)
    first = must(claim(store))
    assert first.webhook.event == "job.started"
    assert claim(store) is None
    end(store, first, clock, error="no")
    assert claim(store) is None, "the start is to be tried again in five seconds"
    clock.advance(seconds=6)
    again = must(claim(store))
    assert again.webhook.id == first.webhook.id
    end(store, again, clock)
    assert must(claim(store)).webhook.event == "job.completed"


def test_a_started_event_that_keeps_failing_does_not_block_the_completed_event_forever(
    jobs: JobStore, store: WebhookStore, clock: SettableClock
) -> None:
    add(jobs)
    begin(jobs)
    complete(jobs)
    for _ in range(3):
        clock.advance(seconds=31)
        end(store, must(claim(store)), clock, error="no")
    last = must(claim(store))
    assert last.webhook.event == "job.completed"
    clock.advance(hours=1)
    end(store, last, clock)
    assert states(store) == [("job.started", State.FAILED), ("job.completed", State.SENT)]
    assert claim(store) is None


def test_a_delivery_fails_after_eight_tries(jobs: JobStore, store: WebhookStore, clock: SettableClock) -> None:
    add(jobs)
    begin(jobs)
    tries = 0
    while delivery := claim(store):
        tries += 1
        end(store, delivery, clock, error="no")
        clock.advance(hours=25)
    assert tries == 8
    (webhook,) = store.webhooks("job_1")
    assert (webhook.state, len(webhook.attempts)) == (State.FAILED, 8)
    assert must(jobs.job("job_1")).webhook_events == {"job.started": "failed"}


def test_a_delivery_whose_lease_ended_is_claimed_by_another_worker(
    jobs: JobStore, store: WebhookStore, clock: SettableClock
) -> None:
    add(jobs)
    begin(jobs)
    lost = must(claim(store))
    clock.advance(seconds=59)
    assert claim(store) is None
    clock.advance(seconds=2)
    second = must(claim(store))
    assert (second.webhook.id, second.webhook.tries) == (lost.webhook.id, 2)
    assert not end(store, lost, clock)
    assert end(store, second, clock)


def test_one_of_many_workers_claims_a_delivery(jobs: JobStore, store: WebhookStore) -> None:
    for number in range(4):
        add(jobs, f"job_{number}")
        begin(jobs, f"job_{number}")
        complete(jobs, f"job_{number}")
    barrier, claimed = threading.Barrier(6), []

    def work() -> None:
        barrier.wait()
        deliveries = [store.claim(due.id, lease=LEASE) for due in store.due(limit=9)]
        claimed.extend((delivery.webhook.job_id, delivery.webhook.event) for delivery in deliveries if delivery)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == [(f"job_{n}", "job.started") for n in range(4)]


def test_deliveries_to_a_busy_host_are_not_due(jobs: JobStore, store: WebhookStore) -> None:
    add(jobs, "job_1")
    add(jobs, "job_2", url="https://other.example.com/")
    for job_id in ("job_1", "job_2"):
        begin(jobs, job_id)
    assert [due.host for due in store.due(limit=9, hosts={"hook.example.com:8443"})] == ["other.example.com"]


def test_deliveries_of_a_busy_client_are_not_due_for_any_of_its_keys_and_hosts(
    jobs: JobStore, store: WebhookStore
) -> None:
    for number, key_id in enumerate(("k1", "k2", None)):
        add(jobs, f"job_{number}", url=f"https://h{number}.example.com/", key_id=key_id)
        begin(jobs, f"job_{number}")
    assert [due.client for due in store.due(limit=9)] == ["k1", "k2", ""]
    assert [due.client for due in store.due(limit=9, clients={"k1", ""})] == ["k2"]
    assert [due.client for due in store.due(limit=1, clients={"k1"})] == ["k2"]


def test_a_resent_delivery_keeps_its_id(jobs: JobStore, store: WebhookStore, clock: SettableClock) -> None:
    add(jobs)
    begin(jobs)
    first = must(claim(store))
    end(store, first, clock)
    resent = must(store.resend("job_1", first.webhook.id))
    assert (resent.state, resent.tries) == (State.PENDING, 0)
    again = must(claim(store))
    assert again.webhook.id == first.webhook.id
    assert store.resend("job_1", again.webhook.id).state is State.SENDING
    end(store, again, clock)
    assert store.resend("job_2", first.webhook.id) is None


def test_deliveries_of_a_deleted_job_are_not_sent(
    jobs: JobStore, store: WebhookStore, database: Database, clock: SettableClock
) -> None:
    add(jobs)
    begin(jobs)
    delivery = must(claim(store))
    jobs.fail("job_1", attempt=None, error="Cancelled", error_code="cancelled", actor="t")
    DeletionStore(database, clock=clock).remove_job("job_1", actor="t")
    assert not end(store, delivery, clock)
    clock.advance(hours=1)
    assert claim(store) is None


def test_a_snapshot_of_an_older_version_can_still_be_sent(
    jobs: JobStore, store: WebhookStore, database: Database
) -> None:
    add(jobs)
    begin(jobs)
    with database.write() as c:
        (stored,) = c.execute(webhooks.select()).all()
        older = {n: v for n, v in stored.job.items() if n not in ("billing_status", "credits", "deleted_at")}
        c.execute(webhooks.update().values(job={**older, "a_column_of_another_version": 1}))
    assert must(claim(store)).job.id == "job_1"


def test_a_delivery_that_waits_is_not_delayed_by_a_clock_that_is_set_back(
    jobs: JobStore, store: WebhookStore, clock: SettableClock
) -> None:
    add(jobs)
    begin(jobs)
    for _ in range(2):
        clock.advance(seconds=10)
        end(store, must(claim(store)), clock, "down")
    begun = clock.now()
    clock.advance(seconds=-3600)
    assert store.due(limit=9) == ()
    assert store.reschedule(lease=LEASE) == 1
    clock.advance(seconds=29)
    assert store.due(limit=9) == ()
    clock.advance(seconds=2)
    end(store, must(claim(store)), clock)
    assert states(store) == [("job.started", State.SENT)]
    assert clock.now() < begun


def test_a_new_and_a_claimed_delivery_are_not_delayed_by_a_clock_that_is_set_back(
    jobs: JobStore, store: WebhookStore, clock: SettableClock
) -> None:
    for name in ("job_1", "job_2"):
        add(jobs, name)
        begin(jobs, name)
    claimed = must(claim(store))
    clock.advance(seconds=-3600)
    assert store.due(limit=9) == ()
    assert store.reschedule(lease=LEASE) == 2
    assert [due.id for due in store.due(limit=9)] != [claimed.webhook.id]
    assert len(store.due(limit=9)) == 1
    clock.advance(seconds=LEASE.total_seconds())
    assert len(store.due(limit=9)) == 2, "its worker may have died"


def test_a_clock_that_was_not_set_reschedules_nothing(
    jobs: JobStore, store: WebhookStore, clock: SettableClock
) -> None:
    add(jobs)
    begin(jobs)
    for _ in range(3):
        clock.advance(seconds=40)
        end(store, must(claim(store)), clock, "down")
    clock.advance(seconds=1)
    assert store.reschedule(lease=LEASE) == 0
