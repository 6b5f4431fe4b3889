"""Webhooks in the database: written with the transition, carried in order, never by two at once, never lost."""

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
def table(database: Database, clock: SettableClock) -> WebhookStore:
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


def take(table: WebhookStore) -> ClaimedDelivery | None:
    due = table.due(limit=9)
    return table.claim(due[0].id, lease=LEASE) if due else None


def end(table: WebhookStore, parcel: ClaimedDelivery, clock: SettableClock, error: str | None = None) -> bool:
    attempt = Attempt(clock.now(), 500 if error else 200, error, 12)
    return table.settle(parcel.webhook.id, tries=parcel.webhook.tries, attempt=attempt)


def states(table: WebhookStore) -> list[tuple[str, State]]:
    return [(w.event, w.state) for w in table.webhooks("job_1")]


def must(value: Any) -> Any:
    assert value is not None
    return value


def test_each_state_that_is_told_makes_one_webhook_a_run(jobs: JobStore, table: WebhookStore) -> None:
    add(jobs)
    assert states(table) == []
    begin(jobs)
    begin(jobs)  # by another worker, after the first was lost
    jobs.fail("job_1", attempt=None, error="x", error_code="timeout", actor="w")
    assert states(table) == [("job.started", State.PENDING), ("job.failed", State.PENDING)]
    jobs.start_job("job_1", options=Options(), webhook_url=URL, warnings=(), actor="t", request_id=None)
    begin(jobs)
    assert [event for event, _ in states(table)] == ["job.started", "job.failed", "job.started"]


def test_a_job_without_a_receiver_makes_none(jobs: JobStore, table: WebhookStore) -> None:
    add(jobs, url=None)
    begin(jobs)
    complete(jobs)
    assert states(table) == []


def test_a_transition_that_is_rolled_back_tells_nobody(
    jobs: JobStore, table: WebhookStore, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(jobs)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr("alphareel.db.jobs.add_webhook", fail)
        with pytest.raises(RuntimeError):
            begin(jobs)
    assert must(jobs.job("job_1")).status is Status.PENDING
    assert states(table) == []


def test_the_job_is_told_as_it_was_at_the_event(jobs: JobStore, table: WebhookStore, clock: SettableClock) -> None:
    add(jobs)
    begin(jobs)
    then = must(jobs.job("job_1"))
    clock.advance(seconds=30)
    complete(jobs)
    started = must(take(table))
    assert started.job == then
    end(table, started, clock)
    completed = must(take(table))
    assert completed.job == must(jobs.job("job_1"))
    assert completed.job.webhook_events == {"job.started": "sent", "job.completed": "pending"}


def test_the_end_waits_for_the_start_to_be_told(jobs: JobStore, table: WebhookStore, clock: SettableClock) -> None:
    add(jobs)
    begin(jobs)
    complete(jobs)
    first = must(take(table))
    assert first.webhook.event == "job.started"
    assert take(table) is None
    end(table, first, clock, error="no")
    assert take(table) is None, "the start is to be tried again in five seconds"
    clock.advance(seconds=6)
    again = must(take(table))
    assert again.webhook.id == first.webhook.id
    end(table, again, clock)
    assert must(take(table)).webhook.event == "job.completed"


def test_a_start_that_cannot_be_told_does_not_hold_back_the_end_for_ever(
    jobs: JobStore, table: WebhookStore, clock: SettableClock
) -> None:
    add(jobs)
    begin(jobs)
    complete(jobs)
    for _ in range(3):
        clock.advance(seconds=31)
        end(table, must(take(table)), clock, error="no")
    last = must(take(table))
    assert last.webhook.event == "job.completed"
    clock.advance(hours=1)
    end(table, last, clock)
    assert states(table) == [("job.started", State.FAILED), ("job.completed", State.SENT)]
    assert take(table) is None


def test_a_receiver_that_never_accepts_is_given_up_after_eight_tries(
    jobs: JobStore, table: WebhookStore, clock: SettableClock
) -> None:
    add(jobs)
    begin(jobs)
    tries = 0
    while parcel := take(table):
        tries += 1
        end(table, parcel, clock, error="no")
        clock.advance(hours=25)
    assert tries == 8
    (webhook,) = table.webhooks("job_1")
    assert (webhook.state, len(webhook.attempts)) == (State.FAILED, 8)
    assert must(jobs.job("job_1")).webhook_events == {"job.started": "failed"}


def test_what_its_carrier_lost_is_carried_by_another(jobs: JobStore, table: WebhookStore, clock: SettableClock) -> None:
    add(jobs)
    begin(jobs)
    lost = must(take(table))
    clock.advance(seconds=59)
    assert take(table) is None
    clock.advance(seconds=2)
    found = must(take(table))
    assert (found.webhook.id, found.webhook.tries) == (lost.webhook.id, 2)
    assert not end(table, lost, clock)
    assert end(table, found, clock)


def test_of_many_carriers_one_gets_it(jobs: JobStore, table: WebhookStore) -> None:
    for number in range(4):
        add(jobs, f"job_{number}")
        begin(jobs, f"job_{number}")
        complete(jobs, f"job_{number}")
    barrier, got = threading.Barrier(6), []

    def carry() -> None:
        barrier.wait()
        parcels = [table.claim(due.id, lease=LEASE) for due in table.due(limit=9)]
        got.extend((parcel.webhook.job_id, parcel.webhook.event) for parcel in parcels if parcel)

    threads = [threading.Thread(target=carry) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == [(f"job_{n}", "job.started") for n in range(4)]


def test_a_busy_host_is_left_out(jobs: JobStore, table: WebhookStore) -> None:
    add(jobs, "job_1")
    add(jobs, "job_2", url="https://other.example.com/")
    for job_id in ("job_1", "job_2"):
        begin(jobs, job_id)
    assert [due.host for due in table.due(limit=9, hosts={"hook.example.com:8443"})] == ["other.example.com"]


def test_a_busy_client_is_left_out_with_every_key_and_host_it_has(jobs: JobStore, table: WebhookStore) -> None:
    for number, key_id in enumerate(("k1", "k2", None)):
        add(jobs, f"job_{number}", url=f"https://h{number}.example.com/", key_id=key_id)
        begin(jobs, f"job_{number}")
    assert [due.client for due in table.due(limit=9)] == ["k1", "k2", ""]
    assert [due.client for due in table.due(limit=9, clients={"k1", ""})] == ["k2"]
    assert [due.client for due in table.due(limit=1, clients={"k1"})] == ["k2"]


def test_a_webhook_is_sent_again_under_its_id_when_asked(
    jobs: JobStore, table: WebhookStore, clock: SettableClock
) -> None:
    add(jobs)
    begin(jobs)
    first = must(take(table))
    end(table, first, clock)
    resent = must(table.resend("job_1", first.webhook.id))
    assert (resent.state, resent.tries) == (State.PENDING, 0)
    again = must(take(table))
    assert again.webhook.id == first.webhook.id
    assert table.resend("job_1", again.webhook.id).state is State.SENDING
    end(table, again, clock)
    assert table.resend("job_2", first.webhook.id) is None


def test_a_deleted_job_is_told_to_nobody(
    jobs: JobStore, table: WebhookStore, database: Database, clock: SettableClock
) -> None:
    add(jobs)
    begin(jobs)
    parcel = must(take(table))
    jobs.fail("job_1", attempt=None, error="Cancelled", error_code="cancelled", actor="t")
    DeletionStore(database, clock=clock).remove_job("job_1", actor="t")
    assert not end(table, parcel, clock)
    clock.advance(hours=1)
    assert take(table) is None


def test_a_snapshot_of_an_older_version_can_still_be_told(
    jobs: JobStore, table: WebhookStore, database: Database
) -> None:
    add(jobs)
    begin(jobs)
    with database.write() as c:
        (stored,) = c.execute(webhooks.select()).all()
        older = {n: v for n, v in stored.job.items() if n not in ("billing_status", "credits", "deleted_at")}
        c.execute(webhooks.update().values(job={**older, "a_column_of_another_version": 1}))
    assert must(take(table)).job.id == "job_1"
