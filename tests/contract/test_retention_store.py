"""Files that expire, and what is counted, on both databases."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alphareel.db.deletion import DeletionStore
from alphareel.db.retention import RetentionStore
from alphareel.db.stats import StatsStore
from alphareel.domain.clip import EngineFacts
from alphareel.service.jobs.models import Job, Output
from alphareel.service.use_cases import Principal
from alphareel.testing.fakes import TINY_MP4, Desk, open_desk

ANYBODY = Principal(None, "req_0")


@pytest.fixture
def desk(url: str, tmp_path: Path) -> Iterator[Desk]:
    desk = open_desk(tmp_path, database_url=url)
    yield desk
    desk.close()


@pytest.fixture
def table(desk: Desk) -> RetentionStore:
    return RetentionStore(desk.database, clock=desk.clock)


def upload(desk: Desk, more: bytes = b"") -> str:
    session = desk.service.begin_upload(ANYBODY, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4 + more)
    return desk.service.upload_link(session.finish()).url


def finish(desk: Desk, retention_seconds: int) -> Job:
    job = desk.service.create(ANYBODY, {"video_url": upload(desk), "retention_seconds": retention_seconds})
    desk.clock.advance(seconds=10)
    desk.jobs.begin_attempt(job.id, ticket=1, actor="w")
    desk.clock.advance(seconds=5)
    output = Output(f"outputs/{job.id}/1/r.webm", "webm", "video/webm", 4, "ab" * 32, 64, 48, 50, 0.4, True, False)
    facts = EngineFacts("builtin", "1", None, "Apache-2.0")
    assert desk.jobs.complete(job.id, attempt=1, output=output, engine=facts, warnings=(), actor="w")
    return job


def test_files_expire_in_batches_and_once(desk: Desk, table: RetentionStore) -> None:
    for _ in range(5):
        finish(desk, 600)
    finish(desk, 6000)
    assert table.expire_jobs(limit=3) == 0
    desk.clock.advance(seconds=700)
    assert [table.expire_jobs(limit=3) for _ in range(3)] == [3, 2, 0]


def test_a_download_shortens_only_what_is_not_to_be_kept(desk: Desk, table: RetentionStore) -> None:
    soon = desk.clock.now() + timedelta(minutes=2)
    kept, fleeting = finish(desk, 600), finish(desk, 0)
    for job in (kept, fleeting):
        table.expire_after_download(job.id, until=soon)
    found = {job.id: desk.jobs.job(job.id) for job in (kept, fleeting)}
    assert [job is not None and job.files_expire_at == soon for job in found.values()] == [False, True]


def test_uploads_expire_unless_a_job_needs_them(desk: Desk, table: RetentionStore) -> None:
    desk.service.create(ANYBODY, {"video_url": upload(desk)})
    upload(desk, b"another")
    desk.clock.advance(days=9)
    before = desk.clock.now() - timedelta(days=7)
    assert [table.expire_uploads(before=before, limit=9) for _ in range(2)] == [1, 0]


def test_files_given_up_late_are_never_those_of_a_job_that_was_started_again(
    desk: Desk, table: RetentionStore, tmp_path: Path
) -> None:
    job = desk.service.create(ANYBODY, {"video_url": "https://example.com/a.mp4", "retention_seconds": 600})
    desk.jobs.begin_attempt(job.id, ticket=1, actor="w")
    desk.jobs.fail(job.id, attempt=1, error="Broken", error_code="invalid_video", actor="w")
    desk.clock.advance(seconds=700)
    assert table.expire_jobs(limit=9) == 1  # noted, and whoever should delete them dies
    desk.service.start(ANYBODY, job.id, {})
    desk.jobs.begin_attempt(job.id, ticket=2, actor="w")
    result = tmp_path / "result"
    result.write_bytes(b"good")
    desk.blobs.put_file(f"outputs/{job.id}/2/r.webm", result)
    for blob in DeletionStore(desk.database, clock=desk.clock).pending_deletions(limit=9):
        desk.blobs.delete_prefix(blob)
    assert desk.blobs.size(f"outputs/{job.id}/2/r.webm") == 4


def test_the_census_counts_what_is_there(desk: Desk) -> None:
    desk.executors.add_executor("w", home="")
    finish(desk, 600)
    waiting = desk.service.create(ANYBODY, {"video_url": "https://example.com/a.mp4"})
    desk.service.create(ANYBODY, {"video_url": "https://example.com/a.mp4"})
    desk.clock.advance(seconds=30)
    desk.service.cancel(ANYBODY, waiting.id)
    desk.service.delete(ANYBODY, waiting.id)
    census = StatsStore(desk.database, clock=desk.clock).census()
    assert (census.jobs["pending"], census.jobs["completed"], census.jobs["failed"]) == (1, 1, 1)
    assert (census.failures, census.oldest_seconds, census.executors) == ({"cancelled": 1}, 30, 1)
    (done,) = census.finished
    assert (done.waited, done.ran, done.frames) == (10, 5, 50)
