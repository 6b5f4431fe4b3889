"""The job engine on DBOS Transact, with queues and checkpoints in the same database as our tables.

This is the only module that knows DBOS. DBOS does not detect dead processes in its open-source edition;
``DbosEngine.recover`` does that, and the worker's reconciler calls it.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial, wraps
from typing import Any

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, EnqueueOptions
from dbos import _queue as dbos_queues
from dbos import _sys_db as dbos_database
from dbos._core import execute_dequeued_workflow
from dbos._queue import queue_worker_thread
from dbos._sys_db import SystemDatabase

from alphareel.domain.errors import Unavailable
from alphareel.service.jobs.attempts import attempt_result_from_json
from alphareel.service.jobs.models import QUEUES, Step
from alphareel.service.ports import JobBody
from alphareel.service.settings import FetchSettings, WorkerSettings

_APP_NAME = "alphareel"
_QUEUE, _FETCH_QUEUE = QUEUES
_DELIVERY_QUEUE = "deliveries"  # a queue of its own, so that no delivery waits for a fetch
_WORKFLOW = "run_job"
_FETCH_WORKFLOW = "fetch_job"
_DELIVERY_WORKFLOW = "deliver_job"
_WORKFLOWS = {Step.FETCH: _FETCH_WORKFLOW, Step.DELIVER: _DELIVERY_WORKFLOW}
_STEP_QUEUES = {Step.FETCH: _FETCH_QUEUE, Step.DELIVER: _DELIVERY_QUEUE}
_CHUNK_WORKFLOW = "make_chunk"
_RUN_PRIORITY = 1  # lower is earlier, and no priority comes first: a job whose files were fetched has waited already
_CHUNK_PRIORITY = 1000  # after all jobs
_STEPS_VERSION = "1"  # raise it only when the order of the steps below changes: it strands running jobs
_MAX_RECOVERIES = 100  # far above the worker's own limit, which fails the job with a reason first
_UNFINISHED = ("ENQUEUED", "DELAYED", "PENDING")
_ENDED = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_BATCH = 500
_SLOT_SECONDS = (0.02, 0.1)  # after which the slot of a workflow that ended is free; polling finds what is slower
_STOP_SECONDS = 10.0
_START_SECONDS = 30.0  # for a thread of the pool to take up a workflow: far more than it needs


def prepare(database_url: str) -> None:
    """Create or migrate the tables of DBOS. The database must exist, and SQLite must be in WAL mode already."""
    logging.getLogger("dbos").setLevel(logging.WARNING)
    DBOS.migrate(database_url)


class DbosQueue:
    """The client side of the engine, for every process: enqueue jobs inside our own transactions."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._client = DBOSClient(
            system_database_engine=engine,
            serializer=DBOSPortableJSONSerializer(),
            application_name=_APP_NAME,
            lazy=True,
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
            "workflow_name": _WORKFLOWS.get(step, _WORKFLOW),
            "queue_name": _STEP_QUEUES.get(step, _QUEUE),
            "workflow_id": workflow_id(job_id, ticket),
            "app_version": _STEPS_VERSION,
        }
        if step is Step.RUN:
            options["priority"] = _RUN_PRIORITY
        if step in _STEP_QUEUES:
            options["queue_partition_key"] = f"key {key_id}"
        self._client.enqueue_in_transaction(connection, options, job_id, ticket)

    def enqueue_chunks(self, job_id: str, ticket: int, plan_hash: str, numbers: Sequence[int]) -> None:
        with _translate_errors(), self._engine.begin() as connection:
            for number in numbers:
                self._client.enqueue_in_transaction(
                    connection,
                    {
                        "workflow_name": _CHUNK_WORKFLOW,
                        "queue_name": _QUEUE,
                        "workflow_id": chunk_workflow_id(job_id, ticket, plan_hash, number),
                        "app_version": _STEPS_VERSION,
                        "priority": _CHUNK_PRIORITY,
                    },
                    job_id,
                    ticket,
                    plan_hash,
                    number,
                )

    def cancel_chunks(self, job_id: str, ticket: int, plan_hash: str, numbers: Sequence[int]) -> None:
        ids = [chunk_workflow_id(job_id, ticket, plan_hash, number) for number in numbers]
        with _translate_errors():
            # only queued ones: running ones end by themselves, and DBOS would log their cancellation as an error
            queued = self._client.list_workflows(
                workflow_ids=ids, status="ENQUEUED", load_input=False, load_output=False
            )
            self._client.cancel_workflows([workflow.workflow_id for workflow in queued])


class DbosEngine(DbosQueue):
    """The whole engine, at most one in a process. ``executor_id`` must be new for every start of a process.

    ``database_url``: the database of our tables. ``database_engine``: SQLAlchemy engine to use instead of one that DBOS
    creates from the URL. ``prepare_engine`` gets the one that it uses. ``refuses_writes`` tells errors of a database
    that takes no writes for the moment. ``polling_seconds``: between two polls of a queue. ``more_slots``: how many
    jobs it may run in addition to its own slots; called before each poll.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        executor_id: str,
        body: JobBody,
        worker: WorkerSettings,
        fetch: FetchSettings,
        database_url: str,
        database_engine: sa.Engine | None = None,
        polling_seconds: float = 1.0,
        more_slots: Callable[[], int] = lambda: 0,
        prepare_engine: Callable[[sa.Engine], None] = lambda _: None,
        refuses_writes: Callable[[BaseException], bool] = lambda _: False,
    ) -> None:
        super().__init__(engine)
        self._prepare_engine = prepare_engine
        self._worker = worker
        self._fetch = fetch
        self._polling_seconds = polling_seconds
        self._pauses = [_Pause(), _Pause(), _Pause()]
        self._threads: list[threading.Thread] = []
        config: DBOSConfig = {
            "name": _APP_NAME,
            "system_database_url": database_url,
            "executor_id": executor_id,
            "application_version": _STEPS_VERSION,
            "serializer": DBOSPortableJSONSerializer(),
            "use_listen_notify": False,
            "log_level": "WARNING",
            "run_migrations": False,
        }
        if database_engine is not None:
            config["system_database_engine"] = database_engine
        logging.getLogger("dbos").addHandler(logging.NullHandler())  # without one it adds its own, which writes text
        self._dbos = DBOS(config=config)
        limits = {
            _QUEUE: lambda: worker.jobs + more_slots(),
            _FETCH_QUEUE: lambda: fetch.concurrency,
            _DELIVERY_QUEUE: lambda: fetch.concurrency,
        }
        _limit_this_process(limits)
        _count_before_next_look()
        _wait_while(refuses_writes)
        _register(body, on_end=self._wake_after_end)

    def launch(self, on_ready: Callable[[], None] = lambda: None) -> None:
        DBOS.listen_queues([])  # threads of ours do that, which can be woken
        DBOS.launch()
        self._prepare_engine(self._dbos._sys_db.engine)  # noqa: SLF001  # DBOS has no other way to its engine
        jobs = DBOS.register_queue(
            _QUEUE,
            worker_concurrency=self._worker.jobs,
            polling_interval_sec=self._polling_seconds,
            on_conflict="always_update",
        )
        url_queues = [
            DBOS.register_queue(
                name,
                worker_concurrency=self._fetch.concurrency,
                partition_worker_concurrency=max(1, self._fetch.concurrency // 2),  # one key's hosts may all be slow
                polling_interval_sec=self._polling_seconds,
                on_conflict="always_update",
            )
            for name in (_FETCH_QUEUE, _DELIVERY_QUEUE)
        ]
        on_ready()
        for queue, pause in zip((jobs, *url_queues), self._pauses, strict=True):
            if (_QUEUE if queue.name == _QUEUE else _FETCH_QUEUE) not in self._worker.queues:
                continue
            thread = threading.Thread(
                target=queue_worker_thread, args=(pause, self._dbos, queue), name=f"queue-{queue.name}", daemon=True
            )
            thread.start()
            self._threads.append(thread)

    def wake(self) -> None:
        """Poll the queues now."""
        for pause in self._pauses:
            pause.wake()

    def _wake_after_end(self) -> None:
        """Wake the queues shortly after: a workflow that is about to end frees its slot a moment later."""
        for seconds in _SLOT_SECONDS:
            timer = threading.Timer(seconds, self.wake)
            timer.daemon = True
            timer.start()

    def stop(self, *, grace_seconds: float) -> None:
        for pause in self._pauses:
            pause.set()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)
        DBOS.destroy(workflow_completion_timeout_sec=round(grace_seconds))

    def recover(self, living: Callable[[], Collection[str]]) -> int:
        running = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        holders = {workflow.executor_id for workflow in running} - {None}
        dead = sorted(str(holder) for holder in holders - set(living()))
        for executor_id in dead:
            DBOS._recover_pending_workflows([executor_id])  # noqa: SLF001  # DBOS has no public function for this
        return len(dead)

    def pending(self, tickets: Sequence[tuple[str, int]]) -> frozenset[tuple[str, int]]:
        unfinished: set[tuple[str, int]] = set()
        for start in range(0, len(tickets), _BATCH):
            by_id = {workflow_id(*ticket): ticket for ticket in tickets[start : start + _BATCH]}
            workflows = DBOS.list_workflows(
                workflow_ids=list(by_id), status=list(_UNFINISHED), load_input=False, load_output=False
            )
            unfinished |= {by_id[workflow.workflow_id] for workflow in workflows}
        return frozenset(unfinished)

    def holder(self, job_id: str, ticket: int) -> str | None:
        workflows = DBOS.list_workflows(
            workflow_ids=[workflow_id(job_id, ticket)], status="PENDING", load_input=False, load_output=False
        )
        return workflows[0].executor_id if workflows else None

    def forget(self, *, before: datetime) -> int:
        ended = DBOS.list_workflows(
            status=list(_ENDED), completed_before=before.isoformat(), limit=_BATCH, load_input=False, load_output=False
        )
        if ended:
            DBOS.delete_workflows([workflow.workflow_id for workflow in ended])
        return len(ended)


def _limit_this_process(concurrency: Mapping[str, Callable[[], int]]) -> None:
    """Keep this process to its own concurrency.

    DBOS stores the limits of a queue in the database and reads them before each poll, so the process that started last
    would set them for all machines.
    """
    read = SystemDatabase.get_queue

    @wraps(read)
    def get_queue(self: SystemDatabase, name: str, **options: Any) -> Any:
        queue = read(self, name, **options)
        if queue is not None and name in concurrency:
            limit = concurrency[name]()
            queue._worker_concurrency = limit  # noqa: SLF001  # its setter would write to the database
            if queue._partition_worker_concurrency is not None:  # noqa: SLF001
                queue._partition_worker_concurrency = max(1, limit // 2)  # noqa: SLF001
        return queue

    SystemDatabase.get_queue = get_queue  # type: ignore[method-assign]


def _count_before_next_look() -> None:
    """Make a queue's thread wait until each workflow that it took is counted.

    DBOS counts a workflow once a thread of its pool has picked it up. A poll before that would exceed the limits.
    """
    execute = execute_dequeued_workflow

    @wraps(execute)
    def execute_and_wait(dbos: DBOS, status: Any, owner_xid: str) -> Any:
        handle = execute(dbos, status, owner_xid)
        future = getattr(handle, "future", None)  # none: it did not start
        deadline = time.monotonic() + _START_SECONDS
        while (
            future is not None
            and not future.done()
            and status["workflow_uuid"] not in dbos._active_workflows_set.activeList()  # noqa: SLF001  # not public
            and time.monotonic() < deadline
        ):
            time.sleep(0.001)
        return handle

    dbos_queues.execute_dequeued_workflow = execute_and_wait  # type: ignore[attr-defined]


def _wait_while(refuses_writes: Callable[[BaseException], bool]) -> None:
    """Make DBOS repeat what a database refuses that takes no writes, as it does while the database is away.

    Else the workflow ends there without a trace: its job is lost until the reconciler finds it, and then runs again.
    """
    is_away: Callable[[Exception], bool] = dbos_database.retriable_postgres_exception  # type: ignore[attr-defined]

    @wraps(is_away)
    def is_away_or_refuses(error: Exception) -> bool:
        return is_away(error) or refuses_writes(error)

    dbos_database.retriable_postgres_exception = is_away_or_refuses  # type: ignore[assignment, attr-defined]


class _Pause(threading.Event):
    """The stop event of a thread that polls a queue, whose ``wait`` also returns, with False, when it is woken."""

    def __init__(self) -> None:
        super().__init__()
        self._wake_up = threading.Event()

    def set(self) -> None:
        super().set()
        self._wake_up.set()

    def wake(self) -> None:
        self._wake_up.set()

    def wait(self, timeout: float | None = None) -> bool:
        self._wake_up.wait(timeout)
        self._wake_up.clear()
        return self.is_set()


def workflow_id(job_id: str, ticket: int) -> str:
    return f"{job_id}.{ticket}"


def chunk_workflow_id(job_id: str, ticket: int, plan_hash: str, number: int) -> str:
    return f"{workflow_id(job_id, ticket)}.{plan_hash[:16]}.{number}"


@contextmanager
def _translate_errors() -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        raise Unavailable("The queue does not answer.") from error


def _register(body: JobBody, *, on_end: Callable[[], None]) -> None:
    """Register the workflows. Their arguments are ids. DBOS records each step, so a settled job never runs again."""
    # Steps raise only while the database is down; 12 attempts with doubled pauses wait for more than an hour.
    retried = partial(DBOS.step, retries_allowed=True, max_attempts=12, interval_seconds=1.0, backoff_rate=2.0)

    @retried(name="execute")
    def execute(job_id: str, ticket: int) -> dict[str, Any]:
        return body.execute(job_id, ticket).to_json()

    @retried(name="settle")
    def settle(job_id: str, ticket: int, outcome: dict[str, Any]) -> None:
        body.settle(job_id, ticket, attempt_result_from_json(outcome))

    @retried(name="fetch")
    def fetch(job_id: str, ticket: int) -> None:
        body.fetch(job_id, ticket)

    @retried(name="deliver")
    def deliver(job_id: str, ticket: int) -> None:
        body.deliver(job_id, ticket)

    @DBOS.workflow(name=_DELIVERY_WORKFLOW, max_recovery_attempts=_MAX_RECOVERIES)
    def deliver_job(job_id: str, ticket: int) -> None:
        deliver(job_id, ticket)
        on_end()

    @DBOS.workflow(name=_FETCH_WORKFLOW, max_recovery_attempts=_MAX_RECOVERIES)
    def fetch_job(job_id: str, ticket: int) -> None:
        fetch(job_id, ticket)
        on_end()

    @DBOS.step(name="help")
    def make_one_chunk(job_id: str, ticket: int, plan_hash: str, number: int) -> None:
        body.make_chunk(job_id, ticket, plan_hash, number)

    @DBOS.workflow(name=_CHUNK_WORKFLOW, max_recovery_attempts=1)
    def make_chunk(job_id: str, ticket: int, plan_hash: str, number: int) -> None:
        make_one_chunk(job_id, ticket, plan_hash, number)

    @DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=_MAX_RECOVERIES)
    def run_job(job_id: str, ticket: int) -> Any:
        settle(job_id, ticket, execute(job_id, ticket))
        on_end()
