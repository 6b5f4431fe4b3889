"""Credits add up whatever operators, callers and workers do, and wherever the process dies.

ALPHAREEL_TEST_EXAMPLES sets how many service runs of 100 steps each are tried (default 8).
"""

import itertools
import json
import os
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from alphareel.db import migrate
from alphareel.db.api_keys import ApiKeyStore
from alphareel.db.billing import AccountStore
from alphareel.db.database import Database, open_engine
from alphareel.db.deletion import DeletionStore
from alphareel.db.jobs import JobStore
from alphareel.db.tables import accounts, job_events, jobs, ledger
from alphareel.domain.clip import EngineFacts
from alphareel.domain.errors import IdempotencyConflict, InsufficientCredits, InvalidState
from alphareel.domain.options import Options
from alphareel.service.api_keys.models import AuditContext
from alphareel.service.billing.credits import Quote
from alphareel.service.idempotency import IdempotentRequest, ReplayedResponse
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.jobs.models import TERMINAL, TRANSITIONS, Billing, Job, Output, Status, Step
from alphareel.service.jobs.queue_limits import QueueLimits
from alphareel.service.ports import NewJob
from alphareel.service.worker.reconciler import Reconciler, ReconcilerConfig
from alphareel.testing.fakes import MemoryBlobs, RecordingEngine, SettableClock

EXAMPLES = int(os.environ.get("ALPHAREEL_TEST_EXAMPLES", "8"))
STEPS = 100

T = TypeVar("T")

PRICE = 6000
ACT = AuditContext("test", "credits.grant", "req")
KEYS = ("k1", "k2")
CLIENT = "studio"
_OUTPUT = Output("o", "webm", "video/webm", 9, "ab" * 32, 64, 48, 10, 0.0, True, False)
_FACTS = EngineFacts("builtin", "1", "cd" * 32, "Apache-2.0")
_CREATE_QUEUE = "CREATE TABLE queue (job_id TEXT, ticket INTEGER, PRIMARY KEY (job_id, ticket))"


class Died(BaseException):
    """The process died. A BaseException, so that no ``except Exception`` stops it."""


class TransactionalEngine(RecordingEngine):
    """An engine with its records in the same database, like the real one: they commit and roll back with the job."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._database = database

    def enqueue(
        self, connection: Any, job_id: str, ticket: int, step: Step = Step.RUN, key_id: str | None = None
    ) -> None:
        connection.exec_driver_sql("INSERT INTO queue VALUES (?, ?)", (job_id, ticket))

    def tickets(self) -> list[tuple[str, int]]:
        with self._database.read() as c:
            return [tuple(row) for row in c.exec_driver_sql("SELECT job_id, ticket FROM queue ORDER BY 1, 2")]

    def pending(self, tickets: Any) -> frozenset[tuple[str, int]]:
        return frozenset(tickets) & frozenset(self.tickets())

    def done(self, job_id: str, ticket: int) -> None:
        with self._database.write() as c:
            c.exec_driver_sql("DELETE FROM queue WHERE job_id = ? AND ticket = ?", (job_id, ticket))

    def lose(self) -> None:
        """Empty the engine's tables."""
        with self._database.write() as c:
            c.exec_driver_sql("DELETE FROM queue")


class BillingHarness:
    """The stores over one SQLite file. The limits are so low that jobs wait for each other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = Database(open_engine(f"sqlite:///{path}"))
        clock = SettableClock()
        self.engine = TransactionalEngine(self.database)
        limits = QueueLimits(running=2, ahead=1)
        self.jobs = JobStore(self.database, enqueue=self.engine.enqueue, clock=clock, limits=limits)
        self.accounts = AccountStore(self.database, clock=clock)
        self.deletion_store = DeletionStore(self.database, clock=clock)
        self.deletion = DeletionService(self.jobs, self.deletion_store, MemoryBlobs())
        config = ReconcilerConfig(max_deaths=3)
        facts: dict[str, Any] = {
            "jobs": self.jobs,
            "executors": None,
            "engine": self.engine,
            "clock": clock,
            "config": config,
        }
        self.reconciler = Reconciler("reconciler", **facts)
        self._clock = clock

    def prepare(self) -> None:
        keys = ApiKeyStore(self.database, clock=self._clock)
        for name in KEYS:
            keys.add_key(key_id=name, secret_sha256=name, fingerprint=name, client_id=CLIENT, note="")
        with self.database.write() as c:
            c.exec_driver_sql(_CREATE_QUEUE)

    def die_at(self, statements: int, do: Callable[[], T], disk: Path) -> T:
        """Call ``do``, but die before the statement of this number and copy the file as it is then to ``disk``.

        If it executes fewer statements, it dies after its commit and before it returns.
        """
        remaining = [statements]

        def count(*_: Any) -> None:
            remaining[0] -= 1
            if remaining[0] < 0:
                raise Died

        def copy(*_: Any) -> None:  # runs before the rollback, which a dead process does not do
            if remaining[0] < 0 and not disk.exists():
                self.copy_to(disk)

        sa.event.listen(self.database.engine, "before_cursor_execute", count)
        sa.event.listen(self.database.engine, "rollback", copy)
        try:
            result = do()
            if not disk.exists():
                self.copy_to(disk)
            return result
        finally:
            sa.event.remove(self.database.engine, "before_cursor_execute", count)
            sa.event.remove(self.database.engine, "rollback", copy)

    def close(self) -> None:
        self.database.close()

    def create(self, job_id: str, key: str, *, seconds: float | None, draft: bool, name: str | None) -> Job:
        new = NewJob(job_id, key, "https://a/v", Options(), None, {}, "req", (), quote=Quote(PRICE, "1", seconds))
        once = name and IdempotentRequest(key, name, f"{seconds}", lambda job: json.dumps({"id": job.id}))
        return self.jobs.add_job(new, start=not draft, actor="test", once=once or None)

    def start(self, job_id: str, *, seconds: float | None) -> Job | None:
        quote = Quote(PRICE, "1", seconds)
        fields = {"webhook_url": None, "warnings": (), "actor": "test", "request_id": None}
        return self.jobs.start_job(job_id, options=Options(), quote=quote, **fields)  # type: ignore[arg-type]

    def begin(self, job_id: str, ticket: int) -> Job | None:
        return self.jobs.begin_attempt(job_id, ticket=ticket, actor="worker")

    def complete(self, job_id: str, *, attempt: int, seconds: float) -> bool:
        output = replace(_OUTPUT, seconds=seconds)
        return self.jobs.complete(job_id, attempt=attempt, output=output, engine=_FACTS, warnings=(), actor="worker")

    def fail(self, job_id: str, *, attempt: int | None) -> bool:
        return self.jobs.fail(job_id, attempt=attempt, error="Broken", error_code="bad_video", actor="worker")

    def rows(self, statement: Any) -> list[sa.Row[Any]]:
        with self.database.read() as c:
            return list(c.execute(statement))

    def copy_to(self, disk: Path) -> None:
        for end in ("", "-wal"):
            source = self.path.with_name(self.path.name + end)
            if source.exists():
                shutil.copy(source, disk.with_name(disk.name + end))


LOST, REFUSED = object(), object()
REFUSALS = (InsufficientCredits, InvalidState, IdempotencyConflict)
which = st.integers(0, 9)
lengths = st.floats(0, 40, allow_nan=False)
maybe_lengths = st.none() | lengths
key_ids = st.sampled_from(KEYS)


class ServiceRun(RuleBasedStateMachine):
    """One service with its callers, its operator and its workers. Some workers run on after they were superseded."""

    template: Path
    deaths = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.numbers = itertools.count()
        self.billing = BillingHarness(Path(shutil.copy(self.template, self.folder / "first.db")))
        self.billing.prepare()
        self.billing.accounts.grant(CLIENT, 9000, start_charging=True, act=ACT)
        self.accepted: list[str] = []
        self.answers: dict[tuple[str, str], str] = {}
        self.charged: dict[str, int] = {}
        self.workers: list[tuple[str, int, int]] = []
        self.dies_at: int | None = None
        self.queue_is_complete = True

    def teardown(self) -> None:
        try:
            self._finish_all_jobs()
            self.credits_add_up()
            assert self._reserved() == 0
        finally:
            self.billing.close()
            shutil.rmtree(self.folder)

    def do(self, action: Callable[[], T]) -> Any:
        """The result: LOST if the process died, REFUSED if the call raised a refusal."""
        if self.dies_at is None:
            try:
                return action()
            except REFUSALS:
                return REFUSED
        statements, self.dies_at = self.dies_at, None
        disk = self.folder / f"{next(self.numbers)}.db"
        try:
            self.billing.die_at(statements, action, disk)
        except (Died, ReplayedResponse, *REFUSALS):
            if not disk.exists():
                self.billing.copy_to(disk)
        self.billing.close()
        self.billing = BillingHarness(disk)
        ServiceRun.deaths += 1
        return LOST

    @precondition(lambda self: self.dies_at is None)
    @rule(statements=st.integers(0, 3))
    def the_process_dies_early_in_the_next_step(self, statements: int) -> None:
        self.dies_at = statements

    @precondition(lambda self: self.dies_at is None)
    @rule(statements=st.integers(4, 14))
    def the_process_dies_late_in_the_next_step(self, statements: int) -> None:
        self.dies_at = statements

    @rule(amount=st.integers(-500, 3000))
    def grant(self, amount: int) -> None:
        self.do(lambda: self.billing.accounts.grant(CLIENT, amount, start_charging=True, act=ACT))

    @rule(balance=st.integers(0, 5000))
    def set_balance(self, balance: int) -> None:
        self.do(lambda: self.billing.accounts.set_balance(CLIENT, balance, act=ACT))

    @rule(key=key_ids, seconds=maybe_lengths, draft=st.booleans())
    def create(self, key: str, seconds: float | None, *, draft: bool) -> None:
        job_id = f"job_{next(self.numbers):05}"
        created = self.do(lambda: self.billing.create(job_id, key, seconds=seconds, draft=draft, name=None))
        if isinstance(created, Job):
            self.accepted.append(job_id)

    @rule(key=key_ids, seconds=st.sampled_from((1.0, 2.0)), name=st.sampled_from("abc"))
    def create_once_and_retry_when_no_response_came(self, key: str, seconds: float, name: str) -> None:
        for _ in range(2):
            if self._create_once(key, seconds, name) is not LOST:
                return

    def _create_once(self, key: str, seconds: float, name: str) -> Any:
        job_id = f"job_{next(self.numbers):05}"
        try:
            created = self.do(lambda: self.billing.create(job_id, key, seconds=seconds, draft=False, name=name))
        except ReplayedResponse as replay:
            created = json.loads(replay.body)["id"]
        if isinstance(created, str) and self.answers.setdefault((key, name), created) != created:
            pytest.fail("one name has one answer")
        if isinstance(created, Job):
            assert (key, name) not in self.answers, "created twice"
            self.answers[key, name] = job_id
            self.accepted.append(job_id)
        return created

    @precondition(lambda self: self.accepted)
    @rule(which=which, seconds=maybe_lengths)
    def start(self, which: int, seconds: float | None) -> None:
        self.do(lambda: self.billing.start(self._chosen(which), seconds=seconds))

    @precondition(lambda self: self.billing.engine.tickets())
    @rule(which=which)
    def a_worker_takes_a_job(self, which: int) -> None:
        tickets = self.billing.engine.tickets()
        job_id, ticket = tickets[which % len(tickets)]
        job = self.do(lambda: self.billing.begin(job_id, ticket))
        if isinstance(job, Job):
            self.workers.append((job_id, ticket, job.attempt))
        elif job is None:
            self.do(lambda: self.billing.engine.done(job_id, ticket))

    @precondition(lambda self: self.workers)
    @rule(which=which, seconds=maybe_lengths)
    def a_worker_measures(self, which: int, seconds: float | None) -> None:
        job_id, _, attempt = self.workers[which % len(self.workers)]
        self.do(lambda: self.billing.jobs.reserve_credits(job_id, attempt=attempt, seconds=seconds, most=30))

    @precondition(lambda self: self.workers)
    @rule(which=which, seconds=lengths, succeeds=st.booleans(), leaves=st.booleans())
    def a_worker_ends(self, which: int, seconds: float, *, succeeds: bool, leaves: bool) -> None:
        index = which % len(self.workers)
        job_id, ticket, attempt = self.workers[index]
        if leaves:
            del self.workers[index]  # if it stays, it reports its end once more
        if succeeds:
            ended = self.do(lambda: self.billing.complete(job_id, attempt=attempt, seconds=seconds))
        else:
            ended = self.do(lambda: self.billing.fail(job_id, attempt=attempt))
        if ended is True:  # a superseded worker leaves the ticket to its successor
            self.do(lambda: self.billing.engine.done(job_id, ticket))

    @precondition(lambda self: self.accepted)
    @rule(which=which)
    def cancel(self, which: int) -> None:
        job = self.billing.jobs.job(self._chosen(which))
        if job is not None:
            self.do(lambda: self.billing.deletion.cancel(job, actor="test"))

    @precondition(lambda self: self.accepted)
    @rule(which=which)
    def delete(self, which: int) -> None:
        job = self.billing.jobs.job(self._chosen(which))
        if job is not None:
            self.do(lambda: self.billing.deletion.delete_job(job, actor="test"))

    @rule()
    def the_engine_forgets_everything(self) -> None:
        self.queue_is_complete = False
        self.do(self.billing.engine.lose)

    @rule()
    def reconcile(self) -> None:
        if self.do(self.billing.reconciler.reconcile) is not LOST:
            self.queue_is_complete = True

    @invariant()
    def credits_add_up(self) -> None:
        self._each_run_is_paid_once()
        [balance] = [row.balance for row in self.billing.rows(sa.select(accounts.c.balance))]
        sums_by_kind = self.billing.rows(sa.select(ledger.c.kind, sa.func.sum(ledger.c.amount)).group_by(ledger.c.kind))
        sums = defaultdict(int, dict(sums_by_kind))  # type: ignore[arg-type]
        assert balance >= 0
        assert sum(sums.values()) == balance
        assert sums["grant"] + sums["set"] == balance + self._reserved() + self._charged()

    @invariant()
    def jobs_have_the_status_of_their_last_event(self) -> None:
        histories: dict[str, list[Any]] = defaultdict(list)
        for event in self.billing.rows(sa.select(job_events).order_by(job_events.c.job_id, job_events.c.sequence)):
            histories[event.job_id].append(event)
        rows = {row.id: row for row in self.billing.rows(sa.select(jobs))}
        assert set(self.accepted) <= set(rows), "an accepted job is gone"
        for job_id, row in rows.items():
            events = histories[job_id]
            assert events[-1].to_status == row.status
            for before, after in itertools.pairwise(events):
                assert after.from_status == before.to_status
                assert after.to_status in TRANSITIONS[Status(before.to_status)] or after.to_status == before.to_status

    @invariant()
    def unfinished_jobs_are_in_the_queue(self) -> None:
        if self.queue_is_complete:
            tickets = {(job.id, job.ticket) for job in self.billing.jobs.unfinished()}
            assert tickets <= set(self.billing.engine.tickets())

    def _each_run_is_paid_once(self) -> None:
        entries = self.billing.rows(sa.select(ledger).where(ledger.c.kind.not_in(("grant", "set"))))
        kinds = Counter((entry.subject, entry.run, entry.kind) for entry in entries)
        assert set(kinds.values()) <= {1}
        net: dict[tuple[str, int], int] = defaultdict(int)
        for entry in entries:
            net[entry.subject, entry.run] -= entry.amount
        for row in self.billing.rows(sa.select(jobs)):
            billing = Billing(row.billing_status)
            assert net.pop((row.id, row.run), 0) == (
                row.credits if billing in (Billing.RESERVED, Billing.CHARGED) else 0
            )
            assert (billing is Billing.RESERVED) <= (row.status in (Status.PENDING, Status.PROCESSING))
            assert (billing is Billing.CHARGED) <= (row.status == Status.COMPLETED)
            assert self.charged.get(row.id, row.credits) == row.credits, "a charge is final"
            if billing is Billing.CHARGED:
                self.charged[row.id] = row.credits
        assert set(net.values()) <= {0}, "earlier runs failed and cost nothing"

    def _chosen(self, which: int) -> str:
        return self.accepted[which % len(self.accepted)]

    def _reserved(self) -> int:
        return self._credits(Billing.RESERVED)

    def _charged(self) -> int:
        return self._credits(Billing.CHARGED)

    def _credits(self, billing: Billing) -> int:
        total = sa.func.coalesce(sa.func.sum(jobs.c.credits), 0)
        return int(self.billing.rows(sa.select(total).where(jobs.c.billing_status == billing))[0][0])

    def _finish_all_jobs(self) -> None:
        """Run all jobs to their end with a process that does not die."""
        self.dies_at = None
        for _ in range(200):
            self.billing.reconciler.reconcile()
            for job_id, ticket in self.billing.engine.tickets():
                job = self.billing.begin(job_id, ticket)
                if job is not None:
                    assert self.billing.complete(job_id, attempt=job.attempt, seconds=1)
                self.billing.engine.done(job_id, ticket)
            unfinished = [
                row.id for row in self.billing.rows(sa.select(jobs)) if row.status not in (*TERMINAL, Status.CREATED)
            ]
            if not unfinished:
                return
        pytest.fail(f"these never ended: {unfinished}")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    database = Database(open_engine(f"sqlite:///{path}"))
    migrate.upgrade(database)
    database.close()
    return path


@pytest.mark.timeout(3600)
def test_no_credit_is_created_lost_or_taken_twice_wherever_the_process_dies(template: Path) -> None:
    ServiceRun.template, ServiceRun.deaths = template, 0
    config = settings(
        print_blob=True, max_examples=EXAMPLES, stateful_step_count=STEPS, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(ServiceRun, settings=config)
    assert ServiceRun.deaths >= 3 * EXAMPLES
