"""``alphareel runners``: operators manage runners on the machine itself, as over /v1/admin/runners."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import cyclopts
from rich.console import Console
from rich.table import Column, Table

from alphareel.cli.operator import open_as_operator
from alphareel.server import container
from alphareel.service.api_keys.admin import Operator
from alphareel.service.runners.admin import RunnerAdmin

app = cyclopts.App(
    name="runners", help="Create, list and revoke runners: machines that help with a token, over HTTPS alone."
)
_ID = 12  # letters, which have to be copied whole


@app.command
def create(name: str, /) -> None:
    """Create a runner NAME and print its token, which is shown this once.

    Parameters
    ----------
    name
        What to call the machine.
    """
    with _runner_admin() as (admin, operator):
        made = admin.create(operator, name=name)
    print(f"{made.runner.id}, {made.runner.name}; its token is shown this once:", file=sys.stderr)  # noqa: T201
    print(made.token)  # noqa: T201 - this is the output


@app.command(name="list")
def list_runners() -> None:
    """List every runner: its state, when it was last seen, its slots, what it did, and its engines."""
    columns = ("name", "state", Column("last seen", overflow="fold"), "slots", "done", "failed", "engines")
    table = Table(Column("id", no_wrap=True, min_width=_ID), *columns)
    with _runner_admin() as (admin, _):
        for status in admin.list_runners():
            runner = status.runner
            seen = runner.last_seen_at.isoformat(timespec="seconds") if runner.last_seen_at else "never"
            counts = map(str, (runner.slots, runner.tasks_done, runner.tasks_failed))
            table.add_row(runner.id, runner.name, status.state, seen, *counts, ", ".join(runner.engines))
    Console(highlight=False, markup=False).print(table)


@app.command
def revoke(runner_id: str, /) -> None:
    """End the token and the leases of a runner at once; its tasks run elsewhere.

    Parameters
    ----------
    runner_id
        The runner, as "alphareel runners list" shows it.
    """
    with _runner_admin() as (admin, operator):
        admin.revoke(operator, runner_id)
    print(f"{runner_id} is revoked")  # noqa: T201 - this is the output


@contextmanager
def _runner_admin() -> Iterator[tuple[RunnerAdmin, Operator]]:
    with open_as_operator() as (installation, operator):
        yield container.build_runner_admin(installation), operator
