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
from alphareel.service.use_cases import Principal
from alphareel.testing.fakes import TINY_MP4, Desk, open_desk

ANYBODY = Principal(None, "req_0")
WEEK = 7 * 24 * 3600


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = open_desk(tmp_path)
    yield desk
    desk.close()


def sweep(desk: Desk, uploads_seconds: int | None = WEEK) -> None:
    removal = DeletionService(desk.jobs, DeletionStore(desk.database, clock=desk.clock), desk.blobs)
    table = RetentionStore(desk.database, clock=desk.clock)
    RetentionSweeper(table, removal.empty, uploads_seconds, desk.clock).sweep()


def upload(desk: Desk) -> str:
    session = desk.service.begin_upload(ANYBODY, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    return desk.service.upload_link(session.finish()).url


def submit(desk: Desk, **fields: Any) -> Job:
    return desk.service.create(ANYBODY, {"video_url": upload(desk), **fields})


def finish(desk: Desk, job: Job, folder: Path) -> Job:
    desk.jobs.begin_attempt(job.id, ticket=job.ticket, actor="w")
    made = folder / "made"
    made.write_bytes(b"made")
    blob = f"outputs/{job.id}/1/result.webm"
    desk.blobs.put_file(blob, made)
    output = Output(blob, "webm", "video/webm", 4, "ab" * 32, 64, 48, 10, 0.4, True, False)
    facts = EngineFacts("builtin", "1", None, "Apache-2.0")
    assert desk.jobs.complete(job.id, attempt=1, output=output, engine=facts, warnings=(), actor="w")
    return now(desk, job)


def now(desk: Desk, job: Job) -> Job:
    found = desk.jobs.job(job.id)
    assert found is not None
    return found


def test_files_stay_for_the_time_and_then_go(desk: Desk, tmp_path: Path) -> None:
    job = finish(desk, submit(desk), tmp_path)
    desk.clock.advance(seconds=WEEK - 1)
    sweep(desk)
    assert len(desk.blobs.blobs) == 2
    assert desk.service.output_link(now(desk, job)) is not None
    desk.clock.advance(seconds=2)
    sweep(desk)
    assert desk.blobs.blobs == {}
    gone = now(desk, job)
    assert (gone.status, gone.output is not None, desk.service.output_link(gone)) == (Status.COMPLETED, True, None)
    with pytest.raises(errors.NotFound, match="expired"):
        desk.service.download(ANYBODY, job.id)


def test_a_link_never_outlives_its_file(desk: Desk, tmp_path: Path) -> None:
    job = finish(desk, submit(desk, retention_seconds=600), tmp_path)
    link = desk.service.output_link(job)
    assert link is not None
    assert link.expires_at == job.files_expire_at


def test_a_job_may_ask_for_less_and_never_for_more(desk: Desk, tmp_path: Path) -> None:
    job = finish(desk, submit(desk, retention_seconds=600), tmp_path)
    assert job.files_expire_at is not None
    assert job.completed_at is not None
    assert (job.files_expire_at - job.completed_at).total_seconds() == 600
    for bad in (-1, WEEK + 1, "soon", True, float("inf")):
        with pytest.raises(errors.InvalidRequest, match="retention_seconds"):
            submit(desk, retention_seconds=bad)


def test_a_start_may_say_it_too(desk: Desk) -> None:
    draft = submit(desk, auto_start=False)
    assert desk.service.start(ANYBODY, draft.id, {"retention_seconds": 5}).retention_seconds == 5
    desk.service.cancel(ANYBODY, draft.id)
    assert desk.service.start(ANYBODY, draft.id, {}).retention_seconds == 5


def test_files_that_are_not_to_be_kept_go_a_minute_after_the_download(desk: Desk, tmp_path: Path) -> None:
    job = finish(desk, submit(desk, retention_seconds=0), tmp_path)
    assert job.output is not None
    desk.service.mark_downloaded(job.output.blob)
    desk.clock.advance(seconds=59)
    sweep(desk)
    assert len(desk.blobs.blobs) == 2
    desk.service.mark_downloaded(job.output.blob)  # a second download changes nothing
    desk.clock.advance(seconds=2)
    sweep(desk)
    assert desk.blobs.blobs == {}


def test_files_that_nobody_fetches_go_after_an_hour(desk: Desk, tmp_path: Path) -> None:
    finish(desk, submit(desk, retention_seconds=0), tmp_path)
    desk.clock.advance(minutes=59)
    sweep(desk)
    assert len(desk.blobs.blobs) == 2
    desk.clock.advance(minutes=2)
    sweep(desk)
    assert desk.blobs.blobs == {}


def test_a_download_of_other_jobs_changes_nothing(desk: Desk, tmp_path: Path) -> None:
    job = finish(desk, submit(desk), tmp_path)
    assert job.output is not None
    desk.service.mark_downloaded(job.output.blob)
    assert now(desk, job).files_expire_at == job.files_expire_at


def test_a_failed_job_lets_go_of_its_upload_too(desk: Desk) -> None:
    job = submit(desk)
    desk.service.cancel(ANYBODY, job.id)
    desk.clock.advance(seconds=WEEK + 1)
    sweep(desk, uploads_seconds=None)
    assert desk.blobs.blobs == {}


def test_a_job_that_waits_or_runs_keeps_its_upload_for_ever(desk: Desk) -> None:
    job = submit(desk)
    desk.clock.advance(days=100)
    sweep(desk)
    assert len(desk.blobs.blobs) == 1
    desk.jobs.begin_attempt(job.id, ticket=1, actor="w")
    desk.clock.advance(days=100)
    sweep(desk)
    assert len(desk.blobs.blobs) == 1


def test_an_upload_that_nobody_uses_goes(desk: Desk) -> None:
    upload(desk)
    desk.clock.advance(seconds=WEEK - 1)
    sweep(desk)
    assert len(desk.blobs.blobs) == 1
    desk.clock.advance(seconds=2)
    sweep(desk)
    assert desk.blobs.blobs == {}


def test_an_upload_that_another_job_needs_stays(desk: Desk, tmp_path: Path) -> None:
    link = upload(desk)
    first = desk.service.create(ANYBODY, {"video_url": link, "retention_seconds": 60})
    second = desk.service.create(ANYBODY, {"video_url": link})
    finish(desk, first, tmp_path)
    desk.clock.advance(hours=1)
    sweep(desk)
    assert [key.split("/")[0] for key in desk.blobs.blobs] == ["uploads"]
    desk.service.delete(ANYBODY, second.id)
    assert desk.blobs.blobs == {}


def test_without_a_limit_everything_stays(desk: Desk, tmp_path: Path) -> None:
    job = finish(desk, submit(desk), tmp_path)
    with desk.database.write() as c:
        c.exec_driver_sql("UPDATE ar_jobs SET files_expire_at = NULL")
    desk.clock.advance(days=5000)
    sweep(desk, uploads_seconds=None)
    assert len(desk.blobs.blobs) == 2
    assert now(desk, job).files_expired_at is None


def test_many_files_go_in_one_sweep(desk: Desk) -> None:
    for _ in range(205):
        upload(desk)
    desk.clock.advance(days=8)
    sweep(desk)
    assert desk.blobs.blobs == {}
