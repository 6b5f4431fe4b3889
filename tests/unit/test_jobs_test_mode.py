"""Test jobs come to what was asked for, by the clock, like real jobs, and cost nothing."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from alphareel.domain.clip import Limits
from alphareel.domain.errors import InsufficientCredits, InvalidRequest
from alphareel.domain.options import Options, to_json
from alphareel.service.api_keys.admin import Operator
from alphareel.service.jobs.models import Billing, Job, Status
from alphareel.service.jobs.test_mode import SCENARIO_OUTCOMES, ScenarioRunner, parse_scenario
from alphareel.service.use_cases import Principal
from alphareel.service.worker import child_process
from alphareel.service.worker.child_process import ResourceLimits
from alphareel.testing.fakes import Desk, open_desk

URL = "https://example.com/v.mp4"
OPERATOR = Operator("test")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = open_desk(tmp_path)
    yield desk
    desk.close()


@pytest.fixture
def made() -> list[Options]:
    return []


@pytest.fixture
def stage(desk: Desk, made: list[Options]) -> ScenarioRunner:
    def make(source: Path, target: Path, options: Options) -> Mapping[str, Any]:
        assert source.stat().st_size > 0
        made.append(options)
        target.write_bytes(b"result")
        return {
            "path": str(target),
            "format": options.output_format,
            "mime": "video/webm",
            "bytes": 6,
            "sha256": "ab",
            "frames": 25,
            "seconds": 1.0,
            "width": 160,
            "height": 96,
            "has_alpha": True,
            "has_audio": True,
            "engine": {"name": "chroma", "version": "1", "weights_sha256": None, "license": ""},
            "warnings": [],
        }

    return ScenarioRunner(jobs=desk.jobs, blobs=desk.blobs, make=make, clock=desk.clock)


def client(desk: Desk, *, test: bool = False) -> Principal:
    made = desk.service.admin.create_key(OPERATOR, client_id="studio", test=test)
    return Principal(desk.service.authenticate(made.secret), "req_1")


def run(desk: Desk, stage: ScenarioRunner, caller: Principal, job: Job, seconds: float) -> Job:
    """The job so many seconds after it was taken up."""
    stage.play()
    desk.clock.advance(seconds=seconds)
    stage.play()
    return desk.service.get(caller, job.id)


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        ("success", Status.COMPLETED, None),
        ("slow", Status.COMPLETED, None),
        ("failure", Status.FAILED, "internal_error"),
        ("timeout", Status.FAILED, "timeout"),
    ],
)
def test_a_job_comes_to_what_was_asked_for(
    desk: Desk, stage: ScenarioRunner, outcome: str, status: Status, code: str | None
) -> None:
    caller = client(desk)
    job = desk.service.create(caller, {"video_url": URL, "test": outcome})
    done = run(desk, stage, caller, job, 61)
    assert (done.status, done.error_code, done.attempt) == (status, code, 1)
    assert bool(done.error) == (status is Status.FAILED)
    if status is Status.COMPLETED:
        assert done.output is not None
        assert desk.blobs.blobs[done.output.blob] == b"result"
        assert done.warnings[-1].startswith("test: ")


def test_it_takes_the_seconds_that_were_asked_for_and_moves_on_the_way(desk: Desk, stage: ScenarioRunner) -> None:
    caller = client(desk)
    job = desk.service.create(caller, {"video_url": URL, "test": {"outcome": "slow", "seconds": 100}})
    assert run(desk, stage, caller, job, 50).progress == 49.5
    desk.clock.advance(seconds=50)
    stage.play()
    assert desk.service.get(caller, job.id).status is Status.COMPLETED


def test_no_credits_is_told_when_a_real_job_would_tell_it_and_leaves_no_job(desk: Desk) -> None:
    caller = client(desk)
    with pytest.raises(InsufficientCredits):
        desk.service.create(caller, {"video_url": URL, "test": "insufficient_credits"})
    draft = desk.service.create(caller, {"video_url": URL, "test": "insufficient_credits", "auto_start": False})
    with pytest.raises(InsufficientCredits):
        desk.service.start(caller, draft.id, {})
    assert desk.service.start(caller, draft.id, {"test": "success"}).status is Status.PENDING


def test_nothing_is_charged_counted_or_given_to_a_worker(desk: Desk, stage: ScenarioRunner) -> None:
    caller = client(desk)
    desk.service.admin.set_balance(OPERATOR, client_id="studio", balance=1)
    done = run(desk, stage, caller, desk.service.create(caller, {"video_url": URL, "test": "success"}), 60)
    assert (done.billing_status, done.credits) == (Billing.NOT_BILLED, 0)
    assert desk.service.admin.account("studio").balance == 100
    assert desk.engine.queued == []
    assert desk.jobs.unfinished() == ()
    assert desk.service.usage_summary(caller, days=1).tallies == ()


def test_webhooks_and_history_are_those_of_a_real_job(desk: Desk, stage: ScenarioRunner) -> None:
    caller = client(desk)
    job = desk.service.create(caller, {"video_url": URL, "test": "failure", "webhook_url": "https://hook.example/x"})
    run(desk, stage, caller, job, 60)
    assert [hook.event for hook in desk.service.webhooks(caller, job.id)] == ["job.started", "job.failed"]
    assert [event.to_status for event in desk.service.events(caller, job.id)] == ["pending", "processing", "failed"]


def test_it_can_be_cancelled_and_started_again(desk: Desk, stage: ScenarioRunner) -> None:
    caller = client(desk)
    job = desk.service.create(caller, {"video_url": URL, "test": "slow"})
    stage.play()
    desk.service.cancel(caller, job.id)
    desk.clock.advance(seconds=90)
    stage.play()
    assert desk.service.get(caller, job.id).error_code == "cancelled"
    again = desk.service.start(caller, job.id, {"test": "success"})
    assert run(desk, stage, caller, again, 10).status is Status.COMPLETED


class TestATestKey:
    def test_shows_in_its_secret_and_makes_tests_only(self, desk: Desk, stage: ScenarioRunner) -> None:
        made = desk.service.admin.create_key(OPERATOR, client_id="studio", test=True)
        assert made.secret.startswith("ar_test_")
        caller = Principal(desk.service.authenticate(made.secret), "req_1")
        job = desk.service.create(caller, {"video_url": URL})
        assert job.test == {"outcome": "success", "seconds": 3.0}
        assert run(desk, stage, caller, job, 10).status is Status.COMPLETED
        rotated = desk.service.admin.rotate(OPERATOR, made.key.fingerprint, grace_seconds=0)
        assert rotated.secret.startswith("ar_test_")
        assert rotated.key.test

    def test_takes_the_outcome_from_metadata(self, desk: Desk, stage: ScenarioRunner) -> None:
        caller = client(desk, test=True)
        job = desk.service.create(caller, {"video_url": URL, "metadata": {"test": "timeout"}})
        assert run(desk, stage, caller, job, 10).error_code == "timeout"

    def test_of_metadata_a_real_key_thinks_nothing(self, desk: Desk) -> None:
        job = desk.service.create(client(desk), {"video_url": URL, "metadata": {"test": "failure"}})
        assert job.test is None
        assert desk.engine.queued == [(job.id, 1)]


def test_a_sample_is_made_once_for_each_kind_of_options(desk: Desk, stage: ScenarioRunner, made: list[Options]) -> None:
    caller = client(desk)
    bodies: list[dict[str, Any]] = [{}, {}, {"output_format": "mov"}, {"text_prompt": "dog", "model": "pro"}]
    for body in bodies:
        run(desk, stage, caller, desk.service.create(caller, {"video_url": URL, "test": "success", **body}), 10)
    assert [options.output_format for options in made] == ["webm", "mov"]


@pytest.mark.parametrize(
    "value", ["maybe", 5, {}, {"outcome": "slow", "seconds": -1}, {"outcome": "slow", "seconds": True}]
)
def test_what_is_no_outcome_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest):
        parse_scenario(value)


def test_every_outcome_may_be_named_alone() -> None:
    assert [parse_scenario(name).outcome for name in SCENARIO_OUTCOMES] == list(SCENARIO_OUTCOMES)


@pytest.mark.parametrize(
    "wanted", [{"output_format": "mp4", "bg_type": "image", "bg_image_url": "https://a/i.png"}, {}]
)
def test_the_sample_is_really_cut(desk: Desk, wanted: dict[str, Any]) -> None:
    def make(source: Path, target: Path, options: Options) -> Mapping[str, Any]:
        order = {
            "task": "run",
            "pipeline": "alphareel.pipeline.run",
            "source": str(source),
            "target": str(target),
            "options": to_json(options),
            "limits": asdict(Limits()),
            "models_dir": None,
            "threads": 1,
        }
        return child_process.run(json.loads(json.dumps(order)), ResourceLimits(wall_seconds=100))

    caller = client(desk)
    job = desk.service.create(caller, {"video_url": URL, "test": "success", **wanted})
    done = run(desk, ScenarioRunner(jobs=desk.jobs, blobs=desk.blobs, make=make, clock=desk.clock), caller, job, 10)
    assert done.output is not None, done.error
    assert (done.output.width, done.output.frames, done.output.has_alpha) == (160, 25, not wanted)
