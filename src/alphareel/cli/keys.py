"""``alphareel keys``: operators manage API keys on the machine itself, with the services of /v1/admin."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import cyclopts
from rich.console import Console
from rich.table import Column, Table

from alphareel.cli.operator import open_as_operator
from alphareel.domain.errors import InvalidRequest, NotFound
from alphareel.server import container
from alphareel.service.api_keys.admin import AdminService, Operator
from alphareel.service.api_keys.service import NewKey
from alphareel.service.billing.credits import Account

app = cyclopts.App(
    name="keys",
    help="Create, list, disable, enable, delete, limit and rotate API keys of this installation, and grant credits.",
)
Limit = int | Literal["default"]
_DAY = 24 * 3600
_FINGERPRINT = 19  # letters, which have to be copied whole


@app.command
def create(client: str, /, *, note: str = "", test: bool = False) -> None:
    """Create a key for CLIENT and print its secret, which is shown this once.

    Parameters
    ----------
    client
        Whose key it is: any name. Keys of one client share its credits.
    note
        What the key is for.
    test
        A key for trying things out: its jobs compute nothing and cost nothing.
    """
    with _admin_service() as (admin, operator):
        _show_secret(admin.create_key(operator, client_id=client, note=note, test=test))


@app.command(name="list")
def list_keys() -> None:
    """List every key: whose it is, whether it is enabled, and its use."""
    table = Table(
        Column("fingerprint", no_wrap=True, min_width=_FINGERPRINT),
        *("client", "state", "calls", Column("last used", overflow="fold"), "note"),
    )
    with _admin_service() as (admin, _):
        for key in admin.list_keys():
            used = key.last_used_at.isoformat(timespec="seconds") if key.last_used_at else "never"
            state = "enabled" if key.enabled else "disabled"
            table.add_row(key.fingerprint, key.client_id, state, str(key.calls), used, key.note)
    Console(highlight=False, markup=False).print(table)


@app.command
def disable(fingerprint: str, /) -> None:
    """Disable a key at once; its jobs continue.

    Parameters
    ----------
    fingerprint
        The key, as "alphareel keys list" shows it.
    """
    with _admin_service() as (admin, operator):
        admin.set_enabled(operator, fingerprint, enabled=False)
    _say(f"{fingerprint} is disabled")


@app.command
def enable(fingerprint: str, /) -> None:
    """Enable a disabled key.

    Parameters
    ----------
    fingerprint
        The key, as "alphareel keys list" shows it.
    """
    with _admin_service() as (admin, operator):
        admin.set_enabled(operator, fingerprint, enabled=True)
    _say(f"{fingerprint} is enabled")


@app.command
def delete(fingerprint: str, /) -> None:
    """Delete a key for good; its jobs continue.

    Parameters
    ----------
    fingerprint
        The key, as "alphareel keys list" shows it.
    """
    with _admin_service() as (admin, operator):
        admin.delete_key(operator, fingerprint)
    _say(f"{fingerprint} is deleted")


@app.command
def limit(
    fingerprint: str,
    /,
    *,
    write: Limit | None = None,
    read: Limit | None = None,
    running: Limit | None = None,
    queued: Limit | None = None,
    storage: Limit | None = None,
    credits: Limit | None = None,  # noqa: A002 - our noun
) -> None:
    """Give a key limits of its own, and show them; without an option only show them.

    Each takes a number, 0 for no limit, or the word default for the service's. What is not named stays.

    Parameters
    ----------
    fingerprint
        The key, as "alphareel keys list" shows it.
    write
        Requests a minute that change something.
    read
        Requests a minute that only read.
    running
        Jobs that run at a time; the rest of them wait.
    queued
        Jobs that wait; one more is refused.
    storage
        Bytes that its uploads and results may take.
    credits
        Credits that its jobs may cost in a month, within its client's balance.
    """
    options = {
        "write_per_minute": write,
        "read_per_minute": read,
        "max_running_jobs": running,
        "max_queued_jobs": queued,
        "max_storage_bytes": storage,
        "max_credits_per_month": credits,
    }
    limits = {name: None if value == "default" else value for name, value in options.items() if value is not None}
    with _admin_service() as (admin, operator):
        key = admin.set_limits(operator, fingerprint, limits)
    for name in options:
        own = getattr(key, name)
        _say(f"{name} {'default' if own is None else own}")


@app.command
def rotate(fingerprint: str, /, *, grace_seconds: int = _DAY) -> None:
    """Give a key a new secret and print it; the old one stays valid for a while; jobs and counts stay with the key.

    Parameters
    ----------
    fingerprint
        The key, as "alphareel keys list" shows it.
    grace_seconds
        How long the old secret stays valid; 0 ends it at once.
    """
    with _admin_service() as (admin, operator):
        _show_secret(admin.rotate(operator, fingerprint, grace_seconds=grace_seconds))


@app.command
def grant(client: str, credits: float, /, *, start_charging: bool = False) -> None:  # noqa: A002 - our noun
    """Add CREDITS to a client who has a balance; a negative number takes some.

    Parameters
    ----------
    client
        A client that has a key.
    credits
        How many to add.
    start_charging
        Also for an unlimited client: its jobs are charged from then on.
    """
    with _admin_service() as (admin, operator):
        _show_account(admin.grant(operator, client_id=client, amount=credits, start_charging=start_charging))


@app.command
def balance(client: str, /, *, to: float | None = None, unlimited: bool = False) -> None:
    """Show a client's credits, or replace them.

    Parameters
    ----------
    client
        A client that has a key.
    to
        The new balance.
    unlimited
        Charge this client nothing any more.
    """
    if to is not None and unlimited:
        raise InvalidRequest("A balance is either a number or unlimited.", hint="Give --to or --unlimited.")
    with _admin_service() as (admin, operator):
        if to is not None or unlimited:
            admin.set_balance(operator, client_id=client, balance=None if unlimited else to)
        account = admin.account(client)
        is_unused = account.balance is None and not account.charged
        if is_unused and all(key.client_id != client for key in admin.list_keys()):
            raise NotFound(f"The client {client} has no key.", hint='"alphareel keys list" shows the clients.')
        _show_account(account)


@contextmanager
def _admin_service() -> Iterator[tuple[AdminService, Operator]]:
    with open_as_operator() as (installation, operator):
        yield container.build_admin_service(installation), operator


def _show_secret(new_key: NewKey) -> None:
    """The secret alone on standard output, so that a script can take it."""
    print(f"{new_key.key.fingerprint} of {new_key.key.client_id}; shown this once:", file=sys.stderr)  # noqa: T201
    _say(new_key.secret)


def _show_account(account: Account) -> None:
    left = "unlimited" if account.balance is None else f"{account.balance / 100:g}"
    _say(f"{account.client_id}: balance {left}, reserved {account.reserved / 100:g}, charged {account.charged / 100:g}")


def _say(line: str) -> None:
    print(line)  # noqa: T201 - this is the output
