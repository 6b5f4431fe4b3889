"""Runners, and the tasks that worker processes lease to them."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from alphareel.db.api_keys import record_admin_event
from alphareel.db.database import Database
from alphareel.db.tables import executors, jobs, runner_tasks, runners
from alphareel.service.api_keys.models import AuditContext
from alphareel.service.jobs.models import UNFINISHED
from alphareel.service.ports import Clock
from alphareel.service.runners.models import (
    LIVE,
    MAX_RELEASES,
    LeasedTask,
    ReturnedFile,
    Runner,
    RunnerTask,
    TaskState,
)

_LOOKED_AT = 50  # waiting tasks that one look considers, the oldest first


class RunnerStore:
    """Runners with the SHA-256 of their tokens, and leases.

    A task belongs to the executor that waits for it. Its lease stays when that executor is gone, as long as the job is
    not ended: whoever goes on with the job adopts the task.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add_runner(self, runner: Runner, *, secret_sha256: str, act: AuditContext) -> Runner:
        values = {
            "id": runner.id,
            "name": runner.name,
            "secret_sha256": secret_sha256,
            "created_at": runner.created_at,
            "engines": [],
        }
        with self._database.write() as c:
            row = c.execute(sa.insert(runners).values(values).returning(runners)).one()
            record_admin_event(c, act, subject=runner.id, detail={"name": runner.name}, clock=self._clock)
        return _runner(row)

    def revoke(self, runner_id: str, *, act: AuditContext) -> Runner | None:
        """End the token and all leases of a runner; None if there is no such runner."""
        now = sa.literal(self._clock.now(), runners.c.revoked_at.type)
        values = {"revoked_at": sa.func.coalesce(runners.c.revoked_at, now), "slots": 0}
        with self._database.write() as c:
            change = sa.update(runners).where(runners.c.id == runner_id).values(values).returning(runners)
            row = c.execute(change).one_or_none()
            if row is None:
                return None
            leased = (runner_tasks.c.runner_id == runner_id, runner_tasks.c.state == TaskState.LEASED)
            c.execute(sa.update(runner_tasks).where(*leased).values(_FREE))
            record_admin_event(c, act, subject=runner_id, detail={"name": row.name}, clock=self._clock)
        return _runner(row)

    def runners(self) -> tuple[Runner, ...]:
        """All runners, revoked ones included, oldest first."""
        with self._database.read() as c:
            return tuple(map(_runner, c.execute(sa.select(runners).order_by(runners.c.created_at, runners.c.id))))

    def runner_by_secret(self, secret_sha256: str) -> Runner | None:
        with self._database.read() as c:
            row = c.execute(sa.select(runners).where(runners.c.secret_sha256 == secret_sha256)).one_or_none()
        return None if row is None else _runner(row)

    def note_runner(self, runner_id: str, *, slots: int, engines: Sequence[str], version: str) -> None:
        """Record what a runner reported about itself, and when."""
        values = {"slots": slots, "engines": list(engines), "version": version, "last_seen_at": self._clock.now()}
        living = (runners.c.id == runner_id, runners.c.revoked_at.is_(None))
        with self._database.write() as c:
            c.execute(sa.update(runners).where(*living).values(values))

    def living(self, version: str) -> tuple[Runner, ...]:
        """Runners of this version that reported recently and have slots."""
        now = self._clock.now()
        where = (
            runners.c.revoked_at.is_(None),
            runners.c.slots > 0,
            runners.c.version == version,
            runners.c.last_seen_at > now - LIVE,
            runners.c.last_seen_at < now + LIVE,  # it is later where the clock was set back
        )
        with self._database.read() as c:
            return tuple(map(_runner, c.execute(sa.select(runners).where(*where))))

    def open_tasks(self) -> Mapping[str, int]:
        """How many tasks wait or are leased, by the executor that waits for them."""
        is_open = runner_tasks.c.state != TaskState.ENDED
        counted = sa.select(runner_tasks.c.executor_id, sa.func.count()).where(is_open, _HAS_EXECUTOR)
        with self._database.read() as c:
            return {row[0]: int(row[1]) for row in c.execute(counted.group_by(runner_tasks.c.executor_id))}

    def leased_tasks(self) -> tuple[LeasedTask, ...]:
        """What runners work on, the oldest task first."""
        columns = (runner_tasks.c.runner_id, runner_tasks.c.job_id, runner_tasks.c.engine, runner_tasks.c.progress)
        leased = sa.select(*columns).where(runner_tasks.c.state == TaskState.LEASED, _IS_WANTED)
        with self._database.read() as c:
            rows = c.execute(leased.order_by(runner_tasks.c.created_at, runner_tasks.c.id)).all()
        return tuple(
            LeasedTask(row.runner_id, row.job_id, row.engine, (row.progress or {}).get("share", 0.0)) for row in rows
        )

    def count_task(self, runner_id: str, *, is_done: bool) -> None:
        """Count a task that the runner did, or failed at."""
        column = runners.c.tasks_done if is_done else runners.c.tasks_failed
        with self._database.write() as c:
            c.execute(sa.update(runners).where(runners.c.id == runner_id).values({column: column + 1}))

    def add_task(self, task: RunnerTask) -> None:
        """Let a runner do it. Removes the tasks that nobody waits for any more."""
        values = {**asdict(task), **{name: list(getattr(task, name)) for name in _LISTS}, "files": {}}
        with self._database.write() as c:
            c.execute(sa.delete(runner_tasks).where(~_IS_WANTED))
            c.execute(sa.insert(runner_tasks).values(values))

    def left_tasks(self, job_id: str) -> tuple[RunnerTask, ...]:
        """Tasks of a job that runners hold or have ended, and whose executors are gone. The newest one first."""
        rows = sa.select(runner_tasks).where(runner_tasks.c.job_id == job_id, *_LEFT)
        with self._database.read() as c:
            return tuple(map(_task, c.execute(rows.order_by(runner_tasks.c.created_at.desc(), runner_tasks.c.id))))

    def adopt(self, left: RunnerTask, *, executor_id: str, attempt: int) -> RunnerTask | None:
        """Let another executor wait for one of ``left_tasks``; None when somebody else was faster."""
        # PostgreSQL does not look for the executor again after it waited for another adoption, but compares columns.
        same = (runner_tasks.c.id == left.id, runner_tasks.c.executor_id == left.executor_id)
        change = sa.update(runner_tasks).where(*same, *_LEFT).values(executor_id=executor_id, attempt=attempt)
        with self._database.write() as c:
            row = c.execute(change.returning(runner_tasks)).one_or_none()
        return None if row is None else _task(row)

    def task(self, task_id: str) -> RunnerTask | None:
        with self._database.read() as c:
            row = c.execute(sa.select(runner_tasks).where(runner_tasks.c.id == task_id)).one_or_none()
        return None if row is None else _task(row)

    def remove_task(self, task_id: str, *, executor_id: str | None = None, only_waiting: bool = False) -> bool:
        """Remove the task. Its runner learns at its next renewal that it is not wanted any more.

        ``executor_id``: only if this one waits for it.
        """
        where = [runner_tasks.c.id == task_id]
        if executor_id is not None:
            where.append(runner_tasks.c.executor_id == executor_id)
        if only_waiting:
            where.append(runner_tasks.c.state == TaskState.WAITING)
        with self._database.write() as c:
            return c.execute(sa.delete(runner_tasks).where(*where)).rowcount == 1

    def take_back(self, task_id: str, *, executor_id: str, lease: str, beat: int) -> bool:
        """Remove a task of this executor whose lease was not renewed since ``beat``."""
        same = (*_held(task_id, lease), runner_tasks.c.executor_id == executor_id, runner_tasks.c.beat == beat)
        with self._database.write() as c:
            return c.execute(sa.delete(runner_tasks).where(*same)).rowcount == 1

    def lease(self, runner: Runner, *, engines: Sequence[str], version: str, slots: int) -> RunnerTask | None:
        """Lease the oldest waiting task that this runner can do; None when there is none, or no slot is free."""
        if not self._waits(engines, version):  # a read, because idle runners ask all the time
            return None
        with self._database.write() as c:
            living = (runners.c.id == runner.id, runners.c.revoked_at.is_(None))
            if c.execute(sa.select(runners.c.id).where(*living).with_for_update()).first() is None:
                return None
            held = (runner_tasks.c.runner_id == runner.id, runner_tasks.c.state == TaskState.LEASED, _HAS_EXECUTOR)
            if c.execute(sa.select(sa.func.count()).select_from(runner_tasks).where(*held)).scalar_one() >= slots:
                return None
            for row in c.execute(_waiting(engines, version)).all():
                if runner.id in row.refused:
                    continue
                values = {"state": TaskState.LEASED, "runner_id": runner.id, "lease": uuid.uuid4().hex}
                free = (runner_tasks.c.id == row.id, runner_tasks.c.state == TaskState.WAITING)
                change = sa.update(runner_tasks).where(*free).values({**_FREE, **values})
                if (taken := c.execute(change.returning(runner_tasks)).one_or_none()) is not None:
                    return _task(taken)
        return None

    def renew(self, runner_id: str, task_id: str, *, lease: str, progress: Mapping[str, Any] | None) -> bool:
        """Keep the lease; False when the runner does not hold it or nobody waits for the task any more."""
        values: dict[str, Any] = {"beat": runner_tasks.c.beat + 1}
        if progress is not None:
            values["progress"] = dict(progress)
        held = (*_held(task_id, lease), runner_tasks.c.runner_id == runner_id, _IS_WANTED)
        seen = sa.update(runners).where(runners.c.id == runner_id, runners.c.revoked_at.is_(None))
        with self._database.write() as c:
            c.execute(seen.values(last_seen_at=self._clock.now()))
            return c.execute(sa.update(runner_tasks).where(*held).values(values)).rowcount == 1

    def leased_task(self, runner_id: str, task_id: str, *, lease: str) -> RunnerTask | None:
        """The task that the runner holds by this lease; None when it does not."""
        task = self.task(task_id)
        if task is None or (task.state, task.runner_id, task.lease) != (TaskState.LEASED, runner_id, lease):
            return None
        return task

    def add_file(self, runner_id: str, task_id: str, *, lease: str, name: str, file: ReturnedFile) -> bool:
        """Record an uploaded file, which counts as a renewal; False when the runner does not hold the lease."""
        held = (*_held(task_id, lease), runner_tasks.c.runner_id == runner_id)
        with self._database.write() as c:
            row = c.execute(sa.select(runner_tasks.c.files).where(*held).with_for_update()).one_or_none()
            if row is None:
                return False
            values = {"files": {**row.files, name: asdict(file)}, "beat": runner_tasks.c.beat + 1}
            c.execute(sa.update(runner_tasks).where(*held).values(values))
        return True

    def set_preview(self, runner_id: str, task_id: str, *, lease: str, preview: ReturnedFile) -> bool:
        """Record a newer preview, which counts as a renewal; False when the runner does not hold the lease."""
        held = (*_held(task_id, lease), runner_tasks.c.runner_id == runner_id)
        values = {"preview": asdict(preview), "beat": runner_tasks.c.beat + 1}
        with self._database.write() as c:
            return c.execute(sa.update(runner_tasks).where(*held).values(values)).rowcount == 1

    def end_task(self, runner_id: str, task_id: str, *, lease: str, outcome: Mapping[str, Any]) -> bool:
        """Record how the task ended; False when the runner does not hold the lease."""
        held = (*_held(task_id, lease), runner_tasks.c.runner_id == runner_id)
        values = {"state": TaskState.ENDED, "outcome": dict(outcome), "beat": runner_tasks.c.beat + 1}
        with self._database.write() as c:
            return c.execute(sa.update(runner_tasks).where(*held).values(values)).rowcount == 1

    def release(self, runner_id: str, task_id: str, *, lease: str) -> bool:
        """Let another runner do the task; False when the runner does not hold the lease.

        A runner that gave the task back MAX_RELEASES times is refused.
        """
        held = (*_held(task_id, lease), runner_tasks.c.runner_id == runner_id)
        columns = (runner_tasks.c.refused, runner_tasks.c.released)
        with self._database.write() as c:
            row = c.execute(sa.select(*columns).where(*held).with_for_update()).one_or_none()
            if row is None:
                return False
            values = {"released": [*row.released, runner_id]}
            if values["released"].count(runner_id) >= MAX_RELEASES:
                values["refused"] = [*row.refused, runner_id]
            c.execute(sa.update(runner_tasks).where(*held).values({**_FREE, **values}))
        return True

    def _waits(self, engines: Sequence[str], version: str) -> bool:
        with self._database.read() as c:
            return c.execute(_waiting(engines, version)).first() is not None


_HAS_EXECUTOR = sa.exists().where(executors.c.id == runner_tasks.c.executor_id)
_IS_WANTED = _HAS_EXECUTOR | sa.exists().where(jobs.c.id == runner_tasks.c.job_id, jobs.c.status.in_(UNFINISHED))
_LEFT = (runner_tasks.c.state != TaskState.WAITING, ~_HAS_EXECUTOR)
_LISTS = ("outputs", "refused", "released")
_FREE: dict[str, Any] = {
    "state": TaskState.WAITING,
    "runner_id": None,
    "lease": None,
    "beat": 0,
    "progress": None,
    "files": {},
    "preview": None,
}


def _waiting(engines: Sequence[str], version: str) -> sa.Select[Any]:
    return (
        sa.select(runner_tasks.c.id, runner_tasks.c.refused)
        .where(
            runner_tasks.c.state == TaskState.WAITING,
            runner_tasks.c.engine.in_(list(engines)),
            runner_tasks.c.version == version,
            _HAS_EXECUTOR,
        )
        .order_by(runner_tasks.c.created_at, runner_tasks.c.id)
        .limit(_LOOKED_AT)
    )


def _held(task_id: str, lease: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (runner_tasks.c.id == task_id, runner_tasks.c.state == TaskState.LEASED, runner_tasks.c.lease == lease)


def _runner(row: sa.Row[Any]) -> Runner:
    values = dict(row._mapping)  # noqa: SLF001
    del values["secret_sha256"]
    return Runner(**{**values, "engines": tuple(values["engines"])})


def _task(row: sa.Row[Any]) -> RunnerTask:
    values = dict(row._mapping)  # noqa: SLF001
    files = {name: ReturnedFile(**stored) for name, stored in values["files"].items()}
    lists = {name: tuple(values[name]) for name in _LISTS}
    preview = None if values["preview"] is None else ReturnedFile(**values["preview"])
    more = {"files": files, "preview": preview, "state": TaskState(values["state"])}
    return RunnerTask(**{**values, **lists, **more})
