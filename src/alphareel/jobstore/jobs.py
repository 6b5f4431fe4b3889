"""The jobs' table behind the JobStore port: every transition is a compare-and-set that leaves an audit row."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel import traces
from alphareel.domain.clip import EngineFacts
from alphareel.domain.fields import storable
from alphareel.domain.options import Options, to_json
from alphareel.jobs.admission import QueueLimits
from alphareel.jobs.credits import Bill
from alphareel.jobs.job import Billing, Job, JobEvent, Output, Status, Step
from alphareel.jobs.ports import Clock, NewJob, Page
from alphareel.jobs.repeats import Once
from alphareel.jobstore import billing, repeats, rows
from alphareel.jobstore.admissions import Admissions, Enqueue, keys_that_wait
from alphareel.jobstore.database import Database
from alphareel.jobstore.expirations import note_expiry
from alphareel.jobstore.line import Outlook
from alphareel.jobstore.migrate import is_current
from alphareel.jobstore.removals import note_uploads
from alphareel.jobstore.stock import Stock, hold_storage
from alphareel.jobstore.tables import job_events, jobs
from alphareel.jobstore.transitions import Move, announce, apply, record
from alphareel.jobstore.webhooks import events_of, note_webhook

_RUNNABLE = (Status.PENDING, Status.PROCESSING)


class Jobs:
    """JobStore on our tables. ``enqueue`` joins the transaction that hands a job to the engine."""

    def __init__(
        self,
        database: Database,
        *,
        enqueue: Enqueue,
        clock: Clock,
        limits: QueueLimits | None = None,
        stock: Stock | None = None,
    ) -> None:
        self._database = database
        self._stock = stock or Stock(database)
        self._enqueue = enqueue
        self._admissions = Admissions(enqueue, limits or QueueLimits())
        self._clock = clock
        self._outlook = Outlook()

    def add_job(self, new: NewJob, *, start: bool, actor: str, once: Once | None = None) -> Job:
        now = self._clock.now()
        status = Status.PENDING if start else Status.CREATED
        with self._database.write() as c:
            repeats.take(c, once, now=now)
            if start:
                self._stock.check(c, new.key_id, 1)
            row = c.execute(sa.insert(jobs).values(_new_row(new, status, now=now)).returning(jobs)).one()
            move = Move(to=status, actor=actor, request_id=new.request_id, reason="started" if start else "created")
            record(c, new.id, None, move, now=now)
            note_uploads(c, new.id, new.uploads)
            if start:
                row = row if new.bill is None else billing.agree(c, row, new.bill, now=now)
                self._admissions.join(c, row, now=now)
            job = self._in_full(c, [row])[0]
            repeats.keep(c, once, job)
        self._announce(new.id, move)
        return job

    def start_job(
        self,
        job_id: str,
        *,
        options: Options,
        webhook_url: str | None,
        warnings: tuple[str, ...],
        video_url: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        uploads: tuple[str, ...] = (),
        retention_seconds: int | None = None,
        test: Mapping[str, Any] | None = None,
        actor: str,
        request_id: str | None,
        bill: Bill | None = None,
        once: Once | None = None,
    ) -> Job | None:
        now = self._clock.now()
        values = _fresh_run() | {
            "queued_at": now,
            "traceparent": traces.here(),
            "options": to_json(options),
            "webhook_url": webhook_url,
            "warnings": list(warnings),
            "retention_seconds": retention_seconds,
            "test": test,
            "run": jobs.c.run + 1,
            "ticket": jobs.c.ticket + 1,
        }
        given = {"video_url": video_url, "metadata": metadata}
        values |= {name: value for name, value in given.items() if value is not None}
        move = Move(to=Status.PENDING, actor=actor, request_id=request_id, reason="started", values=values, bill=bill)
        with self._database.write() as c:
            repeats.take(c, once, now=now)
            row = apply(c, job_id, move, now=now)
            if row is None:
                repeats.let_go(c, once)
                return None
            self._stock.check(c, row.key_id, 1)
            note_uploads(c, job_id, uploads)
            self._admissions.join(c, row, now=now)
            job = self._in_full(c, [row])[0]
            repeats.keep(c, once, job)
        self._announce(job_id, move)
        return job

    def job(self, job_id: str) -> Job | None:
        with self._database.read() as c:
            row = c.execute(sa.select(jobs).where(jobs.c.id == job_id, jobs.c.deleted_at.is_(None))).one_or_none()
            return self._in_full(c, [row])[0] if row is not None else None

    def jobs(
        self,
        key_id: str | None,
        *,
        others: tuple[str, ...] = (),
        statuses: tuple[Status, ...] | None,
        limit: int,
        offset: int,
    ) -> Page:
        wanted = [jobs.c.key_id.in_((key_id, *others)) if key_id is not None else jobs.c.key_id.is_(None)]
        wanted.append(jobs.c.deleted_at.is_(None))
        if statuses is not None:
            wanted.append(jobs.c.status.in_(statuses))
        newest = sa.select(jobs).where(*wanted).order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
        with self._database.read() as c:
            total = c.execute(sa.select(sa.func.count()).select_from(jobs).where(*wanted)).scalar_one()
            found = c.execute(newest.limit(limit).offset(offset)).all()
            return Page(self._in_full(c, found), total)

    def events(self, job_id: str) -> tuple[JobEvent, ...]:
        ordered = sa.select(job_events).where(job_events.c.job_id == job_id).order_by(job_events.c.sequence)
        with self._database.read() as c:
            return tuple(map(rows.event, c.execute(ordered)))

    def begin_attempt(self, job_id: str, *, ticket: int, actor: str) -> Job | None:
        now = self._clock.now()
        values = {
            "attempt": jobs.c.attempt + 1,
            "tries": jobs.c.tries + 1,
            "started_at": sa.func.coalesce(jobs.c.started_at, sa.literal(now, jobs.c.started_at.type)),
            "progress_at": now,
            "preview": None,
        }
        move = Move(
            to=Status.PROCESSING, actor=actor, reason="attempt began", values=values, where=(jobs.c.ticket == ticket,)
        )
        return self._job_after(job_id, move)

    def set_progress(self, job_id: str, *, attempt: int, progress: float, preview: str | None = None) -> bool:
        now = self._clock.now()
        highest = sa.case((jobs.c.progress < progress, progress), else_=jobs.c.progress)
        change = (
            sa.update(jobs)
            .where(jobs.c.id == job_id, jobs.c.attempt == attempt, jobs.c.status == Status.PROCESSING)
            .values(progress=highest, progress_at=now, updated_at=now, preview=preview or jobs.c.preview)
        )
        with self._database.write() as c:
            return c.execute(change).rowcount == 1

    def reset_tries(self, job_id: str, *, ticket: int) -> None:
        held = (jobs.c.id == job_id, jobs.c.ticket == ticket, jobs.c.status == Status.PROCESSING, jobs.c.tries > 1)
        with self._database.write() as c:
            c.execute(sa.update(jobs).where(*held).values(tries=1))

    def complete(
        self,
        job_id: str,
        *,
        attempt: int,
        output: Output,
        engine: EngineFacts,
        warnings: tuple[str, ...],
        actor: str,
    ) -> bool:
        values = {
            "output": asdict(output),
            "stored_bytes": output.bytes,
            "engine": asdict(engine),
            "warnings": list(warnings),
            "progress": 100.0,
            "completed_at": self._clock.now(),
        }
        move = Move(
            to=Status.COMPLETED, actor=actor, reason="completed", values=values, where=(jobs.c.attempt == attempt,)
        )
        return self._job_after(job_id, move, adds=output.bytes) is not None

    def fail(
        self, job_id: str, *, attempt: int | None, error: str, error_code: str, actor: str, ticket: int | None = None
    ) -> bool:
        told = storable(error or error_code)  # it may quote what a file or a foreign server said
        values = {"error": told, "error_code": error_code, "completed_at": self._clock.now()}
        where: tuple[sa.ColumnElement[bool], ...] = () if attempt is None else (jobs.c.attempt == attempt,)
        if ticket is not None:
            where = (*where, jobs.c.ticket == ticket)
        move = Move(to=Status.FAILED, actor=actor, reason=error_code, values=values, where=where)
        return self._job_after(job_id, move) is not None

    def hand_back(self, job_id: str, *, attempt: int, actor: str, reason: str) -> bool:
        move = Move(
            to=Status.PROCESSING,
            actor=actor,
            reason=reason,
            values={"tries": jobs.c.tries - 1},
            where=(jobs.c.attempt == attempt, jobs.c.status == Status.PROCESSING),
        )
        return self._job_after(job_id, move) is not None

    def queue_fetch(self, job_id: str, *, ticket: int, actor: str) -> bool:
        now = self._clock.now()
        values = {
            "ticket": ticket + 1,
            "started_at": sa.func.coalesce(jobs.c.started_at, sa.literal(now, jobs.c.started_at.type)),
            "progress_at": now,
        }
        reason, held = "its files are fetched first", (jobs.c.ticket == ticket,)
        move = Move(to=Status.PROCESSING, actor=actor, reason=reason, values=values, where=held)
        return self._job_after(job_id, move, step=Step.FETCH) is not None

    def begin_fetch(self, job_id: str, *, ticket: int, actor: str) -> Job | None:
        values = {"tries": jobs.c.tries + 1, "progress_at": self._clock.now()}
        held = (jobs.c.ticket == ticket, jobs.c.status == Status.PROCESSING)
        move = Move(to=Status.PROCESSING, actor=actor, reason="fetch began", values=values, where=held)
        return self._job_after(job_id, move)

    def queue_fetched(self, job_id: str, *, ticket: int, actor: str) -> bool:
        values = {"ticket": ticket + 1, "tries": 0, "progress_at": self._clock.now()}
        held = (jobs.c.ticket == ticket, jobs.c.status == Status.PROCESSING)
        move = Move(to=Status.PROCESSING, actor=actor, reason="its files were fetched", values=values, where=held)
        return self._job_after(job_id, move, step=Step.RUN_FETCHED) is not None

    def leave_fetch(self, job_id: str, *, ticket: int) -> None:
        held = (jobs.c.id == job_id, jobs.c.ticket == ticket, jobs.c.status == Status.PROCESSING, jobs.c.tries > 0)
        with self._database.write() as c:
            c.execute(sa.update(jobs).where(*held).values(tries=jobs.c.tries - 1))

    def reserve_credits(self, job_id: str, *, attempt: int, seconds: float | None, most: float | None) -> bool:
        current = (jobs.c.id == job_id, jobs.c.attempt == attempt, jobs.c.status == Status.PROCESSING)
        with self._database.write() as c:
            row = c.execute(sa.select(jobs).where(*current).with_for_update()).one_or_none()
            if row is not None:
                billing.reserve_late(c, row, seconds, most=most, now=self._clock.now())
        return row is not None

    def unfinished(self) -> tuple[Job, ...]:
        with self._database.read() as c:
            held = (jobs.c.status.in_(_RUNNABLE), jobs.c.admitted_at.is_not(None), jobs.c.test.is_(None))
            return tuple(map(rows.job, c.execute(sa.select(jobs).where(*held))))

    def rehearsing(self) -> tuple[Job, ...]:
        with self._database.read() as c:
            held = (jobs.c.status.in_(_RUNNABLE), jobs.c.test.is_not(None))
            return tuple(map(rows.job, c.execute(sa.select(jobs).where(*held))))

    def admit_waiting(self) -> int:
        with self._database.read() as c:
            waiting = keys_that_wait(c)
        return sum(map(self._admit, waiting))

    def _admit(self, key_id: str | None) -> int:
        with self._database.write() as c:
            return self._admissions.admit(c, key_id, now=self._clock.now())

    def requeue(self, job_id: str, *, ticket: int, actor: str, reason: str) -> bool:
        now = self._clock.now()
        held = (jobs.c.id == job_id, jobs.c.ticket == ticket, jobs.c.status.in_(_RUNNABLE))
        values = {"ticket": ticket + 1, "progress_at": now, "updated_at": now, "admitted_at": now}
        change = sa.update(jobs).where(*held).values(values)
        with self._database.write() as c:
            row = c.execute(change.returning(jobs)).one_or_none()
            if row is None:
                return False
            move = Move(to=Status(row.status), actor=actor, reason=reason)
            record(c, job_id, move.to, move, now=now)
            self._enqueue(c, job_id, row.ticket, Step.RUN, row.key_id)
        self._announce(job_id, move)
        return True

    def is_ready(self) -> bool:
        return is_current(self._database)

    def _job_after(self, job_id: str, move: Move, *, adds: int = 0, step: Step | None = None) -> Job | None:
        """``adds``: bytes of a result that the move delivers, if they fit. ``step``: what is enqueued with it."""
        with self._database.write() as c:
            if adds:
                hold_storage(c)
            row = apply(c, job_id, move, now=self._clock.now())
            if row is not None:
                if adds:
                    self._stock.check(c, row.key_id, 0)
                row = note_expiry(c, row)
                note_webhook(c, row, now=row.updated_at)
                self._admissions.admit(c, row.key_id, now=row.updated_at)
                if step is not None:
                    self._enqueue(c, job_id, row.ticket, step, row.key_id)
        if row is None:
            return None
        self._announce(job_id, move)
        return rows.job(row)

    def _announce(self, job_id: str, move: Move) -> None:
        self._outlook.forget()
        announce(job_id, move)

    def _in_full(self, c: sa.Connection, found: Sequence[sa.Row[Any]]) -> tuple[Job, ...]:
        """With what other rows tell of each job."""
        told, places = events_of(c, [row.id for row in found]), self._outlook.positions(c, found)
        return tuple(
            replace(rows.job(row), webhook_events=told[row.id], queue_position=places.get(row.id)) for row in found
        )


def _fresh_run() -> dict[str, Any]:
    gone = (
        "started_at",
        "completed_at",
        "progress_at",
        "output",
        "engine",
        "error",
        "error_code",
        "price",
        "pricing_version",
        "files_expire_at",
        "files_expired_at",
        "admitted_at",
        "preview",
    )
    return {"progress": 0.0, "billing_status": Billing.NOT_BILLED, "credits": 0, "tries": 0, **dict.fromkeys(gone)}


def _new_row(new: NewJob, status: Status, *, now: datetime) -> dict[str, Any]:
    handed_over = 1 if status is Status.PENDING else 0
    return _fresh_run() | {
        "id": new.id,
        "key_id": new.key_id,
        "status": status,
        "options": to_json(new.options),
        "video_url": new.video_url,
        "webhook_url": new.webhook_url,
        "metadata": new.metadata,
        "queued_at": now if handed_over else None,
        "run": handed_over,
        "ticket": handed_over,
        "attempt": 0,
        "created_at": now,
        "updated_at": now,
        "warnings": list(new.warnings),
        "retention_seconds": new.retention_seconds,
        "test": new.test,
        "request_id": new.request_id,
        "traceparent": traces.here(),
    }
