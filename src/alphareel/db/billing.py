"""What happens to credits when a job moves, in the transaction of the move: reserve, then settle or release, once."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db.tables import accounts, jobs, keys, ledger
from alphareel.service.billing.credits import (
    Quote,
    cost,
    insufficient,
    key_needed,
    over_budget,
    processed_seconds,
    settled,
)
from alphareel.service.jobs.models import Billing, Status
from alphareel.telemetry.logging import current_context

_COSTS = (Status.PENDING, Status.PROCESSING, Status.COMPLETED)  # failed ones gave back what they held


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
