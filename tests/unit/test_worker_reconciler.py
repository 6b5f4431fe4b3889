"""Heartbeats, dead executors, and the jobs that they held."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from alphareel.domain.errors import Unavailable
from alphareel.service.jobs.models import Job, Status
from alphareel.service.principal import Principal
from alphareel.service.worker import reconciler as module
from alphareel.service.worker.heartbeat import Heartbeat
from alphareel.service.worker.reconciler import Reconciler, ReconcilerConfig
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
def evictions() -> list[str]:
    return []


@pytest.fixture
def heartbeat(harness: ServiceHarness, evictions: list[str]) -> Heartbeat:
    return Heartbeat("me", harness.executors, on_evicted=lambda: evictions.append("me"), seconds=0.01)


@pytest.fixture
def reconciler(harness: ServiceHarness) -> Reconciler:
    return Reconciler(
        "me",
        jobs=harness.jobs,
        executors=harness.executors,
        engine=harness.engine,
        clock=harness.clock,
        config=ReconcilerConfig(dead=30, stuck=600, max_deaths=3),
    )


def living(harness: ServiceHarness) -> set[str]:
    return {executor.id for executor in harness.executors.executors()}


def test_an_executor_that_was_declared_dead_is_evicted_at_its_next_heartbeat(
    harness: ServiceHarness, heartbeat: Heartbeat, evictions: list[str]
) -> None:
    heartbeat.beat()
    assert evictions == []
    harness.executors.remove_executor("me")
    heartbeat.beat()
    assert evictions == ["me"]


def test_an_executor_that_sends_heartbeats_is_alive(harness: ServiceHarness, reconciler: Reconciler, time: Any) -> None:
    for _ in range(20):
        reconciler.reap()
        time.now += 20
        harness.executors.beat("other")
    assert living(harness) == {"me", "other"}


def test_an_executor_without_heartbeats_is_declared_dead(
    harness: ServiceHarness, reconciler: Reconciler, time: Any
) -> None:
    reconciler.reap()
    time.now += 29
    reconciler.reap()
    assert living(harness) == {"me", "other"}
    time.now += 2
    reconciler.reap()
    assert living(harness) == {"me"}


def test_a_reconciler_never_declares_its_own_executor_dead(
    harness: ServiceHarness, reconciler: Reconciler, time: Any
) -> None:
    reconciler.reap()
    time.now += 100
    reconciler.reap()
    assert "me" in living(harness)


def test_a_new_reconciler_waits_before_it_declares_anybody_dead(
    harness: ServiceHarness, reconciler: Reconciler, time: Any
) -> None:
    time.now += 10_000
    reconciler.reap()
    assert living(harness) == {"me", "other"}


def test_an_outage_of_the_database_counts_against_no_executor(
    harness: ServiceHarness, reconciler: Reconciler, time: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    running(harness)
    reconciler.reap_task.run_once()
    reconciler.reconcile_task.run_once()

    def away() -> None:
        raise Unavailable("The database does not answer.")

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(harness.executors, "executors", away)
        reconciler.reap_task.run_once()
    time.now += 10_000
    for _ in range(2):
        reconciler.reap_task.run_once()
        reconciler.reconcile_task.run_once()
        assert living(harness) == {"me", "other"}
        time.now += 20
    time.now += 20
    reconciler.reap_task.run_once()
    assert living(harness) == {"me"}


def test_a_job_that_the_engine_lost_is_queued_again(harness: ServiceHarness, reconciler: Reconciler) -> None:
    job = harness.services.jobs.create(ANYBODY, VIDEO)
    harness.engine.queued.clear()
    reconciler.reconcile()
    assert harness.engine.queued == [(job.id, 2)]
    reconciler.reconcile()
    assert harness.engine.queued == [(job.id, 2)]
    assert [e.reason for e in harness.jobs.events(job.id)][-1] == "the engine lost it"


def test_a_job_that_is_lost_too_often_fails(harness: ServiceHarness, reconciler: Reconciler) -> None:
    job = harness.services.jobs.create(ANYBODY, VIDEO)
    for _ in range(3):
        harness.jobs.begin_attempt(job.id, ticket=1, actor="w")
    harness.engine.queued.clear()
    reconciler.reconcile()
    failed = harness.jobs.job(job.id)
    assert failed is not None
    assert (failed.status, failed.error_code) == (Status.FAILED, "worker_crashed")
    assert failed.error is not None
    assert "3 tries" in failed.error


def test_drafts_and_ended_jobs_are_left_alone(harness: ServiceHarness, reconciler: Reconciler) -> None:
    draft = harness.services.jobs.create(ANYBODY, {**VIDEO, "auto_start": False})
    failed = harness.services.jobs.create(ANYBODY, VIDEO)
    harness.jobs.fail(failed.id, attempt=None, error="x", error_code="timeout", actor="w")
    harness.engine.queued.clear()
    reconciler.reconcile()
    assert harness.engine.queued == []
    assert len(harness.jobs.events(draft.id)) == 1


def running(harness: ServiceHarness) -> Job:
    job = harness.services.jobs.create(ANYBODY, VIDEO)
    harness.jobs.begin_attempt(job.id, ticket=1, actor="other")
    harness.engine.holders[(job.id, 1)] = "other"
    return job


def test_the_executor_of_a_stuck_job_is_declared_dead(
    harness: ServiceHarness, reconciler: Reconciler, time: Any
) -> None:
    running(harness)
    reconciler.reconcile()
    time.now += 599
    reconciler.reconcile()
    assert "other" in living(harness)
    time.now += 2
    reconciler.reconcile()
    assert living(harness) == {"me"}


def test_a_job_with_signs_of_life_is_not_stuck(harness: ServiceHarness, reconciler: Reconciler, time: Any) -> None:
    job = running(harness)
    for _ in range(5):
        reconciler.reconcile()
        time.now += 400
        harness.clock.advance(seconds=400)
        harness.jobs.set_progress(job.id, attempt=1, progress=1.0)
    assert "other" in living(harness)


@pytest.mark.parametrize("step", [timedelta(days=2), timedelta(days=-2)])
def test_setting_the_clock_ends_no_running_job(
    harness: ServiceHarness, reconciler: Reconciler, time: Any, step: timedelta
) -> None:
    running(harness)
    reconciler.reconcile()
    harness.clock.advance(seconds=step.total_seconds())
    time.now += 60
    reconciler.reconcile()
    assert "other" in living(harness)


def test_a_queued_job_may_wait_forever(harness: ServiceHarness, reconciler: Reconciler) -> None:
    job = harness.services.jobs.create(ANYBODY, VIDEO)
    harness.clock.advance(days=30)
    reconciler.reconcile()
    assert harness.engine.queued == [(job.id, 1)]
    assert living(harness) == {"me", "other"}


def test_heartbeats_go_on_when_the_database_is_away(
    harness: ServiceHarness, heartbeat: Heartbeat, evictions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    enough = threading.Event()

    def away(executor_id: str) -> bool:
        calls.append(executor_id)
        if len(calls) > 1:
            enough.set()
        raise Unavailable("away")

    monkeypatch.setattr(harness.executors, "beat", away)
    heartbeat.start()
    assert enough.wait(100)
    heartbeat.stop()
    assert evictions == []
