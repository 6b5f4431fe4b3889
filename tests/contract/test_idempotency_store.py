"""Idempotency keys under concurrency: one of many requests does the work, and all get its response."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from alphareel.db.api_keys import ApiKeyStore
from alphareel.db.database import Database
from alphareel.db.idempotency import IdempotencyStore
from alphareel.db.jobs import JobStore
from alphareel.domain.errors import IdempotencyConflict, IdempotencyInProgress, Unavailable
from alphareel.domain.options import Options
from alphareel.service.idempotency import KEPT, LEASE, IdempotentRequest, ReplayedResponse, Reservation
from alphareel.service.jobs.models import Job
from alphareel.service.ports import NewJob
from alphareel.testing.fakes import RecordingEngine, SettableClock

AtOnce = Callable[..., list[Any]]


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def engine() -> RecordingEngine:
    return RecordingEngine()


@pytest.fixture
def jobs(database: Database, engine: RecordingEngine, clock: SettableClock) -> JobStore:
    ApiKeyStore(database, clock=clock).add_key(key_id="k", secret_sha256="s", fingerprint="fp", client_id="c", note="")
    return JobStore(database, enqueue=engine.enqueue, clock=clock)


@pytest.fixture
def store(database: Database, clock: SettableClock) -> IdempotencyStore:
    return IdempotencyStore(database, clock=clock)


def once(fingerprint: str = "f1", name: str = "n1") -> IdempotentRequest:
    return IdempotentRequest("k", name, fingerprint, lambda job: f'{{"id":"{job.id}"}}')


def create(jobs: JobStore, job_id: str, request: IdempotentRequest, *, start: bool = True) -> Job:
    new = NewJob(job_id, "k", "https://a/v", Options(), None, {}, "req", ())
    return jobs.add_job(new, start=start, actor="test", once=request)


def start(jobs: JobStore, request: IdempotentRequest) -> Job | None:
    return jobs.start_job(
        "job_1", options=Options(), webhook_url=None, warnings=(), actor="test", request_id=None, once=request
    )


def test_concurrent_requests_with_one_key_create_one_job(
    jobs: JobStore, engine: RecordingEngine, at_once: AtOnce
) -> None:
    outcomes = at_once([lambda n=n: create(jobs, f"job_{n}", once()) for n in range(12)])
    created = [o for o in outcomes if isinstance(o, Job)]
    answers = {o.body for o in outcomes if isinstance(o, ReplayedResponse)}
    assert len(created) == 1
    assert answers == {f'{{"id":"{created[0].id}"}}'}
    assert engine.queued == [(created[0].id, 1)]


def test_a_different_request_with_the_same_key_creates_no_job(jobs: JobStore) -> None:
    create(jobs, "job_1", once())
    with pytest.raises(IdempotencyConflict):
        create(jobs, "job_2", once("f2"))
    assert jobs.job("job_2") is None


def test_a_transaction_that_fails_frees_the_key(jobs: JobStore, database: Database, clock: SettableClock) -> None:
    def broken(*_: object) -> None:
        raise Unavailable("no")

    with pytest.raises(Unavailable):
        create(JobStore(database, enqueue=broken, clock=clock), "job_1", once())
    assert create(jobs, "job_2", once()).id == "job_2"


def test_a_start_of_a_running_job_frees_the_key(jobs: JobStore, store: IdempotencyStore) -> None:
    create(jobs, "job_1", once())
    assert start(jobs, once(name="n2")) is None
    store.lookup(once(name="n2"))


def test_concurrent_starts_with_one_key_make_one_run(jobs: JobStore, engine: RecordingEngine, at_once: AtOnce) -> None:
    create(jobs, "job_1", once(), start=False)
    outcomes = at_once([lambda: start(jobs, once(name="n2"))] * 8)
    assert sum(isinstance(o, Job) for o in outcomes) == 1
    assert sum(isinstance(o, ReplayedResponse) for o in outcomes) == 7
    assert engine.queued == [("job_1", 1)]


def test_one_of_many_uploads_reserves_the_key(store: IdempotencyStore, at_once: AtOnce) -> None:
    outcomes = at_once([lambda: store.reserve("k", "n1")] * 8)
    assert sum(isinstance(o, Reservation) for o in outcomes) == 1
    assert sum(isinstance(o, IdempotencyInProgress) for o in outcomes) == 7


def test_an_upload_whose_lease_ended_stores_no_response(store: IdempotencyStore, clock: SettableClock) -> None:
    slow = store.reserve("k", "n1")
    clock.advance(seconds=(LEASE + timedelta(seconds=1)).total_seconds())
    quick = store.reserve("k", "n1")
    store.store(slow, fingerprint="slow", body="{}")
    store.release(slow)
    with pytest.raises(IdempotencyInProgress):
        store.lookup(once())
    store.store(quick, fingerprint="f1", body="{}")
    with pytest.raises(ReplayedResponse):
        store.lookup(once())


def test_a_key_is_reserved_while_its_process_renews_the_lease_and_free_afterwards(
    store: IdempotencyStore, database: Database, clock: SettableClock
) -> None:
    store.reserve("k", "n1")
    other = IdempotencyStore(database, clock=clock)  # of another process, or of one that was started again
    for _ in range(5):
        clock.advance(seconds=20)
        store.renew()
        other.renew()
        with pytest.raises(IdempotencyInProgress):
            other.begin("k", "n1")
    clock.advance(seconds=9)
    with pytest.raises(IdempotencyInProgress) as refused:
        other.begin("k", "n1")
    with pytest.raises(IdempotencyInProgress) as asked:
        other.recall(once())
    assert refused.value.retry_after == asked.value.retry_after == 21
    clock.advance(seconds=refused.value.retry_after)
    assert other.begin("k", "n1").answer is None


@pytest.mark.parametrize("end", ["finish", "forget"])
def test_a_name_that_was_let_go_is_not_renewed(store: IdempotencyStore, clock: SettableClock, end: str) -> None:
    claim = store.reserve("k", "n1")
    if end == "finish":
        store.store(claim, fingerprint="f1", body="{}")
    else:
        store.release(claim)
    clock.advance(seconds=KEPT.total_seconds())
    store.renew()
    store.sweep_idempotency_keys()
    assert store.reserve("k", "n1").answer is None


def test_names_are_swept_after_their_day(store: IdempotencyStore, clock: SettableClock) -> None:
    store.store(store.reserve("k", "n1"), fingerprint="f1", body="{}")
    clock.advance(seconds=KEPT.total_seconds())
    store.sweep_idempotency_keys()
    assert store.reserve("k", "n1").answer is None
