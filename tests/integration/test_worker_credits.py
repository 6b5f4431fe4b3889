"""Credits for a video whose length is known only after it was fetched."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from alphareel.db.tables import uploads
from alphareel.domain.clip import Limits
from alphareel.service.api_keys.admin import Operator
from alphareel.service.api_keys.service import digest
from alphareel.service.jobs.models import Billing, Job, Status
from alphareel.service.principal import Principal
from alphareel.service.uploads.inspect import inspect_media
from alphareel.service.uploads.models import MediaInfo
from alphareel.service.worker import child_process
from alphareel.service.worker.child_process import ResourceLimits
from alphareel.service.worker.runner import Worker
from alphareel.service.worker.tasks import InspectTask
from alphareel.testing.clips import make_clip, make_lasting, make_understated
from alphareel.testing.fakes import (
    TINY_MP4,
    CannedFetcher,
    ServiceHarness,
    make_settings,
    open_harness,
    run_queued_steps,
)

URL = "https://example.com/a.mp4"
Submit = Callable[..., Job]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path)
    harness.keystore.add_key(key_id="k", secret_sha256=digest("s"), fingerprint="fp", client_id="studio", note="")
    yield harness
    harness.close()


@pytest.fixture
def worker(harness: ServiceHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Its pipeline reads a text; its clips last 20 seconds."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    real = child_process.run

    def run(task: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(task, InspectTask):
            return MediaInfo("video", "video/mp4", "mp4", seconds=20.0)
        return real(task, *args, **kwargs)

    monkeypatch.setattr(child_process, "run", run)
    fetcher = CannedFetcher({URL: b"ok from afar"})
    settings = make_settings(
        storage={"data_dir": tmp_path}, worker={"wall_seconds": 600, "pipeline": "fake_pipeline", "chunk_seconds": 0}
    )
    worker = Worker(
        "w1", jobs=harness.jobs, blobs=harness.blobs, uploads=harness.resolver, fetcher=fetcher, settings=settings
    )
    worker.drain()
    return worker


def work(harness: ServiceHarness, worker: Worker, **body: Any) -> Job:
    caller = Principal(harness.keys.authenticate("s"), "req_1")
    job = harness.services.jobs.create(caller, {"video_url": URL, **body})
    run_queued_steps(harness, worker, job.id)
    found = harness.jobs.job(job.id)
    assert found is not None
    return found


def give(harness: ServiceHarness, amount: float) -> None:
    harness.services.admin.grant(Operator("test"), client_id="studio", amount=amount, start_charging=True)


def ledger(harness: ServiceHarness) -> dict[str, int]:
    return {entry.kind: entry.amount for entry in harness.services.admin.entries("studio", limit=9)}


def test_are_reserved_after_the_fetch_and_settled_at_the_end(harness: ServiceHarness, worker: Worker) -> None:
    give(harness, 100)
    done = work(harness, worker)
    assert (done.status, done.billing_status) == (Status.COMPLETED, Billing.CHARGED)
    amounts = ledger(harness)
    assert amounts["reserve"] == -2000
    assert amounts["settle"] == 2000 - done.credits


def test_what_stands_behind_the_subject_costs_nothing(harness: ServiceHarness, worker: Worker) -> None:
    """The background's length is known when the job is made, and the source's is not: it must not stand in for it."""
    give(harness, 100)
    session = harness.services.uploads.begin(
        Principal(harness.keys.authenticate("s"), "r"), filename="b.mp4", declared_type=None
    )
    session.write(TINY_MP4)
    behind = harness.services.files.signer.upload_link(session.finish()).url
    with harness.database.write() as c:
        c.execute(sa.update(uploads).values(seconds=5000.0))
    done = work(harness, worker, background={"type": "video", "video_url": behind})
    assert (done.status, done.billing_status) == (Status.COMPLETED, Billing.CHARGED)
    assert ledger(harness)["reserve"] == -2000


def test_of_a_preview_are_those_of_the_preview(harness: ServiceHarness, worker: Worker) -> None:
    give(harness, 100)
    work(harness, worker, preview_duration=5)
    assert ledger(harness)["reserve"] == -500


def test_that_do_not_suffice_fail_the_job(harness: ServiceHarness, worker: Worker) -> None:
    give(harness, 19.99)
    failed = work(harness, worker)
    assert (failed.status, failed.error_code) == (Status.FAILED, "insufficient_credits")
    assert (failed.error or "").startswith("Not enough credits to process this video")
    assert harness.services.admin.account("studio").balance == 1999


def test_of_an_unlimited_client_are_not_asked_for(harness: ServiceHarness, worker: Worker) -> None:
    assert work(harness, worker).billing_status is Billing.NOT_BILLED
    assert ledger(harness) == {}


def test_a_file_tells_its_length_when_it_is_identified(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    make_clip(clip, frames=50)
    info = child_process.run(InspectTask(clip, Limits()), ResourceLimits(wall_seconds=600))
    assert info.seconds == pytest.approx(2, abs=0.1)


def test_go_back_when_the_result_does_not_fit_into_the_storage(harness: ServiceHarness, worker: Worker) -> None:
    give(harness, 100)
    fingerprint = harness.keys.authenticate("s").fingerprint
    harness.services.admin.set_limits(Operator("test"), fingerprint, {"max_storage_bytes": 1})
    job = work(harness, worker)
    assert (job.status, job.error_code, job.billing_status) == (
        Status.FAILED,
        "storage_quota_exceeded",
        Billing.RELEASED,
    )
    assert harness.blobs.blobs == {}


class TestOfARealRun:
    """From the upload to the charge, with the pipeline itself: ten credits are there, and a second costs one."""

    @pytest.fixture
    def run(self, harness: ServiceHarness, tmp_path: Path) -> Submit:
        give(harness, 10)
        harness.services.uploads._inspect_media = partial(inspect_media, limits=Limits())

        def submit(clip: Path, **body: Any) -> Job:
            settings = make_settings(storage={"data_dir": tmp_path}, worker={"wall_seconds": 600, "chunk_seconds": 0})
            deps: dict[str, Any] = {"blobs": harness.blobs, "uploads": harness.resolver, "fetcher": CannedFetcher({})}
            worker = Worker("w1", jobs=harness.jobs, settings=settings, **deps)
            caller = Principal(harness.keys.authenticate("s"), "r")
            session = harness.services.uploads.begin(caller, filename=clip.name, declared_type=None)
            session.write(clip.read_bytes())
            url = harness.services.files.signer.upload_link(session.finish()).url
            estimated, _ = harness.services.estimates.estimate(caller, {"video_url": url, **body})
            job = harness.services.jobs.create(caller, {"video_url": url, "engine": "chroma", **body})
            assert job.credits == estimated.credits, "what is reserved is what was estimated"
            worker.settle(job.id, job.ticket, worker.execute(job.id, job.ticket))
            found = harness.jobs.job(job.id)
            assert found is not None
            return found

        return submit

    @pytest.mark.parametrize(
        "options",
        [
            {"output_format": "webm"},
            {"output_format": "poster"},
            {"output_format": "poster", "poster_time": 1},
            {"output_format": "thumbnail"},
        ],
    )
    def test_all_that_was_estimated_is_charged_stills_included(
        self, run: Submit, harness: ServiceHarness, tmp_path: Path, options: dict[str, Any]
    ) -> None:
        truth = make_clip(tmp_path / "a.mp4", frames=50, background="green")
        done = run(truth.path, **options)
        assert (done.status, done.billing_status, done.credits) == (Status.COMPLETED, Billing.CHARGED, 200)
        assert harness.services.admin.account("studio").balance == 800

    def test_a_frame_that_lasts_longer_than_a_clip_may_fails_the_job_and_costs_nothing(
        self, run: Submit, harness: ServiceHarness, tmp_path: Path
    ) -> None:
        failed = run(make_lasting(tmp_path / "a.mp4", seconds=209_715))
        assert (failed.error_code, failed.billing_status) == ("duration_too_long", Billing.RELEASED)
        assert harness.services.admin.account("studio").balance == 1000

    def test_a_header_that_understates_the_length_fails_the_job_and_costs_nothing(
        self, run: Submit, harness: ServiceHarness, tmp_path: Path
    ) -> None:
        failed = run(make_understated(tmp_path / "a.mkv", frames=100, background="green").path)
        assert (failed.error_code, failed.billing_status) == ("insufficient_credits", Billing.RELEASED)
        assert (failed.error or "").startswith("Not enough credits to process this video: credits for 0.4 s")
        assert failed.output is None
        assert harness.services.admin.account("studio").balance == 1000
        assert not [key for key in harness.blobs.blobs if key.startswith("outputs/")]
