"""A new database for each test: SQLite, and PostgreSQL if ALPHAREEL_TEST_POSTGRES_URL names a server."""

import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from alphareel.db import migrate
from alphareel.db.database import Database, open_engine


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    server = os.environ.get("ALPHAREEL_TEST_POSTGRES_URL")
    if server is None:
        pytest.skip("ALPHAREEL_TEST_POSTGRES_URL names no PostgreSQL server")
    name = f"alphareel_test_{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as c:
        c.exec_driver_sql(f"CREATE DATABASE {name}")
    yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as c:
        c.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    admin.dispose()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(open_engine(url))
    migrate.upgrade(database)
    yield database
    database.close()


@pytest.fixture
def at_once() -> Callable[..., list[Any]]:
    """Run calls in threads that start at the same moment; return each result or exception, in the order of the calls."""

    def run(calls: list[Callable[[], Any]]) -> list[Any]:
        barrier = threading.Barrier(len(calls))
        results: list[Any] = [None] * len(calls)

        def work(index: int, call: Callable[[], Any]) -> None:
            barrier.wait()
            try:
                results[index] = call()
            except Exception as error:  # noqa: BLE001  # returned to the test
                results[index] = error

        threads = [threading.Thread(target=work, args=each) for each in enumerate(calls)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results

    return run
