"""Cancelling and deleting, as use cases: who may, in which state, and what is left."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from alphareel.db.deletion import DeletionStore
from alphareel.domain import errors
from alphareel.service.api_keys.service import digest
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.jobs.models import ApiKey, Job, Status
from alphareel.service.use_cases import Principal
from alphareel.testing.fakes import TINY_MP4, Desk, open_desk

VIDEO = {"video_url": "https://example.com/a.mp4"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = open_desk(tmp_path)
    yield desk
    desk.close()


@pytest.fixture
def caller(desk: Desk) -> Principal:
    return Principal(add_key(desk, "one"), "req_1")


@pytest.fixture
def stranger(desk: Desk) -> Principal:
    return Principal(add_key(desk, "two"), "req_2")


def add_key(desk: Desk, name: str) -> ApiKey:
    key = desk.keystore.add_key(key_id=name, secret_sha256=digest(name), fingerprint=name, client_id=name, note="")
    assert key is not None
    return key


def upload(desk: Desk, caller: Principal) -> tuple[str, str]:
    session = desk.service.begin_upload(caller, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    made = session.finish()
    return made.id, desk.service.upload_link(made).url


def complete(desk: Desk, job: Job) -> None:
    with desk.database.write() as c:
        c.exec_driver_sql(f"UPDATE ar_jobs SET status = 'completed' WHERE id = '{job.id}'")


class TestCancelling:
    @pytest.mark.parametrize("auto_start", [True, False])
    def test_ends_a_draft_or_a_queued_job_at_once(self, *, auto_start: bool, desk: Desk, caller: Principal) -> None:
        job = desk.service.create(caller, {**VIDEO, "auto_start": auto_start})
        ended = desk.service.cancel(caller, job.id)
        assert (ended.status, ended.error, ended.error_code) == (Status.FAILED, "Cancelled", "cancelled")
        assert [e.actor for e in desk.jobs.events(job.id)] == ["key:one", "key:one"]

    def test_takes_a_running_job_out_of_the_workers_hands(self, desk: Desk, caller: Principal) -> None:
        job = desk.service.create(caller, VIDEO)
        desk.jobs.begin_attempt(job.id, ticket=1, actor="worker")
        desk.service.cancel(caller, job.id)
        assert not desk.jobs.set_progress(job.id, attempt=1, progress=50)

    def test_twice_is_the_same_as_once(self, desk: Desk, caller: Principal) -> None:
        job = desk.service.create(caller, VIDEO)
        assert desk.service.cancel(caller, job.id) == desk.service.cancel(caller, job.id)
        assert len(desk.jobs.events(job.id)) == 2

    def test_leaves_a_job_that_failed_by_itself_as_it_is(self, desk: Desk, caller: Principal) -> None:
        job = desk.service.create(caller, VIDEO)
        desk.jobs.fail(job.id, attempt=None, error="It broke.", error_code="timeout", actor="w")
        assert desk.service.cancel(caller, job.id).error_code == "timeout"

    def test_of_a_completed_job_is_refused(self, desk: Desk, caller: Principal) -> None:
        job = desk.service.create(caller, VIDEO)
        complete(desk, job)
        with pytest.raises(errors.InvalidState):
            desk.service.cancel(caller, job.id)

    def test_a_cancelled_job_can_be_started_again(self, desk: Desk, caller: Principal) -> None:
        job = desk.service.create(caller, VIDEO)
        desk.service.cancel(caller, job.id)
        assert desk.service.start(caller, job.id, {}).status is Status.PENDING


class TestDeleting:
    @pytest.mark.parametrize("state", ["draft", "queued", "running", "completed", "failed"])
    def test_works_in_every_state(self, state: str, desk: Desk, caller: Principal) -> None:
        upload_id, link = upload(desk, caller)
        job = desk.service.create(caller, {"video_url": link, "auto_start": state != "draft"})
        desk.blobs.blobs[f"outputs/{job.id}/1/result.webm"] = b"made"
        desk.blobs.blobs[f"previews/{job.id}/1/preview-0.webp"] = b"made"
        if state == "running":
            desk.jobs.begin_attempt(job.id, ticket=1, actor="worker")
        elif state == "completed":
            complete(desk, job)
        elif state == "failed":
            desk.service.cancel(caller, job.id)
        desk.service.delete(caller, job.id)
        with pytest.raises(errors.NotFound):
            desk.service.get(caller, job.id)
        assert desk.blobs.blobs == {}
        assert desk.uploads.upload(upload_id) is None

    def test_twice_is_not_found(self, desk: Desk, caller: Principal) -> None:
        job = desk.service.create(caller, VIDEO)
        desk.service.delete(caller, job.id)
        with pytest.raises(errors.NotFound):
            desk.service.delete(caller, job.id)

    def test_an_upload_spares_it_for_jobs_that_need_it(self, desk: Desk, caller: Principal) -> None:
        upload_id, link = upload(desk, caller)
        job = desk.service.create(caller, {"video_url": link})
        with pytest.raises(errors.InvalidState):
            desk.service.delete_upload(caller, upload_id)
        desk.service.cancel(caller, job.id)
        desk.service.delete_upload(caller, upload_id)
        assert desk.blobs.blobs == {}
        with pytest.raises(errors.InvalidRequest, match="no such upload"):
            desk.service.start(caller, job.id, {})

    def test_needs_the_same_key(self, desk: Desk, caller: Principal, stranger: Principal) -> None:
        upload_id, link = upload(desk, caller)
        job = desk.service.create(caller, {"video_url": link})
        uses = (
            lambda: desk.service.cancel(stranger, job.id),
            lambda: desk.service.delete(stranger, job.id),
            lambda: desk.service.delete_upload(stranger, upload_id),
            lambda: desk.service.delete_upload(caller, "none"),
        )
        for use in uses:
            with pytest.raises(errors.NotFound):
                use()
        assert desk.service.get(caller, job.id).status is Status.PENDING

    def test_a_file_that_cannot_go_now_goes_later(
        self, desk: Desk, caller: Principal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: str) -> None:
            raise errors.StorageFailed("The disk is away.")

        _, link = upload(desk, caller)
        job = desk.service.create(caller, {"video_url": link})
        with monkeypatch.context() as patch:
            patch.setattr(desk.blobs, "delete", fail)
            desk.service.delete(caller, job.id)
        assert len(desk.blobs.blobs) == 1
        DeletionService(desk.jobs, DeletionStore(desk.database, clock=desk.clock), desk.blobs).empty()
        assert desk.blobs.blobs == {}

    def test_pictures_that_cannot_go_now_go_later(
        self, desk: Desk, caller: Principal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(_: str) -> None:
            raise errors.StorageFailed("The disk is away.")

        job = desk.service.create(caller, VIDEO)
        desk.blobs.blobs[f"previews/{job.id}/1/preview-0.webp"] = b"made"
        with monkeypatch.context() as patch:
            patch.setattr(desk.blobs, "delete_prefix", fail)
            desk.service.delete(caller, job.id)
        assert len(desk.blobs.blobs) == 1
        DeletionService(desk.jobs, DeletionStore(desk.database, clock=desk.clock), desk.blobs).empty()
        assert desk.blobs.blobs == {}
