"""Webhook deliveries: written in the transaction of the job's transition, claimed with a lease when they are due."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from alphareel.db import mapping
from alphareel.db.database import Database
from alphareel.db.prepared import PreparedSelect
from alphareel.db.tables import jobs, keys, webhooks
from alphareel.domain.fields import storable
from alphareel.service.jobs.models import Status
from alphareel.service.ports import Clock
from alphareel.service.webhooks.events import (
    BLOCKING_ATTEMPTS,
    EVENTS,
    Attempt,
    ClaimedDelivery,
    DueDelivery,
    State,
    Webhook,
    make_webhook_id,
    next_state,
)

_OPEN = (State.PENDING, State.SENDING)
_KEPT_ATTEMPTS = 30


class WebhookStore:
    """Webhook deliveries and their attempts. A claimed delivery belongs to its claimer until the lease ends."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def due(self, *, limit: int, hosts: Collection[str] = (), clients: Collection[str] = ()) -> tuple[DueDelivery, ...]:
        """Due deliveries, longest overdue first, except those to ``hosts`` or on behalf of ``clients``."""
        client = sa.func.coalesce(keys.c.client_id, "")
        owned = webhooks.join(jobs, jobs.c.id == webhooks.c.job_id).outerjoin(keys, keys.c.id == jobs.c.key_id)
        ready = sa.select(webhooks.c.id, webhooks.c.host, client.label("client")).select_from(owned)
        where = (*_is_due(self._clock.now()), webhooks.c.host.not_in(list(hosts)), client.not_in(list(clients)))
        with self._database.read() as c:
            rows = c.execute(ready.where(*where).order_by(webhooks.c.due_at, webhooks.c.number).limit(limit))
            return tuple(DueDelivery(row.id, row.host, row.client) for row in rows)

    def claim(self, webhook_id: str, *, lease: timedelta) -> ClaimedDelivery | None:
        """Claim a delivery for ``lease`` and count a try; None if it is not due or an earlier event has to go first."""
        now = self._clock.now()
        with self._database.write() as c:
            _lock_job(c, webhook_id)
            change = sa.update(webhooks).where(webhooks.c.id == webhook_id, *_is_due(now))
            values = {"state": State.SENDING, "tries": webhooks.c.tries + 1, "due_at": now + lease}
            row = c.execute(change.values(values).returning(webhooks)).one_or_none()
            if row is None:
                return None
            events = events_by_job(c, [row.job_id], webhooks.c.number <= row.number)[row.job_id]
        return ClaimedDelivery(_webhook(row), mapping.job_from_snapshot(row.job, webhook_events=events))

    def settle(self, webhook_id: str, *, tries: int, attempt: Attempt) -> bool:
        """Record how this try ended and schedule the next one.

        Returns False if the delivery was deleted or the lease ended and another worker claimed it.
        """
        now = self._clock.now()
        where = (webhooks.c.id == webhook_id, webhooks.c.state == State.SENDING, webhooks.c.tries == tries)
        state, wait = next_state(tries, attempt)
        with self._database.write() as c:
            row = c.execute(sa.select(webhooks).where(*where).with_for_update()).one_or_none()
            if row is None:
                return False
            values = {
                "state": state,
                "due_at": now + wait,
                "attempts": [*row.attempts, _attempt_values(attempt)][-_KEPT_ATTEMPTS:],
                "sent_at": now if state is State.SENT else row.sent_at,
            }
            c.execute(sa.update(webhooks).where(webhooks.c.id == webhook_id).values(values))
            if state is State.SENT:
                _fail_outdated(c, row)
        return True

    def reschedule(self, *, lease: timedelta) -> int:
        """Bring forward deliveries that were scheduled by a clock that was set back since; return how many.

        Their delays count from now on. ``lease``: the longest time for which a delivery is claimed.
        """
        now = self._clock.now()
        late = sa.select(webhooks).where(webhooks.c.state.in_(_OPEN), webhooks.c.due_at > now)
        with self._database.read() as c:
            due = [(row, _due_after_step(row, now=now, lease=lease)) for row in c.execute(late)]
        moved = [(row, due_at) for row, due_at in due if due_at != row.due_at]
        if moved:
            with self._database.write() as c:
                for row, due_at in moved:
                    same = (webhooks.c.id == row.id, webhooks.c.state == row.state, webhooks.c.due_at == row.due_at)
                    c.execute(sa.update(webhooks).where(*same).values(due_at=due_at))
        return len(moved)

    def webhooks(self, job_id: str) -> tuple[Webhook, ...]:
        """The deliveries of a job, in the order of their events."""
        ordered = sa.select(webhooks).where(webhooks.c.job_id == job_id).order_by(webhooks.c.number)
        with self._database.read() as c:
            return tuple(map(_webhook, c.execute(ordered)))

    def resend(self, job_id: str, webhook_id: str) -> Webhook | None:
        """Make a delivery due now, with all its tries left; None if there is no such delivery."""
        mine = (webhooks.c.id == webhook_id, webhooks.c.job_id == job_id)
        idle = sa.update(webhooks).where(*mine, webhooks.c.state != State.SENDING)
        with self._database.write() as c:
            c.execute(idle.values(state=State.PENDING, tries=0, due_at=self._clock.now()))
            row = c.execute(sa.select(webhooks).where(*mine)).one_or_none()
        return _webhook(row) if row is not None else None


def _due_after_step(row: sa.Row[Any], *, now: datetime, lease: timedelta) -> datetime:
    """When an open delivery is due by a clock that may have been set back since it was scheduled."""
    due_at: datetime = row.due_at
    if row.state == State.SENDING:
        return min(due_at, now + lease)
    scheduled_at = max([row.created_at, *(_attempt(stored).at for stored in row.attempts)])
    return now + (due_at - scheduled_at) if scheduled_at > now else due_at


def add_webhook(c: sa.Connection, row: sa.Row[Any], *, now: datetime) -> None:
    """Add the delivery of the event for the job's new status, in the transaction of the transition; once a run."""
    event = EVENTS.get(Status(row.status))
    if event is None or row.webhook_url is None:
        return
    mine = webhooks.c.job_id == row.id
    last = c.execute(sa.select(sa.func.coalesce(sa.func.max(webhooks.c.number), 0)).where(mine)).scalar_one()
    if c.execute(sa.select(webhooks.c.id).where(mine, webhooks.c.run == row.run, webhooks.c.event == event)).first():
        return
    values = {
        "id": make_webhook_id(),
        "job_id": row.id,
        "number": last + 1,
        "run": row.run,
        "event": event,
        "url": row.webhook_url,
        "host": urlsplit(row.webhook_url).netloc[:300].lower(),
        "state": State.PENDING,
        "tries": 0,
        "due_at": now,
        "created_at": now,
        "job": mapping.snapshot(row),
        "attempts": [],
    }
    c.execute(sa.insert(webhooks).values(values))


_COLUMNS = (webhooks.c.job_id, webhooks.c.event, webhooks.c.state)
_EVENTS = (
    sa.select(*_COLUMNS)
    .where(webhooks.c.job_id.in_(sa.bindparam("job_ids", expanding=True)))
    .order_by(webhooks.c.number)
)
_EVENTS_OF_JOB = PreparedSelect(  # clients that poll run it all the time
    sa.select(*_COLUMNS).where(webhooks.c.job_id == sa.bindparam("job_id")).order_by(webhooks.c.number)
)


def events_by_job(
    c: sa.Connection, job_ids: Sequence[str], *where: sa.ColumnElement[bool]
) -> Mapping[str, dict[str, str]]:
    """For each job: the state (pending, sent or failed) of the newest delivery of each event."""
    events: dict[str, dict[str, str]] = {job_id: {} for job_id in job_ids}
    rows: Iterable[Any]
    if len(job_ids) == 1 and not where:
        rows = _EVENTS_OF_JOB.rows(c, job_id=job_ids[0])
    else:
        rows = c.execute(_EVENTS.where(*where), {"job_ids": list(job_ids)})
    for row in rows:
        events[row.job_id][row.event] = State.PENDING.value if row.state in _OPEN else row.state
    return events


def _is_due(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    """Due, with no other delivery of its job in flight and no earlier one that has to go first."""
    other = webhooks.alias("other")
    sibling = sa.and_(other.c.job_id == webhooks.c.job_id, other.c.id != webhooks.c.id)
    in_flight = sa.and_(other.c.state == State.SENDING, other.c.due_at > now)
    first = sa.and_(other.c.number < webhooks.c.number, other.c.state.in_(_OPEN), other.c.tries < BLOCKING_ATTEMPTS)
    blocked = sa.exists().where(sibling, sa.or_(in_flight, first)).correlate(webhooks)
    return (webhooks.c.state.in_(_OPEN), webhooks.c.due_at <= now, ~blocked)


def _lock_job(c: sa.Connection, webhook_id: str) -> None:
    """Lock the job's row, so that two deliveries of one job are never claimed at once on PostgreSQL."""
    job_id = sa.select(webhooks.c.job_id).where(webhooks.c.id == webhook_id).scalar_subquery()
    c.execute(sa.select(jobs.c.id).where(jobs.c.id == job_id).with_for_update())


def _fail_outdated(c: sa.Connection, row: sa.Row[Any]) -> None:
    """After a delivery, fail earlier ones that already failed once: the receiver must not get older news later."""
    earlier = (webhooks.c.job_id == row.job_id, webhooks.c.number < row.number, webhooks.c.state.in_(_OPEN))
    c.execute(sa.update(webhooks).where(*earlier, webhooks.c.tries > 0).values(state=State.FAILED))


def _webhook(row: sa.Row[Any]) -> Webhook:
    values = dict(row._mapping)  # noqa: SLF001
    del values["job"], values["host"]
    values["state"] = State(values["state"])
    values["attempts"] = tuple(_attempt(stored) for stored in values["attempts"])
    return Webhook(**values)


def _attempt(stored: Mapping[str, Any]) -> Attempt:
    return Attempt(**{**stored, "at": datetime.fromisoformat(stored["at"])})


def _attempt_values(attempt: Attempt) -> dict[str, Any]:
    error = None if attempt.error is None else storable(attempt.error)  # it may quote the receiver's response
    return {**asdict(attempt), "at": attempt.at.isoformat(), "error": error}
