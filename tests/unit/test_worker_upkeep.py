"""Who lives, who is dead, and what becomes of what the dead held."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from alphareel.domain.errors import Unavailable
from alphareel.service.jobs.models import Job, Status
from alphareel.service.use_cases import Principal
from alphareel.service.worker import upkeep as module
from alphareel.service.worker.upkeep import Upkeep, UpkeepSettings
from alphareel.testing.fakes import Desk, open_desk

ANYBODY = Principal(None, "req_0")
VIDEO = {"video_url": "https://example.com/a.mp4"}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = open_desk(tmp_path)
    for name in ("me", "other"):
        desk.executors.add_executor(name, home="")
    yield desk
    desk.close()


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
def upkeep(desk: Desk, deaths: list[str]) -> Upkeep:
    return Upkeep(
        "me",
        jobs=desk.jobs,
        executors=desk.executors,
        engine=desk.engine,
        clock=desk.clock,
        rules=UpkeepSettings(dead=30, stuck=600, max_deaths=3),
        on_evicted=lambda: deaths.append("me"),
    )


def living(desk: Desk) -> set[str]:
    return {executor.id for executor in desk.executors.executors()}


def test_whoever_was_declared_dead_dies(desk: Desk, upkeep: Upkeep, deaths: list[str]) -> None:
    upkeep.beat()
    assert deaths == []
    desk.executors.remove_executor("me")
    upkeep.beat()
    assert deaths == ["me"]


def test_whoever_beats_lives(desk: Desk, upkeep: Upkeep, time: Any) -> None:
    for _ in range(20):
        upkeep.reap()
        time.now += 20
        desk.executors.beat("other")
    assert living(desk) == {"me", "other"}


def test_whoever_stands_still_is_dead(desk: Desk, upkeep: Upkeep, time: Any) -> None:
    upkeep.reap()
    time.now += 29
    upkeep.reap()
    assert living(desk) == {"me", "other"}
    time.now += 2
    upkeep.reap()
    assert living(desk) == {"me"}


def test_nobody_declares_himself_dead(desk: Desk, upkeep: Upkeep, time: Any) -> None:
    upkeep.reap()
    time.now += 100
    upkeep.reap()
    assert "me" in living(desk)


def test_whoever_looks_for_the_first_time_waits_before_he_judges(desk: Desk, upkeep: Upkeep, time: Any) -> None:
    time.now += 10_000
    upkeep.reap()
    assert living(desk) == {"me", "other"}


def test_time_in_which_the_database_was_away_counts_against_nobody(
    desk: Desk, upkeep: Upkeep, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(desk)
    upkeep._attempt(upkeep.reap)
    upkeep._attempt(upkeep.reconcile)

    def away() -> None:
        raise Unavailable("The database does not answer.")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(desk.executors, "executors", away)
        upkeep._attempt(upkeep.reap)
    time.now += 10_000
    for _ in range(2):
        upkeep._attempt(upkeep.reap)
        upkeep._attempt(upkeep.reconcile)
        assert living(desk) == {"me", "other"}
        time.now += 20
    time.now += 20
    upkeep._attempt(upkeep.reap)
    assert living(desk) == {"me"}


def test_a_job_that_the_engine_lost_is_queued_again(desk: Desk, upkeep: Upkeep) -> None:
    job = desk.service.create(ANYBODY, VIDEO)
    desk.engine.queued.clear()
    upkeep.reconcile()
    assert desk.engine.queued == [(job.id, 2)]
    upkeep.reconcile()
    assert desk.engine.queued == [(job.id, 2)]
    assert [e.reason for e in desk.jobs.events(job.id)][-1] == "the engine lost it"


def test_a_job_that_is_lost_too_often_is_given_up(desk: Desk, upkeep: Upkeep) -> None:
    job = desk.service.create(ANYBODY, VIDEO)
    for _ in range(3):
        desk.jobs.begin_attempt(job.id, ticket=1, actor="w")
    desk.engine.queued.clear()
    upkeep.reconcile()
    failed = desk.jobs.job(job.id)
    assert failed is not None
    assert (failed.status, failed.error_code) == (Status.FAILED, "worker_crashed")
    assert failed.error is not None
    assert "3 tries" in failed.error


def test_drafts_and_ended_jobs_are_left_alone(desk: Desk, upkeep: Upkeep) -> None:
    draft = desk.service.create(ANYBODY, {**VIDEO, "auto_start": False})
    failed = desk.service.create(ANYBODY, VIDEO)
    desk.jobs.fail(failed.id, attempt=None, error="x", error_code="timeout", actor="w")
    desk.engine.queued.clear()
    upkeep.reconcile()
    assert desk.engine.queued == []
    assert len(desk.jobs.events(draft.id)) == 1


def running(desk: Desk) -> Job:
    job = desk.service.create(ANYBODY, VIDEO)
    desk.jobs.begin_attempt(job.id, ticket=1, actor="other")
    desk.engine.holders[(job.id, 1)] = "other"
    return job


def test_whoever_holds_a_job_without_a_sign_of_life_is_declared_dead(desk: Desk, upkeep: Upkeep, time: Any) -> None:
    running(desk)
    upkeep.reconcile()
    time.now += 599
    upkeep.reconcile()
    assert "other" in living(desk)
    time.now += 2
    upkeep.reconcile()
    assert living(desk) == {"me"}


def test_a_sign_of_life_counts_from_when_it_was_seen(desk: Desk, upkeep: Upkeep, time: Any) -> None:
    job = running(desk)
    for _ in range(5):
        upkeep.reconcile()
        time.now += 400
        desk.clock.advance(seconds=400)
        desk.jobs.set_progress(job.id, attempt=1, progress=1.0)
    assert "other" in living(desk)


@pytest.mark.parametrize("step", [timedelta(days=2), timedelta(days=-2)])
def test_a_clock_that_is_set_ends_no_running_job(desk: Desk, upkeep: Upkeep, time: Any, step: timedelta) -> None:
    running(desk)
    upkeep.reconcile()
    desk.clock.advance(seconds=step.total_seconds())
    time.now += 60
    upkeep.reconcile()
    assert "other" in living(desk)


def test_a_job_that_waits_in_the_queue_may_wait_for_ever(desk: Desk, upkeep: Upkeep) -> None:
    job = desk.service.create(ANYBODY, VIDEO)
    desk.clock.advance(days=30)
    upkeep.reconcile()
    assert desk.engine.queued == [(job.id, 1)]
    assert living(desk) == {"me", "other"}


def test_a_database_that_is_away_does_not_end_the_upkeep(
    desk: Desk, upkeep: Upkeep, deaths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def away(_: str) -> bool:
        calls.append("beat")
        if len(calls) > 1:
            upkeep._stopping.set()
        raise Unavailable("away")

    monkeypatch.setattr(desk.executors, "beat", away)
    monkeypatch.setattr(upkeep, "_rules", UpkeepSettings(beat=0.01))
    upkeep.start()
    upkeep.stop()
    assert len(calls) >= 1
    assert deaths == []
