"""A new database for each test, and calls at the same moment."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from alphareel.db import migrate
from alphareel.db.database import Database, open_engine


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(open_engine(database_url))
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
