"""A worker process for the tests of the queue engine. Its jobs sleep and log what they do."""

import os
import sys
import time
from pathlib import Path

from dbos._core import ActiveWorkflowById

from alphareel.db.database import Database, open_engine
from alphareel.db.jobs import JobStore
from alphareel.db.workers import ExecutorStore
from alphareel.domain.clip import EngineFacts
from alphareel.queue.dbos_engine import DbosEngine, DbosQueue
from alphareel.server.installation import SystemClock
from alphareel.service.jobs.attempts import AttemptCompleted, AttemptDropped
from alphareel.service.jobs.models import Output
from alphareel.service.settings import FetchSettings, WorkerSettings
from alphareel.service.worker.heartbeat import Heartbeat
from alphareel.service.worker.reconciler import Reconciler, ReconcilerConfig
from alphareel.telemetry.logging import configure_logging

OUTPUT = Output("outputs/x", "webm", "video/webm", 1, "0" * 64, 2, 2, 1, 0.1, True, False)


class Sleeper:
    """A JobBody whose first attempt sleeps as long as the job's metadata says. It logs its steps in a file."""

    def __init__(self, jobs, log):
        self.jobs, self.log = jobs, log
        self.raised = set()

    def note(self, *words):
        with self.log.open("a") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def execute(self, job_id, ticket):
        if (queued := self.jobs.job(job_id)) and queued.metadata.get("far") is not None and queued.ticket == 1:
            self.jobs.queue_fetch(job_id, ticket=1, actor="test")
            return AttemptDropped()
        if queued is not None and queued.metadata.get("raises") and job_id not in self.raised:
            self.raised.add(job_id)
            raise RuntimeError("an error of the tests")
        job = self.jobs.begin_attempt(job_id, ticket=ticket, actor="test")
        if job is None:
            return AttemptDropped()
        self.note("execute", job_id, job.attempt, os.getpid())
        if job.metadata.get("deadly") and job.attempt <= job.metadata["deadly"]:
            os.kill(os.getpid(), 9)
        if job.attempt == 1:
            time.sleep(job.metadata.get("seconds", 0))
        return AttemptCompleted(job.attempt, OUTPUT, EngineFacts("none", "1"), ())

    def settle(self, job_id, ticket, outcome):
        if isinstance(outcome, AttemptCompleted):
            done = self.jobs.complete(
                job_id,
                attempt=outcome.attempt,
                output=OUTPUT,
                engine=EngineFacts("none", "1"),
                warnings=(),
                actor="test",
            )
            self.note("settle", job_id, outcome.attempt, done)

    def fetch(self, job_id, ticket):
        job = self.jobs.begin_fetch(job_id, ticket=ticket, actor="test")
        if job is None:
            return
        self.note("fetch", job_id, job.tries)
        if job.tries == 1:
            time.sleep(job.metadata["far"])
        self.jobs.queue_fetched(job_id, ticket=ticket, actor="test")

    def deliver(self, job_id, ticket):
        raise AssertionError

    def make_chunk(self, job_id, ticket, plan_hash, number):
        self.note("help", job_id, plan_hash, number)

    def abandon(self): ...


def start_slowly(seconds):
    """What a busy machine does: a workflow that was taken from its queue starts late."""
    add = ActiveWorkflowById.add

    def add_late(self, *args):
        time.sleep(seconds)
        return add(self, *args)

    ActiveWorkflowById.add = add_late


def main(url, executor_id, log, concurrency, dead, start_seconds):
    configure_logging("warning")
    start_slowly(float(start_seconds))
    database = Database(open_engine(url))
    clock = SystemClock()
    jobs = JobStore(database, enqueue=DbosQueue(database.engine).enqueue, clock=clock)
    executors = ExecutorStore(database, clock=clock)
    engine = DbosEngine(
        database.engine,
        executor_id=executor_id,
        body=Sleeper(jobs, Path(log)),
        worker=WorkerSettings(jobs=int(concurrency)),
        fetch=FetchSettings(),
        database_url=database.engine.url.render_as_string(hide_password=False),
        polling_seconds=0.1,
    )
    executors.add_executor(executor_id, home="")
    engine.launch()
    reconciler = Reconciler(
        executor_id,
        jobs=jobs,
        executors=executors,
        engine=engine,
        clock=clock,
        config=ReconcilerConfig(dead=float(dead), reconcile=1.0, stuck=600, max_deaths=6),
    )
    heartbeat = Heartbeat(
        executor_id,
        executors,
        seconds=0.2,
        on_evicted=lambda: os._exit(75),
        on_outage=reconciler.reset,
    )
    heartbeat.start()
    reconciler.start()
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
