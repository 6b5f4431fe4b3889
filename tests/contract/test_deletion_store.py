"""Deletion: texts and files are gone, and nothing that another job still needs."""

import threading
from typing import Any

import pytest
import sqlalchemy as sa

from alphareel.db.api_keys import ApiKeyStore
from alphareel.db.database import Database
from alphareel.db.deletion import DeletionStore
from alphareel.db.jobs import JobStore
from alphareel.db.tables import job_events
from alphareel.db.tables import jobs as job_rows
from alphareel.db.uploads import UploadStore
from alphareel.domain.options import Background, Options
from alphareel.service.jobs.models import Status
from alphareel.service.ports import NewJob
from alphareel.service.uploads.models import Upload
from alphareel.testing.fakes import RecordingEngine, SettableClock


@pytest.fixture(autouse=True)
def some_keys(database: Database) -> None:
    keys = ApiKeyStore(database, clock=SettableClock())
    for name in ("k1", "k2"):
        keys.add_key(key_id=name, secret_sha256=name, fingerprint=name, client_id=name, note="")


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database, enqueue=RecordingEngine().enqueue, clock=SettableClock())


@pytest.fixture
def deletion(database: Database) -> DeletionStore:
    return DeletionStore(database, clock=SettableClock())


@pytest.fixture
def uploads(database: Database) -> UploadStore:
    return UploadStore(database, clock=SettableClock())


def add_upload(uploads: UploadStore, name: str, key_id: str | None = "k1") -> str:
    when = SettableClock().now()
    uploads.expect_blob(f"uploads/{name}.mp4")
    uploads.add_upload(Upload(name, key_id, "a.mp4", "video/mp4", "video", 9, name, f"uploads/{name}.mp4", when))
    return name


def add_job(jobs: JobStore, job_id: str, *used: str, end: bool = True) -> None:
    new = NewJob(
        id=job_id,
        key_id="k1",
        video_url="https://example.com/private.mp4",
        options=Options(
            model="pro", text_prompt="private words", background=Background("image", image_url="https://private")
        ),
        webhook_url="https://private.example.com/hook",
        metadata={"name": "private"},
        request_id="req_1",
        warnings=("private",),
        uploads=used,
    )
    jobs.add_job(new, start=True, actor="test")
    if end:
        jobs.fail(job_id, attempt=None, error="private", error_code="timeout", actor="test")


def test_a_deleted_job_is_not_found_anywhere(jobs: JobStore, deletion: DeletionStore) -> None:
    add_job(jobs, "job_1")
    assert deletion.remove_job("job_1", actor="key:k1") == (
        "outputs/job_1/",
        "mattes/job_1/",
        "previews/job_1/",
        "chunks/job_1/",
        "fetched/job_1/",
        "returned/job_1/",
    )
    assert jobs.job("job_1") is None
    assert jobs.jobs("k1", statuses=None, limit=9, offset=0).total == 0
    assert deletion.remove_job("job_1", actor="key:k1") is None


def test_a_deleted_job_leaves_its_audit_log_and_no_text_of_the_caller(
    database: Database, jobs: JobStore, deletion: DeletionStore
) -> None:
    add_job(jobs, "job_1")
    deletion.remove_job("job_1", actor="key:k1")
    with database.read() as c:
        row = c.execute(sa.select(job_rows)).one()
        trail = c.execute(sa.select(job_events).order_by(job_events.c.sequence)).all()
    assert "private" not in str(row) + str(trail)
    assert (row.key_id, row.options["model"], row.error_code) == ("k1", "pro", "timeout")
    assert (trail[-1].actor, trail[-1].reason) == ("key:k1", "deleted")


def test_a_deleted_job_cannot_be_started_again(jobs: JobStore, deletion: DeletionStore) -> None:
    add_job(jobs, "job_1")
    deletion.remove_job("job_1", actor="test")
    again = jobs.start_job("job_1", options=Options(), webhook_url=None, warnings=(), actor="t", request_id=None)
    assert again is None


def test_a_running_job_is_not_deleted(jobs: JobStore, deletion: DeletionStore) -> None:
    add_job(jobs, "job_1", end=False)
    assert deletion.remove_job("job_1", actor="test") is None
    jobs.begin_attempt("job_1", ticket=1, actor="worker")
    assert deletion.remove_job("job_1", actor="test") is None
    job = jobs.job("job_1")
    assert job is not None
    assert job.status is Status.PROCESSING


def test_an_upload_is_deleted_with_the_last_job_that_uses_it(
    jobs: JobStore, deletion: DeletionStore, uploads: UploadStore
) -> None:
    add_upload(uploads, "u1")
    add_job(jobs, "job_1", "u1")
    add_job(jobs, "job_2", "u1")
    assert deletion.remove_job("job_1", actor="test") == (
        "outputs/job_1/",
        "mattes/job_1/",
        "previews/job_1/",
        "chunks/job_1/",
        "fetched/job_1/",
        "returned/job_1/",
    )
    assert uploads.upload("u1") is not None
    assert deletion.remove_job("job_2", actor="test") == (
        "outputs/job_2/",
        "mattes/job_2/",
        "previews/job_2/",
        "chunks/job_2/",
        "fetched/job_2/",
        "returned/job_2/",
        "uploads/u1.mp4",
    )
    assert uploads.upload("u1") is None


def test_an_upload_of_another_key_stays(jobs: JobStore, deletion: DeletionStore, uploads: UploadStore) -> None:
    add_upload(uploads, "u1", key_id=None)
    add_job(jobs, "job_1", "u1")
    assert deletion.remove_job("job_1", actor="test") == (
        "outputs/job_1/",
        "mattes/job_1/",
        "previews/job_1/",
        "chunks/job_1/",
        "fetched/job_1/",
        "returned/job_1/",
    )
    assert uploads.upload("u1") is not None


def test_a_start_with_another_background_releases_the_old_one(
    jobs: JobStore, deletion: DeletionStore, uploads: UploadStore
) -> None:
    for name in ("video", "old", "new"):
        add_upload(uploads, name)
    add_job(jobs, "job_1", "video", "old")
    jobs.start_job(
        "job_1",
        options=Options(),
        webhook_url=None,
        warnings=(),
        uploads=("video", "new"),
        actor="test",
        request_id=None,
    )
    assert deletion.remove_upload("new") is None
    assert deletion.remove_upload("old") == ("uploads/old.mp4",)


def test_an_upload_that_a_running_job_needs_stays(
    jobs: JobStore, deletion: DeletionStore, uploads: UploadStore
) -> None:
    add_upload(uploads, "u1")
    add_job(jobs, "job_1", "u1", end=False)
    assert deletion.remove_upload("u1") is None
    jobs.fail("job_1", attempt=None, error="x", error_code="timeout", actor="test")
    assert deletion.remove_upload("u1") == ("uploads/u1.mp4",)
    assert uploads.upload("u1") is None
    assert deletion.remove_upload("u1") == ()


def test_blobs_stay_listed_until_they_are_deleted(
    jobs: JobStore, deletion: DeletionStore, uploads: UploadStore
) -> None:
    add_upload(uploads, "u1")
    add_job(jobs, "job_1", "u1")
    deletion.remove_job("job_1", actor="test")
    assert set(deletion.pending_deletions(limit=9)) == {
        "outputs/job_1/",
        "mattes/job_1/",
        "previews/job_1/",
        "chunks/job_1/",
        "fetched/job_1/",
        "returned/job_1/",
        "uploads/u1.mp4",
    }
    deletion.clear_pending_deletions("uploads/u1.mp4")
    assert set(deletion.pending_deletions(limit=9)) == {
        "outputs/job_1/",
        "mattes/job_1/",
        "previews/job_1/",
        "chunks/job_1/",
        "fetched/job_1/",
        "returned/job_1/",
    }


def test_of_two_jobs_deleted_at_once_one_deletes_the_upload(
    jobs: JobStore, deletion: DeletionStore, uploads: UploadStore
) -> None:
    for number in range(6):
        add_upload(uploads, f"u{number}")
        for side in "ab":
            add_job(jobs, f"job_{number}{side}", f"u{number}")
        barrier = threading.Barrier(2)
        released: list[Any] = []

        def remove(job_id: str, barrier: threading.Barrier = barrier, released: list[Any] = released) -> None:
            barrier.wait()
            released.extend(deletion.remove_job(job_id, actor="test") or ())

        threads = [threading.Thread(target=remove, args=(f"job_{number}{side}",)) for side in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert released.count(f"uploads/u{number}.mp4") == 1
