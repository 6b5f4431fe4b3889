"""JobEngine on DBOS Transact: queues and checkpoints in the same database as our tables, on both databases.

DBOS itself never notices a dead process; ``recover`` does what its MIT part leaves out, and jobs/upkeep.py calls it.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions

from alphareel.domain.errors import Unavailable
from alphareel.jobs.job import Step
from alphareel.jobs.ports import JobBody, Outcome

_NAME = "alphareel"
_QUEUE = "jobs"
_FETCH_QUEUE = "fetches"
_WORKFLOW = "run_job"
_FETCH_WORKFLOW = "fetch_job"
_CHUNK_WORKFLOW = "make_chunk"
_AFTER_FETCHED = 1  # lower goes first, and none before all: a job whose files were fetched had its turn before
_AFTER_JOBS = 1000  # nobody helps while a job waits
_PROTOCOL = "1"  # of the steps below: raise it only when their order changes, or running jobs are stranded
_MAX_RECOVERIES = 100  # far above what the worker allows, which gives up first and says so
_WAITING = ("ENQUEUED", "DELAYED", "PENDING")
_ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_BATCH = 500


@dataclass(frozen=True)
class EngineRules:
    """``database_url``: the one of our tables. ``concurrency``: jobs that one process runs at a time.

    ``fetches``: jobs whose files it fetches meanwhile.
    ``database_engine``: to the same, for an engine of our own making in place of that of DBOS.
    """

    database_url: str
    concurrency: int = 1
    fetches: int = 8
    polling_seconds: float = 1.0
    database_engine: sa.Engine | None = None


def prepare(database_url: str) -> None:
    """Create or migrate the engine's own tables. The database must exist, and SQLite be in WAL mode already."""
    logging.getLogger("dbos").setLevel(logging.WARNING)
    DBOS.migrate(database_url)


class DbosQueue:
    """The half of the engine that every process needs: handing jobs over inside our own transactions."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._client = DBOSClient(
            system_database_engine=engine, serializer=DBOSPortableJSONSerializer(), application_name=_NAME, lazy=True
        )

    def enqueue(
        self,
        connection: sa.Connection,
        job_id: str,
        ticket: int,
        step: Step = Step.RUN,
        key_id: str | None = None,
    ) -> None:
        options: EnqueueOptions = {
            "workflow_name": _FETCH_WORKFLOW if step is Step.FETCH else _WORKFLOW,
            "queue_name": _FETCH_QUEUE if step is Step.FETCH else _QUEUE,
            "workflow_id": workflow_id(job_id, ticket),
            "app_version": _PROTOCOL,
        }
        if step is Step.RUN:
            options["priority"] = _AFTER_FETCHED
        if step is Step.FETCH:
            options["queue_partition_key"] = f"key {key_id}"
        self._client.enqueue_in_transaction(connection, options, job_id, ticket)

    def offer(self, job_id: str, ticket: int, mark: str, numbers: Sequence[int]) -> None:
        with _failures_as_ours(), self._engine.begin() as connection:
            for number in numbers:
                self._client.enqueue_in_transaction(
                    connection,
                    {
                        "workflow_name": _CHUNK_WORKFLOW,
                        "queue_name": _QUEUE,
                        "workflow_id": chunk_workflow_id(job_id, ticket, mark, number),
                        "app_version": _PROTOCOL,
                        "priority": _AFTER_JOBS,
                    },
                    job_id,
                    ticket,
                    mark,
                    number,
                )

    def withdraw(self, job_id: str, ticket: int, mark: str, numbers: Sequence[int]) -> None:
        names = [chunk_workflow_id(job_id, ticket, mark, number) for number in numbers]
        with _failures_as_ours():
            # those that run end by themselves; the engine would log it as an error that they were cancelled
            waiting = self._client.list_workflows(
                workflow_ids=names, status="ENQUEUED", load_input=False, load_output=False
            )
            self._client.cancel_workflows([workflow.workflow_id for workflow in waiting])


class DbosEngine(DbosQueue):
    """The whole engine, once a process. ``executor_id`` must be new for every start of a process."""

    def __init__(self, engine: sa.Engine, *, executor_id: str, body: JobBody, rules: EngineRules) -> None:
        super().__init__(engine)
        self._rules = rules
        config: DBOSConfig = {
            "name": _NAME,
            "system_database_url": rules.database_url,
            "executor_id": executor_id,
            "application_version": _PROTOCOL,
            "serializer": DBOSPortableJSONSerializer(),
            "use_listen_notify": False,
            "log_level": "WARNING",
            "run_migrations": False,
        }
        if rules.database_engine is not None:
            config["system_database_engine"] = rules.database_engine
        DBOS(config=config)
        _register(body)

    def launch(self) -> None:
        DBOS.launch()
        DBOS.register_queue(
            _QUEUE,
            worker_concurrency=self._rules.concurrency,
            polling_interval_sec=self._rules.polling_seconds,
            on_conflict="always_update",
        )
        DBOS.register_queue(
            _FETCH_QUEUE,
            worker_concurrency=self._rules.fetches,
            partition_worker_concurrency=max(1, self._rules.fetches // 2),  # one key's sources may all be slow
            polling_interval_sec=self._rules.polling_seconds,
            on_conflict="always_update",
        )

    def stop(self, *, grace_seconds: float) -> None:
        DBOS.destroy(workflow_completion_timeout_sec=round(grace_seconds))

    def recover(self, living: Callable[[], Collection[str]]) -> int:
        running = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        holders = {workflow.executor_id for workflow in running} - {None}
        dead = sorted(str(holder) for holder in holders - set(living()))
        for executor_id in dead:
            DBOS._recover_pending_workflows([executor_id])  # noqa: SLF001  # there is no public way to do it
        return len(dead)

    def pending(self, tickets: Sequence[tuple[str, int]]) -> frozenset[tuple[str, int]]:
        found: set[tuple[str, int]] = set()
        for start in range(0, len(tickets), _BATCH):
            named = {workflow_id(*ticket): ticket for ticket in tickets[start : start + _BATCH]}
            listed = DBOS.list_workflows(
                workflow_ids=list(named), status=list(_WAITING), load_input=False, load_output=False
            )
            found |= {named[workflow.workflow_id] for workflow in listed}
        return frozenset(found)

    def holder(self, job_id: str, ticket: int) -> str | None:
        listed = DBOS.list_workflows(
            workflow_ids=[workflow_id(job_id, ticket)], status="PENDING", load_input=False, load_output=False
        )
        return listed[0].executor_id if listed else None

    def forget(self, *, before: datetime) -> int:
        ended = DBOS.list_workflows(
            status=list(_ENDED), completed_before=before.isoformat(), limit=_BATCH, load_input=False, load_output=False
        )
        if ended:
            DBOS.delete_workflows([workflow.workflow_id for workflow in ended])
        return len(ended)


def workflow_id(job_id: str, ticket: int) -> str:
    return f"{job_id}.{ticket}"


def chunk_workflow_id(job_id: str, ticket: int, mark: str, number: int) -> str:
    return f"{workflow_id(job_id, ticket)}.{mark[:16]}.{number}"


@contextmanager
def _failures_as_ours() -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise Unavailable("The queue does not answer.") from error


def _register(body: JobBody) -> None:
    """Teach DBOS the workflows. They carry ids only; steps are recorded, so a settled job is never redone."""
    # Both raise only while the database is away; 12 tries with doubled pauses wait for more than an hour.
    retried = partial(DBOS.step, retries_allowed=True, max_attempts=12, interval_seconds=1.0, backoff_rate=2.0)

    @retried(name="execute")
    def execute(job_id: str, ticket: int) -> Outcome:
        return body.execute(job_id, ticket)

    @retried(name="settle")
    def settle(job_id: str, ticket: int, outcome: Outcome) -> None:
        body.settle(job_id, ticket, outcome)

    @retried(name="fetch")
    def fetch(job_id: str, ticket: int) -> None:
        body.fetch(job_id, ticket)

    @DBOS.workflow(name=_FETCH_WORKFLOW, max_recovery_attempts=_MAX_RECOVERIES)
    def fetch_job(job_id: str, ticket: int) -> None:
        fetch(job_id, ticket)

    @DBOS.step(name="help")
    def help_out(job_id: str, ticket: int, mark: str, number: int) -> None:
        body.help(job_id, ticket, mark, number)

    @DBOS.workflow(name=_CHUNK_WORKFLOW, max_recovery_attempts=1)
    def make_chunk(job_id: str, ticket: int, mark: str, number: int) -> None:
        help_out(job_id, ticket, mark, number)

    @DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=_MAX_RECOVERIES)
    def run_job(job_id: str, ticket: int) -> Any:
        settle(job_id, ticket, execute(job_id, ticket))
