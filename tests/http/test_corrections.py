"""What the list of corrections says about how each was made."""

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from alphareel.domain.clip import EngineFacts, Result
from alphareel.service.worker.cleanup import JobCleanup
from alphareel.service.worker.events import RunResult, event_from_json, event_to_json
from alphareel.service.worker.job_tasks import requested_outputs
from alphareel.service.worker.publisher import ResultPublisher
from alphareel.service.worker.tasks import RunTask

CLICK = {"time": 0.1, "points": [{"x": 1, "y": 1}]}
REASON = "gif files cannot be changed in part."


@pytest.fixture
def finish_correction(harness, tmp_path):
    """What a worker does when the pipeline has made the files of a correction. ``whole``: why the first was encoded so."""

    def finish(correction_id, whole):
        row = harness.jobs.job(correction_id)
        job = harness.jobs.begin_attempt(row.id, ticket=row.ticket, actor="worker")
        outputs = requested_outputs(job, job.requested, tmp_path)
        facts = EngineFacts("builtin", "1", "2" * 64, "Apache-2.0")
        results = []
        for output in outputs:
            output.path.write_bytes(b"file")
            name = output.options.output_format
            results.append(
                Result(str(output.path), name, "video/webm", 4, "ab" * 32, 60, 2.0, 64, 48, True, False, facts)
            )
        results[0] = replace(results[0], encoded_whole=whole)
        told = event_from_json(event_to_json(RunResult(tuple(results))).encode())
        assert isinstance(told, RunResult)
        blobs = harness.blobs
        publisher = ResultPublisher("worker", jobs=harness.jobs, blobs=blobs, cleanup=JobCleanup(harness.jobs, blobs))
        task = RunTask(Path("source.mp4"), outputs, None)
        publisher.complete(job.id, publisher.store_run(job, task, told, "uploads/source.mp4"))

    return finish


@pytest.mark.parametrize("whole", [REASON, None])
def test_a_correction_says_why_its_file_was_encoded_as_a_whole(client, finish_job, finish_correction, caplog, whole):
    job_id = client.post("/v1/jobs", json={"video_url": "https://example.com/a.mp4"}).json()["id"]
    finish_job(job_id, matte=True)
    asked = client.post(f"/v1/jobs/{job_id}/corrections", json=CLICK).json()
    assert asked["encoded_whole"] == []
    with caplog.at_level(logging.INFO):
        finish_correction(asked["id"], whole)
    listed = client.get(f"/v1/jobs/{job_id}/corrections").json()
    assert listed["revision"] == 2
    assert listed["items"][0]["status"] == "completed"
    assert listed["items"][0]["encoded_whole"] == ([{"format": "webm", "reason": REASON}] if whole else [])
    said = [vars(record) for record in caplog.records if record.getMessage() == "correction was encoded as a whole"]
    assert [str(fields).count(job_id) > 0 and REASON in str(fields) for fields in said] == ([True] if whole else [])


def test_files_of_exports_say_of_which_revision_they_are_and_current_ones_come_first(
    client, finish_job, finish_correction
):
    job_id = client.post("/v1/jobs", json={"video_url": "https://example.com/a.mp4"}).json()["id"]
    finish_job(job_id, matte=True)

    def export(quality):
        made = client.post(f"/v1/jobs/{job_id}/exports", json={"format": "webm", "quality": quality}).json()
        finish_job(made["id"])

    def outputs():
        return [
            (each["name"], each["quality"], each["revision"])
            for each in client.get(f"/v1/jobs/{job_id}").json()["outputs"]
        ]

    export("master")
    assert outputs() == [("webm", "balanced", 1), ("webm-2", "master", 1)]
    finish_correction(client.post(f"/v1/jobs/{job_id}/corrections", json=CLICK).json()["id"], None)
    assert outputs() == [("webm", "balanced", 2), ("webm-2", "master", 1)]
    export("web")
    assert outputs() == [("webm", "balanced", 2), ("webm-2", "web", 2), ("webm-3", "master", 1)]


def test_a_subject_that_the_clip_does_not_have_is_refused_once_its_subjects_are_known(client, harness, finish_job):
    job_id = client.post("/v1/jobs", json={"video_url": "https://example.com/a.mp4"}).json()["id"]
    path = f"/v1/jobs/{job_id}/corrections"
    finish_job(job_id, matte=True)
    row = harness.services.analyses.subjects_of(harness.jobs.job(job_id), actor="worker", request_id=None)
    running = harness.jobs.begin_attempt(row.id, ticket=row.ticket, actor="worker")
    facts = {"share": 0.2, "boxes": [], "thumbnail": "s1.png", "unsure": False}
    assert harness.jobs.complete(
        row.id,
        attempt=running.attempt,
        output=replace(harness.jobs.job(job_id).output, format="png"),
        engine=None,
        warnings=(),
        actor="worker",
        report={"subjects": [{"id": "s1", **facts}], "quality": {}, "prefix": ""},
    )
    for field, value in (("drop", ["s1", "s9"]), ("keep", ["s9"]), ("subject", "s9")):
        refused = client.post(path, json={field: value})
        assert refused.status_code == 400
        assert "has no subject s9; it has s1" in refused.json()["error"]["message"]
    assert client.get(path).json()["items"] == []
    exports = f"/v1/jobs/{job_id}/exports"
    refused = client.post(exports, json={"format": "mov", "keep": ["s9"]})
    assert (refused.status_code, refused.json()["error"]["details"][0]["field"]) == (400, "keep")
    assert client.post(exports, json={"format": "mov", "keep": ["s1"]}).status_code < 300
    assert client.post(path, json={"drop": ["s1"]}).status_code < 300
