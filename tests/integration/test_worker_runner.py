"""One job in the hands of one worker: what it delivers, what it refuses, and what it leaves to others."""

import errno
import io
import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest

from alphareel.db.deletion import DeletionStore
from alphareel.domain.errors import (
    FetchFailed,
    FetchRefused,
    NotFound,
    StorageFailed,
    StorageQuotaExceeded,
    Unavailable,
)
from alphareel.server.installation import sweep_work
from alphareel.service.jobs.attempts import AttemptCompleted, AttemptDropped, AttemptResult
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.jobs.models import TERMINAL, Job, Status, Step
from alphareel.service.net.download import SourceMissing, SourceTooSlow
from alphareel.service.principal import Principal
from alphareel.service.settings import StorageSettings
from alphareel.service.uploads.models import Upload
from alphareel.service.uploads.resolver import UploadResolver
from alphareel.service.uploads.source_urls import SourceUrl
from alphareel.service.worker.child_process import ResourceLimits
from alphareel.service.worker.runner import Worker
from alphareel.service.worker.storage_pause import StoragePause
from alphareel.telemetry.logging import configure_logging
from alphareel.testing.clips import make_clip
from alphareel.testing.fakes import (
    TINY_MP4,
    TINY_PNG,
    CannedFetcher,
    MemoryBlobs,
    RecordingEngine,
    ServiceHarness,
    make_settings,
    open_harness,
)

URL = "https://example.com/a.mp4"
SOMEBODY = Principal(None, "req_1")


class InlineWorker(Worker):
    """A worker and the engine that would call it."""

    engine: RecordingEngine


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path)
    yield harness
    harness.close()


@pytest.fixture
def fetcher() -> CannedFetcher:
    return CannedFetcher({URL: b"ok from afar"})


@pytest.fixture
def worker(harness: ServiceHarness, fetcher: CannedFetcher, tmp_path: Path) -> InlineWorker:
    return make_worker(harness, fetcher, tmp_path)


def make_worker(
    harness: ServiceHarness, fetcher: CannedFetcher, folder: Path, *, owner: str = "", **given: Any
) -> InlineWorker:
    defaults = {"wall_seconds": 600, "retry_seconds": 0.01, "chunk_seconds": 0, "pipeline": "fake_pipeline"}
    settings = make_settings(storage={"data_dir": folder}, worker={**defaults, **given})
    worker = InlineWorker(
        "w1",
        jobs=harness.jobs,
        blobs=harness.blobs,
        uploads=harness.resolver,
        fetcher=fetcher,
        settings=settings,
        owner=owner,
    )
    worker.engine = harness.engine
    worker.drain()  # a fetch that is done returns, for the next step to be called
    return worker


def submit(harness: ServiceHarness, **body: Any) -> Job:
    return harness.services.jobs.create(SOMEBODY, {"video_url": URL, **body})


def upload(harness: ServiceHarness, data: bytes, name: str = "a.mp4") -> str:
    session = harness.services.uploads.begin(SOMEBODY, filename=name, declared_type=None)
    session.write(data)
    return harness.services.files.signer.upload_link(session.finish()).url


def work(worker: InlineWorker, job: Job) -> AttemptResult:
    """Run what is queued for the job, until it ends or somebody else has it."""
    outcome: AttemptResult = AttemptDropped()
    while True:
        found = worker._jobs.job(job.id)
        if found is None or found.status in TERMINAL:
            return outcome
        outcome = work_once(worker, found)
        moved = worker._jobs.job(job.id)
        if moved is None or moved.ticket == found.ticket:
            return outcome


def work_once(worker: InlineWorker, job: Job) -> AttemptResult:
    """Run what is queued under the job's ticket."""
    if worker.engine.steps[(job.id, job.ticket)] is Step.FETCH:
        worker.fetch(job.id, job.ticket)
        return AttemptDropped()
    outcome = worker.execute(job.id, job.ticket)
    worker.settle(job.id, job.ticket, outcome)
    return outcome


def fetched(worker: InlineWorker, job: Job) -> Job:
    """The job when its files are there and it is queued to be run."""
    while worker.engine.steps[(job.id, job.ticket)] is not Step.RUN_FETCHED:
        work_once(worker, job)
        found = worker._jobs.job(job.id)
        assert found is not None
        job = found
    return job


def now(harness: ServiceHarness, job: Job) -> Job:
    found = harness.jobs.job(job.id)
    assert found is not None
    return found


def test_a_job_becomes_a_delivered_file(harness: ServiceHarness, worker: InlineWorker, tmp_path: Path) -> None:
    job = submit(harness)
    work(worker, job)
    done = now(harness, job)
    assert (done.status, done.progress, done.error) == (Status.COMPLETED, 100.0, None)
    assert done.output is not None
    assert done.output.blob == f"outputs/{job.id}/1/result.webm"
    assert harness.blobs.blobs[done.output.blob] == b"made from afar"
    assert done.engine is not None
    assert (done.engine.name, done.warnings) == ("fake", ("a warning",))
    assert list((tmp_path / "work").iterdir()) == []


def test_lines_of_the_log_name_the_job_its_request_and_its_upload(
    harness: ServiceHarness, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    configure_logging("info", stream=stream)
    try:
        link = upload(harness, b"\0\0\0\x18ftypisom fail")
        job = harness.services.jobs.create(replace(SOMEBODY, request_id="req_of_the_client"), {"video_url": link})
        stream.truncate(0)
        work(worker, job)  # type: ignore[arg-type]
    finally:
        root.handlers[:], root.level = before
    lines = [json.loads(line.strip("\0")) for line in stream.getvalue().splitlines()]
    assert {"job moved"} <= {line["event"] for line in lines}
    for line in lines:
        assert (line["job_id"], line["request_id"]) == (job.id, "req_of_the_client"), line
        assert line["video_id"] == link.partition("?")[0].rpartition("/")[2].partition(".")[0]


def test_a_database_that_goes_away_is_no_failure_of_the_job(
    harness: ServiceHarness, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(harness)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(harness.resolver.store, "upload", _raise_away)
        meanwhile.setattr("alphareel.service.uploads.resolver.UploadResolver.find", _raise_away)
        with pytest.raises(Unavailable):
            worker.execute(job.id, job.ticket)
    assert now(harness, job).status is Status.PROCESSING
    work(worker, job)  # type: ignore[arg-type]
    assert now(harness, job).status is Status.COMPLETED


def _raise_away(*_: object, **__: object) -> None:
    raise Unavailable("The database does not answer.")


def test_the_folder_of_an_attempt_bears_the_name_of_its_owner(
    harness: ServiceHarness, fetcher: CannedFetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    for name in ("host-dead.job_1.1", "host-1.job_2.1", "job_3.1"):
        (tmp_path / "work" / name).mkdir()
    seen: list[str] = []
    worker = make_worker(harness, fetcher, tmp_path, owner="host-1")
    real = worker._run

    def names() -> list[str]:
        return [path.name for path in (tmp_path / "work").iterdir()]

    monkeypatch.setattr(worker, "_run", lambda *a, **o: (seen.extend(names()), real(*a, **o))[1])
    job = submit(harness)
    work(worker, job)
    assert f"host-1.{job.id}.1" in seen
    sweep_work(StorageSettings(data_dir=tmp_path), lambda: "host-1")
    assert names() == ["host-1.job_2.1"]
    sweep_work(StorageSettings(data_dir=tmp_path), lambda: None)
    assert names() == []


def test_pictures_are_there_while_the_job_runs_and_no_longer(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher.answers[URL] = b"picture preview-0.webp preview-1.webp"
    seen: dict[str, bytes] = {}
    real = harness.jobs.set_progress

    def note(job_id: str, *, attempt: int, progress: float, preview: str | None = None) -> bool:
        if preview is not None:
            seen[preview] = harness.blobs.blobs[preview]
        return real(job_id, attempt=attempt, progress=progress, preview=preview)

    monkeypatch.setattr(harness.jobs, "set_progress", note)
    job = submit(harness)
    work(worker, job)
    prefix = f"previews/{job.id}/1/"
    assert seen == {f"{prefix}preview-{n}.webp": f"picture preview-{n}.webp".encode() for n in (0, 1)}
    assert not [blob for blob in harness.blobs.blobs if blob.startswith("previews/")]
    assert now(harness, job).status is Status.COMPLETED


def test_a_store_that_takes_no_pictures_costs_no_job(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher.answers[URL] = b"picture preview-0.webp"
    real = harness.blobs.put_file

    def refuse(key: str, path: Path) -> None:
        if key.startswith("previews/"):
            raise StorageFailed("The disk is full.")
        real(key, path)

    monkeypatch.setattr(harness.blobs, "put_file", refuse)
    job = submit(harness)
    work(worker, job)
    assert now(harness, job).status is Status.COMPLETED


def test_pictures_of_an_attempt_that_died_go_with_the_next(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    job = submit(harness)
    harness.jobs.begin_attempt(job.id, ticket=job.ticket, actor="dead")
    harness.blobs.blobs[f"previews/{job.id}/1/preview-0.webp"] = b"left"
    work(worker, job)
    assert not [blob for blob in harness.blobs.blobs if blob.startswith("previews/")]


def leave_blobs(harness: ServiceHarness, job: Job) -> None:
    """As a worker does that published, and died before it was told that the job is gone."""
    for key in (f"outputs/{job.id}/1/result.webm", f"previews/{job.id}/1/preview-0.webp"):
        harness.blobs.blobs[key] = b"left"


def refuse_to_delete(harness: ServiceHarness, monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    real = harness.blobs.delete_prefix

    def delete_prefix(prefix: str) -> None:
        if prefix.startswith(refused):
            raise StorageFailed("The bucket is away.")
        real(prefix)

    monkeypatch.setattr(harness.blobs, "delete_prefix", delete_prefix)


def test_a_deleted_job_leaves_neither_result_nor_pictures_of_a_worker_that_died(
    harness: ServiceHarness, worker: InlineWorker
) -> None:
    job = submit(harness)
    harness.services.jobs.delete(SOMEBODY, job.id)
    leave_blobs(harness, job)
    assert worker.execute(job.id, job.ticket) == AttemptDropped()
    assert harness.blobs.blobs == {}


def test_a_store_that_fails_while_a_deleted_job_is_cleared_up_ends_neither_that_nor_the_worker(
    harness: ServiceHarness, worker: InlineWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, next_job = submit(harness), submit(harness)
    harness.services.jobs.delete(SOMEBODY, job.id)
    leave_blobs(harness, job)
    refuse_to_delete(harness, monkeypatch, f"outputs/{job.id}/")
    assert worker.execute(job.id, job.ticket) == AttemptDropped()
    assert list(harness.blobs.blobs) == [f"outputs/{job.id}/1/result.webm"]
    work(worker, next_job)
    assert now(harness, next_job).status is Status.COMPLETED


def test_a_store_that_cannot_remove_what_a_lost_attempt_made_costs_no_delivery(
    harness: ServiceHarness, worker: InlineWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = submit(harness)
    harness.jobs.begin_attempt(job.id, ticket=job.ticket, actor="dead")
    leave_blobs(harness, job)
    refuse_to_delete(harness, monkeypatch, f"outputs/{job.id}/1/")
    work(worker, job)
    done = now(harness, job)
    assert (done.status, done.attempt) == (Status.COMPLETED, 2)


@pytest.mark.parametrize("started_again", [False, True])
def test_what_an_ended_job_left_behind_is_removed_once_the_store_is_back(
    harness: ServiceHarness, worker: InlineWorker, monkeypatch: pytest.MonkeyPatch, *, started_again: bool
) -> None:
    job = submit(harness)
    chunk = f"chunks/{job.id}/0123456789abcdef/0.mkv"
    harness.blobs.blobs[chunk] = b"made by a worker that died"
    deletions = DeletionStore(harness.database, clock=harness.clock)
    removal = DeletionService(harness.jobs, deletions, harness.blobs)
    with monkeypatch.context() as patch:
        refuse_to_delete(harness, patch, "chunks/")
        harness.jobs.fail(job.id, attempt=None, error="Cancelled", error_code="cancelled", actor="somebody")
        worker.execute(job.id, job.ticket)
        removal.delete_pending()
        assert chunk in harness.blobs.blobs
    if started_again:
        harness.services.jobs.start(SOMEBODY, job.id, {})
    removal.delete_pending()
    assert (chunk in harness.blobs.blobs) == started_again, "a job that runs again needs it"
    assert deletions.pending_deletions(limit=9) == ()


def test_our_own_upload_is_read_without_the_network(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers.clear()
    job = submit(harness, video_url=upload(harness, TINY_MP4))
    harness.blobs.blobs = dict.fromkeys(harness.blobs.blobs, b"ok from here")
    work(worker, job)
    assert now(harness, job).status is Status.COMPLETED


def test_a_background_picture_is_at_hand_for_the_pipeline(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers[URL] = b"background"
    job = submit(harness, background={"type": "image", "image_url": upload(harness, TINY_PNG, "b.png")})
    work(worker, job)
    done = now(harness, job)
    assert done.output is not None
    assert harness.blobs.blobs[done.output.blob] == TINY_PNG
    assert done.options.background.image_url is not None
    assert done.options.background.image_url.startswith("/files/"), "the job keeps the address it was given"


def test_a_background_clip_is_fetched_beside_the_source(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers = {URL: b"background", "https://example.com/b.mp4": b"a clip from afar"}
    job = submit(harness, background={"type": "video", "video_url": "https://example.com/b.mp4"})
    work(worker, job)
    done = now(harness, job)
    assert done.output is not None
    assert harness.blobs.blobs[done.output.blob] == b"a clip from afar"
    assert done.options.background.video_url == "https://example.com/b.mp4"


def test_a_background_clip_may_be_an_upload(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers = {URL: b"background"}
    job = submit(harness, background={"type": "video", "video_url": upload(harness, TINY_MP4)})
    work(worker, job)
    done = now(harness, job)
    assert done.output is not None
    assert harness.blobs.blobs[done.output.blob] == TINY_MP4


def test_a_background_clip_that_may_not_be_fetched_fails_the_job(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher, tmp_path: Path
) -> None:
    fetcher.answers = {URL: b"background", "http://10.0.0.1/b.mp4": FetchRefused("No.")}
    job = submit(harness, background={"type": "video", "video_url": "http://10.0.0.1/b.mp4"})
    work(worker, job)
    assert (now(harness, job).status, now(harness, job).error_code) == (Status.FAILED, "url_refused")
    assert list((tmp_path / "work").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "tries"),
    [("refuse", "invalid_video", 1), ("stumble", "storage_failed", 3), ("segfault", "worker_crashed", 3)],
)
def test_a_failure_is_told_and_tried_again_only_when_it_may_pass(
    words: str, code: str, tries: int, harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers[URL] = words.encode()
    job = submit(harness)
    work(worker, job)
    failed = now(harness, job)
    assert (failed.status, failed.error_code, failed.attempt) == (Status.FAILED, code, tries)
    assert failed.error
    assert not any(key.startswith("outputs/") for key in harness.blobs.blobs)


def test_a_killed_job_process_sends_its_job_back_to_the_queue(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers[URL] = b"killed_at_first"
    job = fetched(worker, submit(harness))
    assert work_once(worker, job) == AttemptDropped()
    assert harness.engine.queued[-1] == (job.id, job.ticket + 1)
    work(worker, now(harness, job))
    done = now(harness, job)
    assert (done.status, done.error) == (Status.COMPLETED, None)
    assert "its process was killed" in [e.reason for e in harness.jobs.events(job.id)]


def test_a_job_whose_process_is_killed_each_time_is_given_up_and_not_for_lack_of_memory(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers[URL] = b"killed"
    job = submit(harness)
    work(worker, job)
    failed = now(harness, job)
    assert (failed.status, failed.error_code, failed.attempt) == (Status.FAILED, "worker_crashed", 6)


def test_a_job_that_makes_no_progress_lets_others_go_first_and_fails_the_second_time(
    harness: ServiceHarness, fetcher: CannedFetcher, tmp_path: Path
) -> None:
    fetcher.answers[URL] = b"hang"
    worker = make_worker(harness, fetcher, tmp_path)
    worker._resource_limits = ResourceLimits(progress_seconds=1.5)
    job = fetched(worker, submit(harness))
    assert work_once(worker, job) == AttemptDropped()
    assert harness.engine.queued[-1] == (job.id, job.ticket + 1)
    work(worker, job)
    failed = now(harness, job)
    assert (failed.status, failed.error_code, failed.attempt) == (Status.FAILED, "timeout", 2)
    assert fetcher.asked == [URL]


def test_a_job_that_had_too_little_memory_is_tried_once_more_with_a_smaller_footprint(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers[URL] = b"greedy"
    job = submit(harness)
    work(worker, job)
    done = now(harness, job)
    assert (done.status, done.attempt) == (Status.COMPLETED, 2)
    assert done.output is not None
    assert harness.blobs.blobs[done.output.blob] == b"made small"


def test_a_job_for_which_the_smaller_footprint_is_too_large_fails_for_lack_of_memory(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers[URL] = b"native_hoard"
    job = submit(harness)
    work(worker, job)
    failed = now(harness, job)
    assert (failed.status, failed.error_code, failed.attempt) == (Status.FAILED, "out_of_memory", 2)


@pytest.mark.parametrize(
    ("error", "code", "tries"),
    [
        (FetchRefused("No."), "url_refused", 1),
        (SourceMissing("Status 404."), "fetch_failed", 1),
        (SourceTooSlow("A byte a second."), "fetch_failed", 1),
        (FetchFailed("Status 503."), "fetch_failed", 3),
    ],
)
def test_a_source_that_cannot_be_fetched_fails_the_job(
    error: Exception, code: str, tries: int, harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers[URL] = error
    job = submit(harness)
    work(worker, job)
    failed = now(harness, job)
    assert (failed.status, failed.error_code, failed.attempt) == (Status.FAILED, code, 0)
    assert fetcher.asked == [URL] * tries


def test_a_job_whose_result_cannot_be_stored_goes_back_to_the_queue_and_loses_no_try(
    harness: ServiceHarness, worker: InlineWorker
) -> None:
    """Else a storage that is away for minutes would fail every job of the queue."""
    job = fetched(worker, submit(harness))
    harness.blobs.broken = True
    for _ in range(5):
        assert work_once(worker, now(harness, job)) == AttemptDropped()
        assert harness.engine.queued[-1] == (job.id, now(harness, job).ticket)
        assert now(harness, job).tries == 0
    harness.blobs.broken = False
    work(worker, now(harness, job))
    assert now(harness, job).status is Status.COMPLETED
    assert "its result cannot be stored" in [e.reason for e in harness.jobs.events(job.id)]


def test_a_job_whose_files_cannot_be_stored_is_fetched_later(harness: ServiceHarness, worker: InlineWorker) -> None:
    job = submit(harness)
    harness.blobs.broken = True
    for _ in range(8):  # moved to the queue of fetches, and back
        work_once(worker, now(harness, job))
        assert now(harness, job).status is Status.PROCESSING
    harness.blobs.broken = False
    work(worker, now(harness, job))
    assert now(harness, job).status is Status.COMPLETED


def test_a_work_folder_that_cannot_be_written_fails_no_job(
    harness: ServiceHarness, worker: InlineWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = fetched(worker, submit(harness))

    def refuse(_: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(worker._children, "workspace", refuse)
        patched.setattr("alphareel.service.worker.storage_pause.os.access", lambda *_: False)
        assert work_once(worker, job) == AttemptDropped()
    assert now(harness, job).status is Status.PROCESSING
    work(worker, now(harness, job))
    assert now(harness, job).status is Status.COMPLETED


def test_a_job_that_cannot_be_stored_for_a_reason_of_its_own_fails(
    harness: ServiceHarness, worker: InlineWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, other = submit(harness), submit(harness)
    with monkeypatch.context() as patched:
        patched.setattr(harness.blobs, "is_ready", lambda: True)
        harness.blobs.broken = True
        work(worker, job)
    harness.blobs.broken = False
    work(worker, other)
    assert now(harness, job).error_code == "storage_failed"
    assert now(harness, other).status is Status.COMPLETED


@pytest.mark.parametrize("ended_by", ["storage", "drain"])
def test_a_worker_waits_until_it_can_store_files_or_stops(
    ended_by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = MemoryBlobs()
    blobs.broken = True
    looks = iter(range(100))
    wait = StoragePause(blobs, make_settings(storage={"data_dir": tmp_path}).storage)
    assert wait.is_to_blame("storage_failed")
    assert not wait.is_to_blame("timeout")

    def look() -> bool:
        if next(looks) == 3 and ended_by == "drain":
            wait.drain()
        return ended_by == "storage" and next(looks) > 3

    monkeypatch.setattr(blobs, "is_ready", look)
    monkeypatch.setattr("alphareel.service.worker.storage_pause._POLL_SECONDS", 0.01)
    wait.wait()
    assert next(looks) > 3


def test_a_failed_job_that_is_started_again_succeeds(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers[URL] = b"refuse"
    job = submit(harness)
    work(worker, job)
    fetcher.answers[URL] = b"ok"
    again = harness.services.jobs.start(SOMEBODY, job.id, {})
    work(worker, again)
    done = now(harness, job)
    assert (done.status, done.run, done.attempt, done.error) == (Status.COMPLETED, 2, 2, None)


def test_progress_is_told_and_never_steps_back(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers[URL] = b"slow 4"
    job = submit(harness)
    seen: list[float] = []
    thread = threading.Thread(target=work, args=(worker, job))
    thread.start()
    while thread.is_alive():
        seen.append(now(harness, job).progress)
        time.sleep(0.05)
    thread.join()
    assert seen == sorted(seen)
    assert len({p for p in seen if 0 < p < 100}) >= 2


def test_a_worker_whose_ticket_was_superseded_kills_its_child_and_delivers_nothing(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers[URL] = b"slow 600"
    job = submit(harness)
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(work(worker, job)))
    thread.start()
    wait_until(lambda: now(harness, job).progress > 0)
    assert harness.jobs.begin_attempt(job.id, ticket=now(harness, job).ticket, actor="another") is not None
    thread.join(timeout=100)
    assert outcomes == [AttemptDropped()]
    assert now(harness, job).status is Status.PROCESSING
    assert list(harness.blobs.blobs) == [f"fetched/{job.id}/1/source"]


def test_a_settlement_that_is_repeated_spares_the_delivered_file(harness: ServiceHarness, worker: InlineWorker) -> None:
    job = submit(harness)
    outcome = work(worker, job)
    worker.settle(job.id, job.ticket, outcome)
    done = now(harness, job)
    assert done.output is not None
    assert done.output.blob in harness.blobs.blobs


def test_a_late_result_never_replaces_the_delivered_one(
    harness: ServiceHarness, fetcher: CannedFetcher, tmp_path: Path
) -> None:
    zombie, worker = (make_worker(harness, fetcher, tmp_path / name) for name in ("z", "w"))
    job = fetched(worker, submit(harness))
    late = zombie.execute(job.id, job.ticket)
    work(worker, job)
    zombie.settle(job.id, job.ticket, late)
    done = now(harness, job)
    assert done.output is not None
    assert done.output.blob == f"outputs/{job.id}/2/result.webm"
    matte = f"mattes/{job.id}/2/kept-lossless_matte.mkv"
    assert list(harness.blobs.blobs) == [f"fetched/{job.id}/1/source", done.output.blob, matte]


def test_a_correction_whose_matte_does_not_fit_fails_and_leaves_the_matte_of_its_job(
    harness: ServiceHarness, worker: InlineWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def complete_if_it_fits(job_id: str, **values: Any) -> bool:
        if values["matte"] is not None:
            raise StorageQuotaExceeded("There is no room.")
        return complete(job_id, **values)

    job = submit(harness)
    work(worker, job)
    first = now(harness, job)
    assert first.output is not None
    assert first.matte is not None
    row = harness.services.corrections.create(SOMEBODY, job.id, {"frame": 0, "points": [{"x": 1, "y": 1}]})
    begun = harness.jobs.begin_attempt(row.id, ticket=row.ticket, actor="w1")
    assert begun is not None
    complete = harness.jobs.complete
    monkeypatch.setattr(harness.jobs, "complete", complete_if_it_fits)
    matte = f"mattes/{row.id}/1/m.mkv"
    harness.blobs.blobs[matte] = b"made"
    worker.settle(
        row.id,
        row.ticket,
        AttemptCompleted(
            attempt=begun.attempt,
            output=replace(first.output, blob=f"outputs/{row.id}/1/result.webm"),
            engine=None,
            warnings=(),
            matte=replace(first.matte, blob=matte),
        ),
    )
    assert (now(harness, row).status, now(harness, row).error_code) == (Status.FAILED, StorageQuotaExceeded.code)
    assert (now(harness, job).matte, now(harness, job).output) == (first.matte, first.output)
    assert matte not in harness.blobs.blobs


def test_a_ticket_that_is_out_of_date_does_nothing(harness: ServiceHarness, worker: InlineWorker) -> None:
    job = submit(harness)
    harness.jobs.requeue(job.id, ticket=1, actor="reconciler", reason="lost")
    assert work_once(worker, job) == AttemptDropped()
    assert now(harness, job).status is Status.PENDING


def test_what_a_dead_worker_published_of_a_deleted_job_is_removed(
    harness: ServiceHarness, worker: InlineWorker, tmp_path: Path
) -> None:
    job = submit(harness)
    harness.jobs.begin_attempt(job.id, ticket=1, actor="dead")
    harness.services.jobs.delete(SOMEBODY, job.id)
    result = tmp_path / "late"
    result.write_bytes(b"private")
    harness.blobs.put_file(f"outputs/{job.id}/1/result.webm", result)
    assert worker.execute(job.id, 1) == AttemptDropped()
    with pytest.raises(NotFound):
        harness.blobs.size(f"outputs/{job.id}/1/result.webm")


def test_a_job_that_outlives_no_worker_is_given_up(
    harness: ServiceHarness, fetcher: CannedFetcher, tmp_path: Path
) -> None:
    job = submit(harness)
    for _ in range(6):  # six workers that died with it
        harness.jobs.begin_attempt(job.id, ticket=1, actor="dead")
    harness.blobs.blobs[f"previews/{job.id}/6/preview-0.webp"] = b"left"
    for stored in (f"outputs/{job.id}/2/result.webm", f"mattes/{job.id}/2/m.mkv"):  # just before a worker died
        harness.blobs.blobs[stored] = b"left"
    work(make_worker(harness, fetcher, tmp_path), job)
    failed = now(harness, job)
    assert (failed.status, failed.error_code) == (Status.FAILED, "worker_crashed")
    assert failed.error is not None
    assert "6 times" in failed.error
    assert not [blob for blob in harness.blobs.blobs if job.id in blob]


def test_a_worker_that_stops_hands_its_job_back_untried(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher, tmp_path: Path
) -> None:
    fetcher.answers[URL] = b"slow 600"
    job = submit(harness)
    threading.Thread(target=work, args=(worker, job), daemon=True).start()
    wait_until(lambda: now(harness, job).progress > 0)
    worker.abandon()
    assert (now(harness, job).status, now(harness, job).tries) == (Status.PROCESSING, 0)
    harness.blobs.blobs[f"fetched/{job.id}/1/source"] = b"ok"
    work(make_worker(harness, fetcher, tmp_path / "next"), job)
    assert now(harness, job).status is Status.COMPLETED
    assert "the worker stopped" in [e.reason for e in harness.jobs.events(job.id)]


def test_a_database_that_is_away_for_a_while_does_not_cost_the_work(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> bool:
        raise Unavailable("away")

    monkeypatch.setattr(harness.jobs, "set_progress", away)
    fetcher.answers[URL] = b"slow 2.5"
    job = submit(harness)
    work(worker, job)
    assert now(harness, job).status is Status.COMPLETED


def test_a_database_that_goes_away_during_the_run_does_not_cost_it(
    harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = threading.Event()
    find = UploadResolver.find

    def away(*_: Any, **__: Any) -> Any:
        began.set()
        raise Unavailable("away")

    def find_before(self: UploadResolver, url: SourceUrl, *, key_id: str | None) -> Upload | None:
        return away() if began.is_set() else find(self, url, key_id=key_id)

    fetcher.answers[URL] = b"slow 2.5"
    job = fetched(worker, submit(harness))
    monkeypatch.setattr(harness.jobs, "set_progress", away)
    monkeypatch.setattr(UploadResolver, "find", find_before)
    outcome = worker.execute(job.id, job.ticket)
    assert began.is_set()
    worker.settle(job.id, job.ticket, outcome)
    done = now(harness, job)
    assert (done.status, done.attempt, done.matte is None) == (Status.COMPLETED, 1, False)


def wait_until(holds: Any, seconds: float = 100) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


@pytest.mark.parametrize("words", ["slow 600", "hang"])
def test_a_cancelled_job_stops_computing(
    words: str, harness: ServiceHarness, worker: InlineWorker, fetcher: CannedFetcher
) -> None:
    fetcher.answers[URL] = words.encode()
    job = submit(harness)
    thread = threading.Thread(target=work, args=(worker, job))
    thread.start()
    wait_until(lambda: now(harness, job).progress > 0)
    harness.services.jobs.cancel(SOMEBODY, job.id)
    thread.join(timeout=100)
    assert not thread.is_alive()
    assert (now(harness, job).status, now(harness, job).error_code) == (Status.FAILED, "cancelled")
    assert harness.blobs.blobs == {}


def test_a_clip_whose_damage_swallows_a_chunk_is_made_in_one_go(
    harness: ServiceHarness, fetcher: CannedFetcher, tmp_path: Path
) -> None:
    clip = tmp_path / "in.mp4"
    make_clip(clip, frames=60, options={"g": "10", "bf": "0", "sc_threshold": "0"})
    fetcher.answers[URL] = without_second_third(clip)
    rules: dict[str, Any] = {"pipeline": "alphareel.pipeline.run", "chunk_seconds": 0.8}
    job = submit(harness)
    work(make_worker(harness, fetcher, tmp_path, **rules), job)
    done = now(harness, job)
    assert (done.status, done.error) == (Status.COMPLETED, None)
    assert done.output is not None
    assert (done.output.frames, done.output.frames_lost) == (40, 20)
    assert not [key for key in harness.blobs.blobs if key.startswith("chunks/")]


def without_second_third(clip: Path) -> bytes:
    """The bytes of a clip of sixty frames, those of frames 20 to 39 useless but for what tells key frames."""
    with av.open(str(clip)) as container:
        places = [(p.pos, p.size) for p in container.demux(video=0) if p.size][20:40]
    data = bytearray(clip.read_bytes())
    for place, size in places:
        data[place + 5 : place + size] = bytes(size - 5)
    return bytes(data)
