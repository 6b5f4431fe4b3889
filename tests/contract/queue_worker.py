"""A worker process for the tests of the engine: quick to judge, and its jobs do nothing but sleep and say so."""

import os
import sys
import time
from pathlib import Path

from alphareel import observe
from alphareel.domain.clip import EngineFacts
from alphareel.installation import SystemClock
from alphareel.jobs.job import Output
from alphareel.jobs.upkeep import Upkeep, UpkeepRules
from alphareel.jobstore.database import Database, open_engine
from alphareel.jobstore.executors import ExecutorTable
from alphareel.jobstore.jobs import Jobs
from alphareel.queue.dbos_engine import DbosEngine, DbosQueue, EngineRules

OUTPUT = Output("outputs/x", "webm", "video/webm", 1, "0" * 64, 2, 2, 1, 0.1, True, False)


class Sleeper:
    """A JobBody whose first attempt sleeps as long as the job's metadata says; it notes what it does in a file."""

    def __init__(self, jobs, log):
        self.jobs, self.log = jobs, log

    def note(self, *words):
        with self.log.open("a") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def execute(self, job_id, ticket):
        if (found := self.jobs.job(job_id)) and found.metadata.get("far") is not None and found.ticket == 1:
            self.jobs.queue_fetch(job_id, ticket=1, actor="test")
            return {"kind": "gone"}
        job = self.jobs.begin_attempt(job_id, ticket=ticket, actor="test")
        if job is None:
            return {"kind": "gone"}
        self.note("execute", job_id, job.attempt, os.getpid())
        if job.metadata.get("deadly") and job.attempt <= job.metadata["deadly"]:
            os.kill(os.getpid(), 9)
        if job.attempt == 1:
            time.sleep(job.metadata.get("seconds", 0))
        return {"kind": "done", "attempt": job.attempt}

    def settle(self, job_id, ticket, outcome):
        if outcome["kind"] == "done":
            done = self.jobs.complete(
                job_id,
                attempt=outcome["attempt"],
                output=OUTPUT,
                engine=EngineFacts("none", "1"),
                warnings=(),
                actor="test",
            )
            self.note("settle", job_id, outcome["attempt"], done)

    def fetch(self, job_id, ticket):
        job = self.jobs.begin_fetch(job_id, ticket=ticket, actor="test")
        if job is None:
            return
        self.note("fetch", job_id, job.tries)
        if job.tries == 1:
            time.sleep(job.metadata["far"])
        self.jobs.queue_fetched(job_id, ticket=ticket, actor="test")

    def help(self, job_id, ticket, mark, number):
        self.note("help", job_id, mark, number)

    def abandon(self): ...


def main(url, executor_id, log, concurrency):
    observe.configure("warning")
    database = Database(open_engine(url))
    clock = SystemClock()
    jobs = Jobs(database, enqueue=DbosQueue(database.engine).enqueue, clock=clock)
    executors = ExecutorTable(database, clock=clock)
    rules = EngineRules(
        database.engine.url.render_as_string(hide_password=False), concurrency=int(concurrency), polling_seconds=0.1
    )
    engine = DbosEngine(database.engine, executor_id=executor_id, body=Sleeper(jobs, Path(log)), rules=rules)
    executors.add_executor(executor_id, home="")
    engine.launch()
    Upkeep(
        executor_id,
        jobs=jobs,
        executors=executors,
        engine=engine,
        clock=clock,
        rules=UpkeepRules(beat=0.2, dead=2.0, reconcile=1.0, stuck=600, max_deaths=6),
        die=lambda: os._exit(75),
    ).start()
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
