"""Clients' credits: what operators change (``AccountStore``), and what jobs reserve and settle (the functions).

The functions run in the transaction of a job's transition. Each kind of ledger entry exists at most once a run.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db.api_keys import record_admin_event
from alphareel.db.database import Database
from alphareel.db.tables import accounts, jobs, keys, ledger
from alphareel.domain.errors import InvalidState, NotFound
from alphareel.service.api_keys.models import AuditContext
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
from alphareel.service.jobs.models import Billing
from alphareel.service.ports import Clock
from alphareel.telemetry.logging import current_context

_OF_RUNS = ("reserve", "settle", "release")  # kinds of ledger entries


class AccountStore:
    """Clients' balances, in hundredths of a credit. Every change adds a row to the ledger and to the admin audit."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def grant(self, client_id: str, amount: int, *, start_charging: bool = False, act: AuditContext) -> Account:
        """Add hundredths of a credit, or take them if the amount is negative.

        An unlimited client starts at 0 with ``start_charging``. Raises NotFound for a client without a key;
        InvalidState for an unlimited client otherwise, and if the balance would become negative.
        """
        with self._database.write() as c:
            _require_client(c, client_id)
            before = _lock_balance(c, client_id)
            if before is None and not start_charging:
                raise InvalidState(
                    f"The client {client_id} is unlimited, and a grant would limit it.",
                    hint="Set a balance, or begin with what is granted: start_charging (--start-charging).",
                )
            after = (before or 0) + amount
            if after < 0:
                raise InvalidState("The client has fewer credits than that.", hint="Look at the balance, or set it.")
            self._write(c, client_id, after, kind="grant", act=act)
            return _account(c, client_id)

    def set_balance(self, client_id: str, balance: int | None, *, act: AuditContext) -> Account:
        """Replace the balance; None makes the client unlimited. Reservations stay as they are.

        Raises NotFound for a client without a key.
        """
        with self._database.write() as c:
            _require_client(c, client_id)
            _lock_balance(c, client_id)
            self._write(c, client_id, balance, kind="set", act=act)
            return _account(c, client_id)

    def account(self, client_id: str) -> Account:
        """The account; unlimited for a client without a row."""
        with self._database.read() as c:
            return _account(c, client_id)

    def entries(self, client_id: str, *, limit: int) -> tuple[LedgerEntry, ...]:
        """The ledger, newest first."""
        newest = sa.select(ledger).where(ledger.c.client_id == client_id).order_by(ledger.c.at.desc())
        with self._database.read() as c:
            return tuple(LedgerEntry(**row._mapping) for row in c.execute(newest.limit(limit)))  # noqa: SLF001

    def _write(self, c: sa.Connection, client_id: str, balance: int | None, *, kind: str, act: AuditContext) -> None:
        """Write the balance, and a ledger row that makes the sum of the ledger equal to it."""
        change = (balance or 0) - _ledger_sum(c, client_id)
        now, subject = self._clock.now(), f"{kind}_{uuid.uuid4().hex}"
        values = {"balance": balance, "updated_at": now}
        if c.execute(sa.update(accounts).where(accounts.c.client_id == client_id).values(values)).rowcount == 0:
            c.execute(sa.insert(accounts).values(client_id=client_id, **values))
        row = {"subject": subject, "run": 0, "kind": kind, "client_id": client_id, "amount": change, "at": now}
        c.execute(sa.insert(ledger).values(**row, actor=act.actor, request_id=act.request_id))
        record_admin_event(c, act, subject=client_id, detail={"amount": change, "balance": balance}, clock=self._clock)


def _require_client(c: sa.Connection, client_id: str) -> None:
    if c.execute(sa.select(keys.c.id).where(keys.c.client_id == client_id).limit(1)).first() is None:
        raise NotFound(f"The client {client_id} has no key.", hint="Check the spelling, or create a key for it first.")


def _lock_balance(c: sa.Connection, client_id: str) -> int | None:
    """The balance, locked until the transaction ends."""
    query = sa.select(accounts.c.balance).where(accounts.c.client_id == client_id).with_for_update()
    return c.execute(query).scalar_one_or_none()


def _ledger_sum(c: sa.Connection, client_id: str) -> int:
    total = sa.select(sa.func.coalesce(sa.func.sum(ledger.c.amount), 0)).where(ledger.c.client_id == client_id)
    return int(c.execute(total).scalar_one())


def _account(c: sa.Connection, client_id: str) -> Account:
    balance = c.execute(sa.select(accounts.c.balance).where(accounts.c.client_id == client_id)).scalar_one_or_none()
    sums = sa.select(_sum(reserved_credits()), _sum(charged_credits())).select_from(jobs)
    of_client = sums.join(keys, keys.c.id == jobs.c.key_id).where(keys.c.client_id == client_id)
    reserved, charged = c.execute(of_client).one()
    return Account(client_id, balance, int(reserved), int(charged))


def reserved_credits() -> sa.ColumnElement[int]:
    """Hundredths that a row of ``jobs`` has reserved."""
    return sa.case((jobs.c.billing_status == Billing.RESERVED, jobs.c.credits), else_=0)


def charged_credits(*, since: datetime | None = None) -> sa.ColumnElement[int]:
    """Hundredths that all runs of a row of ``jobs`` were charged; ``since``: those that began then or later.

    The row has the credits of its newest run, the ledger those of all. A run can be charged and end as failed, because
    it was cancelled while its outputs were sent.
    """
    other = ledger.alias("reservation")
    began = (other.c.subject == ledger.c.subject, other.c.run == ledger.c.run, other.c.kind == "reserve")
    runs = [ledger.c.subject == jobs.c.id, ledger.c.kind.in_(_OF_RUNS)]
    if since is not None:
        runs.append(sa.exists().where(*began, other.c.at >= since).correlate(ledger))
    paid = sa.select(sa.func.coalesce(-sa.func.sum(ledger.c.amount), 0)).where(*runs).correlate(jobs).scalar_subquery()
    newest = sa.case((jobs.c.billing_status == Billing.CHARGED, jobs.c.credits), else_=0)
    return sa.case((jobs.c.run > 1, paid - reserved_credits()), else_=newest)


def _sum(value: sa.ColumnElement[int]) -> Any:
    return sa.func.coalesce(sa.func.sum(value), 0)


def reserve(c: sa.Connection, row: sa.Row[Any], quote: Quote, *, now: datetime) -> sa.Row[Any]:
    """Store the price of a run that starts, and reserve credits if the client has a balance.

    If the duration is unknown, ``reserve_late`` reserves them once the job runs; then only an empty balance raises
    InsufficientCredits. Raises MissingApiKey for a job without a key as soon as any client has a balance, because
    anonymous jobs would be a way around it.
    """
    if row.key_id is None and quote.price > 0 and _is_charging(c):
        raise key_needed()
    client_id, balance = _account_of(c, row.key_id)
    if balance is None:
        return row
    values = {"price": quote.price, "pricing_version": quote.pricing_version}
    row = _update(c, row, values)
    if quote.seconds is not None:
        return _reserve(c, row, client_id, cost(quote.seconds, quote.price), now=now)
    if balance == 0 and quote.price > 0:
        raise insufficient()
    _budget(c, row, now=now).check(1 if quote.price > 0 else 0)
    return row


def reserve_late(
    c: sa.Connection, row: sa.Row[Any], seconds: float | None, *, most: float | None, now: datetime
) -> None:
    """Reserve credits for a running job, now that its duration in seconds is known.

    ``seconds`` None: its container does not say. Then the price of ``most`` seconds is reserved, or the whole balance
    if ``most`` is None too. Raises InsufficientCredits.
    """
    client_id, balance = _account_of(c, row.key_id)
    if row.price is None or row.billing_status != Billing.NOT_BILLED or balance is None:
        return
    if seconds is not None:
        _reserve(c, row, client_id, cost(seconds, row.price), now=now)
    elif balance == 0 and row.price > 0:
        raise insufficient()
    else:
        budget = _budget(c, row, now=now)
        budget.check(1 if row.price > 0 else 0)
        max_price = balance if most is None else min(balance, cost(most, row.price))
        _reserve(c, row, client_id, budget.limit(max_price), now=now)


def settle(
    c: sa.Connection, row: sa.Row[Any], *, now: datetime, output: Mapping[str, Any] | None = None
) -> sa.Row[Any]:
    """Charge a run for what was processed, at most the reservation, and return the rest.

    ``output``: what it made, if the row does not have it.
    """
    if row.price is None or row.billing_status not in (Billing.NOT_BILLED, Billing.RESERVED):
        return row
    client_id, _ = _account_of(c, row.key_id)
    charge = settled(processed_seconds(output or row.output), row.price, reserved=row.credits)
    _change_balance(c, row, client_id, "settle", row.credits - charge, now=now)
    return _update(c, row, {"billing_status": Billing.CHARGED, "credits": charge})


def release(c: sa.Connection, row: sa.Row[Any], *, now: datetime) -> sa.Row[Any]:
    """Return the reservation of a run that failed or was canceled."""
    if row.billing_status != Billing.RESERVED:
        return row
    client_id, _ = _account_of(c, row.key_id)
    _change_balance(c, row, client_id, "release", row.credits, now=now)
    return _update(c, row, {"billing_status": Billing.RELEASED, "credits": 0})


def _reserve(c: sa.Connection, row: sa.Row[Any], client_id: str, amount: int, *, now: datetime) -> sa.Row[Any]:
    sufficient = (accounts.c.client_id == client_id, accounts.c.balance >= amount)
    if c.execute(sa.select(accounts.c.client_id).where(*sufficient)).one_or_none() is None:
        raise insufficient()
    _budget(c, row, now=now).check(amount)
    _change_balance(c, row, client_id, "reserve", -amount, now=now)
    return _update(c, row, {"billing_status": Billing.RESERVED, "credits": amount})


@dataclass(frozen=True)
class _Budget:
    """A key's budget: ``credits`` a month (0: unlimited), and ``used`` hundredths of a credit this month."""

    credits: int
    used: int

    def limit(self, amount: int) -> int:
        return min(amount, self.credits * 100 - self.used) if self.credits else amount

    def check(self, amount: int) -> None:
        """Raises InsufficientCredits."""
        if amount > self.limit(amount):
            raise over_budget(self.credits)


def _budget(c: sa.Connection, row: sa.Row[Any], *, now: datetime) -> _Budget:
    """The budget of the job's key. The caller has locked the account, so no other job of the key uses it meanwhile."""
    limit = c.execute(sa.select(keys.c.max_credits_per_month).where(keys.c.id == row.key_id)).scalar_one_or_none()
    if not limit:
        return _Budget(0, 0)
    month = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    used = sa.select(_sum(reserved_credits() + charged_credits(since=month)))
    of_month = used.where(jobs.c.key_id == row.key_id, jobs.c.queued_at >= month)
    return _Budget(limit, int(c.execute(of_month).scalar_one()))


_ACCOUNT_OF_KEY = (  # built once, because every job that is created runs it
    sa.select(accounts.c.client_id, accounts.c.balance)
    .join(keys, keys.c.client_id == accounts.c.client_id)
    .where(keys.c.id == sa.bindparam("key_id"))
    .with_for_update(of=accounts)
)


def _account_of(c: sa.Connection, key_id: str | None) -> tuple[str, int | None]:
    """The client of a key and its balance (None: unlimited), locked until the transaction ends."""
    account = c.execute(_ACCOUNT_OF_KEY, {"key_id": key_id}).one_or_none()
    return (account.client_id, account.balance) if account is not None else ("", None)


def _is_charging(c: sa.Connection) -> bool:
    return (
        c.execute(sa.select(accounts.c.client_id).where(accounts.c.balance.is_not(None)).limit(1)).first() is not None
    )


def _change_balance(
    c: sa.Connection, row: sa.Row[Any], client_id: str, kind: str, amount: int, *, now: datetime
) -> None:
    """Change the balance and add a ledger row, whose primary key allows each kind once a run."""
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
