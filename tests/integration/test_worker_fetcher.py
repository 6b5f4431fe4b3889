"""The fetch of a job's files: it takes no place of a running job, and whatever ends it loses nothing."""

import threading
import time

import pytest

from alphareel.domain.errors import BadVideo, FetchFailed, FileTooLarge
from alphareel.service.files.signed_urls import FileGrant, sign
from alphareel.service.jobs.attempts import AttemptDropped
from alphareel.service.jobs.models import Status, Step
from alphareel.service.jobs.queue_limits import QueueLimits
from alphareel.service.net.download import SourceMissing
from alphareel.service.ports import FetchedFile
from alphareel.service.principal import Principal
from alphareel.service.uploads import source_urls
from alphareel.service.worker.inputs import Inputs
from alphareel.service.worker.runner import Worker
from alphareel.testing.fakes import CannedFetcher, make_settings, open_harness

URL = "https://example.com/a.mp4"
SOMEBODY = Principal(None, "req_1")


class SlowFetcher:
    """Never done; tells when it began."""

    def __init__(self):
        self.began = threading.Event()

    def fetch(self, url, target, *, max_bytes, tick=lambda: None):
        self.began.set()
        while True:
            tick()
            time.sleep(0.05)


@pytest.fixture
def harness(tmp_path):
    harness = open_harness(tmp_path)
    yield harness
    harness.close()


@pytest.fixture
def make_worker(harness, tmp_path):
    def make(fetcher=None, **other):
        fetcher = fetcher or CannedFetcher({URL: b"from afar"})
        settings = make_settings(storage={"data_dir": tmp_path}, worker={"retry_seconds": 0.01, "chunk_seconds": 0})
        stores = {"jobs": harness.jobs, "blobs": harness.blobs, "uploads": harness.resolver}
        worker = Worker("w", **stores, fetcher=fetcher, settings=settings, **other)
        worker.drain()
        return worker

    return make


@pytest.fixture
def handed_over(harness, make_worker):
    """A job that waits for its files."""
    job = harness.services.jobs.create(SOMEBODY, {"video_url": URL})
    assert make_worker().execute(job.id, job.ticket) == AttemptDropped()
    return harness.jobs.job(job.id)


def kept(harness, job):
    return [blob for blob in harness.blobs.blobs if blob.startswith(f"fetched/{job.id}/")]


def test_a_worker_does_not_wait_for_files_that_lie_elsewhere(harness, handed_over):
    assert (handed_over.status, handed_over.attempt) == (Status.PROCESSING, 0)
    assert harness.engine.steps[(handed_over.id, handed_over.ticket)] is Step.FETCH


def test_what_was_fetched_is_in_the_store_before_the_job_is_queued_to_run(harness, handed_over, make_worker, tmp_path):
    make_worker().fetch(handed_over.id, handed_over.ticket)
    job = harness.jobs.job(handed_over.id)
    assert (job.status, job.tries, job.attempt) == (Status.PROCESSING, 0, 0)
    assert harness.engine.steps[(job.id, job.ticket)] is Step.RUN_FETCHED
    assert [harness.blobs.blobs[blob] for blob in kept(harness, job)] == [b"from afar"]
    assert list((tmp_path / "work").iterdir()) == []


def test_the_result_of_another_job_is_copied_from_the_store(harness, make_worker):
    blob = "outputs/job_1/1/result.webm"
    harness.blobs.blobs[blob] = b"a result"
    link = sign(FileGrant(blob, "a.webm", int(harness.clock.now().timestamp()) + 60), harness.resolver.link_secret)
    job = harness.services.jobs.create(SOMEBODY, {"video_url": f"https://cut.example.com{link}"})
    harness.clock.advance(seconds=3600)  # a link that was valid at the creation is enough
    fetcher = CannedFetcher({})
    make_worker(fetcher).execute(job.id, job.ticket)
    make_worker(fetcher).fetch(job.id, harness.jobs.job(job.id).ticket)
    assert [harness.blobs.blobs[copy] for copy in kept(harness, job)] == [b"a result"]
    assert fetcher.asked == []


def test_a_linked_file_that_was_removed_meanwhile_fails_the_job(harness, make_worker):
    expires = int(harness.clock.now().timestamp()) + 60
    link = sign(FileGrant("outputs/job_1/1/result.webm", "a.webm", expires), harness.resolver.link_secret)
    job = harness.services.jobs.create(SOMEBODY, {"video_url": link})
    make_worker().execute(job.id, job.ticket)
    make_worker().fetch(job.id, harness.jobs.job(job.id).ticket)
    failed = harness.jobs.job(job.id)
    assert (failed.status, failed.error_code) == (Status.FAILED, "not_found")
    assert "removed" in failed.error


def test_a_linked_file_above_the_size_limit_fails_the_job(harness, make_worker, tmp_path):
    harness.blobs.blobs["outputs/job_1/1/result.webm"] = bytes(100)
    expires = int(harness.clock.now().timestamp()) + 60
    link = sign(FileGrant("outputs/job_1/1/result.webm", "a.webm", expires), harness.resolver.link_secret)
    inputs = Inputs(harness.blobs, harness.resolver)
    with pytest.raises(FileTooLarge, match="99 allowed"):
        inputs.copy_linked(source_urls.source(link), tmp_path / "copy", max_bytes=99, tick=lambda: None)


def test_a_worker_that_dies_while_it_fetches_loses_nothing(harness, handed_over, make_worker):
    harness.jobs.begin_fetch(handed_over.id, ticket=handed_over.ticket, actor="dead")
    make_worker().fetch(handed_over.id, handed_over.ticket)
    assert len(kept(harness, handed_over)) == 1


def test_a_worker_that_dies_after_the_fetch_makes_nobody_fetch_again(harness, handed_over, make_worker):
    harness.blobs.blobs[f"fetched/{handed_over.id}/1/source"] = b"by the dead"
    fetcher = CannedFetcher({})
    make_worker(fetcher).fetch(handed_over.id, handed_over.ticket)
    assert fetcher.asked == []
    assert harness.engine.steps[(handed_over.id, handed_over.ticket + 1)] is Step.RUN_FETCHED


def test_a_fetch_that_kills_its_workers_is_given_up(harness, handed_over, make_worker):
    for _ in range(6):
        harness.jobs.begin_fetch(handed_over.id, ticket=handed_over.ticket, actor="dead")
    make_worker().fetch(handed_over.id, handed_over.ticket)
    failed = harness.jobs.job(handed_over.id)
    assert (failed.status, failed.error_code) == (Status.FAILED, "worker_crashed")
    assert "6 times" in failed.error


def test_a_fetch_of_a_cancelled_job_ends_at_once_and_leaves_nothing(harness, handed_over, make_worker, tmp_path):
    fetcher = SlowFetcher()
    thread = threading.Thread(target=make_worker(fetcher).fetch, args=(handed_over.id, handed_over.ticket))
    thread.start()
    assert fetcher.began.wait(100)
    harness.services.jobs.cancel(SOMEBODY, handed_over.id)
    thread.join(timeout=100)
    assert not thread.is_alive()
    assert harness.jobs.job(handed_over.id).error_code == "cancelled"
    assert list((tmp_path / "work").iterdir()) == []


def test_a_worker_that_stops_leaves_its_fetch_untried(harness, handed_over, make_worker):
    fetcher = SlowFetcher()
    worker = make_worker(fetcher)
    threading.Thread(target=worker.fetch, args=(handed_over.id, handed_over.ticket), daemon=True).start()
    assert fetcher.began.wait(100)
    assert harness.jobs.job(handed_over.id).tries == 1
    worker.abandon()
    assert harness.jobs.job(handed_over.id).tries == 0


def test_a_fetch_keeps_its_place_until_the_job_starts(harness, handed_over, make_worker):
    worker = make_worker()
    worker._input_fetcher._draining.clear()
    thread = threading.Thread(target=worker.fetch, args=(handed_over.id, handed_over.ticket), daemon=True)
    thread.start()
    thread.join(timeout=1.5)
    assert thread.is_alive()
    assert harness.jobs.begin_attempt(handed_over.id, ticket=handed_over.ticket + 1, actor="w") is not None
    thread.join(timeout=100)
    assert not thread.is_alive()


def test_a_sleeper_that_fails_late_does_not_fail_a_job_that_another_fetched(harness, handed_over, make_worker):
    class Late:
        def fetch(self, url, target, **_):
            make_worker().fetch(handed_over.id, handed_over.ticket)
            raise FetchFailed("It broke off.")

    make_worker(Late()).fetch(handed_over.id, handed_over.ticket)
    job = harness.jobs.job(handed_over.id)
    assert (job.status, job.error) == (Status.PROCESSING, None)
    assert len(kept(harness, job)) == 1


def test_a_sleeper_that_is_done_late_does_not_replace_what_another_fetched(harness, handed_over, make_worker):
    class Late:
        def fetch(self, url, target, **_):
            make_worker().fetch(handed_over.id, handed_over.ticket)
            target.write_bytes(b"late")
            return FetchedFile(target, "a.mp4", "video/mp4", 4)

    make_worker(Late()).fetch(handed_over.id, handed_over.ticket)
    assert [harness.blobs.blobs[blob] for blob in kept(harness, handed_over)] == [b"from afar"]


def test_a_file_that_cannot_be_examined_fails_its_job_before_it_takes_a_worker(harness, handed_over, make_worker):
    def inspect(path, tick):
        tick()
        raise BadVideo("The file could not be examined within 120 seconds.")

    make_worker(inspect_fetched=inspect).fetch(handed_over.id, handed_over.ticket)
    failed = harness.jobs.job(handed_over.id)
    assert (failed.status, failed.error_code, failed.attempt) == (Status.FAILED, "invalid_video", 0)
    assert kept(harness, failed) == []


def test_a_deleted_job_leaves_nothing_that_was_fetched(harness, handed_over, make_worker):
    make_worker().fetch(handed_over.id, handed_over.ticket)
    harness.services.jobs.delete(SOMEBODY, handed_over.id)
    assert kept(harness, handed_over) == []


def test_a_fetched_file_that_is_gone_is_fetched_again(harness, handed_over, make_worker):
    make_worker().fetch(handed_over.id, handed_over.ticket)
    harness.blobs.blobs.clear()
    make_worker().execute(handed_over.id, handed_over.ticket + 1)
    assert harness.engine.steps[(handed_over.id, handed_over.ticket + 2)] is Step.FETCH


def test_a_job_that_is_fetched_lets_the_next_one_of_its_key_into_the_line(tmp_path):
    """Keys take turns, so a key has as many jobs in line as a worker process runs: a fetch must not count as one."""
    harness = open_harness(tmp_path, queue_limits=QueueLimits(ahead=1))
    first, second = (harness.services.jobs.create(SOMEBODY, {"video_url": URL}) for _ in range(2))
    assert harness.engine.queued == [(first.id, 1)]
    harness.jobs.queue_fetch(first.id, ticket=1, actor="w")
    assert (second.id, 1) in harness.engine.queued
    harness.close()


def test_a_job_that_is_run_again_after_an_earlier_run_is_fetched_again(harness, handed_over, make_worker):
    make_worker(CannedFetcher({URL: SourceMissing("Status 404.")})).fetch(handed_over.id, handed_over.ticket)
    assert harness.jobs.job(handed_over.id).status is Status.FAILED
    again = harness.services.jobs.start(SOMEBODY, handed_over.id, {})
    assert make_worker().execute(again.id, again.ticket) == AttemptDropped()
    make_worker().fetch(again.id, again.ticket + 1)
    assert kept(harness, again) == [f"fetched/{again.id}/2/source"]
