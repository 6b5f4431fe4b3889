"""Who lives, who is dead, and what becomes of what the dead held."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from alphareel.domain.errors import Unavailable
from alphareel.service.jobs.models import Job, Status
from alphareel.service.principal import Principal
from alphareel.service.worker import upkeep as module
from alphareel.service.worker.upkeep import Upkeep, UpkeepSettings
from alphareel.testing.fakes import ServiceHarness, open_harness

ANYBODY = Principal(None, "req_0")
VIDEO = {"video_url": "https://example.com/a.mp4"}


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path)
    for name in ("me", "other"):
        harness.executors.add_executor(name, home="")
    yield harness
    harness.close()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Any:
    class Time:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    time = Time()
    monkeypatch.setattr(module, "time", time)
    return time


@pytest.fixture
def deaths() -> list[str]:
    return []


@pytest.fixture
def upkeep(harness: ServiceHarness, deaths: list[str]) -> Upkeep:
    return Upkeep(
        "me",
        jobs=harness.jobs,
        executors=harness.executors,
        engine=harness.engine,
        clock=harness.clock,
        rules=UpkeepSettings(dead=30, stuck=600, max_deaths=3),
        on_evicted=lambda: deaths.append("me"),
    )


def living(harness: ServiceHarness) -> set[str]:
    return {executor.id for executor in harness.executors.executors()}


def test_whoever_was_declared_dead_dies(harness: ServiceHarness, upkeep: Upkeep, deaths: list[str]) -> None:
    upkeep.beat()
    assert deaths == []
    harness.executors.remove_executor("me")
    upkeep.beat()
    assert deaths == ["me"]


def test_whoever_beats_lives(harness: ServiceHarness, upkeep: Upkeep, time: Any) -> None:
    for _ in range(20):
        upkeep.reap()
        time.now += 20
        harness.executors.beat("other")
    assert living(harness) == {"me", "other"}


def test_whoever_stands_still_is_dead(harness: ServiceHarness, upkeep: Upkeep, time: Any) -> None:
    upkeep.reap()
    time.now += 29
    upkeep.reap()
    assert living(harness) == {"me", "other"}
    time.now += 2
    upkeep.reap()
    assert living(harness) == {"me"}


def test_nobody_declares_himself_dead(harness: ServiceHarness, upkeep: Upkeep, time: Any) -> None:
    upkeep.reap()
    time.now += 100
    upkeep.reap()
    assert "me" in living(harness)


def test_whoever_looks_for_the_first_time_waits_before_he_judges(
    harness: ServiceHarness, upkeep: Upkeep, time: Any
) -> None:
    time.now += 10_000
    upkeep.reap()
    assert living(harness) == {"me", "other"}


def test_time_in_which_the_database_was_away_counts_against_nobody(
    harness: ServiceHarness, upkeep: Upkeep, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(harness)
    upkeep._attempt(upkeep.reap)
    upkeep._attempt(upkeep.reconcile)

    def away() -> None:
        raise Unavailable("The database does not answer.")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(harness.executors, "executors", away)
        upkeep._attempt(upkeep.reap)
    time.now += 10_000
    for _ in range(2):
        upkeep._attempt(upkeep.reap)
        upkeep._attempt(upkeep.reconcile)
        assert living(harness) == {"me", "other"}
        time.now += 20
    time.now += 20
    upkeep._attempt(upkeep.reap)
    assert living(harness) == {"me"}


def test_a_job_that_the_engine_lost_is_queued_again(harness: ServiceHarness, upkeep: Upkeep) -> None:
    job = harness.services.jobs.create(ANYBODY, VIDEO)
    harness.engine.queued.clear()
    upkeep.reconcile()
    assert harness.engine.queued == [(job.id, 2)]
    upkeep.reconcile()
    assert harness.engine.queued == [(job.id, 2)]
    assert [e.reason for e in harness.jobs.events(job.id)][-1] == "the engine lost it"


def test_a_job_that_is_lost_too_often_is_given_up(harness: ServiceHarness, upkeep: Upkeep) -> None:
    job = harness.services.jobs.create(ANYBODY, VIDEO)
    for _ in range(3):
        harness.jobs.begin_attempt(job.id, ticket=1, actor="w")
    harness.engine.queued.clear()
    upkeep.reconcile()
    failed = harness.jobs.job(job.id)
    assert failed is not None
    assert (failed.status, failed.error_code) == (Status.FAILED, "worker_crashed")
    assert failed.error is not None
    assert "3 tries" in failed.error


def test_drafts_and_ended_jobs_are_left_alone(harness: ServiceHarness, upkeep: Upkeep) -> None:
    draft = harness.services.jobs.create(ANYBODY, {**VIDEO, "auto_start": False})
    failed = harness.services.jobs.create(ANYBODY, VIDEO)
    harness.jobs.fail(failed.id, attempt=None, error="x", error_code="timeout", actor="w")
    harness.engine.queued.clear()
    upkeep.reconcile()
    assert harness.engine.queued == []
    assert len(harness.jobs.events(draft.id)) == 1


def running(harness: ServiceHarness) -> Job:
    job = harness.services.jobs.create(ANYBODY, VIDEO)
    harness.jobs.begin_attempt(job.id, ticket=1, actor="other")
    harness.engine.holders[(job.id, 1)] = "other"
    return job


def test_whoever_holds_a_job_without_a_sign_of_life_is_declared_dead(
    harness: ServiceHarness, upkeep: Upkeep, time: Any
) -> None:
    running(harness)
    upkeep.reconcile()
    time.now += 599
    upkeep.reconcile()
    assert "other" in living(harness)
    time.now += 2
    upkeep.reconcile()
    assert living(harness) == {"me"}


def test_a_sign_of_life_counts_from_when_it_was_seen(harness: ServiceHarness, upkeep: Upkeep, time: Any) -> None:
    job = running(harness)
    for _ in range(5):
        upkeep.reconcile()
        time.now += 400
        harness.clock.advance(seconds=400)
        harness.jobs.set_progress(job.id, attempt=1, progress=1.0)
    assert "other" in living(harness)


@pytest.mark.parametrize("step", [timedelta(days=2), timedelta(days=-2)])
def test_a_clock_that_is_set_ends_no_running_job(
    harness: ServiceHarness, upkeep: Upkeep, time: Any, step: timedelta
) -> None:
    running(harness)
    upkeep.reconcile()
    harness.clock.advance(seconds=step.total_seconds())
    time.now += 60
    upkeep.reconcile()
    assert "other" in living(harness)


def test_a_job_that_waits_in_the_queue_may_wait_for_ever(harness: ServiceHarness, upkeep: Upkeep) -> None:
    job = harness.services.jobs.create(ANYBODY, VIDEO)
    harness.clock.advance(days=30)
    upkeep.reconcile()
    assert harness.engine.queued == [(job.id, 1)]
    assert living(harness) == {"me", "other"}


def test_a_database_that_is_away_does_not_end_the_upkeep(
    harness: ServiceHarness, upkeep: Upkeep, deaths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def away(_: str) -> bool:
        calls.append("beat")
        if len(calls) > 1:
            upkeep._stopping.set()
        raise Unavailable("away")

    monkeypatch.setattr(harness.executors, "beat", away)
    monkeypatch.setattr(upkeep, "_rules", UpkeepSettings(beat=0.01))
    upkeep.start()
    upkeep.stop()
    assert len(calls) >= 1
    assert deaths == []
