"""Test jobs come to what was asked for, by the clock, like real jobs, and cost nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphareel.domain.clip import EngineFacts, Limits, Result
from alphareel.domain.errors import InsufficientCredits, InvalidRequest
from alphareel.domain.options import Options, Output
from alphareel.service.api_keys.admin import Operator
from alphareel.service.jobs.models import Billing, Job, Status
from alphareel.service.jobs.test_mode import SCENARIO_OUTCOMES, ScenarioRunner, parse_scenario
from alphareel.service.principal import Principal
from alphareel.service.worker import child_process
from alphareel.service.worker.child_process import ResourceLimits
from alphareel.service.worker.events import RunResult
from alphareel.service.worker.tasks import RunTask
from alphareel.testing.fakes import ServiceHarness, open_harness

URL = "https://example.com/v.mp4"
OPERATOR = Operator("test")


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path)
    yield harness
    harness.close()


@pytest.fixture
def made() -> list[Options]:
    return []


@pytest.fixture
def runner(harness: ServiceHarness, made: list[Options]) -> ScenarioRunner:
    def make(source: Path, target: Path, options: Options) -> RunResult:
        assert source.stat().st_size > 0
        made.append(options)
        target.write_bytes(b"result")
        result = Result(
            path=str(target),
            format=options.output_format,
            mime="video/webm",
            bytes=6,
            sha256="ab",
            frames=25,
            seconds=1.0,
            width=160,
            height=96,
            has_alpha=True,
            has_audio=True,
            engine=EngineFacts("chroma", "1"),
        )
        return RunResult((result,))

    return ScenarioRunner(jobs=harness.jobs, blobs=harness.blobs, make=make, clock=harness.clock)


def client(harness: ServiceHarness, *, test: bool = False) -> Principal:
    made = harness.services.admin.create_key(OPERATOR, client_id="studio", test=test)
    return Principal(harness.services.api_keys.authenticate(made.secret), "req_1")


def run(harness: ServiceHarness, runner: ScenarioRunner, caller: Principal, job: Job, seconds: float) -> Job:
    """The job so many seconds after it was taken up."""
    runner.run_due()
    harness.clock.advance(seconds=seconds)
    runner.run_due()
    return harness.services.jobs.get(caller, job.id)


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
    harness: ServiceHarness, runner: ScenarioRunner, outcome: str, status: Status, code: str | None
) -> None:
    caller = client(harness)
    job = harness.services.jobs.create(caller, {"video_url": URL, "test": outcome})
    done = run(harness, runner, caller, job, 61)
    assert (done.status, done.error_code, done.attempt) == (status, code, 1)
    assert bool(done.error) == (status is Status.FAILED)
    if status is Status.COMPLETED:
        assert done.output is not None
        assert harness.blobs.blobs[done.output.blob] == b"result"
        assert done.warnings[-1].startswith("test: ")


def test_it_takes_the_seconds_that_were_asked_for_and_moves_on_the_way(
    harness: ServiceHarness, runner: ScenarioRunner
) -> None:
    caller = client(harness)
    job = harness.services.jobs.create(caller, {"video_url": URL, "test": {"outcome": "slow", "seconds": 100}})
    assert run(harness, runner, caller, job, 50).progress == 49.5
    harness.clock.advance(seconds=50)
    runner.run_due()
    assert harness.services.jobs.get(caller, job.id).status is Status.COMPLETED


def test_a_clock_that_is_set_back_keeps_no_test_job_waiting(harness: ServiceHarness, runner: ScenarioRunner) -> None:
    caller = client(harness)
    job = harness.services.jobs.create(caller, {"video_url": URL, "test": "slow"})
    assert run(harness, runner, caller, job, -3600).status is Status.COMPLETED


def test_no_credits_is_told_when_a_real_job_would_tell_it_and_leaves_no_job(harness: ServiceHarness) -> None:
    caller = client(harness)
    with pytest.raises(InsufficientCredits):
        harness.services.jobs.create(caller, {"video_url": URL, "test": "insufficient_credits"})
    draft = harness.services.jobs.create(
        caller, {"video_url": URL, "test": "insufficient_credits", "auto_start": False}
    )
    with pytest.raises(InsufficientCredits):
        harness.services.jobs.start(caller, draft.id, {})
    assert harness.services.jobs.start(caller, draft.id, {"test": "success"}).status is Status.PENDING


def test_nothing_is_charged_counted_or_given_to_a_worker(harness: ServiceHarness, runner: ScenarioRunner) -> None:
    caller = client(harness)
    harness.services.admin.set_balance(OPERATOR, client_id="studio", balance=1)
    done = run(harness, runner, caller, harness.services.jobs.create(caller, {"video_url": URL, "test": "success"}), 60)
    assert (done.billing_status, done.credits) == (Billing.NOT_BILLED, 0)
    assert harness.services.admin.account("studio").balance == 100
    assert harness.engine.queued == []
    assert harness.jobs.unfinished() == ()
    assert harness.services.usage.summary(caller, days=1).buckets == ()


def test_webhooks_and_history_are_those_of_a_real_job(harness: ServiceHarness, runner: ScenarioRunner) -> None:
    caller = client(harness)
    job = harness.services.jobs.create(
        caller, {"video_url": URL, "test": "failure", "webhook_url": "https://hook.example/x"}
    )
    run(harness, runner, caller, job, 60)
    assert [hook.event for hook in harness.services.webhooks.list(caller, job.id)] == ["job.started", "job.failed"]
    assert [event.to_status for event in harness.services.jobs.events(caller, job.id)] == [
        "pending",
        "processing",
        "failed",
    ]


def test_it_can_be_cancelled_and_started_again(harness: ServiceHarness, runner: ScenarioRunner) -> None:
    caller = client(harness)
    job = harness.services.jobs.create(caller, {"video_url": URL, "test": "slow"})
    runner.run_due()
    harness.services.jobs.cancel(caller, job.id)
    harness.clock.advance(seconds=90)
    runner.run_due()
    assert harness.services.jobs.get(caller, job.id).error_code == "cancelled"
    again = harness.services.jobs.start(caller, job.id, {"test": "success"})
    assert run(harness, runner, caller, again, 10).status is Status.COMPLETED


class TestATestKey:
    def test_shows_in_its_secret_and_makes_tests_only(self, harness: ServiceHarness, runner: ScenarioRunner) -> None:
        made = harness.services.admin.create_key(OPERATOR, client_id="studio", test=True)
        assert made.secret.startswith("ar_test_")
        caller = Principal(harness.services.api_keys.authenticate(made.secret), "req_1")
        job = harness.services.jobs.create(caller, {"video_url": URL})
        assert job.test == {"outcome": "success", "seconds": 3.0}
        assert run(harness, runner, caller, job, 10).status is Status.COMPLETED
        rotated = harness.services.admin.rotate(OPERATOR, made.key.fingerprint, grace_seconds=0)
        assert rotated.secret.startswith("ar_test_")
        assert rotated.key.test

    def test_takes_the_outcome_from_metadata(self, harness: ServiceHarness, runner: ScenarioRunner) -> None:
        caller = client(harness, test=True)
        job = harness.services.jobs.create(caller, {"video_url": URL, "metadata": {"test": "timeout"}})
        assert run(harness, runner, caller, job, 10).error_code == "timeout"

    def test_of_metadata_a_real_key_thinks_nothing(self, harness: ServiceHarness) -> None:
        job = harness.services.jobs.create(client(harness), {"video_url": URL, "metadata": {"test": "failure"}})
        assert job.test is None
        assert harness.engine.queued == [(job.id, 1)]


def test_a_sample_is_made_once_for_each_kind_of_options(
    harness: ServiceHarness, runner: ScenarioRunner, made: list[Options]
) -> None:
    caller = client(harness)
    bodies: list[dict[str, Any]] = [{}, {}, {"output_format": "mov"}, {"text_prompt": "dog", "model": "pro"}]
    for body in bodies:
        run(
            harness,
            runner,
            caller,
            harness.services.jobs.create(caller, {"video_url": URL, "test": "success", **body}),
            10,
        )
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
def test_the_sample_is_really_cut(harness: ServiceHarness, wanted: dict[str, Any]) -> None:
    def make(source: Path, target: Path, options: Options) -> RunResult:
        task = RunTask(source, (Output(target, options),), Limits(), threads=1)
        return child_process.run(task, ResourceLimits(wall_seconds=600))

    caller = client(harness)
    job = harness.services.jobs.create(caller, {"video_url": URL, "test": "success", **wanted})
    done = run(
        harness, ScenarioRunner(jobs=harness.jobs, blobs=harness.blobs, make=make, clock=harness.clock), caller, job, 10
    )
    assert done.output is not None, done.error
    assert (done.output.width, done.output.frames, done.output.has_alpha) == (160, 25, not wanted)
