"""Cancelling and deleting, as use cases: who may, in which state, and what is left."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from alphareel.db.deletion import DeletionStore
from alphareel.domain import errors
from alphareel.service.api_keys.models import ApiKey
from alphareel.service.api_keys.service import digest
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.jobs.models import Job, Status
from alphareel.service.principal import Principal
from alphareel.testing.fakes import TINY_MP4, ServiceHarness, open_harness

VIDEO = {"video_url": "https://example.com/a.mp4"}


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path)
    yield harness
    harness.close()


@pytest.fixture
def caller(harness: ServiceHarness) -> Principal:
    return Principal(add_key(harness, "one"), "req_1")


@pytest.fixture
def stranger(harness: ServiceHarness) -> Principal:
    return Principal(add_key(harness, "two"), "req_2")


def add_key(harness: ServiceHarness, name: str) -> ApiKey:
    key = harness.keystore.add_key(key_id=name, secret_sha256=digest(name), fingerprint=name, client_id=name, note="")
    assert key is not None
    return key


def upload(harness: ServiceHarness, caller: Principal) -> tuple[str, str]:
    session = harness.services.uploads.begin(caller, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    made = session.finish()
    return made.id, harness.services.files.signer.upload_link(made).url


def complete(harness: ServiceHarness, job: Job) -> None:
    with harness.database.write() as c:
        c.exec_driver_sql(f"UPDATE ar_jobs SET status = 'completed' WHERE id = '{job.id}'")


class TestCancelling:
    @pytest.mark.parametrize("auto_start", [True, False])
    def test_ends_a_draft_or_a_queued_job_at_once(
        self, *, auto_start: bool, harness: ServiceHarness, caller: Principal
    ) -> None:
        job = harness.services.jobs.create(caller, {**VIDEO, "auto_start": auto_start})
        ended = harness.services.jobs.cancel(caller, job.id)
        assert (ended.status, ended.error, ended.error_code) == (Status.FAILED, "Cancelled", "cancelled")
        assert [e.actor for e in harness.jobs.events(job.id)] == ["key:one", "key:one"]

    def test_takes_a_running_job_out_of_the_workers_hands(self, harness: ServiceHarness, caller: Principal) -> None:
        job = harness.services.jobs.create(caller, VIDEO)
        harness.jobs.begin_attempt(job.id, ticket=1, actor="worker")
        harness.services.jobs.cancel(caller, job.id)
        assert not harness.jobs.set_progress(job.id, attempt=1, progress=50)

    def test_twice_is_the_same_as_once(self, harness: ServiceHarness, caller: Principal) -> None:
        job = harness.services.jobs.create(caller, VIDEO)
        assert harness.services.jobs.cancel(caller, job.id) == harness.services.jobs.cancel(caller, job.id)
        assert len(harness.jobs.events(job.id)) == 2

    def test_leaves_a_job_that_failed_by_itself_as_it_is(self, harness: ServiceHarness, caller: Principal) -> None:
        job = harness.services.jobs.create(caller, VIDEO)
        harness.jobs.fail(job.id, attempt=None, error="It broke.", error_code="timeout", actor="w")
        assert harness.services.jobs.cancel(caller, job.id).error_code == "timeout"

    def test_of_a_completed_job_is_refused(self, harness: ServiceHarness, caller: Principal) -> None:
        job = harness.services.jobs.create(caller, VIDEO)
        complete(harness, job)
        with pytest.raises(errors.InvalidState):
            harness.services.jobs.cancel(caller, job.id)

    def test_a_cancelled_job_can_be_started_again(self, harness: ServiceHarness, caller: Principal) -> None:
        job = harness.services.jobs.create(caller, VIDEO)
        harness.services.jobs.cancel(caller, job.id)
        assert harness.services.jobs.start(caller, job.id, {}).status is Status.PENDING


class TestDeleting:
    @pytest.mark.parametrize("state", ["draft", "queued", "running", "completed", "failed"])
    def test_works_in_every_state(self, state: str, harness: ServiceHarness, caller: Principal) -> None:
        upload_id, link = upload(harness, caller)
        job = harness.services.jobs.create(caller, {"video_url": link, "auto_start": state != "draft"})
        harness.blobs.blobs[f"outputs/{job.id}/1/result.webm"] = b"made"
        harness.blobs.blobs[f"previews/{job.id}/1/preview-0.webp"] = b"made"
        if state == "running":
            harness.jobs.begin_attempt(job.id, ticket=1, actor="worker")
        elif state == "completed":
            complete(harness, job)
        elif state == "failed":
            harness.services.jobs.cancel(caller, job.id)
        harness.services.jobs.delete(caller, job.id)
        with pytest.raises(errors.NotFound):
            harness.services.jobs.get(caller, job.id)
        assert harness.blobs.blobs == {}
        assert harness.uploads.upload(upload_id) is None

    def test_twice_is_not_found(self, harness: ServiceHarness, caller: Principal) -> None:
        job = harness.services.jobs.create(caller, VIDEO)
        harness.services.jobs.delete(caller, job.id)
        with pytest.raises(errors.NotFound):
            harness.services.jobs.delete(caller, job.id)

    def test_an_upload_spares_it_for_jobs_that_need_it(self, harness: ServiceHarness, caller: Principal) -> None:
        upload_id, link = upload(harness, caller)
        job = harness.services.jobs.create(caller, {"video_url": link})
        with pytest.raises(errors.InvalidState):
            harness.services.uploads.delete(caller, upload_id)
        harness.services.jobs.cancel(caller, job.id)
        harness.services.uploads.delete(caller, upload_id)
        assert harness.blobs.blobs == {}
        with pytest.raises(errors.InvalidRequest, match="no such upload"):
            harness.services.jobs.start(caller, job.id, {})

    def test_needs_the_same_key(self, harness: ServiceHarness, caller: Principal, stranger: Principal) -> None:
        upload_id, link = upload(harness, caller)
        job = harness.services.jobs.create(caller, {"video_url": link})
        uses = (
            lambda: harness.services.jobs.cancel(stranger, job.id),
            lambda: harness.services.jobs.delete(stranger, job.id),
            lambda: harness.services.uploads.delete(stranger, upload_id),
            lambda: harness.services.uploads.delete(caller, "none"),
        )
        for use in uses:
            with pytest.raises(errors.NotFound):
                use()
        assert harness.services.jobs.get(caller, job.id).status is Status.PENDING

    def test_a_file_that_cannot_go_now_goes_later(
        self, harness: ServiceHarness, caller: Principal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: str) -> None:
            raise errors.StorageFailed("The disk is away.")

        _, link = upload(harness, caller)
        job = harness.services.jobs.create(caller, {"video_url": link})
        with monkeypatch.context() as patch:
            patch.setattr(harness.blobs, "delete", fail)
            harness.services.jobs.delete(caller, job.id)
        assert len(harness.blobs.blobs) == 1
        DeletionService(
            harness.jobs, DeletionStore(harness.database, clock=harness.clock), harness.blobs
        ).delete_pending()
        assert harness.blobs.blobs == {}

    def test_pictures_that_cannot_go_now_go_later(
        self, harness: ServiceHarness, caller: Principal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: str) -> None:
            raise errors.StorageFailed("The disk is away.")

        job = harness.services.jobs.create(caller, VIDEO)
        harness.blobs.blobs[f"previews/{job.id}/1/preview-0.webp"] = b"made"
        with monkeypatch.context() as patch:
            patch.setattr(harness.blobs, "delete_prefix", fail)
            harness.services.jobs.delete(caller, job.id)
        assert len(harness.blobs.blobs) == 1
        DeletionService(
            harness.jobs, DeletionStore(harness.database, clock=harness.clock), harness.blobs
        ).delete_pending()
        assert harness.blobs.blobs == {}
