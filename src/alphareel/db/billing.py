"""Clients' credits: what operators change (``AccountStore``), and what jobs reserve and settle (the functions).

The functions run in the transaction of a job's transition. Each kind of ledger entry exists at most once a run.
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db.api_keys import record_admin_event
from alphareel.db.database import Database
from alphareel.db.tables import accounts, jobs, keys, ledger
from alphareel.domain.errors import InvalidState, NotFound
from alphareel.service.api_keys.audit import AuditContext
from alphareel.service.billing.credits import (
    Account,
    LedgerEntry,
    Quote,
    cost,
    insufficient,
    key_needed,
    over_budget,
    processed_seconds,
    settled,
)
from alphareel.service.jobs.models import Billing, Status
from alphareel.service.ports import Clock
from alphareel.telemetry.logging import current_context

_COSTS = (Status.PENDING, Status.PROCESSING, Status.COMPLETED)  # failed ones gave back what they held


class AccountStore:
    """jobs.credits.Accounts on our tables."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def grant(self, client_id: str, amount: int, *, start_charging: bool = False, act: AuditContext) -> Account:
        with self._database.write() as c:
            _require_client(c, client_id)
            before = _lock_balance(c, client_id)
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
            _require_client(c, client_id)
            _lock_balance(c, client_id)
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
        change = (balance or 0) - _ledger_sum(c, client_id)
        now, name = self._clock.now(), f"{kind}_{uuid.uuid4().hex}"
        values = {"balance": balance, "updated_at": now}
        if c.execute(sa.update(accounts).where(accounts.c.client_id == client_id).values(values)).rowcount == 0:
            c.execute(sa.insert(accounts).values(client_id=client_id, **values))
        row = {"subject": name, "run": 0, "kind": kind, "client_id": client_id, "amount": change, "at": now}
        c.execute(sa.insert(ledger).values(**row, actor=act.actor, request_id=act.request_id))
        record_admin_event(c, act, subject=client_id, detail={"amount": change, "balance": balance}, clock=self._clock)


def _require_client(c: sa.Connection, client_id: str) -> None:
    if c.execute(sa.select(keys.c.id).where(keys.c.client_id == client_id).limit(1)).first() is None:
        raise NotFound(f"The client {client_id} has no key.", hint="Check the spelling, or create a key for it first.")


def _lock_balance(c: sa.Connection, client_id: str) -> int | None:
    """The balance, held until the transaction ends."""
    wanted = sa.select(accounts.c.balance).where(accounts.c.client_id == client_id).with_for_update()
    return c.execute(wanted).scalar_one_or_none()


def _ledger_sum(c: sa.Connection, client_id: str) -> int:
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


def reserve(c: sa.Connection, row: sa.Row[Any], bill: Quote, *, now: datetime) -> sa.Row[Any]:
    """A run begins: note its price and reserve, where the client has a balance and the length is known.

    Raises InsufficientCredits, for an unknown length only when there is nothing at all; MissingApiKey for a job
    without a key as soon as any client has a balance, for it would be a free way around all of them.
    """
    if row.key_id is None and bill.price > 0 and _credits_are_on(c):
        raise key_needed()
    client_id, balance = _account_of(c, row.key_id)
    if balance is None:
        return row
    terms = {"price": bill.price, "pricing_version": bill.pricing_version}
    row = _update(c, row, terms)
    if bill.seconds is not None:
        return _take(c, row, client_id, cost(bill.seconds, bill.price), now=now)
    if balance == 0 and bill.price > 0:
        raise insufficient()
    _budget(c, row, now=now).check(1 if bill.price > 0 else 0)
    return row


def reserve_late(
    c: sa.Connection, row: sa.Row[Any], seconds: float | None, *, most: float | None, now: datetime
) -> None:
    """A running job's length is known now; None where even its container does not tell.

    Then everything is reserved that ``most`` seconds could cost, or all there is where None bounds them. Raises
    InsufficientCredits.
    """
    client_id, balance = _account_of(c, row.key_id)
    if row.price is None or row.billing_status != Billing.NOT_BILLED or balance is None:
        return
    if seconds is not None:
        _take(c, row, client_id, cost(seconds, row.price), now=now)
    elif balance == 0 and row.price > 0:
        raise insufficient()
    else:
        budget = _budget(c, row, now=now)
        budget.check(1 if row.price > 0 else 0)
        dearest = balance if most is None else min(balance, cost(most, row.price))
        _take(c, row, client_id, budget.most(dearest), now=now)


def settle(c: sa.Connection, row: sa.Row[Any], *, now: datetime) -> sa.Row[Any]:
    """The run is completed: charge what was processed, within the reservation, and give back the rest of it."""
    if row.price is None or row.billing_status not in (Billing.NOT_BILLED, Billing.RESERVED):
        return row
    client_id, _ = _account_of(c, row.key_id)
    charge = settled(processed_seconds(row.output), row.price, reserved=row.credits)
    _move(c, row, client_id, "settle", row.credits - charge, now=now)
    return _update(c, row, {"billing_status": Billing.CHARGED, "credits": charge})


def release(c: sa.Connection, row: sa.Row[Any], *, now: datetime) -> sa.Row[Any]:
    """The run failed or was cancelled: give back the reservation."""
    if row.billing_status != Billing.RESERVED:
        return row
    client_id, _ = _account_of(c, row.key_id)
    _move(c, row, client_id, "release", row.credits, now=now)
    return _update(c, row, {"billing_status": Billing.RELEASED, "credits": 0})


def _take(c: sa.Connection, row: sa.Row[Any], client_id: str, amount: int, *, now: datetime) -> sa.Row[Any]:
    enough = (accounts.c.client_id == client_id, accounts.c.balance >= amount)
    if c.execute(sa.select(accounts.c.client_id).where(*enough)).one_or_none() is None:
        raise insufficient()
    _budget(c, row, now=now).check(amount)
    _move(c, row, client_id, "reserve", -amount, now=now)
    return _update(c, row, {"billing_status": Billing.RESERVED, "credits": amount})


@dataclass(frozen=True)
class _Budget:
    """``credits`` a month of a key, 0 for any number; ``used`` of them this month, in hundredths."""

    credits: int
    used: int

    def most(self, wanted: int) -> int:
        return min(wanted, self.credits * 100 - self.used) if self.credits else wanted

    def check(self, amount: int) -> None:
        """Raises InsufficientCredits."""
        if amount > self.most(amount):
            raise over_budget(self.credits)


def _budget(c: sa.Connection, row: sa.Row[Any], *, now: datetime) -> _Budget:
    """That of the job's key; whoever asks holds the account, so no other job of the key takes from it meanwhile."""
    own = c.execute(sa.select(keys.c.max_credits_per_month).where(keys.c.id == row.key_id)).scalar_one_or_none()
    if not own:
        return _Budget(0, 0)
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    held = (jobs.c.status.in_(_COSTS), jobs.c.billing_status.in_((Billing.RESERVED, Billing.CHARGED)))
    mine = (jobs.c.key_id == row.key_id, jobs.c.queued_at >= month, *held)
    return _Budget(
        own, int(c.execute(sa.select(sa.func.coalesce(sa.func.sum(jobs.c.credits), 0)).where(*mine)).scalar_one())
    )


def _account_of(c: sa.Connection, key_id: str | None) -> tuple[str, int | None]:
    """The client of a key and their balance, held until the transaction ends; None for an unlimited one."""
    wanted = (
        sa.select(accounts.c.client_id, accounts.c.balance)
        .join(keys, keys.c.client_id == accounts.c.client_id)
        .where(keys.c.id == key_id)
        .with_for_update(of=accounts)
    )
    found = c.execute(wanted).one_or_none()
    return (found.client_id, found.balance) if found is not None else ("", None)


def _credits_are_on(c: sa.Connection) -> bool:
    return (
        c.execute(sa.select(accounts.c.client_id).where(accounts.c.balance.is_not(None)).limit(1)).first() is not None
    )


def _move(c: sa.Connection, row: sa.Row[Any], client_id: str, kind: str, amount: int, *, now: datetime) -> None:
    """Change the balance and write why; the ledger's key lets each kind happen once in a run."""
    change = sa.update(accounts).where(accounts.c.client_id == client_id)
    c.execute(change.values(balance=accounts.c.balance + amount, updated_at=now))
    values = {
        "subject": row.id,
        "run": row.run,
        "kind": kind,
        "client_id": client_id,
        "amount": amount,
        "at": now,
        "actor": "billing",
        "request_id": current_context("request_id"),
    }
    c.execute(sa.insert(ledger).values(values))


def _update(c: sa.Connection, row: sa.Row[Any], values: dict[str, Any]) -> sa.Row[Any]:
    return c.execute(sa.update(jobs).where(jobs.c.id == row.id).values(values).returning(jobs)).one()
