"""Long clips made in chunks: a chunk that cannot be made does not fail the job, and nothing is left behind."""

from pathlib import Path

import av
import pytest

from alphareel.domain.clip import Chunk, EngineFacts
from alphareel.domain.errors import BadVideo, StorageFailed
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import Status
from alphareel.service.principal import Principal
from alphareel.service.worker import child_process
from alphareel.service.worker.chunks import distributed
from alphareel.service.worker.events import Plan
from alphareel.service.worker.progress import AttemptSuperseded, WorkerStopping
from alphareel.service.worker.runner import Worker
from alphareel.service.worker.tasks import RunTask
from alphareel.testing.clips import make_clip
from alphareel.testing.fakes import CannedFetcher, make_settings, open_harness
from alphareel.testing.networks import make_rvm

SOMEBODY = Principal(None, "req_1")
PLAN_HASH = "a" * 64
CHUNKS = (Chunk(0, 10, 10), Chunk(10, None, 10))
ENGINE = EngineFacts("fake", "1")


class RecordingQueue:
    """A ChunkQueue without workers: records what was enqueued and canceled."""

    def __init__(self):
        self.enqueued = []
        self.canceled = []

    def enqueue_chunks(self, job_id, ticket, plan_hash, numbers):
        self.enqueued.append((job_id, ticket, plan_hash, list(numbers)))

    def cancel_chunks(self, job_id, ticket, plan_hash, numbers):
        self.canceled.append((job_id, ticket, plan_hash, list(numbers)))


@pytest.fixture
def chunk_queue():
    return RecordingQueue()


@pytest.fixture
def harness(tmp_path):
    harness = open_harness(tmp_path)
    yield harness
    harness.close()


@pytest.fixture
def worker(harness, chunk_queue, tmp_path):
    make_rvm(tmp_path / "rvm_mobilenetv3_fp32.onnx")
    settings = make_settings(
        storage={"data_dir": tmp_path},
        models={"dir": tmp_path},
        worker={"wall_seconds": 600, "chunk_seconds": 0.5, "retry_seconds": 0.01},
    )
    fetcher = CannedFetcher({})
    return Worker("w", jobs=harness.jobs, blobs=harness.blobs, uploads=harness.resolver, fetcher=fetcher, settings=settings,
                  chunk_queue=chunk_queue)  # fmt: skip


@pytest.fixture
def submit(harness):
    def submit(path):
        session = harness.services.uploads.begin(SOMEBODY, filename=path.name, declared_type=None)
        session.write(path.read_bytes())
        url = harness.services.files.signer.upload_link(session.finish()).url
        return harness.services.jobs.create(SOMEBODY, {"video_url": url, "options": {"model": "standard"}})

    return submit


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "in.mov", frames=50, codec="mjpeg", pix_fmt="yuvj420p").path


def lose(path: Path, *lost: int) -> Path:
    """The pictures with these numbers cannot be decoded any more."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    for number in lost:
        place, size = packets[number]
        data[place : place + size] = bytes(size)
    path.write_bytes(data)
    return path


def work(worker, job):
    worker.settle(job.id, job.ticket, worker.execute(job.id, job.ticket))


def test_chunks_of_a_long_clip_are_enqueued_and_canceled_when_it_ends(harness, worker, chunk_queue, submit, clip):
    job = submit(clip)
    work(worker, job)
    done = harness.jobs.job(job.id)
    assert (done.status, done.error) == (Status.COMPLETED, None)
    assert chunk_queue.enqueued[0][3] == [3, 2, 1]
    assert chunk_queue.canceled == chunk_queue.enqueued
    assert not [key for key in harness.blobs.blobs if key.startswith("chunks/")]


@pytest.mark.parametrize("lost", [(13,), range(13, 26)], ids=["first frame", "all frames"])
def test_damage_at_the_edge_of_a_chunk_costs_frames_and_not_the_job(harness, worker, chunk_queue, submit, clip, lost):
    job = submit(lose(clip, *lost))
    work(worker, job)
    done = harness.jobs.job(job.id)
    assert (done.status, done.error) == (Status.COMPLETED, None)
    assert (done.output.frames, done.output.frames_lost) == (50 - len(lost), len(lost))
    assert chunk_queue.canceled == chunk_queue.enqueued
    assert not [key for key in harness.blobs.blobs if key.startswith("chunks/")]


@pytest.mark.parametrize("error", [WorkerStopping(), StorageFailed("away")])
def test_chunks_of_an_interrupted_job_stay_enqueued(harness, chunk_queue, submit, clip, error):
    job = submit(clip)
    with pytest.raises(type(error)), distributed(chunk_queue, job, Plan(CHUNKS, PLAN_HASH, ENGINE)):
        raise error
    assert (len(chunk_queue.enqueued), chunk_queue.canceled) == (1, [])


@pytest.mark.parametrize("error", [AttemptSuperseded(), BadVideo("no")])
def test_chunks_of_an_ended_job_are_canceled(harness, chunk_queue, submit, clip, error):
    job = submit(clip)
    with pytest.raises(type(error)), distributed(chunk_queue, job, Plan(CHUNKS, PLAN_HASH, ENGINE)):
        raise error
    assert chunk_queue.canceled == chunk_queue.enqueued


def test_a_chunk_that_is_stored_after_the_job_ended_is_removed(harness, worker, submit, clip, monkeypatch):
    job = submit(clip)
    harness.jobs.begin_attempt(job.id, ticket=job.ticket, actor="owner")

    def late(*_):
        harness.jobs.fail(job.id, attempt=1, error="Cancelled", error_code="cancelled", actor="test")
        harness.blobs.blobs[f"{blob_keys.chunk_prefix(job.id, PLAN_HASH)}1.webm"] = b"late"

    monkeypatch.setattr(worker, "_make_chunk", late)
    worker.make_chunk(job.id, job.ticket, PLAN_HASH, 1)
    assert not [key for key in harness.blobs.blobs if key.startswith("chunks/")]


def test_workers_that_die_after_a_chunk_each_do_not_end_the_job(harness, worker, submit, clip, monkeypatch):
    job = submit(clip)
    for _ in range(4):  # deaths before the first chunk
        harness.jobs.begin_attempt(job.id, ticket=job.ticket, actor="dead")
    real, made = child_process.run, []

    def dies_after_each_chunk(task, *args, **kwargs):
        if made and made[-1] != "died":
            made.append("died")
            raise child_process.Killed("It was killed.")
        if isinstance(task, RunTask) and task.chunk is not None:
            made.append(task.chunk.start)  # type: ignore[arg-type]
        return real(task, *args, **kwargs)

    monkeypatch.setattr(child_process, "run", dies_after_each_chunk)
    for _ in range(10):
        work(worker, harness.jobs.job(job.id))
    done = harness.jobs.job(job.id)
    assert (done.status, done.error) == (Status.COMPLETED, None)
    assert made.count("died") == 4, "once for each chunk, on top of the deaths before"


def test_workers_that_die_without_a_chunk_end_the_job(harness, worker, submit, clip):
    job = submit(clip)
    for _ in range(6):
        harness.jobs.begin_attempt(job.id, ticket=job.ticket, actor="dead")
    work(worker, job)
    failed = harness.jobs.job(job.id)
    assert (failed.status, failed.error_code) == (Status.FAILED, "worker_crashed")
    assert "6 times" in failed.error
