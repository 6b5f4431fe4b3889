"""How many jobs run and wait: exact whatever comes at once, and fair between keys."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from alphareel.db.api_keys import ApiKeyAdminStore
from alphareel.db.database import Database
from alphareel.db.jobs import JobStore
from alphareel.db.records import ApiKeyStore
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


class Hall:
    """The tables under some limits, and the moves of a job in few words."""

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
        found = self.jobs.job(name)
        assert found is not None
        return found

    def jobs_of(self, key: str | None) -> tuple[Job, ...]:
        return self.jobs.jobs(key, statuses=None, limit=100, offset=0).items

    def work(self) -> list[str]:
        """One worker takes what stands first in line until nothing does; the order in which it did."""
        done: list[str] = []
        while len(done) < len(self.engine.queued):
            name, _ = self.engine.queued[len(done)]
            self.begin(name)
            self.complete(name)
            done.append(name)
        return done

    @property
    def line(self) -> list[str]:
        return [name for name, _ in self.engine.queued]


@pytest.fixture
def hall(database: Database) -> Callable[..., Hall]:
    return lambda **limits: Hall(database, QueueLimits(**limits))


class TestAtATime:
    def test_no_more_jobs_of_a_key_stand_in_line_or_run_than_may(self, hall: Callable[..., Hall]) -> None:
        place = hall(running=2)
        for name in ("a1", "a2", "a3", "b1"):
            place.create(name)
        assert place.line == ["a1", "a2", "b1"]
        place.begin("a1")
        assert place.line == ["a1", "a2", "b1"]

    @pytest.mark.parametrize("end", ["complete", "fail"])
    def test_the_next_joins_when_one_ends(self, hall: Callable[..., Hall], end: str) -> None:
        place = hall(running=1)
        for name in ("a1", "a2", "a3"):
            place.create(name)
        place.begin("a1")
        getattr(place, end)("a1")
        assert place.line == ["a1", "a2"]

    def test_a_job_that_is_cancelled_while_it_waits_joins_no_more(self, hall: Callable[..., Hall]) -> None:
        place = hall(running=1)
        for name in ("a1", "a2", "a3"):
            place.create(name)
        place.fail("a2")
        place.fail("a1")
        assert place.line == ["a1", "a3"]

    def test_a_job_that_is_started_again_waits_like_others(self, hall: Callable[..., Hall]) -> None:
        place = hall(running=1)
        place.create("a1")
        place.fail("a1")
        place.create("a2")
        assert place.restart("a1") is not None
        place.create("a3")
        place.fail("a2")
        assert place.engine.queued == [("a1", 1), ("a2", 1), ("a1", 2)]

    def test_drafts_wait_for_nothing(self, hall: Callable[..., Hall]) -> None:
        place = hall(running=1, queued=1)
        place.create("a1", start=False)
        place.create("a2")
        assert place.line == ["a2"]

    def test_jobs_without_a_key_are_counted_together(self, hall: Callable[..., Hall]) -> None:
        place = hall(running=1)
        for name in ("N1", "N2", "a1"):
            place.create(name)
        assert place.line == ["N1", "a1"]

    def test_a_key_has_a_limit_of_its_own_or_none(self, hall: Callable[..., Hall]) -> None:
        place = hall(running=1)
        place.limit("a", max_running_jobs=2)
        place.limit("b", max_running_jobs=0)
        for name in ("a1", "a2", "a3", "b1", "b2", "b3", "c1", "c2"):
            place.create(name)
        assert place.line == ["a1", "a2", "b1", "b2", "b3", "c1"]

    def test_a_raised_limit_is_found_by_the_reconciler(self, hall: Callable[..., Hall]) -> None:
        place = hall(running=1)
        for name in ("a1", "a2", "a3", "b1"):
            place.create(name)
        place.limit("a", max_running_jobs=2)
        assert (place.jobs.admit_waiting(), place.jobs.admit_waiting()) == (1, 0)
        assert place.line == ["a1", "b1", "a2"]

    def test_who_waits_is_not_taken_for_lost(self, hall: Callable[..., Hall]) -> None:
        place = hall(running=1)
        for name in ("a1", "a2"):
            place.create(name)
        assert [job.id for job in place.jobs.unfinished()] == ["a1"]

    def test_exactly_so_many_join_however_many_come_and_end_at_once(
        self, hall: Callable[..., Hall], at_once: Callable[..., list[Any]]
    ) -> None:
        place = hall(running=3)
        at_once([lambda n=n: place.create(f"a{n}") for n in range(12)])
        assert len(place.line) == 3
        for name in place.line:
            place.begin(name)
        at_once([lambda name=name: place.complete(name) for name in place.line])
        place.jobs.admit_waiting()
        assert len(place.line) == len(set(place.line)) == 6


class TestTurns:
    def test_are_taken_by_keys_however_much_one_of_them_asks_for(self, hall: Callable[..., Hall]) -> None:
        place = hall(ahead=1)
        for name in [f"a{n}" for n in range(6)] + ["b0", "b1", "c0"]:
            place.create(name)
        assert place.work() == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "a4", "a5"]

    def test_a_key_alone_keeps_every_worker_busy(self, hall: Callable[..., Hall]) -> None:
        place = hall(ahead=1)
        for name in ("a1", "a2", "a3"):
            place.create(name)
            place.begin(name)
        assert place.line == ["a1", "a2", "a3"]


class TestPosition:
    @pytest.mark.parametrize("ahead", [0, 1, 2, 3])
    @pytest.mark.parametrize("begun", [0, 5])
    def test_is_how_many_jobs_begin_before(self, hall: Callable[..., Hall], ahead: int, begun: int) -> None:
        place = hall(ahead=ahead)
        chance = random.Random(ahead)
        for number in range(24):
            place.create(f"{chance.choice('aaaabbcN')}{number}")
        for number in range(begun):
            place.clock.advance(seconds=1)
            place.begin(place.line[number])
        queued = {job.id for key in ("a", "b", "c", None) for job in place.jobs_of(key) if job.status == "pending"}
        told = {name: place.job(name).queue_position for name in queued}
        order = [name for name in place.work() if name in queued]
        assert len(order) == 24 - begun
        assert told == {name: number for number, name in enumerate(order)}

    def test_is_told_of_the_jobs_of_a_list_too(self, hall: Callable[..., Hall]) -> None:
        place = hall(ahead=1)
        for name in ("a1", "a2", "b1", "a3"):
            place.create(name)
        assert {job.id: job.queue_position for job in place.jobs_of("a")} == {"a1": 0, "a2": 2, "a3": 3}

    def test_is_told_when_a_job_is_created_and_when_it_is_started(self, hall: Callable[..., Hall]) -> None:
        place = hall(ahead=1)
        assert place.create("a1").queue_position == 0
        assert place.create("a2").queue_position == 1
        assert place.create("b1").queue_position == 1  # takes its turn before the second of the other key
        assert place.job("a2").queue_position == 2
        place.create("c1", start=False)
        assert place.restart("c1").queue_position == 2

    def test_none_have_drafts_test_jobs_and_what_runs_or_ended(self, hall: Callable[..., Hall]) -> None:
        place = hall(ahead=1)
        place.create("a1", start=False)
        place.create("b1")
        place.begin("b1")
        place.create("c1")
        place.fail("c1")
        new = NewJob("t", "a", "https://a/v", Options(), None, {}, "r", (), test={"outcome": "success", "seconds": 1})
        assert place.jobs.add_job(new, start=True, actor="test").queue_position is None
        assert [place.job(name).queue_position for name in ("a1", "b1", "c1", "t")] == [None] * 4
        assert place.create("a2").queue_position == 0

    def test_of_a_key_that_may_run_no_more_comes_after_those_in_line(self, hall: Callable[..., Hall]) -> None:
        place = hall(running=1, ahead=1)
        for name in ("a1", "a2", "b1", "c1"):
            place.create(name)
        place.begin("a1")
        assert place.job("a2").queue_position == 2

    def test_of_a_job_that_was_lost_is_at_the_end_where_it_stands_again(self, hall: Callable[..., Hall]) -> None:
        place = hall()
        for name in ("a1", "b1", "c1"):
            place.create(name)
        place.clock.advance(seconds=1)
        assert place.jobs.requeue("a1", ticket=1, actor="test", reason="the engine lost it")
        assert [place.job(name).queue_position for name in ("a1", "b1", "c1")] == [2, 0, 1]


class TestWaiting:
    def test_too_many_of_one_key_are_refused_without_a_trace(self, hall: Callable[..., Hall]) -> None:
        place = hall(queued=2)
        for name in ("a1", "a2"):
            place.create(name)
        with pytest.raises(TooManyJobs, match="2 jobs waiting") as caught:
            place.create("a3")
        assert caught.value.retry_after == 10
        assert place.jobs.job("a3") is None
        place.create("b1")
        place.begin("a1")
        place.create("a4")

    def test_too_many_of_all_are_refused(self, hall: Callable[..., Hall]) -> None:
        place = hall(queued_in_all=2)
        for name in ("a1", "b1"):
            place.create(name)
        with pytest.raises(QueueFull):
            place.create("c1")

    def test_a_refused_start_leaves_the_draft_as_it_was(self, hall: Callable[..., Hall]) -> None:
        place = hall(queued=1)
        place.create("a1", start=False)
        place.create("a2")
        with pytest.raises(TooManyJobs):
            place.restart("a1")
        assert (place.job("a1").status, place.job("a1").run) == ("created", 0)

    def test_a_key_has_a_limit_of_its_own(self, hall: Callable[..., Hall]) -> None:
        place = hall(queued=1)
        place.limit("a", max_queued_jobs=2)
        place.limit("b", max_queued_jobs=0)
        for name in ("a1", "a2", "b1", "b2", "b3"):
            place.create(name)
        with pytest.raises(TooManyJobs):
            place.create("a3")

    @pytest.mark.parametrize(("limits", "refusal"), [({"queued": 5}, TooManyJobs), ({"queued_in_all": 5}, QueueFull)])
    def test_exactly_so_many_are_taken_however_many_come_at_once(
        self,
        hall: Callable[..., Hall],
        at_once: Callable[..., list[Any]],
        limits: dict[str, int],
        refusal: type[Exception],
    ) -> None:
        place = hall(**limits)
        outcomes = at_once([lambda n=n: place.create(f"a{n}") for n in range(20)])
        assert sum(isinstance(o, Job) for o in outcomes) == 5
        assert sum(isinstance(o, refusal) for o in outcomes) == 15
