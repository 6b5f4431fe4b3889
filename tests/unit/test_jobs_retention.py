"""Files go when their time is over, and not before; what somebody still needs stays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphareel.db.deletion import DeletionStore
from alphareel.db.retention import RetentionStore
from alphareel.domain import errors
from alphareel.domain.clip import EngineFacts
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.jobs.models import Job, Output, Status
from alphareel.service.jobs.retention import RetentionSweeper
from alphareel.service.principal import Principal
from alphareel.testing.fakes import TINY_MP4, ServiceHarness, open_harness

ANYBODY = Principal(None, "req_0")
WEEK = 7 * 24 * 3600


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path)
    yield harness
    harness.close()


def sweep(harness: ServiceHarness, uploads_seconds: int | None = WEEK) -> None:
    removal = DeletionService(harness.jobs, DeletionStore(harness.database, clock=harness.clock), harness.blobs)
    table = RetentionStore(harness.database, clock=harness.clock)
    RetentionSweeper(table, removal.delete_pending, uploads_seconds, harness.clock).sweep()


def upload(harness: ServiceHarness) -> str:
    session = harness.services.uploads.begin(ANYBODY, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    return harness.services.files.signer.upload_link(session.finish()).url


def submit(harness: ServiceHarness, **fields: Any) -> Job:
    return harness.services.jobs.create(ANYBODY, {"video_url": upload(harness), **fields})


def finish(harness: ServiceHarness, job: Job, folder: Path) -> Job:
    harness.jobs.begin_attempt(job.id, ticket=job.ticket, actor="w")
    made = folder / "made"
    made.write_bytes(b"made")
    blob = f"outputs/{job.id}/1/result.webm"
    harness.blobs.put_file(blob, made)
    output = Output(blob, "webm", "video/webm", 4, "ab" * 32, 64, 48, 10, 0.4, True, False)
    facts = EngineFacts("builtin", "1", None, "Apache-2.0")
    assert harness.jobs.complete(job.id, attempt=1, output=output, engine=facts, warnings=(), actor="w")
    return now(harness, job)


def now(harness: ServiceHarness, job: Job) -> Job:
    found = harness.jobs.job(job.id)
    assert found is not None
    return found


def test_files_stay_for_the_time_and_then_go(harness: ServiceHarness, tmp_path: Path) -> None:
    job = finish(harness, submit(harness), tmp_path)
    harness.clock.advance(seconds=WEEK - 1)
    sweep(harness)
    assert len(harness.blobs.blobs) == 2
    assert harness.services.files.signer.output_link(now(harness, job)) is not None
    harness.clock.advance(seconds=2)
    sweep(harness)
    assert harness.blobs.blobs == {}
    gone = now(harness, job)
    assert (gone.status, gone.output is not None, harness.services.files.signer.output_link(gone)) == (
        Status.COMPLETED,
        True,
        None,
    )
    with pytest.raises(errors.NotFound, match="expired"):
        harness.services.jobs.completed(ANYBODY, job.id)


def test_a_link_never_outlives_its_file(harness: ServiceHarness, tmp_path: Path) -> None:
    job = finish(harness, submit(harness, retention_seconds=600), tmp_path)
    link = harness.services.files.signer.output_link(job)
    assert link is not None
    assert link.expires_at == job.files_expire_at


def test_a_job_may_ask_for_less_and_never_for_more(harness: ServiceHarness, tmp_path: Path) -> None:
    job = finish(harness, submit(harness, retention_seconds=600), tmp_path)
    assert job.files_expire_at is not None
    assert job.completed_at is not None
    assert (job.files_expire_at - job.completed_at).total_seconds() == 600
    for bad in (-1, WEEK + 1, "soon", True, float("inf")):
        with pytest.raises(errors.InvalidRequest, match="retention_seconds"):
            submit(harness, retention_seconds=bad)


def test_a_start_may_say_it_too(harness: ServiceHarness) -> None:
    draft = submit(harness, auto_start=False)
    assert harness.services.jobs.start(ANYBODY, draft.id, {"retention_seconds": 5}).retention_seconds == 5
    harness.services.jobs.cancel(ANYBODY, draft.id)
    assert harness.services.jobs.start(ANYBODY, draft.id, {}).retention_seconds == 5


def test_files_that_are_not_to_be_kept_go_a_minute_after_the_download(harness: ServiceHarness, tmp_path: Path) -> None:
    job = finish(harness, submit(harness, retention_seconds=0), tmp_path)
    assert job.output is not None
    harness.services.files.mark_downloaded(job.output.blob)
    harness.clock.advance(seconds=59)
    sweep(harness)
    assert len(harness.blobs.blobs) == 2
    harness.services.files.mark_downloaded(job.output.blob)  # a second download changes nothing
    harness.clock.advance(seconds=2)
    sweep(harness)
    assert harness.blobs.blobs == {}


def test_files_that_nobody_fetches_go_after_an_hour(harness: ServiceHarness, tmp_path: Path) -> None:
    finish(harness, submit(harness, retention_seconds=0), tmp_path)
    harness.clock.advance(minutes=59)
    sweep(harness)
    assert len(harness.blobs.blobs) == 2
    harness.clock.advance(minutes=2)
    sweep(harness)
    assert harness.blobs.blobs == {}


def test_a_download_of_other_jobs_changes_nothing(harness: ServiceHarness, tmp_path: Path) -> None:
    job = finish(harness, submit(harness), tmp_path)
    assert job.output is not None
    harness.services.files.mark_downloaded(job.output.blob)
    assert now(harness, job).files_expire_at == job.files_expire_at


def test_a_failed_job_lets_go_of_its_upload_too(harness: ServiceHarness) -> None:
    job = submit(harness)
    harness.services.jobs.cancel(ANYBODY, job.id)
    harness.clock.advance(seconds=WEEK + 1)
    sweep(harness, uploads_seconds=None)
    assert harness.blobs.blobs == {}


def test_a_job_that_waits_or_runs_keeps_its_upload_for_ever(harness: ServiceHarness) -> None:
    job = submit(harness)
    harness.clock.advance(days=100)
    sweep(harness)
    assert len(harness.blobs.blobs) == 1
    harness.jobs.begin_attempt(job.id, ticket=1, actor="w")
    harness.clock.advance(days=100)
    sweep(harness)
    assert len(harness.blobs.blobs) == 1


def test_an_upload_that_nobody_uses_goes(harness: ServiceHarness) -> None:
    upload(harness)
    harness.clock.advance(seconds=WEEK - 1)
    sweep(harness)
    assert len(harness.blobs.blobs) == 1
    harness.clock.advance(seconds=2)
    sweep(harness)
    assert harness.blobs.blobs == {}


def test_an_upload_that_another_job_needs_stays(harness: ServiceHarness, tmp_path: Path) -> None:
    link = upload(harness)
    first = harness.services.jobs.create(ANYBODY, {"video_url": link, "retention_seconds": 60})
    second = harness.services.jobs.create(ANYBODY, {"video_url": link})
    finish(harness, first, tmp_path)
    harness.clock.advance(hours=1)
    sweep(harness)
    assert [key.split("/")[0] for key in harness.blobs.blobs] == ["uploads"]
    harness.services.jobs.delete(ANYBODY, second.id)
    assert harness.blobs.blobs == {}


def test_without_a_limit_everything_stays(harness: ServiceHarness, tmp_path: Path) -> None:
    job = finish(harness, submit(harness), tmp_path)
    with harness.database.write() as c:
        c.exec_driver_sql("UPDATE ar_jobs SET files_expire_at = NULL")
    harness.clock.advance(days=5000)
    sweep(harness, uploads_seconds=None)
    assert len(harness.blobs.blobs) == 2
    assert now(harness, job).files_expired_at is None


def test_many_files_go_in_one_sweep(harness: ServiceHarness) -> None:
    for _ in range(205):
        upload(harness)
    harness.clock.advance(days=8)
    sweep(harness)
    assert harness.blobs.blobs == {}
