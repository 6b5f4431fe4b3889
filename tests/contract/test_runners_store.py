"""Leases of tasks by runners, on both databases: one holder at a time, and nobody else gets in."""

from dataclasses import replace
from datetime import timedelta

import pytest

from alphareel.db.jobs import JobStore
from alphareel.db.runners import RunnerStore
from alphareel.db.workers import ExecutorStore
from alphareel.domain.options import Options
from alphareel.service.api_keys.admin import Operator
from alphareel.service.api_keys.service import digest
from alphareel.service.ports import NewJob
from alphareel.service.runners.admin import RunnerAdmin
from alphareel.service.runners.models import LIVE, ReturnedFile, RunnerTask, TaskState
from alphareel.testing.fakes import RecordingEngine, SettableClock

OPERATOR = Operator("tests")
ENGINES = ("builtin",)


@pytest.fixture
def clock():
    return SettableClock()


@pytest.fixture
def store(database, clock):
    ExecutorStore(database, clock=clock).add_executor("worker", home="")
    return RunnerStore(database, clock=clock)


@pytest.fixture
def runner(store, clock):
    return RunnerAdmin(store, clock).create(OPERATOR, name="gpu").runner


@pytest.fixture
def other(store, clock):
    return RunnerAdmin(store, clock).create(OPERATOR, name="laptop").runner


def task(name="t1", **more):
    values = {
        "executor_id": "worker",
        "job_id": "job_1",
        "attempt": 1,
        "engine": "builtin",
        "version": "1",
        "created_at": SettableClock().now(),
        "request": {"type": "run"},
        "inputs": {"input-0.mp4": "uploads/a.mp4"},
        "outputs": ("result.webm",),
    }
    return RunnerTask(id=name, **{**values, **more})


def lease(store, runner, *, engines=ENGINES, version="1", slots=1):
    return store.lease(runner, engines=engines, version=version, slots=slots)


def test_a_token_is_stored_as_its_hash_alone(store, clock, database):
    made = RunnerAdmin(store, clock).create(OPERATOR, name=" gpu ")
    assert made.token.startswith(f"ar_runner_{made.runner.id}_")
    assert store.runner_by_secret(digest(made.token)) == made.runner
    assert store.runner_by_secret(made.token) is None
    with database.read() as c:
        stored = " ".join(map(str, c.exec_driver_sql("SELECT * FROM ar_runners").all()))
    assert made.token.rpartition("_")[2] not in stored


def test_the_oldest_task_that_fits_is_leased_once(store, runner, other, clock):
    later = clock.now() + timedelta(seconds=1)
    store.add_task(task("second", created_at=later))
    store.add_task(task("first"))
    store.add_task(task("foreign", engine="rvm", created_at=clock.now() - timedelta(hours=1)))
    store.add_task(task("newer", version="2", created_at=clock.now() - timedelta(hours=1)))
    assert lease(store, runner).id == "first"
    assert lease(store, runner) is None, "its slot is taken"
    assert lease(store, other).id == "second"
    assert lease(store, other, slots=9) is None


def test_many_runners_that_ask_at_once_get_one_task_each(store, clock, at_once):
    admin = RunnerAdmin(store, clock)
    runners = [admin.create(OPERATOR, name=f"r{n}").runner for n in range(6)]
    for n in range(3):
        store.add_task(task(f"t{n}"))
    leased = at_once([lambda runner=runner: lease(store, runner) for runner in runners])
    assert sorted(found.id for found in leased if found) == ["t0", "t1", "t2"]


def test_only_the_holder_of_the_lease_may_do_anything(store, runner, other):
    store.add_task(task())
    held = lease(store, runner)
    assert (held.state, held.runner_id) == (TaskState.LEASED, runner.id)
    file = ReturnedFile("returned/job_1/t1/x/result.webm", 3, "ab")
    for who, name in ((other.id, held.lease), (runner.id, "made up"), (other.id, "made up")):
        assert store.leased_task(who, "t1", lease=name) is None
        assert not store.renew(who, "t1", lease=name, progress=None)
        assert not store.add_file(who, "t1", lease=name, name="result.webm", file=file)
        assert not store.end_task(who, "t1", lease=name, outcome={})
        assert not store.release(who, "t1", lease=name)
    assert store.renew(runner.id, "t1", lease=held.lease, progress={"share": 0.5})
    assert store.add_file(runner.id, "t1", lease=held.lease, name="result.webm", file=file)
    assert store.end_task(runner.id, "t1", lease=held.lease, outcome={"event": "result"})
    ended = store.task("t1")
    assert (ended.state, ended.beat, ended.progress) == (TaskState.ENDED, 3, {"share": 0.5})
    assert (ended.files, ended.outcome) == ({"result.webm": file}, {"event": "result"})
    assert not store.renew(runner.id, "t1", lease=held.lease, progress=None)


def test_a_lease_that_was_renewed_meanwhile_is_not_taken_back(store, runner):
    store.add_task(task())
    held = lease(store, runner)
    assert store.renew(runner.id, "t1", lease=held.lease, progress=None)
    assert not store.take_back("t1", executor_id="worker", lease=held.lease, beat=0)
    assert not store.take_back("t1", executor_id="another", lease=held.lease, beat=1)
    assert store.take_back("t1", executor_id="worker", lease=held.lease, beat=1)
    assert not store.renew(runner.id, "t1", lease=held.lease, progress=None)
    assert not store.end_task(runner.id, "t1", lease=held.lease, outcome={"event": "result"})


def test_a_task_that_was_given_back_is_as_new(store, runner, other):
    store.add_task(task())
    held = lease(store, runner)
    store.renew(runner.id, "t1", lease=held.lease, progress={"share": 0.5})
    store.add_file(runner.id, "t1", lease=held.lease, name="a", file=ReturnedFile("b", 1, "c"))
    assert store.release(runner.id, "t1", lease=held.lease)
    assert store.task("t1") == task(released=(runner.id,))
    again = lease(store, other)
    assert again.lease != held.lease


def test_who_gave_a_task_back_three_times_does_not_get_it_again(store, runner, other):
    store.add_task(task())
    for _ in range(3):
        held = lease(store, runner)
        assert store.release(runner.id, "t1", lease=held.lease)
    assert lease(store, runner) is None
    assert store.task("t1").refused == (runner.id,)
    assert lease(store, other).id == "t1"


def test_who_failed_at_a_task_does_not_get_it_again(store, runner, other):
    store.add_task(task(refused=(runner.id,)))
    assert lease(store, runner) is None
    assert lease(store, other).id == "t1"


def test_revoking_ends_the_token_and_the_lease(store, runner, other):
    store.add_task(task())
    held = lease(store, runner)
    revoked = store.revoke(runner.id, act=OPERATOR.act("runners.revoke"))
    assert revoked.revoked_at is not None
    assert store.task("t1").state is TaskState.WAITING
    assert not store.renew(runner.id, "t1", lease=held.lease, progress=None)
    assert lease(store, runner) is None
    assert lease(store, other).id == "t1"
    assert store.revoke("nobody", act=OPERATOR.act("runners.revoke")) is None


def test_the_tasks_of_a_dead_worker_are_not_given_out(store, runner, database, clock):
    executors = ExecutorStore(database, clock=clock)
    store.add_task(task())
    executors.remove_executor("worker")
    assert lease(store, runner) is None
    executors.add_executor("next", home="")
    store.add_task(task("t2", executor_id="next"))
    assert store.task("t1") is None, "nobody waits for it"
    held = lease(store, runner)
    executors.remove_executor("next")
    assert not store.renew(runner.id, "t2", lease=held.lease, progress=None)


@pytest.fixture
def jobs(database, clock):
    """A job that is running."""
    made = JobStore(database, enqueue=RecordingEngine().enqueue, clock=clock)
    job = NewJob("job_1", None, "https://example.com/a.mp4", Options(), None, {}, "req_1", ())
    made.begin_attempt("job_1", ticket=made.add_job(job, start=True, actor="test").ticket, actor="worker")
    return made


def test_a_lease_outlives_the_worker_while_the_job_is_not_ended(store, runner, jobs, database, clock):
    executors = ExecutorStore(database, clock=clock)
    store.add_task(task())
    held = lease(store, runner)
    assert store.left_tasks("job_1") == ()
    assert store.adopt(held, executor_id="next", attempt=2) is None, "its worker is alive"
    executors.remove_executor("worker")
    executors.add_executor("next", home="")
    file = ReturnedFile("returned/job_1/t1/x/result.webm", 3, "ab")
    assert store.renew(runner.id, "t1", lease=held.lease, progress={"share": 0.5})
    assert store.add_file(runner.id, "t1", lease=held.lease, name="result.webm", file=file)
    assert store.end_task(runner.id, "t1", lease=held.lease, outcome={"event": "result"})
    store.add_task(task("t2", executor_id="next", job_id="job_2"))
    left = store.left_tasks("job_1")
    assert [each.id for each in left] == ["t1"]
    adopted = store.adopt(left[0], executor_id="next", attempt=2)
    assert adopted == replace(left[0], executor_id="next", attempt=2)
    assert store.left_tasks("job_1") == ()
    assert not store.remove_task("t1", executor_id="worker"), "it is not the dead one's any more"
    assert store.remove_task("t1", executor_id="next")


def test_a_left_lease_ends_with_the_job(store, runner, jobs, database, clock):
    store.add_task(task())
    held = lease(store, runner)
    ExecutorStore(database, clock=clock).remove_executor("worker")
    assert store.renew(runner.id, "t1", lease=held.lease, progress=None)
    jobs.fail("job_1", attempt=None, error="Cancelled", error_code="cancelled", actor="test")
    assert not store.renew(runner.id, "t1", lease=held.lease, progress=None)


def test_what_waits_for_a_runner_is_not_left_to_anybody(store, runner, jobs, database, clock):
    store.add_task(task())
    ExecutorStore(database, clock=clock).remove_executor("worker")
    assert store.left_tasks("job_1") == ()
    assert store.adopt(task(), executor_id="next", attempt=2) is None
    assert lease(store, runner) is None


def test_one_of_many_workers_adopts_a_task(store, runner, jobs, database, clock, at_once):
    store.add_task(task())
    lease(store, runner)
    executors = ExecutorStore(database, clock=clock)
    executors.remove_executor("worker")
    for n in range(6):
        executors.add_executor(f"w{n}", home="")
    [left] = store.left_tasks("job_1")
    adopted = at_once([lambda n=n: store.adopt(left, executor_id=f"w{n}", attempt=2) for n in range(6)])
    assert [each.executor_id for each in adopted if each] == [store.task("t1").executor_id]


def test_only_a_runner_that_was_seen_lately_counts(store, runner, clock):
    assert store.living("1") == ()
    store.note_runner(runner.id, slots=2, engines=ENGINES, version="1")
    assert [(each.slots, each.engines) for each in store.living("1")] == [(2, ENGINES)]
    assert store.living("2") == ()
    clock.advance(seconds=LIVE.total_seconds())
    assert store.living("1") == ()
    store.note_runner(runner.id, slots=0, engines=ENGINES, version="1")
    assert store.living("1") == ()


def test_a_runner_is_away_once_it_was_not_seen_for_a_minute(store, runner, clock):
    admin = RunnerAdmin(store, clock)
    states = [admin.list_runners()[0].state]
    store.note_runner(runner.id, slots=1, engines=ENGINES, version="1")
    states.append(admin.list_runners()[0].state)
    store.add_task(task())
    lease(store, runner)
    states.append(admin.list_runners()[0].state)
    clock.advance(seconds=LIVE.total_seconds())
    states.append(admin.list_runners()[0].state)
    assert states == ["new", "idle", "working", "away"]


def test_open_tasks_are_counted_by_who_waits(store, runner, database, clock):
    ExecutorStore(database, clock=clock).add_executor("worker 2", home="")
    store.add_task(task("a"))
    store.add_task(task("b"))
    store.add_task(task("c", executor_id="worker 2"))
    held = lease(store, runner)
    assert store.open_tasks() == {"worker": 2, "worker 2": 1}
    store.end_task(runner.id, held.id, lease=held.lease, outcome={"event": "error"})
    assert sum(store.open_tasks().values()) == 2


def test_a_waiting_task_is_removed_only_while_it_waits(store, runner):
    store.add_task(task())
    lease(store, runner)
    assert not store.remove_task("t1", only_waiting=True)
    assert store.remove_task("t1")
    assert store.task("t1") is None
    store.add_task(replace(task(), id="t2"))
    assert store.remove_task("t2", only_waiting=True)


def test_leases_of_a_dead_worker_take_no_slot(store, runner, database, clock):
    executors = ExecutorStore(database, clock=clock)
    executors.add_executor("other", home="")
    store.add_task(task("t1"))
    assert lease(store, runner).id == "t1"
    store.add_task(task("t2", executor_id="other"))
    assert lease(store, runner) is None
    executors.remove_executor("worker")
    assert lease(store, runner).id == "t2"


def test_a_runner_that_is_gone_does_not_count_because_the_clock_was_set_back(store, runner, clock):
    store.note_runner(runner.id, slots=2, engines=ENGINES, version="1")
    clock.advance(hours=-1)
    assert store.living("1") == ()
    assert RunnerAdmin(store, clock).list_runners()[0].state == "away"
    store.note_runner(runner.id, slots=2, engines=ENGINES, version="1")
    assert len(store.living("1")) == 1
