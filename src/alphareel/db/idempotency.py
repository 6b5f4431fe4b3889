"""Idempotency keys and stored responses: for uploads (``IdempotencyStore``), and in transactions that create jobs."""

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

_BATCH = 500  # reservations that one statement renews


class IdempotencyStore:
    """Idempotency keys and responses of the last 24 hours. Every method is one transaction."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._tokens: set[str] = set()  # of reservations that this process holds
        self._lock = threading.Lock()

    def lookup(self, once: IdempotentRequest) -> None:
        """Raise ReplayedResponse, IdempotencyConflict or IdempotencyInProgress if the key is known; else do nothing."""
        fresh = sa.select(idempotency).where(_matches(once.key_id, once.name), _is_fresh(self._clock.now()))
        with self._database.read() as c:
            row = c.execute(fresh).one_or_none()
        if row is not None:
            raise _outcome(row, once, now=self._clock.now())

    def record(self, once: IdempotentRequest | None, job: Job) -> None:
        """Store the response of a request that had nothing to do, because ``job`` is what it asked for.

        So a repetition does nothing either, even if the job has ended since. Raises like ``lookup``.
        """
        if once is not None:
            with self._database.write() as c:
                reserve_key(c, once, now=self._clock.now())
                store_response(c, once, job)

    def reserve(self, key_id: str, name: str) -> Reservation:
        """Reserve the key for an upload. Raises IdempotencyInProgress while another request holds it."""
        reservation = self._reserve(key_id, name)
        if reservation.answer is None:
            with self._lock:
                self._tokens.add(reservation.token)
        return reservation

    def _reserve(self, key_id: str, name: str) -> Reservation:
        now, token = self._clock.now(), uuid.uuid4().hex
        with self._database.write() as c:
            if _insert(c, key_id, name, {"claim": token}, now=now):
                return Reservation(key_id, name, token)
            row = c.execute(sa.select(idempotency).where(_matches(key_id, name)).with_for_update()).one_or_none()
            if row is None:
                raise in_progress()
            if row.claim is not None and row.created_at > now - LEASE:
                raise in_progress(row.created_at + LEASE - now)
            if row.claim is None:
                return Reservation(key_id, name, token, answer=(row.fingerprint, row.body))
            c.execute(sa.update(idempotency).where(_matches(key_id, name)).values(claim=token, created_at=now))
            return Reservation(key_id, name, token)

    def store(self, reservation: Reservation, *, fingerprint: str, body: str) -> None:
        """Store the response, unless the lease ended and another request took the key."""
        self._drop_token(reservation)
        values = {"claim": None, "fingerprint": fingerprint, "status": 200, "body": body}
        with self._database.write() as c:
            c.execute(sa.update(idempotency).where(*_is_ours(reservation)).values(values))

    def release(self, reservation: Reservation) -> None:
        """Free the key: the upload did not take place."""
        self._drop_token(reservation)
        with self._database.write() as c:
            c.execute(sa.delete(idempotency).where(*_is_ours(reservation)))

    def renew(self) -> None:
        """Extend the leases of all keys that this process has reserved and neither stored nor released."""
        with self._lock:
            tokens = sorted(self._tokens)
        for start in range(0, len(tokens), _BATCH):
            mine = idempotency.c.claim.in_(tokens[start : start + _BATCH])
            with self._database.write() as c:
                c.execute(sa.update(idempotency).where(mine).values(created_at=self._clock.now()))

    def _drop_token(self, reservation: Reservation) -> None:
        with self._lock:
            self._tokens.discard(reservation.token)

    def sweep_idempotency_keys(self) -> None:
        """Delete keys older than 24 hours."""
        with self._database.write() as c:
            c.execute(sa.delete(idempotency).where(~_is_fresh(self._clock.now())))


def reserve_key(c: sa.Connection, once: IdempotentRequest | None, *, now: datetime) -> None:
    """Reserve the key in this transaction. Another request with the same key waits until it ends.

    Raises ReplayedResponse, IdempotencyConflict, IdempotencyInProgress.
    """
    if once is None or _insert(c, once.key_id, once.name, {"fingerprint": once.fingerprint}, now=now):
        return
    row = c.execute(sa.select(idempotency).where(_matches(once.key_id, once.name))).one_or_none()
    raise in_progress() if row is None else _outcome(row, once, now=now)


def store_response(c: sa.Connection, once: IdempotentRequest | None, job: Job) -> None:
    """Store the response for ``job`` in the transaction that created or started it."""
    if once is not None:
        values = {"status": 200, "body": once.render(job)}
        c.execute(sa.update(idempotency).where(_matches(once.key_id, once.name)).values(values))


def release_key(c: sa.Connection, once: IdempotentRequest | None) -> None:
    """Free the key: the transaction did nothing."""
    if once is not None:
        c.execute(sa.delete(idempotency).where(_matches(once.key_id, once.name)))


def _insert(c: sa.Connection, key_id: str, name: str, values: dict[str, Any], *, now: datetime) -> bool:
    """Insert a row; False if the key is taken. A key older than 24 hours is free."""
    c.execute(sa.delete(idempotency).where(_matches(key_id, name), ~_is_fresh(now)))
    insert: Any = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}[c.dialect.name]
    row = {"key_id": key_id, "name": name, "created_at": now, **values}
    statement = insert(idempotency).values(row).on_conflict_do_nothing().returning(idempotency.c.name)
    return c.execute(statement).one_or_none() is not None


def _outcome(row: sa.Row[Any], once: IdempotentRequest, *, now: datetime) -> Exception:
    if row.claim is not None:
        return in_progress(row.created_at + LEASE - now)
    return answer_to(once.fingerprint, row.fingerprint, row.body)


def _matches(key_id: str, name: str) -> sa.ColumnElement[bool]:
    return (idempotency.c.key_id == key_id) & (idempotency.c.name == name)


def _is_ours(reservation: Reservation) -> tuple[sa.ColumnElement[bool], ...]:
    return (_matches(reservation.key_id, reservation.name), idempotency.c.claim == reservation.token)


def _is_fresh(now: datetime) -> sa.ColumnElement[bool]:
    return idempotency.c.created_at > now - KEPT
