"""Writes the table of jobs: new ones, their transitions, and what else changes while they run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db import billing, exports, idempotency, mapping, output_targets
from alphareel.db.database import Database
from alphareel.db.deletion import link_uploads, schedule_deletion
from alphareel.db.job_reader import JobReader
from alphareel.db.notifications import notify, progress_topic
from alphareel.db.queue import Enqueue, QueueAdmission, keys_with_waiting_jobs
from alphareel.db.retention import set_expiry
from alphareel.db.storage_quotas import StorageUsage, lock_storage
from alphareel.db.tables import jobs
from alphareel.db.transitions import Transition, append_event, apply_transition, log_transition
from alphareel.db.webhooks import add_webhook
from alphareel.domain.clip import EngineFacts
from alphareel.domain.fields import storable
from alphareel.domain.options import Options, to_json
from alphareel.service.billing.credits import Quote
from alphareel.service.files import blob_keys
from alphareel.service.idempotency import IdempotentRequest
from alphareel.service.jobs.attempts import AttemptCompleted
from alphareel.service.jobs.models import UNFINISHED, Job, Kind, Output, Status, Step, StoredMatte
from alphareel.service.jobs.output_targets import Targets, targets_to_json
from alphareel.service.jobs.queue_limits import QueueLimits
from alphareel.service.ports import Clock, NewJob
from alphareel.telemetry.tracing import current_traceparent

_INSERT = sa.insert(jobs).returning(jobs)


class JobStore(JobReader):
    """Jobs in our own tables, which are the source of truth; the queue engine's tables are not.

    Every method is one transaction. A transition is a compare-and-set that writes its audit row in the same
    transaction. Every store raises Unavailable when the database does not answer.

    ``enqueue`` hands a job to the queue engine inside that transaction.
    """

    def __init__(
        self,
        database: Database,
        *,
        enqueue: Enqueue,
        clock: Clock,
        limits: QueueLimits | None = None,
        storage: StorageUsage | None = None,
    ) -> None:
        super().__init__(database)
        self._storage = storage or StorageUsage(database)
        self._enqueue = enqueue
        self._admission = QueueAdmission(enqueue, limits or QueueLimits())
        self._clock = clock

    def add_job(self, new: NewJob, *, start: bool, actor: str, once: IdempotentRequest | None = None) -> Job:
        """Insert a draft, or (with ``start``) a pending job.

        A pending job is enqueued in the same transaction, unless the limits of its key make it wait.
        Raises InsufficientCredits, TooManyJobs, QueueFull, StorageQuotaExceeded, StorageFull; for a known ``once``
        ReplayedResponse, IdempotencyConflict, IdempotencyInProgress.
        """
        return self.add_jobs([new], start=start, actor=actor, once=once)[0]

    def add_jobs(
        self,
        new: Sequence[NewJob],
        *,
        start: bool,
        actor: str,
        once: IdempotentRequest | None = None,
        on_added: Callable[[tuple[Job, ...]], None] = lambda _: None,
    ) -> tuple[Job, ...]:
        """Insert several jobs, all or none.

        ``once`` stores the response for the first one; ``on_added`` gets all of them before. Raises like ``add_job``.
        """
        now = self._clock.now()
        reason = "started" if start else "created"
        with self._database.write() as c:
            idempotency.reserve_key(c, once, now=now)
            rows = [self._insert(c, each, start=start, reason=reason, actor=actor, now=now) for each in new]
            added = self._to_jobs(c, rows)
            on_added(added)
            idempotency.store_response(c, once, added[0])
        for job in added:
            to = Transition(to=job.status, actor=actor, request_id=job.request_id, reason=reason)
            self._after_commit(job.id, to)
        return added

    def most_queued(self, key_id: str | None) -> int:
        """How many jobs of this key may wait at the same time when no other job waits; 0 for no limit."""
        with self._database.read() as c:
            return self._admission.most_queued(c, key_id)

    def _insert(
        self, c: sa.Connection, new: NewJob, *, start: bool, reason: str, actor: str, now: datetime
    ) -> sa.Row[Any]:
        status = Status.PENDING if start else Status.CREATED
        if new.parent_id is not None:
            exports.lock_parent(c, new.parent_id, now=now)
            if new.guard is not None:
                new.guard(exports.siblings(c, new))
        if start:
            self._storage.check(c, new.key_id, 1)
        row = c.execute(_INSERT, mapping.new_row(new, status, now=now)).one()
        transition = Transition(to=status, actor=actor, request_id=new.request_id, reason=reason)
        append_event(c, new.id, None, transition, now=now)
        link_uploads(c, new.id, new.uploads)
        if start:
            row = row if new.quote is None else billing.reserve(c, row, new.quote, now=now)
            self._admission.enqueue_or_wait(c, row, now=now)
        return row

    def start_job(
        self,
        job_id: str,
        *,
        options: Options,
        webhook_url: str | None,
        warnings: tuple[str, ...],
        more_options: tuple[Options, ...] = (),
        keep_matte: bool = False,
        task: Mapping[str, Any] | None = None,
        video_url: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        uploads: tuple[str, ...] = (),
        retention_seconds: int | None = None,
        test: Mapping[str, Any] | None = None,
        actor: str,
        request_id: str | None,
        quote: Quote | None = None,
        once: IdempotentRequest | None = None,
        targets: Targets = (),
    ) -> Job | None:
        """Set a created or failed job to pending, with these options and uploads, and enqueue it as ``add_job`` does.

        Returns None if the job has another status. ``video_url``, ``metadata``: None keeps the job's value.
        Raises the same errors as ``add_job``.
        """
        now = self._clock.now()
        values = mapping.new_run_values() | {
            "queued_at": now,
            "traceparent": current_traceparent(),
            "options": to_json(options),
            "more_options": mapping.options_to_json(more_options),
            "keep_matte": keep_matte,
            "task": task,
            "targets": targets_to_json(targets),
            "webhook_url": webhook_url,
            "warnings": list(warnings),
            "retention_seconds": retention_seconds,
            "test": test,
            "run": jobs.c.run + 1,
            "ticket": jobs.c.ticket + 1,
        }
        optional = {"video_url": video_url, "metadata": metadata}
        values |= {name: value for name, value in optional.items() if value is not None}
        transition = Transition(
            to=Status.PENDING, actor=actor, request_id=request_id, reason="started", values=values, quote=quote
        )
        with self._database.write() as c:
            idempotency.reserve_key(c, once, now=now)
            row = apply_transition(c, job_id, transition, now=now)
            if row is None:
                idempotency.release_key(c, once)
                return None
            self._storage.check(c, row.key_id, 1)
            link_uploads(c, job_id, uploads)
            self._admission.enqueue_or_wait(c, row, now=now)
            job = self._to_jobs(c, [row])[0]
            idempotency.store_response(c, once, job)
        self._after_commit(job_id, transition)
        return job

    def begin_attempt(self, job_id: str, *, ticket: int, actor: str) -> Job | None:
        """Set a pending or processing job that has this ticket to processing, and count the attempt up.

        The attempt is the fencing token: what an older attempt writes later is refused. Returns None if the job
        has another status or ticket.
        """
        now = self._clock.now()
        values = {
            "attempt": jobs.c.attempt + 1,
            "tries": jobs.c.tries + 1,
            "started_at": sa.func.coalesce(jobs.c.started_at, sa.literal(now, jobs.c.started_at.type)),
            "progress_at": now,
            "preview": None,
        }
        transition = Transition(
            to=Status.PROCESSING, actor=actor, reason="attempt began", values=values, where=(jobs.c.ticket == ticket,)
        )
        return self._apply_transition(job_id, transition)

    def set_progress(self, job_id: str, *, attempt: int, progress: float, preview: str | None = None) -> bool:
        """Record the percentage done (0..100, never lowered), the time, and the blob key of a new preview.

        Returns False if the attempt is not the current one.
        """
        now = self._clock.now()
        highest = sa.case((jobs.c.progress < progress, progress), else_=jobs.c.progress)
        change = (
            sa.update(jobs)
            .where(jobs.c.id == job_id, jobs.c.attempt == attempt, jobs.c.status == Status.PROCESSING)
            .values(progress=highest, progress_at=now, updated_at=now, preview=preview or jobs.c.preview)
        )
        with self._database.write() as c:
            notify(c, progress_topic(job_id))
            return c.execute(change).rowcount == 1

    def add_chunk(self, job_id: str, *, ticket: int, size: int) -> None:
        """Count ``size`` bytes of a finished chunk as stored until the job ends.

        Sets the count of tries to 1, because the job makes progress.
        """
        where = (jobs.c.id == job_id, jobs.c.ticket == ticket, jobs.c.status == Status.PROCESSING)
        tries = sa.case((jobs.c.tries > 1, 1), else_=jobs.c.tries)
        with self._database.write() as c:
            c.execute(sa.update(jobs).where(*where).values(tries=tries, stored_bytes=jobs.c.stored_bytes + size))

    def complete(
        self,
        job_id: str,
        *,
        attempt: int,
        output: Output,
        engine: EngineFacts | None,
        warnings: tuple[str, ...],
        actor: str,
        more_outputs: tuple[Output, ...] = (),
        matte: StoredMatte | None = None,
        report: Mapping[str, Any] | None = None,
        delivered: bool = False,
    ) -> bool:
        """Set the job to completed; False if this attempt is not the current one.

        A job with targets is not completed but enqueued for its delivery, until it is ``delivered``. Raises
        StorageQuotaExceeded, StorageFull when its files do not fit; then the job is unchanged.
        """
        result = AttemptCompleted(attempt, output, engine, warnings, more_outputs, matte, report)
        if not delivered and self._has_targets(job_id):
            return self._begin_deliveries(job_id, result, actor=actor)
        values = {
            "output": asdict(output),
            "more_outputs": [asdict(each) for each in more_outputs] or None,
            "matte": None if matte is None else asdict(matte),
            "report": report,
            "stored_bytes": result.stored_bytes,
            "engine": None if engine is None else asdict(engine),
            "warnings": list(warnings),
            "progress": 100.0,
            "completed_at": self._clock.now(),
        }
        # Files that are being delivered were counted, and fit, when that began.
        where = (jobs.c.attempt == attempt, jobs.c.undelivered.is_not(None) if delivered else sa.true())
        output_bytes = 0 if delivered else result.stored_bytes
        transition = Transition(to=Status.COMPLETED, actor=actor, reason="completed", values=values, where=where)
        revised = {name: values[name] for name in ("output", "more_outputs", "matte")}
        return self._apply_transition(job_id, transition, output_bytes=output_bytes, revised=revised) is not None

    def _has_targets(self, job_id: str) -> bool:
        with self._database.read() as c:
            targets = c.execute(sa.select(jobs.c.targets).where(jobs.c.id == job_id)).scalar_one_or_none()
        return bool(targets)

    def _begin_deliveries(self, job_id: str, result: AttemptCompleted, *, actor: str) -> bool:
        """Keep the result with the job, and enqueue its delivery; False if that was done before."""
        values = {
            "undelivered": result.to_json(),
            "stored_bytes": result.stored_bytes,
            "ticket": jobs.c.ticket + 1,
            "tries": 0,
            "progress": 100.0,
            "progress_at": self._clock.now(),
            "preview": None,
        }
        current = (jobs.c.attempt == result.attempt, jobs.c.status == Status.PROCESSING, jobs.c.undelivered.is_(None))
        reason = "its outputs are delivered next"
        transition = Transition(to=Status.PROCESSING, actor=actor, reason=reason, values=values, where=current)
        applied = self._apply_transition(job_id, transition, output_bytes=result.stored_bytes, step=Step.DELIVER)
        return applied is not None

    def queue_delivery(self, job_id: str, *, ticket: int, actor: str) -> bool:
        """Enqueue the delivery of a job's outputs once more; False for a job that has none to deliver."""
        values = {"ticket": ticket + 1, "progress_at": self._clock.now()}
        reason = "its outputs are still to be delivered"
        transition = Transition(
            to=Status.PROCESSING, actor=actor, reason=reason, values=values, where=output_targets.delivers(ticket)
        )
        return self._apply_transition(job_id, transition, step=Step.DELIVER) is not None

    def begin_delivery(self, job_id: str, *, ticket: int, actor: str) -> Job | None:
        """Count a try to deliver the job's outputs; None unless it has this ticket and outputs to deliver."""
        values = {"tries": jobs.c.tries + 1, "progress_at": self._clock.now()}
        transition = Transition(
            to=Status.PROCESSING,
            actor=actor,
            reason="delivery began",
            values=values,
            where=output_targets.delivers(ticket),
        )
        return self._apply_transition(job_id, transition)

    def set_undelivered(self, job_id: str, *, ticket: int, undelivered: AttemptCompleted) -> bool:
        """Record the delivery of one output; False unless the job still has this ticket and outputs to deliver."""
        now = self._clock.now()
        values = {"undelivered": undelivered.to_json(), "tries": 1, "progress_at": now, "updated_at": now}
        with self._database.write() as c:
            change = sa.update(jobs).where(jobs.c.id == job_id, *output_targets.delivers(ticket)).values(values)
            return c.execute(change).rowcount == 1

    def fail(
        self, job_id: str, *, attempt: int | None, error: str, error_code: str, actor: str, ticket: int | None = None
    ) -> bool:
        """Set the job to failed; False if it has another status, attempt or ticket.

        ``attempt``, ``ticket``: None for any. ``error`` may be empty; then ``error_code`` is stored in its place.
        """
        message = storable(error or error_code)  # it may quote a file or another server
        values = {"error": message, "error_code": error_code, "completed_at": self._clock.now()}
        where: tuple[sa.ColumnElement[bool], ...] = () if attempt is None else (jobs.c.attempt == attempt,)
        if ticket is not None:
            where = (*where, jobs.c.ticket == ticket)
        transition = Transition(to=Status.FAILED, actor=actor, reason=error_code, values=values, where=where)
        return self._apply_transition(job_id, transition) is not None

    def release_attempt(self, job_id: str, *, attempt: int, actor: str, reason: str) -> bool:
        """A worker that shuts down gives up this attempt, which then does not count as a try."""
        transition = Transition(
            to=Status.PROCESSING,
            actor=actor,
            reason=reason,
            values={"tries": jobs.c.tries - 1},
            where=(jobs.c.attempt == attempt, jobs.c.status == Status.PROCESSING),
        )
        return self._apply_transition(job_id, transition) is not None

    def queue_fetch(self, job_id: str, *, ticket: int, actor: str) -> bool:
        """Pending or processing with this ticket -> processing, and enqueue the fetch of its files."""
        now = self._clock.now()
        values = {
            "ticket": ticket + 1,
            "started_at": sa.func.coalesce(jobs.c.started_at, sa.literal(now, jobs.c.started_at.type)),
            "progress_at": now,
        }
        reason, where = "its files are fetched first", (jobs.c.ticket == ticket,)
        transition = Transition(to=Status.PROCESSING, actor=actor, reason=reason, values=values, where=where)
        return self._apply_transition(job_id, transition, step=Step.FETCH) is not None

    def begin_fetch(self, job_id: str, *, ticket: int, actor: str) -> Job | None:
        """Count a try to fetch the job's files; None unless it is processing with this ticket."""
        values = {"tries": jobs.c.tries + 1, "progress_at": self._clock.now()}
        where = (jobs.c.ticket == ticket, jobs.c.status == Status.PROCESSING)
        transition = Transition(to=Status.PROCESSING, actor=actor, reason="fetch began", values=values, where=where)
        return self._apply_transition(job_id, transition)

    def queue_fetched(self, job_id: str, *, ticket: int, actor: str) -> bool:
        """The job's files are in the store: enqueue it to run, with its tries reset."""
        values = {"ticket": ticket + 1, "tries": 0, "progress_at": self._clock.now()}
        where = (jobs.c.ticket == ticket, jobs.c.status == Status.PROCESSING)
        transition = Transition(
            to=Status.PROCESSING, actor=actor, reason="its files were fetched", values=values, where=where
        )
        return self._apply_transition(job_id, transition, step=Step.RUN_FETCHED) is not None

    def uncount_try(self, job_id: str, *, ticket: int) -> None:
        """Take back a try of a fetch or delivery: the worker stops, or the database is down."""
        where = (jobs.c.id == job_id, jobs.c.ticket == ticket, jobs.c.status == Status.PROCESSING, jobs.c.tries > 0)
        with self._database.write() as c:
            c.execute(sa.update(jobs).where(*where).values(tries=jobs.c.tries - 1))

    def reserve_credits(self, job_id: str, *, attempt: int, seconds: float | None, most: float | None) -> bool:
        """Reserve credits for a running job whose duration was unknown at its start; idempotent.

        ``seconds`` None: the duration is still unknown, so the price of ``most`` seconds is reserved, or the whole
        balance if ``most`` is None too. Returns False if the attempt is not the current one. Raises
        InsufficientCredits.
        """
        current = (jobs.c.id == job_id, jobs.c.attempt == attempt, jobs.c.status == Status.PROCESSING)
        with self._database.write() as c:
            row = c.execute(sa.select(jobs).where(*current).with_for_update()).one_or_none()
            if row is not None:
                billing.reserve_late(c, row, seconds, most=most, now=self._clock.now())
        return row is not None

    def admit_waiting(self) -> int:
        """Enqueue waiting jobs for which the limits leave room, and return how many.

        Every transition does this for its own key; this method finds jobs that may start because limits were raised.
        """
        with self._database.read() as c:
            key_ids = keys_with_waiting_jobs(c)
        return sum(map(self._admit, key_ids))

    def _admit(self, key_id: str | None) -> int:
        with self._database.write() as c:
            return self._admission.admit(c, key_id, now=self._clock.now())

    def schedule_leftovers(self, job_id: str) -> None:
        """Schedule the deletion of what the ended job left behind."""
        with self._database.write() as c:
            schedule_deletion(c, (blob_keys.leftovers_of(job_id),), at=self._clock.now())

    def requeue(self, job_id: str, *, ticket: int, actor: str, reason: str, counts: bool = True) -> bool:
        """Enqueue a pending or processing job that has this ticket once more, with the next ticket.

        ``counts``: whether the attempt that gives it back counts as a try.
        """
        now = self._clock.now()
        values: dict[str, Any] = {"ticket": ticket + 1, "progress_at": now, "updated_at": now, "admitted_at": now}
        if not counts:
            values["tries"] = sa.case((jobs.c.tries > 0, jobs.c.tries - 1), else_=0)
        change = sa.update(jobs).where(*_holds_ticket(job_id, ticket)).values(values)
        with self._database.write() as c:
            row = c.execute(change.returning(jobs)).one_or_none()
            if row is None:
                return False
            transition = Transition(to=Status(row.status), actor=actor, reason=reason)
            append_event(c, job_id, transition.to, transition, now=now)
            self._enqueue(c, job_id, row.ticket, Step.RUN, row.key_id)
        self._after_commit(job_id, transition)
        return True

    def _apply_transition(
        self,
        job_id: str,
        transition: Transition,
        *,
        output_bytes: int = 0,
        step: Step | None = None,
        revised: Mapping[str, Any] | None = None,
    ) -> Job | None:
        """``output_bytes``: size of the output that the transition adds. ``step``: what to enqueue with it.

        ``revised``: files that become those of the job that a correction belongs to.

        Raises StorageQuotaExceeded, StorageFull.
        """
        with self._database.write() as c:
            if output_bytes:
                lock_storage(c)
            row = apply_transition(c, job_id, transition, now=self._clock.now())
            if row is not None:
                if output_bytes:
                    self._storage.check(c, row.key_id, 0)
                if revised is not None and row.kind == Kind.CORRECTION:
                    exports.revise(c, row, revised)
                row = output_targets.end_delivery(c, set_expiry(c, row))
                add_webhook(c, row, now=row.updated_at)
                self._admission.admit(c, row.key_id, now=row.updated_at)
                if step is not None:
                    self._enqueue(c, job_id, row.ticket, step, row.key_id)
        if row is None:
            return None
        self._after_commit(job_id, transition)
        return mapping.job_from_row(row)

    def _after_commit(self, job_id: str, transition: Transition) -> None:
        """The queue changed, so cached positions are stale; and write the transition to the process log."""
        self._positions.forget()
        log_transition(job_id, transition)


def _holds_ticket(job_id: str, ticket: int) -> tuple[sa.ColumnElement[bool], ...]:
    return (jobs.c.id == job_id, jobs.c.ticket == ticket, jobs.c.status.in_(UNFINISHED))
