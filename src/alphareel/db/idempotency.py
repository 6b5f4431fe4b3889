"""Names of requests and their answers, behind the Repeats port and inside the transactions that make jobs."""

import threading
import uuid
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from alphareel.db.database import Database
from alphareel.db.tables import idempotency
from alphareel.service.idempotency import KEPT, LEASE, IdempotentRequest, Reservation, answer_to, in_progress
from alphareel.service.jobs.models import Job
from alphareel.service.ports import Clock

_AT_ONCE = 500  # claims that one statement renews


class IdempotencyStore:
    """jobs.repeats.Repeats on our table."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._held: set[str] = set()  # tokens of claims
        self._lock = threading.Lock()

    def lookup(self, once: IdempotentRequest) -> None:
        known = sa.select(idempotency).where(_is(once.key_id, once.name), _young(self._clock.now()))
        with self._database.read() as c:
            row = c.execute(known).one_or_none()
        if row is not None:
            raise _outcome(row, once, now=self._clock.now())

    def reserve(self, key_id: str, name: str) -> Reservation:
        claim = self._claim(key_id, name)
        if claim.answer is None:
            with self._lock:
                self._held.add(claim.token)
        return claim

    def _claim(self, key_id: str, name: str) -> Reservation:
        now, token = self._clock.now(), uuid.uuid4().hex
        with self._database.write() as c:
            if _insert(c, key_id, name, {"claim": token}, now=now):
                return Reservation(key_id, name, token)
            row = c.execute(sa.select(idempotency).where(_is(key_id, name)).with_for_update()).one_or_none()
            if row is None:
                raise in_progress()
            if row.claim is not None and row.created_at > now - LEASE:
                raise in_progress(row.created_at + LEASE - now)
            if row.claim is None:
                return Reservation(key_id, name, token, answer=(row.fingerprint, row.body))
            c.execute(sa.update(idempotency).where(_is(key_id, name)).values(claim=token, created_at=now))
            return Reservation(key_id, name, token)

    def store(self, claim: Reservation, *, fingerprint: str, body: str) -> None:
        self._let_go(claim)
        values = {"claim": None, "fingerprint": fingerprint, "status": 200, "body": body}
        with self._database.write() as c:
            c.execute(sa.update(idempotency).where(*_held(claim)).values(values))

    def release(self, claim: Reservation) -> None:
        self._let_go(claim)
        with self._database.write() as c:
            c.execute(sa.delete(idempotency).where(*_held(claim)))

    def renew(self) -> None:
        with self._lock:
            held = sorted(self._held)
        for start in range(0, len(held), _AT_ONCE):
            mine = idempotency.c.claim.in_(held[start : start + _AT_ONCE])
            with self._database.write() as c:
                c.execute(sa.update(idempotency).where(mine).values(created_at=self._clock.now()))

    def _let_go(self, claim: Reservation) -> None:
        with self._lock:
            self._held.discard(claim.token)

    def sweep_idempotency_keys(self) -> None:
        with self._database.write() as c:
            c.execute(sa.delete(idempotency).where(~_young(self._clock.now())))


def take(c: sa.Connection, once: IdempotentRequest | None, *, now: datetime) -> None:
    """Take the name for this transaction; whoever else wants it waits for our end.

    Raises Answered, IdempotencyConflict, IdempotencyInProgress.
    """
    if once is None or _insert(c, once.key_id, once.name, {"fingerprint": once.fingerprint}, now=now):
        return
    row = c.execute(sa.select(idempotency).where(_is(once.key_id, once.name))).one_or_none()
    raise in_progress() if row is None else _outcome(row, once, now=now)


def keep(c: sa.Connection, once: IdempotentRequest | None, job: Job) -> None:
    """Keep the answer with what the transaction made."""
    if once is not None:
        values = {"status": 200, "body": once.render(job)}
        c.execute(sa.update(idempotency).where(_is(once.key_id, once.name)).values(values))


def release_key(c: sa.Connection, once: IdempotentRequest | None) -> None:
    """Nothing was done under the name."""
    if once is not None:
        c.execute(sa.delete(idempotency).where(_is(once.key_id, once.name)))


def _insert(c: sa.Connection, key_id: str, name: str, values: dict[str, Any], *, now: datetime) -> bool:
    """Whether the name was free; one that is older than 24 hours is."""
    c.execute(sa.delete(idempotency).where(_is(key_id, name), ~_young(now)))
    insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[c.dialect.name]
    row = {"key_id": key_id, "name": name, "created_at": now, **values}
    made = insert(idempotency).values(row).on_conflict_do_nothing().returning(idempotency.c.name)
    return c.execute(made).one_or_none() is not None


def _outcome(row: sa.Row[Any], once: IdempotentRequest, *, now: datetime) -> Exception:
    if row.claim is not None:
        return in_progress(row.created_at + LEASE - now)
    return answer_to(once.fingerprint, row.fingerprint, row.body)


def _is(key_id: str, name: str) -> sa.ColumnElement[bool]:
    return (idempotency.c.key_id == key_id) & (idempotency.c.name == name)


def _held(claim: Reservation) -> tuple[sa.ColumnElement[bool], ...]:
    return (_is(claim.key_id, claim.name), idempotency.c.claim == claim.token)


def _young(now: datetime) -> sa.ColumnElement[bool]:
    return idempotency.c.created_at > now - KEPT
