"""Clients' credits behind the Accounts port: what operators give and take. What jobs move: billing.py."""

import uuid
from typing import Any

import sqlalchemy as sa

from alphareel.db.api_keys import record
from alphareel.db.database import Database
from alphareel.db.tables import accounts, jobs, keys, ledger
from alphareel.domain.errors import InvalidState, NotFound
from alphareel.service.api_keys.models import AuditContext
from alphareel.service.billing.credits import Account, LedgerEntry
from alphareel.service.jobs.models import Billing
from alphareel.service.ports import Clock


class AccountStore:
    """jobs.credits.Accounts on our tables."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def grant(self, client_id: str, amount: int, *, start_charging: bool = False, act: AuditContext) -> Account:
        with self._database.write() as c:
            _check_known(c, client_id)
            before = _held(c, client_id)
            if before is None and not start_charging:
                raise InvalidState(
                    f"The client {client_id} is unlimited, and a grant would limit it.",
                    hint="Set a balance first, or send start_charging to begin with what is granted.",
                )
            after = (before or 0) + amount
            if after < 0:
                raise InvalidState("The client has fewer credits than that.", hint="Look at the balance, or set it.")
            self._write(c, client_id, after, kind="grant", act=act)
            return _account(c, client_id)

    def set_balance(self, client_id: str, balance: int | None, *, act: AuditContext) -> Account:
        with self._database.write() as c:
            _check_known(c, client_id)
            _held(c, client_id)
            self._write(c, client_id, balance, kind="set", act=act)
            return _account(c, client_id)

    def account(self, client_id: str) -> Account:
        with self._database.read() as c:
            return _account(c, client_id)

    def entries(self, client_id: str, *, limit: int) -> tuple[LedgerEntry, ...]:
        newest = sa.select(ledger).where(ledger.c.client_id == client_id).order_by(ledger.c.at.desc())
        with self._database.read() as c:
            return tuple(LedgerEntry(**row._mapping) for row in c.execute(newest.limit(limit)))  # noqa: SLF001

    def _write(self, c: sa.Connection, client_id: str, balance: int | None, *, kind: str, act: AuditContext) -> None:
        """Write the balance, and into the ledger what makes its sum the balance again."""
        change = (balance or 0) - _written(c, client_id)
        now, name = self._clock.now(), f"{kind}_{uuid.uuid4().hex}"
        values = {"balance": balance, "updated_at": now}
        if c.execute(sa.update(accounts).where(accounts.c.client_id == client_id).values(values)).rowcount == 0:
            c.execute(sa.insert(accounts).values(client_id=client_id, **values))
        row = {"subject": name, "run": 0, "kind": kind, "client_id": client_id, "amount": change, "at": now}
        c.execute(sa.insert(ledger).values(**row, actor=act.actor, request_id=act.request_id))
        record(c, act, subject=client_id, detail={"amount": change, "balance": balance}, clock=self._clock)


def _check_known(c: sa.Connection, client_id: str) -> None:
    if c.execute(sa.select(keys.c.id).where(keys.c.client_id == client_id).limit(1)).first() is None:
        raise NotFound(f"The client {client_id} has no key.", hint="Check the spelling, or create a key for it first.")


def _held(c: sa.Connection, client_id: str) -> int | None:
    """The balance, held until the transaction ends."""
    wanted = sa.select(accounts.c.balance).where(accounts.c.client_id == client_id).with_for_update()
    return c.execute(wanted).scalar_one_or_none()


def _written(c: sa.Connection, client_id: str) -> int:
    total = sa.select(sa.func.coalesce(sa.func.sum(ledger.c.amount), 0)).where(ledger.c.client_id == client_id)
    return int(c.execute(total).scalar_one())


def _account(c: sa.Connection, client_id: str) -> Account:
    balance = c.execute(sa.select(accounts.c.balance).where(accounts.c.client_id == client_id)).scalar_one_or_none()
    total: Any = sa.func.coalesce(sa.func.sum(jobs.c.credits), 0)
    mine = sa.select(total).join(keys, keys.c.id == jobs.c.key_id).where(keys.c.client_id == client_id)
    sums = [
        int(c.execute(mine.where(jobs.c.billing_status == state)).scalar_one())
        for state in (Billing.RESERVED, Billing.CHARGED)
    ]
    return Account(client_id, balance, *sums)
