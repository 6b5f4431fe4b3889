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
from alphareel.service.principal import Principal
from alphareel.testing.fakes import TINY_MP4, ServiceHarness, open_harness

ANYBODY = Principal(None, "req_0")


@pytest.fixture
def harness(url: str, tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path, database_url=url)
    yield harness
    harness.close()


@pytest.fixture
def table(harness: ServiceHarness) -> RetentionStore:
    return RetentionStore(harness.database, clock=harness.clock)


def upload(harness: ServiceHarness, more: bytes = b"") -> str:
    session = harness.services.uploads.begin(ANYBODY, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4 + more)
    return harness.services.files.upload_link(session.finish()).url


def finish(harness: ServiceHarness, retention_seconds: int) -> Job:
    job = harness.services.jobs.create(ANYBODY, {"video_url": upload(harness), "retention_seconds": retention_seconds})
    harness.clock.advance(seconds=10)
    harness.jobs.begin_attempt(job.id, ticket=1, actor="w")
    harness.clock.advance(seconds=5)
    output = Output(f"outputs/{job.id}/1/r.webm", "webm", "video/webm", 4, "ab" * 32, 64, 48, 50, 0.4, True, False)
    facts = EngineFacts("builtin", "1", None, "Apache-2.0")
    assert harness.jobs.complete(job.id, attempt=1, output=output, engine=facts, warnings=(), actor="w")
    return job


def test_files_expire_in_batches_and_once(harness: ServiceHarness, table: RetentionStore) -> None:
    for _ in range(5):
        finish(harness, 600)
    finish(harness, 6000)
    assert table.expire_jobs(limit=3) == 0
    harness.clock.advance(seconds=700)
    assert [table.expire_jobs(limit=3) for _ in range(3)] == [3, 2, 0]


def test_a_download_shortens_only_what_is_not_to_be_kept(harness: ServiceHarness, table: RetentionStore) -> None:
    soon = harness.clock.now() + timedelta(minutes=2)
    kept, fleeting = finish(harness, 600), finish(harness, 0)
    for job in (kept, fleeting):
        table.expire_after_download(job.id, until=soon)
    found = {job.id: harness.jobs.job(job.id) for job in (kept, fleeting)}
    assert [job is not None and job.files_expire_at == soon for job in found.values()] == [False, True]


def test_uploads_expire_unless_a_job_needs_them(harness: ServiceHarness, table: RetentionStore) -> None:
    harness.services.jobs.create(ANYBODY, {"video_url": upload(harness)})
    upload(harness, b"another")
    harness.clock.advance(days=9)
    before = harness.clock.now() - timedelta(days=7)
    assert [table.expire_uploads(before=before, limit=9) for _ in range(2)] == [1, 0]


def test_files_given_up_late_are_never_those_of_a_job_that_was_started_again(
    harness: ServiceHarness, table: RetentionStore, tmp_path: Path
) -> None:
    job = harness.services.jobs.create(ANYBODY, {"video_url": "https://example.com/a.mp4", "retention_seconds": 600})
    harness.jobs.begin_attempt(job.id, ticket=1, actor="w")
    harness.jobs.fail(job.id, attempt=1, error="Broken", error_code="invalid_video", actor="w")
    harness.clock.advance(seconds=700)
    assert table.expire_jobs(limit=9) == 1  # noted, and whoever should delete them dies
    harness.services.jobs.start(ANYBODY, job.id, {})
    harness.jobs.begin_attempt(job.id, ticket=2, actor="w")
    result = tmp_path / "result"
    result.write_bytes(b"good")
    harness.blobs.put_file(f"outputs/{job.id}/2/r.webm", result)
    for blob in DeletionStore(harness.database, clock=harness.clock).pending_deletions(limit=9):
        harness.blobs.delete_prefix(blob)
    assert harness.blobs.size(f"outputs/{job.id}/2/r.webm") == 4


def test_the_census_counts_what_is_there(harness: ServiceHarness) -> None:
    harness.executors.add_executor("w", home="")
    finish(harness, 600)
    waiting = harness.services.jobs.create(ANYBODY, {"video_url": "https://example.com/a.mp4"})
    harness.services.jobs.create(ANYBODY, {"video_url": "https://example.com/a.mp4"})
    harness.clock.advance(seconds=30)
    harness.services.jobs.cancel(ANYBODY, waiting.id)
    harness.services.jobs.delete(ANYBODY, waiting.id)
    census = StatsStore(harness.database, clock=harness.clock).collect()
    assert (census.jobs["pending"], census.jobs["completed"], census.jobs["failed"]) == (1, 1, 1)
    assert (census.failures, census.oldest_seconds, census.executors) == ({"cancelled": 1}, 30, 1)
    (done,) = census.finished
    assert (done.waited, done.ran, done.frames) == (10, 5, 50)
