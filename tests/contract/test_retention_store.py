"""Expiry of files, and the counts for metrics."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alphareel.db.deletion import DeletionStore
from alphareel.db.retention import RetentionStore
from alphareel.db.stats import StatsStore
from alphareel.domain.clip import EngineFacts
from alphareel.service.jobs.models import Job, Output
from alphareel.service.principal import Principal
from alphareel.testing.fakes import TINY_MP4, ServiceHarness, open_harness

ANONYMOUS = Principal(None, "req_0")


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path, database_url=database_url)
    yield harness
    harness.close()


@pytest.fixture
def retention(harness: ServiceHarness) -> RetentionStore:
    return RetentionStore(harness.database, clock=harness.clock)


def upload(harness: ServiceHarness, more: bytes = b"") -> str:
    session = harness.services.uploads.begin(ANONYMOUS, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4 + more)
    return harness.services.files.signer.upload_link(session.finish()).url


def finish(harness: ServiceHarness, retention_seconds: int) -> Job:
    job = harness.services.jobs.create(
        ANONYMOUS, {"video_url": upload(harness), "retention_seconds": retention_seconds}
    )
    harness.clock.advance(seconds=10)
    harness.jobs.begin_attempt(job.id, ticket=1, actor="w")
    harness.clock.advance(seconds=5)
    output = Output(f"outputs/{job.id}/1/r.webm", "webm", "video/webm", 4, "ab" * 32, 64, 48, 50, 0.4, True, False)
    facts = EngineFacts("builtin", "1", None, "Apache-2.0")
    assert harness.jobs.complete(job.id, attempt=1, output=output, engine=facts, warnings=(), actor="w")
    return job


def test_files_expire_in_batches_and_once(harness: ServiceHarness, retention: RetentionStore) -> None:
    for _ in range(5):
        finish(harness, 600)
    finish(harness, 6000)
    assert retention.expire_jobs(limit=3) == 0
    harness.clock.advance(seconds=700)
    assert [retention.expire_jobs(limit=3) for _ in range(3)] == [3, 2, 0]


def test_a_download_shortens_only_a_retention_of_0(harness: ServiceHarness, retention: RetentionStore) -> None:
    soon = harness.clock.now() + timedelta(minutes=2)
    kept, temporary = finish(harness, 600), finish(harness, 0)
    for job in (kept, temporary):
        retention.expire_after_download(job.id, f"outputs/{job.id}/1/r.webm", until=soon)
    rows = {job.id: harness.jobs.job(job.id) for job in (kept, temporary)}
    assert [job is not None and job.files_expire_at == soon for job in rows.values()] == [False, True]


def test_uploads_expire_unless_a_job_uses_them(harness: ServiceHarness, retention: RetentionStore) -> None:
    harness.services.jobs.create(ANONYMOUS, {"video_url": upload(harness)})
    upload(harness, b"another")
    harness.clock.advance(days=9)
    before = harness.clock.now() - timedelta(days=7)
    assert [retention.expire_uploads(before=before, limit=9) for _ in range(2)] == [1, 0]


def test_a_late_deletion_never_hits_the_files_of_a_job_that_was_started_again(
    harness: ServiceHarness, retention: RetentionStore, tmp_path: Path
) -> None:
    job = harness.services.jobs.create(ANONYMOUS, {"video_url": "https://example.com/a.mp4", "retention_seconds": 600})
    harness.jobs.begin_attempt(job.id, ticket=1, actor="w")
    harness.jobs.fail(job.id, attempt=1, error="Broken", error_code="invalid_video", actor="w")
    harness.clock.advance(seconds=700)
    assert retention.expire_jobs(limit=9) == 1  # scheduled, but the process dies before it deletes them
    harness.services.jobs.start(ANONYMOUS, job.id, {})
    harness.jobs.begin_attempt(job.id, ticket=2, actor="w")
    result = tmp_path / "result"
    result.write_bytes(b"good")
    harness.blobs.put_file(f"outputs/{job.id}/2/r.webm", result)
    for blob in DeletionStore(harness.database, clock=harness.clock).pending_deletions(limit=9):
        harness.blobs.delete_prefix(blob)
    assert harness.blobs.size(f"outputs/{job.id}/2/r.webm") == 4


def test_the_stats_count_all_rows(harness: ServiceHarness) -> None:
    harness.executors.add_executor("w", home="")
    finish(harness, 600)
    waiting = harness.services.jobs.create(ANONYMOUS, {"video_url": "https://example.com/a.mp4"})
    harness.services.jobs.create(ANONYMOUS, {"video_url": "https://example.com/a.mp4"})
    harness.clock.advance(seconds=30)
    harness.services.jobs.cancel(ANONYMOUS, waiting.id)
    harness.services.jobs.delete(ANONYMOUS, waiting.id)
    stats = StatsStore(harness.database, clock=harness.clock).collect()
    assert (stats.jobs["pending"], stats.jobs["completed"], stats.jobs["failed"]) == (1, 1, 1)
    assert (stats.failures, stats.oldest_seconds, stats.executors) == ({"cancelled": 1}, 30, 1)
    (done,) = stats.finished
    assert (done.waited, done.ran, done.frames) == (10, 5, 50)
