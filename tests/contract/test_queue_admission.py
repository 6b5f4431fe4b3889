"""Queue admission: limits that are exact under concurrency, and turns that are fair between keys."""

import random
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from alphareel.db.api_keys import ApiKeyAdminStore, ApiKeyStore
from alphareel.db.database import Database
from alphareel.db.jobs import JobStore
from alphareel.domain.clip import EngineFacts
from alphareel.domain.errors import QueueFull, TooManyJobs
from alphareel.domain.options import Options
from alphareel.service.api_keys.models import AuditContext
from alphareel.service.jobs.models import Job, Output
from alphareel.service.jobs.queue_limits import QueueLimits
from alphareel.service.ports import NewJob
from alphareel.testing.fakes import RecordingEngine, SettableClock

OUTPUT = Output("o", "webm", "video/webm", 9, "ab" * 32, 64, 48, 10, 0.0, True, False)
ENGINE = EngineFacts("builtin", "1", "cd" * 32, "Apache-2.0")


class QueueHarness:
    """The job store under some limits, with shortcuts for the transitions of a job."""

    def __init__(self, database: Database, limits: QueueLimits) -> None:
        self.clock = SettableClock()
        self.database = database
        self.engine = RecordingEngine()
        keys = ApiKeyStore(database, clock=self.clock)
        for name in "abc":
            keys.add_key(key_id=name, secret_sha256=name, fingerprint=name, client_id=name, note="")
        self.jobs = self.store(limits)

    def store(self, limits: QueueLimits) -> JobStore:
        return JobStore(self.database, enqueue=self.engine.enqueue, clock=self.clock, limits=limits)

    def limit(self, key: str, **limits: int | None) -> None:
        ApiKeyAdminStore(self.database, clock=self.clock).set_limits(
            key, limits, act=AuditContext("test", "keys.limits", None)
        )

    def create(self, name: str, *, start: bool = True) -> Job:
        """A job of the key that its first letter names; None for a letter in capitals."""
        self.clock.advance(seconds=1)
        key = name[0] if name[0].islower() else None
        new = NewJob(name, key, "https://a/v", Options(), None, {}, "req", ())
        return self.jobs.add_job(new, start=start, actor="test")

    def restart(self, name: str) -> Job | None:
        self.clock.advance(seconds=1)
        return self.jobs.start_job(
            name, options=Options(), webhook_url=None, warnings=(), actor="test", request_id=None
        )

    def begin(self, name: str) -> None:
        assert self.jobs.begin_attempt(name, ticket=self.job(name).ticket, actor="worker")

    def complete(self, name: str) -> None:
        attempt = self.job(name).attempt
        assert self.jobs.complete(name, attempt=attempt, output=OUTPUT, engine=ENGINE, warnings=(), actor="worker")

    def fail(self, name: str) -> None:
        assert self.jobs.fail(name, attempt=None, error="Cancelled", error_code="cancelled", actor="test")

    def job(self, name: str) -> Job:
        job = self.jobs.job(name)
        assert job is not None
        return job

    def jobs_of(self, key: str | None) -> tuple[Job, ...]:
        return self.jobs.jobs(key, statuses=None, limit=100, offset=0).items

    def work(self) -> list[str]:
        """Run all enqueued jobs in order with one worker; return the order."""
        done: list[str] = []
        while len(done) < len(self.engine.queued):
            name, _ = self.engine.queued[len(done)]
            self.begin(name)
            self.complete(name)
            done.append(name)
        return done

    @property
    def enqueued(self) -> list[str]:
        return [name for name, _ in self.engine.queued]


@pytest.fixture
def open_queue(database: Database) -> Callable[..., QueueHarness]:
    return lambda **limits: QueueHarness(database, QueueLimits(**limits))


class TestRunningLimit:
    def test_a_key_has_no_more_admitted_and_running_jobs_than_its_limit(
        self, open_queue: Callable[..., QueueHarness]
    ) -> None:
        queue = open_queue(running=2)
        for name in ("a1", "a2", "a3", "b1"):
            queue.create(name)
        assert queue.enqueued == ["a1", "a2", "b1"]
        queue.begin("a1")
        assert queue.enqueued == ["a1", "a2", "b1"]

    @pytest.mark.parametrize("end", ["complete", "fail"])
    def test_the_next_job_is_admitted_when_one_ends(self, open_queue: Callable[..., QueueHarness], end: str) -> None:
        queue = open_queue(running=1)
        for name in ("a1", "a2", "a3"):
            queue.create(name)
        queue.begin("a1")
        getattr(queue, end)("a1")
        assert queue.enqueued == ["a1", "a2"]

    def test_a_job_that_is_canceled_while_it_waits_is_never_admitted(
        self, open_queue: Callable[..., QueueHarness]
    ) -> None:
        queue = open_queue(running=1)
        for name in ("a1", "a2", "a3"):
            queue.create(name)
        queue.fail("a2")
        queue.fail("a1")
        assert queue.enqueued == ["a1", "a3"]

    def test_a_job_that_is_started_again_waits_like_others(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue(running=1)
        queue.create("a1")
        queue.fail("a1")
        queue.create("a2")
        assert queue.restart("a1") is not None
        queue.create("a3")
        queue.fail("a2")
        assert queue.engine.queued == [("a1", 1), ("a2", 1), ("a1", 2)]

    def test_drafts_do_not_count(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue(running=1, queued=1)
        queue.create("a1", start=False)
        queue.create("a2")
        assert queue.enqueued == ["a2"]

    def test_jobs_without_a_key_are_counted_together(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue(running=1)
        for name in ("N1", "N2", "a1"):
            queue.create(name)
        assert queue.enqueued == ["N1", "a1"]

    def test_a_key_may_have_its_own_running_limit_or_none(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue(running=1)
        queue.limit("a", max_running_jobs=2)
        queue.limit("b", max_running_jobs=0)
        for name in ("a1", "a2", "a3", "b1", "b2", "b3", "c1", "c2"):
            queue.create(name)
        assert queue.enqueued == ["a1", "a2", "b1", "b2", "b3", "c1"]

    def test_admit_waiting_finds_jobs_after_a_limit_was_raised(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue(running=1)
        for name in ("a1", "a2", "a3", "b1"):
            queue.create(name)
        queue.limit("a", max_running_jobs=2)
        assert (queue.jobs.admit_waiting(), queue.jobs.admit_waiting()) == (1, 0)
        assert queue.enqueued == ["a1", "b1", "a2"]

    def test_waiting_jobs_are_not_listed_as_unfinished(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue(running=1)
        for name in ("a1", "a2"):
            queue.create(name)
        assert [job.id for job in queue.jobs.unfinished()] == ["a1"]

    def test_the_running_limit_is_exact_under_concurrency(
        self, open_queue: Callable[..., QueueHarness], at_once: Callable[..., list[Any]]
    ) -> None:
        queue = open_queue(running=3)
        at_once([lambda n=n: queue.create(f"a{n}") for n in range(12)])
        assert len(queue.enqueued) == 3
        for name in queue.enqueued:
            queue.begin(name)
        at_once([lambda name=name: queue.complete(name) for name in queue.enqueued])
        queue.jobs.admit_waiting()
        assert len(queue.enqueued) == len(set(queue.enqueued)) == 6


class TestFairness:
    def test_keys_take_turns_however_many_jobs_one_of_them_has(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue(ahead=1)
        for name in [f"a{n}" for n in range(6)] + ["b0", "b1", "c0"]:
            queue.create(name)
        assert queue.work() == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4", "a5"]

    def test_a_single_key_keeps_every_worker_busy(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue(ahead=1)
        for name in ("a1", "a2", "a3"):
            queue.create(name)
            queue.begin(name)
        assert queue.enqueued == ["a1", "a2", "a3"]


class TestQueuePosition:
    @pytest.mark.parametrize("ahead", [0, 1, 2, 3])
    @pytest.mark.parametrize("running", [0, 5])
    def test_a_queue_position_is_the_number_of_jobs_that_begin_before(
        self, open_queue: Callable[..., QueueHarness], ahead: int, running: int
    ) -> None:
        queue = open_queue(ahead=ahead)
        chance = random.Random(ahead)
        for number in range(24):
            queue.create(f"{chance.choice('aaaabbcN')}{number}")
        for number in range(running):
            queue.clock.advance(seconds=1)
            queue.begin(queue.enqueued[number])
        queued = {job.id for key in ("a", "b", "c", None) for job in queue.jobs_of(key) if job.status == "pending"}
        positions = {name: queue.job(name).queue_position for name in queued}
        order = [name for name in queue.work() if name in queued]
        assert len(order) == 24 - running
        assert positions == {name: number for number, name in enumerate(order)}

    def test_listed_jobs_have_queue_positions(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue(ahead=1)
        for name in ("a1", "a2", "b1", "a3"):
            queue.create(name)
        assert {job.id: job.queue_position for job in queue.jobs_of("a")} == {"a1": 0, "a2": 2, "a3": 3}

    def test_the_queue_is_read_once_for_many_polls(
        self, open_queue: Callable[..., QueueHarness], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("alphareel.db.queue_position._MAX_AGE_SECONDS", 600.0)
        queue = open_queue(ahead=1)
        names = [queue.create(f"{key}{number}").id for number in range(5) for key in "ab"]
        positions = {name: queue.job(name).queue_position for name in names}
        statements: list[str] = []
        sa.event.listen(
            queue.database._reads, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
        )
        assert {name: queue.job(name).queue_position for name in names} == positions
        assert not [each for each in statements if "admitted_at IS NULL" in each]

    def test_created_and_started_jobs_have_queue_positions(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue(ahead=1)
        assert queue.create("a1").queue_position == 0
        assert queue.create("a2").queue_position == 1
        assert queue.create("b1").queue_position == 1  # takes its turn before the second of the other key
        assert queue.job("a2").queue_position == 2
        queue.create("c1", start=False)
        assert queue.restart("c1").queue_position == 2

    def test_drafts_test_jobs_and_running_or_ended_jobs_have_no_queue_position(
        self, open_queue: Callable[..., QueueHarness]
    ) -> None:
        queue = open_queue(ahead=1)
        queue.create("a1", start=False)
        queue.create("b1")
        queue.begin("b1")
        queue.create("c1")
        queue.fail("c1")
        new = NewJob("t", "a", "https://a/v", Options(), None, {}, "r", (), test={"outcome": "success", "seconds": 1})
        assert queue.jobs.add_job(new, start=True, actor="test").queue_position is None
        assert [queue.job(name).queue_position for name in ("a1", "b1", "c1", "t")] == [None] * 4
        assert queue.create("a2").queue_position == 0

    def test_a_job_that_waits_for_its_key_is_positioned_after_admitted_jobs(
        self, open_queue: Callable[..., QueueHarness]
    ) -> None:
        queue = open_queue(running=1, ahead=1)
        for name in ("a1", "a2", "b1", "c1"):
            queue.create(name)
        queue.begin("a1")
        assert queue.job("a2").queue_position == 2

    def test_a_requeued_job_is_at_the_end_of_the_queue(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue()
        for name in ("a1", "b1", "c1"):
            queue.create(name)
        queue.clock.advance(seconds=1)
        assert queue.jobs.requeue("a1", ticket=1, actor="test", reason="the engine lost it")
        assert [queue.job(name).queue_position for name in ("a1", "b1", "c1")] == [2, 0, 1]


class TestQueuedLimit:
    def test_too_many_queued_jobs_of_one_key_are_refused_and_leave_no_row(
        self, open_queue: Callable[..., QueueHarness]
    ) -> None:
        queue = open_queue(queued=2)
        for name in ("a1", "a2"):
            queue.create(name)
        with pytest.raises(TooManyJobs, match="2 jobs waiting") as caught:
            queue.create("a3")
        assert caught.value.retry_after == 10
        assert queue.jobs.job("a3") is None
        queue.create("b1")
        queue.begin("a1")
        queue.create("a4")

    def test_too_many_queued_jobs_in_all_are_refused(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue(queued_in_all=2)
        for name in ("a1", "b1"):
            queue.create(name)
        with pytest.raises(QueueFull):
            queue.create("c1")

    def test_a_refused_start_leaves_the_draft_as_it_was(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue(queued=1)
        queue.create("a1", start=False)
        queue.create("a2")
        with pytest.raises(TooManyJobs):
            queue.restart("a1")
        assert (queue.job("a1").status, queue.job("a1").run) == ("created", 0)

    def test_a_key_may_have_its_own_queued_limit(self, open_queue: Callable[..., QueueHarness]) -> None:
        queue = open_queue(queued=1)
        queue.limit("a", max_queued_jobs=2)
        queue.limit("b", max_queued_jobs=0)
        for name in ("a1", "a2", "b1", "b2", "b3"):
            queue.create(name)
        with pytest.raises(TooManyJobs):
            queue.create("a3")

    @pytest.mark.parametrize(("limits", "refusal"), [({"queued": 5}, TooManyJobs), ({"queued_in_all": 5}, QueueFull)])
    def test_the_queued_limit_is_exact_under_concurrency(
        self,
        open_queue: Callable[..., QueueHarness],
        at_once: Callable[..., list[Any]],
        limits: dict[str, int],
        refusal: type[Exception],
    ) -> None:
        queue = open_queue(**limits)
        outcomes = at_once([lambda n=n: queue.create(f"a{n}") for n in range(20)])
        assert sum(isinstance(o, Job) for o in outcomes) == 5
        assert sum(isinstance(o, refusal) for o in outcomes) == 15
