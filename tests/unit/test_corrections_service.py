"""Corrections and analyses of jobs: who may ask for them, and what a crash, a failure and undoing leave."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tests.unit.test_exports import OPERATOR, finish, submit

from alphareel.db.deletion import DeletionStore
from alphareel.domain import errors
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.jobs.models import Billing, Job, Kind, Output, Status, StoredMatte
from alphareel.service.principal import Principal
from alphareel.service.settings import Settings
from alphareel.service.worker.inputs import Inputs
from alphareel.service.worker.job_tasks import JobTasks
from alphareel.service.worker.remote import LocalBlobs
from alphareel.service.worker.tasks import task_from_json, task_inputs, task_to_json
from alphareel.testing.fakes import TINY_MP4, ServiceHarness

CLICK = {"time": 0.2, "points": [{"x": 3, "y": 4, "label": "remove"}]}


@pytest.fixture
def job(harness: ServiceHarness, caller: Principal, tmp_path: Path) -> Job:
    return finish(harness, submit(harness, caller), tmp_path)


def complete(harness: ServiceHarness, row: Job) -> None:
    """What a worker does with a correction: it stores the outputs and the corrected matte."""
    begun = harness.jobs.begin_attempt(row.id, ticket=row.ticket, actor="w")
    assert begun is not None
    output = Output(f"outputs/{row.id}/1/result.webm", "webm", "video/webm", 4, "ef" * 32, 64, 48, 10, 0.4, True, False)
    matte = StoredMatte(f"mattes/{row.id}/1/m.mkv", 4, "ab" * 32, 10, "uploads/source.mp4")
    assert harness.jobs.complete(
        row.id, attempt=begun.attempt, output=output, engine=None, warnings=(), actor="w", matte=matte
    )


def current(harness: ServiceHarness, job: Job) -> Job:
    found = harness.jobs.job(job.id)
    assert found is not None
    return found


def test_a_correction_becomes_the_next_revision_of_its_job(
    harness: ServiceHarness, caller: Principal, job: Job
) -> None:
    row = harness.services.corrections.create(caller, job.id, CLICK)
    assert (row.kind, row.status, row.billing_status) == (Kind.CORRECTION, Status.PENDING, Billing.NOT_BILLED)
    assert current(harness, job) == replace(job, exports=current(harness, job).exports)  # until it is completed
    complete(harness, row)
    revised = current(harness, job)
    assert (revised.status, revised.revision) == (Status.COMPLETED, 2)
    assert revised.output is not None
    assert revised.output.sha256 == "ef" * 32
    assert revised.matte is not None
    assert revised.matte.sha256 == "ab" * 32


def test_undoing_makes_a_revision_of_the_first_matte(harness: ServiceHarness, caller: Principal, job: Job) -> None:
    service = harness.services.corrections
    complete(harness, service.create(caller, job.id, CLICK))
    complete(harness, service.create(caller, job.id, {**CLICK, "time": 0.3}))
    undoing = service.undo(caller, job.id, 1)
    assert job.matte is not None
    assert undoing.task is not None
    assert undoing.task["matte"] == job.matte.blob
    assert [each["number"] for each in undoing.task["corrections"]] == [2]
    complete(harness, undoing)
    assert current(harness, job).revision == 4
    with pytest.raises(errors.NotFound):
        service.undo(caller, job.id, 1)


def test_a_correction_is_made_from_the_files_of_the_revision_before(
    harness: ServiceHarness, caller: Principal, job: Job
) -> None:
    service = harness.services.corrections
    first = service.create(caller, job.id, CLICK)
    assert first.task is not None
    assert job.output is not None
    assert job.matte is not None
    assert [each["blob"] for each in first.task["previous"]] == [job.output.blob, job.matte.blob]
    complete(harness, first)
    second = service.create(caller, job.id, {**CLICK, "time": 0.3})
    assert second.task is not None
    assert [each["blob"] for each in second.task["previous"]] == [
        f"outputs/{first.id}/1/result.webm",
        f"mattes/{first.id}/1/m.mkv",
    ]
    assert second.task["matte"] == job.matte.blob  # the engine's own


def test_a_worker_goes_without_former_files_that_are_gone(
    harness: ServiceHarness, caller: Principal, job: Job, tmp_path: Path
) -> None:
    row = harness.services.corrections.create(caller, job.id, CLICK)
    assert job.output is not None
    assert job.matte is not None
    harness.blobs.blobs.update({job.matte.blob: b"matte", "uploads/source.mp4": b"video"})
    harness.blobs.blobs.pop(job.output.blob, None)
    tasks = JobTasks(Inputs(harness.blobs, harness.services.corrections.uploads), Settings())
    with LocalBlobs(harness.blobs) as opened:
        task = tasks.run_task(row, tmp_path / "in.mp4", opened, tmp_path, previews=None)
        assert [None if each is None else each.path.read_bytes() for each in task.previous] == [None, b"matte"]
        assert task_from_json(json.loads(json.dumps(task_to_json(task)))) == task
        assert {each.path for each in task.previous if each} <= set(task_inputs(task))


def test_a_failed_correction_leaves_the_former_revision_whole(
    harness: ServiceHarness, caller: Principal, job: Job
) -> None:
    service = harness.services.corrections
    row = service.create(caller, job.id, CLICK)
    with pytest.raises(errors.InvalidState, match="in progress"):
        service.create(caller, job.id, CLICK)
    assert harness.jobs.fail(row.id, attempt=None, error="broken", error_code="internal_error", actor="w")
    assert current(harness, job).revision == 1
    assert current(harness, job).output == job.output
    assert service.create(caller, job.id, CLICK).task["corrections"][0]["number"] == 2


@pytest.mark.parametrize(
    "body",
    [
        {"time": 77, "points": [{"x": 1, "y": 1}]},
        {"frame": 10, "points": [{"x": 1, "y": 1}]},
        {"time": 0.1},
        {"points": [{"x": 1, "y": 1}]},
        {"keep": ["s1"], "drop": ["s2"]},
    ],
)
def test_a_bad_correction_is_refused(
    harness: ServiceHarness, caller: Principal, job: Job, body: dict[str, Any]
) -> None:
    with pytest.raises(errors.InvalidRequest):
        harness.services.corrections.create(caller, job.id, body)
    assert harness.jobs.children(job.id) == ()


def test_a_mask_must_be_a_png(harness: ServiceHarness, caller: Principal, job: Job) -> None:
    data = cv2.imencode(".png", np.zeros((48, 64), np.uint8))[1].tobytes()
    session = harness.services.uploads.begin(caller, filename="mask.png", declared_type=None)
    session.write(data)
    url = harness.services.files.signer.upload_link(session.finish()).url
    row = harness.services.corrections.create(caller, job.id, {"frame": 1, "mask_url": url})
    assert row.task is not None
    assert row.task["corrections"][0]["mask"] == url
    assert harness.jobs.fail(row.id, attempt=None, error="broken", error_code="internal_error", actor="w")
    with pytest.raises(errors.InvalidRequest, match="kind"):
        harness.services.corrections.create(caller, job.id, {"frame": 1, "mask_url": job.video_url})


def test_only_completed_jobs_of_the_caller_are_corrected_or_analyzed(
    harness: ServiceHarness, caller: Principal, job: Job
) -> None:
    other = Principal(harness.services.admin.create_key(OPERATOR, client_id="other").key, "req_2")
    for call in (harness.services.analyses.quality, harness.services.analyses.subjects):
        with pytest.raises(errors.NotFound):
            call(other, job.id)
    with pytest.raises(errors.NotFound):
        harness.services.corrections.create(other, job.id, CLICK)
    queued = submit(harness, caller)
    with pytest.raises(errors.InvalidState):
        harness.services.corrections.create(caller, queued.id, CLICK)
    with pytest.raises(errors.InvalidState):
        harness.services.analyses.quality(caller, queued.id)
    harness.services.jobs.cancel(caller, queued.id)
    with pytest.raises(errors.InvalidState):
        harness.services.analyses.subjects(caller, queued.id)


def test_only_jobs_have_subjects(harness: ServiceHarness, caller: Principal, job: Job) -> None:
    row = harness.services.corrections.create(caller, job.id, CLICK)
    with pytest.raises(errors.InvalidState, match="has no matte of its own"):
        harness.services.analyses.subjects(caller, row.id)
    assert harness.jobs.children(row.id) == ()


def test_one_matte_is_analyzed_once_and_subjects_keep_the_first(
    harness: ServiceHarness, caller: Principal, job: Job
) -> None:
    analyses = harness.services.analyses
    first = analyses.quality(caller, job.id)[1]
    assert analyses.subjects(caller, job.id)[1].id == analyses.quality(caller, job.id)[1].id == first.id
    complete(harness, harness.services.corrections.create(caller, job.id, CLICK))
    assert analyses.subjects(caller, job.id)[1].id == first.id
    assert analyses.quality(caller, job.id)[1].id != first.id


def test_a_failed_analysis_is_made_again_twice(harness: ServiceHarness, caller: Principal, job: Job) -> None:
    made = []
    for _ in range(5):
        row = harness.services.analyses.quality(caller, job.id)[1]
        made.append(row.id)
        harness.jobs.fail(row.id, attempt=None, error="broken", error_code="internal_error", actor="w")
    assert len(set(made)) == len(harness.jobs.children(job.id)) == 3
    assert made[3] == made[4]
    assert made[3] in made[:3]


def test_the_files_of_corrections_go_with_their_job(harness: ServiceHarness, caller: Principal, job: Job) -> None:
    complete(harness, harness.services.corrections.create(caller, job.id, CLICK))
    harness.services.analyses.quality(caller, job.id)
    harness.services.jobs.delete(caller, job.id)
    assert harness.jobs.children(job.id) == ()
    with pytest.raises(errors.NotFound):
        harness.services.corrections.list(caller, job.id)


def test_rows_of_a_job_are_not_started_by_themselves(harness: ServiceHarness, caller: Principal, job: Job) -> None:
    harness.services.admin.set_balance(OPERATOR, client_id="acme", balance=100.0)
    rows = [
        harness.services.corrections.create(caller, job.id, CLICK),
        harness.services.exports.create(caller, job.id, {"format": "mov"}),
        harness.services.analyses.quality(caller, job.id)[1],
    ]
    for row in rows:
        assert harness.jobs.fail(row.id, attempt=None, error="broken", error_code="internal_error", actor="w")
        with pytest.raises(errors.InvalidState, match="on its own"):
            harness.services.jobs.start(caller, row.id, {})
        assert current(harness, row).status is Status.FAILED


def test_a_correction_whose_files_are_the_jobs_is_not_deleted(
    harness: ServiceHarness, caller: Principal, job: Job
) -> None:
    row = harness.services.corrections.create(caller, job.id, CLICK)
    complete(harness, row)
    revised = current(harness, job)
    assert revised.output is not None
    harness.blobs.blobs[revised.output.blob] = b"made"
    with pytest.raises(errors.InvalidState, match="correction"):
        harness.services.jobs.delete(caller, row.id)
    assert revised.output.blob in harness.blobs.blobs
    harness.services.jobs.delete(caller, job.id)
    assert revised.output.blob not in harness.blobs.blobs


def test_an_analysis_is_kept_as_long_as_its_job(harness: ServiceHarness, caller: Principal, tmp_path: Path) -> None:
    draft = submit(harness, caller, retention_seconds=600)
    early = finish(harness, harness.services.analyses.subjects(caller, draft.id)[1], tmp_path)
    assert early.files_expire_at == harness.clock.now() + timedelta(seconds=600)
    done = finish(harness, draft, tmp_path)
    harness.clock.advance(seconds=300)
    late = finish(harness, harness.services.analyses.quality(caller, done.id)[1], tmp_path)
    assert late.files_expire_at == done.files_expire_at == harness.clock.now() + timedelta(seconds=300)


def test_an_interrupted_deletion_is_finished_by_the_next_sweep(
    harness: ServiceHarness, caller: Principal, job: Job
) -> None:
    complete(harness, harness.services.corrections.create(caller, job.id, CLICK))
    running = harness.services.analyses.quality(caller, job.id)[1]
    assert harness.jobs.begin_attempt(running.id, ticket=running.ticket, actor="w")
    deletions = DeletionStore(harness.database, clock=harness.clock)
    assert deletions.children_of_deleted_jobs(limit=9) == ()
    assert deletions.remove_job(job.id, actor="t") is not None  # and the process dies here
    assert len(harness.jobs.children(job.id)) == len(deletions.children_of_deleted_jobs(limit=9)) == 2
    DeletionService(harness.jobs, deletions, harness.blobs).delete_pending()
    assert harness.jobs.children(job.id) == ()
    assert deletions.children_of_deleted_jobs(limit=9) == ()
    assert harness.blobs.blobs == {}


@pytest.mark.parametrize("url", ["http://[", "mask.png", "ftp://example.com/a.png", "http://a:b@example.com/a.png"])
def test_a_mask_that_is_no_url_is_refused(harness: ServiceHarness, caller: Principal, job: Job, url: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        harness.services.corrections.create(caller, job.id, {"frame": 0, "mask_url": url})
    assert [detail.field for detail in caught.value.details] == ["mask_url"]
    assert harness.jobs.children(job.id) == ()


def test_an_expired_link_of_another_key_is_no_mask(harness: ServiceHarness, caller: Principal, job: Job) -> None:
    other = Principal(harness.services.admin.create_key(OPERATOR, client_id="other").key, "req_2")
    session = harness.services.uploads.begin(other, filename="mask.png", declared_type=None)
    session.write(cv2.imencode(".png", np.zeros((48, 64), np.uint8))[1].tobytes())
    made = session.finish()
    past = replace(harness.services.files.signer, lifetime=timedelta(seconds=-1))
    with pytest.raises(errors.InvalidRequest, match="expired"):
        harness.services.corrections.create(caller, job.id, {"frame": 0, "mask_url": past.upload_link(made).url})


def test_a_page_shows_the_current_revision(
    harness: ServiceHarness, caller: Principal, job: Job, tmp_path: Path
) -> None:
    embeds, exports = harness.services.embeds, harness.services.exports
    former = finish(harness, exports.create(caller, job.id, {"format": "poster"}), tmp_path)
    other = finish(harness, exports.create(caller, job.id, {"format": "webm", "quality": "web"}), tmp_path)
    page = embeds.embed(caller, job.id)
    assert (page.files["poster"], page.files["webm"]) == (former.output, job.output)
    assert other.output != job.output
    complete(harness, harness.services.corrections.create(caller, job.id, CLICK))
    page = embeds.embed(caller, job.id)
    assert set(page.files) == {"webm"}
    assert page.files["webm"] == current(harness, job).output
    (again,) = (file.export for file in page.missing if file.format == "poster")
    assert again is not None
    assert finish(harness, again, tmp_path).output == embeds.embed(caller, job.id).files["poster"]


def test_of_two_corrections_at_once_one_is_refused(
    harness: ServiceHarness, caller: Principal, job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = harness.services.corrections
    service.create(caller, job.id, CLICK)
    with monkeypatch.context() as patch:
        patch.setattr(harness.jobs, "children", lambda *_: ())  # what the other request read before
        with pytest.raises(errors.InvalidState, match="in progress"):
            service.create(caller, job.id, CLICK)
    assert len(harness.jobs.children(job.id)) == 1


def test_a_source_whose_link_has_expired_was_copied_and_needs_no_link(
    harness: ServiceHarness, caller: Principal, tmp_path: Path
) -> None:
    other = Principal(harness.services.admin.create_key(OPERATOR, client_id="other").key, "req_2")
    session = harness.services.uploads.begin(other, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    soon = replace(harness.services.files.signer, lifetime=timedelta(seconds=60))
    job = harness.services.jobs.create(caller, {"video_url": soon.upload_link(session.finish()).url})
    finish(harness, job, tmp_path)
    harness.clock.advance(seconds=120)
    assert harness.services.analyses.quality(caller, job.id)[1].status is Status.PENDING
    assert harness.services.corrections.create(caller, job.id, CLICK).status is Status.PENDING
