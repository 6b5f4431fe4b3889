"""The fetch of a job's files: it takes no place of a running job, and whatever ends it loses nothing."""

import threading
import time

import pytest

from alphareel.domain.clip import Limits
from alphareel.domain.errors import BadVideo, FetchFailed
from alphareel.jobs.admission import QueueLimits
from alphareel.jobs.fetch import SourceMissing
from alphareel.jobs.job import Status, Step
from alphareel.jobs.ports import Fetched
from alphareel.jobs.sandbox import Confinement
from alphareel.jobs.use_cases import Caller
from alphareel.jobs.worker import Worker, WorkRules
from alphareel.testing.fakes import CannedFetcher, open_desk

URL = "https://example.com/a.mp4"
SOMEBODY = Caller(None, "req_1")


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
def desk(tmp_path):
    desk = open_desk(tmp_path)
    yield desk
    desk.close()


@pytest.fixture
def make_worker(desk, tmp_path):
    def make(fetcher=None, **other):
        fetcher = fetcher or CannedFetcher({URL: b"from afar"})
        rules = WorkRules(tmp_path / "work", Limits(), Confinement(), retry_seconds=0.01)
        stores = {"jobs": desk.jobs, "blobs": desk.blobs, "sources": desk.sources}
        worker = Worker("w", **stores, fetcher=fetcher, rules=rules, **other)
        worker.wind_down()
        return worker

    return make


@pytest.fixture
def handed_over(desk, make_worker):
    """A job that waits for its files."""
    job = desk.service.create(SOMEBODY, {"video_url": URL})
    assert make_worker().execute(job.id, job.ticket) == {"kind": "gone"}
    return desk.jobs.job(job.id)


def kept(desk, job):
    return [blob for blob in desk.blobs.blobs if blob.startswith(f"fetched/{job.id}/")]


def test_a_worker_does_not_wait_for_files_that_lie_elsewhere(desk, handed_over):
    assert (handed_over.status, handed_over.attempt) == (Status.PROCESSING, 0)
    assert desk.engine.steps[(handed_over.id, handed_over.ticket)] is Step.FETCH


def test_what_was_fetched_is_in_the_store_before_the_job_is_queued_to_run(desk, handed_over, make_worker, tmp_path):
    make_worker().fetch(handed_over.id, handed_over.ticket)
    job = desk.jobs.job(handed_over.id)
    assert (job.status, job.tries, job.attempt) == (Status.PROCESSING, 0, 0)
    assert desk.engine.steps[(job.id, job.ticket)] is Step.RUN_FETCHED
    assert [desk.blobs.blobs[blob] for blob in kept(desk, job)] == [b"from afar"]
    assert list((tmp_path / "work").iterdir()) == []


def test_a_worker_that_dies_while_it_fetches_loses_nothing(desk, handed_over, make_worker):
    desk.jobs.begin_fetch(handed_over.id, ticket=handed_over.ticket, actor="dead")
    make_worker().fetch(handed_over.id, handed_over.ticket)
    assert len(kept(desk, handed_over)) == 1


def test_a_worker_that_dies_after_the_fetch_makes_nobody_fetch_again(desk, handed_over, make_worker):
    desk.blobs.blobs[f"fetched/{handed_over.id}/1/source"] = b"by the dead"
    fetcher = CannedFetcher({})
    make_worker(fetcher).fetch(handed_over.id, handed_over.ticket)
    assert fetcher.asked == []
    assert desk.engine.steps[(handed_over.id, handed_over.ticket + 1)] is Step.RUN_FETCHED


def test_a_fetch_that_kills_its_workers_is_given_up(desk, handed_over, make_worker):
    for _ in range(6):
        desk.jobs.begin_fetch(handed_over.id, ticket=handed_over.ticket, actor="dead")
    make_worker().fetch(handed_over.id, handed_over.ticket)
    failed = desk.jobs.job(handed_over.id)
    assert (failed.status, failed.error_code) == (Status.FAILED, "worker_crashed")
    assert "6 times" in failed.error


def test_a_fetch_of_a_cancelled_job_ends_at_once_and_leaves_nothing(desk, handed_over, make_worker, tmp_path):
    fetcher = SlowFetcher()
    thread = threading.Thread(target=make_worker(fetcher).fetch, args=(handed_over.id, handed_over.ticket))
    thread.start()
    assert fetcher.began.wait(10)
    desk.service.cancel(SOMEBODY, handed_over.id)
    thread.join(timeout=5)
    assert not thread.is_alive()
    assert desk.jobs.job(handed_over.id).error_code == "cancelled"
    assert list((tmp_path / "work").iterdir()) == []


def test_a_worker_that_stops_leaves_its_fetch_untried(desk, handed_over, make_worker):
    fetcher = SlowFetcher()
    worker = make_worker(fetcher)
    threading.Thread(target=worker.fetch, args=(handed_over.id, handed_over.ticket), daemon=True).start()
    assert fetcher.began.wait(10)
    assert desk.jobs.job(handed_over.id).tries == 1
    worker.abandon()
    assert desk.jobs.job(handed_over.id).tries == 0


def test_a_fetch_keeps_its_place_until_the_job_starts(desk, handed_over, make_worker):
    worker = make_worker()
    worker._fetching._winding_down.clear()
    thread = threading.Thread(target=worker.fetch, args=(handed_over.id, handed_over.ticket), daemon=True)
    thread.start()
    thread.join(timeout=1.5)
    assert thread.is_alive()
    assert desk.jobs.begin_attempt(handed_over.id, ticket=handed_over.ticket + 1, actor="w") is not None
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_a_sleeper_that_fails_late_does_not_fail_a_job_that_another_fetched(desk, handed_over, make_worker):
    class Late:
        def fetch(self, url, target, **_):
            make_worker().fetch(handed_over.id, handed_over.ticket)
            raise FetchFailed("It broke off.")

    make_worker(Late()).fetch(handed_over.id, handed_over.ticket)
    job = desk.jobs.job(handed_over.id)
    assert (job.status, job.error) == (Status.PROCESSING, None)
    assert len(kept(desk, job)) == 1


def test_a_sleeper_that_is_done_late_does_not_replace_what_another_fetched(desk, handed_over, make_worker):
    class Late:
        def fetch(self, url, target, **_):
            make_worker().fetch(handed_over.id, handed_over.ticket)
            target.write_bytes(b"late")
            return Fetched(target, "a.mp4", "video/mp4", 4)

    make_worker(Late()).fetch(handed_over.id, handed_over.ticket)
    assert [desk.blobs.blobs[blob] for blob in kept(desk, handed_over)] == [b"from afar"]


def test_a_file_that_cannot_be_examined_fails_its_job_before_it_takes_a_worker(desk, handed_over, make_worker):
    def examine(path, tick):
        tick()
        raise BadVideo("The file could not be examined within 120 seconds.")

    make_worker(examine=examine).fetch(handed_over.id, handed_over.ticket)
    failed = desk.jobs.job(handed_over.id)
    assert (failed.status, failed.error_code, failed.attempt) == (Status.FAILED, "invalid_video", 0)
    assert kept(desk, failed) == []


def test_a_deleted_job_leaves_nothing_that_was_fetched(desk, handed_over, make_worker):
    make_worker().fetch(handed_over.id, handed_over.ticket)
    desk.service.delete(SOMEBODY, handed_over.id)
    assert kept(desk, handed_over) == []


def test_a_fetched_file_that_is_gone_is_fetched_again(desk, handed_over, make_worker):
    make_worker().fetch(handed_over.id, handed_over.ticket)
    desk.blobs.blobs.clear()
    make_worker().execute(handed_over.id, handed_over.ticket + 1)
    assert desk.engine.steps[(handed_over.id, handed_over.ticket + 2)] is Step.FETCH


def test_a_job_that_is_fetched_lets_the_next_one_of_its_key_into_the_line(tmp_path):
    """Keys take turns, so a key has as many jobs in line as a worker process runs: a fetch must not count as one."""
    desk = open_desk(tmp_path, limits=QueueLimits(ahead=1))
    first, second = (desk.service.create(SOMEBODY, {"video_url": URL}) for _ in range(2))
    assert desk.engine.queued == [(first.id, 1)]
    desk.jobs.queue_fetch(first.id, ticket=1, actor="w")
    assert (second.id, 1) in desk.engine.queued
    desk.close()


def test_a_job_that_is_run_again_after_an_earlier_run_is_fetched_again(desk, handed_over, make_worker):
    make_worker(CannedFetcher({URL: SourceMissing("Status 404.")})).fetch(handed_over.id, handed_over.ticket)
    assert desk.jobs.job(handed_over.id).status is Status.FAILED
    again = desk.service.start(SOMEBODY, handed_over.id, {})
    assert make_worker().execute(again.id, again.ticket) == {"kind": "gone"}
    make_worker().fetch(again.id, again.ticket + 1)
    assert kept(desk, again) == [f"fetched/{again.id}/2/source"]
