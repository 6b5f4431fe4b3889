"""The queue engine under kill -9: on SQLite, and on PostgreSQL if ALPHAREEL_TEST_POSTGRES_URL is set."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
import sqlalchemy as sa

from alphareel.db import migrate
from alphareel.db.api_keys import ApiKeyStore
from alphareel.db.database import Database, open_engine
from alphareel.db.jobs import JobStore
from alphareel.db.workers import ExecutorStore
from alphareel.domain.options import Options
from alphareel.queue.dbos_engine import DbosQueue, prepare
from alphareel.server.installation import SystemClock
from alphareel.service.jobs.models import Job, Status
from alphareel.service.ports import NewJob

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(open_engine(database_url))
    migrate.upgrade(database)
    prepare(database_url)
    yield database
    database.close()


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database, enqueue=DbosQueue(database.engine).enqueue, clock=SystemClock())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.touch()
    return path


StartWorker = Callable[..., subprocess.Popen[str]]
DEAD = 4.0  # seconds of silence after which a worker counts as dead, where one dies: more than a busy machine costs one


@pytest.fixture
def start_worker(database_url: str, log: Path, database: Database) -> Iterator[StartWorker]:
    started: list[subprocess.Popen[str]] = []

    def start(
        *, concurrency: int = 2, dead: float = 100, start_seconds: float = 0, stderr: TextIO | None = None
    ) -> subprocess.Popen[str]:
        program = Path(__file__).with_name("queue_worker.py")
        words = (database_url, f"e-{uuid.uuid4().hex[:8]}", log, concurrency, dead, start_seconds)
        command = [sys.executable, str(program), *map(str, words)]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True)
        started.append(worker)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        return worker

    yield start
    for worker in started:
        worker.kill()
        worker.communicate()


def submit(jobs: JobStore, *, key_id: str | None = None, **metadata: Any) -> Job:
    new = NewJob(
        id=f"job_{uuid.uuid4().hex}",
        key_id=key_id,
        video_url="https://example.com/a.mp4",
        options=Options(),
        webhook_url=None,
        metadata=metadata,
        request_id=None,
        warnings=(),
    )
    return jobs.add_job(new, start=True, actor="test")


def wait_for(jobs: JobStore, expected: list[Job], status: Status = Status.COMPLETED, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        current = [jobs.job(job.id) for job in expected]
        if all(job is not None and job.status is status for job in current):
            return
        assert time.monotonic() < deadline, [(job.status, job.attempt, job.error) for job in current if job]
        time.sleep(0.05)


def lines(log: Path, word: str, job: Job) -> list[list[str]]:
    return [line.split() for line in log.read_text().splitlines() if line.startswith(f"{word} {job.id} ")]


def wait_until(holds: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def stop_between_writes(worker: subprocess.Popen[str], database: Database) -> None:
    """Stop the process while it does not hold SQLite's lock, which nobody could write past."""
    with database.write():
        os.kill(worker.pid, signal.SIGSTOP)
        os.waitpid(worker.pid, os.WUNTRACED)


def wait_for_line(log: Path, word: str, job: Job) -> None:
    """The log has a step a moment after the database has it."""
    wait_until(lambda: lines(log, word, job))


def test_jobs_run_once_each(jobs: JobStore, start_worker: StartWorker, log: Path) -> None:
    start_worker()
    submitted = [submit(jobs) for _ in range(10)]
    wait_for(jobs, submitted)
    for job in submitted:
        assert len(lines(log, "execute", job)) == 1
        wait_for_line(log, "settle", job)
        assert [line[3] for line in lines(log, "settle", job)] == ["True"]


def test_a_worker_keeps_its_own_number_of_slots_whoever_started_later(
    jobs: JobStore, start_worker: StartWorker, log: Path
) -> None:
    start_worker(concurrency=1)
    other = start_worker(concurrency=8)
    other.kill()
    other.wait()
    submitted = [submit(jobs, seconds=0.3) for _ in range(3)]
    wait_for(jobs, submitted)
    for job in submitted:
        wait_for_line(log, "settle", job)
    steps = [line.split()[0] for line in log.read_text().splitlines()]
    assert steps == ["execute", "settle"] * 3


def test_jobs_that_start_slowly_do_not_exceed_the_slots(jobs: JobStore, start_worker: StartWorker, log: Path) -> None:
    start_worker(concurrency=1, start_seconds=1)
    submitted = [submit(jobs, seconds=0.5) for _ in range(4)]
    wait_for(jobs, submitted)
    for job in submitted:
        wait_for_line(log, "settle", job)
    steps = [line.split()[0] for line in log.read_text().splitlines()]
    assert steps == ["execute", "settle"] * 4


def test_a_job_whose_transaction_was_rolled_back_never_runs(
    jobs: JobStore, database: Database, start_worker: StartWorker, log: Path
) -> None:
    queue = DbosQueue(database.engine)

    def enqueue_and_fail(*args: Any) -> None:
        queue.enqueue(*args)
        raise RuntimeError("after the enqueue")

    with pytest.raises(RuntimeError):
        submit(JobStore(database, enqueue=enqueue_and_fail, clock=SystemClock()))
    start_worker()
    wait_for(jobs, [submit(jobs)])
    assert log.read_text().count("execute") == 1


def test_a_worker_that_is_killed_loses_nothing(jobs: JobStore, start_worker: StartWorker, log: Path) -> None:
    victim = start_worker()
    job = submit(jobs, seconds=100)
    wait_for_line(log, "execute", job)
    start_worker(dead=DEAD)
    os.kill(victim.pid, signal.SIGKILL)
    wait_for(jobs, [job])
    wait_for_line(log, "settle", job)
    assert [line[2] for line in lines(log, "execute", job)] == ["1", "2"]
    assert [line[2:] for line in lines(log, "settle", job)] == [["2", "True"]]


def test_a_worker_that_was_stopped_too_long_cannot_settle_its_job(
    jobs: JobStore, database: Database, start_worker: StartWorker, log: Path
) -> None:
    zombie = start_worker()
    job = submit(jobs, seconds=100)
    wait_for_line(log, "execute", job)
    start_worker(dead=DEAD)
    stop_between_writes(zombie, database)
    wait_for(jobs, [job])
    wait_for_line(log, "settle", job)
    os.kill(zombie.pid, signal.SIGCONT)
    assert zombie.wait(timeout=60) == 75
    assert [line[2] for line in lines(log, "settle", job) if line[3] == "True"] == ["2"]


def test_a_living_worker_keeps_its_long_job(jobs: JobStore, start_worker: StartWorker, log: Path) -> None:
    start_worker(dead=DEAD)
    start_worker(dead=DEAD)
    job = submit(jobs, seconds=2 * DEAD)
    wait_for(jobs, [job])
    assert len(lines(log, "execute", job)) == 1


def test_a_job_that_kills_its_worker_is_run_by_the_next_one(
    jobs: JobStore, start_worker: StartWorker, log: Path
) -> None:
    deadly, harmless = submit(jobs, deadly=2), submit(jobs)
    for _ in range(3):
        start_worker(dead=DEAD)
    wait_for(jobs, [deadly, harmless])
    assert [line[2] for line in lines(log, "execute", deadly)] == ["1", "2", "3"]


def test_jobs_run_after_the_tables_of_the_engine_were_emptied(
    jobs: JobStore, database: Database, start_worker: StartWorker
) -> None:
    waiting = [submit(jobs) for _ in range(3)]
    schema = "" if database.engine.dialect.name == "sqlite" else "dbos."
    with database.write() as c:
        c.exec_driver_sql(f"DELETE FROM {schema}workflow_status")
    start_worker()
    wait_for(jobs, waiting)
    assert {job.ticket for w in waiting if (job := jobs.job(w.id))} == {2}


def test_the_queue_carries_ids_in_json_and_nothing_pickled(
    jobs: JobStore, database: Database, start_worker: StartWorker
) -> None:
    job = submit(jobs)
    start_worker()
    wait_for(jobs, [job])
    schema = None if database.engine.dialect.name == "sqlite" else "dbos"
    tables = sa.MetaData(schema=schema)
    tables.reflect(database.engine, resolve_fks=False, only=lambda name, _: not name.startswith("ar_"))
    kept = [table for table in tables.tables.values() if "serialization" in table.c]
    with database.read() as c:
        used = {name for table in kept for name in c.execute(sa.select(table.c.serialization)).scalars()}
    assert used - {None} == {"portable_json"}


def test_executors_are_registered_while_they_live(database: Database, start_worker: StartWorker) -> None:
    executors = ExecutorStore(database, clock=SystemClock())
    victim = start_worker()
    start_worker(dead=DEAD)
    assert len(executors.executors()) == 2
    os.kill(victim.pid, signal.SIGKILL)
    wait_until(lambda: len(executors.executors()) == 1)


def test_killing_workers_loses_no_job_and_completes_each_once(
    jobs: JobStore, start_worker: StartWorker, log: Path
) -> None:
    workers = [start_worker(dead=DEAD), start_worker(dead=DEAD)]
    submitted = [submit(jobs, seconds=0.3) for _ in range(20)]
    for _ in range(4):
        time.sleep(1.0)
        os.kill(workers.pop(0).pid, signal.SIGKILL)
        workers.append(start_worker(dead=DEAD))
    wait_for(jobs, submitted, seconds=200)
    for job in submitted:  # a worker may be killed before it notes what it settled
        assert [line[3] for line in lines(log, "settle", job)].count("True") <= 1
        transitions = [(event.from_status, event.to_status) for event in jobs.events(job.id)]
        assert transitions.count((Status.PROCESSING, Status.COMPLETED)) == 1


def test_the_engine_logs_json_as_everybody_does(jobs: JobStore, start_worker: StartWorker, tmp_path: Path) -> None:
    with (tmp_path / "stderr").open("w+") as stderr:
        start_worker(stderr=stderr)
        job = submit(jobs, raises=True)
        wait_for(jobs, [job])
        stderr.seek(0)
        lines = [json.loads(line) for line in stderr]
    assert [line["logger"] for line in lines if "an error of the tests" in line.get("exception", "")] == ["dbos"]


def test_a_fetch_does_not_use_the_concurrency_of_jobs(jobs: JobStore, start_worker: StartWorker, log: Path) -> None:
    start_worker(concurrency=1)
    far = submit(jobs, far=100)
    wait_for_line(log, "fetch", far)
    near = submit(jobs)
    wait_for(jobs, [near])
    assert [line[2] for line in lines(log, "fetch", far)] == ["1"]
    assert lines(log, "execute", far) == []


def test_a_worker_that_is_killed_while_it_fetches_loses_nothing(
    jobs: JobStore, start_worker: StartWorker, log: Path
) -> None:
    victim = start_worker()
    job = submit(jobs, far=100)
    wait_for_line(log, "fetch", job)
    start_worker(dead=DEAD)
    os.kill(victim.pid, signal.SIGKILL)
    wait_for(jobs, [job])
    assert [line[2] for line in lines(log, "fetch", job)] == ["1", "2"]
    assert len(lines(log, "execute", job)) == 1


def test_slow_sources_of_one_key_leave_places_for_those_of_another(
    jobs: JobStore, database: Database, start_worker: StartWorker, log: Path
) -> None:
    keys = ApiKeyStore(database, clock=SystemClock())
    for name in ("slow", "quick"):
        keys.add_key(key_id=name, secret_sha256=name, fingerprint=name, client_id=name, note="")
    stalled = [submit(jobs, key_id="slow", far=100) for _ in range(10)]
    start_worker(start_seconds=0.5)
    wait_for(jobs, stalled, Status.PROCESSING)
    wait_until(lambda: sum(bool(lines(log, "fetch", job)) for job in stalled) == 4)
    other = submit(jobs, key_id="quick", far=0)
    wait_for(jobs, [other])
    assert sum(bool(lines(log, "fetch", job)) for job in stalled) == 4


def test_a_job_whose_files_were_fetched_runs_before_new_jobs(
    jobs: JobStore, start_worker: StartWorker, log: Path
) -> None:
    first = submit(jobs, far=0)
    start_worker(concurrency=1)
    others = [submit(jobs, seconds=1) for _ in range(8)]
    wait_for(jobs, [first, *others])
    order = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("execute ")]
    assert order[-1] != first.id


def test_chunks_are_made_after_the_queued_jobs_in_the_order_they_were_offered(
    jobs: JobStore, database: Database, start_worker: StartWorker, log: Path
) -> None:
    queue = DbosQueue(database.engine)
    for _ in range(2):  # again is the same as once
        queue.enqueue_chunks("job_x", 1, "mark", [3, 2, 1])
    waiting = [submit(jobs) for _ in range(3)]
    start_worker(concurrency=1)
    wait_for(jobs, waiting)
    helped = wait_for_help(log, 3)
    assert helped == [["help", "job_x", "mark", number] for number in "321"]
    assert log.read_text().index("help") > log.read_text().rindex("settle")


def test_withdrawn_chunks_are_not_made(
    jobs: JobStore, database: Database, start_worker: StartWorker, log: Path
) -> None:
    queue = DbosQueue(database.engine)
    queue.enqueue_chunks("job_x", 1, "mark", [3, 2, 1])
    queue.cancel_chunks("job_x", 1, "mark", [3, 1])
    start_worker(concurrency=1)
    assert wait_for_help(log, 1) == [["help", "job_x", "mark", "2"]]
    last = submit(jobs)
    wait_for(jobs, [last])
    assert log.read_text().count("help") == 1


def wait_for_help(log: Path, count: int, seconds: float = 120) -> list[list[str]]:
    deadline = time.monotonic() + seconds
    while True:
        matches = [line.split() for line in log.read_text().splitlines() if line.startswith("help ")]
        if len(matches) >= count:
            return matches
        assert time.monotonic() < deadline, matches
        time.sleep(0.05)
